//! What changed between two looks at a table, and what that means for a contract.
//!
//! Columns are compared by attribute number, so a rename is a rename and a reused name is another column. A change is a
//! fact about production; a verdict is about one contract version, which binds some columns and has a key.
//!
//! Absent on purpose: order. The stream lists columns by attribute number, so a column moves only because another one
//! came or went; projections are compiled anew with every table version.

use crate::history::Candidate;
use crate::table::{
    EnumLabel, QualifiedName, ReplicaIdentity, SourceType, TableImage, TableVersion, UniqueKey, VersionColumn,
};

#[cfg(test)]
mod tests;
mod verdict;

pub use verdict::{Verdict, describe, verdict};

/// One change of one table. Types are named as `format_type()` prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaChange {
    /// The stream lists a column that it did not list before: a new one, or one whose expression was dropped.
    ColumnAdded { attnum: i16, name: String, type_name: String },
    /// The stream no longer lists the column.
    ColumnDropped { attnum: i16, name: String, type_name: String },
    /// The column has another name.
    ColumnRenamed { attnum: i16, from: String, to: String },
    /// The column has another type.
    ColumnRetyped { attnum: i16, name: String, from: String, to: String },
    /// The column has the same type with another modifier, such as a longer `varchar`.
    TypmodChanged { attnum: i16, name: String, from: String, to: String },
    /// NOT NULL came (`not_null`) or went.
    NullabilityChanged { attnum: i16, name: String, not_null: bool },
    /// The labels of the column's enum changed; they are compared by oid.
    LabelsChanged {
        attnum: i16,
        name: String,
        added: Vec<String>,
        removed: Vec<String>,
        renamed: Vec<(String, String)>,
    },
    /// Which listed column this is, or whether it is still there, is not certain.
    ColumnUncertain { candidate: Candidate, listed: Vec<String> },
    /// The table has another name or namespace.
    TableRenamed { from: QualifiedName, to: QualifiedName },
    /// Old rows are identified in another way, or by other columns (`columns`: attribute number and name, as they are now).
    ReplicaIdentityChanged { from: ReplicaIdentity, to: ReplicaIdentity, columns: Vec<(i16, String)> },
    /// The unique indexes that can identify rows changed.
    KeyChanged { from: Vec<UniqueKey>, to: Vec<UniqueKey> },
}

/// The changes from one table version to the next. `uncertain` are the candidates of [`crate::history::Resolution`], empty
/// where every column of `newer` has its number.
pub fn between(older: &TableVersion, newer: &TableVersion, uncertain: &[Candidate]) -> Vec<SchemaChange> {
    let mut changes = Vec::new();
    if older.name != newer.name {
        changes.push(SchemaChange::TableRenamed { from: older.name.clone(), to: newer.name.clone() });
    }
    let identity = |version: &TableVersion| {
        version.columns.iter().filter(|c| c.identity).map(|c| c.attnum).collect::<Vec<Option<i16>>>()
    };
    let every_column =
        older.replica_identity == ReplicaIdentity::Full && newer.replica_identity == ReplicaIdentity::Full;
    if older.replica_identity != newer.replica_identity || (!every_column && identity(older) != identity(newer)) {
        changes.push(identity_change(older.replica_identity, newer));
    }
    for column in &older.columns {
        let Some(attnum) = column.attnum else { continue };
        match newer.place(attnum) {
            Some((_, now)) => column_changes(attnum, column, now, &mut changes),
            // Reported as uncertain below.
            None if uncertain.iter().any(|candidate| candidate.attnum == attnum) => {}
            None => changes.push(SchemaChange::ColumnDropped {
                attnum,
                name: column.name.clone(),
                type_name: column.type_name.clone(),
            }),
        }
    }
    for column in &newer.columns {
        if let Some(attnum) = column.attnum.filter(|attnum| older.place(*attnum).is_none()) {
            let (name, type_name) = (column.name.clone(), column.type_name.clone());
            changes.push(SchemaChange::ColumnAdded { attnum, name, type_name });
        }
    }
    let listed = || newer.columns.iter().map(|column| column.name.clone()).collect();
    changes.extend(uncertain.iter().map(|c| SchemaChange::ColumnUncertain { candidate: c.clone(), listed: listed() }));
    changes
}

/// The changes from one catalog image of a table to the next: those of [`between`], and of its keys.
pub fn between_images(older: &TableImage, newer: &TableImage) -> Vec<SchemaChange> {
    let mut changes = between(&TableVersion::of_image(older), &TableVersion::of_image(newer), &[]);
    let same = |a: &UniqueKey, b: &UniqueKey| a.attnums == b.attnums && a.primary == b.primary;
    let within = |keys: &[UniqueKey], others: &[UniqueKey]| keys.iter().all(|key| others.iter().any(|k| same(key, k)));
    if !within(&older.keys, &newer.keys) || !within(&newer.keys, &older.keys) {
        changes.push(SchemaChange::KeyChanged { from: older.keys.clone(), to: newer.keys.clone() });
    }
    changes
}

fn identity_change(from: ReplicaIdentity, newer: &TableVersion) -> SchemaChange {
    let columns = newer.columns.iter().filter(|column| column.identity);
    let columns = columns.filter_map(|column| column.attnum.map(|attnum| (attnum, column.name.clone())));
    SchemaChange::ReplicaIdentityChanged { from, to: newer.replica_identity, columns: columns.collect() }
}

fn column_changes(attnum: i16, old: &VersionColumn, new: &VersionColumn, changes: &mut Vec<SchemaChange>) {
    let name = || new.name.clone();
    if old.name != new.name {
        changes.push(SchemaChange::ColumnRenamed { attnum, from: old.name.clone(), to: name() });
    }
    let (from, to) = (old.type_name.clone(), new.type_name.clone());
    if old.type_oid != new.type_oid {
        changes.push(SchemaChange::ColumnRetyped { attnum, name: name(), from, to });
    } else if old.typmod != new.typmod {
        changes.push(SchemaChange::TypmodChanged { attnum, name: name(), from, to });
    } else if let (Some(from), Some(to)) = (labels(&old.source_type), labels(&new.source_type)) {
        changes.extend(label_changes(attnum, &new.name, from, to));
    }
    // Where no image shows the column, its constraint is unknown, not gone.
    if old.not_null != new.not_null && old.source_type.is_some() && new.source_type.is_some() {
        changes.push(SchemaChange::NullabilityChanged { attnum, name: name(), not_null: new.not_null });
    }
}

/// The labels of an enum, or of an array's items.
fn labels(source_type: &Option<SourceType>) -> Option<&[EnumLabel]> {
    let mut source_type = source_type.as_ref()?;
    while let SourceType::Array(item) = source_type {
        source_type = item;
    }
    match source_type {
        SourceType::Enum { labels } => Some(labels),
        _ => None,
    }
}

fn label_changes(attnum: i16, name: &str, from: &[EnumLabel], to: &[EnumLabel]) -> Option<SchemaChange> {
    let missing = |labels: &[EnumLabel], others: &[EnumLabel]| -> Vec<String> {
        let lacks = |label: &&EnumLabel| others.iter().all(|other| other.oid != label.oid);
        labels.iter().filter(lacks).map(|label| label.label.clone()).collect()
    };
    let (added, removed) = (missing(to, from), missing(from, to));
    let renamed: Vec<(String, String)> = from
        .iter()
        .filter_map(|old| Some((old, to.iter().find(|new| new.oid == old.oid && new.label != old.label)?)))
        .map(|(old, new)| (old.label.clone(), new.label.clone()))
        .collect();
    let same = added.is_empty() && removed.is_empty() && renamed.is_empty();
    (!same).then(|| SchemaChange::LabelsChanged { attnum, name: name.to_owned(), added, removed, renamed })
}
