//! The pure core, from pgoutput's bytes to a batch: nanoseconds, allocations and instructions per change.
//!
//! ```text
//!  PostgreSQL ─ recorded once ─▶ messages ─▶ engine.step (decode, project, encode) ─▶ Batch   (measured, over and over)
//! ```
//!
//! `cargo bench --bench capture`. Between two passes the positions in the recorded Begin and Commit messages are moved
//! on, so that the engine takes every pass for new transactions. Instructions are counted by callgrind, in a process of
//! their own, where valgrind is installed.

mod support;

use std::alloc::{GlobalAlloc, Layout};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gimbal::batch::{Batch, TopicId};
use gimbal::daemon::bind::{Ids, bind};
use gimbal::engine::{Engine, Input, Limits, Sample, Setup, Step};
use gimbal::history::History;
use gimbal::lsn::Lsn;
use gimbal::position::Position;
use gimbal::postgres::connection::Connection;
use gimbal::postgres::frames::Frame;
use gimbal::postgres::stream::{Stream, StreamEvent};
use gimbal::postgres::{sampling, slot, sql};
use gimbal::state::{CachedId, Phase, PositionEntry, Progress};
use gimbal::table::QualifiedName;
use support::{MIX_MESSAGES, PUBLICATIONS, contract_version, create_table, lab, spread};

/// Transactions of the capture; 50,000 row messages in all.
const TRANSACTIONS: u64 = 50;
/// Measured passes over the capture, after two that warm up.
const PASSES: usize = 60;
/// Set for the process that runs under callgrind.
const COUNTED: &str = "GIMBAL_BENCH_COUNTED";

/// mimalloc, as in the program, with a count.
struct Counting(mimalloc::MiMalloc);

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    ALLOCATED.fetch_add(bytes as u64, Ordering::Relaxed);
}

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { self.0.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { self.0.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(mimalloc::MiMalloc);

/// Messages as they came, one behind the other.
struct Capture {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Capture {
    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut start, *end)..*end])
    }

    /// Moves every position on by `distance`.
    fn advance(&mut self, distance: u64) {
        let mut start = 0;
        for end in &self.ends {
            let message = &mut self.bytes[std::mem::replace(&mut start, *end)..*end];
            let places: &[usize] = match message[0] {
                b'B' => &[1],
                b'C' => &[2, 10],
                _ => &[],
            };
            for place in places {
                let lsn: &mut [u8; 8] = (&mut message[*place..place + 8]).try_into().expect("eight bytes");
                *lsn = (u64::from_be_bytes(*lsn) + distance).to_be_bytes();
            }
        }
    }
}

/// Records the messages, and sets up an engine that has not seen them.
fn record() -> (Capture, Engine) {
    let database = lab::postgres().fresh_database("bench_capture");
    create_table(&database);
    let source = sql::Source::of_url(&format!("{}?sslmode=disable", database.url()), None).expect("a URL");
    let mut connection = Connection::connect(&source.url, None).expect("a connection");
    let identity = connection.identify_system().expect("an identity");
    let name = QualifiedName { namespace: "public".to_owned(), name: "orders".to_owned() };
    let (start, before) = slot::create(&mut connection, "bench_capture", &[name]).expect("a slot");
    database.run(&format!("call mix({TRANSACTIONS})"));
    let relations = [before.images[0].relation];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let after = runtime.block_on(async {
        let client = sql::connect(&source).await.expect("a connection");
        sampling::sample(&client, &relations).await.expect("a sample")
    });
    let stream = Stream::spawn(connection, "bench_capture", &PUBLICATIONS).expect("a stream");
    let mut capture = Capture { bytes: Vec::new(), ends: Vec::new() };
    let mut commits = 0;
    while commits < TRANSACTIONS {
        match stream.events.recv_timeout(Duration::from_secs(60)).expect("the stream goes on") {
            StreamEvent::Ended(error) => panic!("{error}"),
            StreamEvent::Frames(buffer) => {
                for frame in buffer.frames() {
                    let Frame::Data { message, .. } = frame else { continue };
                    capture.bytes.extend_from_slice(message);
                    capture.ends.push(capture.bytes.len());
                    commits += u64::from(message[0] == b'C');
                }
            }
        }
    }
    stream.stop().expect("the stream stops");
    database.run("select pg_drop_replication_slot('bench_capture')");
    let position = PositionEntry {
        seq: 0,
        phase: Phase::Started,
        epoch: 0,
        system_id: identity.system_id,
        timeline: identity.timeline,
        commit_lsn: Lsn(start.0 - 1),
        next_ordinal: 0,
        complete: true,
        end_lsn: start,
        anchor: None,
        ack: start,
    };
    (capture, engine(position, before, after))
}

fn engine(position: PositionEntry, before: Sample, after: Sample) -> Engine {
    let (image, fence) = (&before.images[0], before.snapshot.xmax);
    let id = |id| CachedId { id, fingerprint: String::new() };
    let ids = Ids { key: Some(id(1)), value: id(2), parcels: None };
    let mut contract =
        bind(Arc::new(contract_version(&before.images)), TopicId(0), ids, None, image.relation, Some(image))
            .expect("it binds");
    contract.entry.progress = Progress::Live { since: Position::default() };
    let setup = Setup {
        position,
        counted: vec![image.relation],
        uncounted: Vec::new(),
        contracts: vec![contract],
        ended: Vec::new(),
        history: History::default(),
        sample: before,
        copies: Vec::new(),
        fence,
        limits: Limits::default(),
        sealing: None,
    };
    let mut engine = Engine::new(setup).expect("an engine");
    let (mut batch, mut requests) = (Batch::default(), Vec::new());
    engine.start(&mut batch, &mut requests).expect("it starts");
    engine.step(Input::Sample(after), &mut batch, &mut requests).expect("a sample is taken");
    engine
}

/// What one pass made.
#[derive(Default)]
struct Made {
    records: u64,
    bytes: u64,
}

/// One pass over the capture. Not inlined: callgrind collects inside it.
#[inline(never)]
fn replay_once(capture: &Capture, engine: &mut Engine, batch: &mut Batch) -> Made {
    let mut made = Made::default();
    let mut requests = Vec::new();
    let mut seal = |engine: &mut Engine, batch: &mut Batch| {
        engine.seal(batch).expect("it seals");
        made.records += batch.records.len() as u64;
        made.bytes += batch.bytes.len() as u64;
        batch.clear();
    };
    for message in capture.messages() {
        loop {
            match engine.step(Input::Message(message), batch, &mut requests).expect("a step") {
                Step::Done => break,
                Step::Full => seal(engine, batch),
                Step::Wait => panic!("the engine waits for a sample"),
            }
        }
    }
    seal(engine, batch);
    made
}

fn main() {
    let (mut capture, mut engine) = record();
    let mut batch = Batch::default();
    let changes = TRANSACTIONS * MIX_MESSAGES;
    let mut pass = |capture: &mut Capture| {
        capture.advance(1 << 32);
        let (allocations, allocated) = (ALLOCATIONS.load(Ordering::Relaxed), ALLOCATED.load(Ordering::Relaxed));
        let begin = Instant::now();
        let made = replay_once(capture, &mut engine, &mut batch);
        let took = begin.elapsed();
        assert_eq!(made.records, changes, "every change is a record");
        let per_change = |after: u64, before: u64| (after - before) as f64 / changes as f64;
        let allocations = per_change(ALLOCATIONS.load(Ordering::Relaxed), allocations);
        let allocated = per_change(ALLOCATED.load(Ordering::Relaxed), allocated);
        (took.as_nanos() as f64 / changes as f64, allocations, allocated, made.bytes as f64 / changes as f64)
    };
    for _ in 0..2 {
        pass(&mut capture);
    }
    if std::env::var_os(COUNTED).is_some() {
        return;
    }
    let passes: Vec<_> = (0..PASSES).map(|_| pass(&mut capture)).collect();
    let [best, median, worst] = spread(passes.iter().map(|pass| pass.0));
    let [_, allocations, _] = spread(passes.iter().map(|pass| pass.1));
    let [_, allocated, _] = spread(passes.iter().map(|pass| pass.2));
    let input = capture.bytes.len() as f64 / changes as f64;
    println!("capture: {changes} changes in {TRANSACTIONS} transactions (70 % inserts, 20 % updates, 10 % deletes)");
    println!("  bytes a change       {input:.0} in, {:.0} out", passes[0].3);
    println!("  time a change        {median:.0} ns (best {best:.0}, worst {worst:.0}, {PASSES} passes)");
    println!("  allocations a change {allocations:.5}, {allocated:.2} bytes");
    match instructions() {
        Some(total) => println!("  instructions a change {:.0}", total as f64 / (2 * changes) as f64),
        None => println!("  instructions a change not counted (valgrind is not installed)"),
    }
}

/// Instructions of two passes, the first and the second, by callgrind.
fn instructions() -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*replay_once*"])
        .arg(std::env::current_exe().ok()?)
        .env(COUNTED, "1")
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    collected.and_then(|(_, number)| number.trim().parse().ok())
}
