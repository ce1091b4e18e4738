//! A batch: encoded records in one arena, with the state changes that become durable together with them.

use crate::position::Position;

/// Index into the list of [`crate::sink::TopicSpec`]s that the sink was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u16);

/// What happened to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Inserted.
    Create,
    /// Updated.
    Update,
    /// Deleted.
    Delete,
    /// Read by a snapshot or a repair.
    Read,
}

impl Op {
    /// The header's text: c, u, d or r.
    pub fn letter(self) -> &'static str {
        match self {
            Op::Create => "c",
            Op::Update => "u",
            Op::Delete => "d",
            Op::Read => "r",
        }
    }
}

/// A byte range of the batch's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// One record. `key` and `value` are Confluent-framed: a zero byte, the schema id (big endian), the Avro body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub topic: TopicId,
    /// What happened.
    pub op: Op,
    /// Where it stands.
    pub position: Position,
    /// Commit time of its transaction, microseconds since 1970 (for `r`: of the snapshot).
    pub timestamp: i64,
    /// Absent only for contracts with `key: []`.
    pub key: Option<Span>,
    /// Absent for a tombstone.
    pub value: Option<Span>,
    /// The last published record of its transaction, over all topics.
    pub last: bool,
    /// Names of the fields that were filled by a re-read, separated by commas; absent where the stream carried all.
    pub reread: Option<Span>,
}

/// One key of the checkpoint: a new value, or its removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Such as `position` or `contract/orders/1`.
    pub key: String,
    /// The sealed entry (see [`crate::state`]), or `None` to remove it.
    pub value: Option<Vec<u8>>,
}

/// What one commit makes durable, all or nothing. Recycled: [`Batch::clear`] keeps the memory.
#[derive(Debug, Default)]
pub struct Batch {
    /// The arena that the spans point into.
    pub bytes: Vec<u8>,
    /// In order of position per key.
    pub records: Vec<Record>,
    /// Always holds `position` when the batch is committed.
    pub state: Vec<StateChange>,
}

impl Batch {
    /// The bytes of a span.
    pub fn slice(&self, span: Span) -> &[u8] {
        self.bytes.get(span.start as usize..span.start as usize + span.len as usize).unwrap_or_default()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.state.clear();
    }

    /// True if a commit would change nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.state.is_empty()
    }

    /// A mark to roll back to.
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.records.len())
    }

    /// Takes back all that was appended since `mark`.
    pub fn truncate(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        self.records.truncate(mark.1);
    }
}
