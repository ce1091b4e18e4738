//! The engine: one state machine without I/O, from stream messages to records and checkpoint.
//!
//! [`Engine::step`] takes an [`Input`] and appends to a [`Batch`] and a list of [`Request`]s. Everything that needs the
//! outside is a request; its answer is an input. The stream may have to wait for an answer ([`Step::Wait`]) or for a
//! fresh batch ([`Step::Full`]); then the same message is offered again.
//!
//! The position always names the end of what is in the batch, so [`Engine::seal`] may be called whenever `step` has
//! returned; only inside a transaction the batch first has to be taken back to its last safe end, by
//! [`Engine::rewind`], unless `step` returned [`Step::Full`] or an error.

mod activation;
mod anchor;
mod aside;
mod change;
mod copying;
mod dead;
mod delivered;
mod io;
mod job;
mod leaves;
mod limits;
mod repair;
mod reread;
mod retype;
mod rows;
mod schema;
mod seal;
#[cfg(test)]
mod sim;
mod table;
mod transaction;

use std::collections::VecDeque;

use crate::batch::Batch;
use crate::engine::copying::{Boundary, Copies};
use crate::engine::reread::Rereads;
use crate::error::{Code, Error, Result};
use crate::history::History;
use crate::lsn::{Lsn, Xid};
use crate::pgoutput::{self, Message};
use crate::row::Cell;
use crate::seal::Sealer;
use crate::state::{ContractEntry, CopyEntry, PositionEntry};
use crate::table::{QualifiedName, RelationId};

pub use anchor::{ADOPT_HINT, AnchorWatch};
pub use dead::DeadSet;
pub use delivered::KeyHash;
pub use io::{Chunk, ChunkOutcome, Input, JobId, KeyPage, Lookup, LookupOutcome, Request, Reread, Sample, Step};
pub use leaves::leaf_without_key;
pub use limits::Limits;
pub use repair::{Notice, RepairProgress};
pub use seal::Sealed;
pub use table::{Aside, Compiled, Contract, ContractIndex, Table, Tables};
pub use transaction::Transaction;

/// Prefix of the logical messages that gimbal writes as heartbeats.
pub const HEARTBEAT_PREFIX: &str = "gimbal.heartbeat";

/// A schema change that was followed or found, for `status` and the log.
#[derive(Clone, Debug)]
pub struct SchemaEvent {
    /// Where the new version begins.
    pub position: crate::position::Position,
    /// The table's name in the new version.
    pub table: QualifiedName,
    /// What changed.
    pub changes: Vec<crate::diff::SchemaChange>,
    /// True if a contract was parked for them.
    pub broken: bool,
    /// True if a contract that follows them may have values that do not fit, or that no event shows.
    pub at_risk: bool,
}

/// What the engine starts from.
pub struct Setup {
    /// The checkpoint's position; for a first start (slot's consistent point − 1, ordinal 0, complete).
    pub position: PositionEntry,
    /// Contracts, bound and with ids.
    pub contracts: Vec<Contract>,
    /// Contracts of the checkpoint that are not published any more, as they are to be remembered.
    pub ended: Vec<ContractEntry>,
    /// Tables whose row events count.
    pub counted: Vec<RelationId>,
    /// Tables of the checkpoint whose row events do not count any more.
    pub uncounted: Vec<RelationId>,
    /// The tables' past.
    pub history: History,
    /// The catalog, read before the fence was.
    pub sample: Sample,
    /// Copies that were under way.
    pub copies: Vec<(JobId, CopyEntry)>,
    /// Above every transaction that was delivered before, and every one that was open when the sample was read: the `xmax`
    /// of a snapshot taken after a transaction of our own has ended. (Without that, a transaction whose commit is written
    /// and not yet visible can lie beyond `xmax`.)
    pub fence: Xid,
    /// Bounds of batches and copies.
    pub limits: Limits,
    /// Seals what cannot be published; absent without a key.
    pub sealing: Option<Sealing>,
}

/// The key for sealing, and whether the checkpoint names it.
pub struct Sealing {
    /// Seals.
    pub sealer: Sealer,
    /// True if rows were sealed with it before.
    pub recorded: bool,
}

/// The state machine.
pub struct Engine {
    limits: Limits,
    position: PositionEntry,
    anchor: AnchorWatch,
    contracts: Vec<Contract>,
    tables: Tables,
    history: History,
    /// Samples whose older predecessors can go once the log up to their position is acknowledged.
    prunable: VecDeque<(Lsn, Xid)>,
    /// No table has a sampled image that the stream passes before.
    ripe_at: Lsn,
    copies: Copies,
    transaction: Option<Transaction>,
    passed: Lsn,
    /// Commit time of the newest transaction that was delivered to its end.
    newest: Option<i64>,
    /// At or above every transaction that was delivered, and below every one that may still begin.
    xid_reference: Xid,
    /// End of the batch that the position names, while inside a transaction.
    safe: (usize, usize),
    due: bool,
    ended: Vec<ContractEntry>,
    uncounted: Vec<RelationId>,
    new_cells: Vec<Cell>,
    old_cells: Vec<Cell>,
    rereads: Rereads,
    events: Vec<SchemaEvent>,
    sealer: Option<Sealer>,
    /// True if the checkpoint names the key, or will with the next commit.
    seal_recorded: bool,
    notices: Vec<Notice>,
    /// Contracts whose key some leaf's old rows lack.
    uncarried: Vec<(ContractIndex, Error)>,
}

impl Engine {
    /// An engine that goes on from a checkpoint.
    pub fn new(setup: Setup) -> Result<Engine> {
        let Setup { position, contracts, ended, counted, uncounted, history, sample, copies, fence, limits, sealing } =
            setup;
        let (sealer, seal_recorded) =
            sealing.map_or((None, false), |Sealing { sealer, recorded }| (Some(sealer), recorded));
        let mut engine = Engine {
            limits,
            passed: position.end_lsn,
            anchor: AnchorWatch::new(&position),
            position,
            contracts,
            tables: Tables::default(),
            history,
            prunable: VecDeque::new(),
            ripe_at: Lsn(u64::MAX),
            copies: Copies::new(limits, sample.insert_lsn),
            transaction: None,
            newest: None,
            xid_reference: fence.saturating_sub(1),
            safe: (0, 0),
            due: false,
            ended,
            uncounted,
            new_cells: Vec::new(),
            old_cells: Vec::new(),
            rereads: Rereads::new(limits),
            events: Vec::new(),
            sealer,
            seal_recorded,
            notices: Vec::new(),
            uncarried: Vec::new(),
        };
        engine.add_tables(&counted);
        engine.plan_copies(copies, fence);
        engine.sample(sample);
        Ok(engine)
    }

    /// Takes one input. On an error the batch holds exactly what precedes it: seal and commit it, then stop.
    pub fn step(&mut self, input: Input<'_>, batch: &mut Batch, requests: &mut Vec<Request>) -> Result<Step> {
        match input {
            Input::Message(bytes) => {
                let message = pgoutput::decode(bytes).map_err(|error| {
                    Error::definite(Code::SourceProtocol, format!("a pgoutput message does not decode: {error}"))
                })?;
                if let Message::Begin(begin) = &message
                    && self.transaction.is_none()
                {
                    // Transactions come in the order of their commits: all before this one were delivered.
                    self.passed = self.passed.max(begin.commit_lsn);
                    self.boundary(batch, requests)?;
                }
                let step = self.message(bytes, message, batch, requests)?;
                if step != Step::Done {
                    return Ok(step);
                }
            }
            Input::Keepalive { wal_end } => {
                if self.transaction.is_none() {
                    self.passed = self.passed.max(wal_end);
                }
            }
            Input::Sample(sample) => self.sample(sample),
            Input::FencePassed { job, insert_lsn } => {
                self.copies.fence_passed(job, insert_lsn, requests);
            }
            Input::Leaves { job, leaves } => self.copies.measured(job, leaves, requests),
            Input::ChunkOpened { job, snapshot, insert_lsn, timestamp } => {
                self.copies.opened(job, snapshot, insert_lsn, timestamp, requests);
            }
            Input::Reread(reread) => self.rereads.answer(*reread),
            Input::ChunkRead { job, outcome } => self.copies.read(job, outcome, requests),
            Input::KeysRead { job, page } => self.copies.keys_read(job, page, requests)?,
            Input::LookedUp { job, outcome } => self.copies.looked_up(job, outcome, requests),
        }
        self.boundary(batch, requests)?;
        Ok(Step::Done)
    }

    /// Asks for a seal at the next row event, because the batch is old enough.
    pub fn set_due(&mut self) {
        self.due = true;
    }

    fn full(&self, batch: &Batch) -> bool {
        let limit = batch.records.len() >= self.limits.batch_records || batch.bytes.len() >= self.limits.batch_bytes;
        limit || (self.due && !batch.records.is_empty())
    }

    /// Does what may be done between transactions.
    fn boundary(&mut self, batch: &mut Batch, requests: &mut Vec<Request>) -> Result<()> {
        // Before the anchor has passed by, nobody knows that this is the history that was published.
        if self.transaction.is_some() || !self.position.complete || self.anchor.waits() {
            return Ok(());
        }
        self.apply_samples()?;
        if !self.uncarried.is_empty() {
            self.park_uncarried()?;
        }
        if self.copies.active() {
            self.activate()?;
            let full = self.full(batch);
            let mut boundary = Boundary {
                passed: self.passed,
                position: &mut self.position,
                contracts: &mut self.contracts,
                batch,
                full,
                sealer: self.sealer.as_mut(),
                parked: false,
                dead_keys: self.limits.dead_keys,
                notices: Vec::new(),
            };
            let result = self.copies.advance(&mut boundary, requests);
            let parked = boundary.parked;
            self.notices.append(&mut boundary.notices);
            self.safe = batch.mark();
            if parked {
                self.settle_parked();
            }
            if result.is_err() {
                self.undo_dead(self.safe.1);
            }
            result?;
            self.repair_ghosts();
        }
        Ok(())
    }

    /// Begins the copies; call it once, and again with every fresh batch.
    pub fn start(&mut self, batch: &mut Batch, requests: &mut Vec<Request>) -> Result<()> {
        self.boundary(batch, requests)
    }

    fn message(
        &mut self,
        bytes: &[u8],
        message: Message<'_>,
        batch: &mut Batch,
        requests: &mut Vec<Request>,
    ) -> Result<Step> {
        match message {
            Message::Begin(begin) => self.begin(&begin, batch),
            Message::Commit(commit) => self.commit(commit.end_lsn, batch, requests),
            Message::Relation(relation) => self.relation(&relation),
            Message::Insert { relation, new } => self.insert(bytes, relation, new, batch, requests),
            Message::Update { relation, old, new } => self.update(bytes, relation, old, new, batch, requests),
            Message::Delete { relation, old } => self.delete(bytes, relation, old, batch, requests),
            Message::Truncate(truncate) => self.truncate(truncate.relations(), batch),
            Message::Logical(logical) => {
                self.logical(&logical);
                Ok(Step::Done)
            }
            Message::Origin(_) | Message::Type(_) => Ok(Step::Done),
        }
    }

    /// The position reached so far.
    pub fn position(&self) -> &PositionEntry {
        &self.position
    }

    /// True once the stream has shown that it goes on with what was published.
    pub fn anchored(&self) -> bool {
        !self.anchor.waits()
    }

    /// True inside a transaction that is being delivered.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Everything before was delivered.
    pub fn passed(&self) -> Lsn {
        self.passed
    }

    /// All contracts.
    pub fn contracts(&self) -> &[Contract] {
        &self.contracts
    }

    /// All contracted tables.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter()
    }

    /// Copies under way, repairs too: the entry, blocks read, blocks in all.
    pub fn copies(&self) -> impl Iterator<Item = (&CopyEntry, u64, u64)> {
        self.copies.jobs.iter().map(|job| {
            let (read, total) = job.blocks();
            (&job.entry, read, total)
        })
    }

    /// Schema changes since the last call.
    pub fn take_events(&mut self) -> Vec<SchemaEvent> {
        std::mem::take(&mut self.events)
    }
}
