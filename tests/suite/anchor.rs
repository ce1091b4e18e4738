//! Whether the server is still the one whose changes were published: every broken history is refused before anything is
//! published, no ordinary event is, and `gimbal adopt` goes on from there.

mod scene;

use std::sync::OnceLock;

use gimbal::error::Code;

use self::scene::{DEADLINE, Scene, Standby, copy, dump, grow};
use crate::crash::project::{End, Sink, live};
use crate::lab::{self, Options, Postgres, Sql};

/// A cluster for these tests alone: snapshots wait for the transactions of the whole cluster.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start(Options::default()))
}

#[test]
fn restarts_crashes_idle_times_and_other_publications_raise_no_alarm() {
    let server = Postgres::start(Options::default());
    let scene = Scene::new(&server, "calm");
    // A first start that ends before the first heartbeat is in the checkpoint.
    let mut daemon = scene.project.start(&[], Some("start.committed:1"));
    daemon.wait(DEADLINE);
    assert!(scene.position().is_some_and(|position| position["anchor"].is_null()));
    let sql = scene.sql(&server);
    scene.is_level(&sql);
    assert!(scene.position().is_some_and(|position| position["anchor"].is_object()));
    // Nothing happens but heartbeats.
    scene.once();
    scene.once();
    // Killed under load.
    let mut daemon = scene.project.start(&[], None);
    daemon.until("the stream is read", DEADLINE, |status| status["state"] == "streaming" && live(status));
    sql.run("update t set n = n + 1");
    daemon.kill();
    scene.is_level(&sql);
    // Other tables come and go in the publication, others are written, and the log grows.
    sql.run(&format!("create table u (id int primary key); alter publication {} add table u", scene.slot()));
    sql.run("insert into u values (1)");
    scene.once();
    sql.run(&format!("alter publication {} drop table u", scene.slot()));
    grow(&sql);
    sql.run("update t set n = n + 1 where id < 5");
    scene.is_level(&sql);
    // A crash of the server sets the slot back to its last checkpoint.
    sql.run("checkpoint; update t set n = n + 1");
    scene.once();
    server.crash();
    server.start_again();
    scene.once();
    let sql = scene.sql(&server);
    sql.run("delete from t where id = 3");
    scene.is_level(&sql);
}

#[test]
fn a_server_that_its_storage_set_back_is_refused_and_can_be_adopted() {
    let server = Postgres::start(Options::default());
    let scene = Scene::new(&server, "restored");
    scene.once();
    server.stop();
    let backup = server.data().with_file_name("backup");
    copy(server.data(), &backup);
    server.start_again();
    scene
        .sql(&server)
        .run("insert into t select g, 1 from generate_series(21, 1500) g; update t set n = 2 where id < 10");
    scene.once();
    let published = scene.folded();
    server.crash();
    copy(&backup, server.data());
    server.start_again();
    scene.refused(Code::ServerBehind);
    let sql = scene.sql(&server);
    sql.run("update t set n = 9 where id = 7");
    grow(&sql);
    scene.refused(Code::AnchorMissing);

    let before = scene.position();
    let said = scene.adopt_refused(&["adopt"], Code::AdoptRefused);
    assert!(said.contains("epoch: 0 → 1") && said.contains("restored") && said.contains("id ← id"), "{said}");
    assert_eq!(scene.position(), before, "without consent nothing is done");
    scene.adopt(Code::AnchorMissing);
    assert_eq!(scene.folded(), published, "what was published stays");
    let again = scene.project.must(&["adopt"]);
    assert!(again.contains("nothing to adopt"), "{again}");
    // Rows 21 to 1500 were published and are not there any more.
    scene.is_level(&sql);
    assert_eq!(scene.position().map(|position| position["epoch"].clone()), Some(1.into()));
    let again = scene.project.must(&["adopt"]);
    assert!(again.contains("nothing to adopt"), "{again}");
}

#[test]
fn a_slot_that_was_moved_dropped_or_made_anew_is_refused_and_can_be_adopted() {
    let scene = Scene::new(server(), "slot_moved");
    let sql = scene.sql(server());
    let slot = scene.slot();
    scene.once();

    sql.run("update t set n = 1 where id < 5; delete from t where id = 20");
    sql.run(&format!("select pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"));
    scene.refused(Code::SlotMoved);
    scene.adopt(Code::SlotMoved);
    scene.is_level(&sql);

    sql.run(&format!("select pg_drop_replication_slot('{slot}'); update t set n = 2 where id < 9"));
    scene.refused(Code::SlotLost);
    scene.adopt(Code::SlotLost);
    scene.is_level(&sql);

    sql.run(&format!("select pg_drop_replication_slot('{slot}')"));
    sql.run("update t set n = 3 where id < 12");
    sql.run(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    scene.refused(Code::SlotMoved);
    scene.adopt(Code::SlotMoved);
    scene.is_level(&sql);
    assert_eq!(scene.position().map(|position| position["epoch"].clone()), Some(3.into()));

    std::fs::remove_dir_all(scene.project.path("topics")).expect("the topics are there");
    scene.refused(Code::SlotWithoutState);
    scene.adopt(Code::SlotWithoutState);
    scene.is_level(&sql);
}

#[test]
fn a_daemon_that_runs_is_never_adopted_away() {
    let scene = Scene::new(server(), "adopt_running");
    let mut daemon = scene.project.start(&[], None);
    daemon.until("the snapshot is complete", DEADLINE, live);
    scene.adopt_refused(&["adopt", "--yes"], Code::SinkHeld);
    daemon.signal("TERM");
    daemon.finish(DEADLINE);
    let said = scene.project.must(&["adopt", "--yes"]);
    assert!(said.contains("fit together"), "{said}");
}

#[test]
fn a_standby_that_lagged_is_refused_and_one_that_had_everything_is_followed() {
    // The slot comes to the standbys by hand, so nothing else keeps log for it there.
    let primary = Postgres::start(Options::default().set("wal_keep_size", "512MB"));
    let standby = Standby::of(&primary, "standby");
    standby.start();
    let scene = Scene::new(&primary, "failover");
    scene.once();
    standby.caught_up(&primary);
    standby.stop();
    let lagging = standby.twin("lagging");
    scene.sql(&primary).run("update t set n = 1; insert into t values (900, 1)");
    scene.once();
    standby.start();
    standby.caught_up(&primary);
    primary.stop();
    standby.stop();

    lagging.takes_slot(primary.data(), &scene.slot());
    lagging.start();
    lagging.promote();
    grow(&Sql::connect(&lagging.url("failover")));
    scene.point_to(lagging.port);
    scene.refused(Code::TimelineDiverged);

    standby.takes_slot(primary.data(), &scene.slot());
    standby.start();
    standby.promote();
    scene.point_to(standby.port);
    let sql = Sql::connect(&standby.url("failover"));
    sql.run("update t set n = 2 where id < 4");
    scene.is_level(&sql);
    let position = scene.position().unwrap_or_default();
    assert_eq!((&position["epoch"], &position["timeline"]), (&0.into(), &2.into()), "{position}");
    // Now this is the timeline to be on: the same name for another one is found too.
    scene.point_to(lagging.port);
    scene.refused(Code::AnchorMissing);
}

#[test]
fn a_database_that_was_dumped_into_another_cluster_is_adopted_with_its_renames() {
    if lab::lacks(server().bin(), "pg_dump") {
        return;
    }
    let old = Postgres::start(Options::default());
    let scene = Scene::new(&old, "moved");
    scene.once();
    let sql = scene.sql(&old);
    sql.run("alter table t add column filler int; alter table t drop column filler");
    sql.run("alter table t rename n to amount; update t set amount = 5 where id = 5");
    scene.once();
    sql.run("delete from t where id = 6; update t set amount = 7 where id = 7");
    // On the way something else takes the old name.
    dump(&old, server(), "moved");
    let sql = scene.sql(server());
    sql.run("alter table t add column n int default 77");
    scene.point_to(server().port());
    scene.refused(Code::SystemMismatch);

    sql.run("alter table t rename amount to elsewhere");
    let said = scene.adopt_refused(&["adopt", "--yes"], Code::AdoptRefused);
    assert!(said.contains("`amount`"), "{said}");
    sql.run("alter table t rename elsewhere to amount");
    let said = scene.adopt(Code::SystemMismatch);
    assert!(said.contains("n ← amount integer"), "{said}");
    sql.run("update t set amount = 8 where id = 8");
    scene.once();
    let folded = scene.folded();
    assert_eq!(folded.get("6"), None, "what was deleted in the gap is taken back");
    let rows = sql.rows("select id, amount from t");
    let table = rows.into_iter().map(|row| (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default()));
    assert_eq!(folded, table.collect());
    let again = scene.project.must(&["adopt"]);
    assert!(again.contains("fit together"), "{again}");
}

#[test]
fn with_kafka_a_daemon_on_the_old_server_is_fenced_when_the_new_one_is_adopted() {
    if lab::lacks(server().bin(), "pg_dump") {
        return;
    }
    let old = Postgres::start(Options::default());
    let sink = Sink::Kafka { bootstrap: lab::kafka().bootstrap().into(), registry: lab::registry().url().into() };
    let scene = Scene::with(&old, "fenced", sink);
    let mut daemon = scene.project.start(&[], None);
    daemon.until("the snapshot is complete", DEADLINE, live);
    dump(&old, server(), "fenced");
    scene.point_to(server().port());
    scene.adopt(Code::SystemMismatch);
    scene.sql(&old).run("update t set n = 1000");
    let ended = daemon.wait(DEADLINE);
    assert!(ended == End::Exit(1) && daemon.log().contains("error[E0506]"), "{ended:?}: {}", daemon.log());
    let sql = scene.sql(server());
    sql.run("update t set n = 4 where id = 4");
    scene.is_level(&sql);
}

#[test]
fn a_table_that_left_the_publication_and_came_back_stops_its_pipeline_until_it_is_copied_again() {
    let scene = Scene::new(server(), "came_back");
    let sql = scene.sql(server());
    scene.once();
    let publication = scene.slot();
    let gap = format!(
        "alter publication {publication} drop table t; update t set n = n + 1; alter publication {publication} add table t"
    );
    sql.run(&gap);
    scene.refused(Code::PublicationInvalid);
    scene.adopt_refused(&["adopt", "--contract", "nobody", "--yes"], Code::AdoptRefused);
    let said = scene.project.must(&["adopt", "--contract", "t", "--yes"]);
    assert!(said.contains("copied again"), "{said}");
    scene.is_level(&sql);
    assert_eq!(scene.position().map(|position| position["epoch"].clone()), Some(0.into()), "no other epoch");

    let mut daemon = scene.project.start(&[], None);
    daemon.until("the stream is read", DEADLINE, |status| status["state"] == "streaming" && live(status));
    sql.run(&gap);
    let ended = daemon.wait(DEADLINE);
    let log = daemon.log();
    assert!(ended == End::Exit(1) && log.contains("error[E0309]") && log.contains("adopt --contract t"), "{log}");
    scene.project.must(&["adopt", "--contract", "t", "--yes"]);
    scene.is_level(&sql);
    // The last transaction that was published is of a table that has left the publication since, and is sent all the same.
    sql.run("update t set n = n + 1 where id = 1");
    scene.once();
    sql.run(&format!("alter publication {publication} drop table t"));
    sql.run(&format!("alter publication {publication} add table t"));
    scene.project.must(&["adopt", "--contract", "t", "--yes"]);
    scene.is_level(&sql);
    lab::eventually("nobody holds the slot", DEADLINE, || {
        let active = "select count(*) from pg_replication_slots where slot_name = 'gimbal_came_back' and active";
        (sql.text(active) == "0").then_some(())
    });
}
