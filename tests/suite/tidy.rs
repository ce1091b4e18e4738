//! Rules of the code base, as tests: what may import what, what must not be called, what must be documented.
//!
//! Each rule is a function from a file to complaints, so that a planted breach shows that it is found.

mod paths;
mod source;

use std::collections::BTreeMap;
use std::process::Command;

use gimbal::error::Code;

use self::paths::paths;
use self::source::{Source, sources};
use crate::lab;

/// Modules without socket, file, clock, async runtime, randomness or log.
const CORE: &[&str] = &[
    "avro",
    "batch",
    "compat",
    "contract",
    "diagnostic",
    "diff",
    "engine",
    "error",
    "history",
    "identity",
    "lsn",
    "pairs",
    "parcel",
    "pgoutput",
    "position",
    "projection",
    "row",
    "seal",
    "state",
    "table",
    "yaml",
];

/// Modules that do what the core asks for. The core does not know them.
const SHELL: &[&str] =
    &["cli", "config", "daemon", "doctor", "killpoint", "metrics", "postgres", "project", "registry", "server", "sink"];

/// What the core must not name. A `Duration` is a value and no clock.
const OUTSIDE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
    "tokio",
    "tracing",
    "rdkafka",
    "rand",
    "getrandom",
    "reqwest",
    "libc",
];
const NO_CLOCK: &str = "std::time::Duration";

/// A file that is longer wants a missing type.
const FILE_LINES_MAX: usize = 600;

/// Functions of the suite that may sleep: they do it between two looks at a condition, until a deadline.
const POLL_HELPERS: &[&str] = &["eventually", "until"];

/// What may stand before `fn`.
const QUALIFIERS: &[&str] = &["", "pub", "pub(crate)", "pub(super)", "async", "const"];

#[test]
fn the_core_imports_no_shell_and_nothing_from_outside() {
    demand(&sources("src"), imports);
}

#[test]
fn every_module_is_core_or_shell() {
    let top = sources("src").into_iter().filter_map(|source| source.module().first().cloned());
    let unknown: Vec<_> =
        top.filter(|name| !CORE.contains(&name.as_str()) && !SHELL.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "neither in CORE nor in SHELL: {unknown:?}");
}

#[test]
fn nothing_panics_on_purpose() {
    demand(&sources("src"), panics);
}

#[test]
fn nobody_flushes_a_kafka_producer() {
    demand(&sources("src"), flushes);
}

#[test]
fn everything_public_is_documented() {
    demand(&sources("src"), undocumented);
}

#[test]
fn files_stay_short() {
    demand(&sources("src"), too_long);
}

#[test]
fn tests_wait_for_conditions_and_never_sleep() {
    demand(&sources("tests/suite"), sleeps);
}

#[test]
fn every_error_code_has_its_section_and_every_section_its_code() {
    let page = std::fs::read_to_string(lab::root().join("docs/errors.md")).expect("docs/errors.md is there");
    let complaints = error_sections(&page);
    assert!(complaints.is_empty(), "docs/errors.md:\n{}", complaints.join("\n"));
}

#[test]
fn no_file_names_a_folder_of_somebodys_machine() {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(lab::root()).output().expect("git starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut complaints = Vec::new();
    for path in String::from_utf8_lossy(&output.stdout).split('\0').filter(|path| !path.is_empty()) {
        // A file that is listed may be deleted, or not be text.
        if let Ok(text) = std::fs::read_to_string(lab::root().join(path)) {
            complaints.extend(machine_paths(path, &text));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Holds a rule against files.
fn demand(sources: &[Source], rule: fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

// ---- the rules ------------------------------------------------------------------------------------------------------

fn imports(source: &Source) -> Vec<String> {
    let module = source.module();
    if !module.first().is_some_and(|first| CORE.contains(&first.as_str())) {
        return Vec::new();
    }
    let under = |path: &str, of: &str| path == of || path.starts_with(&format!("{of}::"));
    let forbidden = |path: &str| {
        let outside = OUTSIDE.iter().any(|name| under(path, name)) && !under(path, NO_CLOCK);
        outside || SHELL.iter().any(|name| under(path, &format!("crate::{name}")))
    };
    let bad = paths(source).into_iter().filter(|(_, path)| forbidden(path));
    bad.map(|(line, path)| format!("{}:{line}: the core must not name `{path}`", source.path)).collect()
}

fn panics(source: &Source) -> Vec<String> {
    let calls = [".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "unreachable!"];
    complain(source, &calls, "an error with a code, please")
}

fn flushes(source: &Source) -> Vec<String> {
    // `flush` of rdkafka waits 100 ms by itself. A file that does not name rdkafka flushes something else.
    let of_kafka = source.path.contains("kafka") || !source.lines_with("rdkafka").is_empty();
    if of_kafka { complain(source, &[".flush("], "poll until nothing is in flight") } else { Vec::new() }
}

fn undocumented(source: &Source) -> Vec<String> {
    let items =
        ["fn ", "async fn ", "const fn ", "unsafe fn ", "struct ", "enum ", "trait ", "type ", "const ", "static "];
    let code: Vec<&str> = source.code.lines().collect();
    let text: Vec<&str> = source.text.lines().collect();
    let mut complaints = Vec::new();
    for (at, line) in code.iter().enumerate() {
        let Some(item) = line.trim_start().strip_prefix("pub ") else { continue };
        // Attributes, also those over several lines, stand between the comment and the item.
        let above = (0..at).rev().map(|above| text[above].trim()).find(|line| !is_attribute(line));
        let documented = above.is_some_and(|above| above.starts_with("///"));
        if items.iter().any(|kind| item.starts_with(kind)) && !documented {
            complaints.push(format!("{}:{}: `{}` has no doc comment", source.path, at + 1, line.trim()));
        }
    }
    complaints
}

fn is_attribute(line: &str) -> bool {
    line.starts_with("#[") || line.ends_with(")]") || line == "]"
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let complaint = || format!("{}: {lines} lines, more than {FILE_LINES_MAX}", source.path);
    (lines > FILE_LINES_MAX).then(complaint).into_iter().collect()
}

fn sleeps(source: &Source) -> Vec<String> {
    let places = ["sleep(", "sleep_until(", "sleep_ms("].into_iter().flat_map(|call| source.lines_with(call));
    let wrong = places.filter(|&line| !POLL_HELPERS.contains(&enclosing_function(source, line)));
    wrong.map(|line| format!("{}:{line}: sleeps: poll a condition with `lab::eventually`", source.path)).collect()
}

/// The name of the last function that begins before a line.
fn enclosing_function(source: &Source, line: usize) -> &str {
    let before = source.code.lines().take(line).filter_map(|line| line.trim_start().split_once("fn "));
    let starts = before.filter(|(qualifiers, _)| qualifiers.split(' ').all(|word| QUALIFIERS.contains(&word)));
    starts.last().map_or("", |(_, after)| &after[..after.find(['(', '<']).unwrap_or(after.len())])
}

fn complain(source: &Source, calls: &[&str], instead: &str) -> Vec<String> {
    let complaint = |call: &str, line| format!("{}:{line}: `{call}`: {instead}", source.path);
    let each = calls.iter().flat_map(|call| source.lines_with(call).into_iter().map(move |line| complaint(call, line)));
    each.collect()
}

fn error_sections(page: &str) -> Vec<String> {
    let heading = |code: &Code| format!("## {code} {}", code.slug());
    let mut sections: BTreeMap<&str, &str> = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let (title, body) = section.split_once('\n').unwrap_or((section, ""));
        sections.insert(title.trim(), body.trim());
    }
    let mut complaints = Vec::new();
    for code in Code::ALL {
        match sections.remove(heading(code).trim_start_matches("## ")) {
            None => complaints.push(format!("no section `{}`", heading(code))),
            Some("") => complaints.push(format!("the section `{}` is empty", heading(code))),
            Some(_) => {}
        }
    }
    complaints.extend(sections.keys().map(|title| format!("no code for the section `## {title}`")));
    complaints
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    // Put together here, so that this file does not name them.
    let folders = ["work", "root", "home", "Users", "tmp/bash_jobs"].map(|name| format!("/{name}/"));
    let part_of_longer = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "._-})\"*~".contains(c));
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for folder in &folders {
            let named = line.match_indices(folder.as_str()).any(|(at, _)| !part_of_longer(&line[..at]));
            if named {
                complaints.push(format!("{path}:{}: names `{folder}`", number + 1));
            }
        }
    }
    complaints
}

// ---- the rules find what they look for ------------------------------------------------------------------------------

/// Complaints of a rule about planted code.
fn planted(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source::new(path, text)).len()
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for breach in [
        "use crate::sink::Sink;",
        "use crate::{batch::Batch, sink::{Sink, TopicSpec}};",
        "use super::super::postgres;",
        "use std::{fmt, fs};",
        "use std::time::{Duration, Instant};",
        "fn f() { let _ = std::time::SystemTime::now(); }",
        "fn f() { tracing::info!(\"x\"); }",
        "pub use crate::registry as names;",
    ] {
        assert_ne!(planted(imports, "src/engine/step.rs", breach), 0, "{breach}");
        assert_eq!(planted(imports, "src/daemon/mod.rs", breach), 0, "{breach}");
    }
    for fine in [
        "use crate::batch::Batch; use super::request::Request; use std::time::Duration;",
        "// use std::fs;\nfn f() -> &'static str { \"std::fs::read\" }",
        "#[cfg(test)]\nmod tests { use std::fs; }",
        "fn f(sink: u8) -> u8 { crate::sinking::f(sink) }",
    ] {
        assert_eq!(planted(imports, "src/engine/step.rs", fine), 0, "{fine}");
    }
}

#[test]
fn a_panic_is_found_outside_of_tests_only() {
    assert_eq!(planted(panics, "src/a.rs", "fn f() { x.unwrap(); y.expect(\"z\"); panic!(); unreachable!() }"), 4);
    let fine = "fn f<'a>() { x.unwrap_or(1); let c = '\"'; let s = r#\"panic!(\"#; } // .unwrap()\n";
    assert_eq!(planted(panics, "src/a.rs", fine), 0);
    let tests = "#[cfg(test)]\nmod tests {\n  fn f() { if true { x.unwrap(); } }\n}\nfn g() { todo!() }";
    assert_eq!(planted(panics, "src/a.rs", tests), 1);
}

#[test]
fn a_flushed_producer_is_found() {
    assert_eq!(planted(flushes, "src/sink/kafka/producer.rs", "fn f() { p.flush(t); }"), 1);
    assert_eq!(planted(flushes, "src/sink/other.rs", "use rdkafka::x; fn f() { p.flush(t); }"), 1);
    assert_eq!(planted(flushes, "src/sink/files.rs", "fn f() { writer.flush(); }"), 0);
}

#[test]
fn a_missing_doc_comment_is_found() {
    assert_eq!(
        planted(undocumented, "src/a.rs", "pub struct A;\n\n/// B.\n#[derive(Debug)]\npub struct B;\npub fn c() {}"),
        2
    );
    assert_eq!(planted(undocumented, "src/a.rs", "/// A.\npub enum A {}\npub(crate) fn b() {}\nfn c() {}"), 0);
}

#[test]
fn a_sleep_and_a_long_file_are_found() {
    assert_eq!(
        planted(sleeps, "tests/suite/a.rs", "fn f() { std::thread::sleep(d); tokio::time::sleep(d).await; }"),
        2
    );
    assert_eq!(planted(sleeps, "tests/suite/a.rs", "pub fn eventually() {\n  sleep(d)\n}\nfn g() {}"), 0);
    assert_eq!(planted(sleeps, "tests/suite/a.rs", "fn eventually() {}\nfn g() {\n  sleep(d)\n}"), 1);
    assert_eq!(planted(too_long, "src/a.rs", &"\n".repeat(FILE_LINES_MAX + 1)), 1);
    assert_eq!(planted(too_long, "src/a.rs", &"\n".repeat(FILE_LINES_MAX)), 0);
}

#[test]
fn a_machines_folder_is_found() {
    let line = |folder: &str| machine_paths("a", &format!("see {folder}/x")).len();
    assert_eq!(line(&["", "home", "me"].join("/")), 1);
    assert_eq!(line(&["", "root", "x"].join("/")), 1);
    assert_eq!(line("src/root/x"), 0);
}

#[test]
fn a_missing_an_empty_and_a_foreign_section_are_found() {
    let all: String = Code::ALL.iter().map(|code| format!("\n## {code} {}\n\nText.\n", code.slug())).collect();
    assert_eq!(error_sections(&all), Vec::<String>::new());
    assert_eq!(error_sections(&all.replace("config-invalid", "config-valid")).len(), 2);
    assert_eq!(error_sections(&format!("{all}\n## E0999 unheard-of\n\nText.\n")).len(), 1);
    assert_eq!(error_sections(&all.replacen("Text.", "", 1)).len(), 1);
}
