//! A plain consumer of Kafka: a group, read_committed, values decoded with the schemas that the registry names.

use std::collections::HashMap;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers};
use tokio::runtime::{Builder, Runtime};

use super::{Record, Topic};
use crate::Result;
use gimbal::batch::Op;

/// Time that a question about topics may take.
const METADATA_WAIT: Duration = Duration::from_secs(5);

/// A consumer of all topics of the shop.
pub struct Reader {
    consumer: BaseConsumer,
    registry: Registry,
}

impl Reader {
    /// Subscribes; absent as long as not all topics exist.
    pub fn open(bootstrap: &str, registry: &str) -> Result<Option<Reader>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "sales-dashboard")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()?;
        let metadata = consumer.fetch_metadata(None, METADATA_WAIT)?;
        let exists = |topic: &Topic| metadata.topics().iter().any(|there| there.name() == topic.name());
        if !Topic::ALL.iter().all(exists) {
            return Ok(None);
        }
        consumer.subscribe(&Topic::ALL.map(Topic::name))?;
        Ok(Some(Reader { consumer, registry: Registry::open(registry)? }))
    }

    /// Hands over at most `most` records that are there, and says how many came.
    pub fn read(&mut self, most: usize, take: &mut dyn FnMut(Record)) -> Result<usize> {
        for count in 0..most {
            let Some(message) = self.consumer.poll(Duration::ZERO) else { return Ok(count) };
            take(self.registry.record(&message?)?);
        }
        Ok(most)
    }
}

/// Schemas by id, asked for once each.
struct Registry {
    url: String,
    runtime: Runtime,
    client: reqwest::Client,
    schemas: HashMap<u32, Schema>,
}

impl Registry {
    fn open(url: &str) -> Result<Registry> {
        // It fails where a provider is installed already, and that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        // The registry is on this machine, whatever proxy others need.
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Registry { url: url.to_owned(), runtime, client, schemas: HashMap::new() })
    }

    fn record(&mut self, message: &BorrowedMessage<'_>) -> Result<Record> {
        let topic = Topic::ALL.into_iter().find(|topic| topic.name() == message.topic()).ok_or("an unknown topic")?;
        let header = |name: &str| {
            let header = message.headers()?.iter().find(|header| header.key == name)?;
            std::str::from_utf8(header.value?).ok()
        };
        let op = match header("op") {
            Some("c") => Op::Create,
            Some("u") => Op::Update,
            Some("d") => Op::Delete,
            Some("r") => Op::Read,
            _ => return Err("a record says no `op`".into()),
        };
        let timestamp = header("ts").ok_or("a record says no `ts`")?.parse()?;
        let key = self.decode(message.key().ok_or("a record of the shop has no key")?)?;
        let value = message.payload().map(|framed| self.decode(framed)).transpose()?;
        Ok(Record { topic, key, value, op, timestamp })
    }

    fn decode(&mut self, framed: &[u8]) -> Result<Value> {
        let [0, a, b, c, d, body @ ..] = framed else { return Err("a record is not framed".into()) };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        if !self.schemas.contains_key(&id) {
            let schema = self.fetch(id)?;
            self.schemas.insert(id, schema);
        }
        let schema = self.schemas.get(&id).ok_or("a schema is missing")?;
        Ok(GenericDatumReader::builder(schema).build()?.read_value(&mut &body[..])?)
    }

    fn fetch(&self, id: u32) -> Result<Schema> {
        let url = format!("{}/schemas/ids/{id}", self.url);
        let answer: serde_json::Value =
            self.runtime.block_on(async { self.client.get(&url).send().await?.error_for_status()?.json().await })?;
        let text = answer.get("schema").and_then(|schema| schema.as_str()).ok_or("the registry sent no schema")?;
        Ok(Schema::parse_str(text)?)
    }
}
