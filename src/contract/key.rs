//! The key: which rows are one row, told by columns that can say so for good.

use super::model::{ContractKind, Feed, FeedSource};
use super::version::Subject;
use crate::avro::{Field, FieldType, RecordSchema};
use crate::diagnostic::suggestion;
use crate::error::Code;
use crate::pairs::{Pair, classify_key};
use crate::table::{ColumnImage, ReplicaIdentity, TableImage, UnfitIndex, UniqueKey};
use crate::yaml::Text;

pub use crate::pairs::is_key_type;

/// Columns by which the stream identifies an old row; none where it carries the whole row.
pub fn identity_columns(table: &TableImage) -> Option<&[i16]> {
    let columns = |chosen: fn(&UniqueKey) -> bool| {
        table.keys.iter().find(|key| chosen(key)).map_or(&[] as &[i16], |key| key.attnums.as_slice())
    };
    match table.replica_identity {
        ReplicaIdentity::Full => None,
        ReplicaIdentity::Nothing => Some(&[]),
        ReplicaIdentity::Default => Some(columns(|key| key.primary)),
        ReplicaIdentity::Index => Some(columns(|key| key.replica_identity)),
    }
}

/// Checks the key and derives its schema; none for a contract without key, or where the schema lacks a field of it.
pub(super) fn resolve(subject: &Subject<'_>, feeds: &[Feed]) -> Option<RecordSchema> {
    let Some(key) = &subject.shape.key else {
        let message = format!("version {} has no `key`", subject.major);
        let hint = "name the schema fields that identify a row; a table without identity: `kind: log`, `key: []`, `append_only: true`";
        subject.error(Code::KeyInvalid, &subject.entry.span, message, Some(hint.into()));
        return None;
    };
    let append_only = subject.contract.append_only;
    match (key.value.is_empty(), subject.contract.kind, append_only) {
        (true, ContractKind::Log, true) => return None,
        (true, ..) => {
            let hint = "a table without identity: `kind: log`, `key: []`, `append_only: true`";
            subject.error(Code::KeyInvalid, &key.span, "the key is empty", Some(hint.into()));
            return None;
        }
        (false, _, true) => {
            let hint = "leave `append_only` out, or write `key: []`";
            subject.error(Code::KeyInvalid, &key.span, "`append_only: true` with a key", Some(hint.into()));
        }
        (false, _, false) => {}
    }
    let columns: Vec<&ColumnImage> = key.value.iter().filter_map(|name| key_column(subject, name, feeds)).collect();
    if let Some(table) = subject.table
        && columns.len() == key.value.len()
    {
        index_and_identity(subject, table, &columns);
    }
    if let Some(table) = subject.table {
        required_in_deletes(subject, table, feeds);
        unchanged_in_updates(subject, table, feeds);
    }
    schema(subject)
}

/// The column that feeds a key field, if the field may be in a key; what forbids it is reported.
fn key_column<'a>(subject: &Subject<'a>, name: &Text, feeds: &[Feed]) -> Option<&'a ColumnImage> {
    let Some(field) = subject.record.field(&name.value) else {
        let names = subject.record.fields.iter().map(|field| field.name.as_str());
        let hint = suggestion(&name.value, names, "fields of the schema");
        let message = format!("key field `{}` is not in the schema", name.value);
        subject.error(Code::KeyInvalid, &name.span, message, hint);
        return None;
    };
    let refuse = |message: String, hint: Option<String>| {
        subject.error(Code::KeyInvalid, &name.span, message, hint);
        None
    };
    let feed = feeds.iter().find(|feed| feed.field == name.value)?;
    let FeedSource::Column { from, options } = &feed.source else {
        let message = format!("key field `{}` must be fed by a plain column, and is a constant", name.value);
        return refuse(message, Some("a constant tells no rows apart".into()));
    };
    let table = subject.table?;
    let column = table.column(from)?;
    if let Pair::Refused { why, hint } =
        classify_key(&column.source_type, &FieldType::required(field.ty.base.clone()), options)
    {
        let message = format!(
            "column `{}` of `{}` (`{}`) cannot feed key field `{}` (`{}`): {why}",
            column.name, table.name, column.type_name, field.name, field.ty.base
        );
        return refuse(message, hint);
    }
    if !column.not_null {
        return refuse(
            format!("column `{}` of `{}` is in the key but may be null", column.name, table.name),
            Some("a null identifies no row: ALTER TABLE … ALTER COLUMN … SET NOT NULL".into()),
        );
    }
    Some(column)
}

fn index_and_identity(subject: &Subject<'_>, table: &TableImage, columns: &[&ColumnImage]) {
    let Some(key) = &subject.shape.key else { return };
    let names = |numbers: &[i16]| {
        let names: Vec<String> =
            numbers.iter().filter_map(|n| table.attnum(*n)).map(|column| format!("`{}`", column.name)).collect();
        names.join(", ")
    };
    let mut numbers: Vec<i16> = columns.iter().map(|column| column.attnum).collect();
    numbers.sort_unstable();
    let exactly = |unique: &&UniqueKey| {
        let mut own = unique.attnums.clone();
        own.sort_unstable();
        own == numbers
    };
    let Some(index) = table.keys.iter().find(exactly) else {
        let known: Vec<String> = table.keys.iter().map(|unique| format!("({})", names(&unique.attnums))).collect();
        let hint = match known.is_empty() {
            true => "the table has no usable unique index: add a primary key, or publish it with `kind: log`, `key: []`, `append_only: true`".to_owned(),
            false => format!("unique over exactly these columns: {}", known.join(", ")),
        };
        let message =
            format!("`{}` has no unique, immediate, complete index over exactly {}", table.name, names(&numbers));
        let (message, hint) = match unfit(subject, columns) {
            Some(index) => {
                (format!("{message}: index `{}` is {}", index.name, index.why.phrase()), index.why.hint().to_owned())
            }
            None => (message, hint),
        };
        subject.error(Code::KeyInvalid, &key.span, message, Some(hint));
        return;
    };
    let covered = identity_columns(table).is_none_or(|identity| numbers.iter().all(|number| identity.contains(number)));
    if !covered {
        let identity = match table.replica_identity {
            ReplicaIdentity::Nothing => "is NOTHING".to_owned(),
            _ => match identity_columns(table).unwrap_or_default() {
                [] => "is empty".to_owned(),
                list => format!("has only {}", names(list)),
            },
        };
        let message = format!(
            "the replica identity of `{}` {identity}: it does not cover the key, so deletes could not be told",
            table.name
        );
        let hint = format!("ALTER TABLE {} REPLICA IDENTITY USING INDEX {}; or FULL", table.name, index.name);
        subject.error(Code::KeyInvalid, &key.span, message, Some(hint));
    }
}

/// A unique index over exactly these columns that still cannot identify rows.
fn unfit<'a>(subject: &Subject<'a>, columns: &[&ColumnImage]) -> Option<&'a UnfitIndex> {
    subject.details?.unfit_indexes.iter().find(|index| {
        index.columns.len() == columns.len() && columns.iter().all(|column| index.columns.contains(&column.name))
    })
}

/// An update that leaves a value alone does not carry it where it is stored out of line; unless the identity is FULL.
fn unchanged_in_updates(subject: &Subject<'_>, table: &TableImage, feeds: &[Feed]) {
    let Some(details) = subject.details else { return };
    let whole_rows = table.replica_identity == ReplicaIdentity::Full;
    if subject.contract.kind != ContractKind::Log || subject.contract.append_only || whole_rows {
        return;
    }
    let identity = identity_columns(table).unwrap_or_default();
    let large = |from: &str| {
        let known = table.column(from).is_some_and(|column| identity.contains(&column.attnum));
        !known && details.toastable.iter().any(|column| column == from)
    };
    let mut columns: Vec<String> = Vec::new();
    for (_, from) in feeds.iter().flat_map(Feed::bindings) {
        if large(from) && !columns.contains(&format!("`{from}`")) {
            columns.push(format!("`{from}`"));
        }
    }
    if columns.is_empty() {
        return;
    }
    let message = format!(
        "an update of `{}` that leaves {} as it is does not carry it where it is large, and a log keeps whole rows",
        table.name,
        columns.join(", ")
    );
    let hint = format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.name);
    subject.warning(Code::ValueUnchanged, subject.source_span(), message, Some(hint));
}

/// A log's delete carries the last known row; unless the identity is FULL, that is the key alone.
fn required_in_deletes(subject: &Subject<'_>, table: &TableImage, feeds: &[Feed]) {
    let whole_rows = table.replica_identity == ReplicaIdentity::Full;
    if subject.contract.kind != ContractKind::Log || subject.contract.append_only || whole_rows {
        return;
    }
    let known_in_delete = |field: &Field| {
        let feed = feeds.iter().find(|feed| feed.field == field.name);
        match feed.map(|feed| &feed.source) {
            Some(FeedSource::Column { from, options }) => {
                let identity = identity_columns(table).unwrap_or_default();
                options.default.is_some() || table.column(from).is_some_and(|column| identity.contains(&column.attnum))
            }
            Some(FeedSource::Expr { expr, options }) => {
                let identity = identity_columns(table).unwrap_or_default();
                let covered = |from: &String| table.column(from).is_some_and(|c| identity.contains(&c.attnum));
                options.default.is_some() || expr.columns().iter().all(covered)
            }
            // A constant is always known; a feed that is wrong is reported already.
            Some(FeedSource::Const(_)) | None => true,
        }
    };
    for field in subject.record.fields.iter().filter(|field| !field.ty.is_nullable() && !known_in_delete(field)) {
        let message =
            format!("field `{}` is required, but a delete from `{}` carries only the key", field.name, table.name);
        let hint =
            format!("make the field nullable, give it `default:`, or ALTER TABLE {} REPLICA IDENTITY FULL", table.name);
        subject.error(Code::KeyInvalid, subject.source_span(), message, Some(hint));
    }
}

/// `<Name>Key` in the value's namespace, with the key's fields, never null.
fn schema(subject: &Subject<'_>) -> Option<RecordSchema> {
    let fields = subject
        .key_fields()
        .iter()
        .map(|name| {
            let field = subject.record.field(&name.value)?;
            Some(Field { name: field.name.clone(), ty: FieldType::required(field.ty.base.clone()), default: None })
        })
        .collect::<Option<Vec<Field>>>()?;
    Some(RecordSchema { name: format!("{}Key", subject.record.name), fields })
}
