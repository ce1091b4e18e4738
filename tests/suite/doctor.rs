//! Every finding of `doctor`: the thing is broken, the finding is seen, its fix line is run, and the finding is gone.

mod cluster;
mod scene;
mod settings;

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use gimbal::diagnostic::Severity::{Error, Warning};
use gimbal::doctor::{Fix, Machine};
use serde_json::json;

use self::scene::Case;
pub use self::scene::Scene;
use crate::lab::{self, Options, Postgres, eventually};

/// One for the tests that need no restart; its settings may be changed by [`settings`] only.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start(Options::default().set("max_slot_wal_keep_size", "2GB")))
}

fn case(check: &'static str, sql: &'static str, names: &'static [&'static str]) -> Case {
    Case { check, severity: Error, sql, names, after: "" }
}

#[test]
fn rights_keys_and_row_security_are_found_and_mended() {
    let mut scene = Scene::with_files(server(), "doctor_tables");
    scene.assert_well("after `install`, before the first start");
    for case in [
        case("role-replication", "alter role {r} noreplication", &["`{r}`"]),
        Case { severity: Warning, ..case("role-stats", "revoke pg_read_all_stats from {r}", &["pg_read_all_stats"]) },
        case("schema-usage", "revoke usage on schema shop from {r}", &["`{r}`", "`shop`"]),
        case("table-select", "revoke select on shop.orders from {r}", &["`shop.orders`"]),
        case(
            "table-select",
            "create table shop.events_2 partition of shop.events for values from ('2021-01-01') to ('2022-01-01')",
            &["`shop.events_2`", "partition"],
        ),
        Case {
            after: "alter table shop.orders disable row level security;; alter role {r} nobypassrls",
            ..case("row-security", "alter table shop.orders enable row level security", &["`shop.orders`", "BYPASSRLS"])
        },
        case("replica-identity", "alter table shop.orders replica identity nothing", &["NOTHING", "`id`"]),
        case(
            "replica-identity",
            "alter table shop.orders replica identity using index orders_code_key",
            &["USING INDEX", "`id`"],
        ),
        case("table-key", "alter table shop.orders drop constraint orders_pkey", &["`shop.orders`", "`id`"]),
    ] {
        case.play(&mut scene);
    }
    scene.sql("alter table shop.orders rename to bills");
    assert!(scene.wait_for("table-missing").what.contains("`shop.orders`"));
    scene.sql("alter table shop.bills rename to orders");
    scene.wait_until_gone("table-missing");
}

#[test]
fn publications_are_found_wrong_and_mended() {
    let mut scene = Scene::with_files(server(), "doctor_publications");
    for case in [
        case("publication-missing", "drop publication {p}", &["`{p}`"]),
        case("publication-missing", "drop publication {p}_inserts", &["`{p}_inserts`"]),
        case(
            "publication-all-tables",
            "drop publication {p}; create publication {p} for all tables with (publish_via_partition_root = true)",
            &["FOR ALL TABLES"],
        ),
        case("publication-lacks", "alter publication {p} drop table shop.orders", &["`shop.orders`"]),
        case("publication-extra", "alter publication {p} add table shop.other", &["`shop.other`"]),
        case("publication-via-root", "alter publication {p} set (publish_via_partition_root = false)", &["`{p}`"]),
        case("publication-operations", "alter publication {p} set (publish = 'insert, update')", &["`insert, update`"]),
        case("publication-operations", "alter publication {p}_inserts set (publish = 'insert, delete')", &["`insert`"]),
    ] {
        case.play(&mut scene);
    }
    if scene.server.at_least(15) {
        a_publication_is_not_narrowed(&mut scene);
    }
    if scene.server.at_least(18) {
        generated_columns_are_not_published(&mut scene);
    }
}

/// What PostgreSQL 14 cannot do.
fn a_publication_is_not_narrowed(scene: &mut Scene<'_>) {
    for case in [
        case("publication-schema", "alter publication {p} set tables in schema shop", &["`shop`"]),
        case(
            "publication-row-filter",
            "alter publication {p} set table shop.orders where (id > 1), shop.events",
            &["row filter", "`shop.orders`"],
        ),
        case(
            "publication-column-list",
            "alter publication {p} set table shop.orders (id), shop.events",
            &["column list", "`shop.orders`"],
        ),
    ] {
        case.play(scene);
    }
}

/// What PostgreSQL 18 can do for the first time.
fn generated_columns_are_not_published(scene: &mut Scene<'_>) {
    let set = "alter publication {p} set (publish_generated_columns = stored)";
    case("publication-generated-columns", set, &["`{p}`", "none"]).play(scene);
    // The daemon does not start with it, and `install` mends it too.
    scene.sql(&set.replace("{p}", "gimbal_doctor_publications"));
    let output = scene.try_sh("gimbal run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("error[E0309]") && said.contains("generated"), "{said}");
    scene.sh("gimbal install && gimbal run");
    scene.assert_well("after `install`");
}

#[test]
fn a_slot_that_is_held_foreign_or_unknown_is_found_and_mended() {
    let mut scene = Scene::with_files(server(), "doctor_slots");
    let slot = "gimbal_doctor_slots";
    case("slot-without-state", "select pg_create_logical_replication_slot('{p}', 'pgoutput')", &["`{p}`"])
        .play(&mut scene);

    scene.sql(&format!("select pg_create_physical_replication_slot('{slot}')"));
    let finding = scene.wait_for("slot-foreign");
    assert!(finding.what.contains("physical"), "{finding:?}");
    scene.apply(&finding.fix);
    scene.assert_well("with another slot");
    scene.sql(&format!("select pg_drop_replication_slot('{slot}')"));
    scene.set("source", json!({"url": scene.config["source"]["url"]}));

    scene.sh("gimbal run");
    scene.assert_well("after the first start");
    let mut reader = lab::tied(lab::client(scene.server.bin(), "pg_recvlogical"));
    reader.args(["-d", scene.database.url(), "--slot", slot, "--start", "--no-loop", "-f", "/dev/null"]);
    reader.args(["-o", "proto_version=1", "-o", &format!("publication_names={slot}")]).stderr(Stdio::null());
    let mut reader = reader.spawn().expect("setpriv starts");
    let finding = scene.wait_for("slot-held");
    assert!(finding.what.contains("pg_recvlogical") && finding.severity == Error, "{finding:?}");
    scene.apply(&finding.fix);
    scene.wait_until_gone("slot-held");
    reader.wait().expect("it ends");

    scene.sql(&format!("select pg_drop_replication_slot('{slot}')"));
    let finding = scene.wait_for("slot-missing");
    scene.apply(&finding.fix);
    scene.assert_well("after a new beginning");
}

#[test]
fn a_daemon_that_runs_is_no_finding_and_one_of_another_pipeline_is() {
    let mut scene = Scene::with_files(server(), "doctor_daemon");
    let mut daemon = lab::tied(env!("CARGO_BIN_EXE_gimbal"));
    daemon.args(["run"]).current_dir(scene.path("")).stderr(Stdio::null());
    let mut daemon = daemon.spawn().expect("setpriv starts");
    let streaming = || scene.sh("gimbal status || true").contains(": streaming").then_some(());
    eventually("the daemon streams", Duration::from_secs(30), streaming);
    scene.assert_well("beside the daemon");

    let output = scene.try_sh("gimbal doctor --format json");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &report["format_version"], &report["errors"]), (Some(0), &json!(1), &json!(0)));

    let name = scene.config["pipeline"].clone();
    scene.set("pipeline", json!("another"));
    let finding = scene.wait_for("listen");
    assert!(finding.what.contains("`doctor_daemon`") && finding.what.contains("`another`"), "{finding:?}");
    let held = scene.find("sink-held").expect("the folder is the other's");
    assert!(held.what.contains(&daemon.id().to_string()), "{held:?}");
    let output = scene.try_sh("gimbal doctor");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    scene.apply(&finding.fix);
    scene.wait_until_gone("listen");
    scene.set("pipeline", name);
    // Its daemon does not answer at the new port; it could be one on another machine.
    let other = scene.wait_for("slot-held");
    assert!(other.severity == Warning && other.what.contains("`gimbal`"), "{other:?}");
    scene.apply(&held.fix);
    daemon.wait().expect("it ends");
    scene.wait_until_gone("sink-held");
    scene.assert_well("without the daemon");
}

#[test]
fn folder_port_secrets_and_clock_are_found_and_mended() {
    let mut scene = Scene::with_files(server(), "doctor_machine");
    scene.write("topics", "a file");
    let finding = scene.wait_for("sink-folder");
    scene.apply(&finding.fix);
    scene.assert_well("with a folder");

    let holder = TcpListener::bind(scene.config["listen"].as_str().expect("a text")).expect("the port is free");
    let finding = scene.wait_for("listen");
    scene.apply(&finding.fix);
    scene.assert_well("at another port");
    drop(holder);

    scene.set("keys", json!({"seal": {"file": "state/seal.key"}}));
    let finding = scene.wait_for("secret-missing");
    scene.apply(&finding.fix);
    scene.assert_well("with a key");
    scene.sh("chmod 644 state/seal.key");
    let finding = scene.wait_for("secret-mode");
    assert!(finding.what.contains("644"), "{finding:?}");
    scene.apply(&finding.fix);
    scene.assert_well("with a key of one's own");

    scene.machine = Machine { clock: || gimbal::postgres::unix_micros() + 60_000_000 };
    let finding = scene.wait_for("clock");
    assert!(finding.what.contains("ahead") && finding.severity == Warning, "{finding:?}");
    assert!(matches!(finding.fix, Fix::Shell(text) if text.contains("set-ntp")));
    scene.machine = Machine::default();
    scene.assert_well("with the right time");

    scene.sh("gimbal run");
    scene.sh("cp topics/manifest.json kept && printf x >>topics/manifest.json");
    scene.wait_for("sink-damaged");
    scene.sh("mv kept topics/manifest.json");
    scene.assert_well("with the manifest restored");
}

#[test]
fn a_database_in_sql_ascii_is_found_and_mended() {
    if lab::lacks(server().bin(), "pg_dump") {
        return;
    }
    let mut scene = Scene::with_files(server(), "doctor_encoding");
    let (name, port) = ("doctor_ascii", server().port());
    scene.server.sql().run(&format!("drop database if exists {name}_utf8"));
    scene.server.sql().run(&format!("drop database if exists {name}"));
    scene.sh(&format!(
        "createdb -T template0 -E SQL_ASCII --locale=C {name} && pg_dump doctor_encoding | psql -q {name}"
    ));
    let url = |name: &str| json!(format!("postgresql://doctor_encoding@127.0.0.1:{port}/{name}"));
    scene.set("source", json!({"url": url(name)}));
    let finding = scene.wait_for("encoding");
    assert!(finding.what.contains("SQL_ASCII"), "{finding:?}");
    scene.apply(&finding.fix);
    scene.set("source", json!({"url": url(&format!("{name}_utf8"))}));
    scene.wait_until_gone("encoding");
}

#[test]
fn a_source_that_does_not_let_the_doctor_in_is_a_finding_and_no_failure() {
    let mut scene = Scene::with_files(server(), "doctor_source");
    let right = scene.config["source"].clone();
    scene.set("source", json!({"url": format!("postgresql://u@127.0.0.1:{}/d", lab::free_port())}));
    let finding = scene.wait_for("source");
    assert_eq!(finding.code.slug(), "source-unreachable");
    scene.set("source", json!({"url": format!("postgresql://nobody@127.0.0.1:{}/postgres", server().port())}));
    assert_eq!(scene.wait_for("source").code.slug(), "source-auth");
    scene.set("source", right);
    scene.assert_well("with the right source");
}
