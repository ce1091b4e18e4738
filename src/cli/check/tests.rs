//! Golden messages: every case is a small change to one good project, and its whole output is kept.
//!
//! A case file has sections: `--- FILE` and what to do with that file of the base project, a new text, `DELETE`, or
//! lines `< old` and `> new` that replace parts of it.

use std::path::{Path, PathBuf};

use super::*;
use crate::contract::Catalog;
use crate::contract::testing::{orders_table, table};
use crate::table::{ReplicaIdentity, SourceType, TableDetails, Unfit, UnfitIndex};

/// The day of all golden cases.
fn today() -> Against {
    Against { today: "2027-01-15".parse().unwrap(), reference: None, environment: None }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/check")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// The base project in a folder of its own, with a catalog of tables that its contracts fit.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden().join("base"), folder.path());
    let mut orders = orders_table();
    let mut email = orders.columns[1].clone();
    email.attnum = 10;
    email.name = "email".into();
    email.type_name = "text".into();
    email.source_type = SourceType::Text;
    email.not_null = true;
    orders.columns.push(email);
    let mut audit = table(
        "audit",
        vec![
            ("at", "timestamp with time zone", SourceType::Timestamptz, true),
            ("what", "text", SourceType::Text, false),
        ],
        &[],
    );
    audit.replica_identity = ReplicaIdentity::Nothing;
    let price = table(
        "prices",
        vec![("amount", "numeric(10,2)", SourceType::Numeric { precision: Some(10), scale: Some(2) }, true)],
        &["amount"],
    );
    let index = UnfitIndex {
        name: "orders_id_email_key".into(),
        columns: vec!["id".into(), "email".into()],
        why: Unfit::Deferrable,
    };
    let details = TableDetails { unfit_indexes: vec![index], toastable: vec!["shipping".into(), "email".into()] };
    let name = orders.name.clone();
    let text = Catalog::new([orders, audit, price]).with_details([(name, details)]).to_text();
    std::fs::write(folder.path().join("contracts/catalog.json"), text).unwrap();
    folder
}

fn apply(case: &str, folder: &Path) {
    for section in case.split("--- ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap();
        let path = folder.join(name.trim());
        if body.trim() == "DELETE" {
            std::fs::remove_file(&path).unwrap();
        } else if body.starts_with("< ") {
            let mut text = std::fs::read_to_string(&path).unwrap();
            let mut old = "";
            for line in body.lines().filter(|line| !line.is_empty()) {
                match line.split_at(2) {
                    ("< ", part) => old = part,
                    (_, part) => {
                        assert!(text.contains(old), "{name}: no `{old}`");
                        text = text.replace(old, &part.replace("\\n", "\n"));
                    }
                }
            }
            std::fs::write(&path, text).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, body).unwrap();
        }
    }
}

fn output(folder: &Path, format: Format, graphical: bool) -> String {
    output_against(folder, format, graphical, &today())
}

fn output_against(folder: &Path, format: Format, graphical: bool, against: &Against) -> String {
    let report = match check_file(&folder.join("gimbal.yaml"), against) {
        Ok(report) => format!("{}exit {}\n", report.render(format, graphical), report.exit_code()),
        Err(error) => format!("{error}\n"),
    };
    report.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn the_good_project_is_clean() {
    let folder = project();
    assert_eq!(output(folder.path(), Format::Text, false), "1 contract, 2 versions: clean\nexit 0\n");
}

#[test]
fn a_clean_project_gives_versions_that_are_total_and_typed() {
    let folder = project();
    let versions = check_file(&folder.path().join("gimbal.yaml"), &today()).unwrap().versions;
    let shown: Vec<_> = versions
        .iter()
        .map(|v| {
            let head = (&v.contract, v.major, v.minor, &v.topic, v.partitions, v.kind, v.backfill, v.status);
            (head, v.source.to_string(), &v.key, v.key_schema_json.as_deref(), &v.feeds, v.schema_json.len())
        })
        .collect();
    insta::assert_debug_snapshot!("versions", shown);
    for version in &versions {
        assert_eq!(version.feeds.len(), version.schema.fields.len());
        assert_eq!(*version.schema, crate::avro::RecordSchema::parse(&version.schema_json).unwrap());
    }
}

#[test]
fn every_kind_of_mistake_has_its_golden_message() {
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(golden().join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 20);
    for path in cases {
        let folder = project();
        apply(&std::fs::read_to_string(&path).unwrap(), folder.path());
        let shown = output(folder.path(), Format::Text, false);
        let name = path.file_stem().unwrap().to_str().unwrap();
        insta::with_settings!({snapshot_path => golden().join("snapshots"), prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(name, shown);
        });
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let name = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
    let mut command = std::process::Command::new("git");
    command.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE");
    let output = command.arg("-C").arg(folder).args(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn commit(folder: &Path) {
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "released"]);
}

/// A case may begin with what is different at the commit, and a line `=== now`; what follows is done after it.
#[test]
fn every_broken_promise_to_readers_of_a_release_has_its_golden_message() {
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(golden().join("against")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 10);
    for path in cases {
        let folder = project();
        let case = std::fs::read_to_string(&path).unwrap();
        let (released, now) = case.split_once("=== now\n").unwrap_or(("", &case));
        apply(released, folder.path());
        commit(folder.path());
        apply(now, folder.path());
        let against = Against { reference: Some("main".into()), ..today() };
        let shown = output_against(folder.path(), Format::Text, false, &against);
        let name = format!("against_{}", path.file_stem().unwrap().to_str().unwrap());
        insta::with_settings!({snapshot_path => golden().join("snapshots"), prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(name, shown);
        });
    }
}

#[test]
fn a_project_that_did_not_change_keeps_its_promises_whatever_its_blanks() {
    let folder = project();
    commit(folder.path());
    let schema = folder.path().join("schemas/orders/1.0.avsc");
    let text = std::fs::read_to_string(&schema).unwrap();
    std::fs::write(&schema, text.replace("  ", "\t")).unwrap();
    let against = Against { reference: Some("HEAD".into()), ..today() };
    let shown = output_against(folder.path(), Format::Text, false, &against);
    assert_eq!(shown, "1 contract, 2 versions: clean\nexit 0\n");
}

#[test]
fn a_commit_that_cannot_be_read_is_said_with_what_to_do() {
    let folder = project();
    let at = |reference: &str| {
        let against = Against { reference: Some(reference.into()), ..today() };
        check_file(&folder.path().join("gimbal.yaml"), &against).unwrap_err()
    };
    let outside = at("main");
    assert_eq!(outside.code(), Code::ReferenceUnknown);
    assert!(outside.diagnosis().contains("is in no git repository"), "{outside}");
    commit(folder.path());
    for reference in ["nowhere", "--help", "main:contracts"] {
        let unknown = at(reference);
        assert_eq!(unknown.code(), Code::ReferenceUnknown);
        assert!(unknown.diagnosis().contains(reference), "{unknown}");
    }
}

#[test]
fn a_retirement_comes_nearer_in_warnings_and_never_in_errors() {
    let folder = project();
    let mut shown = String::new();
    for day in ["2027-02-28", "2027-03-01", "2027-03-24", "2027-03-30", "2027-03-31", "2027-04-01"] {
        let against = Against { today: day.parse().unwrap(), ..today() };
        shown.push_str(&format!("== {day}\n{}", output_against(folder.path(), Format::Text, false, &against)));
    }
    insta::assert_snapshot!("retirement", shown);
}

#[test]
fn machines_read_findings_as_json_and_as_workflow_commands() {
    let folder = project();
    apply(
        "--- contracts/orders.yaml\n< owner: team-checkout\n> onwer: team-checkout\n< , version: 2,\n> , version: 3,\n",
        folder.path(),
    );
    insta::assert_snapshot!("json", output(folder.path(), Format::Json, false));
    insta::assert_snapshot!("github", output(folder.path(), Format::Github, false));
    insta::assert_snapshot!("graphical", output(folder.path(), Format::Text, true));
}
