//! A sink that forgets the records and keeps the checkpoint, for benches only: it shows what everything before the sink
//! costs.
//!
//! The checkpoint is a file to which every commit appends a line, never synced: the cheapest that survives a stop of the
//! daemon, or its death. It does not survive a crash of the machine, and grows for ever.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::error::{Code, Error, Result};
use crate::sink::{Sink, StateEntries, TopicSpec};

/// The checkpoint's file in the sink's folder.
const FILE: &str = "checkpoint.jsonl";

/// Drops records and counts them.
#[derive(Debug)]
pub struct NullSink {
    path: PathBuf,
    file: File,
    content: Content,
    line: Vec<u8>,
}

/// What was dropped, and the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Records dropped since the folder was made.
    pub records: u64,
    /// Their key and value bytes.
    pub bytes: u64,
    /// The checkpoint; its entries are JSON texts.
    pub entries: BTreeMap<String, String>,
}

/// A commit as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    records: u64,
    bytes: u64,
    #[serde(borrow)]
    changes: Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>,
}

impl NullSink {
    /// Opens the folder, or makes it.
    pub fn open(folder: &Path) -> Result<NullSink> {
        let path = folder.join(FILE);
        let broken = |error: io::Error| failed(&path, &error);
        std::fs::create_dir_all(folder).map_err(broken)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let (mut file, mut text) = (file.map_err(broken)?, Vec::new());
        file.read_to_end(&mut text).map_err(broken)?;
        let whole = memchr::memrchr(b'\n', &text).map_or(0, |last| last + 1);
        if whole < text.len() {
            // A commit that was never answered.
            file.set_len(whole as u64).map_err(broken)?;
            text.truncate(whole);
        }
        let mut content = Content::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            content.take(serde_json::from_slice(line).map_err(|error| broken(error.into()))?);
        }
        Ok(NullSink { path, file, content, line: Vec::new() })
    }

    /// What was dropped so far, and the checkpoint.
    pub fn content(&self) -> &Content {
        &self.content
    }
}

impl Content {
    fn take(&mut self, line: Line<'_>) {
        (self.records, self.bytes) = (line.records, line.bytes);
        for (key, value) in line.changes {
            match value {
                Some(value) => self.entries.insert(key.into_owned(), value.into_owned()),
                None => self.entries.remove(&*key),
            };
        }
    }
}

impl Sink for NullSink {
    fn load(&mut self) -> Result<StateEntries> {
        let entries = &self.content.entries;
        Ok(entries.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect())
    }

    fn declare(&mut self, _topics: &[TopicSpec]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<()> {
        let changes = batch.state.iter();
        let line = Line {
            records: self.content.records + batch.records.len() as u64,
            bytes: self.content.bytes + batch.bytes.len() as u64,
            changes: changes
                .map(|change| ((&change.key).into(), change.value.as_deref().map(String::from_utf8_lossy)))
                .collect(),
        };
        self.line.clear();
        let written = serde_json::to_writer(&mut self.line, &line).map_err(io::Error::from);
        self.line.push(b'\n');
        written.and_then(|()| self.file.write_all(&self.line)).map_err(|error| failed(&self.path, &error))?;
        self.content.take(line);
        Ok(())
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
    fn the_checkpoint_outlives_the_sink_and_half_a_commit() {
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
        let mut file = OpenOptions::new().append(true).open(folder.path().join(FILE)).unwrap();
        file.write_all(b"{\"records\":1").unwrap();
        let mut sink = NullSink::open(folder.path()).unwrap();
        batch.state = vec![change(None)];
        sink.commit(&batch).unwrap();
        assert!(NullSink::open(folder.path()).unwrap().load().unwrap().is_empty());
    }
}
