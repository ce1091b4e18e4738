//! Golden messages: every case is a small change to one good project, and its whole output is kept.
//!
//! A case file has sections: `--- FILE` and what to do with that file of the base project, a new text, `DELETE`, or
//! lines `< old` and `> new` that replace parts of it.

use std::path::{Path, PathBuf};

use super::*;
use crate::contract::Catalog;
use crate::contract::testing::{orders_table, table};
use crate::table::{ReplicaIdentity, SourceType};

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
    let text = Catalog::new([orders, audit, price]).to_text();
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
    let report = match check_file(&folder.join("gimbal.yaml")) {
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
    let versions = check_file(&folder.path().join("gimbal.yaml")).unwrap().versions;
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
