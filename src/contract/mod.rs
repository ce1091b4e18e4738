//! Contracts: what is promised to subscribers, and how production feeds it.
//!
//! ```text
//!  contract.yaml ─▶ parse ─▶ format::ContractFile ─┐
//!  *.avsc ────────▶ schemas (avro, compat) ────────┼─▶ version (feeds · key · topics) ─▶ model::ContractVersion
//!  catalog.json ──▶ catalog ───────────────────────┘
//! ```
//!
//! Nothing here reads a file: [`resolve`] takes texts, and gives versions and findings.

mod against;
pub mod catalog;
pub mod differences;
pub mod draft;
pub mod expr;
mod feeds;
mod fields;
pub mod format;
pub mod key;
mod labels;
pub mod mapping;
pub mod model;
pub mod parse;
pub mod retirement;
mod schemas;
#[cfg(test)]
pub(crate) mod testing;
mod topics;
mod values;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity, SourceText, suggestion};
use crate::error::Code;
use crate::yaml::Report;

pub use against::{Released, against};
pub use catalog::Catalog;
pub use expr::Expr;
pub use mapping::{Encoding, JsonPath, Mask, MaskKey, PathStep, Rounding};
pub use model::{Backfill, ContractKind, ContractVersion, Feed, FeedOptions, FeedSource, OnError, VersionStatus};

/// The texts of a project.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The contract files.
    pub contracts: Vec<Arc<SourceText>>,
    /// The `.avsc` files, by their path below the schemas folder, with `/` between folders.
    pub schemas: BTreeMap<String, Arc<SourceText>>,
    /// `catalog.json`, where it is there.
    pub catalog: Option<Arc<SourceText>>,
    /// What `catalog` was read from, for messages, where it is not the file: `database shop at db.example.org`.
    pub environment: Option<String>,
    /// The day, for warnings of what comes near; none where nobody asks.
    pub today: Option<jiff::civil::Date>,
    /// Names of the config's receivers; none where they are not known.
    pub receivers: Option<BTreeSet<String>>,
    /// Names of the config's keys; none where they are not known.
    pub keys: Option<BTreeSet<String>>,
}

/// What the texts say.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Every version that could be made out, sorted by contract and major; to be used only without errors.
    pub versions: Vec<ContractVersion>,
    /// The contracts as they were written, sorted by name.
    pub contracts: Vec<format::ContractFile>,
    /// What was found, by file and line.
    pub findings: Vec<Diagnostic>,
}

impl Resolved {
    /// Whether something was found that nothing may run with.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Adds findings, in their order among the others.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Diagnostic>) {
        self.findings.extend(findings);
        self.findings.sort_by(|a, b| a.position().cmp(&b.position()).then(a.severity.cmp(&b.severity)));
        // What a contract says once for all its versions is found once a version.
        self.findings.dedup();
    }

    /// The versions, or every finding if one of them is an error.
    pub fn into_versions(self) -> Result<Vec<ContractVersion>, Vec<Diagnostic>> {
        if self.has_errors() { Err(self.findings) } else { Ok(self.versions) }
    }
}

/// Reads contracts, schemas and catalog, and judges them by every rule that needs no database.
pub fn resolve(sources: &Sources) -> Resolved {
    let mut resolved = Resolved::default();
    let catalog = match sources.catalog.as_ref().map(Catalog::parse) {
        Some(Ok(catalog)) => Some(catalog),
        Some(Err(finding)) => {
            resolved.findings.push(finding);
            None
        }
        None => {
            let finding =
                Diagnostic::error(Code::CatalogFileInvalid, "there is no `catalog.json` beside the contracts");
            resolved.findings.push(finding.hint("`gimbal init` writes it"));
            None
        }
    };
    let mut reader = Reader {
        sources,
        catalog: catalog.as_ref(),
        schemas: schemas::SchemaStore::new(&sources.schemas),
        topics: topics::Topics::default(),
        names: BTreeMap::new(),
    };
    for file in &sources.contracts {
        reader.contract(file, &mut resolved);
    }
    resolved.add(reader.schemas.findings);
    resolved.versions.sort_by(|a, b| (&a.contract, a.major).cmp(&(&b.contract, b.major)));
    resolved.contracts.sort_by(|a, b| a.name.value.cmp(&b.name.value));
    resolved
}

struct Reader<'a> {
    sources: &'a Sources,
    catalog: Option<&'a Catalog>,
    schemas: schemas::SchemaStore<'a>,
    topics: topics::Topics,
    /// Contract names and the files that have them.
    names: BTreeMap<String, String>,
}

impl Reader<'_> {
    fn contract(&mut self, file: &Arc<SourceText>, resolved: &mut Resolved) {
        let report = Report::new(file, Code::ContractInvalid);
        if let Some(contract) = parse::contract(&report) {
            if let Some(other) = self.names.insert(contract.name.value.clone(), file.name.clone()) {
                let message = format!("`{}` also has a contract `{}`", other, contract.name.value);
                report.error(&contract.name.span, message);
            }
            version::contract_rules(&report, &contract, self.sources.receivers.as_ref());
            retirement::warn(&report, &contract, self.sources.today);
            self.topics.take(&report, &contract);
            resolved.versions.extend(self.versions(&report, &contract));
            resolved.contracts.push(contract);
        }
        resolved.findings.extend(report.into_findings());
    }

    fn versions(&mut self, report: &Report, contract: &format::ContractFile) -> Vec<ContractVersion> {
        let mut versions = Vec::new();
        let mut unknown_tables = BTreeSet::new();
        for (major, entry) in &contract.versions {
            let shape = entry.shape.or(&contract.shape);
            let table = shape.source.as_ref().and_then(|source| {
                let found = self.catalog?.table(&source.value);
                if found.is_none() && unknown_tables.insert(source.value.clone()) {
                    self.unknown_table(report, source);
                }
                found
            });
            let Some(current) = self.schemas.current(report, &entry.schema, *major) else { continue };
            let subject = version::Subject {
                report,
                contract,
                major: *major,
                entry,
                shape,
                details: table.and_then(|image| self.catalog?.details().get(&image.name)),
                record: &current.schema.record,
                table,
                keys: self.sources.keys.as_ref(),
            };
            versions.extend(version::resolve(&subject, &current));
        }
        versions
    }

    fn unknown_table(&self, report: &Report, source: &format::Placed<crate::table::QualifiedName>) {
        let names: Vec<String> =
            self.catalog.iter().flat_map(|catalog| catalog.tables()).map(|image| image.name.to_string()).collect();
        let known = suggestion(&source.value.to_string(), names.iter().map(String::as_str), "its tables");
        let (place, hint) = match &self.sources.environment {
            Some(environment) => (environment.as_str(), known),
            None => {
                let adds = || "`gimbal init --tables` adds a table to the catalog file".to_owned();
                ("`catalog.json`", Some(known.unwrap_or_else(adds)))
            }
        };
        let message = format!("{place} has no table `{}`", source.value);
        let finding = Diagnostic::error(Code::SourceUnknown, message).at(&report.file, source.span.clone());
        report.push(finding.maybe_hint(hint));
    }
}
