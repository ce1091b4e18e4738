//! The entries of `fields:`: the full syntax is known, and what this version does not do yet is refused by name.

use super::format::{EntryFeed, FieldEntry, Placed};
use super::model::OnError;
use super::parse::switch;
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::yaml::{MapReader, Node, NodeKind, Report, Text};

/// Keys of an entry that are part of the format and not built yet.
const NOT_YET: [(&str, &str); 5] = [
    ("mask", "leave the field out of the schema, or say `plain: true` to publish it as it is"),
    ("path", "publish the whole JSON as a string field"),
    ("expr", "compute it in a column of the table, or in the consumer"),
    ("encode", "publish bytea as `bytes`, and text as `string`"),
    ("round", "publish the number with the scale that the column has"),
];

/// Reads `fields:`.
pub(super) fn entries(report: &Report, node: &Node) -> Vec<FieldEntry> {
    // The reader finds doubled keys; the keys themselves are the author's field names, so none is unknown.
    if MapReader::new(report, "`fields`", node).is_none() {
        return Vec::new();
    }
    let NodeKind::Mapping(list) = &node.kind else { return Vec::new() };
    list.iter()
        .filter_map(|entry| {
            let value = entry.key.scalar()?.to_owned();
            entry_of(report, Text { value, span: entry.key.span.clone() }, &entry.value)
        })
        .collect()
}

fn entry_of(report: &Report, name: Text, node: &Node) -> Option<FieldEntry> {
    if let Some(from) = node.scalar() {
        let from = Text { value: from.to_owned(), span: node.span.clone() };
        let feed = EntryFeed::Column { from, default: None, map: None, otherwise: None, timezone: None };
        return Some(FieldEntry { name, feed, tags: Vec::new(), plain: false, on_error: None });
    }
    if node.is_null() || matches!(node.kind, NodeKind::Sequence(_)) {
        let message = format!("field `{}` says {}", name.value, node.describe());
        report.error_with_hint(
            &name.span,
            message,
            "write a column's name, or a mapping such as {from: column, default: 0}",
        );
        return None;
    }
    let mut map = MapReader::new(report, format!("field `{}`", name.value), node)?;
    let supported = refuse_not_yet(report, &mut map);
    let constant = map.entry_or_null("const");
    let from = map.text("from");
    let from_given = from.is_some();
    let default = map.entry_or_null("default").map(|entry| entry.value.clone());
    if default.as_ref().is_some_and(Node::is_null) {
        report
            .error(&name.span, format!("the default of field `{}` stands for null, so it cannot be null", name.value));
    }
    let labels = map.value("map").and_then(|node| labels(report, node));
    let mut otherwise = map.text("else");
    let timezone = map.text("timezone");
    let on_error = on_error(report, &mut map);
    let tags = map.texts("tags").unwrap_or_default();
    let plain = switch(report, &mut map, "plain");
    map.finish();

    if labels.is_none()
        && let Some(other) = otherwise.take()
    {
        report.error_with_hint(&other.span, "`else` without `map`", "`else` takes what `map` does not list");
    }
    if let (Some(Placed { value: OnError::Default, span }), None) = (&on_error, &default) {
        let message = format!("`on_error: default` of field `{}` needs a `default:`", name.value);
        report.error_with_hint(span, message, "say what the field takes: {default: VALUE, on_error: default}");
    }
    let beside_const = from_given || default.is_some() || labels.is_some() || otherwise.is_some() || timezone.is_some();
    let feed = match constant {
        _ if !supported => EntryFeed::Unsupported,
        Some(entry) => {
            if beside_const {
                let message = format!("field `{}` has `const` and a column", name.value);
                report.error_with_hint(&entry.key.span, message, "a constant stands alone: {const: web}");
            }
            EntryFeed::Const(entry.value.clone())
        }
        None => {
            EntryFeed::Column { from: from.unwrap_or_else(|| name.clone()), default, map: labels, otherwise, timezone }
        }
    };
    Some(FieldEntry { name, feed, tags, plain, on_error })
}

/// Reports what is not built yet; true if there is none.
fn refuse_not_yet(report: &Report, map: &mut MapReader<'_>) -> bool {
    let mut supported = true;
    for (key, hint) in NOT_YET {
        let Some(entry) = map.entry_or_null(key) else { continue };
        supported = false;
        let message = format!("`{key}` is not supported yet by this version");
        let finding = Diagnostic::error(Code::NotSupported, message).at(&report.file, entry.key.span.clone());
        report.push(finding.hint(hint));
    }
    supported
}

fn on_error(report: &Report, map: &mut MapReader<'_>) -> Option<Placed<OnError>> {
    let node = map.value("on_error")?;
    let value = match node.scalar().unwrap_or("") {
        "stop" => OnError::Stop,
        "dead_letter" => OnError::DeadLetter,
        "park" => OnError::Park,
        "default" => OnError::Default,
        text => {
            let hint = "one of: `dead_letter`, `park`, `default`, `stop`";
            report.error_with_hint(&node.span, format!("`on_error` cannot be `{text}`"), hint);
            return None;
        }
    };
    Some(Placed { value, span: node.span.clone() })
}

fn labels(report: &Report, node: &Node) -> Option<Placed<Vec<(Text, Text)>>> {
    MapReader::new(report, "`map`", node)?;
    let NodeKind::Mapping(entries) = &node.kind else { return None };
    if entries.is_empty() {
        report.error(&node.span, "`map` is empty");
    }
    let pairs = entries
        .iter()
        .filter_map(|entry| {
            let key = entry.key.scalar()?.to_owned();
            let value = report.text("a value of `map`", &entry.value)?;
            Some((Text { value: key, span: entry.key.span.clone() }, value))
        })
        .collect();
    Some(Placed { value: pairs, span: node.span.clone() })
}
