//! How the daemon stops, refuses a second one, ends a catch-up, stops at what it must not publish, and follows.

use std::time::Duration;

use gimbal::error::Code;
use gimbal::lsn::Lsn;
use serde_json::Value as Json;

use super::checker::Record;
use super::project::{Daemon, End, Project, Sink, checkpoint, live, said};
use super::server;
use crate::lab::{self, Database, Sql};

const DEADLINE: Duration = Duration::from_secs(60);

/// A project on file topics for one table `t`, with rows 1 to 10, installed.
struct Lab {
    database: Database,
    project: Project,
}

fn lab(name: &str) -> Lab {
    let database = server().fresh_database(name);
    database.run(
        "create table t (id int primary key, n int, amount numeric(12,2), at timestamptz);
         insert into t select g, 0, 1.5, '2024-02-29 12:00:00+00' from generate_series(1, 10) g",
    );
    let project = Project::new(name, database.url(), Sink::Files);
    project.add(&["t"]);
    Lab { database, project }
}

impl Lab {
    fn records(&self) -> Vec<Record> {
        self.project.read(&["t"]).records
    }

    fn once(&self) {
        self.project.start(&["--once"], None).finish(DEADLINE);
    }

    /// A daemon whose snapshot is complete.
    fn live(&self) -> Daemon {
        let mut daemon = self.project.start(&[], None);
        daemon.until("the snapshot is complete", DEADLINE, live);
        daemon
    }

    fn checkpoint(&self) -> Json {
        checkpoint(&self.project.path("topics"))
    }

    /// What the server has confirmed for the slot.
    fn confirmed(&self) -> String {
        let slot = format!("gimbal_{}", self.project.pipeline());
        self.database.text(&format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{slot}'"))
    }

    /// True if the slot is confirmed up to no more than this position.
    fn confirmed_at_most(&self, lsn: &str) -> bool {
        self.database.text(&format!("select '{}'::pg_lsn <= '{lsn}'::pg_lsn", self.confirmed())) == "t"
    }

    /// The daemon ends with this code, says why and what to do, and is not confirmed past the checkpoint's position.
    fn stops_with(&self, mut daemon: Daemon, code: Code) {
        assert_eq!(daemon.wait(DEADLINE), End::Exit(1), "{}", daemon.log());
        let log = daemon.log();
        assert!(log.contains(&format!("error[{code}]")) && log.contains("hint: "), "{log}");
        let position = self.checkpoint();
        let end = position["end_lsn"].as_str().expect("an end");
        assert!(self.confirmed_at_most(end), "confirmed at {}, the checkpoint ends at {end}", self.confirmed());
    }
}

/// The position that a checkpoint reaches, as records show theirs.
fn reached(position: &Json) -> String {
    let commit: Lsn = position["commit_lsn"].as_str().and_then(|text| text.parse().ok()).expect("a log position");
    format!("0000-{:016X}-{:08X}", commit.0, position["next_ordinal"].as_u64().expect("an ordinal"))
}

fn names(records: &[Record]) -> Vec<(char, &str)> {
    records.iter().map(|record| (record.op, record.key.as_str())).collect()
}

#[test]
fn sigterm_commits_what_was_read_and_the_slot_follows() {
    let lab = lab("sigterm");
    let mut stopping = lab.live();
    for round in 1..=20 {
        lab.database.run(&format!("update t set n = {round}"));
    }
    stopping.until("something is on its way", DEADLINE, |status| status["contracts"][0]["records"].as_u64() > Some(15));
    stopping.signal("TERM");
    stopping.finish(DEADLINE);
    let (position, records) = (lab.checkpoint(), lab.records());
    let newest = &records.last().expect("records").pos;
    assert!(*newest < reached(&position), "{newest} is beyond the checkpoint: {position}");
    assert_eq!(lab.confirmed(), position["ack"].as_str().expect("an ack"), "{position}");
    // Nothing was lost on the way out, and nothing comes again.
    lab.once();
    let updates = lab.records().iter().filter(|record| record.op == 'u').count();
    assert_eq!(updates, 200);
}

#[test]
fn a_catch_up_publishes_what_is_there_and_a_second_one_nothing() {
    let lab = lab("once");
    lab.once();
    lab.database.run("delete from t where id = 1; update t set id = 20 where id = 2");
    lab.once();
    let records = lab.records();
    assert_eq!(names(&records[10..]), [('d', "1"), ('d', "2"), ('u', "20")]);
    lab.once();
    assert_eq!(lab.records().len(), records.len());
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let lab = lab("second");
    let mut first = lab.live();
    let refused = |code: Code, arguments: &[&str]| {
        let second = lab.project.gimbal(arguments);
        let said = said(&second);
        assert!(!second.status.success() && said.contains(&format!("error[{code}]")), "not {code}: {said}");
    };
    // The same config; then the same folder through another port.
    refused(Code::Io, &["run"]);
    lab.project.configure("same.yaml", "topics", lab::free_port());
    refused(Code::SinkHeld, &["--config", "same.yaml", "run"]);
    lab.database.run("update t set n = 7 where id = 3");
    first.until("the first one publishes", DEADLINE, |status| status["contracts"][0]["records"] == 11);
    first.signal("TERM");
    first.finish(DEADLINE);
    assert_eq!(names(&lab.records()[10..]), [('u', "3")]);
}

/// Good changes, then one that must not be published, then good ones: in one transaction and in the next ones.
fn stops_at(name: &str, code: Code, bad: &str) {
    let lab = lab(name);
    lab.once();
    lab.database.run("update t set n = 1 where id = 1");
    let before = format!("begin; update t set n = 2 where id = 2; {bad}; update t set n = 4 where id = 4; commit");
    lab.database.run(&before);
    lab.database.run("update t set n = 5 where id = 5");
    lab.stops_with(lab.project.start(&[], None), code);
    let records = lab.records();
    assert_eq!(names(&records[10..]), [('u', "1"), ('u', "2")], "what precedes it and nothing else");
    assert!(!records.last().expect("records").last, "the transaction is not at its end");
    let position = lab.checkpoint();
    // A restart comes to the same place, and publishes nothing anew.
    lab.stops_with(lab.project.start(&["--once"], None), code);
    assert_eq!(lab.records().len(), records.len());
    assert_eq!(
        (&lab.checkpoint()["commit_lsn"], &lab.checkpoint()["next_ordinal"]),
        (&position["commit_lsn"], &position["next_ordinal"])
    );
}

#[test]
fn a_nan_for_a_decimal_stops_the_daemon_at_its_place() {
    stops_at("nan", Code::ValueRefused, "update t set amount = 'NaN' where id = 3");
}

#[test]
fn an_infinite_timestamp_stops_the_daemon_at_its_place() {
    stops_at("infinity", Code::ValueRefused, "update t set at = 'infinity' where id = 3");
}

#[test]
fn a_bad_value_in_the_first_snapshot_stops_the_daemon_and_a_mended_one_lets_it_go_on() {
    let lab = lab("bad_row");
    lab.database.run("update t set amount = 'NaN' where id = 3");
    lab.stops_with(lab.project.start(&[], None), Code::ValueRefused);
    lab.stops_with(lab.project.start(&[], None), Code::ValueRefused);
    lab.database.run("update t set amount = 3 where id = 3");
    // The bad version is older than the slot, so it is nowhere in the stream.
    lab.once();
    let rows: Vec<String> = lab.records().iter().map(|record| record.key.clone()).collect();
    assert!((1..=10).all(|id| rows.contains(&id.to_string())), "{rows:?}");
}

#[test]
fn a_dropped_column_stops_the_daemon_where_it_was_dropped() {
    let lab = lab("dropped");
    let daemon = lab.live();
    lab.database.run("update t set n = 1 where id = 1");
    lab.database.run("begin; alter table t drop column amount; update t set n = 2 where id = 2; commit");
    lab.stops_with(daemon, Code::ColumnDropped);
    assert_eq!(names(&lab.records()[10..]), [('u', "1")]);
    lab.stops_with(lab.project.start(&[], None), Code::ColumnDropped);
    assert_eq!(lab.records().len(), 11);
}

#[test]
fn a_dropped_column_stops_the_daemon_although_no_row_follows() {
    let lab = lab("dropped_idle");
    let daemon = lab.live();
    lab.database.run("alter table t drop column amount");
    lab.stops_with(daemon, Code::ColumnDropped);
    assert_eq!(lab.records().len(), 10);
}

#[test]
fn a_rename_and_an_added_column_are_followed_under_load() {
    let lab = lab("renamed");
    let mut daemon = lab.live();
    let mut column = "amount";
    let other = Sql::connect(lab.database.url());
    for round in 0..40 {
        let (id, cents) = (round % 10 + 1, round);
        match round {
            10 => {
                other.run(
                    "begin; update t set n = 1000 where id = 1; alter table t rename amount to total; \
                    update t set total = 10.10 where id = 1; commit",
                );
                column = "total";
                continue;
            }
            20 => other.run("alter table t add column extra text default 'x'"),
            30 => {
                // The old name, taken by another column: it must not be mistaken for the old one.
                other.run("alter table t add column amount numeric(12,2) default 99");
            }
            _ => {}
        }
        lab.database.run(&format!("update t set n = {round}, {column} = {cents}.5 where id = {id}"));
    }
    daemon.until("all is published", DEADLINE, |status| status["contracts"][0]["records"] == 10 + 40 + 1);
    let status = daemon.status().expect("the daemon runs");
    let follows = &status["contracts"][0]["follows"][0];
    assert_eq!((&follows["from"], &follows["now"]), (&"amount".into(), &"total".into()), "{status}");
    daemon.signal("TERM");
    daemon.finish(DEADLINE);
    let amounts: Vec<String> = lab.records()[10..]
        .iter()
        .map(|record| record.value.as_ref().map_or_else(String::new, |value| value["amount"].to_string()))
        .collect();
    let mut wanted: Vec<String> = (0..40).map(|round| format!("\"{round}.50\"")).collect();
    wanted.splice(10..11, ["\"0.50\"".to_owned(), "\"10.10\"".to_owned()]);
    assert_eq!(amounts, wanted);
}
