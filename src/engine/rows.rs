//! One row event → records in the batch, for every contract that reads the table.
//!
//! A value that does not fit makes a dead letter, a broken promise parks the contract; both go, sealed, to topics beside the
//! contract's own ([`super::aside`]). Of each change a contract gets exactly one of the three.

use std::collections::HashSet;

use crate::batch::{Batch, Op, Record, Span, TopicId};
use crate::contract::{ContractKind, OnError};
use crate::engine::dead::Place;
use crate::engine::delivered::{KeyHash, Touched, key_hash};
use crate::engine::reread::Supplied;
use crate::engine::table::{Compiled, Contract, Mapping, unsealed};
use crate::error::{Code, Error, Result};
use crate::position::Position;
use crate::projection::{Projection, Reason, ValueError};
use crate::row::{Cell, Datum, Row};
use crate::seal::Sealer;
use crate::table::TableVersion;

/// Bytes of the frame before a key: a mark and the schema's id, which is no part of the key.
const FRAME_BYTES: usize = 5;

/// A row event with its place in the log.
#[derive(Clone, Copy, Debug)]
pub struct RowEvent<'a> {
    /// What happened.
    pub op: Op,
    /// The row as it is now; absent for a delete.
    pub new: Option<Row<'a>>,
    /// The row as it was, where the message carries it; it may hold the key alone.
    pub old: Option<Row<'a>>,
    /// Of its first ordinal; an update has two.
    pub position: Position,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
    /// What the row lacked and was read again, where it did.
    pub supplied: Option<Supplied<'a>>,
}

impl RowEvent<'_> {
    /// Where the record of the row as it is stands; of an update the second place.
    pub(super) fn newest(&self) -> Position {
        Position { ordinal: self.position.ordinal + u32::from(self.op == Op::Update), ..self.position }
    }
}

/// Fills unchanged out-of-line values from the old row, where that is known.
pub fn fill_unchanged(new: &mut [Cell], old: &[Cell], full: bool) {
    for (new, old) in new.iter_mut().zip(old) {
        let known = full || matches!(old, Cell::Text { .. });
        if *new == Cell::Unchanged && known {
            *new = *old;
        }
    }
}

/// Why a contract gets no record of a change.
pub(super) enum Fault {
    /// Nobody gets one: the daemon stops.
    Stop(Error),
    /// The contract is to be parked.
    Break(Error, Option<String>),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Stop(error)
    }
}

/// The key of a row.
#[derive(Clone, Copy)]
pub(super) enum Key {
    /// The contract has none, or the change does not carry the row.
    None,
    Good(Span),
    /// It does not fit, so no record can carry it. The hash is of the row's own texts.
    Bad(ValueError, KeyHash),
}

/// Appends records and tells which keys they touch.
pub struct Writer<'a> {
    /// Where records go.
    pub batch: &'a mut Batch,
    /// Counts per contract.
    pub contracts: &'a mut [Contract],
    /// Collects key hashes of contracts that are being copied, while there are such.
    pub touched: Option<&'a mut Touched>,
    /// Seals what cannot be published; absent without a key.
    pub sealer: Option<&'a mut Sealer>,
    /// How the cells are laid out.
    pub table: &'a TableVersion,
    /// From where on the table looks so.
    pub since: Position,
    /// Most keys of a dead set.
    pub dead_keys: usize,
    /// True once a contract was parked: what was compiled for it is out of date.
    pub parked: bool,
}

impl Writer<'_> {
    /// Writes a row event for every contract; returns the number of records.
    pub fn write(&mut self, compiled: &[Compiled], event: &RowEvent<'_>) -> Result<u32> {
        let mut records = 0;
        for one in compiled {
            records += match event.supplied {
                // A log tells what was, and a parked row is kept as it came.
                Some(_) if !one.takes_rereads() => self.write_one(one, &event.as_sent())?,
                _ => self.write_one(one, event)?,
            };
        }
        Ok(records)
    }

    /// Writes a snapshot row for every contract, unless its key is among `unseen`; returns the number of records. A
    /// contract that it breaks is parked, and gets no snapshot row.
    pub fn write_unless_touched(
        &mut self,
        compiled: &[Compiled],
        event: &RowEvent<'_>,
        unseen: &HashSet<KeyHash>,
    ) -> Result<u32> {
        let mut records = 0;
        for one in compiled {
            let Mapping::Live(projection) = &one.mapping else { continue };
            if self.parked && self.contracts.get(one.contract).is_some_and(|contract| contract.entry.is_parked()) {
                continue;
            }
            let mark = self.batch.mark();
            match self.read(one, projection, event, unseen) {
                Ok(written) => records += written,
                Err(Fault::Stop(error)) => return Err(error),
                Err(Fault::Break(error, field)) => self.break_off(one, error, field, event, mark)?,
            }
        }
        Ok(records)
    }

    fn read(
        &mut self,
        one: &Compiled,
        projection: &Projection,
        event: &RowEvent<'_>,
        unseen: &HashSet<KeyHash>,
    ) -> Result<u32, Fault> {
        let Some(row) = event.new else { return Ok(0) };
        let mark = self.batch.mark();
        let key = self.key(one, projection, row)?;
        if self.touched_hash(one, key).is_some_and(|hash| unseen.contains(&hash)) {
            self.batch.truncate(mark);
            return Ok(0);
        }
        self.write_row(one, projection, event, row, key)
    }

    fn write_one(&mut self, one: &Compiled, event: &RowEvent<'_>) -> Result<u32> {
        let Mapping::Live(projection) = &one.mapping else { return self.park_row(one, event) };
        let mark = self.batch.mark();
        match self.publish(one, projection, event) {
            Ok(records) => Ok(records),
            Err(Fault::Stop(error)) => Err(error),
            Err(Fault::Break(error, field)) => {
                // The whole change is parked, so nothing of it may be in the topic.
                self.break_off(one, error, field, event, mark)?;
                self.park_row(one, event)
            }
        }
    }

    fn break_off(
        &mut self,
        one: &Compiled,
        error: Error,
        field: Option<String>,
        event: &RowEvent<'_>,
        mark: (usize, usize),
    ) -> Result<()> {
        self.batch.truncate(mark);
        if let Some(contract) = self.contracts.get_mut(one.contract) {
            contract.dead.undo(mark.1);
            contract.park(error, field, event.position, Some(event.timestamp))?;
        }
        self.parked = true;
        Ok(())
    }

    fn publish(&mut self, one: &Compiled, projection: &Projection, event: &RowEvent<'_>) -> Result<u32, Fault> {
        let old_key = match event.old {
            Some(old) => self.key(one, projection, old)?,
            None => Key::None,
        };
        let Some(new) = event.new else {
            self.delete(one, projection, event, old_key)?;
            return Ok(1);
        };
        if !projection.has_key() && event.op != Op::Create && event.op != Op::Read {
            return Err(Fault::Break(self.keyless(one), None));
        }
        let key = self.key(one, projection, new)?;
        let moved = match (old_key, key) {
            (Key::Good(old), Key::Good(new)) => self.batch.slice(old) != self.batch.slice(new),
            (Key::Good(_), Key::Bad(..)) => true,
            // Under the old key there is no record that would have to go.
            (Key::Bad(_, old), Key::Good(_)) => {
                self.revive(one, old, event.position, event.timestamp);
                false
            }
            (Key::Bad(_, old), Key::Bad(_, new)) => {
                if old != new {
                    self.revive(one, old, event.position, event.timestamp);
                }
                false
            }
            _ => false,
        };
        if moved {
            self.delete(one, projection, event, old_key)?;
        }
        let written = self.write_row(one, projection, event, new, key)?;
        Ok(written + u32::from(moved))
    }

    /// Writes the record of the row as it is, or a dead letter for it; nothing if it lacks a value and is gone. Returns the
    /// number of records.
    fn write_row(
        &mut self,
        one: &Compiled,
        projection: &Projection,
        event: &RowEvent<'_>,
        row: Row<'_>,
        key: Key,
    ) -> Result<u32, Fault> {
        let position = event.newest();
        let key = match key {
            Key::None => None,
            Key::Good(span) => Some(span),
            Key::Bad(error, hash) => {
                self.dead_letter(one, projection, event, event.op, position, error, None, Some(hash))?;
                return Ok(1);
            }
        };
        match self.value(one, projection, row)? {
            Ok(value) => {
                self.push(one, event, event.op, key, Some(value), position);
                self.mark_reread(one, projection, event)?;
            }
            Err(error) if error.reason == Reason::Unchanged && event.is_gone() => {
                self.supersede(one, key);
                return Ok(0);
            }
            Err(error) => {
                let hash = key.map(|key| dead_hash(self.batch.slice(key)));
                self.dead_letter(one, projection, event, event.op, position, error, key, hash)?;
            }
        }
        Ok(1)
    }

    fn delete(&mut self, one: &Compiled, projection: &Projection, event: &RowEvent<'_>, key: Key) -> Result<(), Fault> {
        let position = event.position;
        let (key, old) = match (key, event.old) {
            (Key::Good(key), Some(old)) => (key, old),
            (Key::Bad(error, hash), Some(_)) => {
                self.dead_letter(one, projection, event, Op::Delete, position, error, None, None)?;
                // The topic never had it, and the table has it no more.
                self.revive(one, hash, position, event.timestamp);
                return Ok(());
            }
            _ if !projection.has_key() => return Err(Fault::Break(self.keyless(one), None)),
            _ => return Err(Fault::Break(self.no_old_row(one), None)),
        };
        let value = match one.kind {
            ContractKind::State => None,
            // A null value would hide the row from readers that keep every change.
            ContractKind::Log => match self.value(one, projection, old)? {
                Ok(value) => Some(value),
                Err(error) => {
                    let hash = dead_hash(self.batch.slice(key));
                    return self.dead_letter(
                        one,
                        projection,
                        event,
                        Op::Delete,
                        position,
                        error,
                        Some(key),
                        Some(hash),
                    );
                }
            },
        };
        self.push(one, event, Op::Delete, Some(key), value, position);
        Ok(())
    }

    pub(super) fn key(&mut self, one: &Compiled, projection: &Projection, row: Row<'_>) -> Result<Key, Fault> {
        if !projection.has_key() {
            return Ok(Key::None);
        }
        let start = self.batch.bytes.len();
        match projection.key(row, &mut self.batch.bytes) {
            Ok(()) => Ok(Key::Good(self.span(start)?)),
            Err(error) => {
                self.batch.bytes.truncate(start);
                let error = self.refuse(one, projection, error)?;
                Ok(Key::Bad(error, bad_key_hash(projection, row)))
            }
        }
    }

    fn value(
        &mut self,
        one: &Compiled,
        projection: &Projection,
        row: Row<'_>,
    ) -> Result<Result<Span, ValueError>, Fault> {
        let start = self.batch.bytes.len();
        match projection.value(row, &mut self.batch.bytes) {
            Ok(()) => Ok(Ok(self.span(start)?)),
            Err(error) => {
                self.batch.bytes.truncate(start);
                self.refuse(one, projection, error).map(Err)
            }
        }
    }

    /// What becomes of a value that cannot be published: a dead letter, unless it breaks the contract or its author wants
    /// something else.
    #[cold]
    fn refuse(&self, one: &Compiled, projection: &Projection, error: ValueError) -> Result<ValueError, Fault> {
        let contract = self.contracts.get(one.contract);
        let break_off = || {
            let field = contract.and_then(|contract| contract.field_name(error.field)).map(str::to_owned);
            Fault::Break(projection.describe(&error), field)
        };
        match error.reason {
            Reason::Null => Err(break_off()),
            // The value is fine, only nobody sent it.
            Reason::Unchanged => Ok(error),
            _ => match contract.and_then(|contract| contract.on_error(error.field)) {
                Some(OnError::Park) => Err(break_off()),
                Some(OnError::Stop) => Err(Fault::Stop(projection.describe(&error))),
                Some(OnError::DeadLetter | OnError::Default) | None => Ok(error),
            },
        }
    }

    pub(super) fn span(&self, start: usize) -> Result<Span> {
        match (u32::try_from(start), u32::try_from(self.batch.bytes.len() - start)) {
            (Ok(start), Ok(len)) => Ok(Span { start, len }),
            _ => Err(Error::definite(Code::MessageTooLarge, "a batch would exceed 4 GiB")),
        }
    }

    /// The hash under which a key counts as touched by a transaction.
    fn touched_hash(&self, one: &Compiled, key: Key) -> Option<KeyHash> {
        match key {
            Key::None => None,
            Key::Good(span) => Some(key_hash(one.topic.0, self.batch.slice(span))),
            Key::Bad(_, hash) => Some(hash ^ KeyHash::from(one.topic.0)),
        }
    }

    pub(super) fn touch(&mut self, one: &Compiled, hash: KeyHash) {
        if let Some(touched) = self.touched.as_deref_mut()
            && self.contracts.get(one.contract).is_some_and(Contract::copied)
        {
            touched.push(hash);
        }
    }

    pub(super) fn push(
        &mut self,
        one: &Compiled,
        event: &RowEvent<'_>,
        op: Op,
        key: Option<Span>,
        value: Option<Span>,
        position: Position,
    ) {
        if let Some(key) = key
            && self.touched.is_some()
        {
            self.touch(one, key_hash(one.topic.0, self.batch.slice(key)));
        }
        if let Some(contract) = self.contracts.get_mut(one.contract) {
            contract.records += 1;
            if !contract.dead.is_empty()
                && let Some(key) = key
            {
                let hash = dead_hash(self.batch.slice(key));
                self.revive(one, hash, position, event.timestamp);
            }
        }
        self.push_record(one.topic, event.timestamp, op, key, value, position);
    }

    pub(super) fn push_record(
        &mut self,
        topic: TopicId,
        timestamp: i64,
        op: Op,
        key: Option<Span>,
        value: Option<Span>,
        position: Position,
    ) {
        self.batch.records.push(Record { topic, op, position, timestamp, key, value, last: false, reread: None });
    }

    /// The topic shows the key's newest row again, or rightly none.
    fn revive(&mut self, one: &Compiled, hash: KeyHash, position: Position, timestamp: i64) {
        let records = self.batch.records.len();
        if let Some(contract) = self.contracts.get_mut(one.contract) {
            contract.dead.remove(hash, Place { position, timestamp, records });
        }
    }

    #[allow(clippy::too_many_arguments)]
    #[cold]
    fn dead_letter(
        &mut self,
        one: &Compiled,
        projection: &Projection,
        event: &RowEvent<'_>,
        op: Op,
        position: Position,
        error: ValueError,
        key: Option<Span>,
        hash: Option<KeyHash>,
    ) -> Result<(), Fault> {
        let Some(aside) = self.contracts.get(one.contract).and_then(|contract| contract.aside) else {
            return Err(Fault::Stop(unsealed(projection.describe(&error))));
        };
        let (reason, index) = (error.reason.code(), error.field);
        let field = self.contracts.get(one.contract).and_then(|c| c.field_name(index)).map(str::to_owned);
        let masked = key.and_then(|key| self.mask(key));
        let event = RowEvent { position, ..*event };
        let value = self.parcel(one, &event, op.letter(), reason, field.as_deref(), masked, aside.dead_schema)?;
        if let Some(hash) = hash {
            let touched = match key {
                Some(key) => key_hash(one.topic.0, self.batch.slice(key)),
                None => hash ^ KeyHash::from(one.topic.0),
            };
            self.touch(one, touched);
            let place = Place { position, timestamp: event.timestamp, records: self.batch.records.len() };
            let max = self.dead_keys;
            if let Some(contract) = self.contracts.get_mut(one.contract)
                && !contract.dead.add(hash, max, place)
            {
                contract.overflows += 1;
                contract.dirty |= !contract.entry.unlevel;
                contract.entry.unlevel = true;
            }
        }
        self.push_record(aside.dead, event.timestamp, op, None, Some(value), position);
        if let Some(contract) = self.contracts.get_mut(one.contract) {
            *contract.dead_letters.entry(reason).or_default() += 1;
        }
        Ok(())
    }

    /// A key as parcels show it.
    pub(super) fn mask(&self, key: Span) -> Option<String> {
        let key = self.batch.slice(key).get(FRAME_BYTES..)?;
        self.sealer.as_deref().map(|sealer| sealer.key().mask(key))
    }

    fn label(&self, one: &Compiled) -> String {
        self.contracts.get(one.contract).map(Contract::label).unwrap_or_default()
    }

    fn no_old_row(&self, one: &Compiled) -> Error {
        Error::definite(
            Code::ReplicaIdentityLost,
            format!("a delete carries no old row, contract `{}` needs its key", self.label(one)),
        )
        .hint("set REPLICA IDENTITY DEFAULT (with a primary key), USING INDEX or FULL on the table")
    }

    fn keyless(&self, one: &Compiled) -> Error {
        Error::definite(
            Code::ReplicaIdentityLost,
            format!("contract `{}` has no key and takes inserts only, an update or delete arrived", self.label(one)),
        )
        .hint("give the contract a key, or stop changing rows of the append-only table")
    }
}

/// The hash of a record's key in a dead set: of the key alone, so that it stays when topics get other numbers.
pub(super) fn dead_hash(key: &[u8]) -> KeyHash {
    xxhash_rust::xxh3::xxh3_128(key.get(FRAME_BYTES..).unwrap_or_default())
}

/// The hash of a key that no record can carry: of the texts that make it.
fn bad_key_hash(projection: &Projection, row: Row<'_>) -> KeyHash {
    let mut hasher = xxhash_rust::xxh3::Xxh3::with_seed(1);
    for place in projection.key_places() {
        let text = match row.get(*place) {
            Datum::Text(text) => text,
            Datum::Null | Datum::Unchanged => &[],
        };
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.digest128()
}
