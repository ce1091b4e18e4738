//! A model of PostgreSQL in memory: versions of rows, transactions that run side by side, locks, commits that become
//! visible later than their record, and a catalog with versions of its own.

mod application;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::heap::{Heap, Tuple};
use crate::engine::{JobId, Sample};
use crate::identity::tests::Rng;
use crate::lsn::{Lsn, Snapshot, Xid};
use crate::table::{
    ColumnImage, ColumnKind, QualifiedName, RelationId, ReplicaIdentity, SourceType, TableImage, UniqueKey,
};

/// Keys are 1 to this.
const KEYS: i64 = 14;

/// A row by attribute number less one. `[0]` is the key, `[1]` the version, the others
/// the attribute number and the version that wrote them, as a number or, if they are poison, as none.
pub type Row = Vec<Option<String>>;

/// A table's image, with a number that moves with every change.
#[derive(Debug)]
pub struct Shape {
    pub number: u64,
    pub image: TableImage,
}

/// What a transaction did, as the stream has it.
#[derive(Clone, Debug)]
pub enum Event {
    Row(RowEvent),
    Truncate { table: usize, shape: Arc<Shape> },
    Message { lsn: Lsn, nonce: String },
}

impl Event {
    fn line(&self) -> String {
        match self {
            Event::Message { nonce, .. } => format!("\n   message {nonce}"),
            Event::Truncate { table, .. } => format!("\n   truncate table {table}"),
            Event::Row(RowEvent { table, shape, old, new, version, .. }) => {
                format!("\n   table {table} shape {} version {version}: {old:?} -> {new:?}", shape.number)
            }
        }
    }
}

/// A change of one row.
#[derive(Clone, Debug)]
pub struct RowEvent {
    pub table: usize,
    pub shape: Arc<Shape>,
    pub old: Option<Row>,
    pub new: Option<Row>,
    /// Attribute numbers whose values are out of line and were not touched.
    pub unchanged: Vec<i16>,
    /// Of the row, as written or deleted.
    pub version: i64,
}

/// A committed transaction, in the order of commit records.
#[derive(Clone, Debug)]
pub struct Committed {
    pub xid: Xid,
    /// Where its first record stands.
    pub first: Lsn,
    pub start: Lsn,
    pub end: Lsn,
    pub events: Vec<Event>,
}

#[derive(Debug, Default)]
struct Tx {
    first: Lsn,
    events: Vec<Event>,
    shared: BTreeSet<usize>,
    exclusive: BTreeSet<usize>,
    shapes: Vec<(usize, Arc<Shape>)>,
    rewrite: Option<(usize, bool)>,
    truncated: BTreeSet<usize>,
    stalled: bool,
}

/// A table with its leaves.
#[derive(Debug)]
pub struct Table {
    pub relation: RelationId,
    shapes: Vec<(Xid, Arc<Shape>)>,
    pub leaves: Vec<Heap>,
    /// Where the publication got it.
    pub published: Option<Lsn>,
}

/// A version of a row that was written or, without row, deleted.
#[derive(Clone, Debug)]
pub struct Version {
    pub xid: Xid,
    pub row: Option<Row>,
}

/// What the workload may do.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Percent of steps that change a table's columns or file.
    pub ddl: u64,
    /// Whether an unbound column in front of bound ones may be dropped.
    pub drop_in_front: bool,
    /// Percent of steps that truncate a table.
    pub truncate: u64,
    /// Percent of commits that stall.
    pub stall: u64,
    /// Most transactions that run side by side.
    pub writers: usize,
    /// Percent of transactions that are long.
    pub long: u64,
    /// Percent of texts that are no numbers.
    pub poison: u64,
    /// Whether values that a contract reads may stay out of the stream.
    pub unchanged: bool,
}

/// The database.
pub struct Database {
    lsn: u64,
    next_xid: Xid,
    completed: Xid,
    open: BTreeMap<Xid, Tx>,
    pub tables: Vec<Table>,
    pub wal: Vec<Committed>,
    pub versions: HashMap<(usize, i64), Version>,
    /// By table and key: from which commit on the table had what; of a truncated table there is an entry for each key.
    then: HashMap<(usize, i64), Vec<(Lsn, Then)>>,
    truncated: BTreeSet<usize>,
    next_version: i64,
    next_shape: u64,
    next_file: u32,
    /// Snapshots of chunks that are open.
    pub chunks: BTreeMap<JobId, Snapshot>,
    /// Attribute numbers that contracts read; they are never dropped.
    pub bound: BTreeSet<i16>,
    /// Tables whose replica identity stays FULL, for the contracts that keep every change.
    pub full: BTreeSet<usize>,
    /// From now on columns that contracts read may be dropped and retyped.
    pub breaks: bool,
    workload: Workload,
}

fn column(attnum: i16, name: String, source_type: SourceType, kind: ColumnKind) -> ColumnImage {
    let (type_oid, type_name) = match source_type {
        SourceType::Int8 => (20, "bigint"),
        _ => (25, "text"),
    };
    let not_null = attnum <= 2;
    ColumnImage { attnum, kind, name, type_oid, typmod: -1, type_name: type_name.to_owned(), source_type, not_null }
}

impl Database {
    pub fn new(rng: &mut Rng, tables: usize, workload: Workload) -> Database {
        let next_xid = match rng.between(0, 2) {
            0 => 700,
            1 => (3 << 32) - rng.between(1, 60) as u64,
            _ => (1 << 32) - rng.between(1, 60) as u64,
        };
        let mut db = Database {
            lsn: 0x1_0000,
            next_xid,
            completed: next_xid - 1,
            open: BTreeMap::new(),
            tables: Vec::new(),
            wal: Vec::new(),
            versions: HashMap::new(),
            then: HashMap::new(),
            truncated: BTreeSet::new(),
            next_version: 1,
            next_shape: 1,
            next_file: 50_000,
            chunks: BTreeMap::new(),
            bound: BTreeSet::new(),
            full: BTreeSet::new(),
            breaks: false,
            workload,
        };
        for index in 0..tables {
            db.create_table(rng, index);
        }
        db
    }

    fn create_table(&mut self, rng: &mut Rng, index: usize) {
        let relation = RelationId(16_400 + 100 * index as u32);
        let mut columns = vec![
            column(1, "id".into(), SourceType::Int8, ColumnKind::Ordinary),
            column(2, "ver".into(), SourceType::Int8, ColumnKind::Ordinary),
        ];
        for attnum in 3..=rng.between(5, 7) as i16 {
            columns.push(column(attnum, format!("c{attnum}"), SourceType::Text, ColumnKind::Ordinary));
        }
        let primary = UniqueKey { name: "pkey".into(), attnums: vec![1], primary: true, replica_identity: false };
        let leaves = rng.between(1, 2);
        let image = TableImage {
            relation,
            name: QualifiedName { namespace: "public".into(), name: format!("t{index}") },
            partitioned: leaves > 1,
            carried_by_leaves: None,
            replica_identity: if rng.chance(40) { ReplicaIdentity::Full } else { ReplicaIdentity::Default },
            columns,
            keys: vec![primary],
        };
        let shape = self.shape(image);
        let leaf = |n: usize| Heap::new(RelationId(relation.0 + n as u32), 10_000 + (index * 10 + n) as u32);
        let leaves = (0..leaves).map(|n| if n == 0 { leaf(0) } else { leaf(n) }).collect();
        self.tables.push(Table { relation, shapes: vec![(0, shape)], leaves, published: None });
    }

    /// Sets REPLICA IDENTITY FULL for good.
    pub fn keep_full(&mut self, table: usize) {
        self.full.insert(table);
        let mut image = self.tables[table].shapes[0].1.image.clone();
        image.replica_identity = ReplicaIdentity::Full;
        self.tables[table].shapes[0].1 = self.shape(image);
    }

    fn shape(&mut self, image: TableImage) -> Arc<Shape> {
        self.next_shape += 1;
        Arc::new(Shape { number: self.next_shape, image })
    }

    fn advance(&mut self, rng: &mut Rng) -> Lsn {
        let at = self.lsn;
        self.lsn += 8 * rng.between(1, 8) as u64;
        Lsn(at)
    }

    // ---- what anybody can ask -----------------------------------------------------------------------------------------

    pub fn insert_lsn(&self) -> Lsn {
        Lsn(self.lsn)
    }

    pub fn snapshot(&self) -> Snapshot {
        let xmax = self.completed + 1;
        let running: BTreeSet<Xid> = self.open.keys().copied().filter(|xid| *xid < xmax).collect();
        Snapshot { xmin: running.first().copied().unwrap_or(xmax), xmax, running }
    }

    /// The catalog as a statement reads it now.
    pub fn sample(&self, relations: &[RelationId], names: &[QualifiedName]) -> Sample {
        let snapshot = self.snapshot();
        let seen = |table: &Table| table.shapes.iter().rfind(|(xid, _)| snapshot.sees(*xid)).map(|(_, s)| s.clone());
        let image = |relation: &RelationId| {
            let table = self.tables.iter().find(|table| table.relation == *relation)?;
            Some(seen(table)?.image.clone())
        };
        let meaning = |name: &QualifiedName| {
            let named = self.tables.iter().find(|table| seen(table).is_some_and(|shape| shape.image.name == *name));
            (name.clone(), named.map(|table| table.relation))
        };
        Sample {
            images: relations.iter().filter_map(image).collect(),
            missing: Vec::new(),
            names: names.iter().map(meaning).collect(),
            insert_lsn: self.insert_lsn(),
            snapshot,
        }
    }

    /// The rows that everybody sees.
    pub fn visible(&self, table: usize) -> BTreeMap<i64, Row> {
        let snapshot = self.snapshot();
        let tuples = self.tables[table].leaves.iter().flat_map(|leaf| leaf.tuples.values());
        tuples.filter(|tuple| tuple.visible(&snapshot)).map(|tuple| (tuple.key, tuple.row.clone())).collect()
    }

    pub fn locked(&self, table: usize) -> bool {
        self.open.values().any(|tx| tx.exclusive.contains(&table))
    }

    /// True if the transaction was writing while the publication got the table: which of its rows are sent is chance.
    pub fn open_across_publication(&self, tx: &Committed, table: usize) -> bool {
        self.tables[table].published.is_some_and(|at| tx.first < at && at < tx.end)
    }

    // ---- what the world does ------------------------------------------------------------------------------------------

    /// One step of one of the sessions at work.
    pub fn work(&mut self, rng: &mut Rng) {
        let running: Vec<Xid> = self.open.iter().filter(|(_, tx)| !tx.stalled).map(|(xid, _)| *xid).collect();
        let stalled: Vec<Xid> = self.open.iter().filter(|(_, tx)| tx.stalled).map(|(xid, _)| *xid).collect();
        match rng.between(0, 99) {
            0..30 if running.len() < self.workload.writers => drop(self.begin(rng)),
            0..70 if !running.is_empty() => {
                let xid = *rng.pick(&running);
                let many = if rng.chance(self.workload.long) { rng.between(5, 25) } else { 1 };
                for _ in 0..many {
                    self.write(rng, xid);
                }
            }
            70..90 if !running.is_empty() => {
                let xid = *rng.pick(&running);
                if rng.chance(15) {
                    self.abort(xid);
                } else {
                    let stall = rng.chance(self.workload.stall);
                    self.commit(rng, xid, stall);
                }
            }
            90..95 if !stalled.is_empty() => self.finish(*rng.pick(&stalled)),
            95..98 => self.vacuum(),
            _ => drop(self.advance(rng)),
        }
        if rng.chance(self.workload.ddl) {
            self.change_table(rng);
        }
        if self.workload.truncate > 0 && rng.chance(self.workload.truncate) {
            self.truncate_table(rng);
        }
    }

    /// Ends everything that is open.
    pub fn settle(&mut self, rng: &mut Rng) {
        for xid in self.open.keys().copied().collect::<Vec<_>>() {
            if self.open[&xid].stalled {
                self.finish(xid);
            } else if rng.chance(70) {
                self.commit(rng, xid, false);
            } else {
                self.abort(xid);
            }
        }
    }

    pub fn heartbeat(&mut self, rng: &mut Rng) {
        let xid = self.begin(rng);
        let lsn = self.advance(rng);
        let nonce = format!("n{xid}");
        if let Some(tx) = self.open.get_mut(&xid) {
            tx.events.push(Event::Message { lsn, nonce });
        }
        self.commit(rng, xid, false);
    }

    /// ALTER PUBLICATION … ADD TABLE.
    pub fn publish(&mut self, rng: &mut Rng, table: usize) {
        if self.tables[table].published.is_none() {
            let xid = self.begin(rng);
            self.commit(rng, xid, false);
            self.tables[table].published = Some(self.insert_lsn());
        }
    }

    fn begin(&mut self, rng: &mut Rng) -> Xid {
        let xid = self.next_xid;
        self.next_xid += 1;
        let first = self.advance(rng);
        self.open.insert(xid, Tx { first, ..Tx::default() });
        xid
    }

    fn commit(&mut self, rng: &mut Rng, xid: Xid, stall: bool) {
        let start = self.advance(rng);
        let end = self.insert_lsn();
        let Some(tx) = self.open.get_mut(&xid) else { return };
        tx.stalled = true;
        let events = std::mem::take(&mut tx.events);
        for (table, shape) in std::mem::take(&mut tx.shapes) {
            self.tables[table].shapes.push((xid, shape));
        }
        super::trace(|| {
            format!("commit {xid} at {start} stall {stall} {}", events.iter().map(Event::line).collect::<String>())
        });
        let first = tx.first;
        self.note(start, &events);
        self.wal.push(Committed { xid, first, start, end, events });
        if !stall {
            self.finish(xid);
        }
    }

    /// The transaction becomes visible and its locks go.
    fn finish(&mut self, xid: Xid) {
        let Some(tx) = self.open.remove(&xid) else { return };
        super::trace(|| format!("visible {xid} rewrite {:?}", tx.rewrite));
        self.completed = self.completed.max(xid);
        for table in &tx.truncated {
            for leaf in &mut self.tables[*table].leaves {
                self.next_file += 1;
                leaf.truncate(self.next_file, xid);
            }
        }
        if let Some((table, new_tuples)) = tx.rewrite {
            let horizon = self.horizon();
            for leaf in &mut self.tables[table].leaves {
                self.next_file += 1;
                leaf.rewrite(self.next_file, new_tuples.then_some(xid), horizon);
            }
        }
    }

    /// The log ends here from now on, as on a server that was set back: what it had behind is gone. (The tables keep what
    /// it wrote: whoever notices reads none of it.)
    pub fn set_back(&mut self, to: Lsn) {
        for xid in self.open.keys().copied().collect::<Vec<_>>() {
            self.finish(xid);
        }
        self.wal.retain(|tx| tx.end <= to);
        self.lsn = to.0;
    }

    fn abort(&mut self, xid: Xid) {
        self.open.remove(&xid);
        self.completed = self.completed.max(xid);
        self.tables.iter_mut().flat_map(|table| &mut table.leaves).for_each(|leaf| leaf.undo(xid));
    }

    fn horizon(&self) -> Xid {
        self.chunks.values().map(|snapshot| snapshot.xmin).min().unwrap_or(Xid::MAX).min(self.snapshot().xmin)
    }

    fn vacuum(&mut self) {
        let horizon = self.horizon();
        self.tables.iter_mut().flat_map(|table| &mut table.leaves).for_each(|leaf| leaf.vacuum(horizon));
    }

    fn shape_for(&self, table: usize, xid: Xid) -> Arc<Shape> {
        let own = self.open[&xid].shapes.iter().rfind(|(t, _)| *t == table).map(|(_, shape)| shape.clone());
        own.unwrap_or_else(|| self.tables[table].shapes.last().unwrap().1.clone())
    }

    /// The live tuple of a key: `Err` if another transaction holds it, `Ok(None)` if there is none.
    fn find(&self, table: usize, key: i64, xid: Xid) -> Result<Option<(usize, Tuple)>, ()> {
        let mut live = None;
        let others = |by: Xid| by != xid && self.open.contains_key(&by);
        for (leaf, heap) in self.tables[table].leaves.iter().enumerate() {
            for tuple in heap.tuples.values().filter(|tuple| tuple.key == key) {
                if others(tuple.xmin) || tuple.xmax.is_some_and(others) {
                    return Err(());
                }
                if tuple.xmax.is_none() {
                    live = Some((leaf, tuple.clone()));
                }
            }
        }
        Ok(live)
    }
}

/// What a table had of a key once a transaction had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// No row.
    Absent,
    /// This version of it.
    Version(i64),
}

impl Database {
    fn note(&mut self, start: Lsn, events: &[Event]) {
        let key = |row: &Row| row[0].as_ref().and_then(|key| key.parse::<i64>().ok()).unwrap_or_default();
        for event in events {
            match event {
                Event::Row(RowEvent { table, old, new, version, .. }) => {
                    let mut note =
                        |row: &Row, then| self.then.entry((*table, key(row))).or_default().push((start, then));
                    old.iter().for_each(|row| note(row, Then::Absent));
                    new.iter().for_each(|row| note(row, Then::Version(*version)));
                }
                Event::Truncate { table, .. } => {
                    self.truncated.insert(*table);
                    let of = self.then.iter_mut().filter(|((of, _), _)| of == table);
                    of.for_each(|(_, list)| list.push((start, Then::Absent)));
                }
                Event::Message { .. } => {}
            }
        }
    }

    /// What the table had of a key behind every transaction that committed up to a position.
    pub fn at(&self, table: usize, key: i64, position: Lsn) -> Then {
        let list = self.then.get(&(table, key)).map(Vec::as_slice).unwrap_or_default();
        list.iter().rfind(|(start, _)| *start <= position).map_or(Then::Absent, |(_, then)| *then)
    }

    /// True if the table was ever truncated.
    pub fn was_truncated(&self, table: usize) -> bool {
        self.truncated.contains(&table)
    }
}
