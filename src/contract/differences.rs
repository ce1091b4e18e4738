//! Another environment's tables against those of `catalog.json`, as far as contracts read them.
//!
//! Rules that an environment breaks are found by [`super::resolve`] with its catalog. Here is what still holds there and is
//! different all the same: a mapping that was tried in one place may meet other values in the other.

use std::collections::BTreeSet;

use super::format::ContractFile;
use super::key::identity_columns;
use super::model::{ContractVersion, Feed};
use super::{Catalog, Resolved};
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::table::{ColumnImage, ReplicaIdentity, SourceType, TableImage};

/// Warnings, at the names of the tables; `environment` is the other one's name, such as `database shop at db.example.org`.
pub fn between(resolved: &Resolved, ours: &Catalog, theirs: &Catalog, environment: &str) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for version in &resolved.versions {
        let contract = resolved.contracts.iter().find(|contract| contract.name.value == version.contract);
        let (Some(contract), Some(ours), Some(theirs)) =
            (contract, ours.table(&version.source), theirs.table(&version.source))
        else {
            continue;
        };
        for what in of_version(version, ours, theirs) {
            let message = format!("{what} (in {environment}, and in `catalog.json`)");
            let finding = Diagnostic::warning(Code::EnvironmentDiffers, message).hint(HINT);
            findings.push(match source_span(contract, version.major) {
                Some(span) => finding.at(&contract.file, span),
                None => finding,
            });
        }
    }
    findings
}

const HINT: &str = "if the environment is ahead, `gimbal init --catalog-only` brings `catalog.json` up to date";

fn source_span(contract: &ContractFile, major: u32) -> Option<std::ops::Range<usize>> {
    let own = contract.versions.get(&major).and_then(|entry| entry.shape.source.as_ref());
    own.or(contract.shape.source.as_ref()).map(|source| source.span.clone())
}

/// Each difference in words: theirs, then ours.
fn of_version(version: &ContractVersion, ours: &TableImage, theirs: &TableImage) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (_, from) in version.feeds.iter().flat_map(Feed::bindings) {
        if let (true, Some(here), Some(there)) = (seen.insert(from), ours.column(from), theirs.column(from)) {
            found.extend(column(ours, here, there));
        }
    }
    let names = |image: &TableImage, attnums: &[i16]| {
        let names: BTreeSet<String> =
            attnums.iter().filter_map(|n| image.attnum(*n)).map(|column| format!("`{}`", column.name)).collect();
        names
    };
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    let there: Vec<BTreeSet<String>> = theirs.keys.iter().map(|key| names(theirs, &key.attnums)).collect();
    for key in &ours.keys {
        let columns = names(ours, &key.attnums);
        if !there.contains(&columns) {
            let columns = list(&columns);
            found.push(format!("`{}` has no usable unique index over {columns}, and has `{}`", ours.name, key.name));
        }
    }
    let identity = |image: &TableImage| match (image.replica_identity, identity_columns(image)) {
        (ReplicaIdentity::Nothing, _) => "NOTHING".to_owned(),
        (_, None) => "FULL".to_owned(),
        (_, Some([])) => "empty".to_owned(),
        (_, Some(attnums)) => list(&names(image, attnums)),
    };
    let (here, there) = (identity(ours), identity(theirs));
    if here != there {
        found.push(format!("the replica identity of `{}` is {there}, and is {here}", ours.name));
    }
    found
}

fn column(table: &TableImage, ours: &ColumnImage, theirs: &ColumnImage) -> Vec<String> {
    let mut found = Vec::new();
    let name = format!("column `{}` of `{}`", ours.name, table.name);
    if ours.type_name != theirs.type_name {
        found.push(format!("{name} is `{}`, and is `{}`", theirs.type_name, ours.type_name));
    } else if let (SourceType::Enum { labels: here }, SourceType::Enum { labels: there }) =
        (&ours.source_type, &theirs.source_type)
    {
        let labels = |list: &[crate::table::EnumLabel]| list.iter().map(|one| one.label.clone()).collect::<Vec<_>>();
        let (here, there) = (labels(here), labels(there));
        if here != there {
            let list = |labels: Vec<String>| labels.join("`, `");
            found.push(format!("the labels of {name} are `{}`, and are `{}`", list(there), list(here)));
        }
    } else if ours.source_type != theirs.source_type {
        found.push(format!("the domain `{}` of {name} is of another type than it is", ours.type_name));
    }
    if ours.not_null != theirs.not_null {
        let word = |column: &ColumnImage| if column.not_null { "is NOT NULL" } else { "may be null" };
        found.push(format!("{name} {}, and {}", word(theirs), word(ours)));
    }
    found
}
