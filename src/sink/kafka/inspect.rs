//! Looks at a cluster without changing it, for `doctor`: brokers, topics, limits, the checkpoint.

use std::time::Duration;

use rdkafka::admin::ResourceSpecifier;

use super::admin::{Admin, Mismatch, WantedTopic, verify};
use super::settings::Settings;
use super::state_topic::StateTopic;
use super::{KafkaOptions, wanted};
use crate::error::Result;
use crate::sink::{Retention, StateEntries};

/// How long another producer's open transaction on the state topic is waited for. It is no finding of its own: the daemon
/// waits longer, and says so.
const HANGING_WAIT: Duration = Duration::from_secs(2);

/// How long brokers may be silent: somebody waits for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A topic that a pipeline publishes to: name, partitions, retention.
pub type Wanted = (String, u32, Retention);

/// What there is.
#[derive(Debug)]
pub struct Inspection {
    /// Brokers that the cluster knows.
    pub brokers: usize,
    /// `transaction.max.timeout.ms` of a broker, if it tells.
    pub transaction_timeout_max: Option<Duration>,
    /// What gimbal asks for.
    pub transaction_timeout: Duration,
    /// The largest record that gimbal sends, in bytes.
    pub record_bytes_max: u64,
    /// Those that exist, the state topic last.
    pub topics: Vec<Topic>,
    /// The checkpoint; `None` before the first start, an error where it cannot be read.
    pub state: Option<Result<StateEntries>>,
}

/// A topic that exists.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What would lose or hide records.
    pub mismatch: Option<Mismatch>,
    /// `max.message.bytes`, if the broker tells.
    pub message_bytes_max: Option<u64>,
    /// `retention.ms` of a topic that should keep every record, and does not.
    pub expires_after_ms: Option<String>,
}

/// Looks at the cluster. Nothing is created, and no transactional id is touched.
pub fn inspect(options: &KafkaOptions, topics: &[Wanted]) -> Result<Inspection> {
    let settings = Settings::new(&options.bootstrap, &options.properties)?;
    let admin = Admin::open(&settings)?.patience(PATIENCE);
    let doing = "look at the cluster";
    let metadata = admin.metadata(doing, None)?;
    let transaction_timeout_max = match metadata.brokers().first() {
        None => None,
        Some(broker) => {
            let settings = admin.describe(doing, &ResourceSpecifier::Broker(broker.id()))?;
            let value = settings.as_ref().and_then(|all| all.get("transaction.max.timeout.ms"));
            value.and_then(|entry| entry.value.as_deref()?.parse().ok()).map(Duration::from_millis)
        }
    };
    let state_topic = StateTopic::new(&options.pipeline);
    let mut found = Vec::new();
    for (name, partitions, retention) in topics {
        found.extend(look(&admin, &wanted(name, *partitions, *retention))?);
    }
    let state = look(&admin, &state_topic.wanted(options.replication))?;
    let has_state = state.as_ref().is_some_and(|topic| topic.mismatch.is_none());
    found.extend(state);
    Ok(Inspection {
        brokers: metadata.brokers().len(),
        transaction_timeout_max,
        transaction_timeout: settings.transaction_timeout(),
        record_bytes_max: settings.message_bytes_max(),
        topics: found,
        state: has_state.then(|| state_topic.read(&settings, HANGING_WAIT).map(|stored| stored.entries)),
    })
}

fn look(admin: &Admin, wanted: &WantedTopic<'_>) -> Result<Option<Topic>> {
    let Some(found) = admin.find(wanted.name)? else { return Ok(None) };
    let mismatch = verify(wanted, &found).err();
    // A topic that should be compacted and is not is wrong in another way.
    let expires = found.expires_after_ms().filter(|_| mismatch.is_none()).map(str::to_owned);
    Ok(Some(Topic {
        name: wanted.name.to_owned(),
        mismatch,
        message_bytes_max: found.message_bytes_max,
        expires_after_ms: expires,
    }))
}
