//! Records per second of the sink (with its syncs) and of its reader (processor time). Run with optimisation:
//! `cargo test --release --lib -- --ignored --nocapture throughput`.

use std::time::Instant;

use super::*;
use crate::sink::Sink;
use crate::sink::ocf::{write_bytes, write_long};

const RECORDS: u32 = 1_000_000;
const BATCH: u32 = 20_000;

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"order_id","type":"long"},
    {"name":"customer","type":["null","long"]},
    {"name":"status","type":{"type":"enum","name":"Status","symbols":["NEW","PAID"]}},
    {"name":"total","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},
    {"name":"email","type":["null","string"]},
    {"name":"region","type":["null","string"]},
    {"name":"note","type":["null","string"]},
    {"name":"placed_at","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
    {"name":"guest","type":"boolean"}]}"#;

/// Appends one framed order of some 90 bytes to the batch's arena.
fn put_order(batch: &mut Batch, n: u32) -> (Span, Span) {
    let start = batch.bytes.len();
    let out = &mut batch.bytes;
    out.extend([0, 0, 0, 0, 1]);
    write_long(out, i64::from(n));
    let middle = out.len();
    out.extend([0, 0, 0, 0, 2]);
    write_long(out, i64::from(n));
    out.push(2);
    write_long(out, i64::from(n % 100_000));
    out.extend([2, 2]);
    write_bytes(out, &n.to_be_bytes());
    for text in ["someone.somewhere@example.org", "Baden-Württemberg"] {
        out.push(2);
        write_bytes(out, text.as_bytes());
    }
    out.push(0);
    out.push(2);
    write_long(out, 1_700_000_000_000_000 + i64::from(n));
    out.push(0);
    let span = |start: usize, end: usize| Span { start: start as u32, len: (end - start) as u32 };
    (span(start, middle), span(middle, out.len()))
}

/// Time that this thread was on a processor, so that a busy machine does not count.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local value that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
#[ignore = "a measurement"]
fn throughput() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = FilesSink::open(folder.path(), "shop", FilesOptions::default()).unwrap();
    sink.load().unwrap();
    let spec = TopicSpec {
        key: Some(RegisteredSchema { id: 1, json: KEY.into() }),
        value: RegisteredSchema { id: 2, json: ORDER.into() },
        ..specs(0).remove(0)
    };
    sink.declare(&[spec]).unwrap();
    let (mut spent, mut spent_processor) = (Duration::ZERO, Duration::ZERO);
    let mut batch = Batch::default();
    for first in (0..RECORDS).step_by(BATCH as usize) {
        batch.clear();
        for n in first..first + BATCH {
            let (key, value) = put_order(&mut batch, n);
            batch.records.push(Record {
                topic: TopicId(0),
                op: Op::Create,
                position: Position { epoch: 0, commit_lsn: Lsn(u64::from(first)), ordinal: n },
                timestamp: 1_700_000_000_000_000,
                key: Some(key),
                value: Some(value),
                last: false,
                reread: None,
            });
        }
        batch.state.push(StateChange { key: "position".into(), value: Some(vec![b'x'; 20_000]) });
        let (start, start_processor) = (Instant::now(), processor_time());
        sink.commit(&batch).unwrap();
        spent += start.elapsed();
        spent_processor += processor_time() - start_processor;
    }
    let rate = |spent: Duration| f64::from(RECORDS) / spent.as_secs_f64() / 1_000.0;
    println!(
        "commit: {:.0} k records/s, batches of {BATCH}; {:.0} by processor time",
        rate(spent),
        rate(spent_processor)
    );
    let start = processor_time();
    let mut reader = TopicReader::open(folder.path(), TOPICS[0]).unwrap();
    let mut records = 0;
    while reader.next().unwrap().is_some() {
        records += 1;
    }
    assert_eq!(records, RECORDS);
    println!("read: {:.0} k records/s", rate(processor_time() - start));
    let start = processor_time();
    let mut reader = TopicReader::open(folder.path(), TOPICS[0]).unwrap();
    let mut bytes = 0;
    while let Some(record) = reader.next().unwrap() {
        bytes += record.to_json().to_string().len();
    }
    println!("read and print as JSON: {:.0} k records/s, {} MB", rate(processor_time() - start), bytes >> 20);
    let start = processor_time();
    let mut records = 0;
    for path in files_in_order(&folder.path().join(TOPICS[0])) {
        let reader = apache_avro::Reader::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).unwrap();
        records += reader.inspect(|record| assert!(record.is_ok())).count();
    }
    assert_eq!(records, RECORDS as usize);
    println!("read by apache_avro: {:.0} k records/s", rate(processor_time() - start));
}
