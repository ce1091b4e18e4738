//! The reference pages, held against the program: keys, pairs of types, options. Where they differ, the page is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory;
use gimbal::avro::{BaseType, FieldType};
use gimbal::config::Config;
use gimbal::contract::{self, Encoding, FeedOptions, JsonPath, Rounding, Sources};
use gimbal::diagnostic::{Diagnostic, SourceText};
use gimbal::pairs::{Pair, classify, draft_type, source_type_name};
use gimbal::table::{EnumLabel, SourceType};

use crate::lab;

/// Far from every key, so that the program lists those that it knows.
const UNKNOWN: &str = "zzzzzzzzzzzzzzzz";

fn page(name: &str) -> String {
    std::fs::read_to_string(lab::root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// First cells in back-ticks of the tables in the section with this heading.
fn keys(page: &str, heading: &str) -> BTreeSet<String> {
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("there is no section `## {heading}`"));
    let first = |line: &str| line.strip_prefix("| `")?.split_once('`').map(|(key, _)| key.to_owned());
    section.lines().filter_map(first).collect()
}

/// What the hint about the unknown key lists.
fn known(findings: &[Diagnostic]) -> BTreeSet<String> {
    let finding = findings.iter().find(|finding| finding.message.contains(UNKNOWN));
    let hint = finding.and_then(|finding| finding.hint.clone()).unwrap_or_else(|| panic!("no hint in {findings:?}"));
    let list = hint.strip_prefix("known keys: ").unwrap_or_else(|| panic!("no list in `{hint}`"));
    list.split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
}

#[test]
fn config_md_lists_the_keys_that_the_config_knows() {
    let page = page("docs/config.md");
    let (head, url) = ("pipeline: p\nsource: {url: \"postgresql://u@h/d\"}\n", "postgresql://u@h/d");
    for (heading, text) in [
        ("Top level", format!("{head}{UNKNOWN}: 1\n")),
        ("`source`", format!("pipeline: p\nsource: {{url: \"{url}\", {UNKNOWN}: 1}}\n")),
        ("`sink`", format!("{head}sink: {{files: {{path: t}}, {UNKNOWN}: 1}}\n")),
        ("`files`", format!("{head}sink: {{files: {{path: t, {UNKNOWN}: 1}}}}\n")),
        ("`null`", format!("{head}sink: {{\"null\": {{path: t, {UNKNOWN}: 1}}}}\n")),
        ("`kafka`", format!("{head}sink: {{kafka: {{bootstrap: b, {UNKNOWN}: 1}}}}\n")),
        ("`registry`", format!("{head}registry: {{url: \"http://r\", {UNKNOWN}: 1}}\n")),
        ("Secrets", format!("{head}api_token: {{file: f, {UNKNOWN}: 1}}\n")),
    ] {
        let findings = Config::parse("gimbal.yaml", &text, Path::new("")).expect_err("the key is unknown");
        assert_eq!(keys(&page, heading), known(&findings), "docs/config.md, {heading}");
    }
}

#[test]
fn contracts_md_lists_the_keys_that_a_contract_knows() {
    let page = page("docs/contracts.md");
    let whole = |top: &str, version: &str, fields: &str| {
        format!(
            "contract: c\nkind: state\ntopic: t.v{{major}}\n{top}\nversions:\n  1:\n    schema: c/1.0.avsc\n{version}\n    fields: {{{fields}}}\n"
        )
    };
    for (heading, text) in [
        ("The contract", whole(&format!("{UNKNOWN}: 1"), "", "")),
        ("`sla`", whole(&format!("sla: {{{UNKNOWN}: 1}}"), "", "")),
        ("A subscriber", whole(&format!("subscribers: [{{name: a, version: 1, fields: all, {UNKNOWN}: 1}}]"), "", "")),
        ("A version", whole("", &format!("    {UNKNOWN}: 1"), "")),
        ("A field's entry", whole("", "", &format!("f: {{{UNKNOWN}: 1}}"))),
    ] {
        let contracts = vec![SourceText::new("contracts/c.yaml", text)];
        let findings = contract::resolve(&Sources { contracts, ..Sources::default() }).findings;
        assert_eq!(keys(&page, heading), known(&findings), "docs/contracts.md, {heading}");
    }
}

#[test]
fn every_option_has_a_help_text() {
    let mut command = gimbal::cli::Args::command();
    command.build();
    let mut complaints = Vec::new();
    for sub in std::iter::once(&command).chain(command.get_subcommands()).filter(|sub| sub.get_name() != "help") {
        let mut look = |what: String, help: Option<String>| match help {
            Some(help) if !help.trim().is_empty() && !help.ends_with('.') => {}
            other => complaints.push(format!("{what}: {other:?}")),
        };
        look(sub.get_name().to_owned(), sub.get_about().map(ToString::to_string));
        for argument in sub.get_arguments() {
            let what = format!("{} {}", sub.get_name(), argument.get_id());
            look(what, argument.get_help().map(ToString::to_string));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let pages =
        ["README.md", "CHANGELOG.md", "docs/contracts.md", "docs/config.md", "docs/operations.md", "docs/errors.md"];
    for name in pages {
        let text = page(name);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let here = lab::root().join(name);
            let file = if file.is_empty() { here } else { here.with_file_name(file) };
            let content = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: `{target}`: {error}"));
            let slug = |line: &str| {
                let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
            };
            let found = anchor.is_empty() || content.lines().any(|line| line.starts_with('#') && slug(line) == anchor);
            assert!(found, "{name}: `{target}` has no such heading");
        }
    }
}

// ---- the matrix of pairs --------------------------------------------------------------------------------------------

#[test]
fn contracts_md_shows_the_matrix_of_pairs() {
    let rows = matrix();
    assert!(page("docs/contracts.md").contains(&rows), "the table of pairs in docs/contracts.md must be\n\n{rows}");
}

fn sources() -> Vec<SourceType> {
    use SourceType as T;
    let other = || T::Other { name: "inet".to_owned() };
    let labels = vec![EnumLabel { oid: 1, label: "a".to_owned() }];
    vec![
        T::Bool,
        T::Int2,
        T::Int4,
        T::Int8,
        T::Oid,
        T::Float4,
        T::Float8,
        T::Numeric { precision: Some(10), scale: Some(2) },
        T::Numeric { precision: None, scale: None },
        T::Money,
        T::Text,
        T::Varchar,
        T::Char,
        T::Name,
        T::Citext,
        T::Bytea,
        T::Date,
        T::Time,
        T::Timetz,
        T::Interval,
        T::Timestamp,
        T::Timestamptz,
        T::Uuid,
        T::Json,
        T::Jsonb,
        T::Enum { labels },
        T::Array(Box::new(T::Int4)),
        other(),
    ]
}

/// Schema types with the names that the page gives them.
fn targets() -> Vec<(&'static str, BaseType)> {
    let symbols = vec!["a".to_owned(), "b".to_owned()];
    let items = |null_branch| BaseType::Array(Box::new(FieldType { null_branch, base: BaseType::Long }));
    vec![
        ("boolean", BaseType::Boolean),
        ("int", BaseType::Int),
        ("long", BaseType::Long),
        ("float", BaseType::Float),
        ("double", BaseType::Double),
        ("bytes", BaseType::Bytes),
        ("decimal(p,s)", BaseType::Decimal { precision: 10, scale: 2 }),
        ("other decimals", BaseType::Decimal { precision: 19, scale: 2 }),
        ("fixed", BaseType::Fixed { name: "f".to_owned(), size: 4 }),
        ("date", BaseType::Date),
        ("time-micros", BaseType::TimeMicros),
        ("timestamp-millis", BaseType::TimestampMillis),
        ("timestamp-micros", BaseType::TimestampMicros),
        ("local-timestamp-micros", BaseType::LocalTimestampMicros),
        ("uuid over string", BaseType::UuidString),
        ("uuid over fixed", BaseType::UuidFixed),
        ("enum", BaseType::Enum { name: "e".to_owned(), symbols, default: Some("a".to_owned()) }),
        ("array of [null, T]", items(Some(0))),
        ("array of T", items(None)),
        ("string", BaseType::String),
    ]
}

/// The rows of the table, types that are treated alike in one.
fn matrix() -> String {
    let mut rows: Vec<(Vec<String>, String)> = Vec::new();
    for source in sources() {
        let name = match &source {
            SourceType::Numeric { precision: Some(_), .. } => "numeric(p,s)".to_owned(),
            SourceType::Array(_) => "T[]".to_owned(),
            SourceType::Other { .. } => "any other".to_owned(),
            _ => source_type_name(&source),
        };
        let cells = cells(&source);
        match rows.iter_mut().find(|(_, known)| *known == cells) {
            Some((names, _)) => names.push(name),
            None => rows.push((vec![name], cells)),
        }
    }
    rows.iter().map(|(names, cells)| format!("| {} | {cells} |\n", names.join(", "))).collect()
}

fn cells(source: &SourceType) -> String {
    let plain = FeedOptions::default();
    let options = [
        ("timezone", FeedOptions { timezone: Some("UTC".to_owned()), ..FeedOptions::default() }),
        ("map", FeedOptions { map: Some(vec![("a".to_owned(), "a".to_owned())]), ..FeedOptions::default() }),
        ("round", FeedOptions { round: Some(Rounding::HalfEven), ..FeedOptions::default() }),
        ("encode", FeedOptions { encode: Some(Encoding::Hex), ..FeedOptions::default() }),
        ("path", FeedOptions { path: JsonPath::parse("$.a").ok(), ..FeedOptions::default() }),
    ];
    let mut columns: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, base) in targets() {
        let judged = |options: &FeedOptions| {
            matches!(classify(source, &FieldType::required(base.clone()), options), Pair::Exact | Pair::Checked)
        };
        let place = match classify(source, &FieldType::required(base.clone()), &plain) {
            Pair::Exact => ("exact", name.to_owned()),
            Pair::Checked => ("checked", name.to_owned()),
            Pair::Refused { .. } => match options.iter().find(|(_, options)| judged(options)) {
                Some((option, _)) => ("option", format!("{name} by `{option}`")),
                None => continue,
            },
        };
        columns.entry(place.0).or_default().push(place.1);
    }
    let draft = draft_type(source).base;
    let draft = targets().into_iter().find(|(_, base)| *base == draft).map_or("string", |(name, _)| name);
    let text = |column: &str| {
        let names = columns.get(column).map(|names| names.join(", ")).unwrap_or_default();
        let mut names = names;
        for option in ["round", "path"] {
            let both = format!("decimal(p,s) by `{option}`, other decimals by `{option}`");
            names = names.replace(&both, &format!("decimal by `{option}`"));
        }
        match (source, names.contains("decimal(p,s), other decimals")) {
            (_, true) => names.replace("decimal(p,s), other decimals", "decimal"),
            (SourceType::Money, _) => names.replace("other decimals", "decimal(19,2)"),
            _ => names,
        }
    };
    let draft = if matches!(source, SourceType::Money) { "decimal(19,2)" } else { draft };
    format!("{draft} | {} | {} | {}", text("exact"), text("checked"), text("option"))
        .replace("|  |", "| |")
        .trim_end()
        .to_owned()
}
