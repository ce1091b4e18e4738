//! Where records go. A sink commits records and checkpoint in one atomic step; exactly-once rests on that alone.

use std::collections::BTreeMap;

use crate::batch::Batch;
use crate::error::Result;

pub mod decode;
pub mod disk;
pub mod envelope;
pub mod files;
pub mod json;
pub mod kafka;
pub mod key_desk;
pub mod keys;
pub mod manifest;
pub mod null;
pub mod ocf;
pub mod reader;
pub mod recovery;
pub mod rolling;
pub mod spill;
#[cfg(test)]
mod tests;

/// The checkpoint as the sink keeps it: sealed entries by key (see [`crate::state`]).
pub type StateEntries = BTreeMap<String, Vec<u8>>;

/// A schema as registered: its id and its JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// The id in the frame of every record.
    pub id: u32,
    /// The schema's JSON.
    pub json: String,
}

/// Whether old records of a key may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Only the newest record of each key counts (`state` contracts).
    Compact,
    /// Every record counts (`log` contracts).
    Append,
}

/// A topic that the daemon publishes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its full name.
    pub name: String,
    /// Number of partitions, frozen.
    pub partitions: u32,
    /// How it is kept.
    pub retention: Retention,
    /// Absent only for contracts with `key: []`.
    pub key: Option<RegisteredSchema>,
    /// The contract's current minor.
    pub value: RegisteredSchema,
}

/// A place to publish to, with a checkpoint of its own.
///
/// Order of calls: [`Sink::load`] once (after the slot is ours), [`Sink::declare`], then [`Sink::commit`] for good.
/// The sink runs on a thread of its own and may block.
pub trait Sink: Send {
    /// Fences every predecessor, aborts what it left open, and returns the newest committed checkpoint.
    fn load(&mut self) -> Result<StateEntries>;

    /// Creates the topics that are missing and verifies those that exist. [`crate::batch::TopicId`]s index this list.
    fn declare(&mut self, topics: &[TopicSpec]) -> Result<()>;

    /// Makes the batch's records and state durable in one atomic step. On return it is durable and visible to
    /// `read_committed` readers. A doubtful outcome is settled inside, by asking the stored state.
    /// A transient error means: nothing of the batch is visible, and the same batch may be given again.
    fn commit(&mut self, batch: &Batch) -> Result<()>;
}
