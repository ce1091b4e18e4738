//! Totality and pairs: every schema field is fed, every entry names a field, every pair is one that gimbal can keep.

use std::ops::Range;

use super::expr::Expr;
use super::fields::{expr_error, within};
use super::format::{EntryFeed, EntryMask, FieldEntry, Placed};
use super::labels::Labels;
use super::mapping::{Mask, MaskKey};
use super::model::{Feed, FeedOptions, FeedSource};
use super::values;
use super::version::Subject;
use crate::avro::{Field, is_legal_name};
use crate::diagnostic::suggestion;
use crate::error::Code;
use crate::pairs::{Pair, classify, source_type_name};
use crate::table::{ColumnImage, ColumnKind, SourceType, TableImage};
use crate::yaml::{Node, Text};

/// One feed per schema field, in schema order; a field whose feed is wrong is reported and left out.
pub(super) fn resolve(subject: &Subject<'_>) -> Vec<Feed> {
    for entry in &subject.entry.fields {
        if subject.record.field(&entry.name.value).is_none() {
            unknown_field(subject, &entry.name);
        }
        personal_data(subject, entry);
    }
    subject.record.fields.iter().filter_map(|field| feed(subject, field)).collect()
}

fn unknown_field(subject: &Subject<'_>, name: &Text) {
    let names = subject.record.fields.iter().map(|field| field.name.as_str());
    let hint = match is_legal_name(&name.value) {
        true => suggestion(&name.value, names, "fields of the schema"),
        false => Some("Avro allows letters, digits and `_`; put the column's own name in `from:`".into()),
    };
    let message = format!("`{}` is no field of the schema `{}`", name.value, subject.entry.schema.value);
    subject.error(Code::ContractNotTotal, &name.span, message, hint);
}

/// A field tagged `pii` is masked, or its author says that it is not.
fn personal_data(subject: &Subject<'_>, entry: &FieldEntry) {
    let Some(tag) = entry.tags.iter().find(|tag| tag.value == "pii") else { return };
    let masked = matches!(entry.feed, EntryFeed::Column { mask: Some(_), .. });
    if !entry.plain && !masked {
        let message = format!("`{}` is tagged `pii` and not masked", entry.name.value);
        let hint = "say `mask:`, or `plain: true` to publish it as it is";
        subject.error(Code::ContractInvalid, &tag.span, message, Some(hint.into()));
    }
}

fn feed(subject: &Subject<'_>, field: &Field) -> Option<Feed> {
    let entry = subject.entry.fields.iter().find(|entry| entry.name.value == field.name);
    let source = match entry.map(|entry| &entry.feed) {
        Some(EntryFeed::Const(node)) => FeedSource::Const(constant(subject, field, entry?, node)?),
        Some(EntryFeed::Column { mask: Some(Placed { value: EntryMask::Null | EntryMask::Drop, .. }), .. }) => {
            withheld(subject, field, entry?)?
        }
        Some(EntryFeed::Column { expr: Some(expr), .. }) => expr_feed(subject, field, entry?, expr)?,
        Some(EntryFeed::Column { from, .. }) => column_feed(subject, field, entry, Some((&from.value, &from.span)))?,
        None => column_feed(subject, field, None, None)?,
    };
    Some(Feed { field: field.name.clone(), source })
}

fn constant(subject: &Subject<'_>, field: &Field, entry: &FieldEntry, node: &Node) -> Option<serde_json::Value> {
    match values::of_type(node, &field.ty) {
        Ok(value) => Some(value),
        Err(why) => {
            let span = if node.is_null() { &entry.name.span } else { &node.span };
            subject.error(Code::ContractInvalid, span, format!("the constant is no `{}`: {why}", field.ty), None);
            None
        }
    }
}

/// A field that is worked out: every column is there, the types fit one another and the field.
fn expr_feed(subject: &Subject<'_>, field: &Field, entry: &FieldEntry, expr: &Placed<Expr>) -> Option<FeedSource> {
    let options = options(subject, field, entry);
    if !Labels::of(Some(entry)).targets_fit(subject, field) {
        return None;
    }
    if let Some(table) = subject.table {
        let span = |part: Range<usize>| {
            let text = Text { value: expr.value.text().to_owned(), span: expr.span.clone() };
            within(subject.report, &text, part)
        };
        let mut columns = Vec::new();
        for (at, name) in expr.value.columns().iter().enumerate() {
            match table.column(name) {
                Some(column) => columns.push(column),
                None => unknown_column(subject, table, field, Some((name, &span(expr.value.mention(at))))),
            }
        }
        if columns.len() < expr.value.columns().len() {
            return None;
        }
        let types: Vec<SourceType> = columns.iter().map(|column| column.source_type.clone()).collect();
        let typed = match expr.value.typed(&types) {
            Ok(typed) => typed,
            Err(error) => {
                expr_error(subject.report, expr.span.clone(), expr.value.text(), &error);
                return None;
            }
        };
        let options = options.as_ref()?;
        if let Pair::Refused { why, hint } = classify(&typed.result, &field.ty, options) {
            let message = format!(
                "the expression is `{}` and cannot feed field `{}` (`{}`): {why}",
                source_type_name(&typed.result),
                field.name,
                field.ty
            );
            subject.error(Code::PairRefused, &expr.span, message, hint);
            return None;
        }
        let never = expr.value.never_null(&|at| columns.get(at).is_some_and(|column| column.not_null));
        if !field.ty.is_nullable() && options.default.is_none() && !never {
            let message = format!("field `{}` is required, but its expression may be null", field.name);
            let hint =
                "a null stops the daemon: make the field nullable, end with `coalesce(…, 'x')`, or say `default:`";
            subject.warning(Code::ValueNull, &expr.span, message, Some(hint.into()));
        }
    }
    Some(FeedSource::Expr { expr: expr.value.clone(), options: options? })
}

/// A field whose column is never read: `mask: null` and `mask: drop`. The column must be there all the same.
fn withheld(subject: &Subject<'_>, field: &Field, entry: &FieldEntry) -> Option<FeedSource> {
    let EntryFeed::Column { from, default, mask: Some(mask), .. } = &entry.feed else { return None };
    if let Some(table) = subject.table
        && table.column(&from.value).is_none()
    {
        unknown_column(subject, table, field, Some((&from.value, &from.span)));
        return None;
    }
    if mask.value == EntryMask::Null {
        if !field.ty.is_nullable() {
            let message = format!("field `{}` (`{}`) has no null to be masked by", field.name, field.ty);
            let hint = "let the field be nullable in the schema, or say `mask: drop` and `default:`";
            subject.error(Code::ContractInvalid, &mask.span, message, Some(hint.into()));
            return None;
        }
        return Some(FeedSource::Const(serde_json::Value::Null));
    }
    match default {
        Some(node) => constant(subject, field, entry, node).map(FeedSource::Const),
        None if field.ty.is_nullable() => Some(FeedSource::Const(serde_json::Value::Null)),
        None => {
            let message = format!("`mask: drop` leaves nothing for field `{}` (`{}`)", field.name, field.ty);
            let hint = "say `default:` for what is published in its place, or let the field be nullable";
            subject.error(Code::ContractInvalid, &mask.span, message, Some(hint.into()));
            None
        }
    }
}

/// The mask of an entry, its key known to the config.
fn mask(subject: &Subject<'_>, mask: &EntryMask) -> Option<Mask> {
    match mask {
        EntryMask::Null | EntryMask::Drop => None,
        EntryMask::KeepLast(count) => Some(Mask::KeepLast(*count)),
        EntryMask::HmacSha256(key) => {
            if let Some(keys) = subject.keys.filter(|keys| !keys.contains(&key.value)) {
                let hint = suggestion(&key.value, keys.iter().map(String::as_str), "keys of the config")
                    .unwrap_or_else(|| format!("add it to the config: keys: {{{}: {{env: NAME}}}}", key.value));
                let message = format!("the config has no key `{}`", key.value);
                subject.error(Code::ContractInvalid, &key.span, message, Some(hint));
                return None;
            }
            Some(Mask::HmacSha256 { key: MaskKey::named(key.value.clone()) })
        }
    }
}

/// The feed from a column; `named` is the column's name and place where the contract names it.
fn column_feed(
    subject: &Subject<'_>,
    field: &Field,
    entry: Option<&FieldEntry>,
    named: Option<(&str, &Range<usize>)>,
) -> Option<FeedSource> {
    let labels = Labels::of(entry);
    let options = match entry {
        Some(entry) => options(subject, field, entry),
        None => Some(FeedOptions::default()),
    };
    let targets_fit = labels.targets_fit(subject, field);
    let (from, span) = named.unwrap_or((&field.name, &subject.entry.fields_span));
    // Without a catalog nothing more can be judged; that it is missing is reported elsewhere.
    if let Some(table) = subject.table {
        let Some(column) = table.column(from) else {
            unknown_column(subject, table, field, named);
            return None;
        };
        labels.sources_fit(subject, field, column, span);
        if targets_fit {
            judge(subject, field, table, column, options.as_ref()?, span)?;
        }
    }
    Some(FeedSource::Column { from: from.to_owned(), options: options.filter(|_| targets_fit)? })
}

fn options(subject: &Subject<'_>, field: &Field, entry: &FieldEntry) -> Option<FeedOptions> {
    let EntryFeed::Column { default, map, otherwise, timezone, path, encode, round, mask: masked, .. } = &entry.feed
    else {
        return None;
    };
    let mut complete = true;
    let default =
        default.as_ref().filter(|node| !node.is_null()).and_then(|node| match values::of_type(node, &field.ty) {
            Ok(value) => Some(value),
            Err(why) => {
                let message = format!("the default is no `{}`: {why}", field.ty);
                subject.error(Code::ContractInvalid, &node.span, message, None);
                complete = false;
                None
            }
        });
    if let Some(zone) = timezone.as_ref().filter(|zone| !is_time_zone(&zone.value)) {
        let hint = "use a name of the IANA database: `UTC`, `Europe/Berlin`".to_owned();
        subject.error(Code::ContractInvalid, &zone.span, format!("there is no time zone `{}`", zone.value), Some(hint));
        complete = false;
    }
    let found = masked.as_ref().and_then(|masked| mask(subject, &masked.value));
    complete &= found.is_some() == masked.is_some();
    complete.then(|| FeedOptions {
        path: path.as_ref().map(|path| path.value.clone()),
        encode: *encode,
        round: *round,
        mask: found,
        default,
        map: map
            .as_ref()
            .map(|map| map.value.iter().map(|(from, to)| (from.value.clone(), to.value.clone())).collect()),
        otherwise: otherwise.as_ref().map(|text| text.value.clone()),
        timezone: timezone.as_ref().map(|text| text.value.clone()),
        on_error: entry.on_error.as_ref().map(|placed| placed.value),
    })
}

/// Asks the zones that are built in, so that the answer does not depend on the machine.
fn is_time_zone(name: &str) -> bool {
    jiff::tz::TimeZoneDatabase::bundled().get(name).is_ok()
}

/// Judges the pair, and whether a null may come where none may go.
fn judge(
    subject: &Subject<'_>,
    field: &Field,
    table: &TableImage,
    column: &ColumnImage,
    options: &FeedOptions,
    span: &Range<usize>,
) -> Option<()> {
    if let Pair::Refused { why, hint } = classify(&column.source_type, &field.ty, options) {
        let message = format!(
            "column `{}` of `{}` (`{}`) cannot feed field `{}` (`{}`): {why}",
            column.name, table.name, column.type_name, field.name, field.ty
        );
        subject.error(Code::PairRefused, span, message, hint);
        return None;
    }
    let may_be_null = !column.not_null || options.path.is_some();
    if !field.ty.is_nullable() && may_be_null && options.default.is_none() && !subject.is_key(&field.name) {
        let message = match &options.path {
            Some(path) => format!("field `{}` is required, but `{path}` may find nothing", field.name),
            None => format!(
                "field `{}` is required, but column `{}` of `{}` may be null",
                field.name, column.name, table.name
            ),
        };
        let hint =
            format!("a null parks the contract: make the field nullable, or say {{from: {}, default: …}}", column.name);
        subject.warning(Code::ValueNull, span, message, Some(hint));
    }
    Some(())
}

fn unknown_column(subject: &Subject<'_>, table: &TableImage, field: &Field, named: Option<(&str, &Range<usize>)>) {
    let (from, span) = named.unwrap_or((&field.name, &subject.entry.fields_span));
    if table.columns.iter().any(|column| column.kind == ColumnKind::Generated && column.name == from) {
        let message =
            format!("column `{from}` of `{}` is generated, and logical replication does not carry it", table.name);
        let hint = "publish the columns that it is made of, or say `expr:`";
        subject.error(Code::PairRefused, span, message, Some(hint.into()));
        return;
    }
    let hint = suggestion(from, table.listed().map(|column| column.name.as_str()), "its columns");
    match named {
        Some(_) => {
            let message = format!("`{}` has no column `{from}`", table.name);
            subject.error(Code::SourceUnknown, span, message, hint);
        }
        None => {
            let message = format!(
                "field `{}` is fed by nothing: no entry, and `{}` has no column of that name",
                field.name, table.name
            );
            let entry = format!("add an entry to `fields`: `{}: COLUMN`", field.name);
            let hint = hint.map_or(entry.clone(), |columns| format!("{entry}; {columns}"));
            subject.error(Code::ContractNotTotal, span, message, Some(hint));
        }
    }
}
