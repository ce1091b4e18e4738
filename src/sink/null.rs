//! A sink that forgets the records and keeps the checkpoint, for benches only: it shows what everything before the sink
//! costs.
//!
//! The checkpoint is one small file, written over in place by every commit and never synced: the cheapest that survives
//! a stop of the daemon. It does not survive a crash of the machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::error::{Code, Error, Result};
use crate::sink::{Sink, StateEntries, TopicSpec};

/// The checkpoint's file in the sink's folder.
const FILE: &str = "checkpoint.json";

/// Drops records and counts them.
#[derive(Debug)]
pub struct NullSink {
    path: PathBuf,
    file: File,
    /// Bytes of the file.
    len: usize,
    content: Content,
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Records dropped since the folder was made.
    pub records: u64,
    /// Their key and value bytes.
    pub bytes: u64,
    /// The checkpoint; its entries are JSON texts.
    pub entries: BTreeMap<String, String>,
}

impl NullSink {
    /// Opens the folder, or makes it.
    pub fn open(folder: &Path) -> Result<NullSink> {
        let path = folder.join(FILE);
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let broken = |error: io::Error| failed(&path, &error);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let (mut file, mut text) = (options.map_err(broken)?, Vec::new());
        file.read_to_end(&mut text).map_err(broken)?;
        let content = match text.as_slice() {
            [] => Content::default(),
            text => serde_json::from_slice(text).map_err(|error| broken(error.into()))?,
        };
        Ok(NullSink { path, file, len: text.len(), content })
    }

    /// What was dropped so far, and the checkpoint.
    pub fn content(&self) -> &Content {
        &self.content
    }

    fn save(&mut self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.content)?;
        // What an older, longer text would leave behind.
        self.len = self.len.max(text.len());
        text.resize(self.len, b' ');
        self.file.write_all_at(&text, 0)
    }
}

impl Sink for NullSink {
    fn load(&mut self) -> Result<StateEntries> {
        Ok(self.content.entries.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect())
    }

    fn declare(&mut self, _topics: &[TopicSpec]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<()> {
        let content = &mut self.content;
        content.records += batch.records.len() as u64;
        content.bytes += batch.bytes.len() as u64;
        for change in &batch.state {
            match &change.value {
                Some(value) => content.entries.insert(change.key.clone(), String::from_utf8_lossy(value).into_owned()),
                None => content.entries.remove(&change.key),
            };
        }
        self.save().map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::definite(Code::Io, format!("the null sink's `{}`: {error}", path.display()))
        .hint("name a folder in `sink: {'null': {path: …}}` that the daemon may write to")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::StateChange;

    #[test]
    fn the_checkpoint_outlives_the_sink() {
        let folder = tempfile::tempdir().unwrap();
        let change = |value: Option<&str>| StateChange { key: "position".into(), value: value.map(Into::into) };
        let mut batch = Batch::default();
        batch.bytes.extend_from_slice(b"abc");
        batch.state.push(change(Some("{}")));
        let mut sink = NullSink::open(folder.path()).unwrap();
        sink.commit(&batch).unwrap();
        sink.commit(&batch).unwrap();
        let mut sink = NullSink::open(folder.path()).unwrap();
        assert_eq!(sink.load().unwrap(), StateEntries::from([("position".into(), b"{}".to_vec())]));
        assert_eq!(sink.content().bytes, 6);
        batch.state = vec![change(None)];
        sink.commit(&batch).unwrap();
        assert!(NullSink::open(folder.path()).unwrap().load().unwrap().is_empty());
    }
}
