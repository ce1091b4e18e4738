//! The crash test: the daemon dies at chosen moments under load, and an independent reader's records are held against
//! what the source committed. Beside it, how the daemon stops, refuses, and follows.
//!
//! ```text
//!  writers ─▶ PostgreSQL ─▶ daemon (dies, starts again, dies …) ─▶ topics ─▶ a reader in Python ─┐
//!     └─ triggers ─▶ audit table ────────────────────────────────────────────────────────────────┴─▶ checker
//! ```
//!
//! `GIMBAL_SEED` replays the choices of a run (moments and load), `GIMBAL_KILLS` makes it longer.

pub mod checker;
mod kills;
mod lifecycle;
mod load;
mod planted;
pub mod project;
mod restart;
mod run;

use std::sync::OnceLock;

use self::load::Size;
use self::project::Sink;
use self::run::{Crash, run};
use crate::lab::{self, Options, Postgres};

/// A cluster for these tests alone: snapshots wait for the transactions of the whole cluster.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start(Options::default()))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("`{variable}` is no number")))
}

fn crash(name: &'static str, sink: Sink, kills: usize) -> Crash {
    Crash {
        name,
        database: server().fresh_database(name),
        sink,
        seed: number("GIMBAL_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)),
        kills: number("GIMBAL_KILLS").map_or(kills, |kills| kills as usize),
        size: Size { orders: 12_000, notes: 500 },
    }
}

#[test]
fn files_show_every_change_once_and_in_order_whenever_the_daemon_dies() {
    run(&crash("files", Sink::Files, 40));
}

#[test]
fn kafka_shows_every_change_once_and_in_order_whenever_the_daemon_dies() {
    let sink = Sink::Kafka { bootstrap: lab::kafka().bootstrap().into(), registry: lab::registry().url().into() };
    run(&crash("kafka", sink, 20));
}
