//! Restarts at moments that a load meets too rarely: they are arranged here, each by its own cause.

use std::time::Duration;

use gimbal::error::Code;

use super::project::{Project, Sink, live};
use crate::lab::{self, Options, Postgres};

const DEADLINE: Duration = Duration::from_secs(60);

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
