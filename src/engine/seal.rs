//! The end of a batch: the checkpoint that becomes durable with its records.

use crate::batch::{Batch, StateChange};
use crate::engine::Engine;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::state::{self, ContractEntry, CopyEntry, POSITION_KEY, PositionEntry, TableEntry};

/// What [`Engine::seal`] made of the batch.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// What may be acknowledged once the batch is durable.
    pub ack: Lsn,
    /// The position that the batch reaches.
    pub position: PositionEntry,
    /// Commit time of the newest transaction that was delivered to its end, microseconds since 1970.
    pub newest: Option<i64>,
}

impl Engine {
    /// True if the checkpoint lacks something beside the position, such as a contract that went live. What was learned
    /// before the anchor has passed by may be of another history, and does not count yet.
    pub fn unsealed(&self) -> bool {
        if !self.anchored() {
            return false;
        }
        let copies = self.copies.jobs.iter().any(|job| job.dirty) || !self.copies.ended.is_empty();
        let entries = self.contracts.iter().any(|c| c.dirty) || self.tables.iter().any(|table| table.dirty);
        copies || entries || !self.ended.is_empty() || !self.uncounted.is_empty() || self.history.is_changed()
    }

    /// Takes the batch back to the position, before sealing inside a transaction. After [`super::Step::Full`],
    /// [`super::Step::Wait`] or an error the position names the end of the batch, and nothing is taken back.
    pub fn rewind(&mut self, batch: &mut Batch) {
        if self.transaction.is_some() {
            batch.truncate(self.safe);
            self.undo_dead(self.safe.1);
        }
    }

    /// Closes the batch: adds the checkpoint. Nothing may be appended to it afterwards.
    pub fn seal(&mut self, batch: &mut Batch) -> Result<Sealed> {
        self.due = false;
        self.safe = (0, 0);
        self.position.seq += 1;
        self.seal_aside(batch)?;
        let mut put = |key: String, value: Vec<u8>| batch.state.push(StateChange { key, value: Some(value) });
        put(POSITION_KEY.to_owned(), state::seal(&self.position)?);
        for contract in self.contracts.iter_mut().filter(|contract| contract.dirty) {
            contract.dirty = false;
            put(ContractEntry::key(&contract.entry.contract, contract.entry.major), state::seal(&contract.entry)?);
        }
        for entry in self.ended.drain(..) {
            put(ContractEntry::key(&entry.contract, entry.major), state::seal(&entry)?);
        }
        for table in self.tables.iter_mut().filter(|table| table.dirty) {
            table.dirty = false;
            put(TableEntry::key(table.relation), state::seal(&TableEntry { relation: table.relation })?);
        }
        for relation in self.uncounted.drain(..) {
            batch.state.push(StateChange { key: TableEntry::key(relation), value: None });
        }
        while let Some((_, oldest)) = self.prunable.pop_front_if(|(lsn, _)| *lsn <= self.position.ack) {
            self.history.prune(oldest);
        }
        for (key, json) in self.history.take_changes()? {
            batch.state.push(StateChange { key, value: json.map(|json| state::seal_json(&json)) });
        }
        let mut put = |key: String, value: Vec<u8>| batch.state.push(StateChange { key, value: Some(value) });
        for job in self.copies.jobs.iter_mut().filter(|job| job.dirty) {
            job.seal(self.position.seq);
            put(CopyEntry::key(job.id), state::seal(&job.entry)?);
        }
        for id in self.copies.ended.drain(..) {
            batch.state.push(StateChange { key: CopyEntry::key(id), value: None });
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.last_record = None;
        }
        Ok(Sealed { ack: self.position.ack, position: self.position.clone(), newest: self.newest })
    }
}
