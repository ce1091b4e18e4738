//! `gimbal tail` on a Kafka topic: committed records, decoded with the schemas of the registry.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value as Json;

use crate::batch::Op;
use crate::cli::tail::{RecordSource, TailRecord};
use crate::config::RegistryConfig;
use crate::error::{Code, Error, Result};
use crate::position::Position;
use crate::registry::http::HttpRegistry;
use crate::sink::decode::Node;
use crate::sink::json::to_json;
use crate::sink::kafka::tail::{From, KafkaTopicReader, TailRecord as KafkaRecord};
use crate::sink::ocf::split_frame;

/// How long one look for a record takes at most.
const POLL: Duration = Duration::from_millis(200);

/// Records of a Kafka topic.
pub struct KafkaSource {
    reader: KafkaTopicReader,
    registry: HttpRegistry,
    runtime: tokio::runtime::Runtime,
    schemas: HashMap<u32, Node>,
}

impl KafkaSource {
    /// Opens the topic at its beginning.
    pub fn open(
        bootstrap: &str,
        properties: &BTreeMap<String, String>,
        registry: &RegistryConfig,
        topic: &str,
    ) -> Result<KafkaSource> {
        if matches!(registry, RegistryConfig::Embedded) {
            return Err(Error::definite(
                Code::ConfigInvalid,
                "a Kafka topic is decoded with a registry, the config has none",
            )
            .hint("set `registry: {url: …}`"));
        }
        Ok(KafkaSource {
            reader: KafkaTopicReader::open(bootstrap, properties, topic, From::Beginning)?,
            registry: HttpRegistry::new(registry)?,
            runtime: crate::cli::runtime()?,
            schemas: HashMap::new(),
        })
    }

    fn decode(&mut self, framed: Option<&[u8]>) -> Result<Option<Json>> {
        let Some(framed) = framed else { return Ok(None) };
        let (id, mut body) = split_frame(framed)?;
        if !self.schemas.contains_key(&id) {
            let text = self.runtime.block_on(self.registry.schema(id))?;
            self.schemas.insert(id, Node::compile(&text).ok_or_else(|| foreign(&format!("schema {id}")))?);
        }
        let node = self.schemas.get(&id).ok_or_else(|| foreign(&format!("schema {id}")))?;
        let value = node.decode(&mut body).ok_or_else(|| foreign("a record"))?;
        Ok(Some(to_json(node, &value)))
    }

    fn record(&mut self, record: &KafkaRecord) -> Result<TailRecord> {
        let header =
            |name: &str| record.header(name).ok_or_else(|| foreign(&format!("a record without header `{name}`")));
        let op = match header("op")? {
            "c" => Op::Create,
            "u" => Op::Update,
            "d" => Op::Delete,
            "r" => Op::Read,
            _ => return Err(foreign("header `op`")),
        };
        let position: Position = header("pos")?.parse().map_err(|_| foreign("header `pos`"))?;
        let timestamp = header("ts")?.parse().map_err(|_| foreign("header `ts`"))?;
        Ok(TailRecord {
            key: self.decode(record.key.as_deref())?,
            value: self.decode(record.value.as_deref())?,
            op,
            position,
            timestamp,
            last: record.header("last").is_some(),
            reread: record
                .header("reread")
                .map(|names| names.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            unsealed: None,
        })
    }
}

impl RecordSource for KafkaSource {
    fn next_record(&mut self, from: Option<Position>) -> Result<Option<TailRecord>> {
        loop {
            match self.reader.next(POLL)? {
                Some(record) => {
                    let record = self.record(&record)?;
                    if from.is_none_or(|from| record.position >= from) {
                        return Ok(Some(record));
                    }
                }
                None if self.reader.at_end() => return Ok(None),
                None => {}
            }
        }
    }
}

fn foreign(what: &str) -> Error {
    Error::definite(Code::SinkDamaged, format!("the topic holds {what} that gimbal did not write"))
        .hint("name a topic of a contract; `gimbal status` lists them")
}
