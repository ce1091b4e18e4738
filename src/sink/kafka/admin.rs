//! Topics: created where they are missing, verified where they exist.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::context::Context;
use super::failure::{failure, refine, shut_out};
use super::settings::{Isolation, Settings};
use super::state_topic;
use crate::error::{Code, Error, Kind, Result};

/// How long a broker may take for one administrative request.
const REQUEST_WAIT: Duration = Duration::from_secs(15);
/// One step of a look at the cluster, after which a refusal is noticed.
const METADATA_STEP: Duration = Duration::from_secs(2);
/// How long a new topic may take to be known to every broker.
const CREATION_WAIT: Duration = Duration::from_secs(15);
/// Between two looks at a topic that is not there yet.
const CREATION_POLL: Duration = Duration::from_millis(50);

/// A topic as it must be.
#[derive(Clone, Debug)]
pub(super) struct WantedTopic<'a> {
    pub(super) name: &'a str,
    pub(super) partitions: u32,
    /// The value that `cleanup.policy` must have.
    pub(super) cleanup_policy: &'static str,
    /// Least number of replicas of an existing topic.
    pub(super) replicas_min: i32,
    /// Set at creation, and not verified: an operator may tune them.
    pub(super) config: &'a [(&'a str, &'a str)],
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundTopic {
    partitions: usize,
    /// Of the partition that has fewest.
    replicas: usize,
    /// Absent if the broker does not tell.
    cleanup_policy: Option<String>,
    retention_ms: Option<String>,
    pub(super) message_bytes_max: Option<u64>,
}

/// A client for administrative requests.
pub(super) struct Admin {
    client: AdminClient<Context>,
    /// Asks for metadata: any other kind of client would create a topic by asking for it.
    metadata: BaseConsumer<Context>,
    options: AdminOptions,
    patience: Duration,
}

impl Admin {
    /// Connects lazily.
    pub(super) fn open(settings: &Settings) -> Result<Admin> {
        let client = AdminClient::from_config_and_context(&settings.admin(), Context::default())
            .map_err(|error| failure("set up the Kafka client", &error))?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST_WAIT)).operation_timeout(Some(REQUEST_WAIT));
        let metadata = state_topic::open(settings, Isolation::ReadUncommitted)?;
        Ok(Admin { client, metadata, options, patience: REQUEST_WAIT })
    }

    /// Waits this long for brokers that do not answer.
    pub(super) fn patience(mut self, patience: Duration) -> Admin {
        self.patience = patience;
        self
    }

    /// Creates the topic if it is missing, and refuses one that would lose or hide records.
    pub(super) fn ensure(&self, wanted: &WantedTopic<'_>, replication: i32) -> Result<()> {
        let found = match self.find(wanted.name)? {
            Some(found) => found,
            None => {
                self.create(wanted, replication)?;
                self.wait_for(wanted.name)?
            }
        };
        verify(wanted, &found).map_err(|mismatch| mismatch.error(wanted.name))?;
        if let Some(retention_ms) = found.expires_after_ms() {
            // An operator's decision, and no reason to stop; but a log contract promises every change.
            tracing::warn!(topic = wanted.name, retention_ms, "records of a log contract expire");
        }
        Ok(())
    }

    fn wait_for(&self, name: &str) -> Result<FoundTopic> {
        let deadline = Instant::now() + CREATION_WAIT;
        loop {
            if let Some(found) = self.find(name)?.filter(|found| found.cleanup_policy.is_some()) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let diagnosis = format!("topic `{name}` was created and is still unknown to the brokers");
                return Err(Error::transient(Code::SinkUnreachable, diagnosis));
            }
            thread::sleep(CREATION_POLL);
        }
    }

    fn create(&self, wanted: &WantedTopic<'_>, replication: i32) -> Result<()> {
        let doing = format!("create topic `{}`", wanted.name);
        let mut topic = NewTopic::new(wanted.name, wanted.partitions as i32, TopicReplication::Fixed(replication))
            .set("cleanup.policy", wanted.cleanup_policy);
        for (key, value) in wanted.config {
            topic = topic.set(key, value);
        }
        let results = wait(self.client.create_topics([&topic], &self.options)).map_err(|e| failure(&doing, &e))?;
        match results.into_iter().next() {
            Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                tracing::info!(topic = wanted.name, partitions = wanted.partitions, "topic created");
                Ok(())
            }
            Some(Err((_, code))) => Err(refine(&doing, Some(code), &code.to_string())),
            None => Err(Error::transient(Code::SinkUnreachable, format!("cannot {doing}: the broker gave no answer"))),
        }
    }

    /// The topic's settings, or `None` if there is no such topic.
    pub(super) fn find(&self, name: &str) -> Result<Option<FoundTopic>> {
        let doing = format!("describe topic `{name}`");
        let metadata = self.metadata(&doing, Some(name))?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
        match topic.error().map(RDKafkaErrorCode::from) {
            None if topic.partitions().is_empty() => return Ok(None),
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            Some(code) => return Err(refine(&doing, Some(code), &code.to_string())),
        }
        let resource = self.describe(&doing, &ResourceSpecifier::Topic(name))?;
        let value =
            |key| resource.as_ref().and_then(|resource| resource.get(key)).and_then(|entry| entry.value.clone());
        Ok(Some(FoundTopic {
            partitions: topic.partitions().len(),
            replicas: topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
            cleanup_policy: value("cleanup.policy"),
            retention_ms: value("retention.ms"),
            message_bytes_max: value("max.message.bytes").and_then(|text| text.parse().ok()),
        }))
    }

    /// Asks the brokers in short steps: the library goes on trying brokers that refuse it, until the time is over.
    pub(super) fn metadata(&self, doing: &str, topic: Option<&str>) -> Result<Metadata> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.metadata.fetch_metadata(topic, METADATA_STEP) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => {
                    self.listen();
                    if let Some(refusal) = self.metadata.context().refusal() {
                        return Err(shut_out(doing, refusal));
                    }
                    let failed = failure(doing, &error);
                    if failed.kind() == Kind::Definite || Instant::now() >= deadline {
                        return Err(failed);
                    }
                }
            }
        }
    }

    /// Takes in what the client library logged, for a moment: it hands that out only to who polls.
    fn listen(&self) {
        let end = Instant::now() + CREATION_POLL;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            drop(self.metadata.poll(left));
        }
    }

    /// The settings of a topic or a broker, if the broker tells them.
    pub(super) fn describe(&self, doing: &str, what: &ResourceSpecifier<'_>) -> Result<Option<ConfigResource>> {
        let answer = wait(self.client.describe_configs([what], &self.options));
        // The binding drops the broker's refusal and hands out a resource without entries.
        Ok(answer.map_err(|e| failure(doing, &e))?.into_iter().find_map(|resource| resource.ok()))
    }
}

/// How a topic differs from what it must be, so that it would lose or hide records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The number of partitions.
    Partitions {
        /// As it is.
        found: usize,
        /// As it must be.
        wanted: u32,
    },
    /// The broker does not tell the settings.
    Undisclosed,
    /// `cleanup.policy`.
    CleanupPolicy {
        /// As it is.
        found: String,
        /// As it must be.
        wanted: &'static str,
    },
    /// The number of replicas of the partition that has fewest.
    Replicas {
        /// As it is.
        found: usize,
        /// The least that it must be.
        wanted: i32,
    },
}

impl Mismatch {
    /// Both sides, and what to do.
    pub fn error(&self, name: &str) -> Error {
        let refuse = |diagnosis: String, hint: String| Error::definite(Code::TopicSettings, diagnosis).hint(hint);
        match self {
            Mismatch::Partitions { found, wanted } => refuse(
                format!("topic `{name}` has {found} partitions and must have {wanted}"),
                format!(
                    "the number of partitions is frozen, since keys would move to others; give `{name}` another name, or \
                     delete it if it is not in use, and gimbal creates it"
                ),
            ),
            Mismatch::Undisclosed => {
                let diagnosis = format!("the broker does not tell the configuration of topic `{name}`");
                Error::definite(Code::SinkRefused, diagnosis).hint("grant DescribeConfigs on the topic to the user")
            }
            Mismatch::CleanupPolicy { found, wanted } => refuse(
                format!("topic `{name}` has `cleanup.policy={found}` and must have `cleanup.policy={wanted}`"),
                format!(
                    "check that nothing was lost yet, then \
                     `kafka-configs --alter --topic {name} --add-config cleanup.policy={wanted}`"
                ),
            ),
            Mismatch::Replicas { found, wanted } => refuse(
                format!("topic `{name}` has {found} replicas and must have {wanted}"),
                "reassign its partitions to more brokers, or lower `sink.kafka.replication`".to_owned(),
            ),
        }
    }
}

/// Compares a topic with what it must be.
pub(super) fn verify(wanted: &WantedTopic<'_>, found: &FoundTopic) -> Result<(), Mismatch> {
    if found.partitions != wanted.partitions as usize {
        return Err(Mismatch::Partitions { found: found.partitions, wanted: wanted.partitions });
    }
    let Some(cleanup_policy) = found.cleanup_policy.as_deref() else { return Err(Mismatch::Undisclosed) };
    if cleanup_policy != wanted.cleanup_policy {
        return Err(Mismatch::CleanupPolicy { found: cleanup_policy.to_owned(), wanted: wanted.cleanup_policy });
    }
    if (found.replicas as i32) < wanted.replicas_min {
        return Err(Mismatch::Replicas { found: found.replicas, wanted: wanted.replicas_min });
    }
    Ok(())
}

impl FoundTopic {
    /// How long records of a topic that should keep them are kept, if not for good.
    pub(super) fn expires_after_ms(&self) -> Option<&str> {
        let deletes = self.cleanup_policy.as_deref() == Some("delete");
        self.retention_ms.as_deref().filter(|ms| deletes && *ms != "-1")
    }
}

/// Runs a future of the admin client, whose own thread wakes us, on the caller's thread.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
