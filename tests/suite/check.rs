//! `check --env`, and what `init` writes into `catalog.json`, against real databases.

use std::path::{Path, PathBuf};
use std::process::Command;

use gimbal::cli::Output;
use gimbal::cli::check::{Against, CheckReport, check_file};
use gimbal::cli::introspect::{InitArgs, init};
use gimbal::diagnostic::Severity;
use gimbal::error::Code;
use gimbal::postgres::catalog::{self, DETAILS_SQL};
use gimbal::table::{QualifiedName, TableDetails, Unfit};

use crate::lab::{self, Database};

/// The tables of both environments.
const TABLES: &str = "create type mood as enum ('glad', 'sad');
    create table orders (id bigint primary key, ref text not null, amount numeric(12,2), mood mood, unique (ref));
    create table events (id bigint primary key, body text, size int);
    create table audit (what text);";

fn project(folder: &Path, database: &Database) -> PathBuf {
    let config = folder.join("gimbal.yaml");
    let args = InitArgs {
        source: Some(format!("{}?sslmode=disable", database.url())),
        tables: ["public.orders", "public.events", "public.audit"].map(str::to_owned).to_vec(),
        pipeline: Some("shop".into()),
        force: false,
        catalog_only: false,
    };
    init(&config, &args, &mut Output::default()).unwrap();
    let path = folder.join("contracts/events.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("kind: state"), "{text}");
    std::fs::write(path, text.replace("kind: state", "kind: log")).unwrap();
    config
}

fn check(config: &Path, environment: Option<&Database>) -> CheckReport {
    let environment = environment.map(|database| format!("{}?sslmode=disable", database.url()));
    check_file(config, &Against { environment, ..Against::today() }).unwrap()
}

/// Asserts that exactly these are found, by severity, code and a part of the message, whatever their order.
fn assert_found(report: &CheckReport, expected: &[(Severity, Code, &str)]) {
    let shown: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    for (severity, code, part) in expected {
        let found = report
            .findings
            .iter()
            .any(|finding| (finding.severity, finding.code) == (*severity, *code) && finding.message.contains(part));
        assert!(found, "no {severity} {code} with `{part}` in\n{}", shown.join("\n"));
    }
    assert_eq!(report.findings.len(), expected.len(), "{}", shown.join("\n"));
}

#[test]
fn another_environment_is_held_against_the_contracts_and_against_the_catalog_file() {
    use Severity::{Error, Warning};
    let ours = lab::postgres().fresh_database("check_ours");
    ours.run(&format!("{TABLES} alter table events replica identity full"));
    let folder = tempfile::tempdir().unwrap();
    let config = project(folder.path(), &ours);
    assert_found(&check(&config, None), &[]);
    assert_found(&check(&config, Some(&ours)), &[]);

    let theirs = lab::postgres().fresh_database("check_theirs");
    theirs.run(TABLES);
    let large = [
        (Warning, Code::ValueUnchanged, "`body`"),
        (Warning, Code::EnvironmentDiffers, "the replica identity of `public.events` is `id`, and is FULL"),
    ];
    assert_found(&check(&config, Some(&theirs)), &large);

    theirs.run("alter table events replica identity full; alter table orders alter amount type double precision");
    assert_found(
        &check(&config, Some(&theirs)),
        &[
            (Error, Code::PairRefused, "in database `check_theirs` at `127.0.0.1`: column `amount`"),
            (
                Warning,
                Code::EnvironmentDiffers,
                "`amount` of `public.orders` is `double precision`, and is `numeric(12,2)`",
            ),
        ],
    );

    theirs.run(
        "alter table orders alter amount type numeric(12,2), alter ref drop not null;
         alter type mood rename value 'sad' to 'gloomy'; alter table orders replica identity nothing",
    );
    assert_found(
        &check(&config, Some(&theirs)),
        &[
            (Error, Code::KeyInvalid, "the replica identity of `public.orders` is NOTHING"),
            (Warning, Code::EnvironmentDiffers, "`ref` of `public.orders` may be null, and is NOT NULL"),
            (Warning, Code::EnvironmentDiffers, "no usable unique index over `ref`, and has `orders_ref_key`"),
            (Warning, Code::EnvironmentDiffers, "the labels of column `mood` of `public.orders` are `glad`, `gloomy`"),
            (Warning, Code::EnvironmentDiffers, "is NOTHING, and is `id`"),
        ],
    );

    theirs.run("drop table audit; drop table orders; alter table events drop column size");
    let report = check(&config, Some(&theirs));
    assert_found(
        &report,
        &[
            (Error, Code::SourceUnknown, "database `check_theirs` at `127.0.0.1` has no table `public.audit`"),
            (Error, Code::SourceUnknown, "database `check_theirs` at `127.0.0.1` has no table `public.orders`"),
            (Error, Code::ContractNotTotal, "`size`"),
        ],
    );
    assert_eq!(report.exit_code(), 2);
}

/// Exit code and both outputs of `gimbal check …` in a folder.
fn gimbal(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = lab::tied(env!("CARGO_BIN_EXE_gimbal"));
    let output = command.args(arguments).current_dir(folder).output().expect("gimbal starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn git(folder: &Path, arguments: &[&str]) {
    let name = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
    let status = Command::new("git").arg("-C").arg(folder).args(name).args(arguments).status().expect("git starts");
    assert!(status.success(), "git {arguments:?}");
}

#[test]
fn the_program_ends_with_0_when_promises_are_kept_2_when_one_is_broken_and_1_when_it_cannot_tell() {
    let database = lab::postgres().fresh_database("check_exit");
    database.run(TABLES);
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), &database);
    let (code, schema, _) = gimbal(folder.path(), &["schema", "contract"]);
    let beside = std::fs::read_to_string(folder.path().join("contracts/contract.schema.json")).unwrap();
    assert_eq!((code, schema), (Some(0), beside));

    let check = ["check", "--against", "main"];
    let (code, _, complaint) = gimbal(folder.path(), &check);
    assert_eq!(code, Some(1), "there is no repository yet");
    assert!(complaint.contains("E0121") && complaint.contains("git repository"), "{complaint}");
    git(folder.path(), &["init", "-q", "-b", "main"]);
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "-q", "-m", "released"]);
    let (code, report, _) = gimbal(folder.path(), &check);
    assert_eq!(code, Some(0), "{report}");

    let path = folder.path().join("contracts/orders.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("partitions: 6", "partitions: 7")).unwrap();
    let (code, report, _) = gimbal(folder.path(), &["check", "--against", "main", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let found: Vec<&serde_json::Value> =
        report["findings"].as_array().unwrap().iter().map(|one| &one["slug"]).collect();
    assert_eq!((code, report["errors"].as_u64()), (Some(2), Some(1)), "{report}");
    assert!(found.contains(&&serde_json::json!("major-frozen")), "{report}");

    let nobody = format!("postgresql://u@127.0.0.1:{}/d?sslmode=disable", lab::free_port());
    let (code, _, complaint) = gimbal(folder.path(), &["check", "--env", &nobody]);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("E0301"), "{complaint}");
}

#[test]
fn the_catalog_file_says_which_unique_indexes_cannot_be_keys_and_which_columns_may_be_stored_out_of_line() {
    let database = lab::postgres().fresh_database("check_details");
    database.run(
        "create table t (id int primary key, a int not null, b text not null, n int);
         create unique index t_plain on t (b) include (n);
         create unique index t_nullable on t (a, n);
         create unique index t_partial on t (a) where n > 0;
         create unique index t_expression on t (a, (a + 1));
         alter table t add constraint t_deferrable unique (a) deferrable;
         create table narrow (id int primary key, v varchar(10));
         create table root (id int not null, large text) partition by range (id)",
    );
    let folded = "create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table folded (s text collate blind not null); create unique index folded_key on folded (s collate \"C\")";
    let icu = database.try_run(folded).is_ok();
    let name = |name: &str| QualifiedName { namespace: "public".into(), name: name.into() };
    let tables = catalog::tables_by_name(&["t", "narrow", "root", "folded", "absent"].map(name));
    let details = database.rows(&catalog::with_parameter(DETAILS_SQL, &tables));
    let details = catalog::parse_details(&details).unwrap();
    assert_eq!(details.len(), if icu { 4 } else { 3 });
    let unfit = |details: &TableDetails| -> Vec<(String, Vec<String>, Unfit)> {
        details.unfit_indexes.iter().map(|one| (one.name.clone(), one.columns.clone(), one.why)).collect()
    };
    let index =
        |name: &str, columns: &[&str], why| (name.to_owned(), columns.iter().map(|c| (*c).into()).collect(), why);
    let t = &details[&name("t")];
    assert_eq!(
        unfit(t),
        [
            index("t_deferrable", &["a"], Unfit::Deferrable),
            index("t_expression", &["a"], Unfit::Expression),
            index("t_nullable", &["a", "n"], Unfit::Nullable),
            index("t_partial", &["a"], Unfit::Partial),
        ]
    );
    assert_eq!(t.toastable, ["b"]);
    assert_eq!(details[&name("narrow")], TableDetails::default(), "too narrow to have a TOAST table");
    assert_eq!(details[&name("root")].toastable, ["large"], "its partitions have TOAST tables");
    if icu {
        let folded = name("folded");
        assert_eq!(unfit(&details[&folded]), [index("folded_key", &["s"], Unfit::Collation)]);
        let tables = catalog::tables_by_name(std::slice::from_ref(&folded));
        let image = database.rows(&catalog::with_parameter(catalog::IMAGE_SQL, &tables));
        let image = catalog::parse_images(&image).unwrap().images.remove(0);
        assert!(image.keys.is_empty(), "`=` would find two rows for one key of the topic: {:?}", image.keys);
    }
}
