//! `gimbal check`: judges contracts, schemas and the catalog file, offline; against a commit or an environment if asked.

mod environment;
mod git;

use std::path::Path;
use std::sync::Arc;

use jiff::civil::Date;
use serde_json::json;

use super::render::{self, Format};
use crate::config::Config;
use crate::contract::{self, Catalog, ContractVersion, Released, Resolved, Sources};
use crate::diagnostic::{Diagnostic, Severity, SourceText};
use crate::error::{Code, Result};
use crate::project;

/// Exit code when nothing is wrong; warnings do not count.
pub const EXIT_CLEAN: u8 = 0;

/// Exit code when something is wrong with what was checked.
pub const EXIT_FINDINGS: u8 = 2;

/// What the project is held against beside its own files.
#[derive(Clone, Debug)]
pub struct Against {
    /// The day.
    pub today: Date,
    /// A commit, branch or tag: what was released there must not change.
    pub reference: Option<String>,
    /// The URL of another environment's database.
    pub environment: Option<String>,
}

impl Against {
    /// Today, in UTC, by the machine's clock, and nothing else.
    pub fn today() -> Against {
        Against {
            today: jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).date(),
            reference: None,
            environment: None,
        }
    }
}

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

/// Checks the project of a config by itself. Files that cannot be read are the error; all else is in the report.
pub fn check(config: &Config) -> Result<CheckReport> {
    check_against(config, &Against::today())
}

/// Checks the project of a config. What cannot be read (files, commit, environment) is the error; all else is in the report.
pub fn check_against(config: &Config, against: &Against) -> Result<CheckReport> {
    let sources = Sources { today: Some(against.today), ..project::read(config)? };
    if sources.contracts.is_empty() {
        let message = format!("there is no contract in `{}`", config.contracts.display());
        let finding =
            Diagnostic::error(Code::ContractInvalid, message).hint("`gimbal init` drafts contracts from tables");
        return Ok(CheckReport { findings: vec![finding], ..CheckReport::default() });
    }
    let mut resolved = contract::resolve(&sources);
    if let Some(reference) = &against.reference {
        let released = git::read(config, reference)?;
        let released = Released { sources: &released, reference };
        let found = contract::against(&released, &sources, &resolved, against.today);
        resolved.add(found);
    }
    if let Some(url) = &against.environment {
        let found = in_environment(url, &sources, &resolved)?;
        resolved.add(found);
    }
    Ok(CheckReport { versions: resolved.versions, contracts: resolved.contracts.len(), findings: resolved.findings })
}

/// What the rules say with the environment's tables and did not say with those of `catalog.json`, and what differs.
fn in_environment(url: &str, sources: &Sources, resolved: &Resolved) -> Result<Vec<Diagnostic>> {
    let theirs = environment::read(url, resolved)?;
    let there = Sources {
        catalog: Some(SourceText::new(theirs.name.as_str(), theirs.catalog.to_text())),
        environment: Some(theirs.name.clone()),
        ..sources.clone()
    };
    let mut found = contract::resolve(&there).findings;
    found.retain(|finding| !resolved.findings.contains(finding));
    for finding in &mut found {
        if !finding.message.contains(&theirs.name) {
            finding.message = format!("in {}: {}", theirs.name, finding.message);
        }
    }
    let ours = sources.catalog.as_ref().and_then(|file: &Arc<SourceText>| Catalog::parse(file).ok());
    if let Some(ours) = ours {
        found.extend(contract::differences::between(resolved, &ours, &theirs.catalog, &theirs.name));
    }
    Ok(found)
}

/// Reads a config file and checks its project; a config that does not parse is a finding too.
pub fn check_file(config: &Path, against: &Against) -> Result<CheckReport> {
    match Config::load(config) {
        Ok(config) => check_against(&config, against),
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
