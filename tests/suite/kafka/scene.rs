//! What the tests are made of: names that no other test uses, batches, and what a foreign client does and sees.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gimbal::batch::{Batch, Op, Record, Span, StateChange, TopicId};
use gimbal::error::{Code, Error, Kind};
use gimbal::lsn::Lsn;
use gimbal::position::Position;
use gimbal::sink::kafka::tail::{From, KafkaTopicReader, TailRecord};
use gimbal::sink::kafka::{KafkaOptions, KafkaSink};
use gimbal::sink::{RegisteredSchema, Retention, Sink, TopicSpec};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::broker::proxied;
use crate::lab::{self, eventually};

pub const LONG: Duration = Duration::from_secs(30);

/// Names that no other test uses.
pub struct Scene {
    pub bootstrap: String,
    pub pipeline: String,
    pub topic: String,
    pub properties: BTreeMap<String, String>,
}

impl Scene {
    pub fn new(name: &str) -> Scene {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{name}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        Scene::named(&unique, lab::kafka().bootstrap())
    }

    /// On the broker whose clients all come through the proxy.
    pub fn behind_proxy(name: &str) -> Scene {
        Scene { bootstrap: proxied().bootstrap.clone(), ..Scene::new(name) }
    }

    pub fn named(unique: &str, bootstrap: &str) -> Scene {
        // The proxy knows a client by its name.
        let properties = BTreeMap::from([("client.id".to_owned(), format!("client-{unique}"))]);
        let bootstrap = bootstrap.to_owned();
        Scene { bootstrap, pipeline: unique.to_owned(), topic: format!("data-{unique}"), properties }
    }

    pub fn with(mut self, key: &str, value: &str) -> Scene {
        self.properties.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn state_topic(&self) -> String {
        format!("__gimbal.{}.state", self.pipeline)
    }

    pub fn transactional_id(&self) -> String {
        format!("tid-{}", self.pipeline)
    }

    /// Its clients' name, which every request of theirs carries, and no request of anybody else.
    pub fn client(&self) -> &str {
        &self.properties["client.id"]
    }

    pub fn options(&self) -> KafkaOptions {
        KafkaOptions {
            bootstrap: self.bootstrap.clone(),
            replication: 1,
            properties: self.properties.clone(),
            pipeline: self.pipeline.clone(),
            transactional_id: self.transactional_id(),
        }
    }

    pub fn sink(&self) -> KafkaSink {
        KafkaSink::new(self.options()).unwrap()
    }

    pub fn spec(&self, partitions: u32, retention: Retention) -> TopicSpec {
        let schema = RegisteredSchema { id: 1, json: "\"string\"".to_owned() };
        TopicSpec { name: self.topic.clone(), partitions, retention, key: Some(schema.clone()), value: schema }
    }

    pub fn ready(&self, mut sink: KafkaSink) -> KafkaSink {
        sink.load().unwrap();
        sink.declare(&[self.spec(1, Retention::Append)]).unwrap();
        sink
    }

    /// The values that a read_committed reader sees, in offset order.
    pub fn visible(&self) -> Vec<String> {
        self.read_all(&self.topic).iter().map(|r| String::from_utf8(r.value.clone().unwrap()).unwrap()).collect()
    }

    /// The newest committed `position` entry, as an independent reader sees it.
    pub fn committed_position(&self) -> Option<String> {
        let newest = self.read_all(&self.state_topic()).into_iter().rfind(|r| r.key.as_deref() == Some(b"position"))?;
        newest.value.map(|value| String::from_utf8(value).unwrap())
    }

    pub fn read_all(&self, topic: &str) -> Vec<TailRecord> {
        let mut reader = KafkaTopicReader::open(&self.bootstrap, &BTreeMap::new(), topic, From::Beginning).unwrap();
        let (mut records, deadline) = (Vec::new(), Instant::now() + LONG);
        while !reader.at_end() {
            records.extend(reader.next(Duration::from_millis(100)).unwrap());
            assert!(Instant::now() < deadline, "`{topic}` was not read to its end");
        }
        records
    }

    /// End of a partition, open transactions included.
    pub fn high_watermark(&self, topic: &str) -> i64 {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.fetch_watermarks(topic, 0, LONG).unwrap().1
    }

    pub fn create_topic(&self, name: &str, partitions: i32, policy: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create().unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("cleanup.policy", policy);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap().remove(0).unwrap();
    }

    /// A producer that is not gimbal's.
    pub fn foreign_producer(&self, id: &str, transaction_timeout_ms: u32) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("transactional.id", id)
            .set("linger.ms", "0")
            .set("transaction.timeout.ms", transaction_timeout_ms.to_string())
            .create()
            .unwrap();
        producer.init_transactions(LONG).unwrap();
        producer
    }
}

fn add(batch: &mut Batch, bytes: &[u8]) -> Span {
    let start = batch.bytes.len() as u32;
    batch.bytes.extend_from_slice(bytes);
    Span { start, len: bytes.len() as u32 }
}

pub fn push(batch: &mut Batch, number: u32, key: &[u8], value: Option<&[u8]>) {
    let key = Some(add(batch, key));
    let value = value.map(|value| add(batch, value));
    let position = Position { epoch: 0, commit_lsn: Lsn(0x1000), ordinal: number };
    let op = if value.is_some() { Op::Create } else { Op::Delete };
    let timestamp = 1_700_000_000_000_000 + i64::from(number);
    batch.records.push(Record { topic: TopicId(0), op, position, timestamp, key, value, last: false, reread: None });
}

/// A batch of `values`, with `position` as its checkpoint.
pub fn batch(position: &str, values: &[&str]) -> Batch {
    let mut batch = Batch::default();
    for (i, value) in values.iter().enumerate() {
        push(&mut batch, i as u32, b"k", Some(value.as_bytes()));
    }
    let value = Some(position.as_bytes().to_vec());
    batch.state.push(StateChange { key: "position".to_owned(), value });
    batch
}

pub fn position_in(state: &gimbal::sink::StateEntries) -> Option<&str> {
    state.get("position").map(|value| std::str::from_utf8(value).unwrap())
}

pub fn send_and_drain(producer: &BaseProducer, record: BaseRecord<'_, str, str>) {
    producer.send(record).map_err(|(error, _)| error).unwrap();
    eventually("the record is acknowledged", LONG, || {
        producer.poll(Duration::from_millis(1));
        (producer.in_flight_count() == 0).then_some(())
    });
}

pub fn assert_error(error: &Error, kind: Kind, code: Code, parts: &[&str]) {
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}
