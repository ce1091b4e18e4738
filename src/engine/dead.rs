//! The dead set of a contract: keys whose newest row is a dead letter, so that the topic shows an older one or none.
//!
//! It moves with the records of a batch, and like them it is taken back when the batch is: every change is noted with the
//! number of records that the batch had before it. What remains at the seal becomes durable with the records.

use std::collections::HashSet;

use crate::engine::delivered::KeyHash;
use crate::position::Position;

/// One key that came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadChange {
    /// Which.
    pub key: KeyHash,
    /// True if it came.
    pub added: bool,
    /// Where.
    pub position: Position,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
    /// Records in the batch before it.
    records: usize,
}

/// Where a change of the set takes place.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Of the record.
    pub position: Position,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
    /// Records in the batch so far.
    pub records: usize,
}

/// The dead set.
#[derive(Debug, Default)]
pub struct DeadSet {
    keys: HashSet<KeyHash>,
    changes: Vec<DeadChange>,
}

impl DeadSet {
    /// The set of a checkpoint.
    pub fn new(keys: HashSet<KeyHash>) -> DeadSet {
        DeadSet { keys, changes: Vec::new() }
    }

    /// True if every key is good.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds a key. False if it would be one too many.
    #[must_use]
    pub fn add(&mut self, key: KeyHash, max: usize, place: Place) -> bool {
        if self.keys.len() >= max {
            return self.keys.contains(&key);
        }
        if self.keys.insert(key) {
            self.note(key, true, place);
        }
        true
    }

    /// Removes a key that is good again or gone.
    pub fn remove(&mut self, key: KeyHash, place: Place) {
        if self.keys.remove(&key) {
            self.note(key, false, place);
        }
    }

    fn note(&mut self, key: KeyHash, added: bool, place: Place) {
        let Place { position, timestamp, records } = place;
        self.changes.push(DeadChange { key, added, position, timestamp, records });
    }

    /// Takes back what came with records that were taken back: all from number `records` on.
    pub fn undo(&mut self, records: usize) {
        while let Some(change) = self.changes.pop_if(|change| change.records >= records) {
            match change.added {
                true => drop(self.keys.remove(&change.key)),
                false => drop(self.keys.insert(change.key)),
            }
        }
    }

    /// What changed since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<DeadChange> {
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(records: usize) -> Place {
        Place { position: Position::default(), timestamp: 0, records }
    }

    fn line(set: &mut DeadSet) -> Vec<(KeyHash, bool)> {
        set.take_changes().iter().map(|change| (change.key, change.added)).collect()
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        let mut set = DeadSet::new(HashSet::from([1, 2]));
        set.remove(1, place(0));
        assert!(set.add(3, 9, place(1)));
        set.remove(3, place(2));
        set.remove(2, place(2));
        set.undo(1);
        assert_eq!(set.keys, HashSet::from([2]));
        assert_eq!(line(&mut set), [(1, false)]);
        assert!(line(&mut set).is_empty());
    }

    #[test]
    fn a_full_set_takes_no_further_key_and_still_gives_some_back() {
        let mut set = DeadSet::default();
        assert!(set.add(1, 2, place(0)) && set.add(2, 2, place(0)));
        assert!(!set.add(3, 2, place(0)));
        assert!(set.add(2, 2, place(0)), "it is there already");
        set.remove(1, place(0));
        assert!(set.add(3, 2, place(0)));
        assert_eq!((set.len(), set.is_empty()), (2, false));
    }
}
