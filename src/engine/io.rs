//! What goes in and out of the engine: inputs, requests, and the answers to them, all as data.

use crate::lsn::{Lsn, Snapshot, Xid};
use crate::row::Cell;
use crate::state::{KeyPlace, Leaf, Tid};
use crate::table::{QualifiedName, RelationId, TableImage};

/// Names a copy: the key of its entry in the checkpoint is `copy/<job>`.
pub type JobId = u64;

/// Images of contracted tables, all read under one snapshot.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Those that exist.
    pub images: Vec<TableImage>,
    /// Those that were asked for by oid and are gone.
    pub missing: Vec<RelationId>,
    /// Which table each contracted name means under this snapshot; only names whose meaning was asked for.
    pub names: Vec<(QualifiedName, Option<RelationId>)>,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The log's insert position, read after the snapshot was taken.
    pub insert_lsn: Lsn,
}

/// One piece of a heap, read under the snapshot of its fence.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The texts that the cells point into.
    pub buffer: Vec<u8>,
    /// `width` cells a row, in the order of `attnums`.
    pub cells: Vec<Cell>,
    /// Root attribute numbers of the columns that were read, in order.
    pub attnums: Vec<i16>,
    /// Rows read.
    pub rows: usize,
    /// All rows of the leaf below this place were read, now or before.
    pub next: Tid,
    /// The table's (root's) image while the read held its lock.
    pub image: Option<TableImage>,
    /// The leaf's filenode after the read, in the read's transaction.
    pub filenode: u32,
    /// How long the read took, in microseconds; sizes the next one.
    pub micros: u64,
}

/// How reading a chunk ended.
#[derive(Debug)]
pub enum ChunkOutcome {
    /// Read.
    Read(Box<Chunk>),
    /// The table changed meanwhile (a name, the leaf itself): read again.
    Retry,
    /// The leaf is gone, or is a heap of another table now: the pass over the table starts again.
    Restart,
}

/// Rows that were read again by their keys.
#[derive(Clone, Debug)]
pub struct Reread {
    /// The table.
    pub relation: RelationId,
    /// What they were read under; it sees the transaction of the request.
    pub snapshot: Snapshot,
    /// The table at the time of the read; absent if nothing could be read: the table or a column of the key is gone.
    pub image: Option<TableImage>,
    /// The columns that were read: those of the request that are still there.
    pub attnums: Vec<i16>,
    /// Of each row, the index of its key in the request.
    pub found: Vec<usize>,
    /// `attnums.len()` cells a row.
    pub cells: Vec<Cell>,
    /// What the cells point into.
    pub buffer: Vec<u8>,
    /// True if more rows would have been too much: then of the keys without a row nothing is known.
    pub cut: bool,
}

/// Some of the keys that a topic shows, in the order of their hashes.
#[derive(Debug, Default)]
pub struct KeyPage {
    /// Framed, as they stand in the topic. Each once, and only those whose newest record is no tombstone.
    pub keys: Vec<Vec<u8>>,
    /// The place of the last of them.
    pub place: Option<KeyPlace>,
    /// True if no key follows.
    pub end: bool,
}

/// Which keys the table has.
#[derive(Debug, Default)]
pub struct Lookup {
    /// Indexes of the keys without a row.
    pub missing: Vec<u32>,
    /// The table's heaps and their filenodes after the read, in its transaction.
    pub heaps: Vec<(RelationId, u32)>,
    /// Where rows were asked for: one row a key, in the keys' order. Of a key without a row it holds the key's columns, as
    /// the server prints them, and null otherwise.
    pub rows: Option<Box<Chunk>>,
}

/// How looking up keys ended.
#[derive(Debug)]
pub enum LookupOutcome {
    /// Read.
    Read(Box<Lookup>),
    /// The table changed meanwhile: look up again.
    Retry,
}

/// What the engine is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// One pgoutput message.
    Message(&'a [u8]),
    /// All before `wal_end` was sent.
    Keepalive {
        /// The server's position.
        wal_end: Lsn,
    },
    /// A catalog sample, asked for or periodic.
    Sample(Sample),
    /// Answer to [`Request::Fence`].
    FencePassed {
        /// The copy.
        job: JobId,
        /// The log's insert position, read after the fence had passed.
        insert_lsn: Lsn,
    },
    /// Answer to [`Request::Leaves`].
    Leaves {
        /// The copy.
        job: JobId,
        /// Its heaps.
        leaves: Vec<Leaf>,
    },
    /// Answer to [`Request::OpenChunk`].
    ChunkOpened {
        /// The copy.
        job: JobId,
        /// What the chunk will show.
        snapshot: Snapshot,
        /// The log's insert position, read after the snapshot was taken.
        insert_lsn: Lsn,
        /// When, in microseconds since 1970.
        timestamp: i64,
    },
    /// Answer to [`Request::ReadChunk`].
    ChunkRead {
        /// The copy.
        job: JobId,
        /// The rows, or why there are none.
        outcome: ChunkOutcome,
    },
    /// Answer to [`Request::Reread`].
    Reread(Box<Reread>),
    /// Answer to [`Request::Keys`].
    KeysRead {
        /// The copy.
        job: JobId,
        /// The next keys.
        page: KeyPage,
    },
    /// Answer to [`Request::LookUp`].
    LookedUp {
        /// The copy.
        job: JobId,
        /// What the table has, or why that is not known.
        outcome: LookupOutcome,
    },
}

/// What the engine asks for. Every request is answered, or the daemon ends. Those of one job are run in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Images of these tables, read under a snapshot that sees the transaction.
    Sample {
        /// The tables.
        relations: Vec<RelationId>,
        /// A 32-bit id, as Begin carries it.
        sees: u32,
    },
    /// The end of every transaction below `fence`.
    Fence {
        /// The copy.
        job: JobId,
        /// Wait for `pg_snapshot_xmin() ≥ fence`.
        fence: Xid,
    },
    /// The heaps of a table, measured now.
    Leaves {
        /// The copy.
        job: JobId,
        /// The table.
        relation: RelationId,
    },
    /// A repeatable-read transaction for the next chunk, begun once no transaction below `fence` runs.
    OpenChunk {
        /// The copy.
        job: JobId,
        /// Wait for `pg_snapshot_xmin() ≥ fence`.
        fence: Xid,
    },
    /// The chunk itself; ends the transaction.
    ReadChunk {
        /// The copy.
        job: JobId,
        /// The table.
        relation: RelationId,
        /// The heap.
        leaf: Leaf,
        /// Columns, by the root's attribute numbers.
        attnums: Vec<i16>,
        /// First place.
        from: Tid,
        /// First block that is not read.
        to_block: u32,
        /// Stop after so many rows.
        rows_max: usize,
        /// Stop after so many bytes.
        bytes_max: usize,
    },
    /// The next keys that a topic shows. Everything that the repair is to cover is committed when it is asked.
    Keys {
        /// The copy.
        job: JobId,
        /// Another number is another pass: the topic is read anew, up to its present end.
        pass: u32,
        /// The topic's full name.
        topic: String,
        /// The key schema's id, for sinks that keep keys without their frame.
        key_id: u32,
        /// Only keys behind this place.
        after: Option<KeyPlace>,
        /// Most keys of the page.
        keys_max: usize,
        /// Most bytes of the page; a single key may go beyond.
        bytes_max: usize,
    },
    /// Which of these keys the table has; ends the opened transaction.
    LookUp {
        /// The copy.
        job: JobId,
        /// The table.
        relation: RelationId,
        /// The key's columns, by the root's attribute numbers.
        key: Vec<i16>,
        /// The texts of these columns, key by key.
        keys: Vec<Vec<String>>,
        /// Columns to read of each row; with none, only whether there is a row.
        attnums: Vec<i16>,
    },
    /// The opened transaction is not needed.
    CloseChunk {
        /// The copy.
        job: JobId,
    },
    /// The copy is done: its connection can go.
    EndCopy {
        /// The copy.
        job: JobId,
    },
    /// Rows by their keys, under a snapshot that sees the transaction.
    Reread {
        /// The table.
        relation: RelationId,
        /// The key's columns.
        key: Vec<i16>,
        /// Their texts, key by key; none twice.
        keys: Vec<Vec<String>>,
        /// The columns to read.
        attnums: Vec<i16>,
        /// A 32-bit id, as Begin carries it.
        sees: u32,
        /// Stop after so many bytes of values, but not before the first row.
        bytes_max: usize,
    },
    /// A transactional logical message, so that the stream passes where the log ends now.
    Heartbeat,
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Taken.
    Done,
    /// Not taken: an answer must come first. Offer the same message again after the next sample or re-read.
    Wait,
    /// Not taken: the batch must be sealed first. Offer the same message again with a fresh batch.
    Full,
}

impl Request {
    /// The copy that it belongs to.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Request::Fence { job, .. }
            | Request::Leaves { job, .. }
            | Request::OpenChunk { job, .. }
            | Request::ReadChunk { job, .. }
            | Request::Keys { job, .. }
            | Request::LookUp { job, .. }
            | Request::CloseChunk { job }
            | Request::EndCopy { job } => Some(*job),
            Request::Sample { .. } | Request::Reread { .. } | Request::Heartbeat => None,
        }
    }
}
