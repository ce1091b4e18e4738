//! Decimal numbers with a point and an exponent: rounding half even, and whether a float is the same number.

use std::fmt::{LowerExp, Write};
use std::str::FromStr;

use super::reason::Reason;
use super::scratch::Scratch;

/// A finite number's text, taken apart: `-12.50e3`.
#[derive(Clone, Copy, Debug)]
pub struct Number<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Digits of the largest exponent that is read: `numeric` has 131,072 digits, JSON may claim any number.
const EXPONENT_DIGITS_MAX: usize = 9;

impl<'a> Number<'a> {
    /// Reads what PostgreSQL prints for floats and numerics, and what JSON allows: `-`, digits, `.digits`, `e±digits`.
    pub fn parse(text: &'a [u8]) -> Result<Number<'a>, Reason> {
        match text {
            b"NaN" => return Err(Reason::Nan),
            b"Infinity" | b"-Infinity" => return Err(Reason::Infinity),
            _ => {}
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let (mantissa, exponent) = match memchr::memchr2(b'e', b'E', rest) {
            None => (rest, 0),
            Some(at) => (rest.get(..at).unwrap_or_default(), exponent(rest.get(at + 1..).unwrap_or_default())?),
        };
        let (whole, fraction) = match memchr::memchr(b'.', mantissa) {
            None => (mantissa, &[][..]),
            Some(at) => match (mantissa.get(..at), mantissa.get(at + 1..)) {
                (Some(whole), Some(fraction)) if !fraction.is_empty() => (whole, fraction),
                _ => return Err(Reason::NotCanonical),
            },
        };
        let digits = !whole.is_empty() && whole.iter().chain(fraction).all(u8::is_ascii_digit);
        let leading_zero = matches!(whole, [b'0', _, ..]);
        if digits && !leading_zero {
            Ok(Number { negative, whole, fraction, exponent })
        } else {
            Err(Reason::NotCanonical)
        }
    }

    /// Digits that count, and where the point stands: the value is 0.DIGITS times ten to that power.
    fn significant(&self) -> (impl Iterator<Item = u8> + Clone, usize, i64) {
        let leading = self.whole.iter().chain(self.fraction).take_while(|digit| **digit == b'0').count();
        let digits = self.whole.iter().chain(self.fraction).copied().skip(leading);
        let trailing = match leading == self.whole.len() + self.fraction.len() {
            true => 0,
            false => self.whole.iter().chain(self.fraction).rev().take_while(|digit| **digit == b'0').count(),
        };
        let len = self.whole.len() + self.fraction.len() - leading - trailing;
        let point = self.whole.len() as i64 - leading as i64 + self.exponent;
        (digits.take(len), len, point)
    }

    /// The number with exactly `scale` digits behind the point, as PostgreSQL prints a numeric.
    ///
    /// Errors: more than `precision` digits; digits that would be lost, unless it may be rounded (half even).
    pub fn at_scale(&self, precision: u32, scale: u32, may_round: bool) -> Result<Scratch, Reason> {
        let (digits, len, point) = self.significant();
        if len > 0 && point > i64::from(precision) - i64::from(scale) {
            return Err(Reason::OutOfRange);
        }
        let kept = point + i64::from(scale);
        let (len, kept_digits) = (len as i64, usize::try_from(kept).unwrap_or(0));
        let exact = len == 0 || kept >= len;
        if !exact && !may_round {
            return Err(Reason::Inexact);
        }
        // The unscaled value, with a zero in front for a carry.
        let mut unscaled = Scratch::new();
        unscaled.push(b'0');
        if len > 0 {
            digits.clone().take(kept_digits).for_each(|digit| unscaled.push(digit));
            (len..kept).for_each(|_| unscaled.push(b'0'));
        }
        if !exact && kept >= 0 && rounds_up(digits.skip(kept_digits), unscaled.bytes().last().copied()) {
            increment(unscaled.bytes_mut());
        }
        Ok(self.with_point(unscaled.bytes(), scale as usize))
    }

    fn with_point(&self, unscaled: &[u8], scale: usize) -> Scratch {
        let zeros = unscaled.iter().take_while(|digit| **digit == b'0').count();
        let digits = unscaled.get(zeros..).unwrap_or_default();
        let mut text = Scratch::new();
        if self.negative && !digits.is_empty() {
            text.push(b'-');
        }
        let whole = digits.len().saturating_sub(scale);
        let (before, after) = digits.split_at_checked(whole).unwrap_or((digits, &[]));
        text.extend(if before.is_empty() { b"0" } else { before });
        if scale > 0 {
            text.push(b'.');
            (after.len()..scale).for_each(|_| text.push(b'0'));
            text.extend(after);
        }
        text
    }

    /// Whether both are one number.
    pub fn equals(&self, other: &Number<'_>) -> bool {
        let ((a, a_len, a_point), (b, b_len, b_point)) = (self.significant(), other.significant());
        let zeros = a_len == 0 && b_len == 0;
        zeros || (self.negative == other.negative && a_len == b_len && a_point == b_point && a.eq(b))
    }

    /// Orders two numbers by value.
    pub fn compare(&self, other: &Number<'_>) -> std::cmp::Ordering {
        let ((a, a_len, a_point), (b, b_len, b_point)) = (self.significant(), other.significant());
        let sign = |number: &Number<'_>, len| match (len, number.negative) {
            (0, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        };
        let (a_sign, b_sign) = (sign(self, a_len), sign(other, b_len));
        let magnitude = || a_point.cmp(&b_point).then_with(|| a.cmp(b));
        a_sign.cmp(&b_sign).then_with(|| match a_sign {
            0 => std::cmp::Ordering::Equal,
            1 => magnitude(),
            _ => magnitude().reverse(),
        })
    }
}

/// The power of ten behind `e`. One that nothing could hold counts as the largest.
fn exponent(text: &[u8]) -> Result<i64, Reason> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reason::NotCanonical);
    }
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = digits.get(zeros..).unwrap_or_default();
    let value = match digits.len() > EXPONENT_DIGITS_MAX {
        true => 10i64.pow(EXPONENT_DIGITS_MAX as u32),
        false => digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')),
    };
    Ok(if negative { -value } else { value })
}

/// Whether what is cut off makes the digit before it one more.
fn rounds_up(mut cut: impl Iterator<Item = u8>, last: Option<u8>) -> bool {
    match cut.next() {
        None | Some(b'0'..=b'4') => false,
        Some(b'5') => cut.any(|digit| digit != b'0') || last.is_some_and(|digit| digit % 2 == 1),
        Some(_) => true,
    }
}

fn increment(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

/// The nearest float. Errors: a finite number that no finite float is near to.
pub fn nearest<T: Float>(text: &[u8]) -> Result<T, Reason> {
    let special = matches!(text, b"NaN" | b"Infinity" | b"-Infinity");
    if !special {
        Number::parse(text)?;
    }
    let text = std::str::from_utf8(text).map_err(|_| Reason::NotCanonical)?;
    let value: T = text.parse().map_err(|_| Reason::NotCanonical)?;
    if value.is_finite() || special { Ok(value) } else { Err(Reason::OutOfRange) }
}

/// The float whose shortest text is this number. Errors: there is none.
pub fn same<T: Float>(text: &[u8]) -> Result<T, Reason> {
    let number = Number::parse(text)?;
    let value: T = nearest(text)?;
    let mut shortest = Scratch::new();
    write!(shortest, "{value:e}").map_err(|_| Reason::Inexact)?;
    match Number::parse(shortest.bytes()) {
        Ok(printed) if printed.equals(&number) => Ok(value),
        _ => Err(Reason::Inexact),
    }
}

/// f32 and f64.
pub trait Float: FromStr + LowerExp {
    /// Neither NaN nor infinite.
    fn is_finite(&self) -> bool;
}

impl Float for f32 {
    fn is_finite(&self) -> bool {
        f32::is_finite(*self)
    }
}

impl Float for f64 {
    fn is_finite(&self) -> bool {
        f64::is_finite(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    fn scaled(text: &str, precision: u32, scale: u32, may_round: bool) -> Result<String, Reason> {
        let number = Number::parse(text.as_bytes())?;
        number.at_scale(precision, scale, may_round).map(|text| String::from_utf8(text.bytes().to_vec()).unwrap())
    }

    #[test]
    fn half_goes_to_the_even_digit() {
        for (text, rounded) in [
            ("0.125", "0.12"),
            ("0.375", "0.38"),
            ("-0.125", "-0.12"),
            ("0.1251", "0.13"),
            ("0.005", "0.00"),
            ("-0.005", "0.00"),
            ("0.015", "0.02"),
            ("9.995", "10.00"),
            ("1e-30", "0.00"),
            ("1.5e3", "1500.00"),
            ("0", "0.00"),
            ("-0", "0.00"),
            ("12", "12.00"),
            ("1e2", "100.00"),
            ("0.0049999999999999999999999999999999999999", "0.00"),
        ] {
            assert_eq!(scaled(text, 20, 2, true).as_deref(), Ok(rounded), "{text}");
        }
        assert_eq!(scaled("0.001", 9, 2, false), Err(Reason::Inexact));
        assert_eq!(scaled("1.10", 9, 1, false).as_deref(), Ok("1.1"));
        for text in ["1e999999999999", "1e131071", "1000"] {
            assert_eq!(scaled(text, 5, 2, true), Err(Reason::OutOfRange), "{text}");
        }
        assert_eq!(scaled("1e-999999999999", 5, 2, true).as_deref(), Ok("0.00"));
        for text in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "1x", " 1", "--1", "0x1"] {
            assert_eq!(scaled(text, 5, 2, true), Err(Reason::NotCanonical), "{text}");
        }
    }

    #[test]
    fn a_float_is_taken_for_the_number_that_it_prints() {
        for text in ["0.1", "1e22", "1.50", "-7", "0", "5e-324", "1.7976931348623157e308"] {
            assert_eq!(same::<f64>(text.as_bytes()), Ok(text.parse().unwrap()), "{text}");
        }
        for text in ["9007199254740993", "0.1000000000000000055511151231257827", "1e-400"] {
            assert_eq!(same::<f64>(text.as_bytes()), Err(Reason::Inexact), "{text}");
        }
        assert_eq!(same::<f32>(b"16777217"), Err(Reason::Inexact));
        assert_eq!(same::<f64>(b"1e309"), Err(Reason::OutOfRange));
        assert_eq!(nearest::<f64>(b"NaN").map(f64::is_nan), Ok(true));
        assert_eq!(nearest::<f64>(b"inf"), Err(Reason::NotCanonical));
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_whole_numbers(unscaled: i64, digits in 0u32..12, scale in 0u32..6) {
            // 10^digits parts, rounded to 10^scale parts, worked out with whole numbers.
            let negative = unscaled < 0;
            let text = format!("{}{}e-{digits}", if negative { "-" } else { "" }, unscaled.unsigned_abs());
            let magnitude = BigInt::from(unscaled.unsigned_abs()) * BigInt::from(10).pow(scale);
            let unit = BigInt::from(10).pow(digits);
            let (mut whole, rest) = (&magnitude / &unit, &magnitude % &unit * 2);
            if rest > unit || (rest == unit && &whole % 2 == BigInt::from(1)) {
                whole += 1;
            }
            let found = scaled(&text, 40, scale, true).unwrap();
            let read: BigInt = found.replace(['.', '-'], "").parse().unwrap();
            prop_assert_eq!(read, whole.clone());
            prop_assert_eq!(found.starts_with('-'), negative && whole != BigInt::from(0));
        }

        #[test]
        fn order_is_that_of_the_values(a in -9999i64..9999, b in -9999i64..9999, e in -3i32..3, zeros in 0usize..3) {
            let text = |n: i64, e: i32| format!("{}{}.{}e{e}", if n < 0 { "-" } else { "" }, n.abs(), "0".repeat(zeros + 1));
            let (x, y) = (text(a * 10, e - 1), text(b, e));
            let (x, y) = (Number::parse(x.as_bytes()).unwrap(), Number::parse(y.as_bytes()).unwrap());
            prop_assert_eq!(x.compare(&y), a.cmp(&b));
            prop_assert_eq!(x.equals(&y), a == b);
        }

        #[test]
        fn every_double_is_the_number_that_it_prints(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(same::<f64>(format!("{value:e}").as_bytes()).map(f64::to_bits), Ok(bits));
        }
    }
}
