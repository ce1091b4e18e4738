//! Reads a topic as any subscriber would: read_committed, all partitions, without joining a group.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::Context;
use super::failure::failure;
use super::settings::{Isolation, Settings};
use super::state_topic;
use crate::error::{Code, Error, Kind, Result};

/// How long the brokers may take to tell a topic's partitions.
const METADATA_WAIT: Duration = Duration::from_secs(10);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the oldest record that the topic still has.
    Beginning,
    /// With what is committed from now on.
    End,
}

/// One committed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset within the partition.
    pub offset: i64,
    /// Confluent-framed; absent for contracts with `key: []`.
    pub key: Option<Vec<u8>>,
    /// Confluent-framed; absent for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order: `op`, `pos`, `ts`, and `last` (with the value `1`) where it applies.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl TailRecord {
    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// A reader of one topic.
pub struct KafkaTopicReader {
    consumer: BaseConsumer<Context>,
    topic: String,
    partitions: usize,
    at_end: BTreeSet<i32>,
}

impl KafkaTopicReader {
    /// Finds the topic's partitions and begins to read.
    pub fn open(
        bootstrap: &str,
        properties: &BTreeMap<String, String>,
        topic: &str,
        from: From,
    ) -> Result<KafkaTopicReader> {
        let consumer = state_topic::open(&Settings::new(bootstrap, properties)?, Isolation::ReadCommitted)?;
        let doing = format!("read `{topic}`");
        let metadata = consumer.fetch_metadata(Some(topic), METADATA_WAIT).map_err(|e| failure(&doing, &e))?;
        let ids: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|found| found.name() == topic)
            .flat_map(|found| found.partitions().iter().map(|partition| partition.id()))
            .collect();
        if ids.is_empty() {
            return Err(Error::definite(Code::TopicSettings, format!("there is no topic `{topic}`"))
                .hint("check the name; gimbal creates a topic when its contract is activated"));
        }
        let mut assignment = TopicPartitionList::with_capacity(ids.len());
        for id in &ids {
            let offset = match from {
                From::Beginning => Offset::Beginning,
                From::End => {
                    let (_, end) =
                        consumer.fetch_watermarks(topic, *id, METADATA_WAIT).map_err(|e| failure(&doing, &e))?;
                    Offset::Offset(end)
                }
            };
            assignment.add_partition_offset(topic, *id, offset).map_err(|e| failure(&doing, &e))?;
        }
        consumer.assign(&assignment).map_err(|e| failure(&doing, &e))?;
        Ok(KafkaTopicReader { consumer, topic: topic.to_owned(), partitions: ids.len(), at_end: BTreeSet::new() })
    }

    /// The next record, or `None` if there is none within `timeout`. Lost brokers are waited for.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<TailRecord>> {
        match self.consumer.poll(timeout) {
            Some(Ok(message)) => {
                self.at_end.remove(&message.partition());
                let headers = message.headers().map(|headers| {
                    let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
                        (header.key.to_owned(), header.value.map(<[u8]>::to_vec).unwrap_or_default())
                    };
                    headers.iter().map(owned).collect()
                });
                Ok(Some(TailRecord {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: headers.unwrap_or_default(),
                }))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.at_end.insert(partition);
                Ok(None)
            }
            Some(Err(error)) => {
                let gone = error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition);
                let error = failure(&format!("read `{}`", self.topic), &error);
                if error.kind() == Kind::Definite || gone { Err(error) } else { Ok(None) }
            }
            None => Ok(None),
        }
    }

    /// True when every partition was read to the end of what is committed.
    pub fn at_end(&self) -> bool {
        self.at_end.len() == self.partitions
    }
}
