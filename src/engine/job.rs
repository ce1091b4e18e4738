//! One pass over a table: its stages, and the requests that lead from one to the next.

use std::sync::Arc;

use crate::avro::RecordSchema;
use crate::engine::io::{Chunk, JobId, Lookup, Request};
use crate::engine::limits::Limits;
use crate::engine::table::{Compiled, ContractIndex};
use crate::lsn::{Lsn, Snapshot, Xid};
use crate::state::{CopyEntry, KeyPlace, Leaf, RepairPhase, Tid};
use crate::table::TableVersion;

/// Where a copy stands.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its contracts are not active.
    Unfenced,
    Fencing,
    FencePassed {
        insert_lsn: Lsn,
    },
    Queued,
    /// Keys of the topic are being read.
    Asking,
    Measuring,
    Opening,
    Fenced {
        snapshot: Snapshot,
        insert_lsn: Lsn,
        timestamp: i64,
    },
    Reading {
        snapshot: Snapshot,
        timestamp: i64,
        abandoned: bool,
    },
    Ready {
        snapshot: Snapshot,
        timestamp: i64,
        content: Content,
    },
    Done,
}

/// What was read under a snapshot.
#[derive(Debug)]
pub(super) enum Content {
    Rows(Box<Chunk>),
    Keys(Box<Lookup>),
}

/// Keys that are looked up next.
#[derive(Debug)]
pub(super) struct Page {
    /// As they stand in the topic; empty where they were named by their texts.
    pub(super) framed: Vec<Vec<u8>>,
    /// The texts of their columns.
    pub(super) texts: Vec<Vec<String>>,
    /// Done once they are.
    pub(super) place: Option<KeyPlace>,
    pub(super) end: bool,
}

/// The keys of the topic that a repair is for.
#[derive(Clone, Debug)]
pub(super) struct TopicKeys {
    pub(super) topic: String,
    pub(super) id: u32,
    pub(super) schema: Arc<RecordSchema>,
    /// The columns, in the order of the key.
    pub(super) attnums: Vec<i16>,
}

impl Stage {
    /// What a chunk that is still to be written shows.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Stage::Fenced { snapshot, .. } | Stage::Reading { snapshot, .. } | Stage::Ready { snapshot, .. } => {
                Some(snapshot)
            }
            Stage::Unfenced | Stage::Fencing | Stage::FencePassed { .. } => None,
            Stage::Queued | Stage::Asking | Stage::Measuring | Stage::Opening | Stage::Done => None,
        }
    }
}

/// One pass over a table.
#[derive(Debug)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What the checkpoint holds.
    pub entry: CopyEntry,
    /// True if the entry is not yet in the checkpoint as it is.
    pub dirty: bool,
    pub(super) contracts: Vec<ContractIndex>,
    pub(super) attnums: Vec<i16>,
    pub(super) fence: Xid,
    limits: Limits,
    pub(super) blocks: u32,
    /// Most rows of the next chunk, so that long rows are not sent in vain.
    rows: usize,
    pub(super) stage: Stage,
    pub(super) compiled: Option<(TableVersion, Arc<[Compiled]>)>,
    pub(super) keys: Option<TopicKeys>,
    pub(super) page: Option<Page>,
    /// Counts the passes of a repair over its topic.
    pub(super) pass: u32,
    /// A repair that begins anew as soon as nothing of the pass before is under way.
    pub(super) again: bool,
    /// True once the entry is in the checkpoint, and with it all that was published before: only then does a repair look
    /// where its topic ends.
    pub(super) durable: bool,
    /// The checkpoint that has the entry.
    pub(super) sealed: Option<u64>,
    /// How often the contract's dead set had been too small when this pass of a repair began; unknown of one that goes on
    /// from the checkpoint.
    pub(super) overflows: Option<u64>,
}

impl Job {
    /// A job that begins or goes on; nothing is read before no transaction below `fence` runs.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        id: JobId,
        entry: CopyEntry,
        contracts: Vec<ContractIndex>,
        attnums: Vec<i16>,
        fence: Xid,
        stage: Stage,
        limits: Limits,
        dirty: bool,
    ) -> Job {
        let (blocks, rows) = (limits.chunk_blocks, limits.chunk_rows_first);
        Job {
            id,
            entry,
            dirty,
            contracts,
            attnums,
            fence,
            limits,
            blocks,
            rows,
            stage,
            compiled: None,
            keys: None,
            page: None,
            pass: 0,
            again: false,
            durable: !dirty,
            sealed: None,
            overflows: None,
        }
    }

    /// The entry is in the checkpoint with this number.
    pub(super) fn seal(&mut self, seq: u64) {
        self.dirty = false;
        if !self.durable && self.sealed.is_none() {
            self.sealed = Some(seq);
        }
    }

    /// True once all rows are published.
    pub fn done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// True if it may hold a connection to production.
    pub(super) fn connected(&self) -> bool {
        use Stage::{Asking, Fenced, Measuring, Opening, Reading, Ready};
        matches!(self.stage, Asking | Measuring | Opening | Fenced { .. } | Reading { .. } | Ready { .. })
    }

    /// Blocks read and blocks in all, for a progress bar; 0 of 0 until measured.
    pub fn blocks(&self) -> (u64, u64) {
        let total = self.entry.leaves.iter().map(|leaf| u64::from(leaf.blocks)).sum();
        let before: u64 = self.entry.leaves.iter().take(self.entry.leaf as usize).map(|l| u64::from(l.blocks)).sum();
        (if self.done() { total } else { before + u64::from(self.entry.next.block) }, total)
    }

    /// Every contract of it was parked: it ends as soon as nothing is on its way.
    pub(super) fn abandon(&mut self, requests: &mut Vec<Request>) {
        match &self.stage {
            Stage::Fencing | Stage::Asking | Stage::Measuring | Stage::Opening | Stage::Reading { .. } => return,
            Stage::Fenced { .. } => requests.push(Request::CloseChunk { job: self.id }),
            Stage::Unfenced | Stage::FencePassed { .. } | Stage::Queued | Stage::Ready { .. } | Stage::Done => {}
        }
        self.stage = Stage::Done;
    }

    pub(super) fn leaf(&self) -> Option<&Leaf> {
        self.entry.leaves.get(self.entry.leaf as usize)
    }

    pub(super) fn open(&mut self, floor: Xid, requests: &mut Vec<Request>) {
        self.fence = self.fence.max(floor);
        requests.push(Request::OpenChunk { job: self.id, fence: self.fence });
        self.stage = Stage::Opening;
    }

    /// What the entry says is to be done next.
    pub(super) fn proceed(&mut self, floor: Xid, requests: &mut Vec<Request>) {
        match (self.phase(), &self.keys) {
            (Some(RepairPhase::Keys { after }), Some(keys)) if self.page.is_none() => {
                requests.push(Request::Keys {
                    job: self.id,
                    pass: self.pass,
                    topic: keys.topic.clone(),
                    key_id: keys.id,
                    after: *after,
                    keys_max: self.limits.page_keys,
                    bytes_max: self.limits.chunk_bytes,
                });
                self.stage = Stage::Asking;
            }
            _ if self.entry.leaves.is_empty() => self.measure(requests),
            _ => self.open(floor, requests),
        }
    }

    pub(super) fn phase(&self) -> Option<&RepairPhase> {
        self.entry.repair.as_ref().map(|repair| &repair.phase)
    }

    /// True while keys are looked up, and not rows are copied.
    pub(super) fn by_key(&self) -> bool {
        matches!(self.phase(), Some(RepairPhase::Keys { .. } | RepairPhase::Named { .. }))
    }

    pub(super) fn measure(&mut self, requests: &mut Vec<Request>) {
        requests.push(Request::Leaves { job: self.id, relation: self.entry.relation });
        self.stage = Stage::Measuring;
    }

    pub(super) fn read(&mut self, requests: &mut Vec<Request>) {
        let Some(leaf) = self.leaf().cloned() else { return };
        let Stage::Fenced { snapshot, timestamp, .. } = &self.stage else { return };
        requests.push(Request::ReadChunk {
            job: self.id,
            relation: self.entry.relation,
            attnums: self.attnums.clone(),
            from: self.entry.next,
            to_block: self.entry.next.block.saturating_add(self.blocks).min(leaf.blocks),
            leaf,
            rows_max: self.rows,
            bytes_max: self.limits.chunk_bytes,
        });
        self.stage = Stage::Reading { snapshot: snapshot.clone(), timestamp: *timestamp, abandoned: false };
    }

    pub(super) fn look_up(&mut self, requests: &mut Vec<Request>) {
        let Stage::Fenced { snapshot, timestamp, .. } = &self.stage else { return };
        let (Some(keys), Some(page)) = (&self.keys, &self.page) else { return };
        let named = matches!(self.phase(), Some(RepairPhase::Named { .. }));
        requests.push(Request::LookUp {
            job: self.id,
            relation: self.entry.relation,
            key: keys.attnums.clone(),
            keys: page.texts.clone(),
            attnums: if named { self.attnums.clone() } else { Vec::new() },
        });
        self.stage = Stage::Reading { snapshot: snapshot.clone(), timestamp: *timestamp, abandoned: false };
    }

    /// Steps over the leaves that have no block left; true if there is none with a block.
    pub(super) fn skip_finished_leaves(&mut self) -> bool {
        while let Some(leaf) = self.leaf() {
            if self.entry.next.block < leaf.blocks {
                return false;
            }
            self.entry.leaf += 1;
            self.entry.next = Tid::default();
        }
        true
    }

    pub(super) fn resize(&mut self, chunk: &Chunk, from: Tid) {
        let Limits { chunk_micros, chunk_rows, chunk_bytes, chunk_blocks_min, chunk_blocks_max, .. } = self.limits;
        let read = u64::from(chunk.next.block.saturating_sub(from.block)).max(1);
        let by_time = read * chunk_micros / chunk.micros.max(1);
        let by_rows = read * chunk_rows as u64 / (chunk.rows.max(1) as u64);
        let by_bytes = read * chunk_bytes as u64 / (chunk.buffer.len().max(1) as u64);
        // A tenth below the limits, so that a range is rarely cut.
        let next = by_time.min(by_rows * 9 / 10).min(by_bytes * 9 / 10);
        if let Some(row_bytes) = chunk.buffer.len().checked_div(chunk.rows) {
            self.rows = (chunk_bytes / row_bytes.max(1)).clamp(chunk_rows_min(chunk_rows), chunk_rows);
        }
        self.blocks = u32::try_from(next).unwrap_or(u32::MAX).clamp(chunk_blocks_min, chunk_blocks_max);
    }
}

fn chunk_rows_min(most: usize) -> usize {
    most.min(16)
}
