//! The publications: there, with the contracts' tables and no others, whole and with all operations.

use std::collections::BTreeSet;

use super::facts::{Facts, Publication, Rest};
use super::report::{Finding, Fix};
use crate::contract::ContractVersion;
use crate::error::Code;
use crate::postgres::catalog::quote_identifier as quote;
use crate::postgres::setup::{Publishes, create_publication, quoted, without_generated_columns};
use crate::table::QualifiedName;

/// All checks of both publications.
pub(super) fn check(rest: &Rest, facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for publishes in [Publishes::Changes, Publishes::Inserts] {
        let wanted = Wanted::of(publishes, rest, facts);
        let name = publishes.name(&facts.config.source.publication);
        match rest.publications.iter().find(|publication| publication.name == name) {
            None => findings.push(missing(&name, &wanted, facts)),
            Some(publication) => findings.extend(compare(publication, &wanted, facts)),
        }
    }
    findings
}

/// What one publication must hold.
struct Wanted {
    publishes: Publishes,
    /// Of the contracts that are published, by the names that they have now.
    tables: BTreeSet<QualifiedName>,
    /// Of drafts and retired versions too: `install` puts them in.
    allowed: BTreeSet<QualifiedName>,
}

impl Wanted {
    fn of(publishes: Publishes, rest: &Rest, facts: &Facts<'_>) -> Wanted {
        let ours = |version: &&ContractVersion| Publishes::of(version) == publishes;
        let now = |version: &ContractVersion| {
            let table = rest.tables.iter().find(|table| table.source == version.source)?;
            Some(table.image.as_ref()?.name.clone())
        };
        let tables: BTreeSet<QualifiedName> = facts.published().filter(ours).filter_map(now).collect();
        let mut allowed: BTreeSet<QualifiedName> =
            facts.contracts.iter().filter(ours).map(|version| version.source.clone()).collect();
        allowed.extend(tables.iter().cloned());
        Wanted { publishes, tables, allowed }
    }

    fn create(&self, facts: &Facts<'_>) -> String {
        create_publication(&facts.config.source.publication, self.publishes, &self.tables)
    }
}

fn invalid(check: &'static str, what: String, fix: String) -> Finding {
    Finding::error(check, Code::PublicationInvalid, what, Fix::Sql(fix))
}

fn missing(name: &str, wanted: &Wanted, facts: &Facts<'_>) -> Finding {
    invalid("publication-missing", format!("publication `{name}` does not exist"), wanted.create(facts))
}

fn compare(publication: &Publication, wanted: &Wanted, facts: &Facts<'_>) -> Vec<Finding> {
    let (name, alter) = (&publication.name, format!("ALTER PUBLICATION {}", quote(&publication.name)));
    let mut findings = Vec::new();
    if publication.all_tables {
        // In one transaction, so that there is a publication of this name at every point of the log.
        let fix = format!("BEGIN; DROP PUBLICATION {}; {}; COMMIT", quote(name), wanted.create(facts));
        let what = format!("publication `{name}` is FOR ALL TABLES, gimbal needs exactly the contracted ones");
        return vec![invalid("publication-all-tables", what, fix)];
    }
    if !publication.via_root {
        let what = format!("publication `{name}` has `publish_via_partition_root = false`, gimbal needs `true`");
        let fix = format!("{alter} SET (publish_via_partition_root = true)");
        findings.push(invalid("publication-via-root", what, fix));
    }
    if publication.generated_columns {
        let what = format!(
            "publication `{name}` publishes generated columns, gimbal needs `publish_generated_columns = none`"
        );
        findings.push(invalid("publication-generated-columns", what, without_generated_columns(name)));
    }
    let expected = match wanted.publishes {
        Publishes::Changes => [true; 4],
        Publishes::Inserts => [true, false, false, false],
    };
    if publication.publishes != expected {
        let operations = wanted.publishes.operations();
        let what = format!(
            "publication `{name}` publishes `{}`, gimbal needs `{operations}`",
            operations_of(publication.publishes)
        );
        findings.push(invalid("publication-operations", what, format!("{alter} SET (publish = '{operations}')")));
    }
    findings.extend(tables(publication, wanted, &alter));
    findings
}

fn operations_of(publishes: [bool; 4]) -> String {
    let names = ["insert", "update", "delete", "truncate"];
    let on: Vec<&str> = names.into_iter().zip(publishes).filter_map(|(name, on)| on.then_some(name)).collect();
    on.join(", ")
}

fn tables(publication: &Publication, wanted: &Wanted, alter: &str) -> Vec<Finding> {
    let name = &publication.name;
    let mut findings = Vec::new();
    let named = |table: &QualifiedName| publication.tables.iter().any(|found| found.name == *table);
    let whole = |table: &QualifiedName| publication.namespaces.contains(&table.namespace);
    for namespace in &publication.namespaces {
        let what = format!(
            "publication `{name}` publishes all tables of schema `{namespace}`, gimbal needs the contracted ones"
        );
        let needed = wanted.tables.iter().filter(|table| table.namespace == *namespace && !named(table));
        let add: String = needed.map(|table| format!("; {alter} ADD TABLE {}", quoted(table))).collect();
        let fix = format!("BEGIN; {alter} DROP TABLES IN SCHEMA {}{add}; COMMIT", quote(namespace));
        findings.push(invalid("publication-schema", what, fix));
    }
    for table in wanted.tables.iter().filter(|table| !named(table) && !whole(table)) {
        let what = format!("publication `{name}` lacks table `{table}`, which a contract reads");
        findings.push(invalid("publication-lacks", what, format!("{alter} ADD TABLE {}", quoted(table))));
    }
    for found in &publication.tables {
        let table = &found.name;
        if !wanted.allowed.contains(table) {
            let what = format!(
                "publication `{name}` has table `{table}`, which no contract reads: its changes are sent for nothing"
            );
            findings.push(invalid("publication-extra", what, format!("{alter} DROP TABLE {}", quoted(table))));
            continue;
        }
        let hides = match (found.row_filter, found.column_list) {
            (false, false) => continue,
            (true, false) => ("publication-row-filter", "a row filter"),
            (false, true) => ("publication-column-list", "a column list"),
            (true, true) => ("publication-row-filter", "a row filter and a column list"),
        };
        let what = format!("publication `{name}` has {} on table `{table}`, gimbal needs the whole table", hides.1);
        // At no point of the log is a table missing, as it would be between DROP TABLE and ADD TABLE.
        let all: Vec<String> = wanted.tables.iter().map(quoted).collect();
        findings.push(invalid(hides.0, what, format!("{alter} SET TABLE {}", all.join(", "))));
    }
    findings
}
