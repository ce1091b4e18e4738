//! Tables → draft contracts and schemas, made to last: an author edits them, a subscriber never feels the difference.
//!
//! Integers draft as `long` and columns outside the key as nullable with a null default, whatever the table says today:
//! `int` → `bigint` and DROP NOT NULL are the commonest migrations, and neither then needs a new major.

mod names;
mod text;

use std::collections::BTreeSet;

use super::key::{identity_columns, is_key_type};
use crate::avro::{Field, FieldType, RecordSchema};
use crate::pairs::draft_type;
use crate::table::{ColumnImage, ColumnKind, ReplicaIdentity, TableImage, UniqueKey};

pub use names::avro_name;

/// Name of the JSON Schema beside the contracts, by which editors check them.
pub const SCHEMA_FILE: &str = "contract.schema.json";

/// A contract and its first schema, as texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The contract's name.
    pub contract: String,
    /// Path below the contracts folder.
    pub contract_path: String,
    /// YAML.
    pub contract_text: String,
    /// Path below the schemas folder.
    pub schema_path: String,
    /// JSON.
    pub schema_text: String,
}

/// One column as it is drafted.
struct DraftField<'a> {
    column: &'a ColumnImage,
    field: Field,
    doc: String,
    /// A remark for the contract's author.
    remark: Option<String>,
}

/// What identifies a row in the draft.
enum DraftKey<'a> {
    /// A unique index that a topic's key can follow.
    Usable(&'a UniqueKey),
    /// The primary key, and why it cannot be a topic's key.
    Refused(&'a UniqueKey, String),
    /// The table has no unique index to choose from.
    Absent,
}

/// Drafts for these tables, in their order. A table without a publishable column has none.
pub fn drafts(images: &[TableImage], pipeline: &str) -> Vec<Draft> {
    let mut taken = BTreeSet::new();
    images
        .iter()
        .filter(|image| image.listed().next().is_some())
        .map(|image| {
            let contract = names::contract_name(&image.name, &mut taken);
            draft(image, contract, pipeline)
        })
        .collect()
}

fn draft(image: &TableImage, contract: String, pipeline: &str) -> Draft {
    let key = choose_key(image);
    let fields = draft_fields(image, &key);
    let record = RecordSchema {
        name: format!("{}.{}", avro_name(pipeline), avro_name(&contract)),
        fields: fields.iter().map(|one| one.field.clone()).collect(),
    };
    let schema_path = format!("{contract}/1.0.avsc");
    let subject =
        text::Subject { image, contract: &contract, pipeline, key: &key, fields: &fields, schema: &schema_path };
    Draft {
        contract_path: format!("{contract}.yaml"),
        contract_text: text::contract(&subject),
        schema_text: text::schema(&record, image, &fields),
        schema_path,
        contract,
    }
}

/// The primary key if a topic can be keyed by it, else any other unique index that can.
fn choose_key(image: &TableImage) -> DraftKey<'_> {
    let primary = image.keys.iter().find(|key| key.primary);
    let preferred = primary.into_iter().chain(image.keys.iter().filter(|key| key.replica_identity));
    let mut candidates = preferred.chain(image.keys.iter());
    if let Some(usable) = candidates.find(|key| obstacle(image, key).is_none()) {
        return DraftKey::Usable(usable);
    }
    match primary.or(image.keys.first()) {
        Some(key) => DraftKey::Refused(key, obstacle(image, key).unwrap_or_default()),
        None => DraftKey::Absent,
    }
}

/// Why a unique index cannot be a topic's key; none if it can.
fn obstacle(image: &TableImage, key: &UniqueKey) -> Option<String> {
    let columns: Vec<&ColumnImage> = key.attnums.iter().filter_map(|attnum| image.attnum(*attnum)).collect();
    if let Some(column) = columns.iter().find(|column| column.kind != ColumnKind::Ordinary) {
        return Some(format!("column `{}` is generated, and logical replication does not carry it", column.name));
    }
    if let Some(column) = columns.iter().find(|column| !is_key_type(&column.source_type)) {
        return Some(format!(
            "column `{}` is {}: values that are equal in SQL would be several keys in the topic",
            column.name, column.type_name
        ));
    }
    if image.replica_identity == ReplicaIdentity::Nothing {
        return Some("the table has REPLICA IDENTITY NOTHING: updates and deletes could not be told".into());
    }
    let covered = identity_columns(image).is_none_or(|identity| key.attnums.iter().all(|n| identity.contains(n)));
    (!covered).then(|| format!("the replica identity does not cover the columns of index `{}`", key.name))
}

fn draft_fields<'a>(image: &'a TableImage, key: &DraftKey<'_>) -> Vec<DraftField<'a>> {
    let key_columns: &[i16] = match key {
        DraftKey::Usable(key) | DraftKey::Refused(key, _) => &key.attnums,
        DraftKey::Absent => &[],
    };
    let mut taken = BTreeSet::new();
    // A column whose name is legal keeps it, whatever the others are mapped to.
    for column in image.listed().filter(|column| avro_name(&column.name) == column.name) {
        taken.insert(column.name.clone());
    }
    image
        .listed()
        .map(|column| {
            let name = match avro_name(&column.name) == column.name {
                true => column.name.clone(),
                false => names::unique(&avro_name(&column.name), '_', &mut taken),
            };
            let drafted = draft_type(&column.source_type);
            let (ty, default) = match key_columns.contains(&column.attnum) {
                true => (FieldType::required(drafted.base), None),
                false => (FieldType::nullable(drafted.base), Some(serde_json::Value::Null)),
            };
            let doc = text::field_doc(column, drafted.doc);
            let remark = drafted.remark.map(|remark| remark.replace("{type}", &column.type_name));
            DraftField { column, field: Field { name, ty, default }, doc, remark }
        })
        .collect()
}

#[cfg(test)]
mod tests;
