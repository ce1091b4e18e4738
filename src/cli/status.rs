//! `gimbal status`: asks the running daemon.

use crate::cli::Output;
use crate::config::Config;
use crate::daemon::status::{ContractStatus, RepairStatus, Status};
use crate::error::{Code, Error, Result};

/// Arguments of `status`.
#[derive(clap::Args, Debug)]
pub struct StatusArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// For people
    Text,
    /// One JSON object, with `format_version`
    Json,
}

/// Runs the command.
pub fn status(config: &Config, args: &StatusArgs, out: &mut Output) -> Result<()> {
    let text = crate::cli::runtime()?.block_on(fetch(config))?;
    match args.format {
        StatusFormat::Json => out.line(text.trim_end()),
        StatusFormat::Text => {
            let status: Status = serde_json::from_str(&text).map_err(|e| {
                Error::definite(Code::DaemonUnreachable, format!("the daemon's status does not parse: {e}"))
                    .hint("use the gimbal that the daemon runs")
            })?;
            render(&status, out)
        }
    }
}

pub(super) async fn fetch(config: &Config) -> Result<String> {
    let url = format!("http://{}/status", config.listen);
    let unreachable = |e: reqwest::Error| {
        Error::definite(Code::DaemonUnreachable, format!("no daemon answers at `{}`: {e}", config.listen))
            .hint("start it with `gimbal run`, or correct `listen:` in the config")
    };
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(5)).build().map_err(unreachable)?;
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(unreachable)?;
    answer.text().await.map_err(unreachable)
}

fn render(status: &Status, out: &mut Output) -> Result<()> {
    out.line(&format!("pipeline {}: {}", status.pipeline, status.state))?;
    out.line(&format!(
        "position {}  confirmed {}  lag {} B  kept for the slot {} B  {}",
        status.position,
        status.confirmed_lsn,
        status.lag_bytes,
        status.retained_wal_bytes,
        status.freshness_seconds.map_or("nothing durable yet".to_owned(), |age| format!("as of {age:.1} s ago"))
    ))?;
    if let Some(error) = &status.error {
        out.line(&format!("error[{}]: {}", error.code, error.message))?;
        if let Some(hint) = &error.hint {
            out.line(&format!("  hint: {hint}"))?;
        }
    }
    for contract in &status.contracts {
        out.line(&line(contract))?;
        if let Some(reason) = &contract.reason {
            out.line(&format!("    parked[{}]: {}", reason.code, reason.message))?;
            if let Some(hint) = &reason.hint {
                out.line(&format!("      hint: {hint}"))?;
            }
            out.line(&format!("    {} records are in {}.parked", contract.parked_records, contract.topic))?;
        }
        if contract.dead_keys > 0 || !contract.level_except.is_empty() {
            let all = if contract.level_except.is_empty() { "" } else { ", and more that were not counted" };
            let keys = contract.dead_keys;
            out.line(&format!("    {keys} keys do not show their newest row{all}: see {}.dead", contract.topic))?;
        }
        for follows in &contract.follows {
            out.line(&format!("    follows rename: {} → {} (field {})", follows.from, follows.now, follows.field))?;
        }
    }
    for entry in status.timeline.iter().rev().take(10) {
        out.line(&format!("{}  {}  {}  ({})", entry.pos, entry.table, entry.change, entry.verdict))?;
    }
    Ok(())
}

fn line(contract: &ContractStatus) -> String {
    let name = format!("{} v{}.{}", contract.contract, contract.version, contract.minor);
    let progress = match &contract.snapshot {
        Some(copy) if copy.blocks_total > 0 => {
            format!(
                " {:.0} % of {} blocks, {} rows",
                percent(copy.blocks_read, copy.blocks_total),
                copy.blocks_total,
                copy.rows
            )
        }
        Some(_) => " waiting for older transactions to end".to_owned(),
        None => contract.repairs.first().map(repair_line).unwrap_or_default(),
    };
    format!("  {name:<28} {:<13} {:>10} records → {}{progress}", contract.state, contract.records, contract.topic)
}

fn repair_line(repair: &RepairStatus) -> String {
    let RepairStatus { keys, tombstones, rows, .. } = repair;
    format!(" {:.0} %: {keys} keys, {tombstones} tombstones, {rows} rows", 100.0 * repair.share())
}

/// A share in percent.
pub fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
