//! One version of one contract: its rules, and the [`ContractVersion`] that follows from them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::format::{ContractFile, Shape, VersionEntry};
use super::model::{Backfill, ContractKind, ContractVersion};
use super::schemas::CurrentSchema;
use super::{feeds, key};
use crate::avro::RecordSchema;
use crate::diagnostic::{Diagnostic, Severity, suggestion};
use crate::error::Code;
use crate::table::{TableDetails, TableImage};
use crate::yaml::{Report, Text};

/// Partitions of a topic whose contract does not say.
const PARTITIONS_DEFAULT: u32 = 1;

/// What the rules of a version look at.
pub(super) struct Subject<'a> {
    /// Takes the findings.
    pub report: &'a Report,
    /// The whole contract.
    pub contract: &'a ContractFile,
    /// The major.
    pub major: u32,
    /// Its entry.
    pub entry: &'a VersionEntry,
    /// Source, key, partitions: the version's, or else the contract's.
    pub shape: Shape,
    /// What is known of the table beyond its image.
    pub details: Option<&'a TableDetails>,
    /// The value schema.
    pub record: &'a RecordSchema,
    /// The table as `catalog.json` has it.
    pub table: Option<&'a TableImage>,
    /// Names of the config's keys; none where they are not known.
    pub keys: Option<&'a BTreeSet<String>>,
}

impl Subject<'_> {
    /// Adds an error at a place of the contract file.
    pub fn error(&self, code: Code, span: &Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.push(Severity::Error, code, span, message.into(), hint);
    }

    /// Adds a warning at a place of the contract file.
    pub fn warning(&self, code: Code, span: &Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.push(Severity::Warning, code, span, message.into(), hint);
    }

    fn push(&self, severity: Severity, code: Code, span: &Range<usize>, message: String, hint: Option<String>) {
        let finding = Diagnostic::error(code, message).at(&self.report.file, span.clone()).maybe_hint(hint);
        self.report.push(Diagnostic { severity, ..finding });
    }

    /// The key's field names; none where the contract does not say.
    pub fn key_fields(&self) -> &[Text] {
        self.shape.key.as_ref().map_or(&[], |key| &key.value)
    }

    /// True for a field of the key.
    pub fn is_key(&self, field: &str) -> bool {
        self.key_fields().iter().any(|name| name.value == field)
    }

    /// Where the table is named, or else the version.
    pub fn source_span(&self) -> &Range<usize> {
        self.shape.source.as_ref().map_or(&self.entry.span, |source| &source.span)
    }
}

/// Checks a version; none where it lacks what the model needs, which is then reported.
pub(super) fn resolve(subject: &Subject<'_>, current: &CurrentSchema) -> Option<ContractVersion> {
    subscribers(subject);
    let feeds = feeds::resolve(subject);
    let key_schema = key::resolve(subject, &feeds);
    let source = match &subject.shape.source {
        Some(source) => source.value.clone(),
        None => {
            let message = format!("version {} has no `source`", subject.major);
            subject.error(Code::ContractInvalid, &subject.entry.span, message, None);
            return None;
        }
    };
    let keyless = subject.key_fields().is_empty();
    let backfill = subject.entry.backfill.unwrap_or(if keyless { Backfill::None } else { Backfill::Snapshot });
    Some(ContractVersion {
        contract: subject.contract.name.value.clone(),
        major: subject.major,
        minor: current.minor,
        topic: subject.contract.topic.value.replace("{major}", &subject.major.to_string()),
        partitions: subject.shape.partitions.unwrap_or(PARTITIONS_DEFAULT),
        kind: subject.contract.kind,
        append_only: subject.contract.append_only,
        source,
        backfill,
        status: subject.entry.status,
        key: subject.key_fields().iter().map(|name| name.value.clone()).collect(),
        schema: Arc::new(current.schema.record.clone()),
        schema_json: current.schema.json.clone(),
        key_schema_json: key_schema.as_ref().map(|schema| schema.to_json().to_string()),
        key_schema: key_schema.map(Arc::new),
        feeds,
    })
}

fn subscribers(subject: &Subject<'_>) {
    let here = subject.contract.subscribers.iter().filter(|one| one.version.value == subject.major);
    for field in here.filter_map(|one| one.fields.as_ref()).flatten() {
        if subject.record.field(&field.value).is_none() {
            let names = subject.record.fields.iter().map(|field| field.name.as_str());
            let hint = suggestion(&field.value, names, "fields of the schema");
            let message = format!("the schema of version {} has no field `{}`", subject.major, field.value);
            subject.error(Code::ContractInvalid, &field.span, message, hint);
        }
    }
}

/// Rules of the contract as a whole.
pub(super) fn contract_rules(report: &Report, contract: &ContractFile, receivers: Option<&BTreeSet<String>>) {
    for one in &contract.subscribers {
        if !contract.versions.contains_key(&one.version.value) {
            let message =
                format!("`{}` subscribes to version {}, which is not there", one.name.value, one.version.value);
            report.error(&one.version.span, message);
        }
    }
    if contract.append_only && contract.kind == ContractKind::State {
        let hint = "write `kind: log`, or leave `append_only` out";
        report.error_with_hint(&contract.name.span, "`append_only: true` needs `kind: log`", hint);
    }
    let Some(receivers) = receivers else { return };
    let named = contract.notify.iter().chain(contract.subscribers.iter().flat_map(|one| &one.notify));
    for name in named.filter(|name| !receivers.contains(&name.value)) {
        let hint = suggestion(&name.value, receivers.iter().map(String::as_str), "receivers of the config");
        let message = format!("the config has no receiver `{}`", name.value);
        report.push(
            Diagnostic::error(Code::ContractInvalid, message).at(&report.file, name.span.clone()).maybe_hint(hint),
        );
    }
}
