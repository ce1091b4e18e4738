//! Readers beside the writer, and writers beside each other.

use std::time::Instant;

use super::*;
use crate::error::Code;
use crate::sink::Sink;

#[test]
fn a_reader_that_polls_sees_every_record_once_and_in_order_while_files_roll() {
    const COMMITS: u64 = 400;
    const ROWS: u32 = 5;
    let folder = folder();
    let hand = Hand::default();
    let mut sink = hand.sink(Disk::default(), folder.path(), 1_000).unwrap();
    sink.load().unwrap();
    sink.declare(&specs(0)).unwrap();
    let mut reader = TopicReader::open(folder.path(), TOPICS[0]).unwrap();
    assert!(reader.next().unwrap().is_none());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..COMMITS as u32 {
                let rows =
                    (0..ROWS).map(|i| Row { topic: 0, number: n * ROWS + i, text: Some(50), last: i + 1 == ROWS });
                sink.commit(&batch(&rows.collect::<Vec<_>>(), u64::from(n) + 1, 0)).unwrap();
                hand.advance(if n % 50 == 0 { 61 } else { 0 });
            }
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut seen, mut in_transaction) = (0, 0);
        while seen < COMMITS as u32 * ROWS {
            match reader.next().unwrap() {
                Some(record) => {
                    assert_eq!(record.position.ordinal, seen);
                    seen += 1;
                    in_transaction = if record.last { 0 } else { in_transaction + 1 };
                }
                None => {
                    assert_eq!(in_transaction, 0, "a part of a commit is visible");
                    assert!(Instant::now() < deadline, "{seen} records seen");
                    std::thread::yield_now();
                }
            }
        }
        assert!(reader.next().unwrap().is_none());
    });
    let files = files_in_order(&folder.path().join(TOPICS[0]));
    assert!(files.len() > 50, "{} files", files.len());
}

#[test]
fn a_second_writer_is_refused_and_the_first_goes_on() {
    let folder = folder();
    let mut sink = FilesSink::open(folder.path(), "shop", FilesOptions::default()).unwrap();
    let refused = FilesSink::open(folder.path(), "shop", FilesOptions::default()).err().unwrap();
    assert_eq!(refused.code(), Code::SinkHeld);
    assert!(refused.diagnosis().contains(&std::process::id().to_string()), "{refused}");
    sink.load().unwrap();
    sink.declare(&specs(0)).unwrap();
    let row = Row { topic: 0, number: 1, text: Some(9), last: true };
    sink.commit(&batch(std::slice::from_ref(&row), 1, 0)).unwrap();
    drop(sink);
    FilesSink::open(folder.path(), "shop", FilesOptions::default()).unwrap().load().unwrap();
    assert_eq!(read_back(folder.path()), [row]);
}

#[test]
fn a_folder_belongs_to_one_pipeline() {
    let folder = folder();
    FilesSink::open(folder.path(), "shop", FilesOptions::default()).unwrap().load().unwrap();
    let refused = FilesSink::open(folder.path(), "other", FilesOptions::default()).unwrap().load().unwrap_err();
    assert_eq!(refused.code(), Code::SinkRefused);
    assert!(refused.diagnosis().contains("`shop`") && refused.diagnosis().contains("`other`"), "{refused}");
}

#[test]
fn an_unknown_topic_is_answered_with_the_known_ones_and_a_declared_one_is_empty() {
    let folder = folder();
    assert_eq!(TopicReader::open(folder.path(), "x").err().unwrap().code(), Code::Usage);
    let mut sink = FilesSink::open(folder.path(), "shop", FilesOptions::default()).unwrap();
    sink.load().unwrap();
    sink.declare(&specs(0)).unwrap();
    let unknown = TopicReader::open(folder.path(), "../orders").err().unwrap();
    assert_eq!(unknown.code(), Code::Usage);
    assert!(TOPICS.iter().all(|topic| unknown.diagnosis().contains(topic)), "{unknown}");
    assert!(TopicReader::open(folder.path(), TOPICS[1]).unwrap().next().unwrap().is_none());
}

#[test]
fn whole_records_past_the_committed_length_do_not_exist() {
    let folder = folder();
    let hand = Hand::default();
    let mut sink = hand.sink(Disk::default(), folder.path(), u64::MAX).unwrap();
    sink.load().unwrap();
    sink.declare(&specs(0)).unwrap();
    let row = |number| Row { topic: 0, number, text: Some(9), last: true };
    sink.commit(&batch(&[row(1)], 1, 0)).unwrap();
    let path = files_in_order(&folder.path().join(TOPICS[0])).remove(0);
    let committed = std::fs::read(&path).unwrap();
    sink.commit(&batch(&[row(2)], 2, 0)).unwrap();
    let block = std::fs::read(&path).unwrap().split_off(committed.len());
    let mut reader = TopicReader::open(folder.path(), TOPICS[0]).unwrap();
    // What a writer has written before its manifest, or what one left that was killed there.
    let longer = [&committed[..], &block, &block, &block[..7]].concat();
    std::fs::write(&path, &longer).unwrap();
    for ordinal in [1, 2] {
        assert_eq!(reader.next().unwrap().unwrap().position.ordinal, ordinal);
    }
    assert!(reader.next().unwrap().is_none());
    drop(sink);
    hand.sink(Disk::default(), folder.path(), u64::MAX).unwrap().load().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [committed, block].concat());
}
