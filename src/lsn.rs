//! Log positions, transaction ids and snapshots, printed and parsed as PostgreSQL's manual does.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A byte position in the write-ahead log. Prints as `16/B374D848`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not what its type prints.
#[derive(Debug, PartialEq, Eq)]
pub struct ParseError;

impl FromStr for Lsn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Lsn, ParseError> {
        let (high, low) = text.split_once('/').ok_or(ParseError)?;
        let half = |part: &str| match part.len() {
            1..=8 => u32::from_str_radix(part, 16).map_err(|_| ParseError),
            _ => Err(ParseError),
        };
        Ok(Lsn((u64::from(half(high)?) << 32) | u64::from(half(low)?)))
    }
}

impl serde::Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|ParseError| serde::de::Error::custom("not a log position"))
    }
}

/// A transaction id widened to 64 bits with the epoch, as `pg_current_snapshot()` prints it.
pub type Xid = u64;

/// Widens the 32-bit id of a Begin message: of all ids with these low bits, the one nearest to `reference`.
///
/// PostgreSQL never holds two live ids more than 2^31 apart, so with a recent reference the answer is exact.
pub fn widen(xid: u32, reference: Xid) -> Xid {
    let full = (reference & !0xFFFF_FFFF) | u64::from(xid);
    if full > reference && full - reference > 1 << 31 {
        full.checked_sub(1 << 32).unwrap_or(full)
    } else if reference > full && reference - full > 1 << 31 {
        full + (1 << 32)
    } else {
        full
    }
}

/// What `pg_current_snapshot()` prints: `xmin:xmax:xip,xip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// All ids below are finished, and visible if they committed.
    pub xmin: Xid,
    /// All ids from here on are invisible.
    pub xmax: Xid,
    /// Top-level ids in between that were still running.
    pub running: BTreeSet<Xid>,
}

impl Snapshot {
    /// True if a transaction that committed under this top-level id is visible.
    pub fn sees(&self, xid: Xid) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.running.contains(&xid))
    }

    /// True if it sees every transaction that `other` sees; of two snapshots of one server, the later one does.
    pub fn covers(&self, other: &Snapshot) -> bool {
        self.running.iter().all(|xid| !other.sees(*xid)) && other.sees_none_from(self.xmax)
    }

    /// True if it sees no transaction from `xid` on.
    pub fn sees_none_from(&self, xid: Xid) -> bool {
        let unseen = self.running.range(xid..).filter(|running| **running < self.xmax).count() as u64;
        self.xmax <= xid || (self.xmin <= xid && unseen == self.xmax - xid)
    }

    /// As [`Snapshot::sees`], for the 32-bit id that a Begin message carries.
    pub fn sees_short(&self, xid: u32) -> bool {
        self.sees(widen(xid, self.xmax))
    }
}

impl FromStr for Snapshot {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Snapshot, ParseError> {
        let mut parts = text.splitn(3, ':');
        let mut id = || parts.next().ok_or(ParseError)?.parse::<u64>().map_err(|_| ParseError);
        let (xmin, xmax) = (id()?, id()?);
        let running = match parts.next() {
            None => return Err(ParseError),
            Some("") => BTreeSet::new(),
            Some(list) => list.split(',').map(|xid| xid.parse().map_err(|_| ParseError)).collect::<Result<_, _>>()?,
        };
        Ok(Snapshot { xmin, xmax, running })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (i, xid) in self.running.iter().enumerate() {
            write!(f, "{}{xid}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl serde::Serialize for Snapshot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Snapshot {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Snapshot, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(|ParseError| serde::de::Error::custom("not a snapshot"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_prints_and_parses_as_the_manual() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for text in ["", "/", "1", "1/", "g/0", "100000000/0", "0/-1"] {
            assert_eq!(text.parse::<Lsn>(), Err(ParseError), "{text}");
        }
    }

    #[test]
    fn widening_crosses_the_epoch_border_both_ways() {
        let border = 5u64 << 32;
        assert_eq!(widen(3, border - 2), border + 3);
        assert_eq!(widen(u32::MAX, border + 2), border - 1);
        assert_eq!(widen(7, border + 9), border + 7);
        assert_eq!(widen(9, border + 7), border + 9);
        assert_eq!(widen(u32::MAX, 1), u64::from(u32::MAX), "before the first border nothing lies below zero");
    }

    #[test]
    fn a_snapshot_sees_what_was_finished() {
        let s: Snapshot = "10:20:12,15".parse().unwrap();
        assert_eq!([9, 10, 12, 13, 15, 19, 20].map(|x| s.sees(x)), [true, true, false, true, false, true, false]);
        assert_eq!(s.to_string(), "10:20:12,15");
        assert!("10:20".parse::<Snapshot>().is_err());
        assert!("10:20:x".parse::<Snapshot>().is_err());
    }
}
