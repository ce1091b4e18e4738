//! Measures the Kafka sink against a running broker: full batches for throughput, single records for latency.
//!
//! ```text
//! cargo run --release --example kafka_sink_bench -- 127.0.0.1:9092 [seconds] [property=value …]
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gimbal::batch::{Batch, Op, Record, Span, StateChange, TopicId};
use gimbal::lsn::Lsn;
use gimbal::position::Position;
use gimbal::sink::kafka::{CommitBreakdown, KafkaOptions, KafkaSink};
use gimbal::sink::{RegisteredSchema, Retention, Sink, TopicSpec};

/// Records of a full batch, as the daemon cuts them.
const BATCH_RECORDS: u32 = 20_000;
/// Bytes of one value, about a row of the shop's orders.
const VALUE_BYTES: u32 = 120;
/// Single-record commits that are measured.
const SINGLES: usize = 500;
/// Between two of them, in the run that is idle most of the time.
const IDLE: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().ok_or("say the broker's address")?;
    let seconds: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let properties: BTreeMap<String, String> =
        arguments.filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))).collect();
    let pipeline = format!("bench-{}", std::process::id());
    let schema = RegisteredSchema { id: 1, json: "\"bytes\"".to_owned() };
    let topic = TopicSpec {
        name: format!("{pipeline}.orders"),
        partitions: 6,
        retention: Retention::Append,
        key: Some(schema.clone()),
        value: schema,
    };
    let mut sink = KafkaSink::new(KafkaOptions {
        bootstrap,
        replication: 1,
        properties,
        transactional_id: pipeline.clone(),
        pipeline,
    })?;
    let start = Instant::now();
    sink.load()?;
    println!("load                 {:>8.1} ms", millis(start.elapsed()));
    let start = Instant::now();
    sink.declare(&[topic])?;
    println!("declare              {:>8.1} ms", millis(start.elapsed()));

    let mut next = 0;
    throughput(&mut sink, &mut next, Duration::from_secs(seconds))?;
    singles(&mut sink, &mut next, "singles, back to back", Duration::ZERO)?;
    singles(&mut sink, &mut next, "singles, idle between", IDLE)?;
    let start = Instant::now();
    sink.load()?;
    println!("load again           {:>8.1} ms", millis(start.elapsed()));
    println!("commits settled      {:>8}", sink.settled_commits());
    Ok(())
}

fn throughput(sink: &mut KafkaSink, next: &mut u32, limit: Duration) -> gimbal::error::Result<()> {
    let mut batch = Batch::default();
    fill(&mut batch, next, BATCH_RECORDS);
    sink.commit(&batch)?;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let (mut commits, mut sum) = (0u32, CommitBreakdown::default());
    while start.elapsed() < limit {
        renew(&mut batch, next);
        sink.commit(&batch)?;
        let one = sink.commit_breakdown();
        sum.produce += one.produce;
        sum.drain += one.drain;
        sum.commit += one.commit;
        commits += 1;
    }
    let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let records = f64::from(commits) * f64::from(BATCH_RECORDS);
    println!(
        "throughput           {:>8.0} records/s, {:.2} CPU-s per million; of {:.1} ms a batch: produce {:.1}, drain {:.1}, commit {:.1}",
        records / elapsed,
        cpu / records * 1e6,
        elapsed * 1e3 / f64::from(commits),
        millis(sum.produce / commits),
        millis(sum.drain / commits),
        millis(sum.commit / commits),
    );
    Ok(())
}

fn singles(sink: &mut KafkaSink, next: &mut u32, name: &str, idle: Duration) -> gimbal::error::Result<()> {
    let mut batch = Batch::default();
    let (mut total, mut drain, mut commit) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SINGLES {
        batch.clear();
        fill(&mut batch, next, 1);
        std::thread::sleep(idle);
        let start = Instant::now();
        sink.commit(&batch)?;
        total.push(start.elapsed());
        drain.push(sink.commit_breakdown().drain);
        commit.push(sink.commit_breakdown().commit);
    }
    println!(
        "{name:<21}{:>8.1} ms p50, {:.1} p99 (drain {:.1}, commit {:.1} p50)",
        percentile(&mut total, 50),
        percentile(&mut total, 99),
        percentile(&mut drain, 50),
        percentile(&mut commit, 50),
    );
    Ok(())
}

fn fill(batch: &mut Batch, next: &mut u32, records: u32) {
    for _ in 0..records {
        let key = append(batch, 9, *next);
        let value = append(batch, VALUE_BYTES, *next);
        let position = Position { epoch: 0, commit_lsn: Lsn(u64::from(*next / 10)), ordinal: *next };
        let (key, value) = (Some(key), Some(value));
        batch.records.push(Record {
            topic: TopicId(0),
            op: Op::Update,
            position,
            timestamp: 0,
            key,
            value,
            last: false,
            reread: None,
        });
        *next += 1;
    }
    let value = Some(next.to_be_bytes().repeat(40));
    batch.state.push(StateChange { key: "position".to_owned(), value });
}

/// The same records under another checkpoint: filling a batch is not what is measured.
fn renew(batch: &mut Batch, next: &mut u32) {
    *next += BATCH_RECORDS;
    for change in &mut batch.state {
        change.value = Some(next.to_be_bytes().repeat(40));
    }
}

fn append(batch: &mut Batch, len: u32, seed: u32) -> Span {
    let start = batch.bytes.len() as u32;
    // Half of it repeats and half does not, as rows do.
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    batch.bytes.extend((0..len).map(|i| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if i % 2 == 0 { (state >> 24) as u8 } else { b'a' }
    }));
    Span { start, len }
}

fn percentile(samples: &mut [Duration], percent: usize) -> f64 {
    samples.sort_unstable();
    samples.get((samples.len() * percent / 100).min(samples.len().saturating_sub(1))).map_or(0.0, |d| millis(*d))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// User and system time of this process, from the kernel's ticks (100 a second).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
