//! FULL_TRANSITIVE: within a major, every minor reads the records of every other.
//!
//! The rules are Avro's schema resolution, and stricter where resolution succeeds but the meaning changes: logical types
//! must be equal, text and bytes are two things, and full names count, since not every reader ignores namespaces.

mod resolve;

use std::fmt;

use crate::avro::AvroSchema;

pub use resolve::Reason;

/// Which of two minors reads the other's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A consumer that still has the older schema reads new records (FORWARD).
    OldReadsNew,
    /// A consumer that has the newer schema reads old records (BACKWARD).
    NewReadsOld,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::OldReadsNew => "readers of the older schema cannot read the newer one's records",
            Direction::NewReadsOld => "readers of the newer schema cannot read the older one's records",
        })
    }
}

/// One reason why a minor is not compatible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// The field, absent where it concerns the record.
    pub field: Option<String>,
    /// Who cannot read whom.
    pub direction: Direction,
    /// Why.
    pub reason: Reason,
}

impl Incompatibility {
    /// The way out.
    pub fn hint(&self) -> String {
        match &self.reason {
            Reason::NoDefault => match self.direction {
                Direction::NewReadsOld => "give the new field a default".into(),
                Direction::OldReadsNew => {
                    "a minor may only remove a field that has a default; keep it, or open a new major".into()
                }
            },
            Reason::Symbols { .. } => "give the enum a `default` symbol in every minor, or open a new major".into(),
            _ => "keep the type as it was, add a field of another name, or open a new major".into(),
        }
    }
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "field `{field}`: {}; {}", self.reason, self.direction),
            None => write!(f, "{}; {}", self.reason, self.direction),
        }
    }
}

/// Everything that keeps two minors of a major from reading each other's records; empty if they do.
pub fn full(older: &AvroSchema, newer: &AvroSchema) -> Vec<Incompatibility> {
    let new_reads_old = resolve::reads(newer, older);
    let old_reads_new = resolve::reads(older, newer);
    let one_way = |direction: Direction, found: Vec<(Option<String>, Reason)>| {
        found.into_iter().map(move |(field, reason)| Incompatibility { field, direction, reason })
    };
    let mut all: Vec<Incompatibility> = one_way(Direction::NewReadsOld, new_reads_old).collect();
    for found in one_way(Direction::OldReadsNew, old_reads_new) {
        // A change of type breaks both ways; said once is enough.
        if !all.iter().any(|known| known.field == found.field && known.reason.mirrors(&found.reason)) {
            all.push(found);
        }
    }
    all
}

#[cfg(test)]
mod tests;
