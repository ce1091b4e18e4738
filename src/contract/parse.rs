//! Contract text → [`ContractFile`]: the form of the file alone, without schemas or catalog.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::fields;
use super::format::{ContractFile, Placed, Shape, Sla, Subscriber, VersionEntry};
use super::model::{Backfill, ContractKind, VersionStatus};
use crate::table::QualifiedName;
use crate::yaml::{MapReader, Node, NodeKind, Report, Text};

/// Most partitions of a topic: beyond this a broker has other worries.
const PARTITIONS_MAX: u32 = 10_000;

/// Longest contract name, so that topic, subject and label names made of it stay legal.
const NAME_LENGTH_MAX: usize = 100;

/// Parses one contract file; everything wrong with its form goes to `report`.
pub fn contract(report: &Report) -> Option<ContractFile> {
    let root = report.parse()?;
    let mut map = MapReader::new(report, "the contract", &root)?;
    let name = map.required("contract");
    if let Some(name) = &name {
        legal_contract_name(report, name);
    }
    let owner = map.text("owner").map(|text| text.value);
    let description = map.text("description").map(|text| text.value);
    let kind = map.word("kind", &[("state", ContractKind::State), ("log", ContractKind::Log)]);
    let append_only = switch(report, &mut map, "append_only");
    let topic = map.required("topic");
    let shape = shape(report, &mut map);
    let sla = map.value("sla").map(|node| sla(report, node)).unwrap_or_default();
    let notify = map.texts("notify").unwrap_or_default();
    let tags = map.texts("tags").unwrap_or_default();
    let subscribers = map.value("subscribers").map(|node| subscribers(report, node)).unwrap_or_default();
    let versions = map.value("versions").map(|node| versions(report, node));
    if versions.is_none() && !has(&root, "versions") {
        map.missing("versions");
    }
    if kind.is_none() && !has(&root, "kind") {
        map.missing("kind");
    }
    map.finish();
    Some(ContractFile {
        file: report.file.clone(),
        name: name?,
        owner,
        description,
        kind: kind?,
        append_only,
        topic: topic?,
        shape,
        sla,
        notify,
        tags,
        subscribers,
        versions: versions?,
    })
}

fn has(node: &Node, key: &str) -> bool {
    matches!(&node.kind, NodeKind::Mapping(entries) if entries.iter().any(|entry| entry.key.scalar() == Some(key)))
}

fn legal_contract_name(report: &Report, name: &Text) {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.value.len() > NAME_LENGTH_MAX || !name.value.chars().all(legal) {
        let hint = format!("use at most {NAME_LENGTH_MAX} letters, digits, `_` and `-`");
        report.error_with_hint(&name.span, format!("`{}` is no legal contract name", name.value), hint);
    }
}

/// `true` or `false`; absent is false.
pub(super) fn switch(report: &Report, map: &mut MapReader<'_>, key: &'static str) -> bool {
    match map.text(key) {
        None => false,
        Some(text) if text.value == "true" => true,
        Some(text) if text.value == "false" => false,
        Some(text) => {
            report.error(&text.span, format!("`{key}` must be true or false, not `{}`", text.value));
            false
        }
    }
}

fn shape(report: &Report, map: &mut MapReader<'_>) -> Shape {
    let source = map.text("source").and_then(|text| match qualified_name(&text.value) {
        Some(value) => Some(Placed { value, span: text.span }),
        None => {
            let hint = "write `namespace.table`, such as `public.orders`; a name with a dot goes in double quotes";
            report.error_with_hint(&text.span, format!("`{}` is no table name", text.value), hint);
            None
        }
    });
    let key = map.value("key").and_then(|node| {
        let value = report.texts("`key`", node)?;
        for (at, field) in value.iter().enumerate() {
            if value.iter().take(at).any(|earlier| earlier.value == field.value) {
                report.error(&field.span, format!("`{}` is in the key twice", field.value));
            }
        }
        Some(Placed { value, span: node.span.clone() })
    });
    let place = map.value("partitions").map(|node| node.span.clone());
    let partitions = map.parsed::<u32>("partitions", "a whole number").filter(|count| {
        let fits = (1..=PARTITIONS_MAX).contains(count);
        if let (false, Some(span)) = (fits, &place) {
            report.error(span, format!("`partitions` must be between 1 and {PARTITIONS_MAX}, not {count}"));
        }
        fits
    });
    Shape { source, key, partitions }
}

/// `namespace.table`; either part may be in double quotes, as in SQL, and is else taken letter for letter.
pub fn qualified_name(text: &str) -> Option<QualifiedName> {
    let (namespace, rest) = name_part(text)?;
    let (name, end) = name_part(rest.strip_prefix('.')?)?;
    end.is_empty().then_some(QualifiedName { namespace, name })
}

fn name_part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (part, rest) = text.split_at_checked(end)?;
        return (!part.is_empty() && !part.contains('"')).then(|| (part.to_owned(), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}

fn sla(report: &Report, node: &Node) -> Sla {
    let Some(mut map) = MapReader::new(report, "`sla`", node) else { return Sla::default() };
    let mut duration = |key| {
        let text = map.text(key)?;
        let parsed = parse_duration(&text.value);
        if parsed.is_none() {
            let message = format!("`{}` is no duration", text.value);
            report.error_with_hint(&text.span, message, "write a number and s, m, h or d: `60s`, `30d`");
        }
        parsed
    };
    let sla = Sla { freshness: duration("freshness"), notice: duration("notice") };
    map.finish();
    sla
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(digits)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(seconds).filter(|total| *total > 0).map(Duration::from_secs)
}

fn subscribers(report: &Report, node: &Node) -> Vec<Subscriber> {
    let NodeKind::Sequence(items) = &node.kind else {
        report.error(&node.span, format!("`subscribers` must be a list, not {}", node.describe()));
        return Vec::new();
    };
    let list: Vec<Subscriber> = items.iter().filter_map(|item| subscriber(report, item)).collect();
    for (at, one) in list.iter().enumerate() {
        let same = |other: &Subscriber| other.name.value == one.name.value && other.version.value == one.version.value;
        if list.iter().take(at).any(same) {
            report.error(&one.name.span, format!("subscriber `{}` is listed twice for one version", one.name.value));
        }
    }
    list
}

fn subscriber(report: &Report, node: &Node) -> Option<Subscriber> {
    let mut map = MapReader::new(report, "a subscriber", node)?;
    let name = map.required("name");
    let owner = map.text("owner").map(|text| text.value);
    let version = map.required("version").and_then(|text| major(report, &text));
    let listed = map.entry("fields").map(|entry| &entry.value);
    if listed.is_none() && !has(node, "fields") {
        map.missing("fields");
    }
    let fields = listed.and_then(|node| match node.scalar() {
        Some("all") => None,
        Some(other) => {
            let message = format!("`fields` cannot be `{other}`");
            report.error_with_hint(&node.span, message, "write `all`, or a list of schema fields");
            None
        }
        None => report.texts("`fields`", node),
    });
    let notify = map.texts("notify").unwrap_or_default();
    map.finish();
    Some(Subscriber { name: name?, owner, version: version?, fields, notify })
}

fn major(report: &Report, text: &Text) -> Option<Placed<u32>> {
    match text.value.parse::<u32>() {
        Ok(value) if value > 0 && value.to_string() == text.value => Some(Placed { value, span: text.span.clone() }),
        _ => {
            let message = format!("a version must be a whole number from 1, not `{}`", text.value);
            report.error_with_hint(&text.span, message, "minors are in the names of the schema files: orders/1.0.avsc");
            None
        }
    }
}

fn versions(report: &Report, node: &Node) -> BTreeMap<u32, VersionEntry> {
    let mut versions = BTreeMap::new();
    let NodeKind::Mapping(entries) = &node.kind else {
        report.error(&node.span, format!("`versions` must be a mapping, not {}", node.describe()));
        return versions;
    };
    if entries.is_empty() {
        report.error(&node.span, "`versions` is empty");
    }
    for entry in entries {
        let Some(key) = report.text("a version", &entry.key) else { continue };
        let Some(number) = major(report, &key) else { continue };
        if versions.contains_key(&number.value) {
            report.error(&key.span, format!("version {} is given twice", number.value));
        }
        if let Some(version) = version(report, &key, &entry.value) {
            versions.insert(number.value, version);
        }
    }
    versions
}

fn version(report: &Report, number: &Text, node: &Node) -> Option<VersionEntry> {
    let mut map = MapReader::new(report, format!("version {}", number.value), node)?;
    let schema = map.required("schema");
    let status = map.word(
        "status",
        &[
            ("draft", VersionStatus::Draft),
            ("active", VersionStatus::Active),
            ("deprecated", VersionStatus::Deprecated),
            ("retired", VersionStatus::Retired),
        ],
    );
    let deprecated_on = date(report, &mut map, "deprecated_on");
    let retire_on = date(report, &mut map, "retire_on");
    if let (Some(from), Some(until)) = (&deprecated_on, &retire_on)
        && until.value < from.value
    {
        let message = format!("`retire_on` {} is before `deprecated_on` {}", until.value, from.value);
        report.error(&until.span, message);
    }
    let backfill = map.word("backfill", &[("snapshot", Backfill::Snapshot), ("none", Backfill::None)]);
    let shape = shape(report, &mut map);
    let entry = map.entry_or_null("fields").filter(|entry| !entry.value.is_null());
    let fields = entry.map(|entry| fields::entries(report, &entry.value)).unwrap_or_default();
    let fields_span: Range<usize> = entry.map_or(&number.span, |entry| &entry.key.span).clone();
    map.finish();
    Some(VersionEntry {
        span: number.span.clone(),
        schema: schema?,
        status: status.unwrap_or(VersionStatus::Active),
        deprecated_on,
        retire_on,
        backfill,
        shape,
        fields,
        fields_span,
    })
}

fn date(report: &Report, map: &mut MapReader<'_>, key: &'static str) -> Option<Placed<jiff::civil::Date>> {
    let text = map.text(key)?;
    match text.value.parse() {
        Ok(value) => Some(Placed { value, span: text.span }),
        Err(_) => {
            let message = format!("`{key}` must be a date, not `{}`", text.value);
            report.error_with_hint(&text.span, message, "write year-month-day: 2027-03-31");
            None
        }
    }
}
