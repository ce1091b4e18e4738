//! File topics seen by a reader that gimbal did not write: Python's fastavro.

use std::path::{Path, PathBuf};

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Decimal, Schema, Uuid};
use gimbal::batch::{Batch, Op, Record, Span, StateChange, TopicId};
use gimbal::cli::tail::{TailArgs, TailFormat, tail};
use gimbal::lsn::Lsn;
use gimbal::position::Position;
use gimbal::sink::files::{FilesOptions, FilesSink};
use gimbal::sink::reader::TopicReader;
use gimbal::sink::{RegisteredSchema, Retention, Sink, TopicSpec};
use serde_json::{Value as Json, json};

use crate::lab;

const KEY: &str = r#"{"type":"record","name":"OrderKey","namespace":"shop","fields":[
    {"name":"order_id","type":"long"},
    {"name":"status","type":{"type":"enum","name":"Status","symbols":["NEW","PAID"]}}]}"#;

/// Every type that gimbal publishes; `Status` is the key's.
const VALUE: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"order_id","type":"long"},
    {"name":"status","type":{"type":"enum","name":"Status","symbols":["NEW","PAID"]}},
    {"name":"before","type":["null","Status"]},
    {"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":19,"scale":2}},
    {"name":"huge","type":["null",{"type":"bytes","logicalType":"decimal","precision":60,"scale":20}]},
    {"name":"note","type":["string","null"]},
    {"name":"guest","type":"boolean"},
    {"name":"score","type":"double"},
    {"name":"ratio","type":"float"},
    {"name":"raw","type":"bytes"},
    {"name":"code","type":{"type":"fixed","name":"Code","size":3}},
    {"name":"born","type":["null",{"type":"int","logicalType":"date"}]},
    {"name":"opens","type":{"type":"long","logicalType":"time-micros"}},
    {"name":"placed_at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"seen_at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"local_at","type":["null",{"type":"long","logicalType":"local-timestamp-micros"}]},
    {"name":"device","type":{"type":"string","logicalType":"uuid"}},
    {"name":"tags","type":{"type":"array","items":["null","string"]}}]}"#;

/// The next minor: one field more, so that the file rolls.
fn value_minor() -> String {
    let field = r#",{"name":"channel","type":["null","string"],"default":null}]}"#;
    format!("{}{field}", VALUE.strip_suffix("]}").unwrap())
}

fn nullable(branch: u32, value: Option<Value>) -> Value {
    Value::Union(if value.is_some() { branch } else { 1 - branch }, Box::new(value.unwrap_or(Value::Null)))
}

fn decimal(unscaled: i128) -> Value {
    Value::Decimal(Decimal::from(unscaled.to_be_bytes()))
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn key(order: i64) -> Value {
    Value::Record(vec![("order_id".into(), Value::Long(order)), ("status".into(), Value::Enum(1, "PAID".into()))])
}

/// An order whose nullable fields are null if `order` is odd; `minor` adds the new field.
fn value(order: i64, minor: bool) -> Value {
    let some = |value| (order % 2 == 0).then_some(value);
    let mut fields = vec![
        ("order_id", Value::Long(order)),
        ("status", Value::Enum(0, "NEW".into())),
        ("before", nullable(1, some(Value::Enum(1, "PAID".into())))),
        ("total", decimal(if order % 2 == 0 { -1_234_567 } else { 5 })),
        ("huge", nullable(1, some(decimal(i128::MIN)))),
        ("note", nullable(0, some(text("naïve “quotes”\n\u{1F6D2}")))),
        ("guest", Value::Boolean(order % 2 == 0)),
        ("score", Value::Double(0.1 + 0.2)),
        ("ratio", Value::Float(0.25)),
        ("raw", Value::Bytes(vec![0, 1, 0xfe, 0xff])),
        ("code", Value::Fixed(3, vec![0xab, 0, 0xcd])),
        ("born", nullable(1, some(Value::Date(-25_567)))),
        ("opens", Value::TimeMicros(86_399_999_999)),
        ("placed_at", Value::TimestampMicros(1_700_000_000_000_001)),
        ("seen_at", Value::TimestampMillis(-1_000)),
        ("local_at", nullable(1, some(Value::LocalTimestampMicros(1_709_164_800_000_000)))),
        ("device", Value::Uuid(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef))),
        ("tags", Value::Array(vec![nullable(1, Some(text("a"))), nullable(1, None), nullable(1, Some(text("")))])),
    ];
    if minor {
        fields.push(("channel", nullable(1, some(text("web")))));
    }
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Appends a framed key or value.
fn put(batch: &mut Batch, id: u8, schema: &str, value: Value) -> Span {
    let schema = Schema::parse_str(schema).unwrap();
    let body = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap();
    let start = batch.bytes.len();
    batch.bytes.extend([0, 0, 0, 0, id]);
    batch.bytes.extend(body);
    Span { start: start as u32, len: (batch.bytes.len() - start) as u32 }
}

fn spec(minor: bool) -> TopicSpec {
    TopicSpec {
        name: "shop.orders.v1".into(),
        partitions: 1,
        retention: Retention::Compact,
        key: Some(RegisteredSchema { id: 1, json: KEY.into() }),
        value: RegisteredSchema { id: 2 + u32::from(minor), json: if minor { value_minor() } else { VALUE.into() } },
    }
}

/// Writes 40 orders and two tombstones over two minors and several commits.
fn write_topic(folder: &Path) -> PathBuf {
    let options = FilesOptions { roll_bytes: 4_000, ..FilesOptions::default() };
    let mut sink = FilesSink::open(folder, "shop", options).unwrap();
    sink.load().unwrap();
    for commit in 0..14u32 {
        let minor = commit >= 7;
        sink.declare(&[spec(minor)]).unwrap();
        let mut batch = Batch::default();
        for i in 0..3 {
            let order = i64::from(commit * 3 + i);
            let schema = if minor { value_minor() } else { VALUE.into() };
            let key = put(&mut batch, 1, KEY, key(order));
            let value = (order % 21 != 20).then(|| put(&mut batch, 2 + u8::from(minor), &schema, value(order, minor)));
            let names = Span { start: batch.bytes.len() as u32, len: 12 };
            batch.bytes.extend_from_slice(b"note,channel");
            batch.records.push(Record {
                topic: TopicId(0),
                op: [Op::Create, Op::Update, Op::Read][i as usize],
                position: Position { epoch: 0, commit_lsn: Lsn(0xA0_0000 + u64::from(commit)), ordinal: i },
                timestamp: 1_700_000_000_000_000 + i64::from(i),
                key: Some(key),
                value,
                last: i == 2,
                reread: (i == 1).then_some(names),
            });
        }
        batch.state.push(StateChange { key: "position".into(), value: Some(b"{}".to_vec()) });
        sink.commit(&batch).unwrap();
    }
    folder.join("shop.orders.v1")
}

#[test]
fn fastavro_and_our_reader_see_the_same_records() {
    let folder = tempfile::tempdir().unwrap();
    let topic = write_topic(folder.path());
    let mut files: Vec<PathBuf> = std::fs::read_dir(&topic).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    let paths: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let lines = lab::python("py/read_ocf.py", &paths);
    let seen: Vec<Json> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let mut reader = TopicReader::open(folder.path(), "shop.orders.v1").unwrap();
    let mut ours = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        ours.push(record.to_json());
    }
    assert_eq!(seen.len(), 42);
    assert_eq!(seen, ours);
    assert_eq!(seen[20]["value"], Json::Null, "a tombstone");
    assert_eq!(seen[21]["value"]["channel"], Json::Null);
    assert_eq!(seen[22]["value"]["channel"], "web");
    assert_eq!((&seen[1]["reread"], &seen[0]["reread"]), (&json!(["note", "channel"]), &json!([])));
    // Two readers that agree could both be wrong, so one record is spelled out.
    assert_eq!(
        seen[2],
        json!({
            "key": {"order_id": 2, "status": "PAID"},
            "value": {
                "order_id": 2,
                "status": "NEW",
                "before": "PAID",
                "total": "-12345.67",
                "huge": "-1701411834604692317.31687303715884105728",
                "note": "naïve “quotes”\n\u{1F6D2}",
                "guest": true,
                "score": 0.30000000000000004,
                "ratio": 0.25,
                "raw": "\\x0001feff",
                "code": "\\xab00cd",
                "born": "1900-01-01",
                "opens": "23:59:59.999999",
                "placed_at": "2023-11-14T22:13:20.000001Z",
                "seen_at": "1969-12-31T23:59:59Z",
                "local_at": "2024-02-29T00:00:00",
                "device": "01234567-89ab-cdef-0123-456789abcdef",
                "tags": ["a", null, ""],
            },
            "op": "r",
            "pos": "0000-0000000000A00000-00000002",
            "ts": "2023-11-14T22:13:20.000002Z",
            "last": true,
            "reread": [],
        })
    );
}

#[test]
fn tail_shows_a_topic_from_a_position_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    write_topic(folder.path());
    let args = TailArgs {
        topic: "shop.orders.v1".into(),
        follow: false,
        from: Some(Position { epoch: 0, commit_lsn: Lsn(0xA0_0006), ordinal: 2 }),
        limit: Some(2),
        unseal: false,
        format: TailFormat::Json,
    };
    let lines = |args: &TailArgs| {
        let mut out = Vec::new();
        let mut source = TopicReader::open(folder.path(), &args.topic).unwrap();
        tail(&mut source, args, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let shown: Vec<Json> = lines(&args).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let orders: Vec<&Json> = shown.iter().map(|record| &record["key"]["order_id"]).collect();
    assert_eq!(orders, [20, 21]);
    assert_eq!((&shown[0]["value"], &shown[1]["value"]["total"]), (&Json::Null, &json!("0.05")));
    let text = lines(&TailArgs { format: TailFormat::Text, limit: None, ..args });
    assert_eq!(text.len(), 22);
    assert_eq!(
        text[0],
        "0000-0000000000A00006-00000002 r 2023-11-14T22:13:20.000002Z {\"order_id\":20,\"status\":\"PAID\"} - last"
    );
}
