//! What `status`, health and metrics show: a snapshot that the daemon replaces, and others only read.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::daemon::alerts::Alert;
use crate::postgres::unix_micros;

/// The version of the JSON that `status --format json` prints.
pub const FORMAT_VERSION: u32 = 1;

/// The daemon's state of this moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Of this JSON.
    pub format_version: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// starting, streaming, stopping or stopped.
    pub state: String,
    /// See [`crate::position::Position`].
    pub epoch: u16,
    /// Everything up to here is published, durably.
    pub position: String,
    /// What was acknowledged to the server.
    pub confirmed_lsn: String,
    /// Everything before was read from the stream and is durable.
    pub done_lsn: String,
    /// Log behind the server's flush position, not yet acknowledged.
    pub lag_bytes: i64,
    /// Log that the server keeps for the slot.
    pub retained_wal_bytes: i64,
    /// Room before the slot loses log; absent without `max_slot_wal_keep_size`.
    pub safe_wal_bytes: Option<i64>,
    /// Seconds since the newest commit or heartbeat that is durable; absent before the first.
    pub freshness_seconds: Option<f64>,
    /// One entry a contract version.
    pub contracts: Vec<ContractStatus>,
    /// Those that fire, and those that were resolved within the last week.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Schema changes, newest last.
    pub timeline: Vec<TimelineEntry>,
    /// Why the daemon stopped or last tried again.
    pub error: Option<ErrorStatus>,
}

/// A contract version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContractStatus {
    /// Its name.
    pub contract: String,
    /// Its major.
    pub version: u32,
    /// Its minor.
    pub minor: u32,
    /// Where it is published.
    pub topic: String,
    /// activating, snapshotting, live, repairing, parked or stopped.
    pub state: String,
    /// Since when it is live or parked.
    pub since: Option<String>,
    /// Why it is parked.
    #[serde(default)]
    pub reason: Option<ErrorStatus>,
    /// Records published since the daemon started.
    pub records: u64,
    /// Of these, records with values that were read again because the stream did not carry them.
    #[serde(default)]
    pub reread_records: u64,
    /// Updates that were not published, because their row was gone when it was read again.
    #[serde(default)]
    pub superseded: u64,
    /// Records in its parked topic since it is parked.
    #[serde(default)]
    pub parked_records: u64,
    /// Keys that show an older row than the table, or none, because the newest one is a dead letter.
    #[serde(default)]
    pub dead_keys: u64,
    /// `all` if those keys were too many to be counted.
    #[serde(default)]
    pub level_except: Vec<String>,
    /// While snapshotting.
    pub snapshot: Option<SnapshotStatus>,
    /// Repairs that are not complete. Until they are, the topic may differ from the table.
    #[serde(default)]
    pub repairs: Vec<RepairStatus>,
    /// Fields whose column has another name now.
    pub follows: Vec<Follows>,
}

/// How far a snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// Blocks read (8 KiB each).
    pub blocks_read: u64,
    /// Blocks in all; 0 until measured.
    pub blocks_total: u64,
    /// Rows published.
    pub rows: u64,
}

/// How far a repair is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Its number.
    pub id: u64,
    /// Asked for, or begun anew, here.
    pub since: String,
    /// Share of the topic's keys that were looked up, in percent.
    pub keys_percent: f64,
    /// Keys looked up.
    pub keys: u64,
    /// Tombstones published.
    pub tombstones: u64,
    /// Rows published.
    pub rows: u64,
    /// Blocks of the table read (8 KiB each).
    pub blocks_read: u64,
    /// Blocks in all; 0 until the keys are done.
    pub blocks_total: u64,
}

impl RepairStatus {
    /// How much of it is done, 0 to 1: the keys are taken as half of the work.
    pub fn share(&self) -> f64 {
        let rows = self.blocks_read as f64 / self.blocks_total.max(1) as f64;
        (self.keys_percent / 100.0 + rows) / 2.0
    }
}

/// A renamed column that a field still reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// The schema field.
    pub field: String,
    /// The name in the contract.
    pub from: String,
    /// The name in production.
    pub now: String,
}

/// A schema change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TimelineEntry {
    /// Where the new version begins.
    pub pos: String,
    /// The table.
    pub table: String,
    /// What changed.
    pub change: String,
    /// followed, at_risk or broken.
    pub verdict: String,
}

/// An error as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// Such as `E0201`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl From<&crate::error::Error> for ErrorStatus {
    fn from(error: &crate::error::Error) -> ErrorStatus {
        ErrorStatus {
            code: error.code().to_string(),
            message: error.diagnosis().to_owned(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

/// Where the daemon puts its status and others read it. Cheap to clone.
#[derive(Clone, Default)]
pub struct StatusBoard(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    status: Status,
    /// Commit time of the newest transaction that is durable in the sink, microseconds since 1970.
    newest: Option<i64>,
}

impl StatusBoard {
    /// The newest status.
    pub fn read(&self) -> Status {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut status = shown.status.clone();
        status.freshness_seconds = shown.newest.map(|newest| (unix_micros() - newest).max(0) as f64 / 1e6);
        status
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).status);
    }

    /// A transaction of this commit time became durable.
    pub fn durable(&self, newest: Option<i64>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.newest = newest.or(shown.newest);
    }
}
