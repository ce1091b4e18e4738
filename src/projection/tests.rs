use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::avro::{BaseType, Field, FieldType, RecordSchema};
use crate::contract::{Backfill, ContractKind, Expr, Feed, FeedOptions, FeedSource, Mask, MaskKey, VersionStatus};
use crate::row::Cell;
use crate::table::{ColumnImage, ColumnKind, QualifiedName, RelationId, ReplicaIdentity, SourceType, TableImage};

fn nullable(base: BaseType) -> FieldType {
    FieldType { null_branch: Some(0), base }
}

pub(super) fn required(base: BaseType) -> FieldType {
    FieldType { null_branch: None, base }
}

/// A table version of these columns, numbered from 1.
pub(super) fn table(columns: &[(&str, SourceType)]) -> TableVersion {
    let column = |((name, source), attnum): (&(&str, SourceType), i16)| ColumnImage {
        attnum,
        kind: ColumnKind::Ordinary,
        name: (*name).to_owned(),
        type_oid: attnum as u32,
        typmod: -1,
        type_name: crate::pairs::source_type_name(source),
        source_type: source.clone(),
        not_null: false,
    };
    TableVersion::of_image(&TableImage {
        relation: RelationId(16384),
        name: QualifiedName { namespace: "public".to_owned(), name: "orders".to_owned() },
        partitioned: false,
        carried_by_leaves: None,
        replica_identity: ReplicaIdentity::Default,
        columns: columns.iter().zip(1..).map(column).collect(),
        keys: Vec::new(),
    })
}

fn column(from: &str) -> FeedSource {
    FeedSource::Column { from: from.to_owned(), options: FeedOptions::default() }
}

fn with_default(from: &str, default: serde_json::Value) -> FeedSource {
    FeedSource::Column { from: from.to_owned(), options: FeedOptions { default: Some(default), ..Default::default() } }
}

/// A contract of these fields, keyed by the first.
pub(super) fn contract(fields: Vec<(&str, FieldType, FeedSource)>) -> ContractVersion {
    let field = |(name, ty, _): &(&str, FieldType, FeedSource)| Field {
        name: (*name).to_owned(),
        ty: ty.clone(),
        default: None,
    };
    let record = |fields: Vec<Field>| Arc::new(RecordSchema { name: "shop.Order".to_owned(), fields });
    let all: Vec<Field> = fields.iter().map(field).collect();
    ContractVersion {
        contract: "orders".to_owned(),
        major: 1,
        minor: 0,
        topic: "shop.orders.v1".to_owned(),
        partitions: 1,
        kind: ContractKind::State,
        append_only: false,
        source: QualifiedName { namespace: "public".to_owned(), name: "orders".to_owned() },
        backfill: Backfill::Snapshot,
        status: VersionStatus::Active,
        key: vec![all[0].name.clone()],
        key_schema: Some(record(vec![all[0].clone()])),
        key_schema_json: None,
        schema: record(all),
        schema_json: String::new(),
        feeds: fields.into_iter().map(|(name, _, source)| Feed { field: name.to_owned(), source }).collect(),
    }
}

fn bindings(contract: &ContractVersion, table: &TableVersion) -> BTreeMap<String, i16> {
    let attnum = |from: &str| table.columns.iter().find(|column| column.name == from).and_then(|column| column.attnum);
    let all = contract.feeds.iter().flat_map(Feed::bindings);
    all.filter_map(|(key, from)| Some((key, attnum(from)?))).collect()
}

const IDS: SchemaIds = SchemaIds { key: Some(0x0102_0304), value: 7 };

fn orders() -> (ContractVersion, TableVersion) {
    let numeric = SourceType::Numeric { precision: Some(10), scale: Some(2) };
    let table = table(&[
        ("id", SourceType::Int8),
        ("note", SourceType::Text),
        ("amount", numeric),
        ("unread", SourceType::Text),
    ]);
    let contract = contract(vec![
        ("order_id", required(BaseType::Long), column("id")),
        ("note", nullable(BaseType::String), column("note")),
        ("total", required(BaseType::Decimal { precision: 10, scale: 2 }), with_default("amount", json!("0.00"))),
        ("channel", required(BaseType::String), FeedSource::Const(json!("web"))),
    ]);
    (contract, table)
}

/// A row of texts; `None` is null.
pub(super) fn encode_row(
    projection: &Projection,
    cells: &[Option<&str>],
) -> (Vec<u8>, std::result::Result<Vec<u8>, ValueError>) {
    let buffer = cells.iter().flatten().copied().collect::<String>();
    let mut start = 0;
    let cells: Vec<Cell> = cells
        .iter()
        .map(|text| match text {
            None => Cell::Null,
            Some("?unchanged?") => {
                start += 11;
                Cell::Unchanged
            }
            Some(text) => {
                let cell = Cell::Text { start, len: text.len() as u32 };
                start += text.len() as u32;
                cell
            }
        })
        .collect();
    let row = Row { buffer: buffer.as_bytes(), cells: &cells };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let _ = projection.key(row, &mut key);
    (key, projection.value(row, &mut value).map(|()| value))
}

#[test]
fn a_row_becomes_a_framed_key_and_value() {
    let (contract, table) = orders();
    let projection = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap();
    let (key, value) = encode_row(&projection, &[Some("21"), Some("hi"), Some("1.28"), Some("\u{0}")]);
    assert_eq!(key, [0, 1, 2, 3, 4, 42]);
    assert_eq!(value.unwrap(), [&[0, 0, 0, 0, 7, 42, 2, 4][..], b"hi", &[4, 0, 128, 6], b"web"].concat());
    assert_eq!(projection.key_places(), [0]);
    assert_eq!([0, 1, 2, 3, 4].map(|place| projection.reads(place)), [true, true, true, false, false]);
}

#[test]
fn null_is_the_branch_the_default_or_an_error() {
    let (mut contract, table) = orders();
    let projection = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap();
    let (_, value) = encode_row(&projection, &[Some("21"), None, None, None]);
    assert_eq!(value.unwrap(), [&[0, 0, 0, 0, 7, 42, 0, 2, 0, 6][..], b"web"].concat());
    contract.feeds[2].source = column("amount");
    let projection = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap();
    let (_, value) = encode_row(&projection, &[Some("21"), None, None, None]);
    let error = value.unwrap_err();
    assert_eq!(error, ValueError { field: 2, reason: Reason::Null });
    assert_eq!(projection.describe(&error).code(), Code::ValueNull);
}

#[test]
fn an_error_names_both_sides_and_never_the_value() {
    let (contract, table) = orders();
    let projection = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap();
    for (amount, code, reason) in [
        ("NaN", Code::ValueRefused, Reason::Nan),
        ("123456789.00", Code::ValueRefused, Reason::OutOfRange),
        ("0.125", Code::ValueRefused, Reason::Inexact),
        ("?unchanged?", Code::ValueUnchanged, Reason::Unchanged),
    ] {
        let (_, value) = encode_row(&projection, &[Some("21"), None, Some(amount), None]);
        let error = value.unwrap_err();
        assert_eq!(error, ValueError { field: 2, reason });
        let error = projection.describe(&error);
        assert_eq!(error.code(), code);
        let text = error.to_string();
        for part in
            ["`amount`", "`numeric(10,2)`", "`public.orders`", "`total`", "decimal(10,2)", "`orders` v1", "hint: "]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(reason == Reason::Nan || !text.contains(amount), "{text}");
    }
}

#[test]
fn rows_follow_the_number_not_the_name_or_the_place() {
    let (contract, before) = orders();
    let bindings = bindings(&contract, &before);
    let mut after = before.clone();
    after.columns.swap(0, 2);
    after.columns[0].name = "price".to_owned();
    after.columns[3].name = "amount".to_owned();
    let projection = compile(&contract, &bindings, &after, IDS).unwrap();
    let (key, value) = encode_row(&projection, &[Some("1.00"), None, Some("21"), Some("9.99")]);
    assert_eq!(key, [0, 1, 2, 3, 4, 42]);
    assert_eq!(value.unwrap(), [&[0, 0, 0, 0, 7, 42, 0, 2, 100, 6][..], b"web"].concat());
}

#[test]
fn what_cannot_be_compiled_says_which_column_and_field() {
    let (contract, table) = orders();
    let bindings = bindings(&contract, &table);
    let fails = |change: &dyn Fn(&mut TableVersion), code: Code, parts: &[&str]| {
        let mut changed = table.clone();
        change(&mut changed);
        let error = compile(&contract, &bindings, &changed, IDS).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        for part in parts.iter().chain(&["`public.orders`", "contract `orders` v1", "hint: "]) {
            assert!(error.to_string().contains(part), "{part} in {error}");
        }
    };
    let amount = ["`amount`", "`total`", "decimal(10,2)"];
    fails(&|table| drop(table.columns.remove(2)), Code::ColumnDropped, &amount);
    fails(&|table| table.columns[2].attnum = None, Code::IdentityUnknown, &amount);
    fails(&|table| table.columns[2].source_type = None, Code::IdentityUnknown, &amount);
    let retype = |table: &mut TableVersion| {
        table.columns[2].source_type = Some(SourceType::Float8);
        table.columns[2].type_name = "double precision".to_owned();
        table.columns[2].type_oid = 701;
    };
    fails(&retype, Code::PairRefused, &["`amount`", "`total`", "`double precision`", "decimal(10,2)"]);
    fails(&|table| table.columns[0].source_type = Some(SourceType::Float8), Code::PairRefused, &["`id`", "`order_id`"]);
    let unbound = compile(&contract, &BTreeMap::new(), &table, IDS).unwrap_err();
    assert_eq!(unbound.code(), Code::SourceUnknown);
}

#[test]
fn a_key_of_an_unfit_type_is_refused() {
    let table = table(&[("id", SourceType::Numeric { precision: Some(10), scale: Some(0) })]);
    let contract = contract(vec![("id", required(BaseType::Decimal { precision: 10, scale: 0 }), column("id"))]);
    let error = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap_err();
    assert_eq!(error.code(), Code::KeyInvalid);
}

#[test]
fn a_constant_that_does_not_fit_is_refused() {
    let (mut contract, table) = orders();
    contract.feeds[3].source = FeedSource::Const(json!(7));
    let error = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap_err();
    assert_eq!(error.code(), Code::ContractInvalid);
    assert!(error.to_string().contains("`channel`"), "{error}");
}

#[test]
fn a_contract_without_key_appends_no_key() {
    let (mut contract, table) = orders();
    contract.key.clear();
    contract.key_schema = None;
    let projection =
        compile(&contract, &bindings(&contract, &table), &table, SchemaIds { key: None, value: 7 }).unwrap();
    let (key, value) = encode_row(&projection, &[Some("21"), None, None, None]);
    assert!(key.is_empty() && value.is_ok() && !projection.has_key());
}

#[test]
fn a_row_of_too_few_cells_is_an_error() {
    let (contract, table) = orders();
    let projection = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap();
    let (_, value) = encode_row(&projection, &[Some("21"), None]);
    assert_eq!(value, Err(ValueError { field: 2, reason: Reason::Unchanged }));
}

/// One field of text over the columns `id`, `doc` and `note`, keyed by the first.
fn mapped(source: FeedSource, ty: FieldType) -> (ContractVersion, TableVersion) {
    let columns = [("id", SourceType::Int8), ("doc", SourceType::Json), ("note", SourceType::Text)];
    (contract(vec![("id", required(BaseType::Long), column("id")), ("f", ty, source)]), table(&columns))
}

#[test]
fn a_path_that_leads_nowhere_is_null_or_the_default() {
    let path = |default: Option<serde_json::Value>| FeedSource::Column {
        from: "doc".to_owned(),
        options: FeedOptions { path: JsonPath::parse("$.a").ok(), default, ..Default::default() },
    };
    let field = |source, ty: FieldType, text: Option<&str>| {
        let (contract, table) = mapped(source, ty);
        let projection = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap();
        encode_row(&projection, &[Some("1"), text, None]).1.map(|value| value[6..].to_vec())
    };
    for text in [None, Some("{}"), Some(r#"{"a":null}"#), Some("[1]")] {
        assert_eq!(field(path(None), nullable(BaseType::Long), text), Ok(vec![0]));
        assert_eq!(field(path(Some(json!(5))), nullable(BaseType::Long), text), Ok(vec![2, 10]));
        assert_eq!(field(path(None), required(BaseType::Long), text).map_err(|e| e.reason), Err(Reason::Null));
    }
    assert_eq!(field(path(None), nullable(BaseType::Long), Some(r#"{"a":1e1}"#)), Ok(vec![2, 20]));
    let container = field(path(None), required(BaseType::Long), Some(r#"{"a":[1]}"#));
    assert_eq!(container.map_err(|e| e.reason), Err(Reason::PathType));
}

#[test]
fn an_expression_follows_its_columns_and_reads_them_alone() {
    let source = FeedSource::Expr { expr: Expr::parse("note || id").unwrap(), options: FeedOptions::default() };
    let (contract, before) = mapped(source, nullable(BaseType::String));
    let bindings = bindings(&contract, &before);
    assert_eq!(bindings.keys().map(String::as_str).collect::<Vec<_>>(), ["f", "f#id", "id"]);
    let mut after = before.clone();
    after.columns.swap(0, 2);
    after.columns[0].name = "remark".to_owned();
    let projection = compile(&contract, &bindings, &after, IDS).unwrap();
    assert_eq!([0, 1, 2].map(|place| projection.reads(place)), [true, false, true]);
    let (_, value) = encode_row(&projection, &[Some("x"), None, Some("7")]);
    assert_eq!(value.unwrap()[6..], [2, 4, b'x', b'7']);
    after.columns[0].source_type = Some(SourceType::Jsonb);
    assert_eq!(compile(&contract, &bindings, &after, IDS).unwrap_err().code(), Code::ExprInvalid);
}

#[test]
fn what_the_stream_does_not_carry_is_still_not_null() {
    let field = |text: &str| {
        let source = FeedSource::Expr { expr: Expr::parse(text).unwrap(), options: FeedOptions::default() };
        let (contract, table) = mapped(source, nullable(BaseType::Boolean));
        let projection = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap();
        let cells = [Cell::Text { start: 0, len: 1 }, Cell::Null, Cell::Unchanged];
        let mut out = Vec::new();
        projection.value(Row { buffer: b"1", cells: &cells }, &mut out).map(|()| out[6..].to_vec())
    };
    assert_eq!(field("note is null"), Ok(vec![2, 0]));
    assert_eq!(field("id = 1 or note = 'x'"), Ok(vec![2, 1]));
    assert_eq!(field("note = 'x'").map_err(|error| error.reason), Err(Reason::Unchanged));
}

#[test]
fn a_mask_without_its_key_is_no_projection() {
    let mask = Some(Mask::HmacSha256 { key: MaskKey::named("email_key") });
    let options = FeedOptions { mask, ..FeedOptions::default() };
    let (contract, table) = mapped(FeedSource::Column { from: "note".to_owned(), options }, nullable(BaseType::String));
    let error = compile(&contract, &bindings(&contract, &table), &table, IDS).unwrap_err();
    assert_eq!(error.code(), Code::MaskKeyInvalid);
    assert!(error.to_string().contains("`email_key`"), "{error}");
}

#[test]
fn a_projection_crosses_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Projection>();
}
