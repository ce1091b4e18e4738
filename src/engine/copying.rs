//! Snapshots of tables in chunks, interleaved with the stream: first load and new contracts.
//!
//! A chunk is fenced: its snapshot is taken, then the stream must pass the log's insert position of that moment, then
//! the chunk is read under the snapshot, and written at a transaction boundary less every key that a delivered
//! transaction touched which the snapshot does not see. So a chunk never puts an older row over a newer one, and holds
//! no lock or transaction on production for longer than one read.

use std::collections::HashSet;
use std::sync::Arc;

use crate::batch::{Batch, Op};
use crate::engine::delivered::{Delivered, KeyHash, Touched};
use crate::engine::io::{Chunk, ChunkOutcome, JobId, Request};
use crate::engine::job::{Content, Job, Stage};
use crate::engine::limits::Limits;
use crate::engine::repair::{Notice, write_keys};
use crate::engine::rows::{RowEvent, Writer};
use crate::engine::table::{Compiled, Contract, Moment, compile_all};
use crate::error::{Code, Error, Result};
use crate::lsn::{Lsn, Snapshot, Xid};
use crate::position::Position;
use crate::row::Row;
use crate::seal::Sealer;
use crate::state::{Leaf, PositionEntry, Progress, RepairPhase, Tid};
use crate::table::{TableImage, TableVersion, VersionColumn};

/// All copies, and what they must not overwrite.
#[derive(Debug)]
pub struct Copies {
    limits: Limits,
    begin: Lsn,
    /// Those that are not done.
    pub jobs: Vec<Job>,
    /// Jobs that ended and are still in the checkpoint.
    pub ended: Vec<JobId>,
    /// Recent keys.
    pub delivered: Delivered,
    /// Not yet used.
    pub next_id: JobId,
}

/// What a copy needs of the engine at a transaction boundary.
pub struct Boundary<'a> {
    /// Everything before was delivered.
    pub passed: Lsn,
    /// Continued by the rows of chunks.
    pub position: &'a mut PositionEntry,
    /// All contracts.
    pub contracts: &'a mut [Contract],
    /// Where records go.
    pub batch: &'a mut Batch,
    /// True if the batch must be sealed before it takes a chunk.
    pub full: bool,
    /// Seals rows that cannot be published.
    pub sealer: Option<&'a mut Sealer>,
    /// Set when a contract was parked.
    pub parked: bool,
    /// Most keys of a dead set.
    pub dead_keys: usize,
    /// Repairs that became complete.
    pub notices: Vec<Notice>,
}

impl Copies {
    /// No copies. `begin`: no chunk is opened before the stream has passed this position, so that none waits with an open
    /// transaction while a backlog is read.
    pub fn new(limits: Limits, begin: Lsn) -> Copies {
        let delivered = Delivered::new(limits.touched_keys);
        Copies { limits, begin, jobs: Vec::new(), ended: Vec::new(), delivered, next_id: 0 }
    }

    /// True while keys of transactions must be collected.
    pub fn active(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(super) fn job(&mut self, id: JobId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.id == id)
    }

    /// A place for the keys of a transaction, while such are needed.
    pub fn touched(&self) -> Touched {
        Touched::new(if self.active() { self.limits.touched_keys } else { 0 })
    }

    /// Takes a delivered transaction's keys.
    pub fn deliver(&mut self, xid: Xid, touched: Touched, requests: &mut Vec<Request>) {
        let open = open_snapshots(&self.jobs);
        if !self.active() || self.delivered.push(xid, touched, &open) {
            return;
        }
        let floor = self.delivered.floor();
        for job in &mut self.jobs {
            match &mut job.stage {
                Stage::Fenced { .. } => {
                    requests.push(Request::CloseChunk { job: job.id });
                    job.open(floor, requests);
                }
                Stage::Ready { .. } => job.open(floor, requests),
                Stage::Reading { abandoned, .. } => *abandoned = true,
                // A snapshot that is on its way is looked at when it comes.
                Stage::Opening => {}
                Stage::Unfenced | Stage::Fencing | Stage::FencePassed { .. } => {}
                Stage::Queued | Stage::Asking | Stage::Measuring | Stage::Done => {}
            }
        }
    }

    /// Takes the end of the transactions that a job's contracts wait for.
    pub fn fence_passed(&mut self, id: JobId, insert_lsn: Lsn, requests: &mut Vec<Request>) {
        if let Some(job) = self.job(id) {
            job.stage = Stage::FencePassed { insert_lsn };
            requests.push(Request::Heartbeat);
        }
    }

    /// Takes the heaps of a table. Leaves before the current one are finished and stay.
    pub fn measured(&mut self, id: JobId, leaves: Vec<Leaf>, requests: &mut Vec<Request>) {
        let floor = self.delivered.floor();
        let Some(job) = self.job(id) else { return };
        job.entry.leaves.truncate(job.entry.leaf as usize);
        for leaf in leaves {
            if !job.entry.leaves.iter().any(|finished| finished.relation == leaf.relation) {
                job.entry.leaves.push(leaf);
            }
        }
        job.entry.next = Tid::default();
        job.dirty = true;
        job.open(floor, requests);
    }

    /// Takes a chunk's fence.
    pub fn opened(
        &mut self,
        id: JobId,
        snapshot: Snapshot,
        insert_lsn: Lsn,
        timestamp: i64,
        requests: &mut Vec<Request>,
    ) {
        let (floor, serves) = (self.delivered.floor(), self.delivered.serves(&snapshot));
        let Some(job) = self.job(id) else { return };
        if !serves {
            requests.push(Request::CloseChunk { job: id });
            job.open(floor, requests);
            return;
        }
        job.stage = Stage::Fenced { snapshot, insert_lsn, timestamp };
        self.delivered.forget_seen_by(&open_snapshots(&self.jobs));
        requests.push(Request::Heartbeat);
    }

    /// Takes a chunk that was read; it is written at the next boundary.
    pub fn read(&mut self, id: JobId, outcome: ChunkOutcome, requests: &mut Vec<Request>) {
        let floor = self.delivered.floor();
        let Some(job) = self.job(id) else { return };
        let Stage::Reading { snapshot, timestamp, abandoned } = &job.stage else { return };
        match outcome {
            ChunkOutcome::Read(chunk) if !abandoned => {
                let same = job.leaf().is_some_and(|leaf| leaf.filenode == chunk.filenode);
                if same {
                    let (snapshot, timestamp) = (snapshot.clone(), *timestamp);
                    job.stage = Stage::Ready { snapshot, timestamp, content: Content::Rows(chunk) };
                } else {
                    job.measure(requests);
                }
            }
            ChunkOutcome::Read(_) | ChunkOutcome::Retry => job.open(floor, requests),
            ChunkOutcome::Restart => job.measure(requests),
        }
    }

    /// Does what can be done between two transactions. Call it at every boundary and after every answer.
    pub fn advance(&mut self, boundary: &mut Boundary<'_>, requests: &mut Vec<Request>) -> Result<()> {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let Copies { limits, begin, jobs, ended, delivered, .. } = self;
        let mut running = jobs.iter().filter(|job| job.connected()).count();
        for job in jobs.iter_mut() {
            if job.contracts.is_empty() {
                job.abandon(requests);
                continue;
            }
            if job.again {
                job.begin_again(requests);
            }
            match &job.stage {
                Stage::Unfenced => {
                    requests.push(Request::Fence { job: job.id, fence: job.fence });
                    job.stage = Stage::Fencing;
                }
                Stage::Queued if running < limits.copies && boundary.passed >= *begin && job.ready() => {
                    running += 1;
                    job.proceed(delivered.floor(), requests);
                }
                Stage::Fenced { insert_lsn, .. } if boundary.passed >= *insert_lsn => {
                    if job.by_key() {
                        job.look_up(requests);
                    } else if job.skip_finished_leaves() {
                        requests.push(Request::CloseChunk { job: job.id });
                        finish(job, boundary);
                    } else {
                        job.read(requests);
                    }
                }
                Stage::Ready { content: Content::Keys(_), .. } if !boundary.full => {
                    if write_keys(job, boundary, delivered)? {
                        finish(job, boundary);
                    } else {
                        job.proceed(delivered.floor(), requests);
                    }
                }
                Stage::Ready { .. } if !boundary.full => {
                    write(job, boundary, delivered)?;
                    if job.skip_finished_leaves() {
                        finish(job, boundary);
                    } else {
                        job.open(delivered.floor(), requests);
                    }
                }
                _ => {}
            }
        }
        jobs.retain(|job| {
            if job.done() {
                requests.push(Request::EndCopy { job: job.id });
                ended.push(job.id);
            }
            !job.done()
        });
        if jobs.is_empty() {
            delivered.clear();
        }
        Ok(())
    }
}

/// The snapshots of chunks that are still to be written.
fn open_snapshots(jobs: &[Job]) -> Vec<&Snapshot> {
    jobs.iter().filter_map(|job| job.stage.snapshot()).collect()
}

fn finish(job: &mut Job, boundary: &mut Boundary<'_>) {
    for index in &job.contracts {
        let parked = |contract: &&mut Contract| contract.entry.is_parked();
        let Some(contract) = boundary.contracts.get_mut(*index).filter(|contract| !parked(contract)) else { continue };
        if let Some(repair) = &job.entry.repair {
            contract.repairs = contract.repairs.saturating_sub(1);
            let whole = !matches!(repair.phase, RepairPhase::Named { .. });
            if whole && job.overflows == Some(contract.overflows) {
                // Every row was looked at, and every bad one is in the dead set.
                contract.dirty |= contract.entry.unlevel;
                contract.entry.unlevel = false;
            }
            let (contract, entry, rows) = (contract.label(), repair.clone(), job.entry.rows);
            boundary.notices.push(Notice::Repaired { contract, entry, rows });
        } else {
            contract.entry.progress = Progress::Live { since: boundary.position.position() };
            contract.dirty = true;
        }
    }
    job.stage = Stage::Done;
}

/// The version that a chunk's columns have, in the order in which they were read.
fn version_of(image: &TableImage, attnums: &[i16]) -> TableVersion {
    let identity = image.identity();
    let columns = attnums.iter().filter_map(|attnum| image.attnum(*attnum));
    let columns = columns.map(|column| VersionColumn::of_image(column, identity.contains(&column.attnum))).collect();
    TableVersion {
        relation: image.relation,
        name: image.name.clone(),
        replica_identity: image.replica_identity,
        columns,
    }
}

/// The projections of the job's contracts for the columns of a chunk.
pub(super) fn compiled_for(
    job: &mut Job,
    boundary: &mut Boundary<'_>,
    chunk: &Chunk,
    timestamp: i64,
) -> Result<(TableVersion, Arc<[Compiled]>)> {
    let Some(image) = &chunk.image else {
        return Err(Error::definite(Code::Internal, "a chunk carries no table image"));
    };
    let version = version_of(image, &chunk.attnums);
    match &job.compiled {
        Some((known, compiled)) if *known == version => Ok((version, compiled.clone())),
        _ => {
            let moment = Moment { position: boundary.position.position(), timestamp: Some(timestamp) };
            let compiled = compile_all(boundary.contracts, &job.contracts, &version, moment)?;
            let parked = |index: &usize| boundary.contracts.get(*index).is_some_and(|c| c.entry.is_parked());
            boundary.parked |= job.contracts.iter().any(parked);
            job.compiled = Some((version.clone(), compiled.clone()));
            Ok((version, compiled))
        }
    }
}

fn write(job: &mut Job, boundary: &mut Boundary<'_>, delivered: &Delivered) -> Result<()> {
    let ready = std::mem::replace(&mut job.stage, Stage::Queued);
    let Stage::Ready { snapshot, timestamp, content: Content::Rows(chunk) } = ready else { return Ok(()) };
    let (version, compiled) = compiled_for(job, boundary, &chunk, timestamp)?;
    let unseen = delivered.unseen_by(&snapshot);
    let (mark, first) = (boundary.batch.mark(), boundary.position.next_ordinal);
    match write_rows(boundary, (&version, &compiled), &chunk, timestamp, &unseen) {
        Ok(rows) => job.entry.rows += rows,
        Err(error) => {
            // All or nothing: the progress is recorded with the rows.
            boundary.batch.truncate(mark);
            boundary.position.next_ordinal = first;
            return Err(error);
        }
    }
    let from = job.entry.next;
    job.entry.next = chunk.next;
    job.resize(&chunk, from);
    job.dirty = true;
    Ok(())
}

fn write_rows(
    boundary: &mut Boundary<'_>,
    (table, compiled): (&TableVersion, &[Compiled]),
    chunk: &Chunk,
    timestamp: i64,
    unseen: &HashSet<KeyHash>,
) -> Result<u64> {
    let (mut rows, since) = (0, boundary.position.position());
    for cells in chunk.cells.chunks_exact(chunk.attnums.len().max(1)).take(chunk.rows) {
        let row = Row { buffer: &chunk.buffer, cells };
        rows += u64::from(read_row(boundary, (table, since), compiled, row, timestamp, unseen)?);
    }
    Ok(rows)
}

/// Writes a row that was read, at the next ordinal, unless its key is among `unseen`; true if it did. `table`: how its cells
/// are laid out, and since when the table looks so.
pub(super) fn read_row(
    boundary: &mut Boundary<'_>,
    (table, since): (&TableVersion, Position),
    compiled: &[Compiled],
    row: Row<'_>,
    timestamp: i64,
    unseen: &HashSet<KeyHash>,
) -> Result<bool> {
    let position = boundary.position.position();
    let mut writer = Writer {
        batch: boundary.batch,
        contracts: boundary.contracts,
        touched: None,
        sealer: boundary.sealer.as_deref_mut(),
        table,
        since,
        dead_keys: boundary.dead_keys,
        parked: boundary.parked,
    };
    let event = RowEvent { op: Op::Read, new: Some(row), old: None, supplied: None, position, timestamp };
    let records = writer.write_unless_touched(compiled, &event, unseen)?;
    boundary.parked = writer.parked;
    if records > 0 {
        boundary.position.next_ordinal = next_ordinal(boundary.position.next_ordinal, 1)?;
    }
    Ok(records > 0)
}

/// The ordinal after so many.
pub fn next_ordinal(ordinal: u32, taken: u32) -> Result<u32> {
    ordinal.checked_add(taken).ok_or_else(|| {
        Error::definite(Code::Internal, "a transaction has more than 4,294,967,295 row events").hint("split it")
    })
}
