//! The publications: what they hold must be what the contracts need, without a gap.
//!
//! A table that leaves a publication and returns shows the same name there as before, and every change in between is
//! missing from the stream. The oid of its row in `pg_publication_rel` tells: it is another one afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::Client;

use crate::config::Config;
use crate::contract::ContractVersion;
use crate::engine::Contract;
use crate::error::{Code, Error, Result};
use crate::postgres::sql::failed;
use crate::postgres::statements;
use crate::postgres::worker::table_by_name;
use crate::table::RelationId;

/// Both publications, as they were when they were checked.
#[derive(Clone, Debug)]
pub struct Publications {
    /// To stream: that of all changes, then that of inserts alone.
    pub names: Vec<String>,
    /// `pg_publication_rel.oid` by publication and table.
    members: BTreeMap<(String, RelationId), u32>,
}

/// A table that must stay in its publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    publication: String,
    relation: RelationId,
    rel: u32,
    /// The contract that reads it, for messages.
    contract: String,
    table: String,
}

/// One publication as the server has it.
struct Publication {
    all_tables: bool,
    via_root: bool,
    publishes: [bool; 4],
    tables: Vec<(RelationId, u32)>,
    narrowed: bool,
    /// Generated columns are published too, which the catalog's images say are not (PostgreSQL 18 and newer).
    generated_columns: bool,
}

fn invalid(what: String) -> Error {
    Error::definite(Code::PublicationInvalid, what).hint("run `gimbal install`, as the owner of the tables")
}

/// The publication that carries a contract's table.
fn publication_of<'a>(names: &'a [String], contract: &ContractVersion) -> Option<&'a String> {
    names.get(usize::from(contract.append_only && contract.key.is_empty()))
}

/// Checks the publications against the contracts.
pub async fn publications(
    client: &Client,
    config: &Config,
    contracts: &[Arc<ContractVersion>],
) -> Result<Publications> {
    let name = &config.source.publication;
    let names = vec![name.clone(), format!("{name}_inserts")];
    let rows = client
        .query(statements::PUBLICATION, &[&names.as_slice()])
        .await
        .map_err(|e| failed("looking at the publications", &e))?;
    let mut members = BTreeMap::new();
    for (name, wanted) in names.iter().zip([[true; 4], [true, false, false, false]]) {
        let publication = read(&rows, name)?;
        if publication.all_tables || publication.narrowed || !publication.via_root || publication.publishes != wanted {
            return Err(invalid(format!(
                "publication `{name}` is for all tables, has a column list or row filter, lacks `publish_via_partition_root`, or publishes other operations than gimbal needs"
            )));
        }
        if publication.generated_columns {
            return Err(invalid(format!(
                "publication `{name}` publishes generated columns, gimbal needs `publish_generated_columns = none`"
            )));
        }
        members.extend(publication.tables.into_iter().map(|(relation, rel)| ((name.clone(), relation), rel)));
    }
    let publications = Publications { names, members };
    for contract in contracts {
        // A table that was renamed is found by its oid when it is bound; only a name that still resolves is looked at.
        if let Some(table) = table_by_name(client, &contract.source).await? {
            publications.member(contract, table)?;
        }
    }
    Ok(publications)
}

fn read(rows: &[tokio_postgres::Row], wanted: &str) -> Result<Publication> {
    let mut found: Option<Publication> = None;
    for row in rows.iter().filter(|row| row.get::<_, &str>(0) == wanted) {
        let publication = found.get_or_insert_with(|| Publication {
            all_tables: row.get(1),
            via_root: row.get(2),
            publishes: [row.get(3), row.get(4), row.get(5), row.get(6)],
            tables: Vec::new(),
            narrowed: false,
            generated_columns: row.get(10),
        });
        if let (Some(table), Some(rel)) = (row.get(7), row.get(9)) {
            publication.tables.push((RelationId(table), rel));
        }
        publication.narrowed |= row.get::<_, Option<bool>>(8).unwrap_or(false);
    }
    found.ok_or_else(|| invalid(format!("publication `{wanted}` does not exist")))
}

impl Publications {
    fn member(&self, contract: &ContractVersion, relation: RelationId) -> Result<u32> {
        let name = publication_of(&self.names, contract).cloned().unwrap_or_default();
        self.members.get(&(name.clone(), relation)).copied().ok_or_else(|| {
            invalid(format!("table `{}` (oid {relation}) is not in publication `{name}`", contract.source))
        })
    }

    /// Notes in a contract's entry how its table is published; an active one must find what it noted before, unless its
    /// table is not `there` any more.
    pub fn enroll(&self, contract: &mut Contract, there: bool) -> Result<()> {
        if !there && contract.entry.active() && contract.entry.publication_rel.is_some() {
            return Ok(());
        }
        let rel = self.member(&contract.version, contract.entry.relation)?;
        match contract.entry.publication_rel {
            Some(before) if before == rel => {}
            Some(before) if contract.entry.active() => return Err(gap(&self.watched(contract, before), Some(rel))),
            // What an activating contract has to wait for is found out anew with every start.
            Some(_) | None => {
                contract.entry.publication_rel = Some(rel);
                contract.dirty = true;
            }
        }
        Ok(())
    }

    /// What must stay as it is while these contracts are published.
    pub fn members(&self, contracts: &[Contract]) -> Vec<Member> {
        let enrolled = |contract: &Contract| Some(self.watched(contract, contract.entry.publication_rel?));
        contracts.iter().filter_map(enrolled).collect()
    }

    fn watched(&self, contract: &Contract, rel: u32) -> Member {
        Member {
            publication: publication_of(&self.names, &contract.version).cloned().unwrap_or_default(),
            relation: contract.entry.relation,
            rel,
            contract: contract.entry.contract.clone(),
            table: contract.entry.source.to_string(),
        }
    }
}

/// Looks whether every table is in its publication as it was noted. A table that is gone is none of this check's business.
pub async fn check(client: &Client, members: &[Member]) -> Result<()> {
    let relations: Vec<u32> = members.iter().map(|member| member.relation.0).collect();
    let names: Vec<&str> = members.iter().map(|member| member.publication.as_str()).collect();
    let rows = client
        .query(statements::MEMBERSHIP, &[&relations, &names])
        .await
        .map_err(|e| failed("looking at the publications", &e))?;
    for row in rows {
        let (relation, name, rel): (u32, &str, Option<u32>) = (row.get(0), row.get(1), row.get(2));
        let of_row = |member: &&Member| member.relation.0 == relation && member.publication == name;
        if let Some(member) = members.iter().filter(of_row).find(|member| rel != Some(member.rel)) {
            return Err(gap(member, rel));
        }
    }
    Ok(())
}

/// The table was out of the publication, or is.
fn gap(member: &Member, now: Option<u32>) -> Error {
    let Member { publication, rel, contract, table, .. } = member;
    let now = now.map_or("it is not in it now".to_owned(), |now| format!("it came back as {now}"));
    Error::definite(
        Code::PublicationInvalid,
        format!("table `{table}` left publication `{publication}`, where it was entry {rel}: {now}, and its changes in between are lost"),
    )
    .hint(format!(
        "run `gimbal install` if it is still out, then `gimbal adopt --contract {contract}`, which lets the table be copied again"
    ))
}
