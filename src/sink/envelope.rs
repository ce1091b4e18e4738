//! The schema of a record in a file: the contract's key and value inlined in one envelope.
//!
//! The envelope has no namespace, so that the inlined schemas mean what they mean by themselves. Avro lets a name be
//! defined once: where key and value define the same type, the value refers to it; where they define two types under
//! one name, there is no such schema.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::error::{Code, Error, Result};

/// Name of the envelope record.
pub const ENVELOPE: &str = "GimbalChange";
/// Name of the enum of `op`; its symbols are in the order of [`crate::batch::Op`].
const OP: &str = "GimbalOp";

/// The envelope's schema for a key schema (absent for contracts without key) and a value schema, as JSON text.
///
/// Fields: `key`, `value` (null or the contract's), `op` (enum c, u, d, r), `pos`, `ts`, `last`, `reread`.
/// Fails if one of the schemas is not Avro, or if they define different types under one name.
pub fn envelope_schema(key: Option<&str>, value: &str) -> Result<String> {
    let mut names = Names::default();
    names.0.insert(ENVELOPE.into(), Json::Null);
    names.0.insert(OP.into(), Json::Null);
    let key = match key {
        Some(key) => json!({"name": "key", "type": ["null", names.inline(&parse(key)?, "")?], "default": null}),
        None => json!({"name": "key", "type": "null", "default": null}),
    };
    let value = names.inline(&parse(value)?, "")?;
    let envelope = json!({
        "type": "record",
        "name": ENVELOPE,
        "doc": "One change of one row.",
        "fields": [
            key,
            {"name": "value", "type": ["null", value], "default": null, "doc": "Null for a delete."},
            {"name": "op", "type": {"type": "enum", "name": OP, "symbols": ["c", "u", "d", "r"]},
             "doc": "Created, updated, deleted, or read by a snapshot."},
            {"name": "pos", "type": "string",
             "doc": "Epoch, commit position (names the transaction) and ordinal, in hexadecimal; sorts as text."},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}, "doc": "Commit time."},
            {"name": "last", "type": "boolean",
             "doc": "The last published record of its transaction, over all topics."},
            {"name": "reread", "type": {"type": "array", "items": "string"}, "default": [],
             "doc": "Fields whose value was read again from the table."},
        ],
    });
    let text = envelope.to_string();
    apache_avro::Schema::parse_str(&text).map_err(|error| {
        Error::definite(Code::SchemaInvalid, format!("key and value schema do not make an Avro envelope: {error}"))
    })?;
    Ok(text)
}

fn parse(schema: &str) -> Result<Json> {
    serde_json::from_str(schema)
        .map_err(|error| Error::definite(Code::SchemaInvalid, format!("a schema is not JSON: {error}")))
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// Definitions so far, by full name, in a form in which equal means the same type.
#[derive(Default)]
struct Names(BTreeMap<String, Json>);

impl Names {
    /// The schema as it has to stand after all that was inlined before it.
    fn inline(&mut self, schema: &Json, namespace: &str) -> Result<Json> {
        match schema {
            Json::Array(branches) => {
                Ok(Json::Array(branches.iter().map(|b| self.inline(b, namespace)).collect::<Result<_>>()?))
            }
            Json::Object(object) => match definition(object, namespace) {
                Some((full_name, inner)) => self.define(object, &full_name, &inner, namespace),
                None => self.inline_members(object, namespace),
            },
            _ => Ok(schema.clone()),
        }
    }

    fn define(&mut self, object: &Map<String, Json>, full_name: &str, inner: &str, outer: &str) -> Result<Json> {
        let canonical = canonical(&Json::Object(object.clone()), outer);
        match self.0.get(full_name) {
            None => {
                self.0.insert(full_name.into(), canonical);
                self.inline_members(object, inner)
            }
            // A bare name inside a namespace means that namespace, so the type cannot be referred to from there.
            Some(known) if *known == canonical && (full_name.contains('.') || outer.is_empty()) => {
                Ok(Json::String(full_name.into()))
            }
            Some(_) => Err(Error::definite(
                Code::SchemaInvalid,
                format!(
                    "`{full_name}` is defined twice with different meanings in the key and value schema of one topic"
                ),
            )
            .hint("give the two types different names, or a namespace each")),
        }
    }

    fn inline_members(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<Json> {
        let mut out = Map::new();
        for (member, content) in object {
            let content = match (member.as_str(), content) {
                ("type" | "items" | "values", content) => self.inline(content, namespace)?,
                ("fields", Json::Array(fields)) => {
                    Json::Array(fields.iter().map(|f| self.inline_field(f, namespace)).collect::<Result<_>>()?)
                }
                _ => content.clone(),
            };
            out.insert(member.clone(), content);
        }
        Ok(Json::Object(out))
    }

    /// A field has a name too, but it defines no type.
    fn inline_field(&mut self, field: &Json, namespace: &str) -> Result<Json> {
        match field {
            Json::Object(field) => self.inline_members(field, namespace),
            _ => Ok(field.clone()),
        }
    }
}

/// Full name and inner namespace, if this object defines a named type.
fn definition(object: &Map<String, Json>, namespace: &str) -> Option<(String, String)> {
    if !matches!(object.get("type")?.as_str()?, "record" | "error" | "enum" | "fixed") {
        return None;
    }
    let name = object.get("name")?.as_str()?;
    let namespace = match (name.rsplit_once('.'), object.get("namespace").and_then(Json::as_str)) {
        (Some((of_name, _)), _) => of_name,
        (None, Some(own)) => own,
        (None, None) => namespace,
    };
    Some((full(name, namespace), namespace.to_owned()))
}

fn full(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// The schema with full names and without docs.
fn canonical(schema: &Json, namespace: &str) -> Json {
    match schema {
        Json::String(name) if PRIMITIVES.contains(&name.as_str()) => schema.clone(),
        Json::String(name) => Json::String(full(name, namespace)),
        Json::Array(branches) => Json::Array(branches.iter().map(|b| canonical(b, namespace)).collect()),
        Json::Object(object) => {
            let (name, inner) = match definition(object, namespace) {
                Some((name, inner)) => (Some(name), inner),
                None => (None, namespace.to_owned()),
            };
            let mut out = Map::new();
            for (member, content) in object {
                let content = match (member.as_str(), content) {
                    ("doc" | "namespace", _) => continue,
                    ("type", Json::String(kind)) if name.is_some() => Json::String(kind.clone()),
                    ("type" | "items" | "values", content) => canonical(content, &inner),
                    ("fields", Json::Array(fields)) => {
                        Json::Array(fields.iter().map(|f| canonical(f, &inner)).collect())
                    }
                    _ => content.clone(),
                };
                out.insert(member.clone(), content);
            }
            if let Some(name) = name {
                out.insert("name".into(), Json::String(name));
            }
            Json::Object(out)
        }
        _ => schema.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(doc: &str, symbols: &str) -> String {
        format!(r#"{{"type":"enum","name":"Status","doc":"{doc}","symbols":{symbols}}}"#)
    }

    fn record(name: &str, namespace: &str, field: &str) -> String {
        format!(
            r#"{{"type":"record","name":"{name}","namespace":"{namespace}","fields":[{{"name":"f","type":{field}}}]}}"#
        )
    }

    #[test]
    fn a_type_in_key_and_value_is_defined_once_and_referred_to_after() {
        let key = record("OrderKey", "shop", &status("in the key", r#"["A","B"]"#));
        let value = record("Order", "shop", &format!(r#"["null",{}]"#, status("in the value", r#"["A","B"]"#)));
        let envelope: Json = serde_json::from_str(&envelope_schema(Some(&key), &value).unwrap()).unwrap();
        assert_eq!(envelope["fields"][0]["type"][1]["fields"][0]["type"]["symbols"], json!(["A", "B"]));
        assert_eq!(envelope["fields"][1]["type"][1]["fields"][0]["type"], json!(["null", "shop.Status"]));
    }

    #[test]
    fn two_types_under_one_name_are_refused_and_under_two_namespaces_they_are_not() {
        let key = record("OrderKey", "shop", &status("", r#"["A","B"]"#));
        let other = record("Order", "shop", &status("", r#"["A","C"]"#));
        let refused = envelope_schema(Some(&key), &other).unwrap_err();
        assert_eq!(refused.code(), Code::SchemaInvalid);
        assert!(refused.diagnosis().contains("`shop.Status`"), "{refused}");
        let elsewhere = record("Order", "shop.v2", &status("", r#"["A","C"]"#));
        envelope_schema(Some(&key), &elsewhere).unwrap();
        assert!(
            envelope_schema(Some(&key), &record("OrderKey", "shop", "\"int\"")).is_err(),
            "key and value share a name"
        );
        assert!(envelope_schema(None, &record(ENVELOPE, "", "\"int\"")).is_err(), "the envelope's own name");
    }

    #[test]
    fn a_schema_without_namespace_keeps_its_names_and_a_topic_may_lack_a_key() {
        let value = record("Event", "", &status("", r#"["A"]"#));
        let text = envelope_schema(None, &value).unwrap();
        let envelope: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(envelope["fields"][0]["type"], "null");
        assert_eq!(envelope["fields"][1]["type"][1], serde_json::from_str::<Json>(&value).unwrap());
    }

    #[test]
    fn what_is_not_avro_is_refused() {
        assert!(envelope_schema(None, "{").is_err());
        assert!(envelope_schema(None, &record("Event", "", "\"Nowhere\"")).is_err());
    }
}
