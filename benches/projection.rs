//! Nanoseconds per record of a compiled projection: key and value of a 12-field record, as the shop has them.
//!
//! `cargo bench --bench projection`. Best and median of many rounds over the same rows, one thread.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use gimbal::avro::{Field, FieldType, RecordSchema};
use gimbal::contract::{Backfill, ContractKind, ContractVersion, Feed, FeedOptions, FeedSource, VersionStatus};
use gimbal::pairs::draft_type;
use gimbal::projection::{Projection, SchemaIds, compile};
use gimbal::row::{Cell, Row};
use gimbal::table::{
    ColumnImage, ColumnKind, QualifiedName, RelationId, ReplicaIdentity, SourceType, TableImage, TableVersion,
};

const ROWS: usize = 1_000;
const ROUNDS: usize = 500;

/// Columns of an order, each with a value; `#` becomes the row's number.
fn columns() -> Vec<(&'static str, SourceType, Option<&'static str>)> {
    let money = SourceType::Numeric { precision: Some(12), scale: Some(2) };
    vec![
        ("order_id", SourceType::Int8, Some("17000#")),
        ("customer_id", SourceType::Int8, Some("83421")),
        ("status", SourceType::Enum { labels: Vec::new() }, Some("shipped")),
        ("total", money, Some("1249.90")),
        ("currency", SourceType::Char, Some("EUR")),
        ("placed_at", SourceType::Timestamptz, Some("2026-07-01 12:34:56.789012+00")),
        ("updated_at", SourceType::Timestamptz, Some("2026-07-03 08:00:01+00")),
        ("region", SourceType::Text, Some("Baden-Württemberg")),
        ("guest", SourceType::Bool, Some("f")),
        ("lines", SourceType::Int4, Some("3")),
        ("discount", SourceType::Float8, Some("0.125")),
        ("note", SourceType::Text, None),
    ]
}

fn projection() -> Projection {
    let columns = columns();
    let name = QualifiedName { namespace: "public".to_owned(), name: "orders".to_owned() };
    let column = |((name, source, _), attnum): (&(&str, SourceType, Option<&str>), i16)| ColumnImage {
        attnum,
        kind: ColumnKind::Ordinary,
        name: (*name).to_owned(),
        type_oid: 0,
        typmod: -1,
        type_name: String::new(),
        source_type: source.clone(),
        not_null: false,
    };
    let image = TableImage {
        relation: RelationId(1),
        name: name.clone(),
        partitioned: false,
        carried_by_leaves: None,
        replica_identity: ReplicaIdentity::Default,
        columns: columns.iter().zip(1..).map(column).collect(),
        keys: Vec::new(),
    };
    let field = |(i, (name, source, _)): (usize, &(&str, SourceType, Option<&str>))| Field {
        name: (*name).to_owned(),
        ty: FieldType { null_branch: (i > 0).then_some(0), base: draft_type(source).base },
        default: None,
    };
    let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
    let feed = |field: &Field| Feed {
        field: field.name.clone(),
        source: FeedSource::Column { from: field.name.clone(), options: FeedOptions::default() },
    };
    let record = |fields: &[Field]| Arc::new(RecordSchema { name: "shop.Order".to_owned(), fields: fields.to_vec() });
    let contract = ContractVersion {
        contract: "orders".to_owned(),
        major: 1,
        minor: 0,
        topic: "shop.orders.v1".to_owned(),
        partitions: 1,
        kind: ContractKind::State,
        append_only: false,
        source: name,
        backfill: Backfill::None,
        status: VersionStatus::Active,
        key: vec!["order_id".to_owned()],
        schema: record(&fields),
        schema_json: String::new(),
        key_schema: Some(record(&fields[..1])),
        key_schema_json: None,
        feeds: fields.iter().map(feed).collect(),
    };
    let bindings: BTreeMap<String, i16> =
        columns.iter().zip(1..).map(|((name, ..), n)| ((*name).to_owned(), n)).collect();
    let ids = SchemaIds { key: Some(1), value: 2 };
    compile(&contract, &bindings, &TableVersion::of_image(&image), ids).expect("the drafts compile")
}

fn rows() -> (Vec<u8>, Vec<Vec<Cell>>) {
    let mut buffer = Vec::new();
    let mut cell = |text: Option<&str>, number: usize| {
        let Some(text) = text else { return Cell::Null };
        let (start, text) = (buffer.len() as u32, text.replace('#', &number.to_string()));
        buffer.extend_from_slice(text.as_bytes());
        Cell::Text { start, len: text.len() as u32 }
    };
    let rows = (0..ROWS).map(|n| columns().iter().map(|(.., text)| cell(*text, n)).collect()).collect();
    (buffer, rows)
}

fn main() {
    let projection = projection();
    let (buffer, rows) = rows();
    let mut out = Vec::new();
    let mut round = || {
        let start = Instant::now();
        out.clear();
        for cells in &rows {
            let row = Row { buffer: &buffer, cells };
            projection.key(row, &mut out).expect("a key that fits");
            projection.value(row, &mut out).expect("a row that fits");
        }
        black_box(&out);
        start.elapsed().as_nanos() as f64 / ROWS as f64
    };
    let mut nanoseconds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    nanoseconds.sort_by(f64::total_cmp);
    let (best, median) = (nanoseconds[0], nanoseconds[ROUNDS / 2]);
    println!(
        "projection: 12 fields, key and value, {} bytes: {best:.0} ns a record (median {median:.0})",
        out.len() / ROWS
    );
}
