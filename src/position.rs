//! The position of a record: (epoch, commit begin LSN, ordinal).

use std::fmt;
use std::str::FromStr;

use crate::lsn::{Lsn, ParseError};

/// Where a record stands: strictly rising per key, comparable as text.
///
/// `commit_lsn` is the *start* of the transaction's commit record, as Begin carries it; `ordinal` counts the row
/// events of active tables inside the transaction, whatever the contracts. Prints as
/// `EEEE-LLLLLLLLLLLLLLLL-OOOOOOOO` in hexadecimal; the middle names the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Raised by `adopt` and by a repair after a refused connect; nothing else.
    pub epoch: u16,
    /// Start of the commit record.
    pub commit_lsn: Lsn,
    /// Number of the row event within the transaction, from 0.
    pub ordinal: u32,
}

impl Position {
    /// Length of the text form in bytes.
    pub const TEXT_LEN: usize = 4 + 1 + 16 + 1 + 8;

    /// The text form, without an allocation.
    pub fn text(&self) -> [u8; Self::TEXT_LEN] {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut out = [b'-'; Self::TEXT_LEN];
        let mut put = |end: usize, width: usize, mut n: u64| {
            for i in 0..width {
                out[end - 1 - i] = DIGITS[(n & 15) as usize];
                n >>= 4;
            }
        };
        put(4, 4, u64::from(self.epoch));
        put(21, 16, self.commit_lsn.0);
        put(30, 8, u64::from(self.ordinal));
        out
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}-{:016X}-{:08X}", self.epoch, self.commit_lsn.0, self.ordinal)
    }
}

impl FromStr for Position {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Position, ParseError> {
        let mut parts = text.split('-');
        let mut part = |width: usize| match parts.next() {
            Some(digits) if digits.len() == width => u64::from_str_radix(digits, 16).map_err(|_| ParseError),
            _ => Err(ParseError),
        };
        let (epoch, lsn, ordinal) = (part(4)?, part(16)?, part(8)?);
        match parts.next() {
            None => Ok(Position { epoch: epoch as u16, commit_lsn: Lsn(lsn), ordinal: ordinal as u32 }),
            Some(_) => Err(ParseError),
        }
    }
}

impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|ParseError| serde::de::Error::custom("not a position"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_sorts_as_the_position_and_reads_back(a: (u16, u64, u32), b: (u16, u64, u32)) {
            let p = |(epoch, lsn, ordinal)| Position { epoch, commit_lsn: Lsn(lsn), ordinal };
            let (a, b) = (p(a), p(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_string().parse::<Position>(), Ok(a));
            let text = a.to_string();
            prop_assert_eq!(text.as_bytes(), &a.text()[..]);
        }
    }
}
