//! The slot and its server: looked at before anything is read, created once, never taken by force.

use tokio_postgres::Client;

use crate::engine::{ADOPT_HINT, Sample};
use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;
use crate::postgres::catalog::quote_identifier as quote;
use crate::postgres::connection::{Connection, SystemIdentity};
use crate::postgres::sampling;
use crate::postgres::sql::failed;
use crate::postgres::statements;
use crate::state::PositionEntry;
use crate::table::{QualifiedName, RelationId};

/// The slot as the server shows it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Up to here it was acknowledged.
    pub confirmed: Option<Lsn>,
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
    /// True if the server has thrown away log that the slot still needed.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
    }

    /// Refuses a slot that is not ours to read.
    pub fn check(&self, name: &str, database: &str) -> Result<()> {
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
    Error::definite(Code::SlotLost, format!("slot `{name}` is gone or has lost log that was not read yet")).hint(
        "run `gimbal adopt`: it lets the slot be made anew and every table be copied again; and set `max_slot_wal_keep_size` with room",
    )
}

/// A slot is there, and the sink knows nothing of it.
pub fn without_state(name: &str) -> Error {
    Error::definite(Code::SlotWithoutState, format!("slot `{name}` exists, the sink has no checkpoint for it"))
        .hint("if the slot is this pipeline's, run `gimbal adopt`: it lets it be made anew; if not, name another one in `source.slot`")
}

/// Where a timeline ended and the next one began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The timeline that was left.
    pub timeline: u32,
    /// Its log is the server's own history up to here.
    pub lsn: Lsn,
}

/// Who the server is and what it has of the slot, right before the slot is taken.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// From `IDENTIFY_SYSTEM`.
    pub identity: SystemIdentity,
    /// The timelines that the server has left, from `TIMELINE_HISTORY`.
    pub forks: Vec<Fork>,
    /// The slot's `confirmed_flush_lsn`.
    pub confirmed: Option<Lsn>,
}

impl Arrival {
    /// Asks the server on a replication connection.
    pub fn read(connection: &mut Connection, confirmed: Option<Lsn>) -> Result<Arrival> {
        let identity = connection.identify_system()?;
        let forks = match identity.timeline {
            // The first one has no history.
            0 | 1 => Vec::new(),
            timeline => {
                let rows = connection.simple_query(&format!("TIMELINE_HISTORY {timeline}"))?;
                let text = rows.first().and_then(|row| row.get(1)?.as_deref()).unwrap_or_default();
                forks(text)
            }
        };
        Ok(Arrival { identity, forks, confirmed })
    }

    /// Compares the server with the checkpoint. What it cannot see, the anchor shows: a server whose log was set back and
    /// has grown past the checkpoint since.
    pub fn check(&self, position: &PositionEntry) -> Result<()> {
        let Arrival { identity, forks, confirmed } = self;
        let refuse = |code: Code, what: String| Err(Error::definite(code, what).hint(ADOPT_HINT));
        if identity.system_id != position.system_id {
            return Err(other_system(identity.system_id, position.system_id));
        }
        let reach = position.reach();
        if identity.flush_lsn < reach {
            let what = format!("the server's log ends at {}, the checkpoint is at {reach}", identity.flush_lsn);
            return refuse(Code::ServerBehind, what);
        }
        if identity.timeline != position.timeline {
            let (theirs, ours) = (identity.timeline, position.timeline);
            let fork = forks.iter().find(|fork| fork.timeline == ours).map(|fork| fork.lsn);
            let Some(lsn) = fork.filter(|lsn| *lsn >= reach) else {
                let left =
                    fork.map_or("which does not descend from it".to_owned(), |lsn| format!("which left it at {lsn}"));
                return refuse(
                    Code::TimelineDiverged,
                    format!(
                        "the checkpoint is at {reach} of timeline {ours}, the server is on timeline {theirs}, {left}"
                    ),
                );
            };
            tracing::info!(from = ours, to = theirs, fork = %lsn, "the server has changed its timeline");
        }
        match confirmed {
            Some(confirmed) if *confirmed > position.ack => refuse(
                Code::SlotMoved,
                format!("the slot is confirmed up to {confirmed}, gimbal acknowledged at most {}", position.ack),
            ),
            _ => Ok(()),
        }
    }
}

/// The server is another cluster.
pub fn other_system(server: u64, checkpoint: u64) -> Error {
    Error::definite(
        Code::SystemMismatch,
        format!("the server has system identifier {server}, the checkpoint is of {checkpoint}"),
    )
    .hint(ADOPT_HINT)
}

/// The lines of a timeline's history file: timeline, where it was left, why.
fn forks(text: &str) -> Vec<Fork> {
    let fork = |line: &str| {
        let mut words = line.split_whitespace();
        Some(Fork { timeline: words.next()?.parse().ok()?, lsn: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(fork).collect()
}

/// Creates the slot and reads the catalog of these tables, by name and by oid, at exactly its point.
pub fn create(
    connection: &mut Connection,
    name: &str,
    tables: &[QualifiedName],
    relations: &[RelationId],
) -> Result<(Lsn, Sample)> {
    connection.simple_query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ")?;
    let rows =
        connection.simple_query(&format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput USE_SNAPSHOT", quote(name)))?;
    let consistent = rows.first().and_then(|row| row.get(1)?.as_deref()?.parse().ok()).ok_or_else(|| {
        Error::definite(Code::SourceProtocol, "the server's answer to CREATE_REPLICATION_SLOT does not parse")
    })?;
    let sample = sampling::sample_at_slot(connection, tables, relations)?;
    connection.simple_query("COMMIT")?;
    Ok((consistent, sample))
}

/// Drops a slot whose creation was broken off, or that is to be made anew, once its last reader has gone.
pub fn drop(connection: &mut Connection, name: &str) -> Result<()> {
    connection.simple_query(&format!("DROP_REPLICATION_SLOT {} WAIT", quote(name))).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Phase;

    fn arrival(timeline: u32, flush: u64, history: &str, confirmed: u64) -> Arrival {
        let identity = SystemIdentity { system_id: 7, timeline, flush_lsn: Lsn(flush), database: "d".into() };
        Arrival { identity, forks: forks(history), confirmed: Some(Lsn(confirmed)) }
    }

    /// Acknowledged up to 0/100, at 0/200 of timeline 2.
    fn position() -> PositionEntry {
        PositionEntry {
            seq: 1,
            phase: Phase::Started,
            epoch: 0,
            system_id: 7,
            timeline: 2,
            commit_lsn: Lsn(0x1f8),
            next_ordinal: 0,
            complete: true,
            end_lsn: Lsn(0x200),
            anchor: None,
            ack: Lsn(0x100),
            witness: None,
        }
    }

    #[test]
    fn a_server_that_has_what_was_published_passes() {
        for good in [
            arrival(2, 0x200, "", 0x100),
            // After a crash of the server the slot is a little behind.
            arrival(2, 0x900, "", 0x80),
            // A standby that was promoted with all of it.
            arrival(
                3,
                0x900,
                "1\t0/90\tno recovery target specified\n\n2\t0/200\tno recovery target specified\n",
                0x100,
            ),
            arrival(4, 0x900, "1\t0/90\tx\n2\t0/300\tx\n3\t0/400\tx\n", 0x100),
        ] {
            good.check(&position()).unwrap();
        }
    }

    #[test]
    fn each_broken_history_has_its_code_and_both_sides() {
        let mut stranger = arrival(2, 0x200, "", 0x100);
        stranger.identity.system_id = 8;
        for (bad, code, sides) in [
            (stranger, Code::SystemMismatch, ["8", "7"]),
            (arrival(2, 0x1ff, "", 0x100), Code::ServerBehind, ["0/1FF", "0/200"]),
            (arrival(3, 0x900, "1\t0/90\tx\n2\t0/1FF\tx\n", 0x100), Code::TimelineDiverged, ["0/1FF", "0/200"]),
            (arrival(3, 0x900, "1\t0/90\tx\n", 0x100), Code::TimelineDiverged, ["timeline 3", "timeline 2"]),
            (arrival(1, 0x900, "", 0x100), Code::TimelineDiverged, ["timeline 1", "timeline 2"]),
            (arrival(2, 0x900, "", 0x101), Code::SlotMoved, ["0/101", "0/100"]),
        ] {
            let error = bad.check(&position()).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(sides.iter().all(|side| error.diagnosis().contains(side)), "{error}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains("gimbal adopt")), "{error}");
        }
    }

    #[test]
    fn a_half_published_transaction_must_be_in_the_servers_log() {
        let half = PositionEntry { commit_lsn: Lsn(0x500), complete: false, ..position() };
        assert_eq!(arrival(2, 0x500, "", 0x100).check(&half).unwrap_err().code(), Code::ServerBehind);
        arrival(2, 0x600, "", 0x100).check(&half).unwrap();
    }
}
