//! `gimbal check`: judges contracts, schemas and the catalog file, offline.

use std::path::Path;

use serde_json::json;

use super::render::{self, Format};
use crate::config::Config;
use crate::contract::{self, ContractVersion};
use crate::diagnostic::{Diagnostic, Severity};
use crate::error::{Code, Result};
use crate::project;

/// Exit code when nothing is wrong; warnings do not count.
pub const EXIT_CLEAN: u8 = 0;

/// Exit code when something is wrong with what was checked.
pub const EXIT_FINDINGS: u8 = 2;

/// What `check` found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// The versions that could be made out; to be used only without errors.
    pub versions: Vec<ContractVersion>,
    /// Number of contract files that could be read.
    pub contracts: usize,
    /// Errors and warnings, by file and line.
    pub findings: Vec<Diagnostic>,
}

/// Checks the project of a config. Files that cannot be read are the error; all else is in the report.
pub fn check(config: &Config) -> Result<CheckReport> {
    let sources = project::read(config)?;
    if sources.contracts.is_empty() {
        let message = format!("there is no contract in `{}`", config.contracts.display());
        let finding =
            Diagnostic::error(Code::ContractInvalid, message).hint("`gimbal init` drafts contracts from tables");
        return Ok(CheckReport { findings: vec![finding], ..CheckReport::default() });
    }
    let resolved = contract::resolve(&sources);
    Ok(CheckReport { versions: resolved.versions, contracts: resolved.contracts.len(), findings: resolved.findings })
}

/// Reads a config file and checks its project; a config that does not parse is a finding too.
pub fn check_file(config: &Path) -> Result<CheckReport> {
    match Config::load(config) {
        Ok(config) => check(&config),
        Err(findings) => Ok(CheckReport { findings, ..CheckReport::default() }),
    }
}

impl CheckReport {
    /// How many findings have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// The process's exit code: clean or findings.
    pub fn exit_code(&self) -> u8 {
        if self.count(Severity::Error) == 0 { EXIT_CLEAN } else { EXIT_FINDINGS }
    }

    /// The report as it is printed; `graphical` at a terminal.
    pub fn render(&self, format: Format, graphical: bool) -> String {
        match format {
            Format::Text => format!("{}{}\n", render::text(&self.findings, graphical), self.summary()),
            Format::Github => render::github(&self.findings),
            Format::Json => {
                let report = json!({
                    "format_version": 1,
                    "contracts": self.contracts,
                    "versions": self.versions.len(),
                    "errors": self.count(Severity::Error),
                    "warnings": self.count(Severity::Warning),
                    "findings": render::json(&self.findings),
                });
                format!("{report:#}\n")
            }
        }
    }

    fn summary(&self) -> String {
        let count = |number: usize, one: &str| match number {
            1 => format!("1 {one}"),
            number => format!("{number} {one}s"),
        };
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let found = match (errors, warnings) {
            (0, 0) => "clean".to_owned(),
            (0, _) => count(warnings, "warning"),
            (_, 0) => count(errors, "error"),
            _ => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
        };
        format!("{}, {}: {found}", count(self.contracts, "contract"), count(self.versions.len(), "version"))
    }
}

#[cfg(test)]
mod tests;
