//! Reads the contracts' topics, as any subscriber would: from files, or from Kafka.

use std::path::{Path, PathBuf};

use apache_avro::types::Value;
use gimbal::batch::Op;
use gimbal::config::{Config, RegistryConfig, SinkConfig};
use gimbal::sink::reader::{self, TopicReader};

use crate::Result;

mod kafka;

/// The topics of the shop's contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    Orders,
    OrderLines,
    Products,
    Customers,
    Regions,
    Categories,
    Stock,
    Activity,
}

impl Topic {
    /// Small ones first: what names things is there before what is named.
    pub const ALL: [Topic; 8] = [
        Topic::Regions,
        Topic::Categories,
        Topic::Products,
        Topic::Stock,
        Topic::Customers,
        Topic::Orders,
        Topic::OrderLines,
        Topic::Activity,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Orders => "shop.orders.v1",
            Topic::OrderLines => "shop.order_lines.v1",
            Topic::Products => "shop.products.v1",
            Topic::Customers => "shop.customers.v1",
            Topic::Regions => "shop.regions.v1",
            Topic::Categories => "shop.categories.v1",
            Topic::Stock => "shop.stock.v1",
            Topic::Activity => "shop.activity.v1",
        }
    }

    /// The first field of its key.
    pub fn key(self) -> &'static str {
        match self {
            Topic::Orders | Topic::OrderLines => "order_id",
            Topic::Products => "product_id",
            Topic::Customers => "customer_id",
            Topic::Regions => "region_id",
            Topic::Categories => "category_id",
            Topic::Stock => "stock_id",
            Topic::Activity => "activity_id",
        }
    }
}

/// One record of one topic.
pub struct Record {
    /// Where it was.
    pub topic: Topic,
    /// The contract's key.
    pub key: Value,
    /// The contract's value; absent for a tombstone.
    pub value: Option<Value>,
    /// What happened.
    pub op: Op,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
}

/// Where topics are.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder of file topics.
    Files(PathBuf),
    /// A cluster, and the registry that knows its schemas.
    Kafka {
        /// `host:port`.
        bootstrap: String,
        /// URL of the registry.
        registry: String,
    },
}

impl Place {
    /// Where a pipeline's config says.
    pub fn of_config(path: &Path) -> Result<Place> {
        let config = Config::load(path).map_err(|findings| {
            let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
            texts.join("\n")
        })?;
        match (config.sink, config.registry) {
            (SinkConfig::Files { path }, _) => Ok(Place::Files(path)),
            (SinkConfig::Kafka { bootstrap, .. }, RegistryConfig::Http { url, .. }) => {
                Ok(Place::Kafka { bootstrap, registry: url })
            }
            (SinkConfig::Null { .. }, _) => Err("the null sink keeps no record".into()),
            (SinkConfig::Kafka { .. }, RegistryConfig::Embedded) => Err("Kafka needs `registry: {url: …}`".into()),
        }
    }
}

/// All topics of the shop, from their first record on.
pub enum Topics {
    /// One reader a topic.
    Files(Vec<(Topic, TopicReader)>),
    /// One consumer of all of them.
    Kafka(kafka::Reader),
}

impl Topics {
    /// Opens the topics; absent as long as not all of them exist.
    pub fn open(place: &Place) -> Result<Option<Topics>> {
        match place {
            Place::Files(folder) => open_files(folder),
            Place::Kafka { bootstrap, registry } => Ok(kafka::Reader::open(bootstrap, registry)?.map(Topics::Kafka)),
        }
    }

    /// Hands over at most `most` records, and says how many came; of files, at most so many of each topic.
    pub fn read(&mut self, most: usize, mut take: impl FnMut(Record)) -> Result<usize> {
        match self {
            Topics::Files(readers) => read_files(readers, most, &mut take),
            Topics::Kafka(reader) => reader.read(most, &mut take),
        }
    }
}

fn read_files(readers: &mut [(Topic, TopicReader)], most: usize, take: &mut dyn FnMut(Record)) -> Result<usize> {
    let mut count = 0;
    for (topic, reader) in readers {
        for _ in 0..most {
            let Some(record) = reader.next()? else { break };
            let key = record.key.ok_or("a record of the shop has no key")?;
            let (value, op, timestamp) = (record.value, record.op, record.timestamp);
            take(Record { topic: *topic, key, value, op, timestamp });
            count += 1;
        }
    }
    Ok(count)
}

fn open_files(folder: &Path) -> Result<Option<Topics>> {
    if !folder.join("manifest.json").exists() {
        return Ok(None);
    }
    let there = reader::topics(folder)?;
    if !Topic::ALL.iter().all(|topic| there.iter().any(|(name, _)| name == topic.name())) {
        return Ok(None);
    }
    let readers = Topic::ALL.iter().map(|topic| Ok((*topic, TopicReader::open(folder, topic.name())?)));
    Ok(Some(Topics::Files(readers.collect::<Result<_>>()?)))
}
