//! The last page: what happened, who noticed, and whether topics and production say the same.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::Result;
use crate::amount::{Amount, grouped};
use crate::process::print_all;
use crate::stage::Sink;
use crate::verify::Check;

/// What there is to say at the end.
pub struct Ending {
    /// The whole show.
    pub took: Duration,
    /// Records that the subscriber read.
    pub read: u64,
    /// Of them, those that it could not make sense of.
    pub unreadable: u64,
    /// Most that the subscriber was behind, in seconds, once it had caught up.
    pub worst_freshness: f64,
    /// What the daemon says about the renamed column.
    pub follows: Option<String>,
    /// Sales of the day, as production has them.
    pub production: Amount,
    /// The same, from the topics.
    pub subscriber: Amount,
    /// The same, from the raw stream.
    pub naive: NaiveFigures,
    /// Topics against production, both at rest.
    pub checks: Vec<Check>,
}

/// What the naive reader says at its end.
pub struct NaiveFigures {
    sales: Amount,
    orders: u64,
    blind: u64,
}

impl NaiveFigures {
    /// From the lines that it printed: the one with `final`.
    pub fn of(lines: &[String]) -> Result<NaiveFigures> {
        let last =
            lines.iter().find_map(|line| line.strip_prefix("final ")).ok_or("the naive reader gave no figures")?;
        let figure = |name: &str| {
            let mut words = last.split_whitespace().filter_map(|word| word.split_once('='));
            words.find(|(word, _)| *word == name).map(|(_, figure)| figure).ok_or("the naive reader lacks a figure")
        };
        Ok(NaiveFigures {
            sales: Amount(figure("sales")?.parse()?),
            orders: figure("orders")?.parse()?,
            blind: figure("blind")?.parse()?,
        })
    }
}

impl Ending {
    /// Prints the page. Fails if anything was not as it has to be.
    pub fn print(&self, sink: Sink) -> Result<()> {
        let failures = self.failures();
        print_all(&self.page(sink, failures.is_empty())?)?;
        match failures.len() {
            0 => Ok(()),
            count => Err(format!("{count} checks failed: {}", failures.join("; ")).into()),
        }
    }

    fn page(&self, sink: Sink, passed: bool) -> std::result::Result<String, fmt::Error> {
        let mut page = String::new();
        self.write_events(&mut page)?;
        self.write_sales(&mut page)?;
        writeln!(page, "\nTopics against production, both at rest")?;
        for check in &self.checks {
            writeln!(page, "  {} {}", if check.passed { "ok    " } else { "FAILED" }, check.text)?;
        }
        if passed {
            let seconds = self.took.as_secs();
            writeln!(page, "\nAll checks passed in {seconds} s; servers are stopped, files are removed.\n\nNext")?;
            for (command, what) in next_commands(sink) {
                writeln!(page, "  {command:<62} {what}")?;
            }
        }
        Ok(page)
    }

    fn write_events(&self, page: &mut String) -> fmt::Result {
        writeln!(page, "\nWhat happened")?;
        writeln!(page, "  production    renamed a column that a contract reads, and added one, while orders came in")?;
        if let Some(text) = &self.follows {
            writeln!(page, "  gimbal        {text}, from that very transaction on; no restart, no new version")?;
        }
        let unharmed = self.unreadable == 0 && self.subscriber == self.production;
        writeln!(
            page,
            "  subscriber    {}: {} records, {} unreadable; at worst {:.1} s behind production",
            if unharmed { "did not notice" } else { "NOTICED" },
            grouped(self.read),
            grouped(self.unreadable),
            self.worst_freshness
        )?;
        writeln!(
            page,
            "  naive reader  went blind: {} changes of orders had no amount any more, and counted as 0.00",
            grouped(self.naive.blind)
        )
    }

    fn write_sales(&self, page: &mut String) -> fmt::Result {
        writeln!(page, "\nSales of the day, EUR")?;
        writeln!(page, "  production    {:>14}", self.production)?;
        let verdict = if self.subscriber == self.production { "the same" } else { "NOT the same" };
        writeln!(page, "  subscriber    {:>14}   {verdict}", self.subscriber)?;
        writeln!(
            page,
            "  naive reader  {:>14}   off by {}, over {} orders",
            self.naive.sales,
            self.production - self.naive.sales,
            grouped(self.naive.orders)
        )
    }

    fn failures(&self) -> Vec<String> {
        let judged = [
            (self.follows.is_some(), "gimbal status does not say that it follows the rename"),
            (self.unreadable == 0, "the subscriber could not read every record"),
            (self.subscriber == self.production, "the subscriber's sales of the day differ from production's"),
            (self.naive.blind > 0, "the naive reader missed nothing"),
            (self.naive.sales != self.production, "the naive reader's sales of the day are right"),
        ];
        let failed = judged.into_iter().filter(|(passed, _)| !passed).map(|(_, text)| text.to_owned());
        failed.chain(self.checks.iter().filter(|check| !check.passed).map(|check| check.text.clone())).collect()
    }
}

fn next_commands(sink: Sink) -> [(&'static str, &'static str); 3] {
    let other = match sink {
        Sink::Files => ("make demo SINK=kafka", "the same through a real Kafka and registry"),
        Sink::Kafka => ("make demo", "the same with files only"),
    };
    [
        other,
        ("target/release/gimbal init --source postgresql://you@host/db", "draft contracts for a database of your own"),
        ("less contracts/orders.yaml demo/migration.sql", "what was promised, and what happened to it"),
    ]
}
