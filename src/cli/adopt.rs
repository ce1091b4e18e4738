//! `gimbal adopt`: shows what does not fit and what will be done, asks, and does it.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use crate::cli::Output;
use crate::config::Config;
use crate::contract::{ContractVersion, VersionStatus};
use crate::daemon::adopt::{Found, look};
use crate::daemon::connect::Door;
use crate::error::{Code, Error, Result};
use crate::postgres::sql::{self, Source};

/// Arguments of `adopt`.
#[derive(clap::Args, Debug)]
pub struct AdoptArgs {
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
    /// Copy one contract again, after its table was out of the publication; the rest of the pipeline stays as it is
    #[arg(long, value_name = "NAME")]
    pub contract: Option<String>,
}

/// Runs the command.
pub fn adopt(config: &Config, contracts: Vec<ContractVersion>, args: &AdoptArgs, out: &mut Output) -> Result<()> {
    // The connection's own task must run while the stream is waited for.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Error::definite(Code::Io, format!("the async runtime does not start: {e}")))?;
    let published =
        |version: &ContractVersion| matches!(version.status, VersionStatus::Active | VersionStatus::Deprecated);
    let contracts: Vec<_> = contracts.into_iter().filter(published).map(Arc::new).collect();
    let source = Source::of(config)?;
    let client = runtime.block_on(sql::connect(&source))?;
    let door = Door { config, source: &source, client: &client, runtime: runtime.handle() };
    let adoption = match look(&door, &contracts, args.contract.as_deref())? {
        Found::Nothing(reason) => return out.line(&format!("nothing to adopt: {reason}")),
        Found::Adoption(adoption) => adoption,
    };
    for line in adoption.lines() {
        out.line(line)?;
    }
    if !args.yes {
        agree(out)?;
    }
    adoption.commit()?;
    out.line("adopted; now `gimbal run`")
}

/// Asks at the terminal.
fn agree(out: &mut Output) -> Result<()> {
    let refused =
        |what: &str| Error::definite(Code::AdoptRefused, what).hint("look at the list above, then say `--yes`");
    if !std::io::stdin().is_terminal() {
        return Err(refused("nobody can be asked: standard input is no terminal"));
    }
    out.text("adopt this server? [y/N] ")?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read.map(|_| answer.trim().to_lowercase()).as_deref() {
        Ok("y" | "yes") => Ok(()),
        _ => Err(refused("it was not agreed to")),
    }
}
