//! The checkpoint's topic: one compacted partition, written in the same transactions as the records.

use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::admin::{Admin, WantedTopic};
use super::context::Context;
use super::failure::failure;
use super::settings::{Isolation, Settings};
use crate::error::{Code, Error, Kind, Result};
use crate::sink::StateEntries;
use crate::state::POSITION_KEY;

/// The header of the `position` entry that names the commit.
pub(super) const COMMIT_HEADER: &str = "commit";
/// The topic's only partition.
const PARTITION: i32 = 0;

/// How long the broker may take to tell the end of the partition, or to send the first records.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Longest sleep of one poll; a poll that meets only a control record sleeps it out.
const POLL: Duration = Duration::from_millis(5);

/// Small segments, cleaned eagerly: the active segment is never compacted, and a start reads all of it.
const CONFIG: &[(&str, &str)] =
    &[("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01"), ("segment.ms", "3600000")];

/// `__gimbal.<pipeline>.state`.
#[derive(Clone, Debug)]
pub(super) struct StateTopic {
    pub(super) name: String,
}

/// What the state topic says, up to a high watermark.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    /// The entries, compacted.
    pub(super) entries: StateEntries,
    /// Names the newest commit; absent before the first one.
    pub(super) commit: Option<Vec<u8>>,
}

impl StateTopic {
    /// Of a pipeline.
    pub(super) fn new(pipeline: &str) -> StateTopic {
        StateTopic { name: format!("__gimbal.{pipeline}.state") }
    }

    /// Creates it, or verifies that it cannot lose the checkpoint.
    pub(super) fn ensure(&self, admin: &Admin, replication: i32) -> Result<()> {
        admin.ensure(&self.wanted(replication), replication)
    }

    /// As it must be.
    pub(super) fn wanted(&self, replication: i32) -> WantedTopic<'_> {
        let (partitions, cleanup_policy) = (1, "compact");
        WantedTopic { name: &self.name, partitions, cleanup_policy, replicas_min: replication, config: CONFIG }
    }

    /// Reads all committed entries below the high watermark, which is taken first.
    ///
    /// An open transaction of another producer hides what was committed after it began, so "to the end" would not be
    /// enough. It is waited for, up to `hanging_wait`; ours cannot be open, since `init_transactions` aborted it.
    pub(super) fn read(&self, settings: &Settings, hanging_wait: Duration) -> Result<Stored> {
        let high_watermark = self.high_watermark(settings)?;
        if high_watermark == 0 {
            return Ok(Stored::default());
        }
        let doing = format!("read `{}`", self.name);
        let consumer = self.connect(settings, Isolation::ReadCommitted)?;
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.name, PARTITION, Offset::Beginning)
            .and_then(|()| consumer.assign(&assignment))
            .map_err(|error| failure(&doing, &error))?;
        let mut stored = Stored::default();
        let mut progress = Progress::start();
        loop {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    stored.apply(&message)?;
                    if message.offset() + 1 >= high_watermark {
                        break;
                    }
                    progress = Progress::start();
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => progress.at_end = true,
                Some(Err(error)) => progress.trouble = Some(transient_only(failure(&doing, &error))?),
                None => {}
            }
            if self.offset(&consumer)? >= high_watermark {
                break;
            }
            let limit = if progress.at_end { hanging_wait } else { hanging_wait.max(ANSWER_WAIT) };
            if progress.since.elapsed() >= limit {
                return Err(self.stuck(progress, limit));
            }
        }
        Ok(stored)
    }

    /// The end of the partition, open transactions included.
    fn high_watermark(&self, settings: &Settings) -> Result<i64> {
        // What "end" means is a setting of the client, not of the request: a read_committed one would be told the end
        // of what it can read.
        let consumer = self.connect(settings, Isolation::ReadUncommitted)?;
        consumer
            .fetch_watermarks(&self.name, PARTITION, ANSWER_WAIT)
            .map(|(_, high)| high)
            .map_err(|error| failure(&format!("find the end of `{}`", self.name), &error))
    }

    /// A client that knows the partition's leader asks it at once; one that does not looks for it every 500 ms.
    fn connect(&self, settings: &Settings, isolation: Isolation) -> Result<BaseConsumer<Context>> {
        let consumer = open(settings, isolation)?;
        let metadata = consumer.fetch_metadata(Some(&self.name), ANSWER_WAIT);
        metadata.map_err(|error| failure(&format!("find the leader of `{}`", self.name), &error))?;
        Ok(consumer)
    }

    /// Everything below is read. Control records count, which no poll returns.
    fn offset(&self, consumer: &BaseConsumer<Context>) -> Result<i64> {
        let positions = consumer.position().map_err(|e| failure(&format!("read `{}`", self.name), &e))?;
        let offset = positions.find_partition(&self.name, PARTITION).map(|element| element.offset());
        Ok(match offset {
            Some(Offset::Offset(offset)) => offset,
            _ => -1,
        })
    }

    fn stuck(&self, progress: Progress, waited: Duration) -> Error {
        let (topic, seconds) = (&self.name, waited.as_secs_f64());
        if progress.at_end {
            let diagnosis = format!(
                "an open transaction of another producer hides the end of `{topic}`; waited {seconds} s for it to end"
            );
            return Error::transient(Code::StateHangingTransaction, diagnosis).hint(format!(
                "find it with `kafka-transactions describe-producers --topic {topic} --partition 0`; it ends by itself \
                 after its `transaction.timeout.ms`, or by `kafka-transactions abort`. Nobody but gimbal may write there"
            ));
        }
        progress.trouble.unwrap_or_else(|| {
            Error::transient(Code::SinkUnreachable, format!("cannot read `{topic}`: no answer for {seconds} s"))
        })
    }
}

/// Since when the reader got nothing new, and what it saw since.
struct Progress {
    since: Instant,
    at_end: bool,
    trouble: Option<Error>,
}

impl Progress {
    fn start() -> Progress {
        Progress { since: Instant::now(), at_end: false, trouble: None }
    }
}

impl Stored {
    fn apply(&mut self, message: &BorrowedMessage<'_>) -> Result<()> {
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
        let Some(key) = key else {
            let diagnosis =
                format!("offset {} of `{}` has a key that gimbal never writes", message.offset(), message.topic());
            return Err(Error::definite(Code::StateInvalid, diagnosis).hint("find out who else writes to this topic"));
        };
        if key == POSITION_KEY {
            self.commit = message.headers().and_then(commit_header);
        }
        match message.payload() {
            Some(value) => self.entries.insert(key.to_owned(), value.to_vec()),
            None => self.entries.remove(key),
        };
        Ok(())
    }
}

fn commit_header(headers: &rdkafka::message::BorrowedHeaders) -> Option<Vec<u8>> {
    headers.iter().find(|header| header.key == COMMIT_HEADER).and_then(|header| header.value.map(<[u8]>::to_vec))
}

fn transient_only(error: Error) -> Result<Error> {
    if error.kind() == Kind::Definite { Err(error) } else { Ok(error) }
}

/// A consumer that is assigned partitions by hand.
pub(super) fn open(settings: &Settings, isolation: Isolation) -> Result<BaseConsumer<Context>> {
    BaseConsumer::from_config_and_context(&settings.consumer(isolation), Context::default())
        .map_err(|error| failure("set up the Kafka client", &error))
}
