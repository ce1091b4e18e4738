//! A full disk: a definite error, nothing half visible, and what was committed stays readable.

use std::io::ErrorKind;

use super::simulated::Simulated;
use super::*;
use crate::error::{Code, Kind};
use crate::sink::Sink;

#[test]
fn a_full_disk_stops_a_commit_at_any_operation_without_a_trace() {
    let first: Vec<Row> = (0..20).map(|number| Row { topic: 0, number, text: Some(30), last: false }).collect();
    let second: Vec<Row> =
        (20..60).map(|number| Row { topic: number as usize % 3, number, text: Some(100), last: false }).collect();
    let mut failed = 0;
    for step in 0.. {
        let folder = folder();
        let simulated = Simulated::on(folder.path());
        let mut sink = Hand::default().sink(simulated.disk(), folder.path(), 500).unwrap();
        sink.load().unwrap();
        sink.declare(&specs(0)).unwrap();
        sink.commit(&batch(&first, 1, 0)).unwrap();
        simulated.crash_after(step, ErrorKind::StorageFull);
        let Err(error) = sink.commit(&batch(&second, 2, 0)) else { break };
        failed += 1;
        assert_eq!((error.kind(), error.code()), (Kind::Definite, Code::SinkRefused), "step {step}");
        assert!(error.hint_text().unwrap().contains("free space"), "step {step}");
        let visible = read_back(folder.path());
        // After the rename the commit is visible, though the folder could not be synced: all of it, never a part.
        assert!(
            visible == by_topic(first.clone()) || visible == by_topic([&first[..], &second].concat()),
            "step {step}"
        );
        assert_eq!(
            sink.commit(&batch(&second, 2, 0)).unwrap_err().code(),
            Code::Internal,
            "it is not used before a load"
        );
        simulated.mend();
        if checkpoint(&sink.load().unwrap()) == 1 {
            sink.commit(&batch(&second, 2, 0)).unwrap();
        }
        assert_eq!(read_back(folder.path()), by_topic([&first[..], &second].concat()), "step {step}");
        assert_eq!(read_back_by_reference(folder.path()), by_topic([&first[..], &second].concat()), "step {step}");
    }
    assert!(failed >= 12, "only {failed} operations");
}

#[test]
fn a_failed_commit_gives_its_room_back() {
    let folder = folder();
    let simulated = Simulated::on(folder.path());
    let mut sink = Hand::default().sink(simulated.disk(), folder.path(), 1 << 20).unwrap();
    sink.load().unwrap();
    sink.declare(&specs(0)).unwrap();
    let row = |number, len| Row { topic: 0, number, text: Some(len), last: false };
    sink.commit(&batch(&[row(1, 10)], 1, 0)).unwrap();
    let size =
        || files_in_order(&folder.path().join(TOPICS[0])).iter().map(|f| f.metadata().unwrap().len()).sum::<u64>();
    let before = size();
    // The bytes are written and synced, then there is no room for the next manifest.
    simulated.fail_once_after(2, ErrorKind::StorageFull);
    sink.commit(&batch(&[row(2, 60_000)], 2, 0)).unwrap_err();
    assert_eq!(size(), before);
    assert_eq!(read_back(folder.path()), [row(1, 10)]);
}
