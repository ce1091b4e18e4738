//! `gimbal run`: the daemon.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::config::Config;
use crate::contract::ContractVersion;
use crate::daemon::status::StatusBoard;
use crate::daemon::{Daemon, RunOptions, shutdown_signal};
use crate::error::Result;
use crate::killpoint;

/// Arguments of `run`.
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// Publish what the tables and the log hold now, then end
    #[arg(long)]
    pub once: bool,
    /// No progress bars, even on a terminal
    #[arg(long)]
    pub no_progress: bool,
}

/// Runs the command.
pub fn run(config: Config, contracts: Vec<ContractVersion>, args: &RunArgs) -> Result<()> {
    killpoint::arm()?;
    let shutdown = shutdown_signal()?;
    let daemon = Daemon::new(config, contracts, RunOptions { once: args.once })?;
    if std::io::stderr().is_terminal() && !args.no_progress {
        show_snapshots(daemon.board());
    }
    daemon.run(shutdown)
}

/// One bar a table that is being copied, on the terminal.
fn show_snapshots(board: StatusBoard) {
    std::thread::spawn(move || {
        let bars = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:<28} {wide_bar} {percent:>3} %  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let mut shown: std::collections::BTreeMap<String, ProgressBar> = std::collections::BTreeMap::new();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            for contract in board.read().contracts {
                let name = format!("{} v{}", contract.contract, contract.version);
                match (&contract.snapshot, shown.get(&name)) {
                    (Some(copy), bar) if copy.blocks_total > 0 => {
                        let bar = bar.cloned().unwrap_or_else(|| {
                            bars.add(
                                ProgressBar::new(copy.blocks_total).with_style(style.clone()).with_prefix(name.clone()),
                            )
                        });
                        bar.set_position(copy.blocks_read);
                        bar.set_message(format!("{} rows", copy.rows));
                        shown.insert(name, bar);
                    }
                    (None, Some(bar)) => {
                        bar.finish_with_message("complete");
                        shown.remove(&name);
                    }
                    _ => {}
                }
            }
        }
    });
}
