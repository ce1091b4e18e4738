//! From commit to a `read_committed` reader, at a fixed rate whatever the daemon does.
//!
//! Every row has an intended moment, and its latency counts from there: a load that falls behind would otherwise hide
//! the very delays that it is there to show. The second figure counts from the moment when the commit returned.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset};

use crate::backlog::Backlog;
use crate::contender::Lab;
use crate::support::lab::{Sql, eventually};
use crate::topic;

/// Connections that commit: enough that none is late.
const WRITERS: u64 = 4;
/// Rows of the warm-up, which are not counted, per second of it.
const WARM_UP_SECONDS: u64 = 2;
/// The first row's number.
const FIRST: u64 = 1;

/// Runs a daemon to Kafka beside a load of `rate` transactions of one row a second.
pub fn measure(lab: &Lab, rate: u64, seconds: u64) {
    let name = lab.name("latency");
    let base = Backlog::empty(lab, &name);
    let slot = lab.name("latency");
    let sink = format!("kafka: {{bootstrap: \"{}\"}}", lab.bootstrap());
    let folder = base.copy(lab, &slot, &slot, &format!("bench.{slot}.v{{major}}"), &sink);
    topic::seed(lab.bootstrap(), &slot, &base.checkpoint());
    let mut daemon = lab.gimbal(&folder).spawn().expect("gimbal starts");
    let topic = format!("bench.{slot}.v1");
    eventually("the daemon streams", Duration::from_secs(30), || lab.walsender(&slot));
    // It creates the topic after it has the slot; a first row shows that everything runs.
    lab.sql().run("insert into orders select * from order_rows(0, 0)");
    eventually("the first row arrives", Duration::from_secs(30), || {
        let exists = topic::partitions(lab.bootstrap(), &topic) > 0;
        (exists && topic::read(lab.bootstrap(), &topic).records == 1).then_some(())
    });

    let count = rate * (seconds + WARM_UP_SECONDS);
    let load = Arc::new(Load::new(rate, count));
    let stop = Arc::new(AtomicBool::new(false));
    let seen = {
        let (consumer, _) = topic::reader(lab.bootstrap(), &topic, Offset::Beginning);
        let (load, stop) = (Arc::clone(&load), Arc::clone(&stop));
        std::thread::spawn(move || see(&consumer, &load, &stop))
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (load, sql) = (Arc::clone(&load), Sql::connect(lab.url()));
            std::thread::spawn(move || load.write(writer, &sql))
        })
        .collect();
    for writer in writers {
        writer.join().expect("a writer ends");
    }
    let limit = Instant::now() + Duration::from_secs(20);
    while load.visible.load(Ordering::Acquire) < count && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::Release);
    let seen = seen.join().expect("the reader ends");
    assert_eq!(seen.len() as u64, count, "rows that became visible");
    daemon.kill().expect("the daemon is ours");
    daemon.wait().expect("the daemon ends");
    lab.drop_slot(&slot);
    base.remove(lab);
    report(&load, &seen, rate);
}

/// Rows at their intended moments.
struct Load {
    begin: Instant,
    rate: u64,
    count: u64,
    /// When each commit returned, in nanoseconds since the beginning.
    committed: Vec<AtomicU64>,
    visible: AtomicU64,
}

impl Load {
    fn new(rate: u64, count: u64) -> Load {
        let committed = (0..count).map(|_| AtomicU64::new(0)).collect();
        // A moment ahead, so that no writer is late from the start.
        Load { begin: Instant::now() + Duration::from_millis(300), rate, count, committed, visible: AtomicU64::new(0) }
    }

    fn intended(&self, row: u64) -> Duration {
        Duration::from_nanos(row * 1_000_000_000 / self.rate)
    }

    fn write(&self, writer: u64, sql: &Sql) {
        sql.run("prepare one(bigint) as insert into orders select * from order_rows($1, $1)");
        for row in (writer..self.count).step_by(WRITERS as usize) {
            std::thread::sleep((self.begin + self.intended(row)).saturating_duration_since(Instant::now()));
            let number = FIRST + row;
            sql.run(&format!("execute one({number})"));
            let took = self.begin.elapsed().as_nanos() as u64;
            self.committed[row as usize].store(took, Ordering::Release);
        }
    }
}

/// When each row was seen first.
fn see(consumer: &rdkafka::consumer::BaseConsumer, load: &Load, stop: &AtomicBool) -> HashMap<u64, Duration> {
    let mut seen = HashMap::new();
    while !stop.load(Ordering::Acquire) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let now = load.begin.elapsed();
                let number = order_id(message.key().expect("a key"));
                if number >= FIRST {
                    assert!(seen.insert(number - FIRST, now).is_none(), "row {number} came twice");
                    load.visible.fetch_add(1, Ordering::AcqRel);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => panic!("reading: {error}"),
        }
    }
    consumer.unassign().expect("the reader lets go");
    seen
}

/// The one field of the key: a long behind the frame.
fn order_id(key: &[u8]) -> u64 {
    key.iter().skip(5).rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7F)) >> 1
}

fn report(load: &Load, seen: &HashMap<u64, Duration>, rate: u64) {
    let warm = rate * WARM_UP_SECONDS;
    let millis = |from: Duration, to: Duration| (to.as_secs_f64() - from.as_secs_f64()) * 1e3;
    let counted = || seen.iter().filter(|(row, _)| **row >= warm);
    let from_intended = counted().map(|(row, at)| millis(load.intended(*row), *at)).collect();
    let committed = |row: u64| Duration::from_nanos(load.committed[row as usize].load(Ordering::Acquire));
    // A reader can be quicker than the answer to COMMIT.
    let from_commit = counted().map(|(row, at)| millis(committed(*row), *at).max(0.0)).collect();
    println!();
    println!("## latency at {rate} transactions/s, Kafka exactly-once: {} rows, milliseconds", counted().count());
    println!();
    println!("| | p50 | p90 | p99 | p99.9 | max |");
    println!("| --- | --- | --- | --- | --- | --- |");
    percentiles("intended moment → visible", from_intended);
    percentiles("COMMIT returned → visible", from_commit);
    println!();
    println!("load average {}", crate::machine::load());
}

fn percentiles(name: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1];
    let columns = [0.5, 0.9, 0.99, 0.999, 1.0].map(|share| format!("{:.1}", at(share)));
    println!("| {name} | {} |", columns.join(" | "));
}
