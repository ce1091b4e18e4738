//! Findings whose breaking or mending changes settings of the whole server: on servers of their own.

use std::time::Duration;

use gimbal::diagnostic::Severity::{Error, Warning};
use gimbal::postgres::connection::Connection;

use super::scene::{Case, Scene};
use crate::lab::{Options, Postgres, eventually};

/// Writes about so many segments of log, of 16 MiB each.
fn write_log(scene: &Scene<'_>, segments: u32) {
    for _ in 0..segments {
        scene.sql("select pg_logical_emit_message(false, 'filler', 'x')");
        scene.sql("select pg_switch_wal()");
    }
}

#[test]
fn limits_of_what_slots_keep_are_found_and_mended() {
    let server = Postgres::start(Options::default().set("max_slot_wal_keep_size", "2GB"));
    let mut scene = Scene::with_files(&server, "doctor_limits");
    let set = "alter system set max_slot_wal_keep_size = ";
    let unlimited = format!("{set}'-1';; select pg_reload_conf()");
    let small = format!("{set}'64MB';; select pg_reload_conf()");
    let large = format!("{set}'1000TB';; select pg_reload_conf();; grant pg_read_all_settings to {{r}}");
    for (check, severity, sql, names) in [
        ("slot-keep-size", Error, unlimited, &["-1"][..]),
        ("slot-keep-small", Warning, small, &["64 MiB"]),
        ("slot-keep-size", Error, large, &["free on its disk"]),
    ] {
        Case { check, severity, sql: sql.leak(), names, after: "" }.play(&mut scene);
    }
    if server.at_least(18) {
        let sql = "alter system set idle_replication_slot_timeout = '1h';; select pg_reload_conf()";
        Case { check: "slot-idle-timeout", severity: Warning, sql, names: &["3600 s"], after: "" }.play(&mut scene);
    }
    // From here on, nothing is known of the disk.
    scene.sql("revoke pg_read_all_settings from doctor_limits");

    // Seven segments are seven only from the beginning of one.
    write_log(&scene, 1);
    scene.sh("gimbal run");
    scene.server.configure("max_slot_wal_keep_size", "128MB");
    write_log(&scene, 7);
    let finding = scene.wait_for("slot-retention");
    assert!(finding.severity == Error && finding.what.contains("128 MiB"), "{finding:?}");
    eventually("the slot keeps less", Duration::from_secs(60), || {
        scene.apply(&finding.fix);
        scene.sql("checkpoint");
        scene.find("slot-retention").is_none().then_some(())
    });

    write_log(&scene, 14);
    scene.sql("checkpoint");
    let finding = scene.wait_for("slot-lost");
    scene.apply(&finding.fix);
    scene.wait_until_gone("slot-lost");
    assert_eq!(scene.examine().count(Error), 0, "{}", scene.examine().text());
}

#[test]
fn settings_that_need_a_restart_are_found_and_mended() {
    let server = Postgres::start(Options::default().set("max_slot_wal_keep_size", "2GB"));
    let mut scene = Scene::with_files(&server, "doctor_restart");
    for setting in ["wal_level = 'replica'", "max_replication_slots = 1", "max_wal_senders = 1"] {
        scene.sql(&format!("alter system set {setting}"));
    }
    scene.restart();
    scene.sql("select pg_create_physical_replication_slot('standby')");
    let url = scene.database.url().parse().expect("a URL");
    let standby = Connection::connect(&url, None).expect("the only one that the server takes");
    let found = ["wal-level", "slots-exhausted", "senders-exhausted"].map(|check| scene.wait_for(check));
    assert!(found[0].what.contains("replica") && found[0].what.contains("logical"), "{found:?}");
    for finding in &found {
        scene.apply(&finding.fix);
    }
    drop(standby);
    scene.restart();
    for finding in &found {
        scene.wait_until_gone(finding.check);
    }
    scene.assert_well("after a restart");

    scene.server.stop();
    scene.server.write_file("standby.signal", "");
    scene.server.start_again();
    let finding = scene.wait_for("standby");
    scene.apply(&finding.fix);
    scene.wait_until_gone("standby");
}
