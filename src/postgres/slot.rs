//! The slot and the publications: looked at before anything is read, created once, never taken by force.

use std::sync::Arc;

use tokio_postgres::Client;

use crate::config::Config;
use crate::contract::ContractVersion;
use crate::engine::Sample;
use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;
use crate::postgres::catalog::quote_identifier as quote;
use crate::postgres::connection::{Connection, SystemIdentity};
use crate::postgres::sampling;
use crate::postgres::sql::failed;
use crate::postgres::statements;
use crate::postgres::worker::table_by_name;
use crate::state::PositionEntry;
use crate::table::QualifiedName;

/// The slot as the server shows it.
#[derive(Clone, Debug)]
pub struct Slot {
    confirmed: Option<Lsn>,
    wal_status: Option<String>,
    database: Option<String>,
    plugin: Option<String>,
}

/// Looks for the slot.
pub async fn find(client: &Client, name: &str) -> Result<Option<Slot>> {
    let row = client.query_opt(statements::SLOT, &[&name]).await.map_err(|e| failed("looking for the slot", &e))?;
    Ok(row.map(|row| Slot {
        confirmed: row.get::<_, Option<&str>>(0).and_then(|text| text.parse().ok()),
        wal_status: row.get(2),
        database: row.get(3),
        plugin: row.get(4),
    }))
}

impl Slot {
    /// Refuses a slot that is not ours to read.
    pub fn check(&self, name: &str, database: &str) -> Result<()> {
        if self.wal_status.as_deref() == Some("lost") {
            return Err(lost(name));
        }
        let plugin = self.plugin.as_deref().unwrap_or("none (a physical slot)");
        let of = self.database.as_deref().unwrap_or("none");
        if plugin != "pgoutput" || of != database {
            return Err(Error::definite(
                Code::SourceMismatch,
                format!(
                    "slot `{name}` has plugin `{plugin}` and database `{of}`, gimbal needs `pgoutput` and `{database}`"
                ),
            )
            .hint("name another slot in `source.slot`"));
        }
        Ok(())
    }
}

/// The slot lost its log or is gone, and the checkpoint says that it was there.
pub fn lost(name: &str) -> Error {
    Error::definite(Code::SlotLost, format!("slot `{name}` is gone or has lost log that was not read yet"))
        .hint("changes are missing from the topics; start a new pipeline with a snapshot, and set `max_slot_wal_keep_size` with room")
}

/// A slot is there, and the sink knows nothing of it.
pub fn without_state(name: &str) -> Error {
    Error::definite(Code::SlotWithoutState, format!("slot `{name}` exists, the sink has no checkpoint for it"))
        .hint("if no other program reads this slot, drop it with `SELECT pg_drop_replication_slot(…)`; to keep it, wait for `gimbal adopt`")
}

/// Compares the server with the checkpoint.
pub fn check_position(position: &PositionEntry, identity: &SystemIdentity, slot: &Slot) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::definite(Code::SourceMismatch, what).hint(
            "the server was restored, replaced, or its slot was moved; changes may be missing: nothing was published",
        ))
    };
    if identity.system_id != position.system_id {
        return refuse(format!(
            "the server has system identifier {}, the checkpoint {}",
            identity.system_id, position.system_id
        ));
    }
    if identity.flush_lsn < position.end_lsn {
        return refuse(format!(
            "the server's log ends at {}, the checkpoint at {}",
            identity.flush_lsn, position.end_lsn
        ));
    }
    match slot.confirmed {
        Some(confirmed) if confirmed > position.ack => {
            refuse(format!("the slot was confirmed up to {confirmed}, gimbal acknowledged at most {}", position.ack))
        }
        _ => Ok(()),
    }
}

/// Creates the slot and reads the catalog of these tables at exactly its point.
pub fn create(connection: &mut Connection, name: &str, tables: &[QualifiedName]) -> Result<(Lsn, Sample)> {
    connection.simple_query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ")?;
    let rows =
        connection.simple_query(&format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput USE_SNAPSHOT", quote(name)))?;
    let consistent = rows.first().and_then(|row| row.get(1)?.as_deref()?.parse().ok()).ok_or_else(|| {
        Error::definite(Code::SourceProtocol, "the server's answer to CREATE_REPLICATION_SLOT does not parse")
    })?;
    let sample = sampling::sample_at_slot(connection, tables)?;
    connection.simple_query("COMMIT")?;
    Ok((consistent, sample))
}

/// Drops a slot whose creation was broken off, once its last reader has gone.
pub fn drop(connection: &mut Connection, name: &str) -> Result<()> {
    connection.simple_query(&format!("DROP_REPLICATION_SLOT {} WAIT", quote(name))).map(|_| ())
}

/// One publication as the server has it.
struct Publication {
    all_tables: bool,
    via_root: bool,
    publishes: [bool; 4],
    tables: Vec<u32>,
    narrowed: bool,
}

/// Checks the publications against the contracts; returns the names to stream.
pub async fn publications(client: &Client, config: &Config, contracts: &[Arc<ContractVersion>]) -> Result<Vec<String>> {
    let name = &config.source.publication;
    let inserts = format!("{name}_inserts");
    let names = [name.clone(), inserts.clone()];
    let rows = client
        .query(statements::PUBLICATION, &[&names.as_slice()])
        .await
        .map_err(|e| failed("looking at the publications", &e))?;
    let invalid = |what: String| {
        Error::definite(Code::PublicationInvalid, what).hint("run `gimbal install`, as the owner of the tables")
    };
    let read = |wanted: &str| -> Result<Publication> {
        let mut found: Option<Publication> = None;
        for row in rows.iter().filter(|row| row.get::<_, &str>(0) == wanted) {
            let publication = found.get_or_insert_with(|| Publication {
                all_tables: row.get(1),
                via_root: row.get(2),
                publishes: [row.get(3), row.get(4), row.get(5), row.get(6)],
                tables: Vec::new(),
                narrowed: false,
            });
            publication.tables.extend(row.get::<_, Option<u32>>(7));
            publication.narrowed |= row.get::<_, Option<bool>>(8).unwrap_or(false);
        }
        found.ok_or_else(|| invalid(format!("publication `{wanted}` does not exist")))
    };
    let (changes, appends) = (read(name)?, read(&inserts)?);
    for (label, publication, wanted) in [(name, &changes, [true; 4]), (&inserts, &appends, [true, false, false, false])]
    {
        if publication.all_tables || publication.narrowed || !publication.via_root || publication.publishes != wanted {
            return Err(invalid(format!(
                "publication `{label}` is for all tables, has a column list or row filter, lacks `publish_via_partition_root`, or publishes other operations than gimbal needs"
            )));
        }
    }
    for contract in contracts {
        let table = table_by_name(client, &contract.source).await?;
        let (label, publication) =
            if contract.append_only && contract.key.is_empty() { (&inserts, &appends) } else { (name, &changes) };
        // A table that was renamed is found by its oid when it is bound; only a name that still resolves is looked at.
        if let Some(table) = table.filter(|table| !publication.tables.contains(&table.0)) {
            return Err(invalid(format!("table `{}` (oid {table}) is not in publication `{label}`", contract.source)));
        }
    }
    Ok(vec![name.clone(), inserts])
}
