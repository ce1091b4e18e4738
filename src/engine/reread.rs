//! Values that the stream does not carry: out-of-line ones that an update left alone, read again by the row's key.
//!
//! What is read at a later time is right for every event before that time, or is corrected by an event that follows: whoever
//! changes the value, the key or the row afterwards is in the stream, and carries the value or is read again itself. So
//! the topic converges to the table. A row that is gone has its delete or its move further on: its update is superseded.
//!
//! One answer serves every later event of the same key whose transaction its snapshot sees. (A position in the log would not
//! do: a transaction whose commit is written and not yet visible may have changed the value before it left it alone.)

use std::collections::HashMap;

use crate::batch::{Op, Span};
use crate::contract::ContractKind;
use crate::engine::delivered::KeyHash;
use crate::engine::io::{Request, Reread};
use crate::engine::limits::Limits;
use crate::engine::rows::{Fault, Key, RowEvent, Writer, fill_unchanged};
use crate::engine::table::{Compiled, Mapping};
use crate::engine::{Engine, Table};
use crate::error::Result;
use crate::pgoutput::{self, Message, OldTuple};
use crate::projection::Projection;
use crate::row::{Cell, Datum, Row};
use crate::table::{ColumnImage, ColumnKind, RelationId, SourceType, TableVersion, VersionColumn};

/// What became of the values that a row event lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Supply {
    /// Nobody needs one, or it cannot be had.
    None,
    /// They are asked for.
    Asked,
    /// They were read.
    Filled,
    /// The row is gone.
    Gone,
}

/// What a row event lacked and was read again.
#[derive(Clone, Copy, Debug)]
pub struct Supplied<'a> {
    /// The row as the stream sent it.
    sent: Row<'a>,
    /// Places that were filled.
    places: &'a [usize],
    /// True if the row is gone instead.
    gone: bool,
}

impl<'a> RowEvent<'a> {
    /// The event without what was read again.
    pub(super) fn as_sent(&self) -> RowEvent<'a> {
        let sent = self.supplied.map(|supplied| supplied.sent);
        RowEvent { new: sent.or(self.new), supplied: None, ..*self }
    }

    /// True if the row lacks a value and is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.supplied.is_some_and(|supplied| supplied.gone)
    }
}

impl Compiled {
    /// Whether a value of another time may stand for one that the stream does not carry.
    pub(super) fn takes_rereads(&self) -> bool {
        self.kind == ContractKind::State && matches!(self.mapping, Mapping::Live(_))
    }
}

/// What was asked for and not yet answered.
#[derive(Debug)]
struct Asked {
    relation: RelationId,
    /// Hashes of the keys, in the request's order.
    hashes: Vec<KeyHash>,
    /// Attribute numbers.
    attnums: Vec<i16>,
}

/// The newest answer.
#[derive(Debug)]
struct Answer {
    read: Reread,
    /// What was asked for, whether or not it is still there.
    attnums: Vec<i16>,
    /// By key: the number of its row, if it has one.
    rows: HashMap<KeyHash, Option<usize>>,
}

/// What one event lacks.
struct Lack {
    /// Places that a contract reads.
    places: Vec<usize>,
    /// Their attribute numbers.
    attnums: Vec<i16>,
    /// Attribute numbers of the key.
    key: Vec<i16>,
    /// Its texts.
    texts: Vec<String>,
    hash: KeyHash,
}

/// Rows read again: the question that is out, and the last answer.
#[derive(Debug)]
pub(super) struct Rereads {
    limits: Limits,
    /// Most keys of the next question.
    keys_max: usize,
    asked: Option<Asked>,
    answer: Option<Answer>,
    /// A message, with the values that it lacks behind it.
    buffer: Vec<u8>,
    cells: Vec<Cell>,
    places: Vec<usize>,
}

impl Rereads {
    /// Nothing is known.
    pub(super) fn new(limits: Limits) -> Rereads {
        let (asked, answer, buffer, cells, places) = (None, None, Vec::new(), Vec::new(), Vec::new());
        Rereads { limits, keys_max: limits.reread_keys, asked, answer, buffer, cells, places }
    }

    /// Takes an answer; the one before is forgotten.
    pub(super) fn answer(&mut self, read: Reread) {
        let Some(Asked { hashes, attnums, .. }) = self.asked.take() else { return };
        // Long rows: fewer of them next time, in the end one, of which an answer is never cut.
        self.keys_max = match read.cut {
            true => (read.found.len() / 2).max(1),
            false => (self.keys_max * 2).min(self.limits.reread_keys),
        };
        let mut rows: HashMap<KeyHash, Option<usize>> = HashMap::with_capacity(hashes.len());
        if !read.cut {
            rows.extend(hashes.iter().map(|hash| (*hash, None)));
        }
        let found = read.found.iter().enumerate();
        rows.extend(found.filter_map(|(row, key)| Some((*hashes.get(*key)?, Some(row)))));
        self.answer = Some(Answer { read, attnums, rows });
    }

    /// The row as it is to be published, and what was done to it.
    pub(super) fn supplied<'a>(
        &'a self,
        supply: Supply,
        sent: Option<Row<'a>>,
    ) -> (Option<Row<'a>>, Option<Supplied<'a>>) {
        match (supply, sent) {
            (Supply::Filled, Some(sent)) => {
                let row = Row { buffer: &self.buffer, cells: &self.cells };
                (Some(row), Some(Supplied { sent, places: &self.places, gone: false }))
            }
            (Supply::Gone, Some(sent)) => (Some(sent), Some(Supplied { sent, places: &[], gone: true })),
            _ => (sent, None),
        }
    }

    /// What the newest answer says of a row; nothing if it says nothing.
    fn look_up(&self, relation: RelationId, lack: &Lack, xid: crate::lsn::Xid) -> Option<(&Answer, Option<usize>)> {
        let answer = self.answer.as_ref().filter(|answer| answer.read.relation == relation)?;
        let asked = lack.attnums.iter().all(|attnum| answer.attnums.contains(attnum));
        let known = asked && answer.read.snapshot.sees(xid);
        answer.rows.get(&lack.hash).filter(|_| known).map(|row| (answer, *row))
    }

    /// Puts the values behind the message. False if none can be had.
    fn fill(&mut self, bytes: &[u8], sent: &[Cell], lack: &Lack, row: usize, version: &TableVersion) -> bool {
        let Some(Answer { read, .. }) = &self.answer else { return false };
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.cells.clear();
        self.cells.extend_from_slice(sent);
        self.places.clear();
        for (place, attnum) in lack.places.iter().zip(&lack.attnums) {
            let now = read.image.as_ref().and_then(|image| image.attnum(*attnum));
            let alike = now.zip(version.columns.get(*place)).is_some_and(|(now, then)| prints_alike(now, then));
            let column = read.attnums.iter().position(|read| read == attnum).filter(|_| alike);
            let cell = column.and_then(|column| read.cells.get(row * read.attnums.len() + column));
            let (Some(cell), Some(target)) = (cell, self.cells.get_mut(*place)) else { continue };
            let cells = std::slice::from_ref(cell);
            *target = match (Row { buffer: &read.buffer, cells }).get(0) {
                Datum::Text(text) => match (u32::try_from(self.buffer.len()), u32::try_from(text.len())) {
                    (Ok(start), Ok(len)) => {
                        self.buffer.extend_from_slice(text);
                        Cell::Text { start, len }
                    }
                    _ => continue,
                },
                Datum::Null => Cell::Null,
                Datum::Unchanged => continue,
            };
            self.places.push(*place);
        }
        !self.places.is_empty()
    }
}

impl Engine {
    /// Finds the values that the row in `new_cells` lacks and a contract reads.
    #[cold]
    pub(super) fn supply(&mut self, bytes: &[u8], index: usize, requests: &mut Vec<Request>) -> Supply {
        let (Some(transaction), Some(table)) = (&self.transaction, self.tables.at(index)) else { return Supply::None };
        let Some(lack) = lack(table, Row { buffer: bytes, cells: &self.new_cells }) else { return Supply::None };
        let Some(version) = &table.version else { return Supply::None };
        match self.rereads.look_up(table.relation, &lack, transaction.xid) {
            // A table or column that is gone is for the stream to tell, further on. Here its value is not known.
            Some((answer, _)) if answer.read.image.is_none() => Supply::None,
            Some((_, None)) => Supply::Gone,
            Some((_, Some(row))) => match self.rereads.fill(bytes, &self.new_cells, &lack, row, version) {
                true => Supply::Filled,
                false => Supply::None,
            },
            None => {
                if self.rereads.asked.is_none() {
                    let relation = table.relation;
                    self.rereads.asked =
                        Some(Asked { relation, hashes: vec![lack.hash], attnums: lack.attnums.clone() });
                    requests.push(Request::Reread {
                        relation,
                        key: lack.key,
                        keys: vec![lack.texts],
                        attnums: lack.attnums,
                        sees: transaction.xid_short,
                        bytes_max: self.limits.reread_bytes,
                    });
                }
                Supply::Asked
            }
        }
    }

    /// Shows a message that is still to come, so that one query reads the rows of many. Call it with the messages behind the
    /// one that waits, in their order, until it says that it has seen enough.
    pub fn look_ahead(&mut self, bytes: &[u8], requests: &mut [Request]) -> bool {
        let Some(asked) = &mut self.rereads.asked else { return false };
        let (relation, old, new) = match pgoutput::decode(bytes) {
            Ok(Message::Update { relation, old, new }) if relation == asked.relation => (relation, old, new),
            // Its columns may have moved.
            Ok(Message::Relation(relation)) => return relation.relation != asked.relation,
            Ok(_) => return true,
            Err(_) => return false,
        };
        let question = requests.iter_mut().rev().find(|request| matches!(request, Request::Reread { .. }));
        let Some(Request::Reread { key, keys, attnums, .. }) = question else { return false };
        if keys.len() >= self.rereads.keys_max {
            return false;
        }
        new.cells(&mut self.new_cells);
        if let Some(old) = old {
            old.tuple().cells(&mut self.old_cells);
            fill_unchanged(&mut self.new_cells, &self.old_cells, matches!(old, OldTuple::Full(_)));
        }
        if !self.new_cells.contains(&Cell::Unchanged) {
            return true;
        }
        let Some(table) = self.tables.get(relation) else { return false };
        let Some(lack) = lack(table, Row { buffer: bytes, cells: &self.new_cells }) else { return true };
        if lack.key == *key && !asked.hashes.contains(&lack.hash) {
            asked.hashes.push(lack.hash);
            keys.push(lack.texts);
            for attnum in lack.attnums {
                if !attnums.contains(&attnum) {
                    attnums.push(attnum);
                    asked.attnums.push(attnum);
                }
            }
        }
        true
    }
}

impl Writer<'_> {
    /// Names the fields of the newest record that were read again.
    pub(super) fn mark_reread(
        &mut self,
        one: &Compiled,
        projection: &Projection,
        event: &RowEvent<'_>,
    ) -> Result<(), Fault> {
        let Some(supplied) = event.supplied else { return Ok(()) };
        let start = self.batch.bytes.len();
        for (number, name) in projection.fields_reading(supplied.places).enumerate() {
            if number > 0 {
                self.batch.bytes.push(b',');
            }
            self.batch.bytes.extend_from_slice(name.as_bytes());
        }
        let span = self.span(start)?;
        if span.len > 0 {
            if let Some(record) = self.batch.records.last_mut() {
                record.reread = Some(span);
            }
            if let Some(contract) = self.contracts.get_mut(one.contract) {
                contract.rereads += 1;
            }
        }
        Ok(())
    }

    /// The update of a row that is gone: what follows in the stream says where to.
    pub(super) fn supersede(&mut self, one: &Compiled, key: Option<Span>) {
        // A chunk that was read before it shows the row still.
        if let Some(key) = key
            && self.touched.is_some()
        {
            self.touch(one, super::delivered::key_hash(one.topic.0, self.batch.slice(key)));
        }
        if let Some(contract) = self.contracts.get_mut(one.contract) {
            contract.superseded += 1;
        }
    }

    /// Writes a tombstone for a row that is gone, ahead of the one that the stream has.
    pub(super) fn withdraw(&mut self, compiled: &[Compiled], event: &RowEvent<'_>) -> Result<u32> {
        for one in compiled.iter().filter(|one| one.takes_rereads()) {
            let (Mapping::Live(projection), Some(row)) = (&one.mapping, event.new) else { continue };
            match self.key(one, projection, row) {
                Ok(Key::Good(key)) => {
                    self.push(one, event, Op::Delete, Some(key), None, event.newest());
                    return Ok(1);
                }
                Ok(Key::None | Key::Bad(..)) => {}
                Err(Fault::Stop(error) | Fault::Break(error, _)) => return Err(error),
            }
        }
        Ok(0)
    }
}

/// What a row lacks; nothing if nobody reads it, or if it cannot be found again.
fn lack(table: &Table, row: Row<'_>) -> Option<Lack> {
    let (compiled, version) = (table.compiled.as_ref()?, table.version.as_ref()?);
    let mut places: Vec<usize> = Vec::new();
    let mut finder = None;
    for one in compiled.iter().filter(|one| one.takes_rereads()) {
        let Mapping::Live(projection) = &one.mapping else { continue };
        let unchanged = row.cells.iter().enumerate().filter(|(_, cell)| **cell == Cell::Unchanged);
        let reads: Vec<usize> = unchanged.map(|(place, _)| place).filter(|place| projection.reads(*place)).collect();
        if !reads.is_empty() {
            finder = finder.or(Some(projection));
        }
        places.extend(reads);
    }
    places.sort_unstable();
    places.dedup();
    let finder = finder?;
    let attnum = |place: &usize| version.columns.get(*place)?.attnum;
    let attnums = places.iter().map(attnum).collect::<Option<Vec<i16>>>()?;
    let key = finder.key_places().iter().map(attnum).collect::<Option<Vec<i16>>>()?;
    let text = |place: &usize| match row.get(*place) {
        Datum::Text(text) => std::str::from_utf8(text).ok().map(str::to_owned),
        Datum::Null | Datum::Unchanged => None,
    };
    let texts = finder.key_places().iter().map(text).collect::<Option<Vec<String>>>()?;
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for (attnum, text) in key.iter().zip(&texts) {
        hasher.update(&attnum.to_le_bytes());
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    let hash = hasher.digest128();
    (!key.is_empty()).then_some(Lack { places, attnums, key, texts, hash })
}

/// Whether a column's values look today as they did in that version. With another type they may be others altogether.
fn prints_alike(now: &ColumnImage, then: &VersionColumn) -> bool {
    let text = |source: &SourceType| matches!(source, SourceType::Text | SourceType::Varchar);
    let texts = text(&now.source_type) && then.source_type.as_ref().is_some_and(text);
    now.kind == ColumnKind::Ordinary && (now.type_oid == then.type_oid || texts)
}
