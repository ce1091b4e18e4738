//! What is known of each table: catalog samples in the order they were taken, and table versions by position.
//!
//! ```text
//!  catalog ──sample──▶ observe ─▶ samples ─┐            H: newest image whose snapshot does not see the transaction
//!                                          ├─ resolve ─▶ N: oldest image whose snapshot sees it
//!  stream ──Relation, xid─────────────────┘            ─▶ identity::places(H, N) ─▶ TableVersion ─▶ append
//! ```
//!
//! Visibility by transaction id decides, never a log position: a catalog read that follows the delivery of a Relation can
//! still show the table as it was before (a commit that waits for a synchronous standby is in the stream and not yet
//! visible). The locks of PostgreSQL do the rest: a transaction that changes a table's columns excludes every transaction
//! that writes its rows until it is visible, so an image whose snapshot sees the transaction of a Relation is not older
//! than the Relation, and one whose snapshot does not see it is not newer.
//!
//! Absent on purpose: an older image derived from a Relation. It would turn a guess into evidence.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::identity::Contradiction;
use crate::lsn::{Snapshot, Xid, widen};
use crate::position::Position;
use crate::table::{QualifiedName, RelationId, ReplicaIdentity, TableImage, TableVersion};

mod entries;
#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod tests;
mod window;

use entries::EntryKey;
use window::Window;

/// Most samples kept of one table. Samples come with schema changes and go with [`History::prune`]; beyond the limit the
/// oldest but one goes, which widens a window and can make a column ambiguous, never wrong.
pub const SAMPLES_MAX: usize = 64;

/// Most versions kept of one table: older ones are needed by no restart.
pub const VERSIONS_MAX: usize = 64;

/// One reading of one table's catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What the table looked like.
    pub image: TableImage,
    /// The snapshot of the statement that read it.
    pub snapshot: Snapshot,
}

/// An image and the first and the latest snapshot under which it was seen. In between nothing else was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    image: TableImage,
    first: Snapshot,
    latest: Snapshot,
}

/// One table's past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TableHistory {
    /// By a number that rises and is never used again.
    samples: BTreeMap<u64, Seen>,
    /// The latest snapshot under which the table was gone.
    gone: Option<Snapshot>,
    /// By the position of the first row event under the version.
    versions: BTreeMap<Position, TableVersion>,
}

/// What a Relation message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The oid.
    pub relation: RelationId,
    /// The name in the message's moment.
    pub name: QualifiedName,
    /// How old rows are identified.
    pub replica_identity: ReplicaIdentity,
    /// By place.
    pub columns: Vec<ListedColumn>,
}

/// A column of a Relation message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedColumn {
    /// The name in the message's moment.
    pub name: String,
    /// `atttypid`.
    pub type_oid: u32,
    /// `atttypmod`.
    pub typmod: i32,
    /// The message's key flag: part of the replica identity.
    pub identity: bool,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It differs from the newest image and was appended.
    Changed,
    /// It equals the newest image, whose latest snapshot moved on.
    Unchanged,
    /// It was read under a snapshot that lacks something which the newest sample's snapshot sees, so it was left out.
    Stale,
}

/// How sure a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The images before and after list the same attribute numbers.
    Exact,
    /// Columns came or went between the images, and one assignment alone is possible.
    Inferred,
}

/// A column that no evidence assigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub attnum: i16,
    /// Its name in the older image, or in the newer one where it is new.
    pub name: String,
    /// The places at which it can stand (from 0), with the names that the stream lists there.
    pub places: Vec<(usize, String)>,
    /// True if it may also be dropped, or not yet listed.
    pub maybe_unlisted: bool,
}

/// The answer to: which attribute numbers do the columns of this Relation message have?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// No sample sees the transaction yet: read the catalog until one does, and ask again.
    NeedSample,
    /// Every listed column has its number.
    Version(TableVersion, Certainty),
    /// Some columns have no certain number; in `version` theirs is `None`. The others may be relied upon.
    Unknown {
        /// The version as far as it is certain.
        version: TableVersion,
        /// What is not certain, by rising number.
        candidates: Vec<Candidate>,
    },
    /// No history of the table explains the message.
    Contradiction(Contradiction),
    /// The table was dropped before a sample saw the transaction, so nothing will ever tell.
    Gone,
}

/// The past of all contracted tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    tables: BTreeMap<RelationId, TableHistory>,
    /// What the checkpoint does not have yet.
    changed: BTreeSet<EntryKey>,
}

impl History {
    /// Takes in a sample. Samples must be given in the order in which they were read; one that is older than the newest is
    /// found by its snapshot and left out.
    pub fn observe(&mut self, Sample { image, snapshot }: Sample) -> Observed {
        let relation = image.relation;
        let samples = &mut self.tables.entry(relation).or_default().samples;
        let mut number = 0;
        if let Some((newest_number, newest)) = samples.iter_mut().next_back() {
            if !snapshot.covers(&newest.latest) {
                return Observed::Stale;
            }
            if newest.image == image {
                newest.latest = snapshot;
                return Observed::Unchanged;
            }
            number = newest_number + 1;
            // The checkpoint learns the latest snapshot of a sample when it is final, not every second.
            self.changed.insert(EntryKey::Sample(relation, *newest_number));
        }
        samples.insert(number, Seen { image, first: snapshot.clone(), latest: snapshot });
        self.changed.insert(EntryKey::Sample(relation, number));
        if samples.len() > SAMPLES_MAX
            && let Some(second) = samples.keys().nth(1).copied()
        {
            samples.remove(&second);
            self.changed.insert(EntryKey::Sample(relation, second));
        }
        Observed::Changed
    }

    /// Notes that nothing moved in the table's catalog rows since its newest sample was read, as of `snapshot`. Only for
    /// a probe that covers everything that an image holds, and whose answer is that of a probe before that sample.
    pub fn observe_unchanged(&mut self, relation: RelationId, snapshot: Snapshot) {
        if let Some(table) = self.tables.get_mut(&relation)
            && let Some(newest) = table.samples.values_mut().next_back()
            && snapshot.covers(&newest.latest)
        {
            newest.latest = snapshot;
        }
    }

    /// Notes that the table does not exist under `snapshot`. A table that was never sampled is not remembered.
    pub fn observe_gone(&mut self, relation: RelationId, snapshot: Snapshot) {
        if let Some(table) = self.tables.get_mut(&relation)
            && table.newest_snapshot().is_some_and(|newest| snapshot.covers(newest))
        {
            table.gone = Some(snapshot);
            self.changed.insert(EntryKey::Gone(relation));
        }
    }

    /// Gives the columns of a Relation message their attribute numbers; `xid` is the transaction's, from Begin.
    ///
    /// A transaction that every sample sees is resolved from the time before the table was created: every number may have
    /// been added in between. That is never wrong, and mostly ambiguous once a column was dropped.
    pub fn resolve(&self, listing: &Listing, xid: u32) -> Resolution {
        let Some((table, newest)) = self.tables.get(&listing.relation).and_then(|t| Some((t, t.newest_snapshot()?)))
        else {
            return Resolution::NeedSample;
        };
        // Widened once, near the stream: an old sample is too far behind to be the reference.
        let xid = widen(xid, newest.xmax);
        let Some(newer) = table.samples.values().find(|seen| seen.latest.sees(xid)) else {
            return if newest.sees(xid) { Resolution::Gone } else { Resolution::NeedSample };
        };
        let older = table.samples.values().rfind(|seen| !seen.first.sees(xid)).map(|seen| &seen.image);
        Window { older, newer: &newer.image }.resolve(listing)
    }

    /// Forgets samples that no transaction needs any more. `oldest_xid`: every transaction below it is delivered and
    /// durable in the sink, or will never be delivered. The xmin of a sample's snapshot is such a bound once the stream is
    /// durable up to the WAL insert position that was read with it.
    pub fn prune(&mut self, oldest_xid: Xid) {
        for (relation, table) in &mut self.tables {
            // The newest sample that sees none of the transactions to come is the older image of each of them, unless a
            // later sample is.
            let keep = table.samples.iter().rfind(|(_, seen)| seen.first.sees_none_from(oldest_xid)).map(|(n, _)| *n);
            while let Some(oldest) = table.samples.first_entry()
                && keep.is_some_and(|keep| *oldest.key() < keep)
            {
                self.changed.insert(EntryKey::Sample(*relation, *oldest.key()));
                oldest.remove();
            }
        }
    }

    /// Appends the version that begins at `position`. False if it equals the one in force and nothing was appended.
    /// Versions at or after `position`, left from a stretch of the stream that is sent again, give way.
    pub fn append(&mut self, position: Position, version: TableVersion) -> bool {
        let relation = version.relation;
        let versions = &mut self.tables.entry(relation).or_default().versions;
        let again = versions.split_off(&position);
        self.changed.extend(again.into_keys().map(|at| EntryKey::Version(relation, at)));
        if versions.last_key_value().is_some_and(|(_, newest)| *newest == version) {
            return false;
        }
        versions.insert(position, version);
        self.changed.insert(EntryKey::Version(relation, position));
        if versions.len() > VERSIONS_MAX
            && let Some((oldest, _)) = versions.pop_first()
        {
            self.changed.insert(EntryKey::Version(relation, oldest));
        }
        true
    }

    /// True if the checkpoint lacks something.
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The version in force at `position`.
    pub fn version_at(&self, relation: RelationId, position: Position) -> Option<&TableVersion> {
        self.tables.get(&relation)?.versions.range(..=position).next_back().map(|(_, version)| version)
    }

    /// The versions kept of a table and where each begins, oldest first.
    pub fn versions(&self, relation: RelationId) -> impl Iterator<Item = (Position, &TableVersion)> {
        self.tables.get(&relation).into_iter().flat_map(|table| &table.versions).map(|(at, version)| (*at, version))
    }

    /// The newest image, and the latest snapshot under which it was seen.
    pub fn newest(&self, relation: RelationId) -> Option<(&TableImage, &Snapshot)> {
        self.tables.get(&relation)?.samples.values().next_back().map(|seen| (&seen.image, &seen.latest))
    }
}

impl TableHistory {
    fn newest_snapshot(&self) -> Option<&Snapshot> {
        self.gone.as_ref().or_else(|| self.samples.values().next_back().map(|seen| &seen.latest))
    }
}
