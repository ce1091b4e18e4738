//! librdkafka's settings: our defaults, the user's, and those that nobody may change.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::failure::failure;
use crate::error::{Code, Error, Result};

/// What exactly-once, the order per key, and the client's own set-up rest on; with the reason a user is given.
const RESERVED: &[(&str, &str)] = &[
    ("transactional.id", "it names the pipeline to the broker, which fences an older daemon by it"),
    ("enable.idempotence", "without it a retry can duplicate or reorder records"),
    ("acks", "a commit must be on all in-sync replicas before the source may forget it"),
    ("request.required.acks", "a commit must be on all in-sync replicas before the source may forget it"),
    ("isolation.level", "the checkpoint must be read as committed"),
    ("partitioner", "a key must stay on its partition, the one that Java's producer takes"),
    ("queuing.strategy", "records of a key must leave in order"),
    ("bootstrap.servers", "it is `sink.kafka.bootstrap`"),
    ("metadata.broker.list", "it is `sink.kafka.bootstrap`"),
    ("group.id", "gimbal joins no consumer group"),
    ("enable.auto.commit", "gimbal joins no consumer group"),
    ("auto.offset.reset", "gimbal says where it reads"),
    ("enable.partition.eof", "gimbal needs to know the end of the state topic"),
    ("delivery.report.only.error", "gimbal counts failed deliveries"),
    ("log_level", "gimbal learns from the client's log whether a commit is in doubt"),
    ("log.queue", "gimbal learns from the client's log whether a commit is in doubt"),
    ("log.connection.close", "gimbal learns from the client's log whether a commit is in doubt"),
    ("test.mock.num.brokers", "it replaces the cluster"),
];

/// Defaults of the producer, measured on two cores with batches of 20,000 records; a user's property wins.
const PRODUCER: &[(&str, &str)] = &[
    // A transaction is drained as soon as it is full, so waiting for more records only delays it.
    ("linger.ms", "0"),
    ("compression.type", "lz4"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "20000"),
    // Bounds on the client's memory: one transaction (20,000 records, 8 MiB) fits, much more does not.
    ("queue.buffering.max.messages", "50000"),
    ("queue.buffering.max.kbytes", "32768"),
    // How long a dead daemon's transaction can hide later records from readers, if no new daemon aborts it before.
    ("transaction.timeout.ms", "30000"),
    ("retry.backoff.ms", "100"),
    ("enable.metrics.push", "false"),
];

/// Other names that librdkafka knows for some of [`PRODUCER`].
const ALIASES: &[(&str, &str)] = &[("linger.ms", "queue.buffering.max.ms"), ("compression.type", "compression.codec")];

/// For every client.
const COMMON: &[(&str, &str)] =
    &[("socket.keepalive.enable", "true"), ("socket.nagle.disable", "true"), ("reconnect.backoff.max.ms", "2000")];

/// Of the user's properties, those that say how to reach and trust the brokers; consumers get only these.
const CONNECTION: &[&str] = &[
    "security.",
    "ssl.",
    "sasl.",
    "enable.ssl",
    "enable.sasl",
    "socket.",
    "broker.",
    "client.",
    "metadata.",
    "reconnect.",
    "retry.",
    "api.",
    "connections.",
    "resolve.",
    "https.",
];

/// How to reach the cluster, checked once.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    bootstrap: String,
    properties: BTreeMap<String, String>,
}

impl Settings {
    /// Refuses properties that exactly-once rests on, and those that the client library does not take.
    pub(super) fn new(bootstrap: &str, properties: &BTreeMap<String, String>) -> Result<Settings> {
        for key in properties.keys() {
            if let Some((_, reason)) = RESERVED.iter().find(|(name, _)| name == key) {
                let diagnosis = format!("property `{key}` of `sink.kafka.properties` cannot be set: {reason}");
                return Err(Error::definite(Code::ConfigInvalid, diagnosis).hint(format!("remove `{key}`")));
            }
        }
        let settings = Settings { bootstrap: bootstrap.to_owned(), properties: properties.clone() };
        // Of all clients the producer takes most of them.
        settings.producer("check").create_native_config().map_err(|error| failure("use the properties", &error))?;
        Ok(settings)
    }

    /// For the transactional producer.
    pub(super) fn producer(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.base(PRODUCER, |_| true);
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("delivery.report.only.error", "true");
        config
    }

    /// For a consumer that is assigned its partitions: it joins no group and commits no offset.
    pub(super) fn consumer(&self, isolation: Isolation) -> ClientConfig {
        let mut config = self.base(&[], is_connection);
        config
            // The client library demands a name before it hands out records.
            .set("group.id", "gimbal")
            .set("isolation.level", isolation.name())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "20")
            // Bound on the fetched and not yet read bytes.
            .set("queued.max.messages.kbytes", "16384")
            .set("allow.auto.create.topics", "false");
        config
    }

    /// For a client that creates and describes topics, or asks for offsets.
    pub(super) fn admin(&self) -> ClientConfig {
        self.base(&[], is_connection)
    }

    /// `transaction.timeout.ms`: what a transaction may take, from begin to commit.
    pub(super) fn transaction_timeout(&self) -> Duration {
        self.millis("transaction.timeout.ms", 30_000)
    }

    /// The largest record that the client sends.
    pub(super) fn message_bytes_max(&self) -> u64 {
        let given = self.properties.get("message.max.bytes").and_then(|text| text.trim().parse().ok());
        // librdkafka's own default.
        given.unwrap_or(1_000_000)
    }

    /// A commit that took this long may have been sent twice.
    ///
    /// The client sends a request again no sooner than `retry.backoff.ms` (100 ms unless set) less 20 % of jitter.
    pub(super) fn resend_after(&self) -> Duration {
        self.millis("retry.backoff.ms", 100).min(self.millis("retry.backoff.max.ms", 1000)).mul_f64(0.8)
    }

    fn millis(&self, key: &str, default: u64) -> Duration {
        Duration::from_millis(self.properties.get(key).and_then(|text| text.trim().parse().ok()).unwrap_or(default))
    }

    fn base(&self, defaults: &[(&str, &str)], wanted: impl Fn(&str) -> bool) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in COMMON.iter().chain(defaults) {
            // Two names of one setting: the client would take whichever comes last.
            let alias = ALIASES.iter().find(|(name, _)| name == key).map(|(_, alias)| *alias);
            if alias.is_none_or(|alias| !self.properties.contains_key(alias)) {
                config.set(*key, *value);
            }
        }
        for (key, value) in self.properties.iter().filter(|(key, _)| wanted(key)) {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }
}

/// What a consumer may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Committed records, up to the first open transaction.
    ReadCommitted,
    /// Everything, up to the high watermark.
    ReadUncommitted,
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        }
    }
}

fn is_connection(key: &str) -> bool {
    CONNECTION.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(properties: &[(&str, &str)]) -> Result<Settings> {
        let properties = properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Settings::new("localhost:9092", &properties)
    }

    #[test]
    fn a_property_that_exactly_once_rests_on_is_refused_without_its_value() {
        for (key, _) in RESERVED {
            let error = settings(&[(key, "secret")]).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid);
            assert!(error.diagnosis().contains(key) && !error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn tuning_reaches_the_producer_and_security_reaches_every_client() {
        let settings = settings(&[("linger.ms", "7"), ("security.protocol", "SASL_SSL")]).unwrap();
        assert_eq!(settings.producer("t").get("linger.ms"), Some("7"));
        assert_eq!(settings.consumer(Isolation::ReadCommitted).get("linger.ms"), None);
        for config in [settings.producer("t"), settings.consumer(Isolation::ReadCommitted), settings.admin()] {
            assert_eq!(config.get("security.protocol"), Some("SASL_SSL"));
        }
    }

    #[test]
    fn the_resend_threshold_follows_the_retry_backoff() {
        assert_eq!(settings(&[]).unwrap().resend_after(), Duration::from_millis(80));
        assert_eq!(settings(&[("retry.backoff.ms", "500")]).unwrap().resend_after(), Duration::from_millis(400));
    }
}
