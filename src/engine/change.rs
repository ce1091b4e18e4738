//! Row events: counted, projected, written.

use crate::batch::{Batch, Op};
use crate::engine::copying::next_ordinal;
use crate::engine::reread::Supply;
use crate::engine::rows::{RowEvent, Writer, fill_unchanged};
use crate::engine::transaction::{Skip, protocol};
use crate::engine::{Engine, Request, Step};
use crate::error::Result;
use crate::pgoutput::{OldTuple, Tuple};
use crate::position::Position;
use crate::row::{Cell, Row};
use crate::state::PositionEntry;
use crate::table::{RelationId, TableVersion};

/// A row event as the message carries it.
struct Change<'a> {
    relation: RelationId,
    op: Op,
    new: Option<Tuple<'a>>,
    old: Option<OldTuple<'a>>,
    ordinals: u32,
}

/// Which rows of a change are there.
#[derive(Clone, Copy, Default)]
struct Tuples {
    new: bool,
    old: bool,
}

impl Engine {
    pub(super) fn insert(
        &mut self,
        bytes: &[u8],
        relation: RelationId,
        new: Tuple<'_>,
        batch: &mut Batch,
        requests: &mut Vec<Request>,
    ) -> Result<Step> {
        self.change(bytes, Change { relation, op: Op::Create, new: Some(new), old: None, ordinals: 1 }, batch, requests)
    }

    pub(super) fn update(
        &mut self,
        bytes: &[u8],
        relation: RelationId,
        old: Option<OldTuple<'_>>,
        new: Tuple<'_>,
        batch: &mut Batch,
        requests: &mut Vec<Request>,
    ) -> Result<Step> {
        // Two ordinals, used or not: a moved key is a delete and an update.
        self.change(bytes, Change { relation, op: Op::Update, new: Some(new), old, ordinals: 2 }, batch, requests)
    }

    pub(super) fn delete(
        &mut self,
        bytes: &[u8],
        relation: RelationId,
        old: OldTuple<'_>,
        batch: &mut Batch,
        requests: &mut Vec<Request>,
    ) -> Result<Step> {
        self.change(bytes, Change { relation, op: Op::Delete, new: None, old: Some(old), ordinals: 1 }, batch, requests)
    }

    fn change(
        &mut self,
        bytes: &[u8],
        change: Change<'_>,
        batch: &mut Batch,
        requests: &mut Vec<Request>,
    ) -> Result<Step> {
        let full = self.full(batch);
        let Some(transaction) = &mut self.transaction else {
            return Err(protocol("a row event outside a transaction"));
        };
        let Some(index) = self.tables.index(change.relation) else { return Ok(Step::Done) };
        let Some(table) = self.tables.at(index).filter(|table| table.counted) else { return Ok(Step::Done) };
        if transaction.skip == Skip::All {
            return Ok(Step::Done);
        }
        let ordinal = transaction.ordinal;
        let after = next_ordinal(ordinal, change.ordinals)?;
        // Whoever stops in front of a row event must find a record behind it, which can be the transaction's last.
        if matches!(transaction.skip, Skip::Below(first) if ordinal < first) || table.readers.is_empty() {
            transaction.ordinal = after;
            return Ok(Step::Done);
        }
        let position = Position { epoch: self.position.epoch, commit_lsn: transaction.commit_lsn, ordinal };
        if full || !table.ready() {
            self.stand_at(position, batch);
            if full {
                return Ok(Step::Full);
            }
            if !self.prepare(index, position, requests)? {
                return Ok(Step::Wait);
            }
        }
        let tuples = self.decode(index, &change)?;
        let mut supply = Supply::None;
        if tuples.new && change.op == Op::Update && self.new_cells.contains(&Cell::Unchanged) {
            supply = self.supply(bytes, index, requests);
            if supply == Supply::Asked {
                self.stand_at(position, batch);
                return Ok(Step::Wait);
            }
        }
        self.write(bytes, index, (&change, tuples, supply), position, batch)?;
        if let Some(transaction) = &mut self.transaction {
            transaction.ordinal = after;
        }
        Ok(Step::Done)
    }

    /// Everything in the batch precedes this row event, so the checkpoint may name it.
    fn stand_at(&mut self, position: Position, batch: &Batch) {
        self.stand_before(position, batch.mark());
    }

    /// True if the checkpoint may name the place in front of this row event.
    fn stands_at(&self, position: Position) -> bool {
        let PositionEntry { commit_lsn, next_ordinal, complete, .. } = self.position;
        !complete && commit_lsn == position.commit_lsn && next_ordinal == position.ordinal
    }

    fn stand_before(&mut self, position: Position, mark: (usize, usize)) {
        self.position.commit_lsn = position.commit_lsn;
        self.position.next_ordinal = position.ordinal;
        self.position.complete = false;
        self.safe = mark;
    }

    /// Locates the cells, and fills unchanged ones from the old row.
    fn decode(&mut self, index: usize, change: &Change<'_>) -> Result<Tuples> {
        let Some(version) = self.tables.at(index).and_then(|table| table.version.as_ref()) else {
            return Ok(Tuples::default());
        };
        let columns = version.columns.len();
        let (new_cells, old_cells) = (&mut self.new_cells, &mut self.old_cells);
        let old = match &change.old {
            Some(OldTuple::Key(tuple)) => cells(tuple, columns, old_cells, version)?.then_some(false),
            Some(OldTuple::Full(tuple)) => cells(tuple, columns, old_cells, version)?.then_some(true),
            None => None,
        };
        let new = match &change.new {
            Some(tuple) => cells(tuple, columns, new_cells, version)?,
            None => false,
        };
        if let (true, Some(full)) = (new, old) {
            fill_unchanged(new_cells, old_cells, full);
        }
        Ok(Tuples { new, old: old.is_some() })
    }

    fn write(
        &mut self,
        bytes: &[u8],
        index: usize,
        (change, tuples, supply): (&Change<'_>, Tuples, Supply),
        position: Position,
        batch: &mut Batch,
    ) -> Result<()> {
        let stands = self.stands_at(position);
        let (Some(transaction), Some(table)) = (&mut self.transaction, self.tables.at(index)) else { return Ok(()) };
        let (Some(compiled), Some(version)) = (&table.compiled, &table.version) else { return Ok(()) };
        let sent = tuples.new.then_some(Row { buffer: bytes, cells: &self.new_cells });
        let (new, supplied) = self.rereads.supplied(supply, sent);
        let event = RowEvent {
            op: change.op,
            new,
            old: tuples.old.then_some(Row { buffer: bytes, cells: &self.old_cells }),
            position,
            timestamp: transaction.timestamp,
            supplied,
        };
        let mark = batch.mark();
        let touched = self.copies.active().then_some(&mut transaction.touched);
        let mut writer = Writer {
            batch,
            contracts: &mut self.contracts,
            touched,
            sealer: self.sealer.as_mut(),
            table: version,
            since: table.since,
            dead_keys: self.limits.dead_keys,
            parked: false,
        };
        let result = match writer.write(compiled, &event) {
            // A checkpoint may stand in front of it, and then something must follow that is the transaction's last.
            Ok(0) if supply == Supply::Gone && stands => writer.withdraw(compiled, &event),
            result => result,
        };
        let parked = writer.parked;
        match result {
            Ok(0) => {}
            Ok(_) => transaction.last_record = Some(batch.records.len() - 1),
            Err(error) => {
                batch.truncate(mark);
                self.undo_dead(mark.1);
                self.stand_at(position, batch);
                return Err(error.at(position));
            }
        }
        let kind = match change.op {
            Op::Create | Op::Read => 0,
            Op::Update => 1,
            Op::Delete => 2,
        };
        if let Some(count) = table.changes.get_mut(kind) {
            *count += 1;
        }
        if parked {
            // Where a contract was parked is in the checkpoint; so nothing before this row may be taken back any more.
            self.stand_before(position, mark);
            self.settle_parked();
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, relations: impl Iterator<Item = RelationId>, batch: &mut Batch) -> Result<Step> {
        for relation in relations {
            let Some(index) = self.tables.index(relation) else { continue };
            let Some(table) = self.tables.at(index).filter(|table| table.counted) else { continue };
            let Some(transaction) = &mut self.transaction else { continue };
            let ordinal = transaction.ordinal;
            match transaction.skip {
                Skip::All => continue,
                // Its repair is in the checkpoint that stands behind it.
                Skip::Below(first) if ordinal < first => transaction.ordinal = next_ordinal(ordinal, 1)?,
                Skip::Below(_) | Skip::Nothing if table.readers.is_empty() => {
                    transaction.ordinal = next_ordinal(ordinal, 1)?;
                }
                Skip::Below(_) | Skip::Nothing => {
                    transaction.ordinal = next_ordinal(ordinal, 1)?;
                    // A chunk whose snapshot does not see it shows rows that are gone.
                    transaction.touched.all();
                    table.changes[3] += 1;
                    let position = Position { epoch: self.position.epoch, commit_lsn: transaction.commit_lsn, ordinal };
                    self.truncated(relation, position);
                    self.park_truncate(index, position, batch)?;
                }
            }
        }
        Ok(Step::Done)
    }
}

/// Cells of a tuple; false never: the count is checked against the version.
fn cells(tuple: &Tuple<'_>, columns: usize, out: &mut Vec<Cell>, version: &TableVersion) -> Result<bool> {
    tuple.cells(out);
    if out.len() == columns {
        return Ok(true);
    }
    Err(protocol(&format!("a row of `{}` has {} columns, its relation lists {columns}", version.name, out.len())))
}
