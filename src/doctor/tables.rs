//! The contracted tables: there, readable, unfiltered, with a key that old rows carry.

use std::collections::BTreeSet;

use super::facts::{Facts, Rest, Source, Table};
use super::report::{Finding, Fix};
use crate::contract::{ContractVersion, FeedSource};
use crate::error::Code;
use crate::postgres::catalog::quote_identifier as quote;
use crate::postgres::setup::{grant_select, grant_usage, quoted};
use crate::table::{ReplicaIdentity, TableImage};

/// All checks of tables.
pub(super) fn check(source: &Source, rest: &Rest, facts: &Facts<'_>) -> Vec<Finding> {
    let user = &source.url.user;
    let mut findings = Vec::new();
    let mut namespaces = BTreeSet::new();
    for table in &rest.tables {
        match &table.image {
            None => findings.push(missing(table)),
            Some(image) => {
                findings.extend(rights(user, table, &mut namespaces));
                for version in facts.published().filter(|version| version.source == table.source) {
                    findings.extend(key(version, image));
                }
            }
        }
    }
    findings
}

fn missing(table: &Table) -> Finding {
    let what = format!("a contract reads table `{}`, the database has none of that name", table.source);
    let fix = Fix::Advice("correct `source:` in the contract, or create the table".into());
    Finding::error("table-missing", Code::SourceUnknown, what, fix)
}

fn rights(user: &str, table: &Table, namespaces: &mut BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let error = |check, code, what, fix| Finding::error(check, code, what, Fix::Sql(fix));
    for right in &table.rights {
        let name = &right.name;
        if !right.usage && namespaces.insert(name.namespace.clone()) {
            let what = format!("role `{user}` has no USAGE on schema `{}`, where `{name}` is", name.namespace);
            findings.push(error("schema-usage", Code::SourceRights, what, grant_usage(&name.namespace, user)));
        }
        if !right.select {
            let part = if *name == table.source { "" } else { ", a partition: the root's grant does not reach it" };
            let what = format!("role `{user}` has no SELECT on table `{name}`{part}");
            findings.push(error("table-select", Code::SourceRights, what, grant_select(name, user)));
        }
        if right.row_security {
            let what =
                format!("table `{name}` has row security, and role `{user}` no BYPASSRLS: snapshots are refused");
            let fix = format!("ALTER ROLE {} BYPASSRLS", quote(user));
            findings.push(error("row-security", Code::RowSecurity, what, fix));
        }
    }
    findings
}

/// The contract's key: unique in production, and in every old row.
fn key(version: &ContractVersion, image: &TableImage) -> Option<Finding> {
    if version.key.is_empty() {
        return None;
    }
    let columns: Vec<&str> = version.key.iter().filter_map(|field| column(version, field)).collect();
    // A column that is renamed or gone is followed, or refused, by its number; nothing can be said by names.
    let numbers: Option<BTreeSet<i16>> =
        columns.iter().map(|name| image.column(name).map(|column| column.attnum)).collect();
    let numbers = numbers.filter(|numbers| numbers.len() == version.key.len())?;
    let (table, name) = (quoted(&image.name), &image.name);
    let contract = format!("contract `{}` v{}", version.contract, version.major);
    let list = columns.join("`, `");
    let unique =
        image.keys.iter().find(|key| !key.attnums.is_empty() && key.attnums.iter().all(|n| numbers.contains(n)));
    let Some(unique) = unique else {
        let quoted: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        let what = format!("table `{name}` has no unique key over `{list}`, the key of {contract}");
        let (check, statement) = match image.keys.iter().any(|key| key.primary) {
            true => ("table-key", format!("ALTER TABLE {table} ADD UNIQUE ({})", quoted.join(", "))),
            false => ("table-key", format!("ALTER TABLE {table} ADD PRIMARY KEY ({})", quoted.join(", "))),
        };
        return Some(Finding::error(check, Code::KeyLost, what, Fix::Sql(statement)));
    };
    let identity = image.identity();
    if numbers.iter().all(|number| identity.contains(number)) {
        return None;
    }
    let what = format!(
        "table `{name}` has REPLICA IDENTITY {}, {contract} needs `{list}` in old rows",
        match image.replica_identity {
            ReplicaIdentity::Default => "DEFAULT",
            ReplicaIdentity::Full => "FULL",
            ReplicaIdentity::Index => "USING INDEX",
            ReplicaIdentity::Nothing => "NOTHING",
        }
    );
    let covers = numbers.iter().all(|number| unique.attnums.contains(number));
    let to = match (covers, unique.primary) {
        (true, true) => "DEFAULT".to_owned(),
        (true, false) if not_null(image, &unique.attnums) => format!("USING INDEX {}", quote(&unique.name)),
        _ => "FULL".to_owned(),
    };
    let fix = Fix::Sql(format!("ALTER TABLE {table} REPLICA IDENTITY {to}"));
    Some(Finding::error("replica-identity", Code::ReplicaIdentityLost, what, fix))
}

fn not_null(image: &TableImage, attnums: &[i16]) -> bool {
    attnums.iter().all(|number| image.attnum(*number).is_some_and(|column| column.not_null))
}

/// The column that feeds a field.
fn column<'a>(version: &'a ContractVersion, field: &str) -> Option<&'a str> {
    let feed = version.feeds.iter().find(|feed| feed.field == field)?;
    match &feed.source {
        FeedSource::Column { from, .. } => Some(from),
        FeedSource::Const(_) | FeedSource::Expr { .. } => None,
    }
}
