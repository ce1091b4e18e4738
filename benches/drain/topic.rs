//! The bench's topics: a checkpoint put where a daemon finds it, and a reader that counts.

use std::time::{Duration, Instant};

use gimbal::batch::{Batch, StateChange};
use gimbal::sink::Sink;
use gimbal::sink::kafka::{KafkaOptions, KafkaSink};
use gimbal::sink::null::Content;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// How long the broker may take for anything.
const WAIT: Duration = Duration::from_secs(60);

/// What a topic holds for a `read_committed` reader.
#[derive(Default)]
pub struct Found {
    /// Records.
    pub records: u64,
    /// Their key and value bytes.
    pub bytes: u64,
}

/// Commits a checkpoint to the state topic of a pipeline that never ran.
pub fn seed(bootstrap: &str, pipeline: &str, checkpoint: &Content) {
    let mut sink = KafkaSink::new(KafkaOptions {
        bootstrap: bootstrap.to_owned(),
        replication: 1,
        properties: Default::default(),
        pipeline: pipeline.to_owned(),
        transactional_id: format!("bench.{pipeline}"),
    })
    .expect("a sink");
    assert!(sink.load().expect("the state loads").is_empty(), "`{pipeline}` ran before");
    let change = |(key, value): (&String, &String)| StateChange { key: key.clone(), value: Some(value.clone().into()) };
    let batch = Batch { state: checkpoint.entries.iter().map(change).collect(), ..Batch::default() };
    sink.commit(&batch).expect("the checkpoint is committed");
}

/// How many partitions a topic has; 0 if there is none of that name.
pub fn partitions(bootstrap: &str, topic: &str) -> usize {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", "bench").create().expect("a consumer");
    let metadata = consumer.fetch_metadata(None, WAIT).expect("the broker answers");
    metadata.topics().iter().filter(|one| one.name() == topic).map(|one| one.partitions().len()).sum()
}

/// A `read_committed` reader of all partitions of a topic, from `offset` on; partitions tell when they end.
pub fn reader(bootstrap: &str, topic: &str, offset: Offset) -> (BaseConsumer, usize) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), WAIT).expect("the broker answers");
    let partitions = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition as i32, offset).expect("an offset");
    }
    consumer.assign(&assignment).expect("an assignment");
    (consumer, partitions)
}

/// Reads a topic to its end, and checks that positions rise in each partition.
pub fn read(bootstrap: &str, topic: &str) -> Found {
    let (consumer, partitions) = reader(bootstrap, topic, Offset::Beginning);
    let mut found = Found::default();
    let mut newest = vec![Vec::new(); partitions];
    let (mut ended, begin) = (0, Instant::now());
    while ended < partitions {
        assert!(begin.elapsed() < WAIT, "`{topic}` does not end");
        match consumer.poll(Duration::from_secs(1)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("reading `{topic}`: {error}"),
            Some(Ok(message)) => {
                let position = position(&message).to_vec();
                let before = &mut newest[message.partition() as usize];
                assert!(*before < position, "a position does not rise in partition {}", message.partition());
                *before = position;
                found.records += 1;
                found.bytes += (message.key_len() + message.payload_len()) as u64;
            }
        }
    }
    found
}

/// Text of the `pos` header: it sorts as the position.
fn position<'a>(message: &'a BorrowedMessage<'_>) -> &'a [u8] {
    let headers = message.headers().expect("headers");
    let header = headers.iter().find(|header| header.key == "pos").expect("a position");
    header.value.expect("a position has a value")
}

/// How many records were appended to a topic, over all partitions.
pub fn length(bootstrap: &str, topic: &str) -> u64 {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", "bench").create().expect("a consumer");
    let ends = (0..partitions(bootstrap, topic)).map(|partition| {
        let marks = consumer.fetch_watermarks(topic, partition as i32, WAIT);
        marks.expect("the broker answers").1 as u64
    });
    ends.sum()
}

/// Makes a topic.
pub fn create(bootstrap: &str, topic: &str, partitions: i32) {
    let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let (admin, runtime) = admin(bootstrap);
    runtime.block_on(admin.create_topics([&wanted], &AdminOptions::new())).expect("the broker answers");
}

/// Deletes topics, so that the broker's disk does not fill.
pub fn remove(bootstrap: &str, topics: &[&str]) {
    let (admin, runtime) = admin(bootstrap);
    let deleted = runtime.block_on(admin.delete_topics(topics, &AdminOptions::new().operation_timeout(Some(WAIT))));
    deleted.expect("the broker answers");
}

fn admin(bootstrap: &str) -> (AdminClient<DefaultClientContext>, tokio::runtime::Runtime) {
    let admin = ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    (admin, tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"))
}
