//! Repairs on real servers: ghosts in each sink, writers beside, deaths of the daemon, TRUNCATE, single keys.
//!
//! Published through its root, a partition that is truncated, or detached, changed and attached again, sends no event: so
//! the topic keeps keys that the table lacks (ghosts), and old values.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value as Json;

use crate::crash::checker::Record;
use crate::crash::project::{Daemon, End, Project, Sink, live, said};
use crate::lab::{self, Database, Options, Postgres};

const DEADLINE: Duration = Duration::from_secs(60);

/// Rows of each of the four partitions.
const ROWS: i64 = 1000;

/// A cluster for these tests alone: a repair waits for the transactions of the whole cluster.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start(Options::default()))
}

struct Lab {
    database: Database,
    project: Project,
}

/// A project for a partitioned table `t` whose first snapshot is complete, and its daemon.
fn lab(name: &str, sink: Sink) -> (Lab, Daemon) {
    let database = server().fresh_database(name);
    database.run(&format!(
        "create table t (tenant text, id bigint, at timestamptz not null default now(), n int, primary key (tenant, id))
           partition by list (tenant);
         create table t_a partition of t for values in ('a'); create table t_b partition of t for values in ('b');
         create table t_c partition of t for values in ('c ''\\'); create table t_d partition of t for values in ('d');
         insert into t (tenant, id, n) select tenant, g, 0 from unnest(array['a', 'b', 'c ''\\', 'd']) tenant,
           generate_series(1, {ROWS}) g"
    ));
    let project = Project::new(name, database.url(), sink);
    project.add(&["t"]);
    let lab = Lab { database, project };
    let daemon = lab.start(None);
    (lab, daemon)
}

fn kafka() -> Sink {
    Sink::Kafka { bootstrap: lab::kafka().bootstrap().into(), registry: lab::registry().url().into() }
}

impl Lab {
    /// A daemon that is past its first snapshot.
    fn start(&self, kill_at: Option<&str>) -> Daemon {
        let mut daemon = self.project.start(&[], kill_at);
        if kill_at.is_none() {
            daemon.until("the snapshot is complete", DEADLINE, live);
        }
        daemon
    }

    /// Makes ghosts of one partition's rows, and old values of another's.
    fn spoil(&self) {
        self.database.run(
            "truncate t_c; alter table t detach partition t_b; update t_b set n = -1 where id <= 100;
             alter table t attach partition t_b for values in ('b')",
        );
    }

    fn records(&self) -> Vec<Record> {
        self.project.read(&["t"]).records
    }

    /// Ends the daemon well, and holds the topic against the table; gives the records.
    fn level(&self, daemon: Daemon) -> Vec<Record> {
        daemon.signal("TERM");
        daemon.finish(DEADLINE);
        self.project.start(&["--once"], None).finish(DEADLINE);
        let records = self.records();
        let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
        let mut fold: BTreeMap<String, i64> = BTreeMap::new();
        for Record { key, pos, value, op, last, .. } in &records {
            let before = newest.insert(key, pos);
            assert!(before.is_none_or(|before| before < pos.as_str()), "{key}: {pos} after {before:?}");
            assert!(*op != 'r' || !last, "{key} at {pos}: a row that was read is never the last");
            match value {
                Some(value) => drop(fold.insert(key.clone(), value["n"].as_i64().expect("n is a number"))),
                None => drop(fold.remove(key)),
            }
        }
        let text = self.database.text("select jsonb_object_agg(tenant || ',' || id, n) from t");
        let table: BTreeMap<String, i64> = serde_json::from_str(&text).expect("an object");
        let wrong: Vec<_> = table.iter().filter(|(key, n)| fold.get(*key) != Some(n)).take(5).collect();
        let ghosts: Vec<_> = fold.keys().filter(|key| !table.contains_key(*key)).take(5).collect();
        assert!(wrong.is_empty() && ghosts.is_empty(), "wrong {wrong:?}, ghosts {ghosts:?}");
        records
    }

    /// Runs something while rows of all partitions come, change and go.
    fn under_writers<T>(&self, work: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (stop, database) = (&stop, &self.database);
                scope.spawn(move || {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        round += 1;
                        let tenant = "(array['a', 'b', 'c ''\\', 'd'])[1 + (random() * 3)::int]";
                        database.run(&format!(
                            "insert into t (tenant, id, n) select {tenant}, (random() * {ROWS})::int + 1, {round}
                               on conflict (tenant, id) do update set n = excluded.n"
                        ));
                        // Each writer deletes rows that the other one does not, or they would wait for each other in a circle.
                        database.run(&format!(
                            "delete from t where tenant = (select {tenant}) and id = (random() * {ROWS})::int / 2 * 2 + {writer}"
                        ));
                    }
                });
            }
            // The writers end whatever becomes of the work.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            stop.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn repairing(status: &Json) -> bool {
    status["contracts"][0]["state"] == "repairing"
}

fn tombstones(records: &[Record], tenant: &str) -> usize {
    records.iter().filter(|record| record.value.is_none() && record.key.starts_with(tenant)).count()
}

fn ghosts_go_under_writers(name: &str, sink: Sink) {
    let (lab, daemon) = lab(name, sink);
    lab.spoil();
    lab.under_writers(|| {
        let said = lab.project.must(&["repair", "t"]);
        assert!(said.contains("t is level with its table"), "{said}");
    });
    let records = lab.level(daemon);
    let gone = tombstones(&records, "c '\\");
    // Writers put some of them back before they were looked up.
    assert!(gone > 500, "{gone} tombstones");
}

#[test]
fn ghosts_in_files_go_under_writers() {
    ghosts_go_under_writers("repair_files", Sink::Files);
}

#[test]
fn ghosts_in_kafka_go_under_writers() {
    ghosts_go_under_writers("repair_kafka", kafka());
}

#[test]
fn a_repair_goes_on_after_every_death_and_writes_no_tombstone_twice() {
    let (lab, daemon) = lab("repair_deaths", Sink::Files);
    lab.spoil();
    daemon.kill();
    let armed = lab.start(Some("commit.begin:1000000"));
    lab::eventually("the daemon listens", DEADLINE, || armed.status().filter(live));
    lab.project.must(&["repair", "t", "--no-wait"]);
    armed.kill();
    for point in ["keys.read:1", "chunk.opened:1", "chunk.read:1", "keys.read:1", "chunk.read:2", "chunk.opened:3"] {
        let mut daemon = lab.start(Some(point));
        let end = lab::eventually("it dies, or is done", DEADLINE, || {
            daemon.ended().map(Some).or_else(|| daemon.status().filter(live).map(|_| None))
        });
        assert!(matches!(end, None | Some(End::Signal(_))), "{point}: {end:?}\n{}", daemon.log());
    }
    let records = lab.level(lab.start(None));
    assert_eq!(tombstones(&records, "c '\\"), ROWS as usize);
}

#[test]
fn a_truncated_table_is_repaired_by_itself() {
    let (lab, mut daemon) = lab("repair_truncate", Sink::Files);
    lab.database.run(
        "begin; insert into t (tenant, id, n) values ('a', 5000, 1); truncate t;
         insert into t (tenant, id, n) select 'a', g, 7 from generate_series(1, 10) g; commit;
         insert into t (tenant, id, n) values ('d', 1, 8)",
    );
    daemon.until("the TRUNCATE was seen", DEADLINE, |status| {
        repairing(status) || status["contracts"][0]["records"].as_u64() > Some(5 * ROWS as u64)
    });
    daemon.until("the repair is complete", DEADLINE, live);
    assert!(daemon.log().contains("E0207"), "{}", daemon.log());
    let records = lab.level(daemon);
    assert_eq!(tombstones(&records, ""), 4 * ROWS as usize + 1 - 11);
}

#[test]
fn single_keys_are_read_or_deleted() {
    let (lab, daemon) = lab("repair_keys", Sink::Files);
    lab.spoil();
    let before = lab.records().len();
    lab.project.must(&[
        "repair",
        "t",
        "--key",
        r#"{"tenant": "c '\\", "id": 5}"#,
        "--key",
        r#"{"id": "7", "tenant": "b"}"#,
    ]);
    let records = lab.records();
    let new: Vec<_> = records[before..].iter().map(|r| (r.op, r.key.as_str(), r.value.as_ref())).collect();
    assert_eq!((new[0].0, new[0].1, new[0].2), ('d', "c '\\,5", None));
    assert_eq!((new[1].0, new[1].1, new[1].2.map(|value| &value["n"])), ('r', "b,7", Some(&Json::from(-1))));
    assert_eq!(new.len(), 2);
    lab.project.must(&["repair", "t", "--version", "1"]);
    lab.level(daemon);
}

#[test]
fn repairs_that_cannot_be_done_are_refused_with_a_reason() {
    let (lab, daemon) = lab("repair_refused", Sink::Files);
    let refused = |code: &str, arguments: &[&str]| {
        let output = lab.project.gimbal(arguments);
        let said = said(&output);
        assert!(!output.status.success() && said.contains(&format!("error[{code}]")), "not {code}: {said}");
    };
    refused("E0805", &["repair", "nothing"]);
    refused("E0805", &["repair", "t", "--version", "2"]);
    refused("E0805", &["repair", "t", "--key", "7"]);
    refused("E0805", &["repair", "t", "--key", r#"{"tenant": "a", "no": 1}"#]);
    let token = lab.project.path("state/api.token");
    let right = std::fs::read_to_string(&token).expect("init wrote it");
    daemon.signal("TERM");
    daemon.finish(DEADLINE);
    refused("E0802", &["repair", "t"]);
    let daemon = lab.start(None);
    let wrong = lab.project.path("wrong.token");
    std::fs::write(&wrong, "guessed").expect("the folder is writable");
    let config = std::fs::read_to_string(lab.project.path("gimbal.yaml")).expect("a config");
    std::fs::write(lab.project.path("wrong.yaml"), config + "api_token: {file: wrong.token}\n").expect("writable");
    refused("E0804", &["--config", "wrong.yaml", "repair", "t"]);
    assert!(!daemon.log().contains(right.trim()));
}
