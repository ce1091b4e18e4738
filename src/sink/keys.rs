//! Reads back which keys a topic shows, beside the sink: no lock, connection or thread that a commit needs.

use std::path::{Path, PathBuf};

use crate::config::SinkConfig;
use crate::error::{Code, Error, Result};
use crate::sink::kafka::keys::KafkaKeys;
use crate::sink::reader::TopicReader;

/// Takes a record's framed key, and whether the record is a tombstone.
pub type EachKey<'a> = dyn FnMut(&[u8], bool) -> Result<()> + 'a;

/// Reads the keys of topics.
pub trait KeyReader: Send {
    /// About how many records the topic has; only sizes what is set aside.
    fn count(&mut self, topic: &str) -> Result<u64>;

    /// Hands out every record that is committed now, those of one key in their order. Records that come meanwhile may be
    /// among them. `key_id` frames keys where the sink keeps them without.
    fn read(&mut self, topic: &str, key_id: u32, each: &mut EachKey<'_>) -> Result<()>;
}

/// The reader for a config's sink.
pub fn key_reader(sink: &SinkConfig) -> Result<Box<dyn KeyReader>> {
    Ok(match sink {
        SinkConfig::Files { path } => Box::new(FileKeys::new(path)),
        SinkConfig::Kafka { bootstrap, properties, .. } => Box::new(KafkaKeys::open(bootstrap, properties)?),
        SinkConfig::Null { .. } => Box::new(NoKeys),
    })
}

/// Keys of file topics.
pub struct FileKeys {
    folder: PathBuf,
}

impl FileKeys {
    /// Reads the topics of a folder.
    pub fn new(folder: &Path) -> FileKeys {
        FileKeys { folder: folder.to_owned() }
    }
}

impl KeyReader for FileKeys {
    fn count(&mut self, topic: &str) -> Result<u64> {
        Ok(TopicReader::open(&self.folder, topic)?.committed())
    }

    fn read(&mut self, topic: &str, key_id: u32, each: &mut EachKey<'_>) -> Result<()> {
        let mut reader = TopicReader::open(&self.folder, topic)?;
        // A reader goes on while the topic grows.
        let mut left = reader.committed();
        let [a, b, c, d] = key_id.to_be_bytes();
        let mut framed = vec![0, a, b, c, d];
        while left > 0 {
            left -= 1;
            let Some((key, tombstone)) = reader.next_key()? else { break };
            let Some(key) = key else {
                return Err(Error::definite(Code::SinkDamaged, format!("a record of topic `{topic}` has no key")));
            };
            framed.truncate(5);
            framed.extend_from_slice(key);
            each(&framed, tombstone)?;
        }
        Ok(())
    }
}

/// A sink that keeps no records shows no key.
struct NoKeys;

impl KeyReader for NoKeys {
    fn count(&mut self, _topic: &str) -> Result<u64> {
        Ok(0)
    }

    fn read(&mut self, _topic: &str, _key_id: u32, _each: &mut EachKey<'_>) -> Result<()> {
        Ok(())
    }
}
