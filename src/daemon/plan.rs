//! What a session begins with: checkpoint, contracts, catalog and fence → the engine's [`Setup`]. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::batch::{StateChange, TopicId};
use crate::contract::{ContractKind, ContractVersion};
pub use crate::daemon::bind::missing;
use crate::daemon::bind::{Ids, bind};
use crate::engine::{Aside, Contract, DeadSet, JobId, KeyHash, Limits, Sample, Sealing, Setup};
use crate::error::{Code, Error, Result};
use crate::history::History;
use crate::lsn::{Lsn, Xid};
use crate::seal::{Sealer, differs};
use crate::sink::StateEntries;
use crate::state::{
    self, COPY_PREFIX, ContractEntry, CopyEntry, DEAD_PREFIX, DeadEntry, POSITION_KEY, Phase, PositionEntry, Progress,
    SEAL_KEY, SealEntry, TableEntry,
};
use crate::table::{RelationId, TableImage};

/// The checkpoint, opened.
#[derive(Default)]
pub struct Checkpoint {
    /// Absent before the first start.
    pub position: Option<PositionEntry>,
    /// By name and major.
    pub contracts: BTreeMap<(String, u32), ContractEntry>,
    /// By oid.
    pub tables: BTreeMap<RelationId, TableEntry>,
    /// The tables' past.
    pub history: History,
    /// Copies that were under way.
    pub copies: Vec<(JobId, CopyEntry)>,
    /// By name and major: keys whose newest row is a dead letter.
    pub dead: BTreeMap<(String, u32), HashSet<KeyHash>>,
    /// The key that rows were sealed with.
    pub seal: Option<SealEntry>,
}

impl Checkpoint {
    /// Opens the entries of a sink.
    pub fn open(entries: &StateEntries) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::default();
        for (key, sealed) in entries {
            if key == POSITION_KEY {
                checkpoint.position = Some(state::open(key, sealed)?);
            } else if key.starts_with("contract/") {
                let entry: ContractEntry = state::open(key, sealed)?;
                checkpoint.contracts.insert((entry.contract.clone(), entry.major), entry);
            } else if key.matches('/').count() > 1 && key.starts_with("table/") {
                checkpoint.history.restore(key, state::open_json(key, sealed)?.to_string().as_bytes())?;
            } else if key.starts_with("table/") {
                let entry: TableEntry = state::open(key, sealed)?;
                checkpoint.tables.insert(entry.relation, entry);
            } else if let Some(id) = key.strip_prefix(COPY_PREFIX).and_then(|id| id.parse().ok()) {
                checkpoint.copies.push((id, state::open(key, sealed)?));
            } else if key.starts_with(DEAD_PREFIX) {
                let entry: DeadEntry = state::open(key, sealed)?;
                let hash = entry.hash();
                checkpoint.dead.entry((entry.contract, entry.major)).or_default().extend(hash);
            } else if key == SEAL_KEY {
                checkpoint.seal = Some(state::open(key, sealed)?);
            }
        }
        Ok(checkpoint)
    }

    /// Queues a repair of every contract of the list that the checkpoint has as active, in place of repairs that it has.
    /// Gives what must become durable for it; the next session's engine then carries them out. Contracts without key, whose
    /// rows cannot be told from each other, are left out.
    pub fn queue_repairs(&mut self, contracts: &[Arc<ContractVersion>]) -> Result<Vec<StateChange>> {
        let Some(since) = self.position.as_ref().map(PositionEntry::position) else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        let mut next = self.copies.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        for contract in contracts.iter().filter(|contract| !contract.key.is_empty()) {
            let name = (contract.contract.clone(), contract.major);
            let Some(entry) = self.contracts.get(&name).filter(|entry| entry.active()) else { continue };
            for (id, _) in
                self.copies.extract_if(.., |(_, copy)| copy.repair.is_some() && copy.contracts.contains(&name))
            {
                changes.push(StateChange { key: CopyEntry::key(id), value: None });
            }
            let copy = CopyEntry::repair(entry, since, contract.kind == ContractKind::State);
            changes.push(StateChange { key: CopyEntry::key(next), value: Some(state::seal(&copy)?) });
            self.copies.push((next, copy));
            next += 1;
        }
        Ok(changes)
    }

    /// True if the slot was created and everything up to the position is durable.
    pub fn started(&self) -> bool {
        self.position.as_ref().is_some_and(|position| position.phase == Phase::Started)
    }
}

/// A checkpoint that says: a slot is about to be made, and whatever slot of that name there is can be dropped.
pub fn creating(nonce: String, system_id: u64, timeline: u32) -> PositionEntry {
    PositionEntry {
        seq: 0,
        phase: Phase::Creating { nonce },
        epoch: 0,
        system_id,
        timeline,
        commit_lsn: Lsn(0),
        next_ordinal: 0,
        complete: true,
        end_lsn: Lsn(0),
        anchor: None,
        ack: Lsn(0),
        witness: None,
    }
}

/// The position before the first transaction of a new slot.
///
/// One below the consistent point: a commit record may begin at the point itself, and none begins one byte before.
pub fn first_position(creating: PositionEntry, consistent: Lsn) -> PositionEntry {
    PositionEntry {
        seq: creating.seq + 1,
        phase: Phase::Started,
        commit_lsn: Lsn(consistent.0.saturating_sub(1)),
        next_ordinal: 0,
        complete: true,
        end_lsn: consistent,
        ack: consistent,
        ..creating
    }
}

/// A contract that is to be published, with its schemas' ids and its table.
pub struct Wanted {
    /// What `check` accepted.
    pub version: Arc<ContractVersion>,
    /// From the registry or the checkpoint.
    pub ids: Ids,
    /// As bound, or by name where it begins now.
    pub relation: RelationId,
}

/// The catalog and the transactions of the moment.
pub struct Moment {
    /// The contracted tables.
    pub sample: Sample,
    /// See [`Setup::fence`].
    pub fence: Xid,
    /// Seals what cannot be published; absent without a key.
    pub sealer: Option<Sealer>,
}

/// The topics beside a contract's own, as indexes of the list of topics: parked, dead letters. They follow those of all
/// `contracts` contracts, two for each.
pub fn aside(index: usize, contracts: usize) -> (usize, usize) {
    (contracts + 2 * index, contracts + 2 * index + 1)
}

/// Binds every contract and compiles the engine's setup.
pub fn setup(
    position: PositionEntry,
    mut checkpoint: Checkpoint,
    wanted: Vec<Wanted>,
    moment: Moment,
    limits: Limits,
) -> Result<Setup> {
    let Moment { sample, fence, sealer } = moment;
    let sealing = sealing(sealer, &checkpoint)?;
    let count = wanted.len();
    let images: BTreeMap<RelationId, &TableImage> = sample.images.iter().map(|i| (i.relation, i)).collect();
    let mut contracts: Vec<Contract> = Vec::new();
    for (index, Wanted { version, ids, relation }) in wanted.into_iter().enumerate() {
        let name = (version.contract.clone(), version.major);
        let known = checkpoint.contracts.remove(&name);
        let topic = |index: usize| u16::try_from(index).map(TopicId).map_err(|_| too_many());
        let image = images.get(&relation).copied();
        let mut contract = bind(version, topic(index)?, ids, known, relation, image)?;
        contract.dead = DeadSet::new(checkpoint.dead.remove(&name).unwrap_or_default());
        if let (Some(ids), Some(_)) = (&contract.entry.parcel_ids, &sealing) {
            let (parked, dead) = aside(index, count);
            contract.aside = Some(Aside {
                parked: topic(parked)?,
                parked_schema: ids.parked.id,
                dead: topic(dead)?,
                dead_schema: ids.dead.id,
            });
        }
        contracts.push(contract);
    }
    let ended = ended(checkpoint.contracts, &position);
    let counts = |relation: &RelationId| {
        // What was counted in a transaction that is half published must be counted in its rest too.
        let active = |contract: &Contract| contract.entry.relation == *relation && contract.entry.active();
        !position.complete || contracts.iter().any(active)
    };
    let (counted, uncounted) = checkpoint.tables.into_keys().partition(counts);
    let Checkpoint { history, copies, .. } = checkpoint;
    Ok(Setup { position, contracts, ended, counted, uncounted, history, sample, copies, fence, limits, sealing })
}

/// Refuses a key that cannot open what was sealed, and parked contracts without a key.
fn sealing(sealer: Option<Sealer>, checkpoint: &Checkpoint) -> Result<Option<Sealing>> {
    let known = checkpoint.seal.as_ref().map(|entry| entry.fingerprint.as_str());
    let Some(sealer) = sealer else {
        let parked = checkpoint.contracts.values().any(ContractEntry::is_parked);
        return if parked { Err(differs(known.unwrap_or("unknown"), None)) } else { Ok(None) };
    };
    let configured = sealer.key().fingerprint();
    match known {
        Some(known) if known != configured => Err(differs(known, Some(&configured))),
        _ => Ok(Some(Sealing { sealer, recorded: known.is_some() })),
    }
}

/// Contracts that were published and are not any more: remembered, so that none goes on as if nothing were missing.
fn ended(left: BTreeMap<(String, u32), ContractEntry>, position: &PositionEntry) -> Vec<ContractEntry> {
    let published = left.into_values().filter(ContractEntry::active);
    published.map(|entry| ContractEntry { progress: Progress::Ended { since: position.position() }, ..entry }).collect()
}

fn too_many() -> Error {
    Error::definite(Code::ContractInvalid, "more than 65,535 contract versions in one pipeline")
        .hint("split the pipeline")
}
