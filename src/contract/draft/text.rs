//! The texts of a draft: YAML with comments that help, JSON with one field a line.

use serde_json::{Value, json};

use super::{DraftField, DraftKey, SCHEMA_FILE};
use crate::avro::RecordSchema;
use crate::table::{ColumnImage, ColumnKind, QualifiedName, TableImage};
use crate::yaml::{flow_scalar, scalar};

/// Partitions of a drafted topic: room for a few consumers side by side, cheap for a small broker.
const PARTITIONS: u32 = 6;

/// Parts of column names that often hold personal data.
const PERSONAL: [&str; 20] = [
    "email",
    "e_mail",
    "phone",
    "mobile",
    "first_name",
    "last_name",
    "firstname",
    "lastname",
    "full_name",
    "surname",
    "birth",
    "street",
    "address",
    "zip",
    "postcode",
    "iban",
    "passport",
    "ssn",
    "ip_addr",
    "tax_id",
];

/// What a contract's text is made of.
pub(super) struct Subject<'a> {
    pub image: &'a TableImage,
    pub contract: &'a str,
    pub pipeline: &'a str,
    pub key: &'a DraftKey<'a>,
    pub fields: &'a [DraftField<'a>],
    pub schema: &'a str,
}

/// The contract's YAML.
pub(super) fn contract(subject: &Subject<'_>) -> String {
    let name = &subject.image.name;
    let mut text = format!(
        "# yaml-language-server: $schema={SCHEMA_FILE}\n# Drafted by `gimbal init` from {}. It is yours now: edit names, docs and types before the first release.\n",
        printable(&name.to_string())
    );
    let promise = if matches!(subject.key, DraftKey::Absent) { "every insert" } else { "current state" };
    text.push_str(&format!("contract: {}\n", scalar(subject.contract)));
    text.push_str("# owner: team-…\n");
    text.push_str(&format!("description: {}\n", scalar(&format!("Rows of {name}, {promise}."))));
    text.push_str(&format!("source: {}\n", scalar(&source_text(name))));
    text.push_str(&key(subject));
    text.push_str(&format!("topic: {}\n", scalar(&format!("{}.{}.v{{major}}", subject.pipeline, subject.contract))));
    text.push_str(&format!("partitions: {PARTITIONS}                        # frozen with the major\n"));
    text.push_str(&format!("\nversions:\n  1:\n    schema: {}\n    status: active\n", scalar(subject.schema)));
    text.push_str(&fields(subject));
    text
}

fn key(subject: &Subject<'_>) -> String {
    let names = |attnums: &[i16]| {
        let field = |attnum: &i16| subject.fields.iter().find(|field| field.column.attnum == *attnum);
        let names: Vec<String> = attnums.iter().filter_map(field).map(|field| flow_scalar(&field.field.name)).collect();
        names.join(", ")
    };
    match subject.key {
        DraftKey::Usable(key) => format!(
            "kind: state                          # compacted: the newest record of a key is the row\nkey: [{}]\n",
            names(&key.attnums)
        ),
        DraftKey::Refused(key, why) => format!(
            "kind: state\n# This key cannot identify records: {}.\n# `gimbal check` refuses it. \
             Name the fields of another unique index, or write `kind: log`, `key: []` and `append_only: true`.\nkey: [{}]\n",
            printable(why),
            names(&key.attnums)
        ),
        DraftKey::Absent => "# No unique index identifies the rows, so only inserts can be published.\n\
             kind: log\nkey: []\nappend_only: true\n"
            .to_owned(),
    }
}

fn fields(subject: &Subject<'_>) -> String {
    let mut lines = Vec::new();
    let mut mapped = false;
    for one in subject.fields {
        if let Some(remark) = &one.remark {
            lines.push(format!("# {}: {}", one.field.name, printable(remark)));
        }
        if is_personal(&one.column.name) {
            let name = &one.field.name;
            lines.push(format!(
                "# {name}: looks personal; leave it out of the schema, or say {name}: {{tags: [pii], plain: true}}"
            ));
        }
        if one.field.name != one.column.name {
            lines.push(format!("{}: {}", scalar(&one.field.name), scalar(&one.column.name)));
            mapped = true;
        }
    }
    for column in subject.image.columns.iter().filter(|column| column.kind == ColumnKind::Generated) {
        lines.push(format!(
            "# {}: left out, it is generated and logical replication does not carry it",
            printable(&column.name)
        ));
    }
    let head = "    # Every schema field is fed by the column of its name";
    let indent = if mapped { "      " } else { "    " };
    let body: String = lines.iter().map(|line| format!("{indent}{line}\n")).collect();
    match mapped {
        true => format!("{head}, but for these:\n    fields:\n{body}"),
        false => format!("{head}.\n{body}"),
    }
}

fn is_personal(column: &str) -> bool {
    let lower = column.to_ascii_lowercase();
    PERSONAL.iter().any(|part| lower.contains(part))
}

/// A table's name as `source:` reads it.
fn source_text(name: &QualifiedName) -> String {
    let part = |part: &str| match part.contains(['.', '"']) || part.is_empty() {
        true => format!("\"{}\"", part.replace('"', "\"\"")),
        false => part.to_owned(),
    };
    format!("{}.{}", part(&name.namespace), part(&name.name))
}

/// A text that cannot end a comment's line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The doc of a field: where it comes from, and what its type does not say.
pub(super) fn field_doc(column: &ColumnImage, doc: Option<&str>) -> String {
    let origin = format!("Column {}, {}", column.name, column.type_name);
    match doc {
        Some(doc) => format!("{origin}: {doc}."),
        None => format!("{origin}."),
    }
}

/// The schema's JSON: one field a line, so that a diff shows which field moved.
pub(super) fn schema(record: &RecordSchema, image: &TableImage, fields: &[DraftField<'_>]) -> String {
    let value = record.to_json();
    let part = |key: &str| value.get(key).cloned().unwrap_or(Value::Null);
    let doc = json!(format!("A row of {}.", image.name));
    let lines: Vec<String> = part("fields")
        .as_array()
        .into_iter()
        .flatten()
        .zip(fields)
        .map(|(field, draft)| {
            let mut field = field.clone();
            if let Some(object) = field.as_object_mut() {
                object.insert("doc".into(), json!(draft.doc));
            }
            format!("    {}", spaced(&field))
        })
        .collect();
    format!(
        "{{\n  \"type\": \"record\",\n  \"name\": {},\n  \"namespace\": {},\n  \"doc\": {doc},\n  \"fields\": [\n{}\n  ]\n}}\n",
        part("name"),
        part("namespace"),
        lines.join(",\n")
    )
}

/// JSON on one line, with a blank after commas and colons.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{}: {}", json!(key), spaced(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}
