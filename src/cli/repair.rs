//! `gimbal repair`: asks the running daemon to make a topic level with its table again.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value as Json;

use crate::cli::Output;
use crate::cli::status::fetch;
use crate::config::Config;
use crate::daemon::api::{RepairAccepted, RepairRequest, token};
use crate::daemon::status::{ErrorStatus, RepairStatus, Status};
use crate::error::{Code, Error, Result};

/// How often the daemon is asked how far it is.
const POLL: Duration = Duration::from_millis(250);

/// Steps of the progress bar.
const STEPS: u64 = 1000;

/// What `gimbal repair --help` says at its end.
const HELP: &str = "Of a `state` contract every key of the topic that the table lacks gets a tombstone, then every row of \
    the table is written again; of a `log` contract the rows alone. Changes keep flowing meanwhile.";

/// Arguments of `repair`.
#[derive(clap::Args, Debug)]
#[command(after_help = HELP)]
pub struct RepairArgs {
    /// The contract
    #[arg(value_name = "CONTRACT")]
    pub contract: String,
    /// One major version; all that are live where left out
    #[arg(long, value_name = "MAJOR")]
    pub version: Option<u32>,
    /// Repair this key alone: a JSON object of its fields, or the value of the only one; may be given again
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Return as soon as the daemon has noted the repair
    #[arg(long)]
    pub no_wait: bool,
}

/// Runs the command.
pub fn repair(config: &Config, args: &RepairArgs, out: &mut Output) -> Result<()> {
    let request = RepairRequest {
        contract: args.contract.clone(),
        version: args.version,
        // What is no JSON is a text that came without its quotes.
        keys: args.keys.iter().map(|key| serde_json::from_str(key).unwrap_or_else(|_| Json::from(&**key))).collect(),
    };
    let runtime = crate::cli::runtime()?;
    let accepted = runtime.block_on(ask(config, &request))?;
    if args.no_wait {
        return out.line("the daemon has noted the repair; `gimbal status` shows how far it is");
    }
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(STEPS) } else { ProgressBar::hidden() };
    bar.set_style(
        ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}").unwrap_or(ProgressStyle::default_bar()),
    );
    while let Some(repair) = runtime.block_on(left(config, &accepted))? {
        bar.set_position((repair.share() * STEPS as f64) as u64);
        bar.set_message(format!("{} keys, {} tombstones, {} rows", repair.keys, repair.tombstones, repair.rows));
        std::thread::sleep(POLL);
    }
    bar.finish_and_clear();
    out.line(&format!("{} is level with its table", args.contract))
}

async fn ask(config: &Config, request: &RepairRequest) -> Result<RepairAccepted> {
    let secret = token(config.api_token.as_ref())?;
    let unreachable = |e: reqwest::Error| {
        Error::definite(Code::DaemonUnreachable, format!("no daemon answers at `{}`: {e}", config.listen))
            .hint("a repair is done by the running daemon: start it with `gimbal run`")
    };
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().map_err(unreachable)?;
    let url = format!("http://{}/api/v1/repair", config.listen);
    let answer = client.post(url).bearer_auth(secret).json(request).send().await.map_err(unreachable)?;
    let accepted = answer.status().is_success();
    let text = answer.text().await.map_err(unreachable)?;
    let strange = |e: serde_json::Error| {
        Error::definite(Code::DaemonUnreachable, format!("the daemon's answer does not parse: {e}"))
            .hint("use the gimbal that the daemon runs")
    };
    if accepted {
        return serde_json::from_str(&text).map_err(strange);
    }
    let refusal: ErrorStatus = serde_json::from_str(&text).map_err(strange)?;
    let code = Code::ALL.iter().copied().find(|code| code.to_string() == refusal.code).unwrap_or(Code::RepairRefused);
    let error = Error::definite(code, refusal.message);
    Err(match refusal.hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// One of the repairs that is not complete.
async fn left(config: &Config, accepted: &RepairAccepted) -> Result<Option<RepairStatus>> {
    let status: Status = serde_json::from_str(&fetch(config).await?).map_err(|e| {
        Error::definite(Code::DaemonUnreachable, format!("the daemon's status does not parse: {e}"))
            .hint("use the gimbal that the daemon runs")
    })?;
    if let (true, Some(error)) = (status.state == "stopped", &status.error) {
        return Err(Error::definite(Code::DaemonUnreachable, format!("the daemon stopped: {}", error.message))
            .hint("the repair goes on when it is started again"));
    }
    // After a restart the daemon is not yet where it knows its repairs.
    let starting = status.state == "starting" || status.contracts.is_empty();
    let mut repairs = status.contracts.into_iter().flat_map(|contract| contract.repairs);
    let found = repairs.find(|repair| accepted.repairs.contains(&repair.id));
    Ok(found.or_else(|| starting.then(RepairStatus::default)))
}
