//! The model's daemon: what `daemon` and `postgres::worker` do, with answers that come late, crashes and restarts.

mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::checker::Checker;
use super::database::Database;
use super::stream::{Frame, Stream};
use super::topics::Topic;
use crate::batch::Batch;
use crate::contract::{Backfill, ContractKind};
use crate::daemon::plan::{self, Checkpoint, Moment, Wanted};
use crate::engine::{ChunkOutcome, Engine, Input, JobId, Limits, Request, Sealed, Step};
use crate::error::{Code, Error};
use crate::identity::tests::Rng;
use crate::lsn::{Lsn, Xid};
use crate::postgres::connection::SystemIdentity;
use crate::postgres::slot::{Arrival, Fork};
use crate::seal::{NONCE_BYTES, SealKey, Sealer};
use crate::sink::StateEntries;
use crate::state::{KeyPlace, PositionEntry};
use crate::table::{QualifiedName, RelationId};

/// Defects of the shell, to see that the checker finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    None,
    /// The fence is what is finished now; a transaction that was delivered and is invisible may lie beyond it.
    FenceWithoutHeartbeat,
    /// Snapshots are taken at once, whatever runs.
    NoFence,
    /// Leaves are measured when the fence is asked for.
    EarlyMeasure,
    /// Confirms what was sealed, before it is durable.
    EarlyConfirm,
    /// Reads what is visible at the time of the read.
    ReadWithoutSnapshot,
    /// Requests of one copy overtake each other.
    Disorder,
    /// Rows are read again under a snapshot that may not see the transaction, and said to see everything.
    RereadUnseen,
    /// The stream is not waited for before keys are looked up.
    LookUpWithoutFence,
}

/// A request on its way, or its answer on its way back.
enum Errand {
    Request(Request),
    Answer(Input<'static>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Nothing,
    Sample,
    Full,
}

struct Session {
    engine: Engine,
    stream: Stream,
    batch: Batch,
    requests: Vec<Request>,
    in_flight: Option<(Batch, Sealed)>,
    held: Option<Frame>,
    hold: Hold,
    /// By job, in order; those of no job may overtake each other.
    jobs: BTreeMap<JobId, VecDeque<Errand>>,
    errands: Vec<Errand>,
    sealed: Lsn,
    /// Names of the contracts that have begun.
    active: BTreeSet<String>,
    /// By copy: its pass, and the keys that the topic showed when it began.
    keys: BTreeMap<JobId, (u32, BTreeMap<KeyPlace, Vec<u8>>)>,
    /// Copies that have keys to look up.
    asking: BTreeSet<JobId>,
    /// Repairs that are asked for and in no checkpoint: in which they will be, and the topic.
    asked: Vec<(u64, String)>,
}

/// The daemon and its sink.
pub struct Daemon {
    pub db: Database,
    pub topics: Vec<Topic>,
    pub checker: Checker,
    pub limits: Limits,
    pub defect: Defect,
    pub empty_too: bool,
    /// Heartbeats come by themselves too.
    pub timer: bool,
    /// There is a key for sealing.
    pub sealed: bool,
    /// Percent of steps that make a topic wrong.
    pub ghosts: u64,
    /// Topics that need a repair which no checkpoint has.
    wrong: BTreeSet<String>,
    pub sessions: usize,
    pub stopped: Option<Error>,
    /// The server's timeline, and where earlier ones were left.
    pub timeline: u32,
    pub forks: Vec<Fork>,
    /// Its history is not the one that was published: nothing more may be.
    pub broken: bool,
    /// Only the anchor is looked at.
    pub blind: bool,
    session: Option<Session>,
    state: StateEntries,
    confirmed: Vec<Lsn>,
    /// The end of the last transaction that is published to its end.
    durable: Lsn,
    /// Blocks of leaves when a copy's fence was first asked for.
    early: BTreeMap<JobId, BTreeMap<RelationId, u32>>,
    /// Indexes of the topics of this session, in the order of its contracts.
    published: Vec<usize>,
}

impl Daemon {
    pub fn new(db: Database, topics: Vec<Topic>, limits: Limits, defect: Defect, empty_too: bool) -> Daemon {
        Daemon {
            db,
            topics,
            checker: Checker::default(),
            limits,
            defect,
            empty_too,
            timer: true,
            sealed: false,
            ghosts: 0,
            wrong: BTreeSet::new(),
            sessions: 0,
            stopped: None,
            timeline: 1,
            forks: Vec::new(),
            broken: false,
            blind: false,
            session: None,
            state: StateEntries::new(),
            confirmed: Vec::new(),
            durable: Lsn(0),
            early: BTreeMap::new(),
            published: Vec::new(),
        }
    }

    fn active(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter().filter(|topic| topic.active(self.sessions))
    }

    fn relation(&self, topic: &Topic) -> RelationId {
        self.db.tables[topic.table].relation
    }

    // ---- a session's beginning ----------------------------------------------------------------------------------------

    /// Opens a session as `daemon::start` does; the world goes on meanwhile.
    pub fn open(&mut self, rng: &mut Rng) {
        let tables: Vec<usize> = self.active().map(|topic| topic.table).collect();
        for table in tables {
            self.db.publish(rng, table);
        }
        let checkpoint = Checkpoint::open(&self.state).unwrap();
        let first = checkpoint.position.is_none();
        let position = checkpoint.position.clone().unwrap_or_else(|| {
            let at = self.db.insert_lsn();
            self.confirmed.push(at);
            plan::first_position(plan::creating(String::new(), 1, 1), at)
        });
        // After a crash of the server the slot may be a little behind what was confirmed.
        let back = if rng.chance(15) { rng.between(0, self.confirmed.len().min(4) - 1) } else { 0 };
        let from = self.confirmed[self.confirmed.len() - 1 - back];
        let position = PositionEntry { timeline: self.timeline, ..position };
        if let Some(known) = checkpoint.position.as_ref().filter(|_| !self.blind)
            && let Err(error) = self.arrival(from).check(known)
        {
            assert!(self.broken, "{error}");
            self.stopped = Some(error);
            return;
        }
        let stream = Stream::start(&self.db, from, self.empty_too);
        self.some_work(rng);
        let relations: Vec<RelationId> = self.active().map(|topic| self.relation(topic)).collect();
        let sample = self.db.sample(&relations, &[]);
        let known: Vec<String> = checkpoint.contracts.keys().map(|(name, _)| name.clone()).collect();
        let new = |topic: &&mut Topic| topic.active(self.sessions) && !known.contains(&topic.name);
        for topic in self.topics.iter_mut().filter(new) {
            // The author writes today's names.
            let relation = self.db.tables[topic.table].relation;
            topic.write(sample.images.iter().find(|image| image.relation == relation).unwrap());
        }
        for topic in self.topics.iter().filter(|topic| topic.until == self.sessions) {
            self.checker.end(&topic.name, &position);
        }
        self.some_work(rng);
        if self.defect != Defect::FenceWithoutHeartbeat {
            self.db.heartbeat(rng);
        }
        let fence: Xid = self.db.snapshot().xmax;
        self.some_work(rng);
        super::trace(|| {
            format!(
                "open session {}: fence {fence}, sample {} at {}, from {from}",
                self.sessions, sample.snapshot, sample.insert_lsn
            )
        });
        let wanted = self.active().map(|topic| Wanted {
            version: topic.version.clone().unwrap(),
            ids: topic.ids(),
            relation: self.relation(topic),
        });
        let moment = Moment { sample, fence, sealer: self.sealed.then(sealer) };
        let setup = plan::setup(position.clone(), checkpoint, wanted.collect(), moment, self.limits).unwrap();
        let engine = Engine::new(setup).unwrap();
        super::trace(|| {
            let contract = |c: &crate::engine::Contract| format!(" {}: {:?}", c.entry.contract, c.entry.progress);
            engine.contracts().iter().map(contract).collect()
        });
        let active = engine.contracts().iter().filter(|contract| contract.entry.active());
        let active = active.map(|contract| contract.entry.contract.clone()).collect();
        let session = Session {
            engine,
            stream,
            batch: Batch::default(),
            requests: Vec::new(),
            in_flight: None,
            held: None,
            hold: Hold::Nothing,
            jobs: BTreeMap::new(),
            errands: Vec::new(),
            sealed: position.end_lsn,
            active,
            keys: BTreeMap::new(),
            asking: BTreeSet::new(),
            asked: Vec::new(),
        };
        self.session = Some(session);
        self.published = (0..self.topics.len()).filter(|index| self.topics[*index].active(self.sessions)).collect();
        self.sessions += 1;
        if first {
            self.seal();
            self.committed();
        }
        self.act(|session| session.engine.start(&mut session.batch, &mut session.requests));
    }

    /// What the server says of itself.
    fn arrival(&self, confirmed: Lsn) -> Arrival {
        let (timeline, flush_lsn) = (self.timeline, self.db.insert_lsn());
        let identity = SystemIdentity { system_id: 1, timeline, flush_lsn, database: String::new() };
        Arrival { identity, forks: self.forks.clone(), confirmed: Some(confirmed) }
    }

    /// The checkpoint's position.
    pub fn position(&self) -> Option<PositionEntry> {
        Checkpoint::open(&self.state).unwrap().position
    }

    /// True once the checkpoint knows every contract: no author writes names any more.
    pub fn recorded(&self) -> bool {
        let known = Checkpoint::open(&self.state).unwrap().contracts;
        self.topics.iter().all(|topic| known.keys().any(|(name, _)| *name == topic.name))
    }

    /// The slot stands here and nowhere else.
    pub fn move_slot(&mut self, to: Lsn) {
        self.confirmed = vec![to];
    }

    fn some_work(&mut self, rng: &mut Rng) {
        for _ in 0..rng.between(0, 3) {
            self.db.work(rng);
        }
    }

    // ---- a session's end ----------------------------------------------------------------------------------------------

    /// The process dies; what is with the sink becomes durable, or not.
    pub fn crash(&mut self, rng: &mut Rng) {
        let Some(mut session) = self.session.take() else { return };
        super::trace(|| "crash".to_owned());
        if let Some((batch, sealed)) = session.in_flight.take()
            && rng.chance(50)
        {
            self.durable(&batch, &sealed);
        }
        self.db.chunks.clear();
    }

    /// SIGTERM, or an error: what is whole is committed first.
    pub fn stop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        super::trace(|| format!("stop; transaction {}", session.engine.in_transaction()));
        session.engine.rewind(&mut session.batch);
        if let Some((batch, sealed)) = session.in_flight.take() {
            self.durable(&batch, &sealed);
            self.confirm(sealed.ack);
        }
        let moved = session.engine.position().end_lsn != session.sealed || session.engine.unsealed();
        if !session.batch.records.is_empty() || moved {
            let sealed = session.engine.seal(&mut session.batch).unwrap();
            self.durable(&session.batch, &sealed);
            self.confirm(sealed.ack);
        }
        self.db.chunks.clear();
    }

    fn durable(&mut self, batch: &Batch, sealed: &Sealed) {
        for change in &batch.state {
            match &change.value {
                Some(value) => drop(self.state.insert(change.key.clone(), value.clone())),
                None => drop(self.state.remove(&change.key)),
            }
        }
        super::trace(|| format!("durable {:?}", sealed.position));
        assert!(!self.broken, "something is committed although the history is another one");
        if let Some(session) = &mut self.session {
            session.engine.durable(sealed);
        }
        assert!(sealed.ack <= sealed.position.end_lsn, "acknowledges more than it published");
        self.durable = sealed.position.end_lsn;
        if let Some(session) = &mut self.session {
            for (_, topic) in session.asked.extract_if(.., |(seq, _)| *seq <= sealed.position.seq) {
                self.wrong.remove(&topic);
            }
        }
        let topics: Vec<&Topic> = self.published.iter().map(|index| &self.topics[*index]).collect();
        self.checker.commit(batch, &topics, &self.db);
        self.checker.dead_sets(&self.state, &topics);
    }

    fn confirm(&mut self, ack: Lsn) {
        assert!(ack <= self.durable, "confirmed {ack}, durable is {}", self.durable);
        if self.confirmed.last().is_some_and(|last| *last < ack) {
            self.confirmed.push(ack);
        }
    }

    /// Runs the engine; an error ends the session.
    fn act<T>(&mut self, f: impl FnOnce(&mut Session) -> crate::error::Result<T>) -> Option<T> {
        let session = self.session.as_mut()?;
        let result = f(session);
        for contract in session.engine.contracts().iter().filter(|contract| contract.entry.active()) {
            if session.active.insert(contract.entry.contract.clone()) {
                let topic = self.topics.iter().find(|topic| topic.name == contract.entry.contract).unwrap();
                self.checker.begin(topic, session.engine.position(), &self.db);
            }
        }
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.stop();
                // Several changes of columns between two samples; everything else would be a defect.
                let lost = self.broken && error.code() == Code::AnchorMissing;
                assert!(lost || !self.sealed, "stops although it could park: {error}");
                assert!(lost || error.code() == Code::IdentityUnknown, "{error}");
                self.stopped = Some(error);
                None
            }
        }
    }

    // ---- a session's life ---------------------------------------------------------------------------------------------

    /// One thing that the daemon does.
    pub fn step(&mut self, rng: &mut Rng) {
        if self.ghosts > 0 && rng.chance(self.ghosts) {
            self.plant(rng);
        }
        self.ask();
        self.dispatch();
        match rng.between(0, 99) {
            0..55 => {
                for _ in 0..rng.between(1, 8) {
                    self.deliver(rng);
                }
            }
            55..80 => self.run_errand(rng),
            80..88 => self.seal_if_ready(rng),
            88..94 => self.committed(),
            94..96 => {
                let topics = || self.published.iter().map(|index| &self.topics[*index]);
                let relations: Vec<RelationId> = topics().map(|topic| self.relation(topic)).collect();
                let names: Vec<QualifiedName> =
                    topics().filter_map(|topic| Some(topic.version.as_ref()?.source.clone())).collect();
                let sample = self.db.sample(&relations, &names);
                if let Some(session) = &mut self.session {
                    session.errands.push(Errand::Answer(Input::Sample(sample)));
                }
            }
            96..98 if self.timer => self.db.heartbeat(rng),
            _ => {
                if let Some(session) = &mut self.session
                    && session.engine.in_transaction()
                {
                    session.engine.set_due();
                }
            }
        }
    }

    /// Makes a topic wrong.
    fn plant(&mut self, rng: &mut Rng) {
        let live: Vec<usize> = self.published.clone();
        if live.is_empty() {
            return;
        }
        let topic = &self.topics[*rng.pick(&live)];
        if topic.kind == ContractKind::State && topic.backfill == Backfill::Snapshot && self.checker.plant(rng, topic) {
            self.wrong.insert(topic.name.clone());
            // What was asked for may have passed the place already.
            if let Some(session) = &mut self.session {
                session.asked.retain(|(_, name)| *name != topic.name);
            }
        }
    }

    /// Asks for repairs of wrong topics, as soon as there is something to repair.
    fn ask(&mut self) {
        let Some(session) = &mut self.session else { return };
        for name in &self.wrong {
            if session.asked.iter().any(|(_, asked)| asked == name) || !session.active.contains(name) {
                continue;
            }
            if session.engine.repair(name, None, Vec::new()).is_ok() {
                super::trace(|| format!("  repair of {name}"));
                self.checker.repaired.insert(name.clone());
                session.asked.push((session.engine.position().seq + 1, name.clone()));
            }
        }
    }

    fn dispatch(&mut self) {
        let Some(session) = &mut self.session else { return };
        for request in session.requests.drain(..) {
            super::trace(|| format!("  request {request:?}"));
            match request.job().filter(|_| self.defect != Defect::Disorder) {
                Some(job) => session.jobs.entry(job).or_default().push_back(Errand::Request(request)),
                None => session.errands.push(Errand::Request(request)),
            }
        }
    }

    fn deliver(&mut self, rng: &mut Rng) {
        let Some(session) = &mut self.session else { return };
        if session.hold != Hold::Nothing {
            return;
        }
        let Some(frame) = session.held.take().or_else(|| session.stream.next(&self.db, rng)) else { return };
        super::trace(|| match &frame {
            Frame::Message(bytes) => format!("  -> {}", super::stream::line(bytes)),
            Frame::Keepalive(at) => format!("  -> keepalive {at}"),
        });
        let step = self.act(|session| {
            let input = match &frame {
                Frame::Message(bytes) => Input::Message(bytes),
                Frame::Keepalive(wal_end) => Input::Keepalive { wal_end: *wal_end },
            };
            session.engine.step(input, &mut session.batch, &mut session.requests)
        });
        let Some(session) = &mut self.session else { return };
        session.hold = match step {
            Some(Step::Done) | None => Hold::Nothing,
            Some(Step::Wait) => Hold::Sample,
            Some(Step::Full) => Hold::Full,
        };
        if session.hold != Hold::Nothing {
            session.held = Some(frame);
        }
        if session.hold == Hold::Sample {
            let Session { engine, stream, requests, .. } = session;
            let _ = stream.upcoming().all(|message| engine.look_ahead(message, requests));
        }
    }

    fn run_errand(&mut self, rng: &mut Rng) {
        let Some(session) = &mut self.session else { return };
        let queues: Vec<JobId> = session.jobs.iter().filter(|(_, q)| !q.is_empty()).map(|(job, _)| *job).collect();
        let all = queues.len() + session.errands.len();
        if all == 0 {
            return;
        }
        let chosen = rng.between(0, all - 1);
        let errand = match queues.get(chosen) {
            Some(job) => session.jobs.get_mut(job).and_then(VecDeque::pop_front).unwrap(),
            None => session.errands.swap_remove(chosen - queues.len()),
        };
        let next = match errand {
            Errand::Answer(input) => {
                if session.hold == Hold::Sample && matches!(input, Input::Sample(_) | Input::Reread(_)) {
                    session.hold = Hold::Nothing;
                }
                super::trace(|| format!("  answer {}", answer_line(&input)));
                self.act(|session| session.engine.step(input, &mut session.batch, &mut session.requests));
                return;
            }
            Errand::Request(request) => self.run(request, rng),
        };
        let Some(session) = &mut self.session else { return };
        match (next, queues.get(chosen)) {
            (Some(errand), Some(job)) => session.jobs.entry(*job).or_default().push_front(errand),
            (Some(errand), None) => session.errands.push(errand),
            (None, _) => {}
        }
    }

    fn seal_if_ready(&mut self, rng: &mut Rng) {
        let Some(session) = &mut self.session else { return };
        if session.in_flight.is_some() {
            return;
        }
        let between = !session.engine.in_transaction();
        let moved = session.engine.position().end_lsn != session.sealed || session.engine.unsealed();
        let whole = between || session.hold == Hold::Sample;
        if session.hold == Hold::Full
            || (whole && !session.batch.records.is_empty())
            || (between && moved && rng.chance(50))
        {
            if session.hold == Hold::Full {
                session.hold = Hold::Nothing;
            }
            self.seal();
        }
    }

    fn seal(&mut self) {
        let Some(session) = &mut self.session else { return };
        let sealed = session.engine.seal(&mut session.batch).unwrap();
        session.sealed = sealed.position.end_lsn;
        let ack = sealed.ack;
        session.in_flight = Some((std::mem::take(&mut session.batch), sealed));
        if self.defect == Defect::EarlyConfirm {
            self.confirmed.push(ack);
        }
        self.act(|session| session.engine.start(&mut session.batch, &mut session.requests));
    }

    fn committed(&mut self) {
        let Some((batch, sealed)) = self.session.as_mut().and_then(|session| session.in_flight.take()) else { return };
        self.durable(&batch, &sealed);
        self.confirm(sealed.ack);
    }

    // ---- the end ------------------------------------------------------------------------------------------------------

    /// The world stands still: the daemon must come to rest with everything published.
    pub fn drain(&mut self, rng: &mut Rng) {
        self.ghosts = 0;
        for _ in 0..100_000 {
            let Some(session) = &self.session else { return };
            // A parked contract is not repaired.
            let parked = |name: &String| {
                session.engine.contracts().iter().any(|c| c.entry.contract == *name && c.entry.is_parked())
            };
            self.wrong.retain(|name| !parked(name));
            let idle = session.engine.copies().next().is_none()
                && session.held.is_none()
                && session.stream.at_end(&self.db)
                && session.in_flight.is_none()
                && session.batch.records.is_empty()
                && session.errands.is_empty()
                && session.requests.is_empty()
                && self.published.iter().all(|index| !self.wrong.contains(&self.topics[*index].name));
            if idle {
                self.stop();
                self.checker.finish(&self.topics, &self.db);
                return;
            }
            self.step(rng);
        }
        panic!("does not come to rest");
    }
}

fn answer_line(input: &Input<'_>) -> String {
    match input {
        Input::Sample(sample) => {
            let image = |i: &crate::table::TableImage| {
                let columns: Vec<_> = i.columns.iter().map(|c| (c.attnum, &c.name, c.kind)).collect();
                format!("\n     {} {:?} {columns:?}", i.name, i.replica_identity)
            };
            format!(
                "sample {} at {} {}",
                sample.snapshot,
                sample.insert_lsn,
                sample.images.iter().map(image).collect::<String>()
            )
        }
        Input::ChunkRead { job, outcome: ChunkOutcome::Read(chunk) } => {
            format!(
                "chunk of {job}: {} rows, file {}, next {}: {}",
                chunk.rows,
                chunk.filenode,
                chunk.next,
                String::from_utf8_lossy(&chunk.buffer)
            )
        }
        other => format!("{other:?}"),
    }
}

/// The model's key.
pub fn sealer() -> Sealer {
    let key = SealKey::parse(&"5a".repeat(32)).unwrap();
    let mut count = 0u64;
    let nonces = move || {
        count += 1;
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&count.to_le_bytes());
        Ok(nonce)
    };
    Sealer::new(key, "sim", Box::new(nonces))
}
