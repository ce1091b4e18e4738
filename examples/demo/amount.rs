//! Amounts of money as whole cents, so that sums can be compared to the last digit.

use std::fmt;
use std::iter::Sum;
use std::ops::{AddAssign, Sub, SubAssign};

use apache_avro::Decimal;

/// Cents of a EUR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub i64);

impl Amount {
    /// From a decimal of scale 2; absent if it exceeds 64 bits.
    pub fn of_decimal(decimal: &Decimal) -> Option<Amount> {
        let bytes = <Vec<u8>>::try_from(decimal).ok()?;
        let first = *bytes.first()?;
        if bytes.len() > size_of::<i64>() {
            return None;
        }
        // Two's complement, most significant byte first.
        let sign = if first >= 0x80 { -1 } else { 0 };
        Some(Amount(bytes.iter().fold(sign, |cents, byte| cents << 8 | i64::from(*byte))))
    }

    /// From what PostgreSQL prints for `numeric(p, 2)`.
    pub fn parse(text: &str) -> Option<Amount> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let (whole, cents) = digits.split_once('.').unwrap_or((digits, "00"));
        if cents.len() != 2 {
            return None;
        }
        let cents = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents.parse().ok()?)?;
        Some(Amount(sign * cents))
    }

    /// This many of it.
    pub fn times(self, count: i64) -> Amount {
        Amount(self.0.saturating_mul(count))
    }
}

impl fmt::Display for Amount {
    /// With thousands told apart: `1,234,567.89`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        f.pad(&format!("{sign}{}.{:02}", grouped(cents / 100), cents % 100))
    }
}

/// A count with thousands told apart: `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.0 += other.0;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        self.0 -= other.0;
    }
}

impl Sub for Amount {
    type Output = Amount;

    fn sub(self, other: Amount) -> Amount {
        Amount(self.0 - other.0)
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        Amount(amounts.map(|amount| amount.0).sum())
    }
}
