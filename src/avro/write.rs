//! Writes a schema as JSON, for schemas that gimbal derives or drafts itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{BaseType, FieldType, RecordSchema};

impl RecordSchema {
    /// The schema as JSON. A named type is defined where it first appears and named after that.
    pub fn to_json(&self) -> Value {
        let (namespace, name) = self.split_name();
        let mut object = Map::new();
        object.insert("type".into(), json!("record"));
        object.insert("name".into(), json!(name));
        if let Some(namespace) = namespace {
            object.insert("namespace".into(), json!(namespace));
        }
        let mut defined = BTreeSet::new();
        let fields: Vec<Value> = self
            .fields
            .iter()
            .map(|field| {
                let mut object = Map::new();
                object.insert("name".into(), json!(field.name));
                object.insert("type".into(), type_json(&field.ty, &mut defined));
                if let Some(default) = &field.default {
                    object.insert("default".into(), default.clone());
                }
                Value::Object(object)
            })
            .collect();
        object.insert("fields".into(), Value::Array(fields));
        Value::Object(object)
    }
}

fn type_json(ty: &FieldType, defined: &mut BTreeSet<String>) -> Value {
    let base = base_json(&ty.base, defined);
    match ty.null_branch {
        None => base,
        Some(0) => json!(["null", base]),
        Some(_) => json!([base, "null"]),
    }
}

fn base_json(base: &BaseType, defined: &mut BTreeSet<String>) -> Value {
    let logical = |ty: &str, name: &str| json!({"type": ty, "logicalType": name});
    match base {
        BaseType::Boolean => json!("boolean"),
        BaseType::Int => json!("int"),
        BaseType::Long => json!("long"),
        BaseType::Float => json!("float"),
        BaseType::Double => json!("double"),
        BaseType::Bytes => json!("bytes"),
        BaseType::String => json!("string"),
        BaseType::Date => logical("int", "date"),
        BaseType::TimeMicros => logical("long", "time-micros"),
        BaseType::TimestampMillis => logical("long", "timestamp-millis"),
        BaseType::TimestampMicros => logical("long", "timestamp-micros"),
        BaseType::LocalTimestampMicros => logical("long", "local-timestamp-micros"),
        BaseType::UuidString => logical("string", "uuid"),
        // Every fixed needs a name; the type itself carries none, so all of a record's uuids share this one.
        BaseType::UuidFixed => match defined.insert("uuid".into()) {
            true => json!({"type": "fixed", "name": "uuid", "size": 16, "logicalType": "uuid"}),
            false => json!("uuid"),
        },
        BaseType::Decimal { precision, scale } => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        BaseType::Fixed { name, size } => match defined.insert(name.clone()) {
            true => named("fixed", name, json!({"size": size})),
            false => json!(name),
        },
        BaseType::Enum { name, symbols, default } => match defined.insert(name.clone()) {
            true => {
                let mut rest = json!({"symbols": symbols});
                if let (Some(object), Some(default)) = (rest.as_object_mut(), default) {
                    object.insert("default".into(), json!(default));
                }
                named("enum", name, rest)
            }
            false => json!(name),
        },
        BaseType::Array(items) => json!({"type": "array", "items": type_json(items, defined)}),
    }
}

/// A named type's object. The namespace is written out even where it is the record's, so that the text stands alone.
fn named(ty: &str, full_name: &str, rest: Value) -> Value {
    let (namespace, name) = full_name.rsplit_once('.').unwrap_or(("", full_name));
    let mut object = Map::new();
    object.insert("type".into(), json!(ty));
    object.insert("name".into(), json!(name));
    object.insert("namespace".into(), json!(namespace));
    object.extend(rest.as_object().cloned().unwrap_or_default());
    Value::Object(object)
}
