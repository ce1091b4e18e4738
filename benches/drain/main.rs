//! gimbal beside `pg_recvlogical`: throughput, CPU seconds, peak memory and latency, on real servers.
//!
//! ```text
//!  base slot + checkpoint ─▶ backlog (written once) ─▶ per round:  copy of the slot ─▶ pg_recvlogical > /dev/null   (control)
//!                                                                  copy of slot and checkpoint ─▶ gimbal run --once  (null, Kafka)
//! ```
//!
//! `cargo bench --bench drain`; with `BENCH_QUICK=1` fewer rows and three rounds. `BENCH_ONLY=singles,latency`
//! takes some of the parts `thousands`, `singles`, `huge`, `peer` and `latency`; `BENCH_GIMBAL` names another program to
//! measure, such as a script that runs gimbal under a profiler. Everyone reads the same log, through a copy of the same
//! slot. A round is control, one contender, control, the other; it is void if its two controls differ by more than 15 %.
//! A run whose records are not exactly those of the backlog ends the bench. The part `peer` puts Debezium beside gimbal.

#[path = "../support/mod.rs"]
mod support;

mod backlog;
mod contender;
mod debezium;
mod latency;
mod machine;
mod process;
mod report;
mod topic;

use backlog::{Backlog, Shape};
use contender::Lab;
use process::Cost;
use report::{Contender, Round};

/// How much is measured.
pub struct Scale {
    /// Valid rounds that are wanted.
    rounds: usize,
    /// Rows of the larger backlogs.
    rows: u64,
    /// Transactions of the backlog of one-row transactions.
    single_rows: u64,
    /// How long the load of the latency runs lasts.
    latency_seconds: u64,
}

/// gimbal to the null sink.
const NULL: Contender = Contender { name: "gimbal, null sink", short: "null", run: contender::null };

/// gimbal to Kafka, exactly once.
const KAFKA: Contender = Contender { name: "gimbal, Kafka exactly-once", short: "Kafka", run: contender::kafka };

/// The peer to Kafka, at least once. Its start is not charged.
const DEBEZIUM: Contender =
    Contender { name: "Debezium, tuned, Kafka at-least-once", short: "Debezium", run: debezium::run };

const FULL: Scale = Scale { rounds: 5, rows: 1_000_000, single_rows: 100_000, latency_seconds: 20 };
const QUICK: Scale = Scale { rounds: 3, rows: 300_000, single_rows: 30_000, latency_seconds: 5 };

/// Runs over an empty backlog.
const IDLE_RUNS: usize = 5;

/// Controls of a valid round differ by no more than this share.
const CONTROL_BAND: f64 = 0.15;

fn main() {
    let quick = std::env::var_os("BENCH_QUICK").is_some();
    let scale = if quick { QUICK } else { FULL };
    let only = std::env::var("BENCH_ONLY").ok();
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only.split(',').any(|one| one == name));
    rustls::crypto::ring::default_provider().install_default().ok();
    let lab = Lab::start();
    machine::describe(&lab, quick);
    let thousands =
        Shape { name: "thousands", title: "1,000 rows a transaction", transactions: scale.rows / 1_000, size: 1_000 };
    let parts = [
        (thousands, [NULL, KAFKA]),
        (
            Shape { name: "singles", title: "1 row a transaction", transactions: scale.single_rows, size: 1 },
            [NULL, KAFKA],
        ),
        (Shape { name: "huge", title: "one transaction", transactions: 1, size: scale.rows }, [NULL, KAFKA]),
        (Shape { name: "peer", title: "beside Debezium, 1,000 rows a transaction", ..thousands }, [KAFKA, DEBEZIUM]),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|(shape, _)| wanted(shape.name)).collect();
    if !parts.is_empty() {
        let idle = idle(&lab);
        for (shape, contenders) in parts {
            let backlog = Backlog::build(&lab, &shape);
            report::header(&shape, &backlog);
            let rounds = rounds(&lab, &backlog, &contenders, scale.rounds);
            report::summary(&shape, &contenders, &rounds, &idle);
            backlog.remove(&lab);
        }
    }
    if wanted("latency") {
        for rate in [1_000, 10] {
            latency::measure(&lab, rate, scale.latency_seconds);
        }
    }
}

/// What it costs to start and stop, by name: runs over an empty backlog, medians of several.
fn idle(lab: &Lab) -> Vec<(&'static str, Cost)> {
    let backlog = Backlog::build(lab, &Shape { name: "nothing", title: "nothing", transactions: 0, size: 0 });
    let median = |contender: Contender| {
        let costs: Vec<Cost> = (0..IDLE_RUNS).map(|_| (contender.run)(lab, &backlog)).collect();
        let pick = |value: fn(&Cost) -> f64| support::spread(costs.iter().map(value))[1];
        let cost = Cost { wall: pick(|cost| cost.wall), own_cpu: pick(|cost| cost.own_cpu), ..Cost::default() };
        report::idle(contender.name, &cost);
        (contender.name, cost)
    };
    let idle = [report::CONTROL, NULL, KAFKA].map(median).into();
    backlog.remove(lab);
    idle
}

/// A warm-up, then rounds until enough are valid, or twice as many were tried.
fn rounds(lab: &Lab, backlog: &Backlog, contenders: &[Contender; 2], wanted: usize) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    let valid = |rounds: &[Round]| rounds.iter().filter(|round| round.valid()).count();
    for number in 0..=2 * wanted {
        let [one, other] = contenders;
        let [a, first, b, second] = [
            contender::control(lab, backlog),
            (one.run)(lab, backlog),
            contender::control(lab, backlog),
            (other.run)(lab, backlog),
        ];
        let round = Round { load: machine::load(), controls: [a, b], contenders: [first, second] };
        report::line(number, &round, contenders, backlog);
        if number > 0 {
            rounds.push(round);
        }
        if valid(&rounds) >= wanted {
            break;
        }
    }
    rounds
}
