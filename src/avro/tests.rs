use serde_json::json;

use super::*;

fn errors(json: &str) -> Vec<String> {
    match AvroSchema::parse(json) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|p| format!("{} {}", p.pointer, p.message)).collect(),
    }
}

fn one_field(field: serde_json::Value) -> String {
    json!({"type": "record", "name": "shop.R", "fields": [field]}).to_string()
}

#[test]
fn every_problem_of_a_schema_is_reported_at_its_place() {
    let text = json!({"type": "record", "name": "1R", "fields": [
        {"name": "a-b", "type": "long"},
        {"name": "c", "type": ["string", "long"]},
        {"name": "c", "type": "strng"},
        {"name": "d", "type": ["null", "long"], "default": 0},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "A"], "default": "Z"}},
        {"name": "f", "type": {"type": "map", "values": "long"}},
        {"name": "g", "type": {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3}},
        {"name": "h", "type": "int", "default": 3_000_000_000u64},
        {"name": "i", "type": "int", "logicalType": "date"},
        {"name": "j", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "k", "type": "long", "aliases": ["h"]},
    ]});
    insta::assert_debug_snapshot!(errors(&text.to_string()));
}

#[test]
fn an_unknown_logical_type_counts_as_its_plain_type_with_a_warning() {
    let parsed =
        AvroSchema::parse(&one_field(json!({"name": "m", "type": {"type": "string", "logicalType": "email"}})))
            .unwrap();
    assert_eq!(parsed.record.fields[0].ty, FieldType::required(BaseType::String));
    assert_eq!(parsed.warnings[0].pointer, "/fields/0/type/logicalType");
}

#[test]
fn a_default_must_fit_the_first_branch_of_its_union() {
    for (ty, default, fits) in [
        (json!(["null", "long"]), json!(null), true),
        (json!(["null", "long"]), json!(1), false),
        (json!(["long", "null"]), json!(1), true),
        (json!(["long", "null"]), json!(null), false),
        (json!("bytes"), json!("\u{ff}"), true),
        (json!("bytes"), json!("\u{100}"), false),
        (json!({"type": "fixed", "name": "F", "size": 2}), json!("ab"), true),
        (json!({"type": "fixed", "name": "F", "size": 2}), json!("abc"), false),
        (json!({"type": "array", "items": ["null", "int"]}), json!([null]), true),
        (json!({"type": "array", "items": ["null", "int"]}), json!([1]), false),
        (json!({"type": "enum", "name": "E", "symbols": ["A"]}), json!("B"), false),
        (json!("double"), json!(1), true),
    ] {
        let found = errors(&one_field(json!({"name": "x", "type": ty, "default": default})));
        assert_eq!(found.is_empty(), fits, "{ty} {default}: {found:?}");
    }
}

#[test]
fn the_registered_text_keeps_docs_aliases_and_defaults_and_loses_blanks() {
    let text = "{ \"type\": \"record\", \"name\": \"R\", \"doc\": \"a b\",\n \"fields\": [ {\"name\": \"x\", \"type\": \"int\", \"aliases\": [\"y\"], \"default\": 1} ] }";
    let parsed = AvroSchema::parse(text).unwrap();
    assert_eq!(
        parsed.json,
        r#"{"type":"record","name":"R","doc":"a b","fields":[{"name":"x","type":"int","aliases":["y"],"default":1}]}"#
    );
    assert_eq!(parsed.aliases["x"], ["y"]);
}

#[test]
fn a_named_type_may_be_used_again_by_its_name() {
    let text = json!({"type": "record", "name": "shop.R", "fields": [
        {"name": "a", "type": {"type": "enum", "name": "E", "symbols": ["A"]}},
        {"name": "b", "type": ["null", "E"]},
        {"name": "c", "type": {"type": "array", "items": "shop.E"}},
    ]});
    let record = RecordSchema::parse(&text.to_string()).unwrap();
    assert_eq!(record.fields[0].ty.base, record.fields[1].ty.base);
    assert_eq!(record.fields[2].ty.base, BaseType::Array(Box::new(record.fields[0].ty.clone())));
}

#[test]
fn what_is_written_parses_to_the_same_schema() {
    let bases = vec![
        BaseType::Boolean,
        BaseType::Int,
        BaseType::Long,
        BaseType::Float,
        BaseType::Double,
        BaseType::Bytes,
        BaseType::String,
        BaseType::Date,
        BaseType::TimeMicros,
        BaseType::TimestampMillis,
        BaseType::TimestampMicros,
        BaseType::LocalTimestampMicros,
        BaseType::UuidString,
        BaseType::UuidFixed,
        BaseType::UuidFixed,
        BaseType::Decimal { precision: 10, scale: 2 },
        BaseType::Fixed { name: "shop.F".into(), size: 3 },
        BaseType::Fixed { name: "shop.F".into(), size: 3 },
        BaseType::Enum { name: "other.E".into(), symbols: vec!["A".into()], default: Some("A".into()) },
        BaseType::Enum { name: "other.E".into(), symbols: vec!["A".into()], default: Some("A".into()) },
        BaseType::Array(Box::new(FieldType::nullable(BaseType::Date))),
    ];
    for null_branch in [None, Some(0), Some(1)] {
        let fields = bases
            .iter()
            .enumerate()
            .map(|(at, base)| Field {
                name: format!("f{at}"),
                ty: FieldType { null_branch, base: base.clone() },
                default: None,
            })
            .collect();
        let record = RecordSchema { name: "shop.R".into(), fields };
        assert_eq!(RecordSchema::parse(&record.to_json().to_string()).unwrap(), record);
    }
}
