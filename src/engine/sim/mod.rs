//! A seeded simulation of the engine between a model of PostgreSQL and a model of the sink.
//!
//! ```text
//!  database ── wal ──▶ stream ── pgoutput bytes ──▶ Engine ──▶ batch ──▶ sink ──▶ checker
//!     ▲  └──── samples, chunks, fences ──▶ shell ◀── requests ──┘                (against database.wal)
//! ```
//!
//! Every step is drawn from one seed: `GIMBAL_SEED=7 cargo test --lib engine::sim` runs that one alone,
//! `GIMBAL_SEEDS=10000` as many.

mod broken;
mod cases;
mod checker;
mod database;
mod heap;
mod shell;
mod stream;
mod topics;

use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use database::{Database, Workload};
use shell::{Daemon, Defect};
use topics::Topic;

use crate::contract::{Backfill, ContractKind};
use crate::engine::Limits;
use crate::identity::tests::Rng;

/// What came of a run.
#[derive(Debug, Default)]
struct Tally {
    records: usize,
    read: usize,
    tombstones: usize,
    sessions: usize,
    stopped: usize,
    dead: usize,
    parked: usize,
    rereads: usize,
    withdrawn: usize,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.records += other.records;
        self.read += other.read;
        self.tombstones += other.tombstones;
        self.sessions += other.sessions;
        self.stopped += other.stopped;
        self.dead += other.dead;
        self.parked += other.parked;
        self.rereads += other.rereads;
        self.withdrawn += other.withdrawn;
    }
}

fn limits(rng: &mut Rng) -> Limits {
    Limits {
        batch_records: rng.between(1, 12),
        batch_bytes: 100 << rng.between(0, 5),
        chunk_rows: rng.between(1, 6),
        chunk_rows_first: 3,
        chunk_bytes: 4096,
        chunk_micros: 2,
        chunk_blocks: rng.between(1, 2) as u32,
        chunk_blocks_min: 1,
        chunk_blocks_max: 3,
        page_keys: 2,
        copies: rng.between(1, 3),
        reread_keys: rng.between(1, 4),
        reread_bytes: 8 << rng.between(0, 6),
        dead_keys: if rng.chance(20) { 2 } else { 1000 },
        touched_keys: if rng.chance(50) { rng.between(2, 12) } else { 1000 },
    }
}

/// Contracts over the tables: some from the first session on, some later, some taken out again.
fn topics(rng: &mut Rng, db: &mut Database, sealed: bool) -> Vec<Topic> {
    let tables = db.tables.len();
    let bound: &[&[i16]] = &[&[3], &[4], &[5], &[3, 5], &[4, 5], &[3, 4, 5]];
    let bound = *rng.pick(bound);
    db.bound = bound.iter().copied().collect();
    let columns = |rng: &mut Rng| match rng.between(0, 2) {
        0 => vec![*rng.pick(bound)],
        1 => bound.iter().rev().copied().collect(),
        _ => bound.to_vec(),
    };
    let mut topics: Vec<Topic> = Vec::new();
    for table in 0..tables {
        let since = if rng.chance(50) { table } else { 0 };
        let numbers = sealed && rng.chance(50);
        topics.push(Topic { since, numbers, ..Topic::new(format!("a{table}"), table, columns(rng)) });
    }
    for extra in 0..rng.between(0, 3) {
        let (table, since) = (rng.between(0, tables - 1), rng.between(0, 3));
        let mut topic = Topic { since, ..Topic::new(format!("b{extra}"), table, columns(rng)) };
        topic.numbers = sealed && rng.chance(50);
        topic.required = sealed && rng.chance(15);
        match rng.between(0, 5) {
            0 => topic.backfill = Backfill::None,
            1 => topic.until = since + rng.between(1, 2),
            2 => {
                topic.kind = ContractKind::Log;
                db.keep_full(table);
            }
            _ => {}
        }
        topics.push(topic);
    }
    topics.sort_by_key(|topic| topic.since);
    topics
}

/// A daemon in front of a database at work, before its first session.
fn daemon(rng: &mut Rng, defect: Defect) -> Daemon {
    let sealed = rng.chance(60);
    // The other defects are looked for without, so that their seeds stay short.
    let repairs = matches!(defect, Defect::None | Defect::LookUpWithoutFence);
    let workload = Workload {
        ddl: [0, 3, 10, 40][rng.between(0, 3)],
        truncate: if repairs && !sealed { [0, 0, 1, 4][rng.between(0, 3)] } else { 0 },
        writers: rng.between(1, 4),
        drop_in_front: rng.chance(50),
        stall: [0, 20, 60][rng.between(0, 2)],
        long: [0, 10, 50][rng.between(0, 2)],
        poison: if sealed { [0, 5, 30][rng.between(0, 2)] } else { 0 },
        unchanged: rng.chance(50),
    };
    let tables = rng.between(1, 3);
    let mut db = Database::new(rng, tables, workload);
    let topics = topics(rng, &mut db, sealed);
    for _ in 0..rng.between(0, 60) {
        db.work(rng);
    }
    let empty_too = rng.chance(30);
    let mut daemon = Daemon::new(db, topics, limits(rng), defect, empty_too);
    daemon.timer = rng.chance(60);
    daemon.sealed = sealed;
    daemon.ghosts = if repairs { [0, 1, 2, 8][rng.between(0, 3)] } else { 0 };
    daemon
}

fn run(seed: u64, defect: Defect) -> Tally {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9).wrapping_add(1));
    let rng = &mut rng;
    let mut daemon = daemon(rng, defect);
    let breaks = daemon.sealed && rng.chance(40);
    let begun = daemon.topics.iter().map(|topic| topic.since).max().unwrap_or(0);
    let (steps, calm) = (rng.between(100, 500), rng.between(10, 60) as u64);
    let restless = [3, 10, 40][rng.between(0, 2)];
    daemon.open(rng);
    for _ in 0..steps {
        if daemon.stopped.is_some() {
            break;
        }
        // Later contracts name columns that are still there.
        daemon.db.breaks |= breaks && daemon.sessions > begun && rng.chance(5) && daemon.recorded();
        if rng.chance(calm) {
            daemon.db.work(rng);
        } else {
            daemon.step(rng);
        }
        if rng.next() % 1000 < restless {
            match rng.chance(50) {
                true => daemon.crash(rng),
                false => daemon.stop(),
            }
            daemon.open(rng);
        }
    }
    let last =
        daemon.topics.iter().map(|topic| topic.since.max(if topic.until == usize::MAX { 0 } else { topic.until }));
    let last = last.max().unwrap_or(0);
    while daemon.stopped.is_none() && daemon.sessions <= last {
        daemon.stop();
        daemon.open(rng);
    }
    if daemon.stopped.is_none() {
        daemon.db.settle(rng);
        daemon.drain(rng);
    }
    Tally {
        records: daemon.checker.records,
        read: daemon.checker.read,
        tombstones: daemon.checker.tombstones,
        sessions: daemon.sessions,
        stopped: usize::from(daemon.stopped.is_some()),
        dead: daemon.checker.dead,
        parked: daemon.checker.parked,
        rereads: daemon.checker.rereads,
        withdrawn: daemon.checker.withdrawn,
    }
}

/// Prints what happens when one seed alone runs with `GIMBAL_TRACE`.
fn trace(text: impl FnOnce() -> String) {
    static WANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *WANTED.get_or_init(|| std::env::var_os("GIMBAL_TRACE").is_some()) {
        println!("{}", text());
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds on every core, and tells which of them failed, and how.
fn run_all(defect: Defect, default: u64) -> (Tally, Vec<(u64, String)>) {
    let (first, count) = match number("GIMBAL_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("GIMBAL_SEEDS").unwrap_or(default)),
    };
    let (next, all) = (AtomicU64::new(first), Mutex::new((Tally::default(), Vec::new())));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let result = std::panic::catch_unwind(|| run(seed, defect));
            let (all, failures) = &mut *all.lock().unwrap();
            match result {
                Ok(tally) => all.add(&tally),
                Err(panic) => {
                    failures.push((seed, said(&*panic)));
                    if defect != Defect::None {
                        // One is enough.
                        next.store(first + count, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| drop(scope.spawn(worker)));
    });
    let (all, mut failures) = all.into_inner().unwrap();
    failures.sort();
    println!("seeds {first} to {}, {} failed: {all:?}", first + count - 1, failures.len());
    (all, failures)
}

/// The message of a panic.
fn said(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    let (all, failures) = run_all(Defect::None, 600);
    let texts: Vec<String> = failures.iter().map(|(seed, text)| format!("GIMBAL_SEED={seed}: {text}")).collect();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), texts.join("\n"));
    let one = number("GIMBAL_SEED").is_some();
    assert!(one || (all.stopped * 10 < all.sessions && all.read > 0 && all.tombstones > 0), "{all:?}");
    assert!(one || (all.dead > 100 && all.parked > 100 && all.rereads > 200 && all.withdrawn > 5), "{all:?}");
}

/// Each defect of the shell is found, so each rule is needed and the model has what makes it so.
#[test]
fn planted_defects_are_found() {
    find(&[Defect::NoFence, Defect::EarlyMeasure, Defect::EarlyConfirm]);
}

/// Those that chance meets rarely: minutes.
#[test]
#[ignore = "takes minutes: cargo test --lib rare_planted -- --ignored"]
fn rare_planted_defects_are_found() {
    find(&[
        Defect::RereadUnseen,
        Defect::Disorder,
        Defect::ReadWithoutSnapshot,
        Defect::LookUpWithoutFence,
        Defect::FenceWithoutHeartbeat,
    ]);
}

fn find(defects: &[Defect]) {
    for defect in defects {
        let begin = std::time::Instant::now();
        let (_, failures) = run_all(*defect, 20_000);
        let found = failures.first().map(|(seed, text)| format!("GIMBAL_SEED={seed}: {text:.200}"));
        println!("{defect:?}: {found:?} after {:.1} s", begin.elapsed().as_secs_f32());
        assert!(found.is_some(), "{defect:?} was not found");
    }
}
