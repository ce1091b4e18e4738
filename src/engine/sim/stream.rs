//! The model's walsender: committed transactions as pgoutput's bytes, in the order of their commit records.

use std::collections::{HashMap, VecDeque};

use super::database::{Committed, Database, Event, Row, RowEvent, Shape};
use crate::engine::HEARTBEAT_PREFIX;
use crate::identity::tests::Rng;
use crate::lsn::Lsn;
use crate::pgoutput::tests::{Model, ModelCell};
use crate::table::{ReplicaIdentity, TableImage};

/// What the engine is sent.
#[derive(Clone, Debug)]
pub enum Frame {
    Message(Vec<u8>),
    Keepalive(Lsn),
}

/// One session's stream.
pub struct Stream {
    next: usize,
    frames: VecDeque<Frame>,
    /// Which shape of a table was sent last.
    sent: HashMap<usize, u64>,
    /// PostgreSQL 14 sends transactions without changes too.
    empty_too: bool,
}

impl Stream {
    /// From the first transaction whose commit record does not begin before `from`.
    pub fn start(db: &Database, from: Lsn, empty_too: bool) -> Stream {
        let next = db.wal.iter().position(|tx| tx.start >= from).unwrap_or(db.wal.len());
        Stream { next, frames: VecDeque::new(), sent: HashMap::new(), empty_too }
    }

    /// True if everything that is committed was sent.
    pub fn at_end(&self, db: &Database) -> bool {
        self.frames.is_empty() && self.next == db.wal.len()
    }

    /// Messages that follow and are here already.
    pub fn upcoming(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::Message(bytes) => Some(bytes.as_slice()),
            Frame::Keepalive(_) => None,
        })
    }

    /// The next frame, if there is one.
    pub fn next(&mut self, db: &Database, rng: &mut Rng) -> Option<Frame> {
        if self.frames.is_empty() && rng.chance(10) {
            // Everything before the next transaction was sent.
            let sent = self.next.checked_sub(1).and_then(|last| db.wal.get(last)).map_or(Lsn(0), |tx| tx.end);
            return Some(Frame::Keepalive(match db.wal.get(self.next) {
                Some(tx) if rng.chance(50) => tx.start,
                None if rng.chance(70) => db.insert_lsn(),
                _ => sent,
            }));
        }
        while self.frames.is_empty() {
            let tx = db.wal.get(self.next)?;
            self.next += 1;
            self.encode(db, tx, rng);
        }
        self.frames.pop_front()
    }

    fn encode(&mut self, db: &Database, tx: &Committed, rng: &mut Rng) {
        let micros = tx.start.0 as i64;
        let begin = Model::Begin { lsn: tx.start.0, micros, xid: tx.xid as u32 };
        self.frames.push_back(Frame::Message(begin.encode()));
        for event in &tx.events {
            match event {
                Event::Message { lsn, nonce } => {
                    let (prefix, content) = (HEARTBEAT_PREFIX.to_owned(), nonce.as_bytes().to_vec());
                    let message = Model::Logical { transactional: true, lsn: lsn.0, prefix, content };
                    self.frames.push_back(Frame::Message(message.encode()));
                }
                Event::Truncate { table, shape } => {
                    let across = db.open_across_publication(tx, *table);
                    let published = db.tables[*table].published.is_some_and(|at| at <= tx.start);
                    if published && !(across && rng.chance(50)) {
                        let oid = self.describe(db, *table, shape, rng);
                        let message = Model::Truncate { options: 0, oids: vec![oid] };
                        self.frames.push_back(Frame::Message(message.encode()));
                    }
                }
                Event::Row(event) => {
                    let across = db.open_across_publication(tx, event.table);
                    let published = db.tables[event.table].published.is_some_and(|at| at <= tx.start);
                    if published && !(across && rng.chance(50)) {
                        self.encode_row(db, event, rng);
                    }
                }
            }
            if rng.chance(2) {
                self.frames.push_back(Frame::Keepalive(tx.start));
            }
        }
        if self.frames.len() == 1 && !self.empty_too {
            self.frames.clear();
            return;
        }
        let commit = Model::Commit { lsn: tx.start.0, end: tx.end.0, micros };
        self.frames.push_back(Frame::Message(commit.encode()));
    }

    /// Sends the table's relation, unless it was sent.
    fn describe(&mut self, db: &Database, table: usize, shape: &Shape, rng: &mut Rng) -> u32 {
        let oid = db.tables[table].relation.0;
        let Shape { number, image } = shape;
        if self.sent.insert(table, *number) != Some(*number) || rng.chance(3) {
            self.frames.push_back(Frame::Message(relation(oid, image).encode()));
        }
        oid
    }

    fn encode_row(&mut self, db: &Database, event: &RowEvent, rng: &mut Rng) {
        let oid = self.describe(db, event.table, &event.shape, rng);
        let image = &event.shape.image;
        let full = image.replica_identity == ReplicaIdentity::Full;
        let moved = matches!((&event.old, &event.new), (Some(old), Some(new)) if old[0] != new[0]);
        let old = |old: &Row| match full {
            true => cells(image, old, &[]),
            false => cells(image, &old.iter().take(1).cloned().collect(), &[]),
        };
        let message = match (&event.old, &event.new) {
            (None, Some(new)) => Model::Insert { oid, new: cells(image, new, &[]) },
            (Some(row), Some(new)) => Model::Update {
                oid,
                old: (full || moved).then(|| (full, old(row))),
                new: cells(image, new, &event.unchanged),
            },
            (Some(row), None) => Model::Delete { oid, full, old: old(row) },
            (None, None) => return,
        };
        self.frames.push_back(Frame::Message(message.encode()));
    }
}

fn relation(oid: u32, image: &TableImage) -> Model {
    let identity = image.identity();
    let column = |c: &crate::table::ColumnImage| (identity.contains(&c.attnum), c.name.clone(), c.type_oid, c.typmod);
    Model::Relation {
        oid,
        namespace: image.name.namespace.clone(),
        name: image.name.name.clone(),
        identity: if image.replica_identity == ReplicaIdentity::Full { b'f' } else { b'd' },
        columns: image.listed().map(column).collect(),
    }
}

fn cells(image: &TableImage, row: &Row, unchanged: &[i16]) -> Vec<ModelCell> {
    let cell = |attnum: i16| match row.get(attnum as usize - 1) {
        _ if unchanged.contains(&attnum) => ModelCell::Unchanged,
        Some(Some(text)) => ModelCell::Text(text.clone().into_bytes()),
        Some(None) | None => ModelCell::Null,
    };
    image.listed().map(|column| cell(column.attnum)).collect()
}

/// A message in a line.
pub fn line(bytes: &[u8]) -> String {
    use crate::pgoutput::{Message, decode};
    match decode(bytes).unwrap() {
        Message::Relation(relation) => {
            format!("relation {} {:?}", relation.name, relation.columns().map(|column| column.name).collect::<Vec<_>>())
        }
        Message::Begin(begin) => format!("{begin:?}"),
        Message::Commit(commit) => format!("{commit:?}"),
        Message::Insert { .. } => "insert".to_owned(),
        Message::Update { .. } => "update".to_owned(),
        Message::Delete { .. } => "delete".to_owned(),
        other => format!("{other:?}"),
    }
}
