//! Random pairs of schemas, most of them near each other: pairs of random records differ so often that a single rule
//! hardly ever decides.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Two schemas of one subject, as texts.
pub struct Pair {
    pub older: String,
    pub newer: String,
    /// What was done to the older one.
    pub change: &'static str,
}

/// The pair of a seed.
pub fn pair(seed: u64) -> Pair {
    let mut rng = Rng::with_seed(seed);
    let older = record(&mut rng);
    let (newer, change) = changed(&mut rng, &older);
    Pair { older: render(&older), newer: render(&newer), change }
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn pick<'a, T>(rng: &mut Rng, list: &'a [T]) -> &'a T {
    &list[rng.usize(..list.len())]
}

fn chance(rng: &mut Rng, percent: u8) -> bool {
    rng.u8(..100) < percent
}

fn record(rng: &mut Rng) -> Value {
    let mut names = NAMES[..4].to_vec();
    rng.shuffle(&mut names);
    names.truncate(rng.usize(1..=4));
    let fields: Vec<Value> = names.into_iter().map(|name| field(rng, name)).collect();
    json!({"type": "record", "name": "R", "namespace": "shop", "fields": fields})
}

fn field(rng: &mut Rng, name: &str) -> Value {
    let ty = field_type(rng);
    let mut field = json!({"name": name, "type": ty});
    if chance(rng, 60)
        && let Some(default) = default_of(&ty)
    {
        field["default"] = default;
    }
    field
}

/// A type, often with null, seldom one that gimbal does not publish.
fn field_type(rng: &mut Rng) -> Value {
    let ty = match rng.u8(..100) {
        0..75 => simple(rng),
        75..90 => {
            let items = simple(rng);
            let items = if chance(rng, 50) { json!(["null", items]) } else { items };
            json!({"type": "array", "items": items})
        }
        90..93 => json!({"type": "map", "values": simple(rng)}),
        93..96 => {
            let inner = simple(rng);
            json!({"type": "record", "name": "Inner", "fields": [{"name": "x", "type": inner}]})
        }
        96..98 => return json!(["null", "string", "long"]),
        _ => {
            json!({"type": "fixed", "name": "Money", "size": 8, "logicalType": "decimal", "precision": 10, "scale": 2})
        }
    };
    match rng.u8(..3) {
        0 => json!(["null", ty]),
        1 => json!([ty, "null"]),
        _ => ty,
    }
}

fn simple(rng: &mut Rng) -> Value {
    let primitives = ["boolean", "int", "long", "float", "double", "bytes", "string"];
    match rng.u8(..10) {
        0..4 => json!(pick(rng, &primitives)),
        4..6 => {
            let (ty, logical) = *pick(
                rng,
                &[
                    ("int", "date"),
                    ("long", "time-micros"),
                    ("long", "timestamp-millis"),
                    ("long", "timestamp-micros"),
                    ("long", "local-timestamp-micros"),
                    ("string", "uuid"),
                ],
            );
            json!({"type": ty, "logicalType": logical})
        }
        6 => {
            let (precision, scale) = *pick(rng, &[(10, 2), (12, 2), (12, 3)]);
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        7 => json!({"type": "fixed", "name": pick(rng, &["F", "G"]), "size": pick(rng, &[4, 5])}),
        _ => enumeration(rng),
    }
}

fn enumeration(rng: &mut Rng) -> Value {
    let mut symbols = vec!["A", "B", "C", "D"];
    rng.shuffle(&mut symbols);
    symbols.truncate(rng.usize(1..=4));
    if !symbols.contains(&"A") {
        symbols.push("A");
    }
    let mut ty = json!({"type": "enum", "name": pick(rng, &["E", "H"]), "symbols": symbols});
    if chance(rng, 60) {
        ty["default"] = json!("A");
    }
    ty
}

/// A default that fits the first branch of the type.
fn default_of(ty: &Value) -> Option<Value> {
    Some(match ty {
        Value::Array(branches) => return default_of(branches.first()?),
        Value::String(name) => match name.as_str() {
            "null" => Value::Null,
            "boolean" => json!(true),
            "bytes" | "string" => json!(""),
            _ => json!(0),
        },
        Value::Object(object) => match object.get("type")?.as_str()? {
            "enum" => json!("A"),
            "array" => json!([]),
            "map" => json!({}),
            "int" | "long" => json!(0),
            "bytes" => json!("\u{1}"),
            "string" => json!("00000000-0000-0000-0000-000000000000"),
            _ => return None,
        },
        _ => return None,
    })
}

/// The record after one change, or another record.
fn changed(rng: &mut Rng, older: &Value) -> (Value, &'static str) {
    let mut newer = older.clone();
    let fields = newer["fields"].as_array_mut().unwrap();
    let at = rng.usize(..fields.len());
    let change = match rng.u8(..16) {
        0 => {
            let name = *NAMES.iter().find(|name| fields.iter().all(|field| field["name"] != **name)).unwrap();
            fields.push(field(rng, name));
            "a field more"
        }
        1 | 2 if fields.len() > 1 => {
            fields.remove(at);
            "a field less"
        }
        3 => {
            rng.shuffle(fields);
            "another order"
        }
        4 => {
            let old = fields[at]["name"].clone();
            fields[at]["name"] = json!("renamed");
            fields[at]["aliases"] = json!([old]);
            "a name with an alias"
        }
        5 => {
            fields[at]["type"] = field_type(rng);
            fields[at].as_object_mut().unwrap().remove("default");
            "another type"
        }
        6 | 7 => {
            nullable(&mut fields[at]);
            "null or not, or its place"
        }
        8 => {
            fields[at]["default"] = Value::Null;
            match default_of(&fields[at]["type"]) {
                Some(default) if older["fields"][at].get("default").is_none() => fields[at]["default"] = default,
                _ => drop(fields[at].as_object_mut().unwrap().remove("default")),
            }
            "a default more or less"
        }
        9..=11 => {
            inner(&mut fields[at]["type"], &mut |ty| related(rng, ty));
            "a related type"
        }
        12 => {
            newer["namespace"] = json!("other");
            "another namespace"
        }
        13 => {
            newer["name"] = json!("S");
            newer["aliases"] = json!(["shop.R"]);
            "another name"
        }
        14 => {
            fields[at]["doc"] = json!("words");
            "documentation"
        }
        _ => return (record(rng), "another record"),
    };
    (newer, change)
}

/// Adds null, takes it away, or puts it at the other end; a default that does not fit any more goes.
fn nullable(field: &mut Value) {
    let ty = field["type"].take();
    let changed =
        match ty {
            Value::Array(branches) if branches.len() == 2 && branches[0] == "null" => {
                if field.get("default").is_some() { json!([branches[1], "null"]) } else { branches[1].clone() }
            }
            Value::Array(branches) if branches.len() == 2 => json!(["null", branches[0]]),
            Value::Array(branches) => Value::Array(branches),
            ty => json!(["null", ty]),
        };
    field["type"] = changed;
    if field.as_object_mut().unwrap().remove("default").is_some()
        && let Some(default) = default_of(&field["type"])
    {
        field["default"] = default;
    }
}

/// The type behind null and arrays.
fn inner(ty: &mut Value, change: &mut impl FnMut(&mut Value)) {
    match ty {
        Value::Array(branches) => {
            if let Some(branch) = branches.iter_mut().find(|branch| **branch != "null") {
                inner(branch, change);
            }
        }
        Value::Object(object) if object.get("type") == Some(&json!("array")) => inner(&mut object["items"], change),
        _ => change(ty),
    }
}

/// A type that a careless author takes for the same.
fn related(rng: &mut Rng, ty: &mut Value) {
    let kind = ty.get("type").and_then(Value::as_str).map(str::to_owned);
    *ty = match (kind.as_deref(), ty.clone()) {
        (Some("enum"), mut old) => {
            let symbols = old["symbols"].as_array_mut().unwrap();
            match rng.u8(..3) {
                0 => symbols.push(json!("Z")),
                1 if symbols.len() > 1 => symbols.retain(|symbol| symbol != "D"),
                _ => rng.shuffle(symbols),
            }
            old
        }
        (Some("fixed"), mut old) => {
            match rng.bool() {
                true => old["size"] = json!(6),
                false => old["name"] = json!("Other"),
            }
            old
        }
        (Some("bytes"), mut old) if old.get("precision").is_some() => {
            match rng.u8(..3) {
                0 => old["precision"] = json!(14),
                1 => old["scale"] = json!(1),
                _ => old = json!("bytes"),
            }
            old
        }
        (Some(logical @ ("int" | "long" | "string")), old) => match rng.bool() {
            true => json!(logical),
            false if logical == "long" => json!({"type": "long", "logicalType": "timestamp-micros"}),
            false => old,
        },
        (_, Value::String(name)) => match name.as_str() {
            "int" => json!(pick(rng, &["long", "double"])),
            "long" => json!(pick(rng, &["int", "double"])),
            "float" => json!("double"),
            "double" => json!("float"),
            "string" => json!("bytes"),
            "bytes" => json!("string"),
            other => json!(other),
        },
        (_, old) => old,
    };
}

/// The text: a named type is defined where it first appears and referred to by name after that.
fn render(record: &Value) -> String {
    let mut defined: Vec<String> = Vec::new();
    named(record, &mut defined).to_string()
}

fn named(value: &Value, defined: &mut Vec<String>) -> Value {
    match value {
        Value::Object(object) => {
            let is_named = matches!(object.get("type").and_then(Value::as_str), Some("enum" | "fixed" | "record"));
            if let (true, Some(name)) = (is_named, object.get("name").and_then(Value::as_str)) {
                if defined.iter().any(|known| known == name) {
                    return json!(name);
                }
                defined.push(name.to_owned());
            }
            // Symbols, aliases and defaults are no types.
            let part = |(key, value): (&String, &Value), defined: &mut Vec<String>| {
                let types = matches!(key.as_str(), "fields" | "type" | "items" | "values");
                (key.clone(), if types { named(value, defined) } else { value.clone() })
            };
            Value::Object(object.iter().map(|entry| part(entry, defined)).collect::<Map<String, Value>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| named(item, defined)).collect()),
        other => other.clone(),
    }
}
