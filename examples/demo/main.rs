//! The shop example: a legacy shop, its traffic, and two readers of its data, directed as a show of two minutes.
//!
//! ```text
//!  load ─▶ shop (PostgreSQL) ◀─ traffic              play starts them all, migrates the shop in the middle of it,
//!            │        │                              and compares the dashboard's figures with the shop's own
//!            │        └─ raw stream ─▶ naive
//!            └─ gimbal run ─▶ topics ─▶ dashboard
//! ```
//!
//! The dashboard is a subscriber as any other: it reads topics, and knows nothing of the shop's tables.

mod amount;
mod dashboard;
mod ending;
mod fold;
mod load;
mod naive;
mod play;
mod process;
mod screen;
mod shop;
mod stage;
mod topics;
mod traffic;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Any failure of the demo: it is told, and ends the command.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(
    name = "demo",
    about = "The shop example: a legacy shop, live traffic, and a dashboard that reads topics only"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create the shop in an empty database and fill it
    Load(load::Options),
    /// Be the shop's application: write orders and activity until standard input ends
    Traffic(traffic::Options),
    /// Read the raw replication stream and look columns up by name, until standard input ends
    Naive(naive::Options),
    /// Show sales, freshness and throughput, read from the topics alone
    Dashboard(dashboard::Options),
    /// Direct the whole show on servers of its own
    Play(play::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Load(options) => load::run(&options),
        Command::Traffic(options) => traffic::run(&options),
        Command::Naive(options) => naive::run(&options),
        Command::Dashboard(options) => dashboard::run(&options),
        Command::Play(options) => play::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
