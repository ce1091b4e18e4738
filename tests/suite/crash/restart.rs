//! Restarts at moments that a load meets too rarely: they are arranged here, each by its own cause.

use std::time::Duration;

use gimbal::error::Code;

use super::project::{End, Project, Sink, live};
use crate::lab::{self, Options, Postgres, Sql};

const DEADLINE: Duration = Duration::from_secs(60);

/// A commit that waits for a synchronous standby is in the log, and so in the topic, while no snapshot sees it. When the
/// daemon dies then, the next one must not copy the row as it was before.
#[test]
fn a_transaction_that_was_streamed_but_is_not_yet_visible_is_not_undone_by_the_snapshot_after_a_restart() {
    let server = Postgres::start(Options::default());
    let database = server.fresh_database("invisible");
    database.run("create table t (id int primary key, n int) partition by list (id)");
    for leaf in 1..=8 {
        let ids = [leaf, leaf + 10];
        database.run(&format!("create table t{leaf} partition of t for values in ({}, {})", ids[0], ids[1]));
        database.run(&format!("insert into t values ({}, 0), ({}, 0)", ids[0], ids[1]));
    }
    let project = Project::new("invisible", database.url(), Sink::Files);
    project.add(&["t"]);
    let mut first = project.start(&[], Some("chunk.opened:6"));
    assert_eq!(first.wait(DEADLINE), End::Signal(6), "{}", first.log());

    // An older transaction keeps the second daemon from the other leaves; the stream flows meanwhile.
    let older = database.connect();
    older.run("begin; create table unrelated (id int)");
    database.run("create table younger (id int)");
    let mut second = project.start(&[], None);
    second.until("the copy goes on", DEADLINE, |status| status["contracts"][0]["state"] == "snapshotting");
    let before = project.read(&["t"]).records.len();
    database.run("update t set n = 1 where id = 18");
    second.until("the table is known", DEADLINE, |status| status["contracts"][0]["records"] == 1);
    server.configure("synchronous_standby_names", "nobody");
    let url = database.url().to_owned();
    let waiting = std::thread::spawn(move || Sql::connect(&url).try_run("update t set n = 1 where id = 8"));
    second.until("the update is published", DEADLINE, |status| {
        status["contracts"][0]["records"] == 2 && status["contracts"][0]["state"] == "snapshotting"
    });
    let durable = || project.read(&["t"]).records.len() == before + 2;
    lab::eventually("the update is durable", DEADLINE, || durable().then_some(()));
    second.kill();
    older.run("set synchronous_commit = local; rollback");

    let mut third = project.start(&[], None);
    third.until("the third daemon streams", DEADLINE, |status| status["state"] == "streaming");
    // It has had the time for a wrong copy when a change after its start is published.
    database.connect().run("set synchronous_commit = local; update t set n = 2 where id = 18");
    third.until("the change is published", DEADLINE, |status| {
        status["contracts"][0]["records"].as_u64() >= Some(1) && status["position"] != ""
    });
    server.configure("synchronous_standby_names", "");
    waiting.join().expect("the thread ends").expect("the update ends");
    third.until("the snapshot is complete", DEADLINE, live);
    third.signal("TERM");
    third.finish(DEADLINE);
    let records = project.read(&["t"]).records;
    let newest = records.iter().rfind(|record| record.key == "8").expect("row 8 was published");
    assert_eq!(newest.value.as_ref().map(|row| &row["n"]), Some(&1.into()), "{records:?}");
}

/// The server goes on creating a slot although its client is gone, as long as it waits for an old transaction.
#[test]
fn a_first_start_that_dies_while_the_slot_is_made_is_taken_up_by_the_next_one() {
    let server = Postgres::start(Options::default());
    let database = server.fresh_database("half_made");
    database.run("create table t (id int primary key, n int); insert into t values (1, 0)");
    let project = Project::new("half_made", database.url(), Sink::Files);
    project.add(&["t"]);
    let older = database.connect();
    older.run("begin; create table unrelated (id int)");
    let first = project.start(&[], None);
    let waits =
        "select count(*) from pg_stat_activity where wait_event = 'transactionid' and backend_type = 'walsender'";
    lab::eventually("the slot is being made", DEADLINE, || (database.text(waits) == "1").then_some(()));
    first.kill();

    let mut second = project.start(&[], None);
    lab::eventually("the second daemon meets the slot", DEADLINE, || {
        assert_eq!(second.ended(), None, "{}", second.log());
        let begun = "select count(*) from pg_stat_activity where application_name like 'gimbal%'";
        (database.text(begun).parse::<u32>().expect("a number") > 1).then_some(())
    });
    older.run("commit");
    second.until("the snapshot is complete", DEADLINE, live);
    second.signal("TERM");
    second.finish(DEADLINE);
    assert_eq!(project.read(&["t"]).records.len(), 1);
}

/// A slot that another program holds for good is no reason to wait for ever.
#[test]
fn a_slot_that_stays_held_ends_the_daemon_with_a_code() {
    let server = Postgres::start(Options::default());
    let database = server.fresh_database("held");
    database.run("create table t (id int primary key)");
    let project = Project::new("held", database.url(), Sink::Files);
    project.add(&["t"]);
    let mut first = project.start(&[], None);
    first.until("the first daemon is live", DEADLINE, live);
    project.configure("other.yaml", "elsewhere", lab::free_port());
    let said = super::project::said(&project.gimbal(&["--config", "other.yaml", "run"]));
    assert!(said.contains(&format!("error[{}]", Code::SlotHeld)) && said.contains("hint: "), "{said}");
    assert!(!project.path("elsewhere/manifest.json").exists(), "the refused daemon left a checkpoint");
    assert_eq!(first.ended(), None);
}
