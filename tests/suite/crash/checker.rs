//! Holds what a reader got against what the source committed.
//!
//! The truth is an audit table that triggers fill in the application's own transactions: one row a row change, numbered
//! by a sequence, with key, version and transaction id. It vanishes with a rollback, and per key its order is the order
//! of the commits, because the second writer of a key waits for the first one's end. Every version number is given once,
//! so a record says by its version which change it is; a delete has none and is told by its place among its key's
//! changes. Of the transactions before a table's activation the topic has only their outcome, by the snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde_json::Value as Json;

/// A record as an independent reader got it.
#[derive(Clone, Debug)]
pub struct Record {
    pub topic: String,
    pub partition: i64,
    /// Key fields joined by commas.
    pub key: String,
    pub value: Option<Json>,
    pub op: char,
    pub pos: String,
    pub ts: i64,
    pub last: bool,
}

impl Record {
    /// The part of the position that names the transaction.
    fn transaction(&self) -> &str {
        self.pos.get(..21).unwrap_or_default()
    }

    fn ordinal(&self) -> Option<u32> {
        u32::from_str_radix(self.pos.get(22..)?, 16).ok()
    }

    fn version(&self) -> Option<i64> {
        self.value.as_ref()?.get("version")?.as_i64()
    }
}

/// A row change that the source committed.
#[derive(Clone, Debug)]
pub struct Change {
    pub xid: u64,
    /// Where its transaction's commit record begins.
    pub commit_lsn: u64,
    pub table: String,
    /// i, u or d.
    pub op: char,
    pub old_key: String,
    pub new_key: String,
    pub version: i64,
}

/// A published table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub topic: String,
    /// Transactions whose commit record begins here or before are the snapshot's.
    pub begun: u64,
    /// Versions from before the audit, by key.
    pub base: HashMap<String, i64>,
    /// The rows at rest, by key.
    pub rows: BTreeMap<String, Json>,
}

/// All that the source says.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// By name.
    pub tables: BTreeMap<String, Table>,
    /// In the audit's order.
    pub changes: Vec<Change>,
    /// What a row of the table must hold, given the version (and whatever else it is made of) that it shows.
    pub expected: Option<fn(table: &str, value: &Json) -> Json>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A change that no record shows.
    Lost,
    /// A change or a position that two records show.
    Twice,
    /// Changes of a key in another order than they were committed in.
    Order,
    /// A position that is not the one of its change.
    Position,
    /// `last` on another record than the last of its transaction.
    Last,
    /// A snapshot row that is older than what the topic showed before.
    Stale,
    /// A value that is not the row's, or a record of a change that never was.
    Value,
    /// The folded topic differs from the table.
    Fold,
}

/// What is wrong, and where.
#[derive(Clone, Debug)]
pub struct Complaint {
    pub wrong: Wrong,
    pub text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.wrong, self.text)
    }
}

/// A row change as the topic must show it.
#[derive(Clone, Debug)]
struct Expected {
    op: char,
    version: Option<i64>,
    commit_lsn: u64,
    ordinal: u32,
    /// False before the table's activation.
    streamed: bool,
}

type KeyOf<'a> = (&'a str, &'a str);

/// Everything that is wrong with the records.
pub fn check(records: &[Record], truth: &Truth) -> Vec<Complaint> {
    let mut checker = Checker { truth, complaints: Vec::new() };
    let expected = truth.expected_by_key();
    let mut found: BTreeMap<KeyOf<'_>, Vec<&Record>> = BTreeMap::new();
    for record in records {
        found.entry((&record.topic, &record.key)).or_default().push(record);
    }
    checker.positions(records);
    checker.transactions(records);
    checker.values(records);
    let keys: BTreeSet<KeyOf<'_>> = expected.keys().chain(found.keys()).copied().collect();
    for key in keys {
        let expected = expected.get(&key).map(Vec::as_slice).unwrap_or_default();
        let found = found.get(&key).map(Vec::as_slice).unwrap_or_default();
        checker.delivery(key, found);
        if checker.changes(key, expected, found) {
            checker.snapshot_rows(key, expected, found);
        }
    }
    checker.fold(&found);
    checker.complaints
}

impl Truth {
    fn expected_by_key(&self) -> BTreeMap<KeyOf<'_>, Vec<Expected>> {
        let mut ordinals: HashMap<u64, u32> = HashMap::new();
        let mut expected: BTreeMap<KeyOf<'_>, Vec<Expected>> = BTreeMap::new();
        for change in &self.changes {
            let Some(table) = self.tables.get(&change.table) else { continue };
            let streamed = change.commit_lsn > table.begun;
            let next = ordinals.entry(change.xid).or_default();
            let first = *next;
            // An update takes two ordinals, used or not; rows of a table that is not yet active take none.
            *next += if streamed { 1 + u32::from(change.op == 'u') } else { 0 };
            let (old, new, version) = (change.old_key.as_str(), change.new_key.as_str(), Some(change.version));
            let one = |op, version, ordinal| Expected { op, version, commit_lsn: change.commit_lsn, ordinal, streamed };
            let shown = match change.op {
                'i' => vec![(new, one('c', version, first))],
                'd' => vec![(old, one('d', None, first))],
                _ if old == new => vec![(new, one('u', version, first + 1))],
                _ => vec![(old, one('d', None, first)), (new, one('u', version, first + 1))],
            };
            for (key, one) in shown {
                expected.entry((&table.topic, key)).or_default().push(one);
            }
        }
        expected
    }
}

struct Checker<'a> {
    truth: &'a Truth,
    complaints: Vec<Complaint>,
}

impl Checker<'_> {
    fn complain(&mut self, wrong: Wrong, text: impl Into<String>) {
        self.complaints.push(Complaint { wrong, text: text.into() });
    }

    /// No position twice, in whatever topic.
    fn positions(&mut self, records: &[Record]) {
        let mut seen: HashMap<&str, &Record> = HashMap::new();
        for record in records {
            if record.pos.len() != 30 || record.ordinal().is_none() {
                self.complain(Wrong::Position, format!("{record:?} has no position"));
            }
            if let Some(before) = seen.insert(&record.pos, record) {
                self.complain(Wrong::Twice, format!("two records at one position:\n    {before:?}\n    {record:?}"));
            }
        }
    }

    /// One `last` in each transaction, on its highest position; one time for all its records; none for snapshot rows.
    fn transactions(&mut self, records: &[Record]) {
        let mut transactions: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for record in records {
            if record.op != 'r' {
                transactions.entry(record.transaction()).or_default().push(record);
            } else if record.last {
                self.complain(Wrong::Last, format!("a snapshot row has `last`: {record:?}"));
            }
        }
        for (transaction, records) in transactions {
            let highest = records.iter().map(|record| &record.pos).max();
            let last: Vec<&String> = records.iter().filter(|record| record.last).map(|record| &record.pos).collect();
            if last.len() != 1 || last.first().copied() != highest {
                let text = format!("transaction {transaction} ends at {highest:?}, `last` is on {last:?}");
                self.complain(Wrong::Last, text);
            }
            if records.iter().any(|record| record.ts != records[0].ts) {
                self.complain(Wrong::Value, format!("transaction {transaction} has more than one commit time"));
            }
        }
    }

    /// Each value is the one of its version, and sits under its own key.
    fn values(&mut self, records: &[Record]) {
        for record in records {
            let shown = (record.op, record.value.is_some());
            if !matches!(shown, ('c' | 'u' | 'r', true) | ('d', false)) {
                self.complain(Wrong::Value, format!("not what its operation has: {record:?}"));
            }
            let (Some(value), Some(expected)) = (&record.value, self.truth.expected) else { continue };
            let table = self.truth.tables.iter().find(|(_, table)| table.topic == record.topic);
            let Some((name, _)) = table else {
                self.complain(Wrong::Value, format!("a topic without table: {record:?}"));
                continue;
            };
            let expected = expected(name, value);
            if expected != *value {
                self.complain(Wrong::Value, format!("at {} {value}, not {expected}", record.pos));
            }
        }
    }

    /// Positions of a key rise in the order of delivery, in one partition.
    fn delivery(&mut self, key: KeyOf<'_>, found: &[&Record]) {
        for pair in found.windows(2) {
            if pair[0].pos >= pair[1].pos {
                let text =
                    format!("{key:?}: {} ({}) comes before {} ({})", pair[0].pos, pair[0].op, pair[1].pos, pair[1].op);
                self.complain(Wrong::Order, text);
            }
            if pair[0].partition != pair[1].partition {
                self.complain(Wrong::Order, format!("{key:?} is in two partitions"));
            }
        }
    }

    /// The streamed records of a key are its changes since the activation: each, once, in order. True if they are.
    fn changes(&mut self, key: KeyOf<'_>, expected: &[Expected], found: &[&Record]) -> bool {
        let expected: Vec<&Expected> = expected.iter().filter(|one| one.streamed).collect();
        let found: Vec<&&Record> = found.iter().filter(|record| record.op != 'r').collect();
        let shape = |list: &[(char, Option<i64>)]| format!("{list:?}");
        let wanted: Vec<(char, Option<i64>)> = expected.iter().map(|one| (one.op, one.version)).collect();
        let got: Vec<(char, Option<i64>)> = found.iter().map(|record| (record.op, record.version())).collect();
        if wanted != got {
            let (mut a, mut b) = (wanted.clone(), got.clone());
            a.sort_unstable();
            b.sort_unstable();
            let count = |list: &[(char, Option<i64>)], one| list.iter().filter(|other| **other == one).count();
            let text = format!("{key:?}: committed {}, found {}", shape(&wanted), shape(&got));
            if wanted.iter().any(|one| count(&got, *one) < count(&wanted, *one)) {
                self.complain(Wrong::Lost, text.clone());
            }
            if got.iter().any(|one| count(&got, *one) > count(&wanted, *one).max(1)) {
                self.complain(Wrong::Twice, text.clone());
            }
            if got.iter().any(|one| count(&wanted, *one) == 0) {
                self.complain(Wrong::Value, format!("a change that never was: {text}"));
            }
            if a == b {
                self.complain(Wrong::Order, text);
            }
            return false;
        }
        for (expected, record) in expected.iter().zip(found) {
            self.place(expected, record);
        }
        true
    }

    /// The record stands where its change stands: in its transaction, at its ordinal.
    fn place(&mut self, expected: &Expected, record: &Record) {
        let wanted = format!("0000-{:016X}-{:08X}", expected.commit_lsn, expected.ordinal);
        if record.pos != wanted {
            self.complain(Wrong::Position, format!("a change is to be at {wanted}: {record:?}"));
        }
    }

    /// Snapshot rows show versions that the key really had, none older than what the topic showed before, and no record
    /// after one repeats it. (A snapshot row may repeat a version that was streamed.)
    fn snapshot_rows(&mut self, key: KeyOf<'_>, expected: &[Expected], found: &[&Record]) {
        let base = self.truth.tables.values().find(|t| t.topic == key.0).and_then(|t| t.base.get(key.1).copied());
        let mut streamed = expected.iter().enumerate().filter(|(_, one)| one.streamed);
        let (mut newest, mut by_snapshot) = (-2, false);
        for record in found {
            let index = if record.op == 'r' {
                let known = expected.iter().position(|one| one.version.is_some() && one.version == record.version());
                match known {
                    Some(index) => index as i64,
                    None if record.version() == base => -1,
                    None => {
                        self.complain(Wrong::Value, format!("{key:?}: a version that never was: {record:?}"));
                        continue;
                    }
                }
            } else {
                streamed.next().map_or(-2, |(index, _)| index as i64)
            };
            if index < newest {
                self.complain(Wrong::Stale, format!("{key:?}: an older version comes later: {record:?}"));
            } else if index == newest && (by_snapshot || record.op != 'r') {
                self.complain(Wrong::Twice, format!("{key:?}: shown by a snapshot row before: {record:?}"));
            }
            (newest, by_snapshot) = (index.max(newest), record.op == 'r');
        }
    }

    /// The newest record of each key is the row at rest.
    fn fold(&mut self, found: &BTreeMap<KeyOf<'_>, Vec<&Record>>) {
        for (name, table) in &self.truth.tables {
            let newest = found.iter().filter(|((topic, _), _)| *topic == table.topic);
            let newest = newest.filter_map(|((_, key), records)| Some((*key, records.last()?.value.as_ref()?)));
            let folded: BTreeMap<&str, &Json> = newest.collect();
            let rows: BTreeMap<&str, &Json> = table.rows.iter().map(|(key, row)| (key.as_str(), row)).collect();
            let keys: BTreeSet<&str> = folded.keys().chain(rows.keys()).copied().collect();
            for key in keys.into_iter().filter(|key| folded.get(key) != rows.get(key)) {
                let (a, b) = (folded.get(key), rows.get(key));
                let show = |row: Option<&&Json>| row.map_or_else(|| "no row".to_owned(), |row| row.to_string());
                self.complaints.push(Complaint {
                    wrong: Wrong::Fold,
                    text: format!("`{name}` {key}: the topic says {}, the table {}", show(a), show(b)),
                });
            }
        }
    }
}
