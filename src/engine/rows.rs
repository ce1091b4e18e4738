//! One row event → records in the batch, for every contract that reads the table.

use std::collections::HashSet;

use crate::batch::{Batch, Op, Record, Span};
use crate::contract::ContractKind;
use crate::engine::delivered::{KeyHash, Touched, key_hash};
use crate::engine::table::{Compiled, Contract};
use crate::error::{Code, Error, Result};
use crate::position::Position;
use crate::row::{Cell, Row};

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

/// Appends records and tells which keys they touch.
pub struct Writer<'a> {
    /// Where records go.
    pub batch: &'a mut Batch,
    /// Counts per contract.
    pub contracts: &'a mut [Contract],
    /// Collects key hashes of contracts that are being copied, while there are such.
    pub touched: Option<&'a mut Touched>,
}

impl Writer<'_> {
    /// Writes a row event for every contract; returns the number of records.
    pub fn write(&mut self, compiled: &[Compiled], event: &RowEvent<'_>) -> Result<u32> {
        let mut records = 0;
        for one in compiled {
            records += self.write_one(one, event)?;
        }
        Ok(records)
    }

    /// Writes a snapshot row for every contract, unless its key is among `unseen`; returns the number of records.
    pub fn write_unless_touched(
        &mut self,
        compiled: &[Compiled],
        event: &RowEvent<'_>,
        unseen: &HashSet<KeyHash>,
    ) -> Result<u32> {
        let Some(row) = event.new else { return Ok(0) };
        let mut records = 0;
        for one in compiled {
            let mark = self.batch.mark();
            let key = self.key(one, row)?;
            if key.is_some_and(|key| unseen.contains(&key_hash(one.topic.0, self.batch.slice(key)))) {
                self.batch.truncate(mark);
                continue;
            }
            let value = self.value(one, row)?;
            self.push(one, event, event.op, key, Some(value), event.position);
            records += 1;
        }
        Ok(records)
    }

    fn write_one(&mut self, one: &Compiled, event: &RowEvent<'_>) -> Result<u32> {
        let old_key = match event.old {
            Some(old) => self.key(one, old)?,
            None => None,
        };
        let Some(new) = event.new else {
            return self.delete(one, event, old_key, event.position);
        };
        let key = self.key(one, new)?;
        let moved = matches!((old_key, key), (Some(old), Some(new)) if self.batch.slice(old) != self.batch.slice(new));
        let mut records = 0;
        if moved {
            records += self.delete(one, event, old_key, event.position)?;
        }
        if !one.projection.has_key() && event.op != Op::Create && event.op != Op::Read {
            return Err(self.keyless(one));
        }
        let value = self.value(one, new)?;
        let ordinal = event.position.ordinal + u32::from(event.op == Op::Update);
        let position = Position { ordinal, ..event.position };
        self.push(one, event, event.op, key, Some(value), position);
        Ok(records + 1)
    }

    fn delete(&mut self, one: &Compiled, event: &RowEvent<'_>, key: Option<Span>, position: Position) -> Result<u32> {
        let (Some(key), Some(old)) = (key, event.old) else {
            return Err(if !one.projection.has_key() { self.keyless(one) } else { self.no_old_row(one) });
        };
        let value = match one.kind {
            ContractKind::State => None,
            // A null value would hide the row from readers that keep every change.
            ContractKind::Log => Some(self.value(one, old)?),
        };
        self.push(one, event, Op::Delete, Some(key), value, position);
        Ok(1)
    }

    fn key(&mut self, one: &Compiled, row: Row<'_>) -> Result<Option<Span>> {
        if !one.projection.has_key() {
            return Ok(None);
        }
        let start = self.batch.bytes.len();
        match one.projection.key(row, &mut self.batch.bytes) {
            Ok(()) => Ok(Some(self.span(start)?)),
            Err(error) => Err(one.projection.describe(&error)),
        }
    }

    fn value(&mut self, one: &Compiled, row: Row<'_>) -> Result<Span> {
        let start = self.batch.bytes.len();
        match one.projection.value(row, &mut self.batch.bytes) {
            Ok(()) => self.span(start),
            Err(error) => Err(one.projection.describe(&error)),
        }
    }

    fn span(&self, start: usize) -> Result<Span> {
        match (u32::try_from(start), u32::try_from(self.batch.bytes.len() - start)) {
            (Ok(start), Ok(len)) => Ok(Span { start, len }),
            _ => Err(Error::definite(Code::MessageTooLarge, "a batch would exceed 4 GiB")),
        }
    }

    fn push(
        &mut self,
        one: &Compiled,
        event: &RowEvent<'_>,
        op: Op,
        key: Option<Span>,
        value: Option<Span>,
        position: Position,
    ) {
        if let (Some(touched), Some(key)) = (self.touched.as_deref_mut(), key)
            && self.contracts.get(one.contract).is_some_and(Contract::copied)
        {
            touched.push(key_hash(one.topic.0, self.batch.slice(key)));
        }
        self.batch.records.push(Record {
            topic: one.topic,
            op,
            position,
            timestamp: event.timestamp,
            key,
            value,
            last: false,
        });
        if let Some(contract) = self.contracts.get_mut(one.contract) {
            contract.records += 1;
        }
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
