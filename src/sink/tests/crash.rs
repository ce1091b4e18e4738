//! A crash after every single file operation of a small history: what was committed is there, once, and nothing else.

use std::io::ErrorKind;
use std::path::Path;

use super::simulated::{CRASHES, Crash, Simulated};
use super::*;
use crate::sink::Sink;

/// Rows of the commits 1, 2, … : small ones, one that rolls within itself, a new minor, an idle one.
fn history() -> Vec<Vec<Row>> {
    let row = |topic, number, text| Row { topic, number, text, last: number % 2 == 0 };
    vec![
        vec![row(0, 1, Some(10)), row(1, 2, Some(5))],
        vec![row(0, 3, None), row(2, 4, Some(50))],
        // Three blocks for topic 0, and a file that is full after the first.
        (5..29).map(|n| row(n as usize % 2, n, Some(60_000))).collect(),
        vec![],
        vec![row(0, 50, Some(8)), row(1, 51, Some(8)), row(2, 52, None)],
        vec![row(0, 53, Some(8))],
    ]
}

fn minor_of(commit: usize) -> u32 {
    u32::from(commit >= 4)
}

const ROLL_BYTES: u64 = 300_000;

/// Loads and commits what is missing. Returns the number of the last commit that returned without an error.
fn run(hand: &Hand, disk: Disk, folder: &Path, history: &[Vec<Row>]) -> (u64, Result<()>) {
    let mut done = 0;
    let result = continue_history(hand, disk, folder, history, &mut done);
    (done, result)
}

fn continue_history(hand: &Hand, disk: Disk, folder: &Path, history: &[Vec<Row>], done: &mut u64) -> Result<()> {
    let mut sink = hand.sink(disk, folder, ROLL_BYTES)?;
    *done = checkpoint(&sink.load()?);
    for (i, rows) in history.iter().enumerate().skip(*done as usize) {
        sink.declare(&specs(minor_of(i)))?;
        hand.advance(25);
        sink.commit(&batch(rows, i as u64 + 1, minor_of(i)))?;
        *done = i as u64 + 1;
    }
    Ok(())
}

fn committed(history: &[Vec<Row>], done: u64) -> Vec<Row> {
    by_topic(history[..done as usize].concat())
}

#[test]
fn after_a_crash_at_any_file_operation_every_commit_is_there_once() {
    let history = history();
    let undisturbed = folder();
    let whole = Simulated::on(undisturbed.path());
    let (done, result) = run(&Hand::default(), whole.disk(), undisturbed.path(), &history);
    result.unwrap();
    assert_eq!(done, history.len() as u64);
    assert_eq!(read_back(undisturbed.path()), committed(&history, done));
    assert_eq!(read_back_by_reference(undisturbed.path()), committed(&history, done));
    assert!(whole.steps() > 80, "the history is too short to be a test: {} steps", whole.steps());

    for step in 0..whole.steps() {
        for crash in CRASHES {
            let (before, after) = (folder(), folder());
            let simulated = Simulated::on(before.path());
            simulated.crash_after(step, ErrorKind::Other);
            let (returned, result) = run(&Hand::default(), simulated.disk(), before.path(), &history);
            // The last operations may be renames that fail without harm.
            assert!(result.is_err() || returned == history.len() as u64, "{crash:?} at step {step}");
            simulated.survive(crash, before.path(), after.path());
            check_and_finish(after.path(), &history, returned, crash, step);
        }
    }
}

/// Loads what a crash left, compares it with what was committed, and finishes the history on it.
fn check_and_finish(folder: &Path, history: &[Vec<Row>], returned: u64, crash: Crash, step: usize) {
    let mut sink = Hand::default().sink(Disk::default(), folder, ROLL_BYTES).unwrap();
    let loaded = sink.load().unwrap_or_else(|error| panic!("{crash:?} at step {step}: {error}"));
    let done = checkpoint(&loaded);
    assert!(done == returned || done == returned + 1, "{crash:?} at step {step}: {done} after {returned}");
    sink.declare(&specs(0)).unwrap();
    drop(sink);
    assert_eq!(read_back(folder), committed(history, done), "{crash:?} at step {step}");
    assert_eq!(read_back_by_reference(folder), committed(history, done), "{crash:?} at step {step}");
    let (finished, result) = run(&Hand::default(), Disk::default(), folder, history);
    result.unwrap();
    assert_eq!(read_back(folder), committed(history, finished), "{crash:?} at step {step}, finished");
    assert_eq!(read_back_by_reference(folder), committed(history, finished), "{crash:?} at step {step}, finished");
}

#[test]
fn a_crash_during_recovery_is_recovered_from_as_well() {
    let history = history();
    // A crash in the middle of the third commit, with files to cut, to remove and to rename.
    for first in (20..60).step_by(3) {
        for second in 0..6 {
            let (a, b, c) = (folder(), folder(), folder());
            let simulated = Simulated::on(a.path());
            simulated.crash_after(first, ErrorKind::Other);
            let (returned, _) = run(&Hand::default(), simulated.disk(), a.path(), &history);
            simulated.survive(Crash::Process, a.path(), b.path());
            let simulated = Simulated::on(b.path());
            let mut sink = Hand::default().sink(simulated.disk(), b.path(), ROLL_BYTES).unwrap();
            simulated.crash_after(second, ErrorKind::Other);
            let _ = sink.load();
            drop(sink);
            simulated.survive(Crash::PowerCut, b.path(), c.path());
            check_and_finish(c.path(), &history, returned, Crash::PowerCut, first * 100 + second);
        }
    }
}

#[test]
fn a_commit_of_any_size_needs_the_memory_of_a_few_blocks() {
    let folder = folder();
    let mut sink = Hand::default().sink(Disk::default(), folder.path(), u64::MAX).unwrap();
    sink.load().unwrap();
    sink.declare(&specs(0)).unwrap();
    let rows: Vec<Row> = (0..2_000).map(|number| Row { topic: 0, number, text: Some(20_000), last: false }).collect();
    sink.commit(&batch(&rows, 1, 0)).unwrap();
    assert_eq!(read_back(folder.path()).len(), rows.len());
    assert!(sink.buffer_bytes() < 4 << 20, "{} bytes for a batch of 40 MB", sink.buffer_bytes());
}
