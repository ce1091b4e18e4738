//! Rounds as lines, and their medians as a table in Markdown.

use crate::CONTROL_BAND;
use crate::backlog::{Backlog, Shape};
use crate::process::Cost;
use crate::support::spread;

/// What each costs without a row: start and stop.
pub struct Idle {
    /// `pg_recvlogical`.
    pub control: Cost,
    /// gimbal to the null sink.
    pub null: Cost,
    /// gimbal to Kafka.
    pub kafka: Cost,
}

/// Prints what start and stop cost.
pub fn idle(idle: &Idle) {
    let cost = |cost: &Cost| format!("{:.0} ms, {:.0} ms CPU", cost.wall * 1e3, cost.own_cpu * 1e3);
    let (control, null, kafka) = (cost(&idle.control), cost(&idle.null), cost(&idle.kafka));
    println!("start and stop, without a row: control {control}; null {null}; Kafka {kafka}");
}

/// One round.
pub struct Round {
    /// Load average at its end.
    pub load: String,
    /// `pg_recvlogical`, before null and before Kafka.
    pub controls: [Cost; 2],
    /// gimbal to the null sink.
    pub null: Cost,
    /// gimbal to Kafka.
    pub kafka: Cost,
}

impl Round {
    /// The controls agree, so the machine was the same for all.
    pub fn valid(&self) -> bool {
        let [a, b] = self.controls.map(|cost| cost.wall);
        (a - b).abs() <= CONTROL_BAND * a.min(b)
    }

    /// Throughput beside the controls' mean.
    fn ratio(&self, cost: &Cost) -> f64 {
        self.control() / cost.wall
    }

    /// The same without start and stop.
    fn running_ratio(&self, cost: &Cost, idle: &Idle, own: &Cost) -> f64 {
        (self.control() - idle.control.wall) / (cost.wall - own.wall)
    }

    fn control(&self) -> f64 {
        (self.controls[0].wall + self.controls[1].wall) / 2.0
    }
}

/// What is read.
pub fn header(shape: &Shape, backlog: &Backlog) {
    println!();
    println!("## {}: {} rows, {} MiB of log", shape.title, backlog.rows, backlog.log_bytes >> 20);
}

/// A round, as it ends.
pub fn line(number: usize, round: &Round, backlog: &Backlog) {
    let rate = |cost: &Cost| backlog.rows as f64 / cost.wall / 1e3;
    let [a, b] = &round.controls;
    let verdict = match (number, round.valid()) {
        (0, _) => "warm-up",
        (_, true) => "valid",
        (_, false) => "void: the controls differ",
    };
    println!(
        "round {number}: thousand rows/s: control {:.1} and {:.1}, null {:.1} ({:.2}), Kafka {:.1} ({:.2}); load {}; {verdict}",
        rate(a),
        rate(b),
        rate(&round.null),
        round.ratio(&round.null),
        rate(&round.kafka),
        round.ratio(&round.kafka),
        round.load
    );
}

/// Medians over the valid rounds, with lowest and highest.
pub fn summary(shape: &Shape, rounds: &[Round], idle: &Idle) {
    let valid: Vec<&Round> = rounds.iter().filter(|round| round.valid()).collect();
    println!();
    println!(
        "{} valid rounds of {}; median (lowest–highest); CPU in seconds per million rows",
        valid.len(),
        rounds.len()
    );
    println!();
    println!(
        "| | of `pg_recvlogical` | the same without start and stop | thousand rows/s | own CPU | walsender CPU | broker CPU | peak RSS, MiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let rows = shape.rows() as f64;
    type Pick = fn(&Round) -> Cost;
    let contenders: [(&str, Pick, &Cost); 3] = [
        ("`pg_recvlogical`", |round| round.controls[0], &idle.control),
        ("gimbal, null sink", |round| round.null, &idle.null),
        ("gimbal, Kafka exactly-once", |round| round.kafka, &idle.kafka),
    ];
    for (name, pick, own) in contenders {
        let column = |value: &dyn Fn(&Round) -> f64, digits: usize| {
            let [low, median, high] = spread(valid.iter().map(|round| value(round)));
            format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
        };
        let per_million = |cpu: f64| cpu * 1e6 / rows;
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            column(&|round| round.ratio(&pick(round)), 2),
            column(&|round| round.running_ratio(&pick(round), idle, own), 2),
            column(&|round| rows / pick(round).wall / 1e3, 0),
            column(&|round| per_million(pick(round).own_cpu), 2),
            column(&|round| per_million(pick(round).walsender_cpu), 2),
            column(&|round| per_million(pick(round).broker_cpu), 2),
            column(&|round| pick(round).peak_mib, 0),
        );
    }
}
