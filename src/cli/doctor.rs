//! `gimbal doctor`: what is wrong, with a line that mends it.

use crate::cli::Output;
use crate::cli::check::{EXIT_CLEAN, EXIT_FINDINGS};
use crate::cli::status::StatusFormat;
use crate::config::Config;
use crate::contract::ContractVersion;
use crate::diagnostic::Severity;
use crate::doctor::{self, Machine};
use crate::error::Result;

/// Arguments of `doctor`.
#[derive(clap::Args, Debug)]
pub struct DoctorArgs {
    /// How to print it
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
}

/// Runs the command; returns the exit code.
pub fn doctor(config: &Config, contracts: &[ContractVersion], args: &DoctorArgs, out: &mut Output) -> Result<u8> {
    let report = doctor::examine(config, contracts, &Machine::default())?;
    match args.format {
        StatusFormat::Text => out.text(&report.text())?,
        StatusFormat::Json => out.line(&format!("{:#}", report.json()))?,
    }
    Ok(if report.count(Severity::Error) == 0 { EXIT_CLEAN } else { EXIT_FINDINGS })
}
