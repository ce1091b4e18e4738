//! Named cases, and a property test against apache-avro's own judgement.

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn schema(fields: Value) -> AvroSchema {
    AvroSchema::parse(&json!({"type": "record", "name": "shop.R", "fields": fields}).to_string()).unwrap()
}

fn problems(older: Value, newer: Value) -> Vec<String> {
    full(&schema(older), &schema(newer)).iter().map(ToString::to_string).collect()
}

fn base() -> Value {
    json!({"name": "id", "type": "long"})
}

#[test]
fn a_field_with_a_default_may_come_and_go() {
    let extra = json!({"name": "x", "type": ["null", "string"], "default": null});
    assert!(problems(json!([base()]), json!([base(), extra])).is_empty());
    assert!(problems(json!([base(), extra]), json!([base()])).is_empty());
}

#[test]
fn a_field_without_a_default_may_neither_come_nor_go() {
    let extra = json!({"name": "x", "type": "string"});
    insta::assert_debug_snapshot!(problems(json!([base()]), json!([base(), extra])), @r#"
    [
        "field `x`: only one of the two has it, and it has no default; readers of the newer schema cannot read the older one's records",
    ]
    "#);
    insta::assert_debug_snapshot!(problems(json!([base(), extra]), json!([base()])), @r#"
    [
        "field `x`: only one of the two has it, and it has no default; readers of the older schema cannot read the newer one's records",
    ]
    "#);
}

#[test]
fn a_promotion_is_refused_because_it_only_works_one_way() {
    let long = json!([{"name": "n", "type": "long"}]);
    let int = json!([{"name": "n", "type": "int"}]);
    assert_eq!(problems(int.clone(), long.clone()).len(), 1);
    assert_eq!(problems(long, int).len(), 1);
}

#[test]
fn an_alias_does_not_hide_a_change_of_type() {
    let older = json!([{"name": "a", "type": "string", "default": ""}]);
    let newer = json!([{"name": "b", "type": "long", "default": 0, "aliases": ["a"]}]);
    assert_eq!(problems(older, newer).len(), 1);
}

#[test]
fn logical_types_must_be_equal() {
    let micros = json!([{"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}]);
    let millis = json!([{"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}}]);
    assert_eq!(problems(micros, millis).len(), 1);
}

#[test]
fn an_enum_may_grow_only_with_a_default() {
    let symbols = |list: Value, default: Value| {
        let mut ty = json!({"type": "enum", "name": "E", "symbols": list});
        if !default.is_null() {
            ty["default"] = default;
        }
        json!([{"name": "e", "type": ty}])
    };
    assert_eq!(problems(symbols(json!(["A"]), Value::Null), symbols(json!(["A", "B"]), Value::Null)).len(), 1);
    assert!(problems(symbols(json!(["A"]), json!("A")), symbols(json!(["A", "B"]), json!("A"))).is_empty());
}

#[test]
fn a_fixed_keeps_its_name_and_size() {
    let fixed = |name: &str, size: u8| json!([{"name": "f", "type": {"type": "fixed", "name": name, "size": size}}]);
    assert!(problems(fixed("F", 4), fixed("F", 4)).is_empty());
    assert_eq!(problems(fixed("F", 4), fixed("F", 5)).len(), 1);
    assert_eq!(problems(fixed("F", 4), fixed("G", 4)).len(), 1);
}

#[test]
fn a_decimal_keeps_its_precision_and_scale() {
    let decimal = |precision: u8, scale: u8| json!([{"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}}]);
    assert_eq!(problems(decimal(10, 2), decimal(12, 2)).len(), 1);
    assert_eq!(problems(decimal(10, 2), decimal(10, 3)).len(), 1);
}

/// Types of one field; several spellings of related types, so that pairs often nearly fit.
fn type_json() -> impl Strategy<Value = Value> {
    let simple = prop::sample::select(vec![
        json!("boolean"),
        json!("int"),
        json!("long"),
        json!("float"),
        json!("double"),
        json!("bytes"),
        json!("string"),
        json!({"type": "int", "logicalType": "date"}),
        json!({"type": "long", "logicalType": "time-micros"}),
        json!({"type": "long", "logicalType": "timestamp-micros"}),
        json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        json!({"type": "string", "logicalType": "uuid"}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
        json!({"type": "fixed", "name": "F", "size": 4}),
        json!({"type": "fixed", "name": "F", "size": 5}),
        json!({"type": "fixed", "name": "G", "size": 4}),
        json!({"type": "enum", "name": "E", "symbols": ["A", "B"]}),
        json!({"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}),
        json!({"type": "enum", "name": "E", "symbols": ["B", "A", "C"], "default": "A"}),
        json!({"type": "enum", "name": "E", "symbols": ["A"], "default": "A"}),
        json!({"type": "enum", "name": "H", "symbols": ["A", "B"]}),
    ]);
    let array = (simple.clone(), any::<bool>()).prop_map(|(items, null)| match null {
        true => json!({"type": "array", "items": ["null", items]}),
        false => json!({"type": "array", "items": items}),
    });
    (prop_oneof![4 => simple, 1 => array], 0..3u8).prop_map(|(ty, union)| match union {
        0 => json!(["null", ty]),
        1 => json!([ty, "null"]),
        _ => ty,
    })
}

/// A record of up to three fields `a`, `b`, `c`, each with or without a default, one perhaps with an alias.
fn record_json() -> impl Strategy<Value = Value> {
    let field = prop::option::weighted(0.8, (type_json(), any::<bool>()));
    (prop::array::uniform3(field), prop::option::weighted(0.3, 0..3usize)).prop_map(|(fields, alias)| {
        let mut list = vec![json!({"name": "id", "type": "long"})];
        for (at, (name, field)) in ["a", "b", "c"].into_iter().zip(fields).enumerate() {
            // Named types may be defined once in a record; each field gets its own, the same one in both records.
            let Some((ty, default)) = field else { continue };
            let ty: Value = serde_json::from_str(&["E", "F", "G", "H"].iter().fold(ty.to_string(), |text, n| {
                text.replace(&format!("\"name\":\"{n}\""), &format!("\"name\":\"{n}{name}\""))
            }))
            .unwrap();
            let mut object = json!({"name": name, "type": ty});
            if let (true, Some(value)) = (default, default_of(&object["type"])) {
                object["default"] = value;
            }
            if alias == Some(at) {
                // Another field's name: taken or not, see `pair`.
                object["aliases"] = Value::from(vec![["b", "c", "a"][at]]);
            }
            list.push(object);
        }
        json!({"type": "record", "name": "shop.R", "fields": list})
    })
}

/// A default that fits the first branch of the type.
fn default_of(ty: &Value) -> Option<Value> {
    match ty {
        Value::Array(branches) => default_of(&branches[0]),
        Value::String(name) => Some(match name.as_str() {
            "null" => Value::Null,
            "boolean" => json!(true),
            "bytes" | "string" => json!(""),
            _ => json!(0),
        }),
        _ => match ty["type"].as_str().unwrap() {
            "enum" => Some(json!("A")),
            "array" => Some(json!([])),
            "int" | "long" => Some(json!(0)),
            _ => None,
        },
    }
}

/// Two records that differ in everything, or in one field only: most pairs of random records differ so often that a
/// single rule never decides.
fn pair() -> impl Strategy<Value = (Value, Value)> {
    let near = (record_json(), record_json(), any::<prop::sample::Index>()).prop_map(|(base, other, index)| {
        let mut changed = base.clone();
        let fields = changed["fields"].as_array_mut().unwrap();
        let at = index.index(fields.len());
        let name = fields[at]["name"].clone();
        match other["fields"].as_array().unwrap().iter().find(|field| field["name"] == name) {
            Some(field) => fields[at] = field.clone(),
            None => drop(fields.remove(at)),
        }
        (base, changed)
    });
    let legal = |record: &Value| AvroSchema::parse(&record.to_string()).is_ok();
    prop_oneof![3 => near, 1 => (record_json(), record_json())]
        .prop_filter("an alias is another field's name", move |(a, b)| legal(a) && legal(b))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// What we call compatible, apache-avro reads in full. What we refuse, it refuses too, or we are stricter on
    /// purpose: the bytes resolve and the meaning does not (`Reason::Meaning`: logical types, text for bytes).
    #[test]
    fn our_judgement_is_avros_and_stricter_only_about_meaning((reader, writer) in pair()) {
        let (ours_r, ours_w) = (
            AvroSchema::parse(&reader.to_string()).unwrap(),
            AvroSchema::parse(&writer.to_string()).unwrap(),
        );
        let found = resolve::reads(&ours_r, &ours_w);
        let (theirs_r, theirs_w) =
            (apache_avro::Schema::parse(&reader).unwrap(), apache_avro::Schema::parse(&writer).unwrap());
        let theirs = SchemaCompatibility::can_read(&theirs_w, &theirs_r);
        if found.is_empty() {
            prop_assert_eq!(theirs, Ok(Compatibility::Full), "we accept, apache-avro does not");
        } else if theirs == Ok(Compatibility::Full) {
            let stricter = found.iter().all(|(_, reason)| matches!(reason, Reason::Meaning(..)));
            prop_assert!(stricter, "apache-avro accepts, we say {:?}", found);
        }
    }

    /// Every schema reads itself, and the judgement does not depend on which of the two is called older.
    #[test]
    fn compatibility_is_reflexive_and_symmetric((a, b) in pair()) {
        let (a, b) = (AvroSchema::parse(&a.to_string()).unwrap(), AvroSchema::parse(&b.to_string()).unwrap());
        prop_assert!(full(&a, &a).is_empty());
        prop_assert_eq!(full(&a, &b).is_empty(), full(&b, &a).is_empty());
    }
}
