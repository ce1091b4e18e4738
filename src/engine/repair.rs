//! Repairs: a topic is made level with its table again while the contract stays live.
//!
//! ```text
//!  keys of the topic, a page at a time ─▶ looked up under a fence ─▶ a tombstone for each that the table lacks
//!                                                                      then every row of the table, in chunks, as `r`
//! ```
//!
//! A page is fenced as a chunk is: snapshot, the log's position, the stream passes it, the read; and it is written between
//! two transactions less every key that a delivered transaction touched which the snapshot does not see. So a tombstone
//! never stands behind a newer row of its key. A key that the stream publishes after the repair was asked for is deleted by
//! the stream too; so the pages may end where the topic ended when everything before the repair was committed.

use std::collections::HashSet;

use crate::batch::{Op, Record, Span};
use crate::contract::ContractKind;
use crate::engine::copying::{Boundary, Copies, compiled_for, next_ordinal, read_row};
use crate::engine::dead::Place;
use crate::engine::delivered::{Delivered, KeyHash, key_hash};
use crate::engine::io::{Chunk, JobId, KeyPage, Lookup, LookupOutcome, Request};
use crate::engine::job::{Content, Job, Page, Stage, TopicKeys};
use crate::engine::rows::dead_hash;
use crate::engine::table::{Compiled, Contract, ContractIndex, Mapping};
use crate::engine::{Engine, Sealed};
use crate::error::{Code, Error, Result};
use crate::position::Position;
use crate::projection::key_texts;
use crate::row::Row;
use crate::state::{CopyEntry, KeyPlace, Progress, RepairEntry, RepairPhase, Tid};
use crate::table::{QualifiedName, RelationId, TableVersion};

/// What happened beside row events and schema changes, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A table was truncated.
    Truncated {
        /// Where.
        position: Position,
        /// The table.
        table: QualifiedName,
        /// `state` contracts, whose repair was queued.
        repaired: Vec<String>,
        /// `log` contracts: they keep what they published.
        kept: Vec<String>,
    },
    /// A repair is complete.
    Repaired {
        /// The contract version.
        contract: String,
        /// What was done.
        entry: RepairEntry,
        /// Rows written.
        rows: u64,
    },
}

/// How far a repair is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepairProgress {
    /// The copy.
    pub id: JobId,
    /// Of the topic's keys, 0 to 1.
    pub keys_share: f64,
    /// Keys looked up.
    pub keys: u64,
    /// Tombstones written.
    pub tombstones: u64,
    /// Rows written.
    pub rows: u64,
    /// Blocks of the table read and in all; 0 of 0 until the keys are done.
    pub blocks: (u64, u64),
    /// Asked for, or begun anew, here.
    pub since: Position,
}

impl Engine {
    /// Queues a repair of a contract's versions (all live ones, or one major): of everything, or of the keys that are named
    /// by the texts of their columns. Gives the numbers of the copies.
    ///
    /// Errors: `RepairRefused`.
    pub fn repair(&mut self, contract: &str, major: Option<u32>, keys: Vec<Vec<String>>) -> Result<Vec<JobId>> {
        let all = self.contracts.iter().enumerate();
        let named = all.filter(|(_, c)| c.entry.contract == contract && major.is_none_or(|m| c.entry.major == m));
        let indexes: Vec<ContractIndex> = named.map(|(index, _)| index).collect();
        if indexes.is_empty() {
            let major = major.map(|major| format!(" v{major}")).unwrap_or_default();
            return Err(Error::definite(Code::RepairRefused, format!("no contract `{contract}`{major} is published"))
                .hint("`gimbal status` lists the contracts"));
        }
        for contract in indexes.iter().filter_map(|index| self.contracts.get(*index)) {
            repairable(contract, &keys)?;
        }
        let position = self.here();
        let queue = |index| match keys.is_empty() {
            true => self.queue_repair(index, position),
            false => self.queue_named(index, position, keys.clone()),
        };
        Ok(indexes.into_iter().filter_map(queue).collect())
    }

    /// How far the repairs of a contract are that are not complete.
    pub fn repairs(&self, index: ContractIndex) -> impl Iterator<Item = RepairProgress> {
        let jobs = self.copies.jobs.iter().filter(move |job| job.contracts.contains(&index));
        jobs.filter_map(|job| {
            let repair = job.entry.repair.as_ref()?;
            let keys_share = match &repair.phase {
                RepairPhase::Keys { after } => {
                    after.map_or(0.0, |KeyPlace(hash)| (hash >> 64) as f64 / u64::MAX as f64)
                }
                RepairPhase::Named { .. } => 0.0,
                RepairPhase::Rows => 1.0,
            };
            let blocks = if job.by_key() { (0, 0) } else { job.blocks() };
            let RepairEntry { keys, tombstones, since, .. } = *repair;
            Some(RepairProgress { id: job.id, keys_share, keys, tombstones, rows: job.entry.rows, blocks, since })
        })
    }

    /// A sealed batch is durable: repairs that it holds know that everything before them is in their topics.
    pub fn durable(&mut self, sealed: &Sealed) {
        for job in &mut self.copies.jobs {
            job.durable |= job.sealed.is_some_and(|seq| seq <= sealed.position.seq);
        }
    }

    /// What happened since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// A table of active contracts was truncated.
    pub(super) fn truncated(&mut self, relation: RelationId, position: Position) {
        let Some(table) = self.tables.get(relation) else { return };
        let name = table.version.as_ref().or(table.known.as_ref()).map(|version| version.name.clone());
        let readers = table.readers.clone();
        let (mut repaired, mut kept) = (Vec::new(), Vec::new());
        let mut table = name;
        for index in readers {
            let Some(contract) = self.contracts.get(index).filter(|contract| !contract.entry.is_parked()) else {
                continue;
            };
            table = table.or_else(|| Some(contract.entry.source.clone()));
            if contract.version.kind == ContractKind::State && !contract.version.key.is_empty() {
                repaired.push(contract.label());
                self.queue_repair(index, position);
            } else {
                kept.push(contract.label());
            }
        }
        if let Some(table) = table {
            self.notices.push(Notice::Truncated { position, table, repaired, kept });
        }
    }

    /// Queues the repairs that follow a snapshot of a table with another past.
    pub(super) fn repair_ghosts(&mut self) {
        let since = self.position.position();
        for index in 0..self.contracts.len() {
            let Some(contract) = self.contracts.get_mut(index) else { continue };
            if !contract.entry.ghosts || !matches!(contract.entry.progress, Progress::Live { .. }) {
                continue;
            }
            (contract.entry.ghosts, contract.dirty) = (false, true);
            if contract.version.kind == ContractKind::State && !contract.version.key.is_empty() {
                self.queue_repair(index, since);
            }
        }
    }

    /// Queues a repair of everything; one that is under way begins anew.
    pub(super) fn queue_repair(&mut self, index: ContractIndex, since: Position) -> Option<JobId> {
        let fence = self.xid_reference + 1;
        let contract = self.contracts.get(index)?;
        let keyed = contract.version.kind == ContractKind::State;
        let fresh = CopyEntry::repair(&contract.entry, since, keyed);
        let whole = |job: &Job| !matches!(job.phase(), None | Some(RepairPhase::Named { .. }));
        let overflows = Some(contract.overflows);
        let mut jobs = self.copies.jobs.iter_mut();
        if let Some(job) = jobs.find(|job| whole(job) && job.contracts.contains(&index)) {
            job.restart(fresh, fence);
            job.overflows = overflows;
            return Some(job.id);
        }
        let id = self.copies.take_id();
        self.add_job(id, fresh, vec![index], fence, true);
        if let Some(job) = self.copies.jobs.last_mut() {
            job.overflows = overflows;
        }
        Some(id)
    }

    fn queue_named(&mut self, index: ContractIndex, since: Position, keys: Vec<Vec<String>>) -> Option<JobId> {
        let fence = self.xid_reference + 1;
        let mut entry = CopyEntry::repair(&self.contracts.get(index)?.entry, since, true);
        if let Some(repair) = &mut entry.repair {
            repair.phase = RepairPhase::Named { keys };
        }
        let id = self.copies.take_id();
        self.add_job(id, entry, vec![index], fence, true);
        Some(id)
    }

    /// The position of what comes next.
    fn here(&self) -> Position {
        let Some(transaction) = &self.transaction else { return self.position.position() };
        Position { epoch: self.position.epoch, commit_lsn: transaction.commit_lsn, ordinal: transaction.ordinal }
    }
}

fn repairable(contract: &Contract, keys: &[Vec<String>]) -> Result<()> {
    let label = contract.label();
    let refused = |what: String, hint: &str| Err(Error::definite(Code::RepairRefused, what).hint(hint));
    if contract.entry.is_parked() {
        return refused(
            format!("contract `{label}` is parked"),
            "`gimbal status` says why; a parked contract gets no rows",
        );
    }
    if !contract.entry.active() {
        let hint = "wait until `gimbal status` shows it as live";
        return refused(format!("contract `{label}` is not live, so there is nothing to repair yet"), hint);
    }
    if contract.version.key.is_empty() {
        let hint = "publish a new major with `backfill: snapshot`, if its rows are needed again";
        return refused(format!("contract `{label}` has no key: its rows cannot be told from each other"), hint);
    }
    match keys.iter().find(|key| key.len() != contract.version.key.len()) {
        Some(key) => refused(
            format!("a key of contract `{label}` has {} fields, {} were given", contract.version.key.len(), key.len()),
            "give a JSON object with every field of the key",
        ),
        None => Ok(()),
    }
}

impl Copies {
    /// A number that no copy has.
    pub(super) fn take_id(&mut self) -> JobId {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Takes the next keys of a topic.
    pub(super) fn keys_read(&mut self, id: JobId, page: KeyPage, requests: &mut Vec<Request>) -> Result<()> {
        let floor = self.delivered.floor();
        let Some(job) = self.job(id) else { return Ok(()) };
        if job.again {
            job.stage = Stage::Queued;
            return Ok(());
        }
        if page.keys.is_empty() {
            job.rows_next();
        } else {
            let Some(keys) = &job.keys else { return Ok(()) };
            let texts = page.keys.iter().map(|key| key_texts(&keys.schema, key)).collect::<Option<Vec<_>>>();
            let Some(texts) = texts else { return Err(unreadable(&keys.topic)) };
            job.page = Some(Page { framed: page.keys, texts, place: page.place, end: page.end });
        }
        job.proceed(floor, requests);
        Ok(())
    }

    /// Takes what the table has of a page; it is written at the next boundary.
    pub(super) fn looked_up(&mut self, id: JobId, outcome: LookupOutcome, requests: &mut Vec<Request>) {
        let floor = self.delivered.floor();
        let Some(job) = self.job(id) else { return };
        let Stage::Reading { snapshot, timestamp, abandoned } = &job.stage else { return };
        match outcome {
            LookupOutcome::Read(lookup) if !abandoned => {
                let known = job.entry.leaves.iter().map(|leaf| (leaf.relation, leaf.filenode));
                // A rewrite leaves nothing that an older snapshot can see, and would make every key look deleted.
                if known.collect::<HashSet<_>>() == lookup.heaps.iter().copied().collect() {
                    let (snapshot, timestamp) = (snapshot.clone(), *timestamp);
                    job.stage = Stage::Ready { snapshot, timestamp, content: Content::Keys(lookup) };
                } else {
                    job.measure(requests);
                }
            }
            LookupOutcome::Read(_) | LookupOutcome::Retry => job.open(floor, requests),
        }
    }
}

fn unreadable(topic: &str) -> Error {
    Error::definite(Code::TopicKeyUnreadable, format!("a key in topic `{topic}` does not decode by its key schema"))
        .hint("something else than gimbal wrote into the topic; publish a new major, or delete the record")
}

impl Job {
    /// Takes over how the contract's keys are read.
    pub(super) fn set_keys(&mut self, contract: &Contract) {
        let (Some(id), Some(schema)) = (&contract.entry.key_id, &contract.version.key_schema) else { return };
        let (topic, attnums) = (contract.version.topic.clone(), contract.key());
        self.keys = Some(TopicKeys { topic, id: id.id, schema: schema.clone(), attnums });
        if let Some(RepairPhase::Named { keys }) = self.phase() {
            self.page = Some(Page { framed: Vec::new(), texts: keys.clone(), place: None, end: true });
        }
    }

    /// True if a repair's topic may be read to its end.
    pub(super) fn ready(&self) -> bool {
        self.durable || self.entry.repair.is_none()
    }

    /// Begins the repair anew, from a later moment.
    fn restart(&mut self, fresh: CopyEntry, fence: u64) {
        (self.entry, self.dirty) = (fresh, true);
        (self.durable, self.sealed) = (false, None);
        self.fence = self.fence.max(fence);
        self.again = true;
    }

    /// Leaves the pass that was under way, if nothing of it is still to come.
    pub(super) fn begin_again(&mut self, requests: &mut Vec<Request>) {
        match self.stage {
            Stage::Fenced { .. } => requests.push(Request::CloseChunk { job: self.id }),
            Stage::Queued | Stage::Ready { .. } => {}
            _ => return,
        }
        self.stage = Stage::Queued;
        self.again = false;
        self.page = None;
        self.pass += 1;
        self.entry.leaves.clear();
        (self.entry.leaf, self.entry.next) = (0, Tid::default());
    }

    /// The keys are done.
    fn rows_next(&mut self) {
        if let Some(repair) = &mut self.entry.repair {
            repair.phase = RepairPhase::Rows;
        }
        self.entry.leaves.clear();
        (self.entry.leaf, self.entry.next) = (0, Tid::default());
        self.page = None;
        self.dirty = true;
    }
}

/// Writes what was found of a page; true if the repair is complete.
pub(super) fn write_keys(job: &mut Job, boundary: &mut Boundary<'_>, delivered: &Delivered) -> Result<bool> {
    let ready = std::mem::replace(&mut job.stage, Stage::Queued);
    let Stage::Ready { snapshot, timestamp, content: Content::Keys(lookup) } = ready else { return Ok(false) };
    let Some(page) = job.page.take() else { return Ok(false) };
    let unseen = delivered.unseen_by(&snapshot);
    let (mark, first) = (boundary.batch.mark(), boundary.position.next_ordinal);
    let written = match &lookup.rows {
        Some(rows) => compiled_for(job, boundary, rows, timestamp).and_then(|(version, compiled)| {
            write_named(boundary, (&version, &compiled), rows, &lookup, timestamp, &unseen)
        }),
        None => write_tombstones(job, boundary, &page, &lookup, timestamp, &unseen),
    };
    let (tombstones, rows) = match written {
        Ok(written) => written,
        Err(error) => {
            // All or nothing: the progress is recorded with the records.
            boundary.batch.truncate(mark);
            boundary.position.next_ordinal = first;
            return Err(error);
        }
    };
    job.dirty = true;
    job.entry.rows += rows;
    let Some(repair) = &mut job.entry.repair else { return Ok(true) };
    repair.tombstones += tombstones;
    repair.keys += page.texts.len() as u64;
    match &mut repair.phase {
        RepairPhase::Named { .. } => return Ok(true),
        RepairPhase::Keys { .. } if page.end => job.rows_next(),
        RepairPhase::Keys { after } => *after = page.place,
        RepairPhase::Rows => {}
    }
    Ok(false)
}

/// Tombstones for the keys of a page that the table lacks. The key keeps the bytes that it has in the topic; whether the
/// stream touched it is asked with the frame that the stream writes.
fn write_tombstones(
    job: &Job,
    boundary: &mut Boundary<'_>,
    page: &Page,
    lookup: &Lookup,
    timestamp: i64,
    unseen: &HashSet<KeyHash>,
) -> Result<(u64, u64)> {
    let (Some(keys), Some(index)) = (&job.keys, job.contracts.first().copied()) else { return Ok((0, 0)) };
    let Some(contract) = boundary.contracts.get(index) else { return Ok((0, 0)) };
    let topic = contract.topic;
    let mut tombstones = 0;
    for missing in &lookup.missing {
        let Some(key) = page.framed.get(*missing as usize) else { continue };
        let start = boundary.batch.bytes.len();
        boundary.batch.bytes.extend_from_slice(key);
        if let Some(id) = boundary.batch.bytes.get_mut(start + 1..start + 5) {
            id.copy_from_slice(&keys.id.to_be_bytes());
        }
        let touched = boundary.batch.bytes.get(start..).is_some_and(|key| unseen.contains(&key_hash(topic.0, key)));
        boundary.batch.bytes.truncate(start);
        if !touched {
            boundary.batch.bytes.extend_from_slice(key);
            tombstone(boundary, index, start, timestamp)?;
            tombstones += 1;
        }
    }
    Ok((tombstones, 0))
}

/// Ends a tombstone whose key is the end of the batch's arena.
fn tombstone(boundary: &mut Boundary<'_>, index: ContractIndex, start: usize, timestamp: i64) -> Result<()> {
    let Some(contract) = boundary.contracts.get_mut(index) else { return Ok(()) };
    let (Ok(at), Ok(len)) = (u32::try_from(start), u32::try_from(boundary.batch.bytes.len() - start)) else {
        return Err(Error::definite(Code::MessageTooLarge, "a batch would exceed 4 GiB"));
    };
    if !contract.dead.is_empty() {
        let hash = boundary.batch.bytes.get(start..).map(dead_hash);
        let (position, records) = (boundary.position.position(), boundary.batch.records.len());
        hash.into_iter().for_each(|hash| contract.dead.remove(hash, Place { position, timestamp, records }));
    }
    boundary.batch.records.push(Record {
        topic: contract.topic,
        op: Op::Delete,
        position: boundary.position.position(),
        timestamp,
        key: Some(Span { start: at, len }),
        value: None,
        last: false,
        reread: None,
    });
    contract.records += 1;
    boundary.position.next_ordinal = next_ordinal(boundary.position.next_ordinal, 1)?;
    Ok(())
}

/// A row for every named key that the table has, a tombstone for every other one of a `state` contract.
fn write_named(
    boundary: &mut Boundary<'_>,
    (version, compiled): (&TableVersion, &[Compiled]),
    rows: &Chunk,
    lookup: &Lookup,
    timestamp: i64,
    unseen: &HashSet<KeyHash>,
) -> Result<(u64, u64)> {
    let (mut tombstones, mut written, since) = (0, 0, boundary.position.position());
    let missing: HashSet<u32> = lookup.missing.iter().copied().collect();
    for (cells, number) in rows.cells.chunks_exact(rows.attnums.len().max(1)).zip(0..) {
        let row = Row { buffer: &rows.buffer, cells };
        if missing.contains(&number) {
            tombstones += write_named_tombstone(boundary, compiled, row, timestamp, unseen)?;
            continue;
        }
        written += u64::from(read_row(boundary, (version, since), compiled, row, timestamp, unseen)?);
    }
    Ok((tombstones, written))
}

fn write_named_tombstone(
    boundary: &mut Boundary<'_>,
    compiled: &[Compiled],
    row: Row<'_>,
    timestamp: i64,
    unseen: &HashSet<KeyHash>,
) -> Result<u64> {
    let mut tombstones = 0;
    for one in compiled.iter().filter(|one| one.kind == ContractKind::State) {
        let Mapping::Live(projection) = &one.mapping else { continue };
        let start = boundary.batch.bytes.len();
        if projection.key(row, &mut boundary.batch.bytes).is_err() {
            // No record can have such a key, so there is none to take back.
            boundary.batch.bytes.truncate(start);
            continue;
        }
        let touched = boundary.batch.bytes.get(start..).is_some_and(|key| unseen.contains(&key_hash(one.topic.0, key)));
        if touched {
            boundary.batch.bytes.truncate(start);
        } else {
            tombstone(boundary, one.contract, start, timestamp)?;
            tombstones += 1;
        }
    }
    Ok(tombstones)
}
