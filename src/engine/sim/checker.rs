//! What must hold of everything that becomes durable, whatever happened before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::database::{Database, Event, Row, RowEvent, Then};
use super::topics::{Topic, Value, decode_key};
use crate::batch::{Batch, Op, Record};
use crate::contract::{Backfill, ContractKind};
use crate::identity::tests::Rng;
use crate::lsn::Lsn;
use crate::position::Position;
use crate::state::PositionEntry;

/// A streamed record as it must come: operation, key, value; and the number of the write that made it.
type Expected = (Op, i64, Option<Value>, i64);

/// What is known of a topic.
#[derive(Debug)]
struct Published {
    /// Index of the transaction that comes next, and what of the current one is still to come.
    next: usize,
    queue: Vec<Expected>,
    transaction: Lsn,
    newest: Option<Position>,
    /// By key: the version that the topic shows, or that was deleted.
    versions: HashMap<i64, i64>,
    fold: BTreeMap<i64, Value>,
}

/// Checks durable batches.
#[derive(Debug, Default)]
pub struct Checker {
    topics: BTreeMap<String, Published>,
    /// By transaction: its records' `last` in order.
    lasts: BTreeMap<Lsn, Vec<bool>>,
    unfinished: BTreeSet<Lsn>,
    pub records: usize,
    pub read: usize,
    pub tombstones: usize,
    /// Topics that were repaired: rows may be read for them.
    pub repaired: BTreeSet<String>,
}

impl Checker {
    /// A contract begins: what is delivered from here on is streamed, all before comes from the snapshot.
    pub fn begin(&mut self, topic: &Topic, position: &PositionEntry, db: &Database) {
        assert!(position.complete, "begins inside a transaction");
        let next = db.wal.iter().position(|tx| tx.start > position.commit_lsn).unwrap_or(db.wal.len());
        let published = Published {
            next,
            queue: Vec::new(),
            transaction: Lsn(0),
            newest: None,
            versions: HashMap::new(),
            fold: BTreeMap::new(),
        };
        let before = self.topics.insert(topic.name.clone(), published);
        assert!(before.is_none_or(|before| before.newest.is_none()), "a topic with records began again");
    }

    /// Takes what became durable.
    pub fn commit(&mut self, batch: &Batch, topics: &[&Topic], db: &Database) {
        for record in &batch.records {
            self.record(batch, record, topics[record.topic.0 as usize], db);
        }
    }

    /// A contract is taken out: what is half published of a transaction may have no last record.
    pub fn end(&mut self, name: &str, position: &PositionEntry) {
        if self.topics.remove(name).is_some() && !position.complete {
            self.unfinished.insert(position.commit_lsn);
        }
    }

    fn record(&mut self, batch: &Batch, record: &Record, topic: &Topic, db: &Database) {
        let published = self.topics.get_mut(&topic.name).unwrap();
        let at = format!("{} {} {:?}", topic.name, record.position, record.op);
        assert!(published.newest.is_none_or(|newest| newest < record.position), "{at} after {:?}", published.newest);
        published.newest = Some(record.position);
        super::trace(|| format!("    {at}"));
        let key = decode_key(batch.slice(record.key.unwrap()));
        let value = record.value.map(|value| topic.decode(batch.slice(value)));
        self.records += 1;
        match record.op {
            Op::Read => {
                self.read += 1;
                let wanted = topic.backfill == Backfill::Snapshot || self.repaired.contains(&topic.name);
                assert!(wanted || db.was_truncated(topic.table), "{at}: a snapshot that nobody wants");
                assert!(!record.last, "{at}: a row of a snapshot is never the last");
                published.read(&at, key, value, record.position, topic, db);
            }
            op => {
                let expected = published.expect(topic, db);
                let streamed = record.position.commit_lsn == published.transaction
                    && matches!(&expected, Some((Op::Delete, of, ..)) if *of == key);
                if op == Op::Delete && !streamed {
                    // Not the stream's: a repair says that there is no such row.
                    published.queue.extend(expected);
                    self.tombstones += 1;
                    assert!(value.is_none() && !record.last, "{at}: not a tombstone");
                    assert_eq!(
                        db.at(topic.table, key, record.position.commit_lsn),
                        Then::Absent,
                        "{at}: there is a row"
                    );
                    published.fold.remove(&key);
                    return;
                }
                let Some((.., version)) = expected else { panic!("{at}: the stream has nothing more") };
                assert_eq!(Some((op, key, value.clone(), version)), expected, "{at}: not what the stream has next");
                assert_eq!(record.position.commit_lsn, published.transaction, "{at}: not in its transaction");
                self.lasts.entry(record.position.commit_lsn).or_default().push(record.last);
                published.stream(&at, key, value, version);
            }
        }
    }

    /// The keys that a topic shows.
    pub fn keys(&self, name: &str) -> Vec<i64> {
        self.topics.get(name).map(|published| published.fold.keys().copied().collect()).unwrap_or_default()
    }

    /// Makes a topic show what its table never had, or not any more, as after a restore of the server. True if it did.
    pub fn plant(&mut self, rng: &mut Rng, topic: &Topic) -> bool {
        let Some(published) = self.topics.get_mut(&topic.name) else { return false };
        let key = rng.between(1, 20) as i64;
        let texts = topic.columns.iter().map(|_| Some("ghost".to_owned())).collect();
        let ghost = Value { key, version: 0, texts };
        super::trace(|| format!("  a ghost of {key} in {}", topic.name));
        match rng.chance(70) {
            true => drop(published.fold.insert(key, ghost)),
            false => drop(published.fold.remove(&key)),
        }
        true
    }

    /// Everything was delivered: nothing is missing, every topic is level, every transaction has its last record.
    pub fn finish(&mut self, topics: &[Topic], db: &Database) {
        for topic in topics {
            let Some(published) = self.topics.get_mut(&topic.name) else { continue };
            assert_eq!(published.expect(topic, db), None, "{}: missing", topic.name);
            if topic.kind == ContractKind::State && topic.backfill == Backfill::Snapshot {
                let rows = db.visible(topic.table);
                let table: BTreeMap<i64, Value> = rows.iter().map(|(key, row)| (*key, topic.project(row))).collect();
                assert_eq!(published.fold, table, "{}: the fold is not the table", topic.name);
            }
        }
        for (transaction, lasts) in self.lasts.iter().filter(|(lsn, _)| !self.unfinished.contains(lsn)) {
            let (last, others) = lasts.split_last().unwrap();
            assert!(*last && others.iter().all(|last| !last), "transaction {transaction}: last records {lasts:?}");
        }
    }
}

impl Published {
    /// The next streamed record, taken from the front.
    fn expect(&mut self, topic: &Topic, db: &Database) -> Option<Expected> {
        while self.queue.is_empty() {
            let tx = db.wal.get(self.next)?;
            self.next += 1;
            self.transaction = tx.start;
            for event in &tx.events {
                if let Event::Row(event) = event
                    && event.table == topic.table
                {
                    self.queue.extend(expected(event, topic));
                }
            }
            self.queue.reverse();
        }
        self.queue.pop()
    }

    fn stream(&mut self, at: &str, key: i64, value: Option<Value>, version: i64) {
        let shown = self.versions.insert(key, version).unwrap_or(0);
        assert!(version > shown, "{at}: version {version} after {shown}");
        match value {
            Some(value) if value.version == version => drop(self.fold.insert(key, value)),
            _ => drop(self.fold.remove(&key)),
        }
    }

    fn read(&mut self, at: &str, key: i64, value: Option<Value>, position: Position, topic: &Topic, db: &Database) {
        let value = value.unwrap();
        let version = &db.versions[&(topic.table, value.version)];
        assert_eq!(value, topic.project(version.row.as_ref().unwrap()), "{at}: a row that never was");
        let then = db.at(topic.table, key, position.commit_lsn);
        assert_eq!(then, Then::Version(value.version), "{at}: not the row of this moment");
        let shown = self.versions.get(&key).copied().unwrap_or(0);
        assert!(value.version >= shown, "{at}: version {} over {shown}", value.version);
        let written = db.wal.iter().find(|tx| tx.xid == version.xid).unwrap();
        assert!(written.start <= position.commit_lsn, "{at}: written at {}, ahead of the stream", written.start);
        self.versions.insert(key, value.version);
        self.fold.insert(key, value);
    }
}

fn expected(event: &RowEvent, topic: &Topic) -> Vec<Expected> {
    let key = |row: &Row| topic.project(row).key;
    let delete = |old: &Row| {
        let value = (topic.kind == ContractKind::Log).then(|| topic.project(old));
        (Op::Delete, key(old), value, event.version)
    };
    let write = |op, new: &Row| (op, key(new), Some(topic.project(new)), event.version);
    match (&event.old, &event.new) {
        (None, Some(new)) => vec![write(Op::Create, new)],
        (Some(old), Some(new)) => {
            let moved = (key(old) != key(new)).then(|| delete(old));
            moved.into_iter().chain([write(Op::Update, new)]).collect()
        }
        (Some(old), None) => vec![delete(old)],
        (None, None) => Vec::new(),
    }
}
