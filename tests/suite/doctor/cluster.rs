//! Findings about a Kafka cluster and a registry.

use std::time::Duration;

use gimbal::diagnostic::Severity::{Error, Warning};
use gimbal::doctor::Fix;
use gimbal::registry::Registry;
use gimbal::registry::http::{HttpRegistry, Login};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use serde_json::json;

use super::scene::{Scene, kafka_tool};
use super::server;
use crate::lab::{self, eventually};
use crate::registry::modes;

/// Of a drafted contract.
const PARTITIONS: i32 = 6;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn create_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", lab::kafka().bootstrap()).create().expect("a client");
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    run(admin.create_topics([&topic], &AdminOptions::new())).expect("an answer").remove(0).expect("a topic");
}

fn line_of(fix: &Fix) -> &str {
    match fix {
        Fix::Shell(line) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn topics_and_limits_of_the_cluster_are_found_and_mended() {
    let (kafka, registry) = (lab::kafka().bootstrap(), lab::registry().url());
    let name = format!("doctor_kafka_{}", std::process::id());
    let mut scene = Scene::new(server(), &name, &json!({"kafka": {"bootstrap": kafka}}), &json!({"url": registry}));
    scene.assert_well("before the first start");

    let topic = |table: &str| format!("{name}.shop_{table}.v1");
    create_topic(&topic("orders"), PARTITIONS, &[("cleanup.policy", "delete")]);
    create_topic(&topic("events"), PARTITIONS, &[("cleanup.policy", "compact"), ("max.message.bytes", "100000")]);
    create_topic(&topic("audit"), PARTITIONS, &[("cleanup.policy", "delete"), ("retention.ms", "86400000")]);
    create_topic(&format!("__gimbal.{name}.state"), 2, &[("cleanup.policy", "compact")]);
    // Not every broker knows a new topic at once.
    let report = eventually("four findings", Duration::from_secs(30), || {
        Some(scene.examine()).filter(|report| report.findings.len() == 4)
    });
    let find = |check: &str, part: &str| {
        let found = report.findings.iter().find(|finding| finding.check == check && finding.what.contains(part));
        found.cloned().unwrap_or_else(|| panic!("no {check} about {part}: {}", report.text()))
    };
    let found = [
        find("kafka-topic", "`cleanup.policy=delete` and must have `cleanup.policy=compact`"),
        find("kafka-topic", "has 2 partitions and must have 1"),
        find("kafka-record-limit", "`max.message.bytes=100000`"),
        find("kafka-retention", "`retention.ms=86400000`"),
    ];
    assert_eq!(found.each_ref().map(|finding| finding.severity), [Error, Error, Error, Warning]);
    // Each of them takes the start of a Java machine: side by side.
    let tools: Vec<_> =
        found.iter().map(|finding| kafka_tool(line_of(&finding.fix)).spawn().expect("java starts")).collect();
    for tool in tools {
        let output = tool.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for finding in &found {
        scene.wait_until_gone(finding.check);
    }

    // The state topic alone must have as many replicas as the config says.
    create_topic(&format!("__gimbal.{name}.state"), 1, &[("cleanup.policy", "compact")]);
    scene.set(
        "sink",
        json!({"kafka": {
            "bootstrap": kafka, "replication": 3, "properties": {"transaction.timeout.ms": "1000000"},
        }}),
    );
    scene.wait_for("kafka-replication");
    for (check, part) in [("kafka-topic", "has 1 replicas and must have 3"), ("kafka-transaction-timeout", "1000000")] {
        let finding = scene.wait_for(check);
        assert!(finding.what.contains(part), "{finding:?}");
        scene.apply(&finding.fix);
    }
    scene.assert_well("with settings that the cluster has");
    scene.set("sink.kafka.replication", json!(3));
    let finding = scene.wait_for("kafka-replication");
    scene.apply(&finding.fix);
    scene.assert_well("with the replication that the cluster has");

    scene.set("sink", json!({"kafka": {"bootstrap": format!("127.0.0.1:{}", lab::free_port())}}));
    assert_eq!(scene.wait_for("sink").code.slug(), "sink-unreachable");
    scene.set("sink", json!({"kafka": {"bootstrap": kafka, "properties": {"no.such.property": "hunter2"}}}));
    let finding = scene.wait_for("sink");
    assert!(finding.what.contains("no.such.property") && !finding.what.contains("hunter2"), "{finding:?}");
}

#[test]
fn a_registry_that_guards_less_or_takes_nothing_is_found_and_mended() {
    let (kafka, registry) = (lab::kafka().bootstrap(), lab::registry().url());
    let name = format!("doctor_registry_{}", std::process::id());
    let mut scene = Scene::new(server(), &name, &json!({"kafka": {"bootstrap": kafka}}), &json!({"url": registry}));
    let subject = format!("{name}.shop_orders.v1-value");
    let client = HttpRegistry::open(registry, &Login::default()).expect("a client");
    run(client.register(&subject, "\"string\"")).expect("registered");
    scene.assert_well("with a subject");
    let body = r#"{"compatibility":"BACKWARD"}"#;
    scene.sh(&format!(
        "curl -fsS -X PUT -H 'content-type: application/json' --data '{body}' '{registry}/config/{subject}'"
    ));
    let finding = scene.wait_for("registry-compatibility");
    assert!(finding.severity == Warning && finding.what.contains("BACKWARD"), "{finding:?}");
    scene.apply(&finding.fix);
    scene.assert_well("with a guarded subject");

    let modes = modes();
    scene.set("registry", json!({"url": modes}));
    let finding = scene.wait_for("registry-mode");
    assert!(finding.what.contains("READONLY"), "{finding:?}");
    scene.apply(&finding.fix);
    scene.assert_well("with a registry that takes schemas");

    scene.set("registry", json!({"url": format!("http://127.0.0.1:{}", lab::free_port())}));
    assert_eq!(scene.wait_for("registry").code.slug(), "registry-unreachable");
    scene.set("registry", json!({"url": registry.replace("/apis/ccompat/v7", "/nowhere")}));
    assert_eq!(scene.wait_for("registry").code.slug(), "registry-protocol");
}
