//! Column identity by inference: where in a Relation message can each attribute number stand?
//!
//! ```text
//!  older image H ──┐
//!                  ├─▶ places(H, N, number of listed columns) ─▶ for each attnum: a place for certain, unlisted, or several
//!  newer image N ──┘
//! ```
//!
//! A column's life runs one way: absent, perhaps generated, ordinary, dropped. No step is ever taken back and no number
//! is used twice, so H and N bound what the moment between them can have listed: each column is listed for certain
//! (ordinary in both), never (dropped before, or generated after) or perhaps (all others). A Relation message lists the
//! ordinary columns in the order of their numbers; a column can stand at place p if p columns can stand before it and the
//! rest behind it. Every set of "perhaps" columns is a possible history, so these sums are exact and need no search.
//!
//! Absent on purpose: names and types. Both change freely and are never evidence.

use std::fmt;

use crate::error::{Code, Error};
use crate::lsn::Lsn;
use crate::table::{ColumnKind, QualifiedName};

#[cfg(test)]
pub(crate) mod tests;

/// Where one attribute number stands in a Relation message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this place (from 0) in every possible history.
    Certain(usize),
    /// In no possible history is it listed.
    NotListed,
    /// Several histories fit.
    Ambiguous {
        /// The places (from 0, rising) at which it can stand.
        places: Vec<usize>,
        /// True if it may also be unlisted.
        maybe_unlisted: bool,
    },
}

/// The possible places of every attribute number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// By attribute number, from 1.
    by_attnum: Vec<Place>,
    /// By place: the number that stands there for certain.
    by_place: Vec<Option<i16>>,
}

impl Places {
    /// Where `attnum` stands. A number that the newer image lacks is not listed: the column did not exist yet.
    pub fn place(&self, attnum: i16) -> Place {
        let index = usize::try_from(attnum).ok().and_then(|n| n.checked_sub(1));
        index.and_then(|i| self.by_attnum.get(i)).cloned().unwrap_or(Place::NotListed)
    }

    /// The attribute number that stands at `place` for certain.
    pub fn attnum_at(&self, place: usize) -> Option<i16> {
        self.by_place.get(place).copied().flatten()
    }

    /// The numbers whose place is not certain, rising.
    pub fn ambiguous(&self) -> impl Iterator<Item = (i16, &Place)> {
        self.by_attnum
            .iter()
            .zip(1..)
            .filter(|(place, _)| matches!(place, Place::Ambiguous { .. }))
            .map(|(p, n)| (n, p))
    }
}

/// Evidence that no history of the table explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// The newer image has fewer attribute numbers than the older one.
    Shrunk {
        /// Attribute numbers in the older image.
        older: usize,
        /// Attribute numbers in the newer image.
        newer: usize,
    },
    /// A column took a step back, such as from dropped to ordinary.
    Reversed {
        /// The column.
        attnum: i16,
        /// In the older image.
        older: ColumnKind,
        /// In the newer image.
        newer: ColumnKind,
    },
    /// The Relation message lists more or fewer columns than the images allow.
    Length {
        /// Columns in the message.
        listed: usize,
        /// The fewest that the images allow.
        least: usize,
        /// The most that the images allow.
        most: usize,
    },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |kind: ColumnKind| match kind {
            ColumnKind::Ordinary => "ordinary",
            ColumnKind::Generated => "generated",
            ColumnKind::Dropped => "dropped",
        };
        match *self {
            Contradiction::Shrunk { older, newer } => {
                write!(f, "an older catalog image has {older} attribute numbers, a newer one {newer}")
            }
            Contradiction::Reversed { attnum, older, newer } => {
                write!(
                    f,
                    "attribute {attnum} is {} in an older catalog image and {} in a newer one",
                    word(older),
                    word(newer)
                )
            }
            Contradiction::Length { listed, least, most } => {
                write!(f, "the stream lists {listed} columns, the catalog allows {least} to {most}")
            }
        }
    }
}

impl Contradiction {
    /// The error that stops the daemon; `at` is the begin LSN of the transaction that brought the Relation message.
    pub fn error(&self, table: &QualifiedName, at: Lsn) -> Error {
        Error::definite(Code::CatalogContradiction, format!("the columns of `{table}` do not fit the catalog: {self} at {at}"))
            .hint(
                "check that the catalog was not edited by hand, that no publication of the slot has a column list or publishes \
                 generated columns, and that the server is the one the slot was made on; then start with a new slot and new state",
            )
    }
}

/// Whether a column is in the list: `(0, 0)` never, `(1, 1)` always, `(0, 1)` perhaps.
type Bounds = (usize, usize);

fn bounds(attnum: i16, older: Option<ColumnKind>, newer: ColumnKind) -> Result<Bounds, Contradiction> {
    use ColumnKind::{Dropped, Generated, Ordinary};
    match (older, newer) {
        (Some(Dropped), Dropped) | (Some(Generated) | None, Generated) => Ok((0, 0)),
        (Some(Ordinary), Ordinary) => Ok((1, 1)),
        // Dropped in the window; or its expression was dropped there, before or after the message (and perhaps the
        // column after that); or it was added there, perhaps as a generated column first.
        (Some(Ordinary), Dropped) | (Some(Generated) | None, Ordinary | Dropped) => Ok((0, 1)),
        (Some(older @ Dropped), Ordinary | Generated) | (Some(older @ Ordinary), Generated) => {
            Err(Contradiction::Reversed { attnum, older, newer })
        }
    }
}

/// The possible places of every attribute number in a Relation message that lists `listed` columns, sent at a moment not
/// before `older` and not after `newer`; both hold one kind per attribute number from 1. An empty `older` stands for the
/// time before the table was created.
///
/// That the Relation's moment lies between the two images is for the caller to prove (see [`crate::history`]); without
/// it the answer can be wrong.
pub fn places(older: &[ColumnKind], newer: &[ColumnKind], listed: usize) -> Result<Places, Contradiction> {
    if newer.len() < older.len() {
        return Err(Contradiction::Shrunk { older: older.len(), newer: newer.len() });
    }
    let mut columns = Vec::with_capacity(newer.len());
    for ((index, &kind), attnum) in newer.iter().enumerate().zip(1..) {
        columns.push(bounds(attnum, older.get(index).copied(), kind)?);
    }
    let (least, most) = columns.iter().fold((0, 0), |(least, most), (low, high)| (least + low, most + high));
    if !(least..=most).contains(&listed) {
        return Err(Contradiction::Length { listed, least, most });
    }

    let mut places = Places { by_attnum: Vec::with_capacity(columns.len()), by_place: vec![None; listed] };
    let mut before: Bounds = (0, 0);
    for (&(low, high), attnum) in columns.iter().zip(1..) {
        let behind = (least - before.0 - low, most - before.1 - high);
        let place = place_of((low, high), before, behind, listed);
        if let Place::Certain(at) = place
            && let Some(slot) = places.by_place.get_mut(at)
        {
            *slot = Some(attnum);
        }
        places.by_attnum.push(place);
        before = (before.0 + low, before.1 + high);
    }
    Ok(places)
}

/// Combines what can stand before a column, the column itself, and what can stand behind it, `listed` in all.
fn place_of((low, high): Bounds, before: Bounds, behind: Bounds, listed: usize) -> Place {
    // At place p there are p columns before it and listed - 1 - p behind it.
    let places: Vec<usize> = match (high, listed.checked_sub(1)) {
        (1, Some(others)) => {
            let first = before.0.max(others.saturating_sub(behind.1));
            match others.checked_sub(behind.0) {
                Some(last) => (first..=before.1.min(last)).collect(),
                None => Vec::new(),
            }
        }
        _ => Vec::new(),
    };
    let maybe_unlisted = low == 0 && (before.0 + behind.0..=before.1 + behind.1).contains(&listed);
    match (places.as_slice(), maybe_unlisted) {
        ([], _) => Place::NotListed,
        (&[place], false) => Place::Certain(place),
        _ => Place::Ambiguous { places, maybe_unlisted },
    }
}
