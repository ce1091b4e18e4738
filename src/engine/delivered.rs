//! Which keys recent transactions touched: what a chunk may not overwrite.
//!
//! A chunk shows the table under its snapshot. Every transaction that the stream has delivered and that this snapshot
//! does not see left newer rows in the topic, so their keys are left out of the chunk. A delivered transaction can be
//! invisible to SELECT for a while (its commit record is written, its end is not), so a transaction stays listed until
//! a chunk's snapshot sees it.

use std::collections::{HashSet, VecDeque};

use crate::lsn::{Snapshot, Xid};

/// The hash of a record's topic and key.
pub type KeyHash = u128;

/// Hashes a key as it stands in a record.
pub fn key_hash(topic: u16, key: &[u8]) -> KeyHash {
    xxhash_rust::xxh3::xxh3_128_with_seed(key, u64::from(topic))
}

/// The keys that a transaction touches, while it is being delivered.
#[derive(Debug, Default)]
pub struct Touched {
    keys: Vec<KeyHash>,
    keys_max: usize,
    overflow: bool,
}

impl Touched {
    /// None yet, and at most so many.
    pub fn new(keys_max: usize) -> Touched {
        Touched { keys: Vec::new(), keys_max, overflow: false }
    }

    /// Every key of a table was touched, and nobody says which there were: the same as too many.
    pub fn all(&mut self) {
        self.overflow = true;
        self.keys = Vec::new();
        self.keys_max = 0;
    }

    /// Notes a key; beyond the bound only that there were too many.
    pub fn push(&mut self, key: KeyHash) {
        if self.keys.len() < self.keys_max {
            self.keys.push(key);
        } else if !self.overflow {
            self.all();
        }
    }
}

/// Keys by delivered transaction, oldest first.
#[derive(Debug)]
pub struct Delivered {
    /// Most hashes kept. Beyond, the open chunks are dropped and taken again later.
    keys_max: usize,
    transactions: VecDeque<(Xid, Vec<KeyHash>)>,
    keys: usize,
    /// After an overflow: only a snapshot below which nothing runs any more up to here may be used.
    floor: Xid,
    /// Sees every transaction that was forgotten or never listed. A snapshot that was taken earlier and comes later may not.
    horizon: Option<Snapshot>,
}

impl Delivered {
    /// An empty list with a bound on its hashes.
    pub fn new(keys_max: usize) -> Delivered {
        Delivered { keys_max, transactions: VecDeque::new(), keys: 0, floor: 0, horizon: None }
    }

    /// Lists a delivered transaction, unless all of the open snapshots see it. False if that was one key too many: every
    /// open chunk must be dropped.
    #[must_use]
    pub fn push(&mut self, xid: Xid, touched: Touched, open: &[&Snapshot]) -> bool {
        if touched.keys.is_empty() && !touched.overflow {
            return true;
        }
        if !open.is_empty() && open.iter().all(|snapshot| snapshot.sees(xid)) {
            self.horizon = oldest(open).cloned();
            return true;
        }
        self.keys += touched.keys.len();
        self.transactions.push_back((xid, touched.keys));
        if self.keys <= self.keys_max && !touched.overflow {
            return true;
        }
        let newest = self.transactions.iter().map(|(xid, _)| *xid).max().unwrap_or(0);
        self.floor = self.floor.max(newest + 1);
        self.transactions.clear();
        self.keys = 0;
        false
    }

    /// The `xmin` that a chunk's snapshot must have reached.
    pub fn floor(&self) -> Xid {
        self.floor
    }

    /// True if everything that this snapshot does not see and that was delivered is listed.
    pub fn serves(&self, snapshot: &Snapshot) -> bool {
        snapshot.xmin >= self.floor && self.horizon.as_ref().is_none_or(|horizon| snapshot.covers(horizon))
    }

    /// Forgets the transactions that all of these snapshots see; later snapshots see them too.
    pub fn forget_seen_by(&mut self, open: &[&Snapshot]) {
        let Some(oldest) = oldest(open) else { return };
        self.horizon = Some(oldest.clone());
        let keys = &mut self.keys;
        self.transactions.retain(|(xid, hashes)| {
            let seen = open.iter().all(|snapshot| snapshot.sees(*xid));
            if seen {
                *keys -= hashes.len();
            }
            !seen
        });
    }

    /// Keys of the transactions that the snapshot does not see.
    pub fn unseen_by(&self, snapshot: &Snapshot) -> HashSet<KeyHash> {
        self.transactions
            .iter()
            .filter(|(xid, _)| !snapshot.sees(*xid))
            .flat_map(|(_, keys)| keys.iter().copied())
            .collect()
    }

    /// Forgets everything: no copy is under way.
    pub fn clear(&mut self) {
        self.transactions.clear();
        self.keys = 0;
    }
}

/// The snapshot that all others cover.
fn oldest<'a>(open: &[&'a Snapshot]) -> Option<&'a Snapshot> {
    open.iter().copied().reduce(|oldest, next| if next.covers(oldest) { oldest } else { next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    fn keys(keys: &[KeyHash]) -> Touched {
        let mut touched = Touched::new(9);
        keys.iter().for_each(|key| touched.push(*key));
        touched
    }

    #[test]
    fn a_transaction_that_no_snapshot_saw_yet_stays_listed() {
        let mut delivered = Delivered::new(9);
        let old = snapshot("10:13:10");
        assert!(delivered.push(10, keys(&[1, 2]), &[]));
        assert!(delivered.push(12, keys(&[3]), &[]));
        delivered.forget_seen_by(&[&old]);
        assert_eq!(delivered.unseen_by(&old), HashSet::from([1, 2]));
        delivered.forget_seen_by(&[&snapshot("13:13:")]);
        assert!(delivered.unseen_by(&old).is_empty());
    }

    #[test]
    fn a_snapshot_that_was_overtaken_by_a_later_one_does_not_serve() {
        let mut delivered = Delivered::new(9);
        let (earlier, later) = (snapshot("10:13:10"), snapshot("13:13:"));
        assert!(delivered.push(10, keys(&[1]), &[]));
        assert!(delivered.serves(&earlier));
        delivered.forget_seen_by(&[&later]);
        assert!(!delivered.serves(&earlier) && delivered.serves(&later));
    }

    #[test]
    fn what_every_open_snapshot_sees_is_not_listed() {
        let mut delivered = Delivered::new(1);
        let open = snapshot("13:13:");
        assert!(delivered.push(10, keys(&[1, 2]), &[&open]));
        assert!(delivered.unseen_by(&snapshot("9:9:")).is_empty() && !delivered.serves(&snapshot("9:9:")));
    }

    #[test]
    fn an_overflow_asks_for_a_snapshot_past_everything_listed() {
        let mut delivered = Delivered::new(9);
        assert!(delivered.push(5, keys(&[0; 9]), &[]));
        assert!(!delivered.push(4, keys(&[0]), &[]));
        assert_eq!(delivered.floor(), 6);
    }

    #[test]
    fn a_transaction_of_too_many_keys_keeps_none_and_overflows() {
        let touched = keys(&[0; 10]);
        assert_eq!(touched.keys.capacity(), 0);
        let mut delivered = Delivered::new(9);
        assert!(!delivered.push(7, touched, &[]));
        assert_eq!(delivered.floor(), 8);
    }
}
