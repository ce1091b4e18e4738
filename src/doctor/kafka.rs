//! The cluster: reachable, large enough, with topics and limits that lose nothing.

use super::facts::{Facts, SinkFacts};
use super::report::{Finding, Fix};
use crate::config::SinkConfig;
use crate::error::Code;
use crate::sink::kafka::Mismatch;
use crate::sink::kafka::inspect::{Inspection, Topic};

/// What every command line begins with.
struct Cluster<'a> {
    bootstrap: &'a str,
    replication: i32,
}

impl Cluster<'_> {
    fn alter(&self, topic: &str, setting: &str) -> Fix {
        Fix::Shell(format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config {setting}",
            self.bootstrap
        ))
    }
}

/// All checks of the cluster; none with another sink.
pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let SinkConfig::Kafka { bootstrap, replication, .. } = &facts.config.sink else { return Vec::new() };
    let found = match &facts.sink {
        SinkFacts::Kafka(Ok(found)) => found,
        SinkFacts::Kafka(Err(error)) => return vec![Finding::of_error("sink", error)],
        SinkFacts::Folder(_) => return Vec::new(),
    };
    let cluster = Cluster { bootstrap, replication: *replication };
    let mut findings = Vec::new();
    findings.extend(brokers(found, &cluster));
    findings.extend(transaction_timeout(found));
    for topic in &found.topics {
        findings.extend(mismatch(topic, &cluster));
        findings.extend(record_limit(topic, found, &cluster));
        findings.extend(retention(topic, &cluster));
    }
    if let Some(Err(error)) = &found.state {
        findings.push(Finding::of_error("sink-state", error));
    }
    findings
}

fn brokers(found: &Inspection, cluster: &Cluster<'_>) -> Option<Finding> {
    let wanted = usize::try_from(cluster.replication).unwrap_or(0);
    (found.brokers < wanted).then(|| {
        let what = format!("the cluster has {} brokers, `sink.kafka.replication` is {wanted}", found.brokers);
        let fix = Fix::Config { key: "sink.kafka.replication".into(), value: found.brokers.to_string() };
        Finding::error("kafka-replication", Code::SinkReplication, what, fix)
    })
}

fn transaction_timeout(found: &Inspection) -> Option<Finding> {
    let most = found.transaction_timeout_max?;
    (found.transaction_timeout > most).then(|| {
        let (ours, theirs) = (found.transaction_timeout.as_millis(), most.as_millis());
        let what = format!(
            "gimbal asks for `transaction.timeout.ms={ours}`, brokers have `transaction.max.timeout.ms={theirs}`"
        );
        let key = "sink.kafka.properties.\"transaction.timeout.ms\"".to_owned();
        let fix = Fix::Config { key, value: theirs.to_string() };
        Finding::error("kafka-transaction-timeout", Code::SinkTransactionTimeout, what, fix)
    })
}

/// As the sink verifies it when it starts.
fn mismatch(topic: &Topic, cluster: &Cluster<'_>) -> Option<Finding> {
    let (name, mismatch) = (&topic.name, topic.mismatch.as_ref()?);
    let error = mismatch.error(name);
    let fix = match mismatch {
        Mismatch::CleanupPolicy { wanted, .. } => cluster.alter(name, &format!("cleanup.policy={wanted}")),
        Mismatch::Partitions { .. } => Fix::Shell(format!(
            "kafka-topics.sh --bootstrap-server {} --delete --topic {name}   # if it is not in use; gimbal creates it",
            cluster.bootstrap
        )),
        Mismatch::Replicas { found, .. } => {
            Fix::Config { key: "sink.kafka.replication".into(), value: found.to_string() }
        }
        Mismatch::Undisclosed => Fix::Advice(error.hint_text().unwrap_or_default().to_owned()),
    };
    Some(Finding::error("kafka-topic", error.code(), error.diagnosis(), fix))
}

fn record_limit(topic: &Topic, found: &Inspection, cluster: &Cluster<'_>) -> Option<Finding> {
    let most = topic.message_bytes_max.filter(|most| *most < found.record_bytes_max)?;
    let what = format!(
        "topic `{}` has `max.message.bytes={most}`, gimbal sends records of up to {} bytes",
        topic.name, found.record_bytes_max
    );
    // The library's limit counts less of the frame around a batch than the broker's.
    let room = found.record_bytes_max + 48_588;
    let fix = cluster.alter(&topic.name, &format!("max.message.bytes={room}"));
    Some(Finding::error("kafka-record-limit", Code::SinkRecordLimit, what, fix))
}

fn retention(topic: &Topic, cluster: &Cluster<'_>) -> Option<Finding> {
    let expires = topic.expires_after_ms.as_ref()?;
    let what = format!(
        "topic `{}` of a `log` contract has `retention.ms={expires}`: records go, and the contract promises every change",
        topic.name
    );
    let fix = cluster.alter(&topic.name, "retention.ms=-1");
    Some(Finding::warning("kafka-retention", Code::TopicSettings, what, fix))
}
