//! What gimbal runs on production, as the server logs it, against what `install --print` lists.

use std::collections::BTreeSet;

use serde_json::json;

use crate::doctor::Scene;
use crate::lab::{Options, Postgres};

/// A listed statement: literal parts, between which anything may stand.
struct Template {
    text: String,
    parts: Vec<String>,
}

impl Template {
    /// `{…}` and `$1` stand for what is filled in.
    fn new(text: &str) -> Template {
        let text = normal(text);
        let (mut parts, mut part, mut rest) = (Vec::new(), String::new(), text.as_str());
        while let Some(first) = rest.chars().next() {
            let placeholder = match first {
                '{' => rest.find('}').map(|end| end + 1),
                '$' => {
                    Some(1 + rest[1..].chars().take_while(char::is_ascii_digit).count()).filter(|length| *length > 1)
                }
                _ => None,
            };
            match placeholder {
                Some(length) => {
                    parts.push(std::mem::take(&mut part));
                    rest = &rest[length..];
                }
                None => {
                    part.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        parts.push(part);
        Template { text, parts }
    }

    fn matches(&self, statement: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else { return self.text == statement };
        let Some(mut rest) = statement.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            match rest.find(part.as_str()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

/// Without comments, without a semicolon at the end, and with one blank where there was white space.
fn normal(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    let words: Vec<&str> = code.flat_map(str::split_whitespace).collect();
    words.join(" ").trim_end_matches(';').to_owned()
}

/// The statements of `install --print`; several in one line are several. A placeholder alone stands for a statement that
/// is listed elsewhere: as a template it would fit everything.
fn listed(printed: &str) -> Vec<Template> {
    let code: Vec<&str> = printed.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let texts = code.join("\n");
    let templates = texts.split(";\n").flat_map(|text| text.split("; ")).map(Template::new);
    templates.filter(|template| template.parts.iter().any(|part| !part.is_empty())).collect()
}

/// Statements that sessions named `gimbal` ran, out of the server's log.
fn logged(log: &str) -> BTreeSet<String> {
    let mut statements = BTreeSet::new();
    let mut entry: Option<String> = None;
    // A tab begins a further line of the same entry.
    for line in log.lines().chain(["end"]) {
        match (line.strip_prefix('\t'), &mut entry) {
            (Some(more), Some(entry)) => {
                entry.push('\n');
                entry.push_str(more);
            }
            _ => {
                statements.extend(entry.take().and_then(|entry| statement(&entry)));
                entry = Some(line.to_owned());
            }
        }
    }
    statements
}

/// `… gimbal LOG:  execute s0: SELECT 1`
fn statement(entry: &str) -> Option<String> {
    let (head, said) = entry.split_once("LOG:  ")?;
    if !head.contains(" gimbal ") {
        return None;
    }
    let (kind, text) = said.split_once(": ")?;
    let runs = kind == "statement" || kind == "received replication command" || kind.starts_with("execute ");
    runs.then(|| normal(text)).filter(|text| !text.is_empty())
}

#[test]
fn every_statement_of_a_full_run_is_one_that_install_lists() {
    let options = Options::default().set("log_statement", "all").set("log_replication_commands", "on");
    let server = Postgres::start(options.set("max_slot_wal_keep_size", "2GB").set("log_min_messages", "log"));
    let scene = Scene::new(&server, "listed", &json!({"files": {"path": "topics"}}), &json!("embedded"));
    scene.sql(
        "insert into shop.orders select i, i::text from generate_series(1, 100) i; insert into shop.audit values ('x')",
    );
    scene.sql("insert into shop.events values (1, '2020-05-05')");
    scene.sh("gimbal check && gimbal doctor && gimbal run");
    scene.sql("update shop.orders set note = 'n'; alter table shop.orders add column more text; delete from shop.orders where id < 9");
    scene.sh("gimbal run && gimbal doctor");
    // With a table too many and one too few, `install` alters; then all of it goes.
    scene.sql(
        "alter publication gimbal_listed drop table shop.orders; alter publication gimbal_listed add table shop.other",
    );
    scene.sh("gimbal install && gimbal doctor && gimbal install --remove");
    let printed = scene.sh("gimbal install --print");
    let templates = listed(&printed);

    let log = std::fs::read_to_string(server.data().with_file_name("pg.log")).expect("the server's log");
    let statements = logged(&log);
    let unlisted: Vec<&String> =
        statements.iter().filter(|statement| !templates.iter().any(|template| template.matches(statement))).collect();
    assert!(unlisted.is_empty(), "not listed by `install --print`:\n{unlisted:#?}");
    for (part, what) in [
        ("COPY (SELECT ctid", "chunks"),
        ("START_REPLICATION SLOT", "the stream"),
        ("CREATE_REPLICATION_SLOT", "the slot"),
        ("pg_logical_emit_message", "heartbeats"),
        ("row_security_active", "doctor"),
        ("CREATE PUBLICATION", "install"),
        ("DROP PUBLICATION", "install --remove"),
        ("pg_class c JOIN", "init"),
    ] {
        assert!(statements.iter().any(|statement| statement.contains(part)), "{what} left nothing in the log");
    }
}

#[test]
fn a_statement_that_is_not_listed_is_noticed() {
    let templates = listed("-- once:\nCREATE ROLE {role} LOGIN;\n-- x\nBEGIN; {another}; SELECT a, $1 FROM b;\n");
    let fits = |statement: &str| templates.iter().any(|template| template.matches(&normal(statement)));
    for listed in ["BEGIN", "CREATE ROLE \"x\" LOGIN;", "SELECT a, $1 FROM b", "SELECT a,\n 'it''s'\n FROM b"] {
        assert!(fits(listed), "{listed}");
    }
    for other in ["SELECT a, 1 FROM c", "DROP TABLE b", "CREATE ROLE x", "SELECT 1", "BEGIN READ ONLY"] {
        assert!(!fits(other), "{other}");
    }
    let log = "2026-01-01 [1] u@d gimbal LOG:  execute s0: SELECT 1\n\tFROM x\n2026 [1] u@d gimbal DETAIL:  parameters: $1 = 'y'\n\
               2026-01-01 [2] u@d psql LOG:  statement: DROP TABLE t\n";
    assert_eq!(logged(log), BTreeSet::from(["SELECT 1 FROM x".to_owned()]));
}
