//! Prometheus metrics, in base units, never labelled by key or user.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::engine::Engine;
use crate::state::Progress;

/// Upper bounds of the histogram of commit-to-durable times, in seconds.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableOp {
    table: String,
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContractVersionLabel {
    contract: String,
    version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContractLabel {
    contract: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeadLetter {
    contract: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContractState {
    contract: String,
    version: u32,
    state: &'static str,
}

/// All metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    lag_bytes: Gauge<i64, AtomicI64>,
    lag_seconds: Gauge<f64, AtomicU64>,
    retained: Gauge<i64, AtomicI64>,
    safe: Gauge<i64, AtomicI64>,
    changes: Family<TableOp, Counter>,
    records: Family<ContractVersionLabel, Counter>,
    rereads: Family<ContractVersionLabel, Counter>,
    superseded: Family<ContractVersionLabel, Counter>,
    states: Family<ContractState, Gauge>,
    parked: Family<ContractLabel, Gauge>,
    dead_letters: Family<DeadLetter, Counter>,
    commit_to_durable: Histogram,
    commit_seconds: Histogram,
    /// The engine counts from the start of a session; a counter must not go back.
    seen: Arc<Mutex<HashMap<String, u64>>>,
}

impl Metrics {
    /// Metrics at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("gimbal");
        let metrics = Metrics {
            registry: Arc::default(),
            lag_bytes: Gauge::default(),
            lag_seconds: Gauge::default(),
            retained: Gauge::default(),
            safe: Gauge::default(),
            changes: Family::default(),
            records: Family::default(),
            rereads: Family::default(),
            superseded: Family::default(),
            states: Family::default(),
            parked: Family::default(),
            dead_letters: Family::default(),
            commit_to_durable: Histogram::new(BUCKETS),
            commit_seconds: Histogram::new(BUCKETS),
            seen: Arc::default(),
        };
        registry.register("replication_lag_bytes", "Log not yet acknowledged", metrics.lag_bytes.clone());
        registry.register("replication_lag_seconds", "Age of the newest durable commit", metrics.lag_seconds.clone());
        registry.register(
            "slot_retained_wal_bytes",
            "Log that the server keeps for the slot",
            metrics.retained.clone(),
        );
        registry.register("slot_safe_wal_bytes", "Room before the slot loses log", metrics.safe.clone());
        registry.register("source_changes", "Row events read", metrics.changes.clone());
        registry.register("published_records", "Records published", metrics.records.clone());
        registry.register("reread_records", "Records with values that were read again", metrics.rereads.clone());
        registry.register(
            "superseded_changes",
            "Updates whose row was gone at the re-read",
            metrics.superseded.clone(),
        );
        registry.register("contract_state", "1 for the state a contract version is in", metrics.states.clone());
        registry.register("parked_records", "Records in the topics of parked contracts", metrics.parked.clone());
        registry.register("dead_letter_records", "Changes that do not fit", metrics.dead_letters.clone());
        registry.register(
            "commit_to_durable_seconds",
            "From the commit in PostgreSQL until the record is durable in the sink",
            metrics.commit_to_durable.clone(),
        );
        registry.register("sink_commit_seconds", "Duration of a commit of the sink", metrics.commit_seconds.clone());
        let build = Family::<Vec<(String, String)>, Gauge>::default();
        build.get_or_create(&vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        registry.register("build_info", "The program's version", build);
        Metrics { registry: Arc::new(registry), ..metrics }
    }

    /// Takes over the engine's counts.
    pub fn engine(&self, engine: &Engine) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for table in engine.tables() {
            let Some(version) = &table.known else { continue };
            for (op, count) in ["insert", "update", "delete", "truncate"].into_iter().zip(table.changes) {
                let counter = self.changes.get_or_create_owned(&TableOp { table: version.name.to_string(), op });
                counter.inc_by(grown(&mut seen, format!("t/{}/{op}", table.relation), count));
            }
        }
        // A contract's majors together.
        let mut parked: HashMap<String, i64> = HashMap::new();
        for contract in engine.contracts() {
            let (name, version) = (contract.entry.contract.clone(), contract.entry.major);
            let label = ContractVersionLabel { contract: name.clone(), version };
            let key = format!("c/{name}/{version}");
            self.records.get_or_create_owned(&label).inc_by(grown(&mut seen, key, contract.records));
            let key = format!("r/{name}/{version}");
            self.rereads.get_or_create_owned(&label).inc_by(grown(&mut seen, key, contract.rereads));
            let key = format!("s/{name}/{version}");
            self.superseded.get_or_create_owned(&label).inc_by(grown(&mut seen, key, contract.superseded));
            let now = match contract.entry.progress {
                Progress::Live { .. } if contract.repairs > 0 => "repairing",
                Progress::Live { .. } => "live",
                Progress::Parked { .. } => "parked",
                Progress::Activating | Progress::Snapshotting | Progress::Ended { .. } => "snapshotting",
            };
            for state in ["live", "snapshotting", "repairing", "parked"] {
                let label = ContractState { contract: name.clone(), version, state };
                self.states.get_or_create_owned(&label).set(i64::from(state == now));
            }
            let records = contract.entry.parked.as_ref().map_or(0, |parked| parked.records);
            *parked.entry(name.clone()).or_default() += i64::try_from(records).unwrap_or(i64::MAX);
            for (reason, count) in &contract.dead_letters {
                let key = format!("d/{name}/{version}/{reason}");
                let label = DeadLetter { contract: name.clone(), reason };
                self.dead_letters.get_or_create_owned(&label).inc_by(grown(&mut seen, key, *count));
            }
        }
        for (contract, records) in parked {
            self.parked.get_or_create_owned(&ContractLabel { contract }).set(records);
        }
    }

    /// A new session counts from zero again.
    pub fn session(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A batch became durable; `newest` is the age of its newest streamed record, in seconds.
    pub fn durable(&self, took: Duration, newest: Option<f64>) {
        self.commit_seconds.observe(took.as_secs_f64());
        if let Some(age) = newest {
            self.commit_to_durable.observe(age);
        }
    }

    /// What the server says of the slot.
    pub fn slot(&self, lag: i64, retained: i64, safe: Option<i64>) {
        self.lag_bytes.set(lag);
        self.retained.set(retained);
        self.safe.set(safe.unwrap_or(-1));
    }

    /// Age of the newest durable commit or heartbeat.
    pub fn freshness(&self, seconds: f64) {
        self.lag_seconds.set(seconds);
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

fn grown(seen: &mut HashMap<String, u64>, key: String, now: u64) -> u64 {
    let last = seen.insert(key, now).unwrap_or(0);
    now.checked_sub(last).unwrap_or(now)
}
