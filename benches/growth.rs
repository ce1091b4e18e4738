//! How the cost of a change grows with the size of transactions, the number of tables, and the contracts on one table.
//!
//! `cargo bench --bench growth`. The pure core takes recorded rows again, spread anew over transactions and tables. All
//! cases take turns, so that a change of the machine's speed hits all alike; each is held against the first of its kind.

mod support;

use std::time::Instant;

use gimbal::batch::Batch;
use gimbal::engine::Engine;
use support::capture::{Capture, Recorded, record, replay_once};
use support::spread;

/// Rows of a pass, but for larger transactions.
const ROWS: usize = 50_000;
/// Measured passes over each case.
const PASSES: usize = 15;

/// Recorded messages by kind.
struct Parts {
    begin: Vec<u8>,
    relation: Vec<u8>,
    rows: Vec<Vec<u8>>,
    commit: Vec<u8>,
}

impl Parts {
    fn of(recorded: &Recorded) -> Parts {
        let kind = |wanted: &'static [u8]| {
            recorded.capture.messages().filter(move |message| wanted.contains(&message[0])).map(<[u8]>::to_vec)
        };
        let one = |wanted| kind(wanted).next().expect("a message of each kind");
        Parts { begin: one(b"B"), relation: one(b"R"), rows: kind(b"IUD").collect(), commit: one(b"C") }
    }

    /// Transactions of `size` rows, each on the next of `tables` tables.
    fn arrange(&self, first: u32, size: usize, tables: u32) -> (Capture, u64) {
        let mut capture = Capture::default();
        let transactions = (ROWS / size).max(1);
        let mut rows = self.rows.iter().cycle();
        for transaction in 0..transactions {
            let number = u32::try_from(transaction).expect("few transactions");
            let oid = (first + number % tables).to_be_bytes();
            let of_table = |message: &[u8]| [&message[..1], &oid[..], &message[5..]].concat();
            let at = u64::from_be_bytes(self.commit[2..10].try_into().expect("eight bytes")) + u64::from(number) * 256;
            capture.push(&[&self.begin[..1], &at.to_be_bytes()[..], &self.begin[9..]].concat());
            // A server describes a table once.
            if number < tables {
                capture.push(&of_table(&self.relation));
            }
            for _ in 0..size {
                capture.push(&of_table(rows.next().expect("rows")));
            }
            let end = at + 128;
            let ends = [&at.to_be_bytes()[..], &end.to_be_bytes()[..]].concat();
            capture.push(&[&self.commit[..2], &ends, &self.commit[18..]].concat());
        }
        (capture, (transactions * size) as u64)
    }
}

/// One point of a sweep.
struct Case {
    sweep: &'static str,
    value: u64,
    capture: Capture,
    rows: u64,
    contracts: u64,
    engine: Engine,
    nanos: Vec<f64>,
}

fn main() {
    let recorded = record(50);
    let parts = Parts::of(&recorded);
    let first = recorded.relation().0;
    let case = |sweep, value, size, tables, contracts: u16| {
        let (capture, rows) = parts.arrange(first, size, tables);
        let engine = recorded.engine(tables, contracts);
        Case { sweep, value, capture, rows, contracts: contracts.into(), engine, nanos: Vec::new() }
    };
    let mut cases = Vec::new();
    for size in [10, 1, 100, 1_000, 100_000, 1_000_000] {
        cases.push(case("rows a transaction", size as u64, size, 1, 1));
    }
    for tables in [1, 10, 100, 1_000, 5_000] {
        cases.push(case("tables", tables.into(), 10, tables, 1));
    }
    for contracts in [1, 2, 4, 8, 16] {
        cases.push(case("contracts on the table", contracts.into(), 1_000, 1, contracts));
    }
    let mut batch = Batch::default();
    for pass in 0..PASSES + 2 {
        for case in &mut cases {
            case.capture.advance(1 << 40);
            let begin = Instant::now();
            let made = replay_once(&case.capture, &mut case.engine, &mut batch);
            let nanos = begin.elapsed().as_nanos() as f64 / case.rows as f64;
            assert_eq!(made.records, case.rows * case.contracts, "every change is a record of every contract");
            if pass >= 2 {
                case.nanos.push(nanos);
            }
        }
    }
    report(&cases);
}

fn report(cases: &[Case]) {
    println!("| sweep | | ns a change, median (lowest–highest) | beside the first |");
    println!("| --- | --- | --- | --- |");
    let mut base: Option<&Case> = None;
    for case in cases {
        let first = *base.insert(base.filter(|base| base.sweep == case.sweep).unwrap_or(case));
        let [low, median, high] = spread(case.nanos.iter().copied());
        let [_, ratio, _] = spread(case.nanos.iter().zip(&first.nanos).map(|(own, first)| own / first));
        println!("| {} | {} | {median:.0} ({low:.0}–{high:.0}) | {ratio:.2} |", case.sweep, case.value);
    }
}
