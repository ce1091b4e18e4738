//! A sink that forgets: for benches and for reading without publishing.

use crate::batch::Batch;
use crate::error::Result;
use crate::sink::{Sink, StateEntries, TopicSpec};

/// Keeps the state in memory and drops the records.
#[derive(Debug, Default)]
pub struct NullSink {
    state: StateEntries,
    /// Records dropped so far.
    pub records: u64,
    /// Their key and value bytes.
    pub bytes: u64,
}

impl Sink for NullSink {
    fn load(&mut self) -> Result<StateEntries> {
        Ok(self.state.clone())
    }

    fn declare(&mut self, _topics: &[TopicSpec]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<()> {
        self.records += batch.records.len() as u64;
        self.bytes += batch.bytes.len() as u64;
        apply(&mut self.state, batch);
        Ok(())
    }
}

/// Applies a batch's state changes to a map of entries.
pub fn apply(state: &mut StateEntries, batch: &Batch) {
    for change in &batch.state {
        match &change.value {
            Some(value) => state.insert(change.key.clone(), value.clone()),
            None => state.remove(&change.key),
        };
    }
}
