//! What must hold of everything that becomes durable, whatever happened before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::database::{Database, Event, Row, RowEvent, Then};
use super::topics::{Fate, Topic, Value, decode_key, long, text};
use crate::batch::{Batch, Op, Record};
use crate::contract::{Backfill, ContractKind};
use crate::identity::tests::Rng;
use crate::lsn::Lsn;
use crate::parcel::{Contents, Value as Cell};
use crate::position::Position;
use crate::seal::Context;
use crate::sink::StateEntries;
use crate::state::{ContractEntry, PositionEntry};
use crate::table::ReplicaIdentity;

/// A streamed record as it must come.
#[derive(Clone, Debug, PartialEq)]
struct Expected {
    op: Op,
    key: i64,
    value: Option<Value>,
    /// The number of the write that made it.
    version: i64,
    fate: Fate,
    /// The first record of its row event.
    first: bool,
    event: Option<RowEventRef>,
    /// Attribute numbers that the stream does not carry, and the contract reads: their values may be of a later time, and if
    /// the row is gone by then, there need be no record.
    lacks: Vec<i16>,
}

/// Transaction and event in the log.
type RowEventRef = (usize, usize);

/// What is known of a topic.
#[derive(Debug)]
struct Published {
    /// Index of the transaction that comes next, and what of the current one is still to come.
    next: usize,
    queue: Vec<Expected>,
    transaction: Lsn,
    newest: Option<Position>,
    /// Every row event from the first parked one on is parked.
    parked: bool,
    /// The checkpoint says so; perhaps no row event followed.
    ended: bool,
    /// Keys whose newest row is a dead letter.
    dead: BTreeSet<i64>,
    /// By key: the version that the topic shows, or that was deleted.
    versions: HashMap<i64, i64>,
    fold: BTreeMap<i64, Value>,
    /// Keys of which a delete came ahead, by transaction.
    withdrawn: BTreeSet<(i64, usize)>,
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
    pub dead: usize,
    pub parked: usize,
    pub rereads: usize,
    pub withdrawn: usize,
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
            parked: false,
            ended: false,
            dead: BTreeSet::new(),
            versions: HashMap::new(),
            fold: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
        };
        let before = self.topics.insert(topic.name.clone(), published);
        assert!(before.is_none_or(|before| before.newest.is_none()), "a topic with records began again");
    }

    /// Takes what became durable.
    pub fn commit(&mut self, batch: &Batch, topics: &[&Topic], db: &Database) {
        for record in &batch.records {
            let id = record.topic.0 as usize;
            let (index, fate) = match id.checked_sub(topics.len()) {
                None => (id, Fate::Good),
                Some(aside) => (aside / 2, if aside % 2 == 0 { Fate::Parked } else { Fate::Dead }),
            };
            self.record(batch, record, topics[index], fate, db);
        }
    }

    /// The checkpoint's dead sets are those that the records make.
    pub fn dead_sets(&mut self, state: &StateEntries, topics: &[&Topic]) {
        for topic in topics {
            let Some(published) = self.topics.get_mut(&topic.name) else { continue };
            let (prefix, entry) = (format!("dead/{}/1/", topic.name), format!("contract/{}/1", topic.name));
            let found: BTreeSet<String> =
                state.keys().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect();
            let wanted: BTreeSet<String> = published.dead.iter().map(|key| dead_hash(*key)).collect();
            let entry: ContractEntry = crate::state::open(&entry, &state[&entry]).unwrap();
            published.ended = entry.is_parked();
            match entry.unlevel {
                true => assert!(found.is_subset(&wanted), "{}: dead set", topic.name),
                false => assert_eq!(found, wanted, "{}: dead set, keys {:?}", topic.name, published.dead),
            }
        }
    }

    /// A contract is taken out: what is half published of a transaction may have no last record.
    pub fn end(&mut self, name: &str, position: &PositionEntry) {
        if self.topics.remove(name).is_some() && !position.complete {
            self.unfinished.insert(position.commit_lsn);
        }
    }

    fn record(&mut self, batch: &Batch, record: &Record, topic: &Topic, fate: Fate, db: &Database) {
        let published = self.topics.get_mut(&topic.name).unwrap();
        let at = format!("{} {} {:?} {fate:?}", topic.name, record.position, record.op);
        assert!(published.newest.is_none_or(|newest| newest < record.position), "{at} after {:?}", published.newest);
        published.newest = Some(record.position);
        super::trace(|| format!("    {at}"));
        assert!(!published.parked || fate == Fate::Parked, "{at}: the contract is parked");
        let value = record.value.map(|value| batch.slice(value));
        let parcel = (fate != Fate::Good).then(|| Opened::of(value.unwrap(), topic, record.position));
        self.records += 1;
        if record.op == Op::Read {
            self.read += 1;
            let wanted = topic.backfill == Backfill::Snapshot || self.repaired.contains(&topic.name);
            assert!(wanted || db.was_truncated(topic.table), "{at}: a snapshot that nobody wants");
            assert!(!record.last, "{at}: a row of a snapshot is never the last");
            match (&parcel, fate) {
                (None, _) => {
                    let key = decode_key(batch.slice(record.key.unwrap()));
                    published.read(&at, key, topic.decode(value.unwrap()), record.position, topic, db);
                }
                (Some(parcel), Fate::Dead) => {
                    self.dead += 1;
                    published.read_dead(&at, &parcel.row(), record.position, topic, db);
                }
                _ => panic!("{at}: a row of a snapshot is never parked"),
            }
            return;
        }
        let shows = |expected: &Expected| match (fate, &parcel) {
            _ if expected.event.is_none_or(|(tx, _)| db.wal[tx].start != record.position.commit_lsn) => false,
            (Fate::Good, _) => {
                let key = decode_key(batch.slice(record.key.unwrap()));
                let version = value.map(|value| topic.decode(value).version);
                let gone = record.op == Op::Delete && expected.op == Op::Update;
                key == expected.key && (gone || version.is_none_or(|version| version == expected.version))
            }
            (_, Some(parcel)) => parcel.contents.new.is_none() || parcel.row()[1] == Some(expected.version.to_string()),
            (_, None) => true,
        };
        let expected = published.expect(topic, db, record.position.commit_lsn, shows);
        if record.op == Op::Delete && fate == Fate::Good {
            let key = decode_key(batch.slice(record.key.unwrap()));
            let streamed = record.position.commit_lsn == published.transaction
                && matches!(&expected, Some(next) if next.key == key && (next.op == Op::Delete || !next.lacks.is_empty()));
            if !streamed {
                // Not the stream's: a repair says that there is no such row.
                published.queue.extend(expected);
                self.tombstones += 1;
                assert!(value.is_none() && !record.last, "{at}: not a tombstone");
                let then = db.at(topic.table, key, record.position.commit_lsn);
                assert_eq!(then, Then::Absent, "{at}: there is a row");
                published.fold.remove(&key);
                published.dead.remove(&key);
                return;
            }
        }
        let Some(expected) = expected else { panic!("{at}: the stream has nothing more") };
        assert_eq!(record.position.commit_lsn, published.transaction, "{at}: not in its transaction");
        self.lasts.entry(record.position.commit_lsn).or_default().push(record.last);
        match fate {
            Fate::Parked => {
                self.parked += 1;
                assert!(expected.first, "{at}: half of the change is in the topic: {expected:?}");
                let why = parcel.as_ref().unwrap().reason.clone();
                let reason = published.parked || expected.fate == Fate::Parked || db.breaks || why == "E0203";
                // A null in a row of the snapshot parks too.
                assert!(reason || (topic.required && why == "E0403"), "{at}: no reason to park: {why}");
                published.parked = true;
                published.queue.retain(|next| next.event != expected.event);
            }
            Fate::Dead => {
                self.dead += 1;
                let fate = if expected.lacks.is_empty() { expected.fate } else { Fate::Dead };
                assert_eq!((record.op, Fate::Dead), (expected.op, fate), "{at}: {expected:?}");
                published.versions.insert(expected.key, expected.version);
                published.dead.insert(expected.key);
            }
            Fate::Good => {
                let key = decode_key(batch.slice(record.key.unwrap()));
                let value = value.map(|value| topic.decode(value));
                let found = (record.op, key, value.clone(), Fate::Good);
                let reread = record.reread.map(|names| std::str::from_utf8(batch.slice(names)).unwrap());
                let Expected { op, key, value, version, fate, lacks, .. } = expected;
                let names: Vec<String> = topic
                    .columns
                    .iter()
                    .filter(|attnum| lacks.contains(attnum))
                    .map(|attnum| format!("f{attnum}"))
                    .collect();
                if lacks.is_empty() {
                    assert_eq!(found, (op, key, value.clone(), fate), "{at}: not what the stream has next");
                    assert_eq!(reread, None, "{at}");
                } else if found.2.is_some() {
                    self.rereads += 1;
                    assert_eq!(reread, Some(names.join(",").as_str()), "{at}");
                    let mut known = found.2.clone();
                    for (at, attnum) in topic.columns.iter().enumerate().filter(|(_, attnum)| lacks.contains(attnum)) {
                        if let (Some(known), Some(value)) = (&mut known, &value) {
                            let of = known.texts[at]
                                .as_ref()
                                .is_none_or(|text| text.trim_start_matches('x').starts_with(&format!("{attnum}0")));
                            assert!(of, "{at}: a value of another column");
                            known.texts[at] = value.texts[at].clone();
                        }
                    }
                    assert_eq!((found.0, found.1, known), (op, key, value), "{at}: not what the stream has next");
                } else {
                    self.withdrawn += 1;
                    published.withdrawn.extend(expected.event.map(|event| (key, event.0)));
                }
                published.stream(&at, key, found.2, version);
            }
        }
        if let (Some(parcel), Some((tx, event))) = (&parcel, expected.event)
            && let Event::Row(event) = &db.wal[tx].events[event]
        {
            parcel.check(&at, event);
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
            assert_eq!(published.expect(topic, db, Lsn(u64::MAX), |_| false), None, "{}: missing", topic.name);
            if topic.kind == ContractKind::State && topic.backfill == Backfill::Snapshot && !published.ended {
                let rows = db.visible(topic.table);
                let level = |key: &i64| !published.dead.contains(key);
                let table: BTreeMap<i64, Value> =
                    rows.iter().filter(|(key, _)| level(key)).map(|(key, row)| (*key, topic.project(row))).collect();
                published.fold.retain(|key, _| !published.dead.contains(key));
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
    ///
    /// Those before it for which there need be no record are passed over, if the row was gone.
    fn expect(
        &mut self,
        topic: &Topic,
        db: &Database,
        upto: Lsn,
        shows: impl Fn(&Expected) -> bool,
    ) -> Option<Expected> {
        loop {
            let next = self.next_expected(topic, db)?;
            // Of two deletes of a key in one transaction nobody sees which one came ahead.
            let ahead = (next.op == Op::Delete).then_some(next.key).zip(next.event.map(|event| event.0));
            let doubled = ahead.is_some_and(|ahead| self.withdrawn.contains(&ahead));
            let later = next.event.is_none_or(|(tx, _)| db.wal[tx].start > upto);
            if later || (next.lacks.is_empty() && !doubled) || shows(&next) || !(doubled || goes(&next, topic, db)) {
                return Some(next);
            }
        }
    }

    fn next_expected(&mut self, topic: &Topic, db: &Database) -> Option<Expected> {
        while self.queue.is_empty() {
            let tx = db.wal.get(self.next)?;
            self.next += 1;
            self.transaction = tx.start;
            for (number, event) in tx.events.iter().enumerate() {
                if let Event::Row(event) = event
                    && event.table == topic.table
                {
                    let mut records = expected(event, topic);
                    let parks = records.iter().any(|record| record.fate == Fate::Parked);
                    for (at, record) in records.iter_mut().enumerate() {
                        (record.first, record.event) = (at == 0, Some((self.next - 1, number)));
                        record.fate = if parks { Fate::Parked } else { record.fate };
                    }
                    self.queue.extend(records);
                }
            }
            self.queue.reverse();
        }
        self.queue.pop()
    }

    fn stream(&mut self, at: &str, key: i64, value: Option<Value>, version: i64) {
        let shown = self.versions.insert(key, version).unwrap_or(0);
        assert!(version > shown, "{at}: version {version} after {shown}");
        self.dead.remove(&key);
        match value {
            Some(value) if value.version == version => drop(self.fold.insert(key, value)),
            _ => drop(self.fold.remove(&key)),
        }
    }

    fn read_dead(&mut self, at: &str, row: &Row, position: Position, topic: &Topic, db: &Database) {
        let number = |at: usize| row[at].as_ref().unwrap().parse::<i64>().unwrap();
        let (key, version) = (number(0), number(1));
        let written = &db.versions[&(topic.table, version)];
        assert_eq!(topic.fate(written.row.as_ref().unwrap(), &[]), Fate::Dead, "{at}: a good row");
        let shown = self.versions.insert(key, version).unwrap_or(0);
        assert!(version >= shown, "{at}: version {version} over {shown}");
        let tx = db.wal.iter().find(|tx| tx.xid == written.xid).unwrap();
        assert!(tx.start <= position.commit_lsn, "{at}: written at {}, ahead of the stream", tx.start);
        self.dead.insert(key);
    }

    fn read(&mut self, at: &str, key: i64, value: Value, position: Position, topic: &Topic, db: &Database) {
        self.dead.remove(&key);
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

/// True if the row of a record is deleted, or its key moves, later in the log.
fn goes(record: &Expected, topic: &Topic, db: &Database) -> bool {
    let Some((tx, number)) = record.event else { return false };
    let key = |row: &Option<Row>| row.as_ref().and_then(|row| row[0].clone());
    let wanted = Some(record.key.to_string());
    let later = db.wal.iter().enumerate().skip(tx);
    later
        .flat_map(|(at, tx)| tx.events.iter().enumerate().map(move |(number, event)| ((at, number), event)))
        .filter(|(place, _)| *place > (tx, number))
        .any(|(_, event)| match event {
            Event::Row(event) => event.table == topic.table && key(&event.old) == wanted && key(&event.new) != wanted,
            Event::Truncate { table, .. } => *table == topic.table,
            Event::Message { .. } => false,
        })
}

fn expected(event: &RowEvent, topic: &Topic) -> Vec<Expected> {
    let unchanged = match event.shape.image.replica_identity {
        ReplicaIdentity::Full => &[][..],
        _ => &event.unchanged,
    };
    let key = |row: &Row| row[0].as_ref().unwrap().parse::<i64>().unwrap();
    let record = |op, row: &Row, value: Option<Value>, fate| {
        let version = event.version;
        Expected { op, key: key(row), value, version, fate, first: false, event: None, lacks: Vec::new() }
    };
    let delete = |old: &Row| match topic.kind {
        ContractKind::State => record(Op::Delete, old, None, Fate::Good),
        ContractKind::Log => record(Op::Delete, old, Some(topic.project(old)), topic.fate(old, &[])),
    };
    let write = |op, new: &Row| {
        let lacks = match topic.kind {
            ContractKind::State => topic.columns.iter().filter(|attnum| unchanged.contains(attnum)).copied().collect(),
            ContractKind::Log => Vec::new(),
        };
        let carried = if topic.kind == ContractKind::State { &[][..] } else { unchanged };
        Expected { lacks, ..record(op, new, Some(topic.project(new)), topic.fate(new, carried)) }
    };
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

/// A parcel as whoever has the key sees it.
struct Opened {
    op: String,
    reason: String,
    contents: Contents,
}

impl Opened {
    fn of(bytes: &[u8], topic: &Topic, position: Position) -> Opened {
        let mut rest = &bytes[5..];
        assert_eq!((text(&mut rest), long(&mut rest)), (topic.name.clone(), 1));
        assert_eq!(text(&mut rest), position.to_string());
        let op = text(&mut rest);
        let (_ts, reason) = (long(&mut rest), text(&mut rest));
        for _ in ["field", "masked_key"] {
            if long(&mut rest) == 1 {
                text(&mut rest);
            }
        }
        text(&mut rest);
        let len = long(&mut rest) as usize;
        assert_eq!(len, rest.len());
        let sealed = rest;
        let context = Context { pipeline: "sim", contract: &topic.name, major: 1, position };
        let plain = super::shell::sealer().key().open(&context, sealed).unwrap();
        Opened { op, reason, contents: Contents::read(&plain).unwrap() }
    }

    /// The row by attribute number less one.
    fn row(&self) -> Row {
        row_of(&self.contents, self.contents.new.as_ref().unwrap())
    }

    /// It holds what the change had.
    fn check(&self, at: &str, event: &RowEvent) {
        let row_op = match (&event.old, &event.new) {
            (None, _) => "c",
            (Some(_), Some(_)) => "u",
            (Some(_), None) => "d",
        };
        assert!(self.op == row_op || (self.op == "d" && row_op == "u"), "{at}: {} for {row_op}", self.op);
        assert_eq!(self.contents.new.is_some(), event.new.is_some(), "{at}");
        let (Some(found), Some(wanted)) = (&self.contents.new, &event.new) else { return };
        for (column, value) in self.contents.columns.iter().zip(found) {
            let Some(attnum) = column.attnum else { continue };
            if event.unchanged.contains(&attnum) {
                continue;
            }
            match (value, &wanted[attnum as usize - 1]) {
                (Cell::Unchanged, _) => panic!("{at}: column {attnum} is known"),
                (Cell::Null, wanted) => assert_eq!(None, *wanted, "{at}: column {attnum}"),
                (Cell::Text(text), wanted) => {
                    assert_eq!(Some(text.as_slice()), wanted.as_ref().map(|t| t.as_bytes()), "{at}: column {attnum}");
                }
            }
        }
    }
}

fn row_of(contents: &Contents, values: &[Cell]) -> Row {
    let mut row = vec![None; 16];
    for (column, value) in contents.columns.iter().zip(values) {
        if let (Some(attnum), Cell::Text(text)) = (column.attnum, value) {
            row[attnum as usize - 1] = Some(String::from_utf8(text.clone()).unwrap());
        }
    }
    row
}

fn dead_hash(key: i64) -> String {
    let mut bytes = Vec::new();
    crate::projection::encode::long(key, &mut bytes);
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&bytes))
}
