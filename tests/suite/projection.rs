//! Projections: what they write is read back by decoders that gimbal did not write, and compared with models of the
//! values and with the server's own opinion of them.

mod allocations;
pub mod forms;
mod generated;
mod live;
mod read_back;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;

use gimbal::avro::{Field, FieldType, RecordSchema};
use gimbal::contract::{Backfill, ContractKind, ContractVersion, Feed, FeedOptions, FeedSource, VersionStatus};
use gimbal::projection::{Projection, SchemaIds, compile};
use gimbal::row::{Cell, Row};
use gimbal::table::{
    ColumnImage, ColumnKind, QualifiedName, RelationId, ReplicaIdentity, SourceType, TableImage, TableVersion,
};

/// A column and the field that it feeds.
#[derive(Clone, Debug)]
pub struct Fed {
    pub source: SourceType,
    pub field: FieldType,
    pub options: FeedOptions,
}

impl Fed {
    pub fn plain(source: SourceType, field: FieldType) -> Fed {
        Fed { source, field, options: FeedOptions::default() }
    }
}

const VALUE_ID: u32 = 0x00C0_FFEE;

/// The value schema of these columns: fields `f0`, `f1` …
pub fn record_schema(columns: &[Fed]) -> RecordSchema {
    let field = |(i, fed): (usize, &Fed)| Field { name: format!("f{i}"), ty: fed.field.clone(), default: None };
    RecordSchema { name: "test.Row".to_owned(), fields: columns.iter().enumerate().map(field).collect() }
}

/// The schema id of every value here.
pub fn value_id() -> u32 {
    VALUE_ID
}

/// A projection of these columns, without a key.
pub fn projection(columns: &[Fed]) -> Projection {
    let feed = |(i, fed): (usize, &Fed)| Feed {
        field: format!("f{i}"),
        source: FeedSource::Column { from: format!("c{}", i + 1), options: fed.options.clone() },
    };
    let bindings: BTreeMap<String, i16> = (1..=columns.len() as i16).map(|n| (format!("f{}", n - 1), n)).collect();
    compiled(columns, record_schema(columns), columns.iter().enumerate().map(feed).collect(), bindings)
}

/// A projection of one field over these columns; `places` are those of the columns that it is bound to.
pub fn projection_of(
    columns: &[Fed],
    field: FieldType,
    source: FeedSource,
    places: &[usize],
) -> (Projection, apache_avro::Schema) {
    let feed = Feed { field: "f0".to_owned(), source };
    let keys = feed.bindings().into_iter().map(|(key, _)| key);
    let bindings = keys.zip(places).map(|(key, place)| (key, *place as i16 + 1)).collect();
    let field = Field { name: "f0".to_owned(), ty: field, default: None };
    let record = RecordSchema { name: "test.Row".to_owned(), fields: vec![field] };
    let schema = apache_avro::Schema::parse_str(&record.to_json().to_string()).unwrap();
    (compiled(columns, record, vec![feed], bindings), schema)
}

fn compiled(columns: &[Fed], record: RecordSchema, feeds: Vec<Feed>, bindings: BTreeMap<String, i16>) -> Projection {
    let name = QualifiedName { namespace: "public".to_owned(), name: "t".to_owned() };
    let column = |(fed, attnum): (&Fed, i16)| ColumnImage {
        attnum,
        kind: ColumnKind::Ordinary,
        name: format!("c{attnum}"),
        type_oid: 0,
        typmod: -1,
        type_name: gimbal::pairs::source_type_name(&fed.source),
        source_type: fed.source.clone(),
        not_null: false,
    };
    let table = TableVersion::of_image(&TableImage {
        relation: RelationId(1),
        name: name.clone(),
        partitioned: false,
        carried_by_leaves: None,
        replica_identity: ReplicaIdentity::Default,
        columns: columns.iter().zip(1..).map(column).collect(),
        keys: Vec::new(),
    });
    let contract = ContractVersion {
        contract: "t".to_owned(),
        major: 1,
        minor: 0,
        topic: "t.v1".to_owned(),
        partitions: 1,
        kind: ContractKind::Log,
        append_only: true,
        source: name,
        backfill: Backfill::None,
        status: VersionStatus::Active,
        key: Vec::new(),
        schema: Arc::new(record),
        schema_json: String::new(),
        key_schema: None,
        key_schema_json: None,
        feeds,
    };
    compile(&contract, &bindings, &table, SchemaIds { key: None, value: VALUE_ID }).unwrap()
}

/// Texts, `None` for null, as a row's buffer and cells.
fn cells<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> (String, Vec<Cell>) {
    let mut buffer = String::new();
    let mut cells = Vec::new();
    for text in texts {
        cells.push(match text {
            None => Cell::Null,
            Some(text) => Cell::Text { start: buffer.len() as u32, len: text.len() as u32 },
        });
        buffer.push_str(text.unwrap_or_default());
    }
    (buffer, cells)
}

/// The framed value of one row.
pub fn encode<'a>(
    projection: &Projection,
    texts: impl IntoIterator<Item = Option<&'a str>>,
) -> Result<Vec<u8>, gimbal::projection::ValueError> {
    let (buffer, cells) = cells(texts);
    let mut out = Vec::new();
    projection.value(Row { buffer: buffer.as_bytes(), cells: &cells }, &mut out).map(|()| out)
}
