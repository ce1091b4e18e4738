//! One session: the loop between stream, engine and sink. It wires, and does nothing else.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, select};

use crate::batch::Batch;
use crate::daemon::api::{self, Command, RepairAccepted};
use crate::daemon::committer::{Committed, Committer};
use crate::daemon::report::Reporter;
use crate::engine::{Engine, Input, Request, Sealed, Step};
use crate::error::{Code, Error, Result};
use crate::killpoint::{self, Point};
use crate::lsn::Lsn;
use crate::postgres::desk::Desk;
use crate::postgres::frames::{Frame, FrameBuffer};
use crate::postgres::stream::{StreamEvent, StreamHandle};
use crate::postgres::worker::Answer;

/// A batch is sealed at the latest when its first record is this old.
const BATCH_AGE_MAX: Duration = Duration::from_millis(100);

/// How often a checkpoint without records is committed, so that an idle slot moves.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How long the loop sleeps when nothing happens.
const IDLE: Duration = Duration::from_millis(50);

/// Messages taken between two looks at answers and commits.
const MESSAGES_PER_TURN: usize = 1024;

/// Why a session ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `run --once` reached its goal.
    Once,
    /// SIGTERM or SIGINT.
    Stopped,
}

/// The parts of a session.
pub struct Parts {
    /// Set up from the checkpoint.
    pub engine: Engine,
    /// The stream.
    pub stream: StreamHandle,
    /// The sink's thread.
    pub committer: Committer,
    /// Takes requests.
    pub desk: Desk,
    /// What the requests came to.
    pub answers: Receiver<Answer>,
    /// Disconnected once the daemon is to stop.
    pub shutdown: Receiver<()>,
    /// Publishes status and metrics.
    pub reporter: Reporter,
    /// For `--once`: stop when this much of the log is published.
    pub until: Option<Lsn>,
    /// What the API asks for.
    pub commands: Receiver<Command>,
}

/// An answer that waits until what it says is durable.
struct Pending {
    /// In the checkpoint with this number.
    seq: u64,
    accepted: RepairAccepted,
    reply: SyncSender<Result<RepairAccepted>>,
}

/// Where the stream's buffer stands.
#[derive(Default)]
struct Cursor {
    buffer: Option<FrameBuffer>,
    offset: usize,
}

/// Why no message is taken at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// A sample or a re-read must come first.
    Answer,
    /// The batch must be sealed first.
    Full,
}

/// A running session.
pub struct Session {
    parts: Parts,
    batch: Batch,
    spare: Option<Batch>,
    in_flight: Option<(Sealed, Instant)>,
    cursor: Cursor,
    hold: Hold,
    requests: Vec<Request>,
    batch_since: Option<Instant>,
    last_seal: Instant,
    sealed_lsn: Lsn,
    pending: Vec<Pending>,
    durable_seq: u64,
}

impl Session {
    /// A session that has not begun.
    pub fn new(parts: Parts) -> Session {
        Session {
            sealed_lsn: parts.engine.position().end_lsn,
            parts,
            batch: Batch::default(),
            spare: Some(Batch::default()),
            in_flight: None,
            cursor: Cursor::default(),
            hold: Hold::Nothing,
            requests: Vec::new(),
            batch_since: None,
            last_seal: Instant::now(),
            pending: Vec::new(),
            durable_seq: 0,
        }
    }

    /// Runs until the goal, a signal, or an error. What precedes an error is committed first.
    pub fn run(mut self) -> Result<Ended> {
        let result = self.turns();
        let finished = match &result {
            Ok(_) => self.finish(),
            // What precedes a definite stop is published; after a transient one the checkpoint is read again anyway.
            Err(error) if error.kind() == crate::error::Kind::Definite && error.code().number() < 500 => self.finish(),
            Err(_) => Ok(()),
        };
        let stopped = self.parts.stream.stop();
        let ended = result?;
        finished?;
        stopped?;
        Ok(ended)
    }

    fn turns(&mut self) -> Result<Ended> {
        self.parts.engine.start(&mut self.batch, &mut self.requests)?;
        if self.parts.until.is_some() {
            self.requests.push(Request::Heartbeat);
        }
        loop {
            self.dispatch()?;
            if self.parts.shutdown.try_recv() == Err(TryRecvError::Disconnected) {
                return Ok(Ended::Stopped);
            }
            while let Ok(answer) = self.parts.answers.try_recv() {
                self.answer(answer?)?;
            }
            while let Ok(committed) = self.parts.committer.done.try_recv() {
                self.committed(committed)?;
            }
            self.commands();
            let busy = self.messages()?;
            self.seal_if_ready(busy)?;
            self.parts.reporter.report(&mut self.parts.engine);
            self.reply();
            if self.reached_goal() {
                return Ok(Ended::Once);
            }
            if !busy && self.requests.is_empty() {
                self.wait()?;
            }
        }
    }

    /// True if all that was asked for is in the batch, or behind it; then no more is read, or a busy source would keep us.
    fn at_goal(&self) -> bool {
        let Some(until) = self.parts.until else { return false };
        let engine = &self.parts.engine;
        let reached = engine.anchored() && engine.position().end_lsn >= until;
        reached && !engine.in_transaction() && engine.copies().next().is_none()
    }

    fn reached_goal(&self) -> bool {
        let sealed = self.batch.records.is_empty() && !self.lacks_seal() && self.in_flight.is_none();
        self.at_goal() && sealed
    }

    /// True if the position or another entry of the checkpoint moved since the last seal.
    fn lacks_seal(&self) -> bool {
        self.parts.engine.position().end_lsn != self.sealed_lsn || self.parts.engine.unsealed()
    }

    fn dispatch(&mut self) -> Result<()> {
        // One heartbeat serves all fences that wait for one.
        let mut heartbeat = false;
        for request in self.requests.drain(..) {
            if request == Request::Heartbeat && std::mem::replace(&mut heartbeat, true) {
                continue;
            }
            self.parts.desk.submit(request)?;
        }
        Ok(())
    }

    fn answer(&mut self, input: Input<'static>) -> Result<()> {
        if self.hold == Hold::Answer && matches!(input, Input::Sample(_) | Input::Reread(_)) {
            self.hold = Hold::Nothing;
        }
        let point = match &input {
            Input::ChunkOpened { .. } => Some(Point::ChunkOpened),
            Input::ChunkRead { .. } | Input::LookedUp { .. } => Some(Point::ChunkRead),
            Input::KeysRead { .. } => Some(Point::KeysRead),
            _ => None,
        };
        self.parts.engine.step(input, &mut self.batch, &mut self.requests)?;
        if let Some(point) = point {
            killpoint::pass(point);
        }
        Ok(())
    }

    /// Takes what the API asks for.
    fn commands(&mut self) {
        while let Ok(Command { request, reply }) = self.parts.commands.try_recv() {
            match api::queue_repair(&mut self.parts.engine, &request) {
                Ok(accepted) => {
                    self.pending.push(Pending { seq: self.parts.engine.position().seq + 1, accepted, reply });
                }
                // Whoever asked may have gone.
                Err(error) => drop(reply.try_send(Err(error))),
            }
        }
    }

    /// Answers what is durable, after status shows it.
    fn reply(&mut self) {
        let durable = self.durable_seq;
        for pending in self.pending.extract_if(.., |pending| pending.seq <= durable) {
            let _ = pending.reply.try_send(Ok(pending.accepted));
        }
    }

    /// Takes messages; true if there may be more at once.
    fn messages(&mut self) -> Result<bool> {
        for _ in 0..MESSAGES_PER_TURN {
            if self.hold != Hold::Nothing || self.at_goal() {
                return Ok(false);
            }
            let Some(buffer) = &self.cursor.buffer else {
                match self.parts.stream.events.try_recv() {
                    Ok(event) => self.take(event)?,
                    Err(_) => return Ok(false),
                }
                continue;
            };
            let mut offset = self.cursor.offset;
            let Some(frame) = buffer.next_frame(&mut offset) else {
                if let Some(buffer) = self.cursor.buffer.take() {
                    self.parts.stream.recycle(buffer);
                }
                continue;
            };
            let input = match frame {
                Frame::Data { message, .. } => Input::Message(message),
                Frame::Keepalive { wal_end, .. } => Input::Keepalive { wal_end },
            };
            match self.parts.engine.step(input, &mut self.batch, &mut self.requests)? {
                Step::Done => {
                    self.cursor.offset = offset;
                    killpoint::pass(Point::MessageTaken);
                }
                Step::Wait => {
                    self.hold = Hold::Answer;
                    while let Some(frame) = buffer.next_frame(&mut offset) {
                        let Frame::Data { message, .. } = frame else { continue };
                        if !self.parts.engine.look_ahead(message, &mut self.requests) {
                            break;
                        }
                    }
                }
                Step::Full => self.hold = Hold::Full,
            }
            if !self.requests.is_empty() {
                return Ok(true);
            }
        }
        Ok(true)
    }

    fn take(&mut self, event: StreamEvent) -> Result<()> {
        match event {
            StreamEvent::Frames(buffer) => {
                self.cursor = Cursor { buffer: Some(buffer), offset: 0 };
                Ok(())
            }
            StreamEvent::Ended(error) => Err(error),
        }
    }

    /// Seals when the batch is full, old, or the stream has paused; only at a place that the position names.
    fn seal_if_ready(&mut self, busy: bool) -> Result<()> {
        let now = Instant::now();
        if self.batch.records.is_empty() {
            self.batch_since = None;
        } else if self.batch_since.is_none() {
            self.batch_since = Some(now);
        }
        let old = self.batch_since.is_some_and(|since| now - since >= BATCH_AGE_MAX);
        if self.in_flight.is_some() {
            return Ok(());
        }
        let between = !self.parts.engine.in_transaction();
        let due = now - self.last_seal >= CHECKPOINT_EVERY || self.parts.until.is_some();
        let records = !self.batch.records.is_empty();
        let idle = !busy && (self.cursor.buffer.is_none() || self.at_goal());
        // Before a row event that waits, the position names the end of the batch as well as between two transactions.
        let whole = between || self.hold == Hold::Answer;
        let full = self.hold == Hold::Full;
        if full || (whole && records && (idle || old)) || (between && !busy && due && self.lacks_seal()) {
            self.hold = if full { Hold::Nothing } else { self.hold };
            self.seal()?;
            // A chunk may have waited for room.
            return self.parts.engine.start(&mut self.batch, &mut self.requests);
        }
        if old {
            self.parts.engine.set_due();
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<()> {
        let Some(spare) = self.spare.take() else {
            return Err(Error::definite(Code::Internal, "no batch to fill"));
        };
        let sealed = self.parts.engine.seal(&mut self.batch)?;
        killpoint::pass(Point::BatchSealed);
        let batch = std::mem::replace(&mut self.batch, spare);
        self.sealed_lsn = sealed.position.end_lsn;
        self.in_flight = Some((sealed, Instant::now()));
        self.last_seal = Instant::now();
        self.batch_since = None;
        self.parts.committer.send(batch)
    }

    fn committed(&mut self, committed: Committed) -> Result<()> {
        let Committed { batch, result, took, newest } = committed;
        self.spare = Some(batch);
        let Some((sealed, _)) = self.in_flight.take() else { return Ok(()) };
        result?;
        self.parts.engine.durable(&sealed);
        self.durable_seq = sealed.position.seq;
        if !self.pending.is_empty() {
            self.parts.reporter.refresh();
        }
        if !sealed.position.complete {
            killpoint::pass(Point::PartCommitted);
        }
        // Only now: a crash between commit and confirmation makes the server resend what is then skipped by position.
        killpoint::pass(Point::Confirming);
        self.parts.stream.confirm(sealed.ack);
        killpoint::pass(Point::Confirmed);
        self.parts.reporter.durable(&sealed, took, newest);
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        let stream = self.hold == Hold::Nothing && self.cursor.buffer.is_none();
        let never = crossbeam_channel::never();
        let events = if stream { &self.parts.stream.events } else { &never };
        let mut event = None;
        let mut answer = None;
        let mut done = None;
        select! {
            recv(events) -> message => event = message.ok(),
            recv(self.parts.answers) -> message => answer = message.ok(),
            recv(self.parts.committer.done) -> message => done = message.ok(),
            // Seen by the loop.
            recv(self.parts.shutdown) -> _ => {}
            default(IDLE) => {}
        }
        if let Some(event) = event {
            self.take(event)?;
        }
        if let Some(answer) = answer {
            self.answer(answer?)?;
        }
        if let Some(done) = done {
            self.committed(done)?;
        }
        Ok(())
    }

    /// Commits what is whole, and confirms it.
    fn finish(&mut self) -> Result<()> {
        self.parts.reporter.stopping();
        self.parts.engine.rewind(&mut self.batch);
        if self.in_flight.is_some() {
            self.wait_for_commit()?;
        }
        if !self.batch.records.is_empty() || self.lacks_seal() {
            self.seal()?;
            self.wait_for_commit()?;
        }
        Ok(())
    }

    fn wait_for_commit(&mut self) -> Result<()> {
        match self.parts.committer.done.recv() {
            Ok(committed) => self.committed(committed),
            Err(_) => Err(Error::definite(Code::Internal, "the sink's thread has ended")),
        }
    }
}
