//! One crash test: a load, a daemon that dies again and again, and the reckoning.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::checker::{Complaint, Record, Table, Truth, check};
use super::kills::{Before, Kill, plan};
use super::load::{self, LATE, Load, Size, TABLES};
use super::project::{Daemon, End, Project, Sink, live};
use crate::lab::{self, Database, Sql};

/// A round whose moment does not come is ended from outside after this time.
const ROUND_MAX: Duration = Duration::from_secs(4);

/// The last run may take this long to publish all that is left.
const REST_MAX: Duration = Duration::from_secs(90);

/// Connections that write all the time.
const WRITERS: u64 = 3;

/// Complaints that are shown.
const SHOWN_MAX: usize = 12;

/// SIGABRT, of a kill point, and SIGKILL.
const DEATHS: [End; 2] = [End::Signal(6), End::Signal(9)];

/// What to run; the same again for the same seed, as far as two programs and a clock can.
pub struct Crash {
    pub name: &'static str,
    pub database: Database,
    pub sink: Sink,
    pub seed: u64,
    pub kills: usize,
    pub size: Size,
}

/// Runs it; panics if anything is wrong with what an independent reader gets.
pub fn run(crash: &Crash) {
    let Crash { name, database, sink, seed, kills, size } = crash;
    println!("to replay: GIMBAL_SEED={seed} GIMBAL_KILLS={kills} cargo test --test suite crash::{name} -- --nocapture");
    let begin = Instant::now();
    let said = |what: &str| println!("{:6.1} s  {what}", begin.elapsed().as_secs_f32());
    load::create(&database.connect(), *size);
    // A name of its own: a broker that is kept for several runs still has the topics of the one before.
    let pipeline = format!("{name}-{:08x}", fastrand::u32(..));
    let project = Project::new(&pipeline, database.url(), sink.clone());
    project.add(TABLES);
    let load = Load::start(database.url(), WRITERS, *seed, *size);
    let mut lives = Lives::new(&project, database);
    for round in plan(*seed, *kills, sink) {
        lives.prepare(round.before);
        let kill = if lives.copying() { &round.snapshot } else { &round.streaming };
        let how = lives.live_and_die(kill);
        said(&format!("kill {}: {kill} {how}", lives.deaths));
    }
    let daemon = lives.catch_up();
    reckon(&lives, daemon, load, &said);
}

/// One life, in which everything around the daemon fails; panics if anything is wrong with what a reader gets. `source` is
/// the URL by which the daemon reaches the database.
pub fn endure(crash: &Crash, source: &str, faults: impl FnOnce(&Project, &mut Daemon)) {
    let Crash { name, database, sink, seed, size, .. } = crash;
    println!("to replay: GIMBAL_SEED={seed} cargo test --test suite crash::{name} -- --nocapture");
    let begin = Instant::now();
    let said = |what: &str| println!("{:6.1} s  {what}", begin.elapsed().as_secs_f32());
    load::create(&database.connect(), *size);
    let project = Project::new(&format!("{name}-{:08x}", fastrand::u32(..)), source, sink.clone());
    project.add(TABLES);
    let load = Load::start(database.url(), WRITERS, *seed, *size);
    let mut lives = Lives::new(&project, database);
    let mut daemon = lives.catch_up();
    said("live");
    faults(&project, &mut daemon);
    lives.sql = database.connect();
    reckon(&lives, daemon, load, &said);
}

/// The end of a run: everything is published, read, and held against the source.
fn reckon(lives: &Lives<'_>, daemon: Daemon, load: Load, said: &dyn Fn(&str)) {
    daemon.signal("TERM");
    daemon.finish(REST_MAX);
    let transactions = load.stop();
    lives.project.start(&["--once"], None).finish(REST_MAX);
    said("caught up");
    let read = lives.project.read(&lives.tables);
    said("read");
    let truth = lives.truth(&read.state);
    let (deaths, changes, records) = (lives.deaths, truth.changes.len(), read.records.len());
    said(&format!("{deaths} kills, {transactions} transactions, {changes} row changes, {records} records"));
    demand(lives.project, &read.records, &truth);
    said("all is well");
}

/// The daemon's lives, one after the other, on one project.
struct Lives<'a> {
    project: &'a Project,
    sql: Sql,
    /// Those that are published.
    tables: Vec<&'static str>,
    /// By contract a transaction id at or above its activation, taken by ourselves when its snapshot was first seen to be
    /// complete and durable: the program must not put its activation later than that.
    horizons: BTreeMap<String, u64>,
    /// Huge transactions so far.
    huge: u32,
    deaths: u32,
}

impl<'a> Lives<'a> {
    fn new(project: &'a Project, database: &Database) -> Lives<'a> {
        Lives {
            project,
            sql: database.connect(),
            tables: TABLES.to_vec(),
            horizons: BTreeMap::new(),
            huge: 0,
            deaths: 0,
        }
    }

    /// True while a snapshot is under way, as far as we have seen.
    fn copying(&self) -> bool {
        self.horizons.len() < self.tables.len()
    }

    fn prepare(&mut self, before: Before) {
        if before != Before::Nothing && self.copying() {
            self.catch_up().kill();
            self.deaths += 1;
        }
        match before {
            Before::Nothing => {}
            Before::AddTable => {
                self.project.add(&[LATE]);
                self.tables.push(LATE);
            }
            Before::Huge { large_rows, rows } => self.huge(large_rows, rows),
        }
    }

    /// A transaction that spans several commits: by its number of rows, or by their bytes.
    fn huge(&mut self, large_rows: bool, rows: u32) {
        let times = self.huge;
        self.huge += 1;
        let insert = match large_rows {
            false => format!("insert into lines(order_id, line) select {}, g", 20_000_000 + times),
            true => format!("insert into notes(id, body_version) select md5('huge {times} ' || g)::uuid, g"),
        };
        self.sql.run(&format!("{insert} from generate_series(1, {rows}) g"));
    }

    /// Starts the daemon, waits for the chosen moment, and sees it dead. Says if the moment did not come.
    fn live_and_die(&mut self, kill: &Kill) -> &'static str {
        let point = match kill {
            Kill::Point(point, count) => Some(format!("{}:{count}", point.name())),
            Kill::Records(_) => None,
        };
        self.deaths += 1;
        let copying = self.copying();
        let end = Instant::now() + ROUND_MAX;
        let mut daemon = self.project.start(&[], point.as_deref());
        let moment = lab::eventually("the daemon dies or its time is up", ROUND_MAX * 4, || {
            self.look(&daemon);
            match (daemon.ended(), kill) {
                (Some(ended), _) => Some(Some(ended)),
                (None, Kill::Records(count)) if daemon.records() >= *count => Some(None),
                // Chunks come no more once the snapshot is complete.
                (None, _) => (Instant::now() > end || copying && !self.copying()).then_some(None),
            }
        });
        if let Some(ended) = moment {
            assert!(DEATHS.contains(&ended), "before {kill}: {ended:?}\n{}", daemon.log());
            return "";
        }
        let came = matches!(kill, Kill::Records(count) if daemon.records() >= *count);
        daemon.kill();
        if came { "" } else { "(did not come: SIGKILL)" }
    }

    /// A daemon that has completed every snapshot.
    fn catch_up(&mut self) -> Daemon {
        let mut daemon = self.project.start(&[], None);
        let all = self.tables.len();
        daemon.until("every table is live", REST_MAX, |status| {
            live(status) && status["contracts"].as_array().map_or(0, Vec::len) == all
        });
        lab::eventually("every snapshot is durable", REST_MAX, || {
            self.look(&daemon);
            (!self.copying()).then_some(())
        });
        daemon
    }

    fn look(&mut self, daemon: &Daemon) {
        let status = daemon.status().unwrap_or_default();
        for contract in status["contracts"].as_array().into_iter().flatten() {
            let (name, since) = (contract["contract"].as_str().unwrap_or_default(), contract["since"].as_str());
            let durable = since.is_some_and(|since| status["position"].as_str() >= Some(since));
            if durable && !self.horizons.contains_key(name) {
                let end = self.sql.text("select pg_current_wal_insert_lsn() - '0/0'");
                self.horizons.insert(name.to_owned(), end.parse().expect("a log position"));
            }
        }
    }

    fn truth(&self, state: &serde_json::Value) -> Truth {
        let table = |name: &&str| {
            let begun = state[format!("contract/{name}/1")]["begun"].as_str().and_then(|pos| pos.split('-').nth(1));
            let begun = begun.and_then(|lsn| u64::from_str_radix(lsn, 16).ok()).expect("a beginning");
            let horizon = self.horizons.get(*name).copied();
            assert!(horizon.is_some_and(|seen| begun <= seen), "{name}: began at {begun:X}, seen at {horizon:?}");
            let table = Table {
                topic: self.project.topic(name),
                begun,
                base: load::base(&self.sql, name).into_iter().collect(),
                rows: load::rows(&self.sql, name).into_iter().collect(),
            };
            ((*name).to_owned(), table)
        };
        let tables = self.tables.iter().map(table).collect();
        Truth { tables, changes: load::changes(&self.sql), expected: Some(load::expected) }
    }
}

fn demand(project: &Project, records: &[Record], truth: &Truth) {
    let complaints: Vec<Complaint> = check(records, truth);
    if complaints.is_empty() {
        return;
    }
    let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
    for complaint in &complaints {
        *kinds.entry(complaint.wrong).or_default() += 1;
        if kinds[&complaint.wrong] <= SHOWN_MAX {
            println!("{complaint:.600}");
        }
    }
    let log = std::fs::read_to_string(project.path("daemon.log")).unwrap_or_default();
    panic!("{kinds:?}; the seed is above; the daemon's last lines:\n{}", tail(&log));
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
}
