//! `gimbal doctor`: what is wrong around a pipeline, before it bites, and the line that mends it.
//!
//! ```text
//!  config, contracts ─▶ facts: one pass over server, sink, registry, machine ─▶ checks: facts → findings ─▶ report
//!                       (reads only; takes no lock, no slot, no transactional id)
//! ```
//!
//! A check is a function of facts alone. What could not be looked at is a finding itself (the error that said so), and the
//! checks that would need it are silent. The pass works before the first start, beside a running daemon, and after a stop.

mod facts;
mod kafka;
mod local;
mod machine;
mod publications;
mod registry;
mod report;
mod server;
mod slot;
mod tables;

use crate::config::Config;
use crate::contract::{ContractVersion, VersionStatus};
use crate::error::Result;

pub use machine::Machine;
pub use report::{Finding, Fix, Report};

use facts::Facts;

/// Looks at everything that the pipeline needs. The error is one of gimbal's own; what is wrong outside is a finding.
pub fn examine(config: &Config, contracts: &[ContractVersion], machine: &Machine) -> Result<Report> {
    let facts = Facts::gather(config, contracts, machine)?;
    let mut findings = Vec::new();
    match &facts.source {
        Ok(source) => {
            findings.extend(server::check(source));
            if let Some(rest) = &source.rest {
                findings.extend(tables::check(source, rest, &facts));
                findings.extend(publications::check(rest, &facts));
                findings.extend(slot::check(source, rest, &facts));
            }
        }
        Err(error) => findings.push(Finding::of_error("source", error)),
    }
    findings.extend(local::check(&facts));
    findings.extend(kafka::check(&facts));
    findings.extend(registry::check(&facts));
    Ok(Report { findings })
}

/// True for a version that the daemon publishes.
fn is_published(version: &ContractVersion) -> bool {
    matches!(version.status, VersionStatus::Active | VersionStatus::Deprecated)
}
