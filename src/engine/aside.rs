//! What cannot be published: the rows of parked contracts and dead letters, sealed, in topics beside the contract's own; and
//! what else follows when a contract is parked.
//!
//! A parcel stands at the position that its record would have; the one of an update is at its second ordinal, whether or not
//! its key moved. A contract without a key for sealing has no such topics, and what breaks it stops the daemon.

use crate::batch::{Batch, Op, Span};
use crate::engine::rows::{RowEvent, Writer};
use crate::engine::table::{Compiled, ContractIndex, Mapping};
use crate::engine::{Engine, Table};
use crate::error::{Code, Error, Result};
use crate::history::Listing;
use crate::parcel::{Parcel, TRUNCATE};
use crate::position::Position;
use crate::state::{DeadEntry, DeadSpan, SEAL_KEY, SealEntry};
use crate::table::{TableVersion, VersionColumn};

impl Writer<'_> {
    /// Writes a row event to the parked topic of its contract; returns the number of records.
    #[cold]
    pub(super) fn park_row(&mut self, one: &Compiled, event: &RowEvent<'_>) -> Result<u32> {
        let event = RowEvent { position: event.newest(), ..*event };
        let masked = self.masked_key(one, &event)?;
        self.park_event(one, &event, event.op.letter(), masked)
    }

    /// Writes a TRUNCATE to the parked topic.
    pub(super) fn park_truncate(&mut self, one: &Compiled, position: Position, timestamp: i64) -> Result<u32> {
        let event = RowEvent { op: Op::Delete, new: None, old: None, position, timestamp, supplied: None };
        self.park_event(one, &event, TRUNCATE, None)
    }

    fn park_event(&mut self, one: &Compiled, event: &RowEvent<'_>, op: &str, masked: Option<String>) -> Result<u32> {
        let contract = self.contracts.get(one.contract);
        let Some((aside, parked)) =
            contract.and_then(|contract| Some((contract.aside?, contract.entry.parked.clone()?)))
        else {
            return Err(Error::definite(Code::Internal, "a contract is parked and has no topic for it"));
        };
        let value = self.parcel(one, event, op, &parked.code, parked.field.as_deref(), masked, aside.parked_schema)?;
        self.push_record(aside.parked, event.timestamp, event.op, None, Some(value), event.position);
        Ok(1)
    }

    fn masked_key(&mut self, one: &Compiled, event: &RowEvent<'_>) -> Result<Option<String>> {
        let (Mapping::Live(projection) | Mapping::Parked(Some(projection))) = &one.mapping else { return Ok(None) };
        let Some(row) = event.new.or(event.old).filter(|_| projection.has_key()) else { return Ok(None) };
        let start = self.batch.bytes.len();
        let masked = match projection.key(row, &mut self.batch.bytes) {
            Ok(()) => self.mask(self.span(start)?),
            Err(_) => None,
        };
        self.batch.bytes.truncate(start);
        Ok(masked)
    }

    /// Appends a parcel to the arena.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn parcel(
        &mut self,
        one: &Compiled,
        event: &RowEvent<'_>,
        op: &str,
        reason: &str,
        field: Option<&str>,
        masked_key: Option<String>,
        schema: u32,
    ) -> Result<Span> {
        let start = self.batch.bytes.len();
        let (Some(sealer), Some(contract)) = (self.sealer.as_deref_mut(), self.contracts.get(one.contract)) else {
            return Err(Error::definite(Code::Internal, "a row is to be sealed without a key"));
        };
        let parcel = Parcel {
            contract: &contract.entry.contract,
            major: contract.entry.major,
            position: event.position,
            op,
            timestamp: event.timestamp,
            reason,
            field,
            masked_key: masked_key.as_deref(),
            table: self.table,
            table_since: self.since,
            old: event.old,
            new: event.new,
        };
        parcel.encode(schema, sealer, &mut self.batch.bytes)?;
        self.span(start)
    }
}

impl Engine {
    /// Commit time of what is being delivered.
    pub(super) fn now(&self) -> Option<i64> {
        self.transaction.as_ref().map(|transaction| transaction.timestamp).or(self.newest)
    }

    /// Parks a contract version, or stops everybody where that cannot be.
    pub(super) fn park(&mut self, index: ContractIndex, error: Error, since: Position) -> Result<()> {
        let timestamp = self.now();
        match self.contracts.get_mut(index) {
            Some(contract) => contract.park(error, None, since, timestamp),
            None => Ok(()),
        }
    }

    /// Parks every contract of a table that is not parked yet.
    pub(super) fn park_readers(&mut self, table: usize, since: Position, why: impl Fn() -> Error) -> Result<()> {
        let readers = self.tables.at(table).map(|table| table.readers.clone()).unwrap_or_default();
        for reader in readers {
            if self.contracts.get(reader).is_some_and(|contract| !contract.entry.is_parked()) {
                self.park(reader, why(), since)?;
            }
        }
        self.settle_parked();
        Ok(())
    }

    /// Contracts were parked: nothing goes on as it was compiled, and their copies end.
    pub(super) fn settle_parked(&mut self) {
        let contracts = &self.contracts;
        let parked = |index: &ContractIndex| contracts.get(*index).is_some_and(|c| c.entry.is_parked());
        for table in self.tables.iter_mut() {
            let stale = |one: &Compiled| matches!(one.mapping, Mapping::Live(_)) && parked(&one.contract);
            if table.compiled.as_ref().is_some_and(|compiled| compiled.iter().any(stale)) {
                table.compiled = None;
            }
        }
        let mut repaired = Vec::new();
        for at in 0..self.copies.jobs.len() {
            let Some(job) = self.copies.jobs.get_mut(at) else { continue };
            let gone: Vec<ContractIndex> = job.contracts.extract_if(.., |index| parked(index)).collect();
            if gone.is_empty() {
                continue;
            }
            let repairs = u32::from(job.entry.repair.is_some());
            repaired.extend(gone.into_iter().map(|index| (index, repairs)));
            // Their columns may be gone, and a read of them would never succeed.
            job.compiled = None;
            job.dirty = true;
            let contracts: Vec<ContractIndex> = job.contracts.clone();
            let left = contracts.iter().filter_map(|index| self.contracts.get(*index));
            job.entry.contracts = left.map(|c| (c.entry.contract.clone(), c.entry.major)).collect();
            let attnums = self.attnums(&contracts);
            if let Some(job) = self.copies.jobs.get_mut(at) {
                job.attnums = attnums;
            }
        }
        for (index, repairs) in repaired {
            if let Some(contract) = self.contracts.get_mut(index) {
                contract.repairs = contract.repairs.saturating_sub(repairs);
            }
        }
    }

    /// Writes a TRUNCATE for the parked contracts of a table, so that whoever takes their rows back knows of it.
    pub(super) fn park_truncate(&mut self, table: usize, position: Position, batch: &mut Batch) -> Result<()> {
        let timestamp = self.now().unwrap_or_default();
        let Some(Table { readers, version, known, since, listing, .. }) = self.tables.at(table) else { return Ok(()) };
        // A TRUNCATE can come before any row.
        let listed = listing.as_ref().map(listed);
        let Some(version) = version.as_ref().or(known.as_ref()).or(listed.as_ref()) else { return Ok(()) };
        let mut records = 0;
        let mut writer = Writer {
            batch,
            contracts: &mut self.contracts,
            touched: None,
            sealer: self.sealer.as_mut(),
            table: version,
            since: *since,
            dead_keys: self.limits.dead_keys,
            parked: false,
        };
        for reader in readers.iter() {
            let Some(contract) = writer.contracts.get(*reader).filter(|c| c.entry.is_parked()) else { continue };
            let (topic, kind) = (contract.topic, contract.version.kind);
            let one = Compiled { contract: *reader, topic, kind, mapping: Mapping::Parked(None) };
            records += writer.park_truncate(&one, position, timestamp)?;
        }
        if let (Some(transaction), true) = (&mut self.transaction, records > 0) {
            transaction.last_record = Some(batch.records.len() - 1);
        }
        Ok(())
    }

    /// Adds to the checkpoint what the batch sealed, parked, killed and revived.
    pub(super) fn seal_aside(&mut self, batch: &mut Batch) -> Result<()> {
        if let Some(sealer) = self.sealer.as_ref().filter(|sealer| sealer.used() && !self.seal_recorded) {
            let entry = SealEntry { fingerprint: sealer.key().fingerprint() };
            put(batch, SEAL_KEY.to_owned(), Some(crate::state::seal(&entry)?));
            self.seal_recorded = true;
        }
        let records = &batch.records;
        for contract in self.contracts.iter_mut().filter(|contract| contract.entry.is_parked()) {
            let (Some(aside), Some(parked)) = (contract.aside, &mut contract.entry.parked) else { continue };
            let new = records.iter().filter(|record| record.topic == aside.parked).count() as u64;
            parked.records += new;
            contract.dirty |= new > 0;
        }
        for contract in &mut self.contracts {
            let changes = contract.dead.take_changes();
            let Some(newest) = changes.last() else { continue };
            let open = contract.entry.dead_span.filter(|span| span.ended.is_none());
            let first = changes.iter().find(|change| change.added);
            let span = match (open, first) {
                (Some(span), _) => Some(span),
                (None, Some(first)) => Some(DeadSpan { starts_at: first.timestamp, pos: first.position, ended: None }),
                (None, None) => None,
            };
            let ended = contract.dead.is_empty().then_some((newest.timestamp, newest.position));
            let span = span.map(|span| DeadSpan { ended, ..span });
            contract.dirty |= span != contract.entry.dead_span;
            contract.entry.dead_span = span.or(contract.entry.dead_span);
            for change in changes {
                let entry = DeadEntry::new(&contract.entry.contract, contract.entry.major, change.key);
                let value = if change.added { Some(crate::state::seal(&entry)?) } else { None };
                put(batch, entry.state_key(), value);
            }
        }
        Ok(())
    }

    /// Takes back what came to the dead sets with records that were taken back.
    pub(super) fn undo_dead(&mut self, records: usize) {
        self.contracts.iter_mut().for_each(|contract| contract.dead.undo(records));
    }
}

fn put(batch: &mut Batch, key: String, value: Option<Vec<u8>>) {
    batch.state.push(crate::batch::StateChange { key, value });
}

/// A table version of which nothing is certain but what the stream lists: enough to seal its rows.
pub(super) fn listed(listing: &Listing) -> TableVersion {
    let column = |column: &crate::history::ListedColumn| VersionColumn {
        attnum: None,
        name: column.name.clone(),
        type_oid: column.type_oid,
        typmod: column.typmod,
        type_name: format!("oid {}", column.type_oid),
        source_type: None,
        not_null: false,
        identity: column.identity,
    };
    TableVersion {
        relation: listing.relation,
        name: listing.name.clone(),
        replica_identity: listing.replica_identity,
        columns: listing.columns.iter().map(column).collect(),
    }
}
