//! Random histories with crashes, against a model: committed is visible, uncommitted is not, all of it once.

use std::io::ErrorKind;

use proptest::prelude::*;

use super::simulated::{CRASHES, Crash, Simulated};
use super::*;
use crate::sink::Sink;

#[derive(Clone, Debug)]
struct Commit {
    rows: Vec<(usize, Option<usize>, bool)>,
    minor: u32,
    seconds: u64,
    /// Crash at this operation of the commit, if it has so many.
    crash: Option<(usize, Crash)>,
}

fn commit() -> impl Strategy<Value = Commit> {
    let row = (0..TOPICS.len(), prop::option::weighted(0.8, 10usize..400), any::<bool>());
    let crash = (0usize..24, prop::sample::select(&CRASHES[..]));
    (prop::collection::vec(row, 0..12), 0u32..2, 0u64..50, prop::option::weighted(0.4, crash))
        .prop_map(|(rows, minor, seconds, crash)| Commit { rows, minor, seconds, crash })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn what_is_committed_is_visible_once_and_nothing_else(history in prop::collection::vec(commit(), 1..20), roll in 200u64..3000) {
        let hand = Hand::default();
        let mut dir = folder();
        let mut simulated = Simulated::on(dir.path());
        let mut sink = hand.sink(simulated.disk(), dir.path(), roll).unwrap();
        prop_assert_eq!(checkpoint(&sink.load().unwrap()), 0);
        sink.declare(&specs(0)).unwrap();
        let mut model: Vec<Row> = Vec::new();
        let mut number = 0;
        for (i, commit) in history.iter().enumerate() {
            let n = i as u64 + 1;
            let rows: Vec<Row> = commit.rows.iter().map(|&(topic, text, last)| {
                number += 1;
                Row { topic, number, text, last }
            }).collect();
            let batch = batch(&rows, n, commit.minor);
            sink.declare(&specs(commit.minor)).unwrap();
            hand.advance(commit.seconds);
            if let Some((step, crash)) = commit.crash {
                simulated.crash_after(step, ErrorKind::Other);
                let outcome = sink.commit(&batch);
                drop(sink);
                let left = folder();
                simulated.survive(crash, dir.path(), left.path());
                dir = left;
                simulated = Simulated::on(dir.path());
                sink = hand.sink(simulated.disk(), dir.path(), roll).unwrap();
                let loaded = checkpoint(&sink.load().unwrap());
                prop_assert!(loaded == n || (loaded == n - 1 && outcome.is_err()), "loaded {} of {}", loaded, n);
                sink.declare(&specs(commit.minor)).unwrap();
                if loaded < n {
                    sink.commit(&batch).unwrap();
                }
            } else {
                sink.commit(&batch).unwrap();
            }
            model.extend(rows);
            prop_assert_eq!(read_back(dir.path()), by_topic(model.clone()));
        }
        prop_assert_eq!(read_back_by_reference(dir.path()), by_topic(model));
    }
}
