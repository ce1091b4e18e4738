//! Reads back which keys a topic shows: a read_committed consumer of its own, assigned to all partitions, in no group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::Context;
use super::failure::failure;
use super::settings::{Isolation, Settings};
use super::state_topic;
use crate::error::{Code, Error, Kind, Result};
use crate::sink::keys::{EachKey, KeyReader};

/// How long the brokers may take to tell where a topic ends.
const METADATA_WAIT: Duration = Duration::from_secs(10);

/// How long nothing may come although there is more.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Keys of Kafka topics.
pub struct KafkaKeys {
    settings: Settings,
}

/// Where a partition begins and ends.
struct Range {
    partition: i32,
    low: i64,
    high: i64,
}

impl KafkaKeys {
    /// A reader for a cluster; nothing is connected yet.
    pub fn open(bootstrap: &str, properties: &BTreeMap<String, String>) -> Result<KafkaKeys> {
        Ok(KafkaKeys { settings: Settings::new(bootstrap, properties)? })
    }

    fn consumer(&self) -> Result<BaseConsumer<Context>> {
        state_topic::open(&self.settings, Isolation::ReadCommitted)
    }
}

impl KeyReader for KafkaKeys {
    fn count(&mut self, topic: &str) -> Result<u64> {
        let ranges = ranges(&self.consumer()?, topic)?;
        Ok(ranges.iter().map(|range| u64::try_from(range.high - range.low).unwrap_or(0)).sum())
    }

    fn read(&mut self, topic: &str, _key_id: u32, each: &mut EachKey<'_>) -> Result<()> {
        let consumer = self.consumer()?;
        let doing = format!("read the keys of `{topic}`");
        let ranges = ranges(&consumer, topic)?;
        let mut assignment = TopicPartitionList::with_capacity(ranges.len());
        for range in &ranges {
            let from = Offset::Beginning;
            assignment.add_partition_offset(topic, range.partition, from).map_err(|e| failure(&doing, &e))?;
        }
        consumer.assign(&assignment).map_err(|e| failure(&doing, &e))?;
        let ends: BTreeMap<i32, i64> = ranges.iter().map(|range| (range.partition, range.high)).collect();
        let mut open: BTreeSet<i32> =
            ranges.iter().filter(|range| range.low < range.high).map(|range| range.partition).collect();
        let mut newest = Instant::now();
        while !open.is_empty() {
            match consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => {
                    newest = Instant::now();
                    let (partition, end) = (message.partition(), ends.get(&message.partition()).copied().unwrap_or(0));
                    if message.offset() < end {
                        let Some(key) = message.key() else { return Err(keyless(topic)) };
                        each(key, message.payload().is_none())?;
                    }
                    // The offsets up to the end may all be markers of transactions.
                    if message.offset() + 1 >= end {
                        open.remove(&partition);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(error)) => {
                    let error = failure(&doing, &error);
                    if error.kind() == Kind::Definite {
                        return Err(error);
                    }
                }
                None => {}
            }
            if newest.elapsed() >= STALL_MAX {
                let seconds = STALL_MAX.as_secs();
                let what = format!("topic `{topic}` gave nothing for {seconds} s, although it has more");
                return Err(Error::transient(Code::SinkUnreachable, what).hint("look at the brokers"));
            }
        }
        Ok(())
    }
}

fn keyless(topic: &str) -> Error {
    Error::definite(Code::TopicKeyUnreadable, format!("a record of topic `{topic}` has no key"))
        .hint("something else than gimbal wrote into the topic; publish a new major, or delete the record")
}

/// The topic's partitions, each up to the end of what is committed now.
fn ranges(consumer: &BaseConsumer<Context>, topic: &str) -> Result<Vec<Range>> {
    let doing = format!("look where `{topic}` ends");
    let metadata = consumer.fetch_metadata(Some(topic), METADATA_WAIT).map_err(|e| failure(&doing, &e))?;
    let found = metadata.topics().iter().filter(|found| found.name() == topic);
    let ids = found.flat_map(|found| found.partitions().iter().map(|partition| partition.id()));
    let range = |partition: i32| {
        let watermarks = consumer.fetch_watermarks(topic, partition, METADATA_WAIT);
        watermarks.map(|(low, high)| Range { partition, low, high }).map_err(|e| failure(&doing, &e))
    };
    ids.map(range).collect()
}
