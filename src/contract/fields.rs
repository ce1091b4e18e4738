//! The entries of `fields:`: the full syntax is known, and what this version does not do yet is refused by name.

use std::ops::Range;

use super::expr::{Expr, ExprError};
use super::format::{EntryFeed, EntryMask, FieldEntry, Placed};
use super::mapping::{Encoding, JsonPath, Rounding};
use super::model::OnError;
use super::parse::switch;
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::yaml::{MapReader, Node, NodeKind, Report, Text};

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
        let feed = EntryFeed::column(from);
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
    let expr = map.text("expr").and_then(|text| expr(report, &text));
    if let (Some(expr), true) = (&expr, from_given || map.has("path")) {
        report.error_with_hint(&expr.span, "`expr` names its columns itself", "leave `from` and `path` out");
    }
    let path = map.text("path").and_then(|text| path(report, &text));
    let encode = map.word("encode", &[("hex", Encoding::Hex), ("base64", Encoding::Base64), ("utf8", Encoding::Utf8)]);
    let round = map.word("round", &[("half_even", Rounding::HalfEven)]);
    let mask = map.entry_or_null("mask").and_then(|entry| mask(report, &entry.value, &entry.key.span));
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
    let mapped = expr.is_some() || path.is_some() || encode.is_some() || round.is_some() || mask.is_some();
    let beside_const =
        from_given || default.is_some() || labels.is_some() || otherwise.is_some() || timezone.is_some() || mapped;
    let feed = match constant {
        Some(entry) => {
            if beside_const {
                let message = format!("field `{}` has `const` and a column", name.value);
                report.error_with_hint(&entry.key.span, message, "a constant stands alone: {const: web}");
            }
            EntryFeed::Const(entry.value.clone())
        }
        None => EntryFeed::Column {
            from: from.unwrap_or_else(|| name.clone()),
            default,
            map: labels,
            otherwise,
            timezone,
            expr,
            path,
            encode,
            round,
            mask,
        },
    };
    Some(FieldEntry { name, feed, tags, plain, on_error })
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

/// `path:`; what is wrong with it is reported at the byte where it is.
fn path(report: &Report, text: &Text) -> Option<Placed<JsonPath>> {
    match JsonPath::parse(&text.value) {
        Ok(value) => Some(Placed { value, span: text.span.clone() }),
        Err(error) => {
            let hint = "write `$.key`, `$.list[0]` or `$[\"odd key\"]`";
            report.error_with_hint(&within(report, text, error.at..error.at + 1), error.message, hint);
            None
        }
    }
}

/// `expr:`; what is wrong with it is reported at the part that is wrong.
fn expr(report: &Report, text: &Text) -> Option<Placed<Expr>> {
    match Expr::parse(&text.value) {
        Ok(value) => Some(Placed { value, span: text.span.clone() }),
        Err(error) => {
            expr_error(report, text.span.clone(), &text.value, &error);
            None
        }
    }
}

/// Reports what is wrong with an expression whose scalar stands at `span`.
pub(super) fn expr_error(report: &Report, span: Range<usize>, value: &str, error: &ExprError) {
    let place = within(report, &Text { value: value.to_owned(), span }, error.span.clone());
    let finding = Diagnostic::error(Code::ExprInvalid, error.message.clone()).at(&report.file, place);
    report.push(finding.maybe_hint(error.hint.clone()));
}

/// The place in the file of a part of a scalar; the whole scalar where escapes or folded lines move its bytes.
pub(super) fn within(report: &Report, text: &Text, part: Range<usize>) -> Range<usize> {
    let raw = report.file.text.get(text.span.clone()).unwrap_or_default();
    let quote = usize::from(raw.starts_with(['"', '\'']));
    if raw.get(quote..quote + text.value.len()) != Some(text.value.as_str()) {
        return text.span.clone();
    }
    let start = text.span.start + quote;
    let end = start + text.value.len();
    (start + part.start).min(end)..(start + part.end).min(end).max((start + part.start).min(end))
}

/// `mask:`, one of `{hmac_sha256: KEY}`, `{keep_last: 4}`, `null`, `drop`.
fn mask(report: &Report, node: &Node, key: &Range<usize>) -> Option<Placed<EntryMask>> {
    let placed = |value, span: &Range<usize>| Some(Placed { value, span: span.clone() });
    if node.is_null() {
        return placed(EntryMask::Null, if node.span.is_empty() { key } else { &node.span });
    }
    let hint = "one of `{hmac_sha256: KEY}`, `{keep_last: 4}`, `null`, `drop`";
    if let Some(word) = node.scalar() {
        if word == "drop" {
            return placed(EntryMask::Drop, &node.span);
        }
        report.error_with_hint(&node.span, format!("`mask` cannot be `{word}`"), hint);
        return None;
    }
    let [entry] = mapping(node) else {
        report.error_with_hint(&node.span, "`mask` must name one mask", hint);
        return None;
    };
    let said_true = || {
        let yes = entry.value.scalar() == Some("true");
        if !yes {
            report.error_with_hint(&entry.value.span, "this mask can only be `true`", hint);
        }
        yes
    };
    // `null` as a key is YAML's null unless it is quoted.
    let name = if entry.key.is_null() { "null" } else { entry.key.scalar().unwrap_or_default() };
    match name {
        "null" => said_true().then(|| placed(EntryMask::Null, &node.span))?,
        "drop" => said_true().then(|| placed(EntryMask::Drop, &node.span))?,
        "hmac_sha256" => {
            let name = report.text("the key of `hmac_sha256`", &entry.value)?;
            placed(EntryMask::HmacSha256(name), &node.span)
        }
        "keep_last" => match entry.value.scalar().and_then(|text| text.parse::<u32>().ok()) {
            Some(count) => placed(EntryMask::KeepLast(count), &node.span),
            None => {
                report.error(&entry.value.span, "`keep_last` must be a whole number of characters");
                None
            }
        },
        other => {
            report.error_with_hint(&entry.key.span, format!("there is no mask `{other}`"), hint);
            None
        }
    }
}

fn mapping(node: &Node) -> &[crate::yaml::Entry] {
    match &node.kind {
        NodeKind::Mapping(entries) => entries,
        _ => &[],
    }
}

impl EntryFeed {
    /// A column, and nothing said about it.
    fn column(from: Text) -> EntryFeed {
        EntryFeed::Column {
            from,
            default: None,
            map: None,
            otherwise: None,
            timezone: None,
            expr: None,
            path: None,
            encode: None,
            round: None,
            mask: None,
        }
    }
}
