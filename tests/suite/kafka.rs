//! The Kafka sink against a real broker: atomic, fenced, settled by the state topic, and verified from outside.

use std::process::Command;
use std::time::{Duration, Instant};

use gimbal::batch::StateChange;
use gimbal::error::{Code, Kind};
use gimbal::sink::kafka::{KafkaOptions, KafkaSink};
use gimbal::sink::{Retention, Sink};
use rdkafka::producer::{BaseRecord, Producer};

mod broker;
mod login;
mod outside;
mod scene;

use self::broker::{END_TXN, Hold, PRODUCE, proxied};
use self::scene::{LONG, Scene, assert_error, batch, position_in, send_and_drain};
use crate::lab::{eventually, free_port};

// ---- state and records, together or not at all -----------------------------------------------------------------------

#[test]
fn a_first_load_is_empty_and_a_later_one_returns_what_was_committed() {
    let scene = Scene::new("load");
    let mut sink = scene.sink();
    assert!(sink.load().unwrap().is_empty());
    sink.declare(&[scene.spec(1, Retention::Append)]).unwrap();
    let mut first = batch("1", &["a"]);
    first.state.push(StateChange { key: "contract/x".to_owned(), value: Some(vec![0, 255]) });
    first.state.push(StateChange { key: "contract/y".to_owned(), value: Some(vec![1]) });
    sink.commit(&first).unwrap();
    let mut second = batch("2", &[]);
    second.state.push(StateChange { key: "contract/y".to_owned(), value: None });
    sink.commit(&second).unwrap();
    drop(sink);

    let state = scene.sink().load().unwrap();
    assert_eq!(state.keys().collect::<Vec<_>>(), ["contract/x", "position"]);
    assert_eq!((position_in(&state), &state["contract/x"][..]), (Some("2"), &[0, 255][..]));
    assert_eq!(scene.visible(), ["a"]);
}

/// Runs in a process of its own, to be killed there.
#[test]
#[ignore = "the child of `a_daemon_killed_before_the_commit_leaves_nothing_visible`"]
fn child_that_commits_twice() {
    let Ok(name) = std::env::var("GIMBAL_KAFKA_CHILD") else { return };
    let scene = Scene::named(&name, &std::env::var("GIMBAL_KAFKA_BOOTSTRAP").unwrap());
    let mut sink = scene.sink();
    sink.load().unwrap();
    sink.declare(&[scene.spec(1, Retention::Append)]).unwrap();
    sink.commit(&batch("1", &["a"])).unwrap();
    sink.commit(&batch("2", &["b", "c"])).unwrap();
}

#[test]
fn a_daemon_killed_before_the_commit_leaves_nothing_visible() {
    let scene = Scene::behind_proxy("killed");
    let id = scene.transactional_id();
    let first = proxied().proxy.hold(END_TXN, &id, Hold::Quietly);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "kafka::child_that_commits_twice"])
        .env("GIMBAL_KAFKA_CHILD", &scene.pipeline)
        .env("GIMBAL_KAFKA_BOOTSTRAP", &scene.bootstrap)
        .spawn()
        .unwrap();
    first.wait();
    let second = proxied().proxy.hold(END_TXN, &id, Hold::Quietly);
    first.deliver();
    second.wait();
    // Records and checkpoint of the second transaction are in the log, and its end is on the way.
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.high_watermark(&scene.topic), 4, "a, its marker, b, c");
    assert_eq!(scene.visible(), ["a"]);

    let mut sink = scene.sink();
    assert_eq!(position_in(&sink.load().unwrap()), Some("1"));
    // The end of the dead daemon's transaction arrives at last: it is fenced.
    second.deliver();
    sink.declare(&[scene.spec(1, Retention::Append)]).unwrap();
    sink.commit(&batch("2", &["b", "c"])).unwrap();
    assert_eq!(scene.visible(), ["a", "b", "c"]);
    assert_eq!(scene.committed_position().as_deref(), Some("2"));
}

#[test]
fn a_zombie_is_fenced_by_the_daemon_that_took_over_and_does_not_fence_it_back() {
    let scene = Scene::new("zombie");
    let mut old = scene.ready(scene.sink());
    old.commit(&batch("1", &["a"])).unwrap();
    let mut new = scene.sink();
    assert_eq!(position_in(&new.load().unwrap()), Some("1"));
    new.declare(&[scene.spec(1, Retention::Append)]).unwrap();
    let error = old.commit(&batch("2", &["of the zombie"])).unwrap_err();
    assert_error(&error, Kind::Definite, Code::SinkFenced, &["transactional id"]);
    let error = old.commit(&batch("2", &["of the zombie"])).unwrap_err();
    assert_error(&error, Kind::Definite, Code::SinkFenced, &["hint"]);
    new.commit(&batch("2", &["b"])).unwrap();
    assert_eq!(scene.visible(), ["a", "b"]);
}

// ---- the state topic ---------------------------------------------------------------------------------------------------

#[test]
fn a_foreign_open_transaction_on_the_state_topic_is_waited_for_and_then_named() {
    let scene = Scene::new("hanging");
    let mut sink = scene.ready(scene.sink());
    sink.commit(&batch("1", &["a"])).unwrap();
    let foreign = scene.foreign_producer(&format!("foreign-{}", scene.pipeline), 600_000);
    foreign.begin_transaction().unwrap();
    let topic = scene.state_topic();
    send_and_drain(&foreign, BaseRecord::to(&topic).key("foreign").payload("x"));
    sink.commit(&batch("2", &["b"])).unwrap();
    drop(sink);

    // To the end of what is committed, the state would be the older one.
    assert_eq!(scene.committed_position().as_deref(), Some("1"));
    let started = Instant::now();
    let error = scene.sink().hanging_wait(Duration::from_secs(1)).load().unwrap_err();
    assert_error(&error, Kind::Transient, Code::StateHangingTransaction, &[&topic, "transaction.timeout.ms"]);
    assert!(started.elapsed() >= Duration::from_secs(1));

    foreign.abort_transaction(LONG).unwrap();
    assert_eq!(position_in(&scene.sink().load().unwrap()), Some("2"));
}

#[test]
fn a_foreign_transaction_that_times_out_within_the_wait_delays_the_load_and_nothing_else() {
    let scene = Scene::new("timeout");
    let mut sink = scene.ready(scene.sink());
    let foreign = scene.foreign_producer(&format!("foreign-{}", scene.pipeline), 2000);
    foreign.begin_transaction().unwrap();
    let topic = scene.state_topic();
    send_and_drain(&foreign, BaseRecord::to(&topic).key("foreign").payload("x"));
    sink.commit(&batch("1", &["a"])).unwrap();
    drop(sink);
    let state = scene.sink().load().unwrap();
    assert_eq!(state.keys().collect::<Vec<_>>(), ["position"]);
    assert_eq!(position_in(&state), Some("1"));
}

#[test]
fn topics_with_settings_that_lose_or_hide_records_are_refused_with_both_sides() {
    let scene = Scene::new("policy");
    scene.create_topic(&scene.state_topic(), 1, "delete");
    let error = scene.sink().load().unwrap_err();
    let parts = [scene.state_topic(), "cleanup.policy=delete".into(), "cleanup.policy=compact".into(), "hint".into()];
    assert_error(&error, Kind::Definite, Code::TopicSettings, &parts.each_ref().map(String::as_str));

    let scene = Scene::new("partitions");
    scene.create_topic(&scene.state_topic(), 2, "compact");
    let error = scene.sink().load().unwrap_err();
    assert_error(&error, Kind::Definite, Code::TopicSettings, &["has 2 partitions and must have 1", "hint"]);

    let scene = Scene::new("data");
    scene.create_topic(&scene.topic, 3, "compact,delete");
    let mut sink = scene.sink();
    sink.load().unwrap();
    let error = sink.declare(&[scene.spec(6, Retention::Compact)]).unwrap_err();
    assert_error(&error, Kind::Definite, Code::TopicSettings, &["has 3 partitions and must have 6"]);
    let error = sink.declare(&[scene.spec(3, Retention::Compact)]).unwrap_err();
    assert_error(&error, Kind::Definite, Code::TopicSettings, &["must have `cleanup.policy=compact`"]);

    let scene = Scene::new("replicas");
    let options = KafkaOptions { replication: 3, ..scene.options() };
    let error = KafkaSink::new(options).unwrap().load().unwrap_err();
    assert_error(&error, Kind::Definite, Code::TopicSettings, &["sink.kafka.replication"]);
}

// ---- commits in doubt --------------------------------------------------------------------------------------------------

/// The end of the first transaction is held back, so the client sends it again and reports success. It then arrives
/// inside the second transaction, after its record and before its checkpoint.
#[test]
fn a_late_duplicate_end_of_one_transaction_does_not_commit_half_of_the_next() {
    let scene = Scene::behind_proxy("late");
    let proxy = &proxied().proxy;
    let mut sink = scene.ready(scene.sink());
    sink.commit(&batch("1", &["a"])).unwrap();
    let settled = sink.settled_commits();

    let end = proxy.hold(END_TXN, &scene.transactional_id(), Hold::AndDisconnect);
    sink.commit(&batch("2", &["b"])).unwrap();
    assert!(end.is_held(), "the end left twice");
    assert_eq!(sink.settled_commits(), settled + 1, "success was not believed");
    assert_eq!(scene.committed_position().as_deref(), Some("2"));

    let checkpoint = proxy.hold(PRODUCE, &scene.state_topic(), Hold::Quietly);
    let before = scene.high_watermark(&scene.topic);
    let committing = std::thread::spawn(move || sink.commit(&batch("3", &["c"])).map(|()| sink));
    checkpoint.wait();
    eventually("the record is in the log", LONG, || (scene.high_watermark(&scene.topic) > before).then_some(()));
    end.deliver();
    // Were it accepted, the marker would follow within milliseconds.
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        assert_eq!(scene.visible(), ["a", "b"], "half of the third transaction is visible");
    }
    checkpoint.deliver();
    committing.join().unwrap().unwrap();
    assert_eq!(scene.visible(), ["a", "b", "c"]);
    assert_eq!(scene.committed_position().as_deref(), Some("3"));
}

#[test]
fn a_commit_that_happened_although_its_answer_was_lost_is_not_published_again() {
    let scene = Scene::behind_proxy("answer").with("transaction.timeout.ms", "3000");
    let proxy = &proxied().proxy;
    let mut sink = scene.ready(scene.sink().settle_wait(Duration::from_secs(1)));
    let end = proxy.hold(END_TXN, scene.client(), Hold::AnswerAndConnections);
    // The broker took the commit, its answer is lost, and then the cluster is out of reach.
    let error = sink.commit(&batch("1", &["a"])).unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    assert!(end.is_held());
    assert_eq!(scene.visible(), ["a"]);

    proxy.up(scene.client());
    sink.commit(&batch("1", &["a"])).unwrap();
    sink.commit(&batch("2", &["b"])).unwrap();
    assert_eq!(scene.visible(), ["a", "b"], "the first batch was given twice and published once");
}

#[test]
fn a_commit_that_never_reached_the_broker_is_given_again_and_published_once() {
    let scene = Scene::behind_proxy("unsent").with("transaction.timeout.ms", "3000");
    let mut sink = scene.ready(scene.sink());
    let end = proxied().proxy.hold(END_TXN, &scene.transactional_id(), Hold::Quietly);
    let error = sink.commit(&batch("1", &["a"])).unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    assert!(end.is_held());
    assert_eq!(scene.visible(), Vec::<String>::new());
    sink.commit(&batch("1", &["a"])).unwrap();
    end.deliver();
    sink.commit(&batch("2", &["b"])).unwrap();
    assert_eq!(scene.visible(), ["a", "b"]);
}

#[test]
fn a_record_that_the_client_refuses_leaves_nothing_visible_and_the_sink_usable() {
    let scene = Scene::new("large");
    let mut sink = scene.ready(scene.sink());
    let secret = "s".repeat(2_000_000);
    let error = sink.commit(&batch("1", &["a", &secret])).unwrap_err();
    assert_error(&error, Kind::Definite, Code::SinkRefused, &[&scene.topic, "message.max.bytes", "00000001"]);
    assert!(!error.to_string().contains("sss"), "no row value in an error");
    sink.commit(&batch("1", &["a"])).unwrap();
    assert_eq!(scene.visible(), ["a"]);
}

#[test]
fn a_full_client_queue_is_waited_for() {
    let scene = Scene::new("full").with("queue.buffering.max.messages", "10");
    let mut sink = scene.ready(scene.sink());
    let values: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    sink.commit(&batch("1", &values)).unwrap();
    assert_eq!(scene.visible(), values);
}

#[test]
fn an_unreachable_cluster_is_a_transient_error() {
    let scene = Scene::named("nobody", &format!("127.0.0.1:{}", free_port()));
    let error = scene.sink().load().unwrap_err();
    assert_error(&error, Kind::Transient, Code::SinkUnreachable, &[&scene.state_topic()]);
}
