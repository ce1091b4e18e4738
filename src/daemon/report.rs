//! Turns the engine's state into status and metrics, a few times a second.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::daemon::alerts::{Alert, alerts};
use crate::daemon::status::{
    ContractStatus, ErrorStatus, Follows, RepairStatus, SnapshotStatus, StatusBoard, TimelineEntry,
};
use crate::diff::describe;
use crate::engine::{Contract, Engine, Notice, RepairProgress, SchemaEvent, Sealed};
use crate::error::Code;
use crate::metrics::Metrics;
use crate::postgres::unix_micros;
use crate::state::Progress;
use crate::table::TableVersion;

/// How often status and metrics are renewed.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Most schema changes shown in `status`.
const TIMELINE_MAX: usize = 200;

/// Renews status and metrics.
pub struct Reporter {
    board: StatusBoard,
    metrics: Metrics,
    last: Option<Instant>,
    /// Contracts of which the log says that they are parked.
    told: BTreeSet<String>,
}

impl Reporter {
    /// A reporter for a session.
    pub fn new(board: StatusBoard, metrics: Metrics) -> Reporter {
        Reporter { board, metrics, last: None, told: BTreeSet::new() }
    }

    /// Renews what is shown, if it is time.
    pub fn report(&mut self, engine: &mut Engine) {
        let events = engine.take_events();
        for event in &events {
            let (table, pos, changes) = (&event.table, event.position, &event.changes);
            if event.broken {
                tracing::warn!(%table, %pos, ?changes, "schema change breaks a contract");
            } else if event.at_risk {
                tracing::warn!(%table, %pos, ?changes, "schema change followed; values may not fit, or not be level");
            } else {
                tracing::info!(%table, %pos, ?changes, "schema change followed");
            }
        }
        engine.take_notices().iter().for_each(log);
        if events.is_empty() && self.last.is_some_and(|last| last.elapsed() < REPORT_EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let all = engine.contracts().iter().enumerate();
        let contracts: Vec<ContractStatus> = all.map(|(index, c)| contract(engine, index, c)).collect();
        let now = unix_micros();
        let alerts: Vec<Alert> = engine.contracts().iter().flat_map(|contract| alerts(contract, now)).collect();
        self.tell(engine.contracts());
        self.metrics.engine(engine);
        self.board.update(|status| {
            "streaming".clone_into(&mut status.state);
            status.error = None;
            status.contracts = contracts;
            status.alerts = alerts;
            status.timeline.extend(events.iter().flat_map(timeline));
            let excess = status.timeline.len().saturating_sub(TIMELINE_MAX);
            status.timeline.drain(..excess);
        });
    }

    /// Says once of each contract that it is parked.
    fn tell(&mut self, contracts: &[Contract]) {
        for contract in contracts {
            let (Some(parked), label) = (&contract.entry.parked, contract.label()) else { continue };
            if self.told.insert(label.clone()) {
                let (code, hint) = (&parked.code, parked.hint.as_deref().unwrap_or_default());
                tracing::error!(contract = label, %code, error = parked.message, hint, "contract is parked");
            }
        }
    }

    /// The next report is not put off.
    pub fn refresh(&mut self) {
        self.last = None;
    }

    /// A batch became durable.
    pub fn durable(&mut self, sealed: &Sealed, took: Duration, newest: Option<i64>) {
        let age = newest.map(|micros| (unix_micros() - micros) as f64 / 1e6);
        self.metrics.durable(took, age);
        self.board.durable(sealed.newest);
        self.board.update(|status| {
            status.epoch = sealed.position.epoch;
            status.position = sealed.position.position().to_string();
            status.done_lsn = sealed.position.end_lsn.to_string();
            status.confirmed_lsn = sealed.ack.to_string();
        });
    }

    /// The daemon is on its way out.
    pub fn stopping(&mut self) {
        self.board.update(|status| "stopping".clone_into(&mut status.state));
    }
}

fn contract(engine: &Engine, index: usize, contract: &Contract) -> ContractStatus {
    let entry = &contract.entry;
    let copy = engine.copies().find(|(copy, ..)| copy.relation == entry.relation && copy.repair.is_none());
    let repairs: Vec<RepairStatus> = engine.repairs(index).map(repair).collect();
    let (state, since, snapshot) = match entry.progress {
        Progress::Live { since } if !repairs.is_empty() => ("repairing", Some(since.to_string()), None),
        Progress::Live { since } => ("live", Some(since.to_string()), None),
        Progress::Activating => ("activating", None, None),
        Progress::Ended { since } => ("stopped", Some(since.to_string()), None),
        Progress::Parked { since, .. } => ("parked", Some(since.to_string()), None),
        Progress::Snapshotting => {
            let snapshot = copy.map(|(copy, blocks_read, blocks_total)| SnapshotStatus {
                blocks_read,
                blocks_total,
                rows: copy.rows,
            });
            ("snapshotting", None, snapshot)
        }
    };
    let version = engine.tables().find(|table| table.relation == entry.relation).and_then(|table| table.known.as_ref());
    ContractStatus {
        contract: entry.contract.clone(),
        version: entry.major,
        minor: contract.version.minor,
        topic: contract.version.topic.clone(),
        state: state.to_owned(),
        since,
        reason: entry.parked.as_ref().map(|parked| ErrorStatus {
            code: parked.code.clone(),
            message: parked.message.clone(),
            hint: parked.hint.clone(),
        }),
        records: contract.records,
        reread_records: contract.rereads,
        superseded: contract.superseded,
        parked_records: entry.parked.as_ref().map_or(0, |parked| parked.records),
        dead_keys: contract.dead.len() as u64,
        level_except: if entry.unlevel { vec!["all".to_owned()] } else { Vec::new() },
        snapshot,
        repairs,
        follows: version.map(|version| follows(contract, version)).unwrap_or_default(),
    }
}

fn repair(progress: RepairProgress) -> RepairStatus {
    let RepairProgress { id, keys_share, keys, tombstones, rows, blocks: (blocks_read, blocks_total), since } =
        progress;
    let keys_percent = 100.0 * keys_share;
    RepairStatus { id, since: since.to_string(), keys_percent, keys, tombstones, rows, blocks_read, blocks_total }
}

fn log(notice: &Notice) {
    match notice {
        Notice::Truncated { position, table, repaired, kept } => {
            let code = Code::TableTruncated;
            tracing::warn!(%code, %table, pos = %position, ?repaired, ?kept, "table truncated: `state` topics are repaired");
        }
        Notice::Repaired { contract, entry, rows } => {
            let (keys, tombstones) = (entry.keys, entry.tombstones);
            tracing::info!(contract, since = %entry.since, keys, tombstones, rows, "repair complete");
        }
    }
}

/// Fields whose column is called otherwise now.
fn follows(contract: &Contract, version: &TableVersion) -> Vec<Follows> {
    let renamed = |(field, binding): (&String, &crate::state::Binding)| {
        let (_, column) = version.place(binding.attnum)?;
        (column.name != binding.from).then(|| Follows {
            // Further columns of a field are bound by `field#column`.
            field: field.split('#').next().unwrap_or(field).to_owned(),
            from: binding.from.clone(),
            now: column.name.clone(),
        })
    };
    contract.entry.bindings.iter().filter_map(renamed).collect()
}

fn timeline(event: &SchemaEvent) -> impl Iterator<Item = TimelineEntry> + '_ {
    event.changes.iter().map(|change| TimelineEntry {
        pos: event.position.to_string(),
        table: event.table.to_string().clone(),
        change: describe(change, &event.table),
        verdict: match (event.broken, event.at_risk) {
            (true, _) => "broken",
            (false, true) => "at_risk",
            (false, false) => "followed",
        }
        .to_owned(),
    })
}
