//! Rounds as lines, and their medians as a table in Markdown.

use crate::CONTROL_BAND;
use crate::backlog::{Backlog, Shape};
use crate::contender::{self, Lab};
use crate::process::Cost;
use crate::support::spread;

/// Who reads the backlog.
#[derive(Clone, Copy)]
pub struct Contender {
    /// For the table.
    pub name: &'static str,
    /// For the lines of rounds.
    pub short: &'static str,
    /// Reads a copy of the backlog.
    pub run: fn(&Lab, &Backlog) -> Cost,
}

/// What everyone is held against.
pub const CONTROL: Contender = Contender { name: "`pg_recvlogical`", short: "control", run: contender::control };

/// Prints what start and stop cost.
pub fn idle(name: &str, cost: &Cost) {
    println!("start and stop, without a row: {name} {:.0} ms, {:.0} ms CPU", cost.wall * 1e3, cost.own_cpu * 1e3);
}

/// One round.
pub struct Round {
    /// Load average at its end.
    pub load: String,
    /// `pg_recvlogical`, before each contender.
    pub controls: [Cost; 2],
    /// Each after its control.
    pub contenders: [Cost; 2],
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
    fn running_ratio(&self, cost: &Cost, control: f64, own: f64) -> f64 {
        (self.control() - control) / (cost.wall - own)
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
pub fn line(number: usize, round: &Round, contenders: &[Contender; 2], backlog: &Backlog) {
    let rate = |cost: &Cost| backlog.rows as f64 / cost.wall / 1e3;
    let [a, b] = &round.controls;
    let verdict = match (number, round.valid()) {
        (0, _) => "warm-up",
        (_, true) => "valid",
        (_, false) => "void: the controls differ",
    };
    let shown = |(contender, cost): (&Contender, &Cost)| {
        format!("{} {:.1} ({:.2})", contender.short, rate(cost), round.ratio(cost))
    };
    let shown: Vec<String> = contenders.iter().zip(&round.contenders).map(shown).collect();
    println!(
        "round {number}: thousand rows/s: control {:.1} and {:.1}, {}; load {}; {verdict}",
        rate(a),
        rate(b),
        shown.join(", "),
        round.load
    );
}

/// Medians over the valid rounds, with lowest and highest.
pub fn summary(shape: &Shape, contenders: &[Contender; 2], rounds: &[Round], idle: &[(&str, Cost)]) {
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
    let wall = |name: &str| idle.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, cost)| cost.wall);
    let control = wall(CONTROL.name);
    for (index, name) in [CONTROL.name, contenders[0].name, contenders[1].name].into_iter().enumerate() {
        let pick = |round: &Round| [round.controls[0], round.contenders[0], round.contenders[1]][index];
        let own = wall(name);
        let column = |value: &dyn Fn(&Round) -> f64, digits: usize| {
            let [low, median, high] = spread(valid.iter().map(|round| value(round)));
            format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
        };
        let per_million = |cpu: f64| cpu * 1e6 / rows;
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            column(&|round| round.ratio(&pick(round)), 2),
            column(&|round| round.running_ratio(&pick(round), control, own), 2),
            column(&|round| rows / pick(round).wall / 1e3, 0),
            column(&|round| per_million(pick(round).own_cpu), 2),
            column(&|round| per_million(pick(round).walsender_cpu), 2),
            column(&|round| per_million(pick(round).broker_cpu), 2),
            column(&|round| pick(round).peak_mib, 0),
        );
    }
    let [low, median, high] = spread(valid.iter().map(|round| round.contenders[1].wall / round.contenders[0].wall));
    println!();
    println!("{} beside {}: {median:.2} ({low:.2}–{high:.2}) times as fast", contenders[0].short, contenders[1].short);
}
