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
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gimbal::batch::Batch;
use support::capture::{Capture, Recorded, record, replay_once};
use support::{MIX_MESSAGES, spread};

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

fn main() {
    let recorded = record(TRANSACTIONS);
    let mut engine = recorded.engine(1, 1);
    let Recorded { mut capture, .. } = recorded;
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
