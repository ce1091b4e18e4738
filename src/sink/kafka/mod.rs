//! The Kafka sink: records and checkpoint in one transaction.
//!
//! ```text
//!  batch ─▶ begin ─▶ records ─▶ state changes ─▶ drain ─▶ commit ─┬─ certain ────────────────────────▶ durable
//!                                                                 └─ suspect, late or failed ─▶ settle ─┘
//! ```
//!
//! To settle is to throw the producer away, to take the transactional id over with a new one (which fences whatever
//! the old one still has under way and aborts what it left open), and then to read the state topic to its high
//! watermark. The state topic alone says whether the commit happened: the `position` entry of every commit carries a
//! header that names it.
//!
//! Why a commit that returned success can be suspect: the client sends the request to end a transaction again by itself
//! when its connection broke. The first one may be on its way still, and the coordinator cannot tell it from the end
//! of the *next* transaction. A newer producer's epoch makes it void.
//!
//! Absent on purpose: no flush. The binding's takes 100 ms steps; the drain here polls until nothing is in flight.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::error::{Code, Error, Kind, Result};
use crate::killpoint::{self, Point};
use crate::sink::{Retention, Sink, StateEntries, TopicSpec};
use crate::state::POSITION_KEY;

mod admin;
mod context;
mod failure;
pub mod inspect;
pub mod keys;
mod producer;
mod settings;
mod state_topic;
pub mod tail;

use admin::{Admin, WantedTopic};

pub use admin::Mismatch;
use producer::{Certainty, Route, TransactionalProducer};
use settings::Settings;
use state_topic::{StateTopic, Stored};

/// How long to wait for another producer's open transaction on the state topic, unless told otherwise.
const HANGING_WAIT: Duration = Duration::from_secs(30);
/// How long a commit in doubt is settled for before the caller is told to come again.
const SETTLE_WAIT: Duration = Duration::from_secs(30);
/// What to do when two daemons publish.
const FENCED_HINT: &str = "another daemon publishes for this pipeline; stop one of the two, then start again";
/// Between two tries to settle.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// Where and as whom to publish.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `host:port,host:port`.
    pub bootstrap: String,
    /// Replication factor of the topics that gimbal creates, and least one of the state topic.
    pub replication: i32,
    /// Passed to librdkafka; those that exactly-once rests on are refused.
    pub properties: BTreeMap<String, String>,
    /// Names the state topic `__gimbal.<pipeline>.state`.
    pub pipeline: String,
    /// Pipeline, system identifier and slot: the same for every daemon that may ever write for this slot.
    pub transactional_id: String,
}

/// Where the time of one commit went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitBreakdown {
    /// Handing the records to the client.
    pub produce: Duration,
    /// Waiting for the brokers to acknowledge them.
    pub drain: Duration,
    /// Waiting for the coordinator to end the transaction.
    pub commit: Duration,
}

/// Publishes to a Kafka cluster, exactly once.
pub struct KafkaSink {
    options: KafkaOptions,
    settings: Settings,
    state_topic: StateTopic,
    hanging_wait: Duration,
    settle_wait: Duration,
    topics: Vec<String>,
    producer: Option<TransactionalProducer>,
    /// The newest commit known to have happened: absent before the first one.
    committed: Option<Vec<u8>>,
    /// Set by `load`. The names of commits are this and a number.
    instance: Option<String>,
    commits: u64,
    doubt: Option<Doubt>,
    breakdown: CommitBreakdown,
    settled: u64,
}

/// A commit of unknown outcome.
#[derive(Clone, Debug)]
struct Doubt {
    commit: Vec<u8>,
    /// The batch's `position` entry, by which the batch is known again.
    position: Vec<u8>,
}

impl KafkaSink {
    /// Checks the properties; connects to nothing.
    pub fn new(options: KafkaOptions) -> Result<KafkaSink> {
        let settings = Settings::new(&options.bootstrap, &options.properties)?;
        let state_topic = StateTopic::new(&options.pipeline);
        Ok(KafkaSink {
            options,
            settings,
            state_topic,
            hanging_wait: HANGING_WAIT,
            settle_wait: SETTLE_WAIT,
            topics: Vec::new(),
            producer: None,
            committed: None,
            instance: None,
            commits: 0,
            doubt: None,
            breakdown: CommitBreakdown::default(),
            settled: 0,
        })
    }

    /// Waits this long (default 30 s) for another producer's open transaction on the state topic.
    #[must_use]
    pub fn hanging_wait(mut self, wait: Duration) -> KafkaSink {
        self.hanging_wait = wait;
        self
    }

    /// Tries this long (default 30 s) to settle a commit in doubt before the caller is told to come again.
    #[must_use]
    pub fn settle_wait(mut self, wait: Duration) -> KafkaSink {
        self.settle_wait = wait;
        self
    }

    /// Where the time of the newest commit went.
    pub fn commit_breakdown(&self) -> CommitBreakdown {
        self.breakdown
    }

    /// How many commits were in doubt so far and had to be settled by the state topic.
    pub fn settled_commits(&self) -> u64 {
        self.settled
    }

    /// Takes the transactional id over, then reads the state: in this order, or it could be stale at once.
    fn take_over(&mut self) -> Result<Stored> {
        // The old producer goes first: two would hold twice the memory.
        self.producer = None;
        let producer =
            TransactionalProducer::init(&self.settings, &self.options.transactional_id, &self.state_topic.name)?;
        killpoint::pass(Point::KafkaTakenOver);
        let stored = self.state_topic.read(&self.settings, self.hanging_wait)?;
        self.producer = Some(producer);
        Ok(stored)
    }

    /// Finds out whether the commit in doubt happened: true if it did.
    ///
    /// Until that is known the doubt stays, and a transient error asks the caller to come again with the same batch.
    fn settle(&mut self, doubt: &Doubt) -> Result<bool> {
        let deadline = Instant::now() + self.settle_wait;
        let stored = loop {
            match self.take_over() {
                Ok(stored) => break stored,
                Err(error) if error.kind() == Kind::Transient && Instant::now() < deadline => {
                    tracing::debug!(%error, "settling again");
                    thread::sleep(SETTLE_PAUSE);
                }
                Err(error) => return Err(error),
            }
        };
        self.settled += 1;
        if stored.commit.as_ref() == Some(&doubt.commit) {
            self.committed = stored.commit;
            self.doubt = None;
            return Ok(true);
        }
        if stored.commit == self.committed {
            self.doubt = None;
            return Ok(false);
        }
        let diagnosis = format!("`{}` holds a commit of another daemon", self.state_topic.name);
        Err(self.give_up(Error::definite(Code::SinkFenced, diagnosis).hint(FENCED_HINT)))
    }

    /// Another daemon took over. A new producer would fence that one, so there is none before the next `load`.
    fn give_up(&mut self, error: Error) -> Error {
        self.producer = None;
        self.doubt = None;
        error
    }

    /// Settles what an earlier call left in doubt. True if that was this very batch, and it is durable.
    fn settle_earlier(&mut self, position: &[u8]) -> Result<bool> {
        let Some(doubt) = self.doubt.clone() else { return Ok(false) };
        let happened = self.settle(&doubt)?;
        if happened && doubt.position != position {
            let diagnosis = "a batch whose commit was in doubt was not given again";
            return Err(Error::definite(Code::Internal, diagnosis));
        }
        Ok(happened)
    }
}

impl Sink for KafkaSink {
    fn load(&mut self) -> Result<StateEntries> {
        let admin = Admin::open(&self.settings)?;
        self.state_topic.ensure(&admin, self.options.replication)?;
        let stored = self.take_over()?;
        self.instance = Some(instance()?);
        self.committed = stored.commit;
        self.doubt = None;
        Ok(stored.entries)
    }

    fn declare(&mut self, topics: &[TopicSpec]) -> Result<()> {
        let admin = Admin::open(&self.settings)?;
        for topic in topics {
            admin.ensure(&wanted(&topic.name, topic.partitions, topic.retention), self.options.replication)?;
        }
        self.topics = topics.iter().map(|topic| topic.name.clone()).collect();
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<()> {
        let position = batch.state.iter().rev().find(|change| change.key == POSITION_KEY);
        let (Some(position), Some(instance)) = (position.and_then(|change| change.value.as_deref()), &self.instance)
        else {
            return Err(Error::definite(Code::Internal, "a commit without `position`, or before the state was loaded"));
        };
        self.commits += 1;
        let doubt = Doubt { commit: format!("{instance}-{}", self.commits).into_bytes(), position: position.to_vec() };
        if self.settle_earlier(position)? {
            return Ok(());
        }
        let Some(producer) = &self.producer else {
            return Err(Error::definite(Code::SinkFenced, "this daemon was fenced before").hint(FENCED_HINT));
        };
        let route = Route { topics: &self.topics, state_topic: &self.state_topic.name, commit: &doubt.commit };
        let result = producer.transact(batch, &route);
        if let Ok((Certainty::Certain, breakdown)) = result {
            self.breakdown = breakdown;
            self.committed = Some(doubt.commit);
            return Ok(());
        }
        self.resolve(doubt, result)
    }
}

impl KafkaSink {
    /// After anything but a certain success.
    fn resolve(&mut self, doubt: Doubt, result: Result<(Certainty, CommitBreakdown)>) -> Result<()> {
        self.doubt = Some(doubt.clone());
        let cause = match result {
            Ok((_, breakdown)) => {
                self.breakdown = breakdown;
                tracing::info!(seconds = breakdown.commit.as_secs_f64(), "commit in doubt: it may have left twice");
                Error::transient(Code::SinkUnreachable, "a commit that was reported as done had not happened")
            }
            Err(error) if error.code() == Code::SinkFenced => {
                return Err(self.give_up(error));
            }
            Err(error) => {
                tracing::warn!(%error, "commit in doubt");
                error
            }
        };
        if self.settle(&doubt)? { Ok(()) } else { Err(cause) }
    }
}

/// A `log` topic keeps every record for good, a `state` topic the newest of each key.
fn wanted(name: &str, partitions: u32, retention: Retention) -> WantedTopic<'_> {
    let (cleanup_policy, config): (_, &[_]) = match retention {
        Retention::Compact => ("compact", &[]),
        Retention::Append => ("delete", &[("retention.ms", "-1"), ("retention.bytes", "-1")]),
    };
    WantedTopic { name, partitions, cleanup_policy, replicas_min: 1, config }
}

/// A name that no other process has.
fn instance() -> Result<String> {
    let number = getrandom::u64()
        .map_err(|error| Error::definite(Code::Internal, format!("the system gives no random numbers: {error}")))?;
    Ok(format!("{number:016x}"))
}
