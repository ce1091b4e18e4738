//! Tests of the files sink as a whole: against a model, under crashes and power cuts, with damage, beside readers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use apache_avro::types::Value;

use crate::batch::{Batch, Op, Record, Span, StateChange, TopicId};
use crate::error::Result;
use crate::lsn::Lsn;
use crate::position::Position;
use crate::sink::disk::Disk;
use crate::sink::files::{FilesOptions, FilesSink};
use crate::sink::manifest::{DataFile, closed_name, open_name};
use crate::sink::reader::{FileRecord, TopicReader};
use crate::sink::recovery::data_files;
use crate::sink::{RegisteredSchema, Retention, TopicSpec};

mod concurrent;
mod crash;
mod damage;
mod decoding;
mod disk_full;
mod model;
mod simulated;
mod throughput;

pub const TOPICS: [&str; 3] = ["shop.orders.v1", "shop.activity.v1", "shop.orders.v2"];
const KEY: &str = r#"{"type":"record","name":"OrderKey","fields":[{"name":"id","type":"long"}]}"#;
const VALUE: &str = r#"{"type":"record","name":"Order","fields":[{"name":"text","type":"string"}]}"#;
const VALUE_MINOR: &str = r#"{"type":"record","name":"Order","fields":[{"name":"text","type":"string"},
    {"name":"added","type":["null","int"],"default":null}]}"#;

/// A folder in memory where there is one, for tests that sync a thousand times.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The topics with their first or second minor; the second topic has no key.
pub fn specs(minor: u32) -> Vec<TopicSpec> {
    let value = match minor {
        0 => RegisteredSchema { id: 2, json: VALUE.into() },
        _ => RegisteredSchema { id: 3, json: VALUE_MINOR.into() },
    };
    let spec = |(i, name): (usize, &&str)| TopicSpec {
        name: (*name).into(),
        partitions: 1,
        retention: Retention::Append,
        key: (i != 1).then(|| RegisteredSchema { id: 1, json: KEY.into() }),
        value: value.clone(),
    };
    TOPICS.iter().enumerate().map(spec).collect()
}

/// What a record is about; its number is unique, so that loss, repetition and reordering show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub topic: usize,
    pub number: u32,
    /// Length of the text; none for a tombstone.
    pub text: Option<usize>,
    pub last: bool,
}

fn text_of(number: u32, len: usize) -> String {
    format!("{number:>len$}")
}

/// A batch with these rows and the checkpoint `n`.
pub fn batch(rows: &[Row], n: u64, minor: u32) -> Batch {
    let mut batch = Batch::default();
    for row in rows {
        let mut put = |id: u8, body: &dyn Fn(&mut Vec<u8>)| {
            let start = batch.bytes.len();
            batch.bytes.extend([0, 0, 0, 0, id]);
            body(&mut batch.bytes);
            Span { start: start as u32, len: (batch.bytes.len() - start) as u32 }
        };
        let key = (row.topic != 1).then(|| put(1, &|out| crate::sink::ocf::write_long(out, i64::from(row.number))));
        let value = row.text.map(|len| {
            put(2 + minor as u8, &|out| {
                crate::sink::ocf::write_bytes(out, text_of(row.number, len).as_bytes());
                if minor > 0 {
                    out.push(0);
                }
            })
        });
        batch.records.push(Record {
            topic: TopicId(row.topic as u16),
            op: if value.is_some() { Op::Create } else { Op::Delete },
            position: Position { epoch: 1, commit_lsn: Lsn(n), ordinal: row.number },
            timestamp: -5,
            key,
            value,
            last: row.last,
            reread: None,
        });
    }
    batch.state.push(StateChange { key: "position".into(), value: Some(format!("{{\"n\":{n}}}").into_bytes()) });
    batch
}

/// The checkpoint that [`batch`] left.
pub fn checkpoint(entries: &crate::sink::StateEntries) -> u64 {
    let Some(entry) = entries.get("position") else { return 0 };
    serde_json::from_slice::<serde_json::Value>(entry).unwrap()["n"].as_u64().unwrap()
}

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
pub struct Hand(Arc<AtomicU64>);

impl Hand {
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn sink(&self, disk: Disk, folder: &Path, roll_bytes: u64) -> Result<FilesSink> {
        let hand = self.clone();
        let clock = Box::new(move || UNIX_EPOCH + Duration::from_secs(hand.0.load(Ordering::Relaxed)));
        FilesSink::open_on(disk, clock, folder, "shop", FilesOptions { roll_bytes, roll_age: Duration::from_secs(60) })
    }
}

fn field<'a>(record: &'a Value, name: &str) -> &'a Value {
    let Value::Record(fields) = record else { panic!("{record:?}") };
    &fields.iter().find(|(field, _)| field == name).unwrap().1
}

fn row_of(topic: usize, key: Option<&Value>, value: Option<&Value>, position: Position, last: bool) -> Row {
    let number = position.ordinal;
    assert_eq!(key.map(|key| field(key, "id")), (topic != 1).then_some(&Value::Long(i64::from(number))));
    let text = value.map(|value| match field(value, "text") {
        Value::String(text) => text,
        other => panic!("{other:?}"),
    });
    if let Some(text) = text {
        assert_eq!(*text, text_of(number, text.len()));
    }
    Row { topic, number, text: text.map(String::len), last }
}

/// The rows that our reader sees in all topics, topic by topic.
pub fn read_back(folder: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for (topic, name) in TOPICS.iter().enumerate() {
        let mut reader = TopicReader::open(folder, name).unwrap();
        while let Some(FileRecord { key, value, position, last, .. }) = reader.next().unwrap() {
            rows.push(row_of(topic, key.as_ref(), value.as_ref(), position, last));
        }
    }
    rows
}

/// The rows that the reference implementation sees in the files as they are, topic by topic.
pub fn read_back_by_reference(folder: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for (topic, name) in TOPICS.iter().enumerate() {
        for path in files_in_order(&folder.join(name)) {
            for record in apache_avro::Reader::new(&*std::fs::read(path).unwrap()).unwrap() {
                let record = record.unwrap();
                let present = |name| match field(&record, name) {
                    Value::Union(_, inner) if **inner == Value::Null => None,
                    Value::Union(_, inner) => Some(&**inner),
                    _ => None,
                };
                let (Value::String(pos), Value::Boolean(last)) = (field(&record, "pos"), field(&record, "last")) else {
                    panic!("{record:?}")
                };
                rows.push(row_of(topic, present("key"), present("value"), pos.parse().unwrap(), *last));
            }
        }
    }
    rows
}

pub fn files_in_order(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<(u64, PathBuf)> = data_files(folder)
        .unwrap()
        .into_iter()
        .map(|file| match file {
            DataFile::Closed(number) => (number, folder.join(closed_name(number))),
            DataFile::Open(number) => (number, folder.join(open_name(number))),
        })
        .collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

/// Rows in the order in which the readers above return them.
pub fn by_topic(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| row.topic);
    rows
}
