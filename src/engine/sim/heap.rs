//! A heap: pages of few line pointers, reused after VACUUM, rewritten by VACUUM FULL and by ALTER TABLE.

use std::collections::BTreeMap;

use super::database::Row;
use crate::engine::Chunk;
use crate::identity::tests::Rng;
use crate::lsn::{Snapshot, Xid};
use crate::row::Cell;
use crate::state::Tid;
use crate::table::RelationId;

/// Line pointers of a page.
const SLOTS: u16 = 3;

/// A version of a row. What was aborted is gone at once.
#[derive(Clone, Debug)]
pub struct Tuple {
    pub tid: Tid,
    pub xmin: Xid,
    pub xmax: Option<Xid>,
    pub key: i64,
    pub row: Row,
}

impl Tuple {
    pub fn visible(&self, snapshot: &Snapshot) -> bool {
        snapshot.sees(self.xmin) && !self.xmax.is_some_and(|xmax| snapshot.sees(xmax))
    }
}

/// One leaf of a table.
#[derive(Debug)]
pub struct Heap {
    pub relation: RelationId,
    pub file: u32,
    pub tuples: BTreeMap<Tid, Tuple>,
}

impl Heap {
    pub fn new(relation: RelationId, file: u32) -> Heap {
        Heap { relation, file, tuples: BTreeMap::new() }
    }

    /// Its size in pages.
    pub fn blocks(&self) -> u32 {
        self.tuples.last_key_value().map_or(0, |(tid, _)| tid.block + 1)
    }

    pub fn insert(&mut self, rng: &mut Rng, xid: Xid, key: i64, row: Row) {
        let slots = (0..=self.blocks()).flat_map(|block| (1..=SLOTS).map(move |offset| Tid { block, offset }));
        let free: Vec<Tid> = slots.filter(|tid| !self.tuples.contains_key(tid)).take(6).collect();
        let tid = *rng.pick(&free);
        self.tuples.insert(tid, Tuple { tid, xmin: xid, xmax: None, key, row });
    }

    pub fn delete(&mut self, tid: Tid, xid: Xid) {
        if let Some(tuple) = self.tuples.get_mut(&tid) {
            tuple.xmax = Some(xid);
        }
    }

    /// Deletes what is alive.
    pub fn delete_all(&mut self, xid: Xid) {
        self.tuples.values_mut().filter(|tuple| tuple.xmax.is_none()).for_each(|tuple| tuple.xmax = Some(xid));
    }

    pub fn undo(&mut self, xid: Xid) {
        self.tuples.retain(|_, tuple| tuple.xmin != xid);
        for tuple in self.tuples.values_mut().filter(|tuple| tuple.xmax == Some(xid)) {
            tuple.xmax = None;
        }
    }

    pub fn vacuum(&mut self, horizon: Xid) {
        self.tuples.retain(|_, tuple| tuple.xmax.is_none_or(|xmax| xmax >= horizon));
    }

    /// A new file that holds only what the transaction inserted after it had truncated the table.
    pub fn truncate(&mut self, file: u32, by: Xid) {
        self.file = file;
        self.tuples.retain(|_, tuple| tuple.xmin == by && tuple.xmax.is_none());
    }

    /// A new file. `by`: a rewrite that makes new tuples, as ALTER TABLE does; else they keep their transactions.
    pub fn rewrite(&mut self, file: u32, by: Option<Xid>, horizon: Xid) {
        self.file = file;
        self.vacuum(horizon);
        let old = std::mem::take(&mut self.tuples);
        let kept = old.into_values().filter(|tuple| by.is_none() || tuple.xmax.is_none());
        for (place, mut tuple) in kept.enumerate() {
            tuple.tid = Tid { block: place as u32 / u32::from(SLOTS), offset: place as u16 % SLOTS + 1 };
            tuple.xmin = by.unwrap_or(tuple.xmin);
            self.tuples.insert(tuple.tid, tuple);
        }
    }

    /// Reads a range as `COPY (SELECT …)` does, up to so many rows.
    pub fn read(&self, snapshot: &Snapshot, from: Tid, to_block: u32, attnums: &[i16], rows_max: usize) -> Chunk {
        let to = Tid { block: to_block, offset: 0 };
        let mut chunk = Chunk { attnums: attnums.to_vec(), filenode: self.file, next: to, ..Chunk::default() };
        if from >= to {
            return chunk;
        }
        for tuple in self.tuples.range(from..to).map(|(_, tuple)| tuple).filter(|tuple| tuple.visible(snapshot)) {
            if chunk.rows == rows_max {
                chunk.next = tuple.tid;
                break;
            }
            for attnum in attnums {
                let cell = match tuple.row.get(*attnum as usize - 1).cloned().flatten() {
                    None => Cell::Null,
                    Some(text) => {
                        let start = chunk.buffer.len() as u32;
                        chunk.buffer.extend_from_slice(text.as_bytes());
                        Cell::Text { start, len: text.len() as u32 }
                    }
                };
                chunk.cells.push(cell);
            }
            chunk.rows += 1;
        }
        chunk
    }
}
