//! The consumer's side of file topics: committed records only, in order, over all files, for as long as the topic grows.
//!
//! Takes no lock and writes nothing, so any number of readers may run beside the writer. What is committed is what the
//! manifest says; it is read again when the end of that is reached.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apache_avro::types::Value;
use serde_json::{Value as Json, json};

use crate::batch::Op;
use crate::error::{Code, Error, Result};
use crate::position::Position;
use crate::sink::decode::{EnvelopePlan, read_header, read_long};
use crate::sink::disk::failure;
use crate::sink::json::{timestamp, to_json};
use crate::sink::manifest::{Listing, MANIFEST, TopicFiles, closed_name, damaged, open_name, topic_folder};
use crate::sink::ocf::SyncMarker;

/// Bytes of a header that are read at first (64 KiB); doubled until it fits.
const HEADER_BYTES: usize = 64 << 10;

/// One committed record.
#[derive(Debug)]
pub struct FileRecord {
    /// Absent where the contract has no key.
    pub key: Option<Value>,
    /// Absent for a delete of a `state` contract.
    pub value: Option<Value>,
    /// What happened.
    pub op: Op,
    /// Where it stands.
    pub position: Position,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
    /// The last published record of its transaction, over all topics.
    pub last: bool,
    /// Fields whose value was read again from the table.
    pub reread: Vec<String>,
    plan: Arc<EnvelopePlan>,
}

impl FileRecord {
    /// The key as JSON (see [`to_json`]).
    pub fn key_json(&self) -> Option<Json> {
        self.key.as_ref().map(|key| to_json(self.plan.key.present(), key))
    }

    /// The value as JSON (see [`to_json`]).
    pub fn value_json(&self) -> Option<Json> {
        self.value.as_ref().map(|value| to_json(self.plan.value.present(), value))
    }

    /// The whole envelope: `key`, `value`, `op`, `pos`, `ts` (ISO 8601), `last`, `reread`.
    pub fn to_json(&self) -> Json {
        json!({
            "key": self.key_json(),
            "value": self.value_json(),
            "op": self.op.letter(),
            "pos": self.position.to_string(),
            "ts": timestamp(i128::from(self.timestamp)) + "Z",
            "last": self.last,
            "reread": self.reread,
        })
    }
}

/// The Avro body of a record's key, where it has one, and whether the record is a tombstone.
pub type KeyBody<'a> = (Option<&'a [u8]>, bool);

/// Reads one topic from its first record on.
pub struct TopicReader {
    folder: PathBuf,
    topic: String,
    manifest: Seen,
    files: TopicFiles,
    /// Number of the file that is read, or of the next to be opened.
    number: u64,
    current: Option<Current>,
    /// Bytes of the closed files that were read to their end.
    finished_bytes: u64,
    block: Vec<u8>,
    /// Where the block's next record begins, and how many are left.
    at: usize,
    left: u64,
}

struct Current {
    file: File,
    path: PathBuf,
    plan: Arc<EnvelopePlan>,
    sync: SyncMarker,
    offset: u64,
}

/// Tells one manifest from the next without reading it: a replaced file is another inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    modified: (i64, i64),
    len: u64,
}

impl Seen {
    fn look(folder: &Path) -> Result<Seen> {
        let path = folder.join(MANIFEST);
        let about = fs::metadata(&path).map_err(|error| failure(Code::Io, "read", &path, &error))?;
        Ok(Seen { inode: about.ino(), modified: (about.mtime(), about.mtime_nsec()), len: about.len() })
    }
}

/// The topics of a folder, with their files, by name.
pub fn topics(folder: &Path) -> Result<Vec<(String, TopicFiles)>> {
    Ok(listing(folder)?.topics.into_iter().collect())
}

fn listing(folder: &Path) -> Result<Listing> {
    Listing::read(folder)?.ok_or_else(|| {
        Error::definite(Code::Usage, format!("`{}` has no file topics: there is no `{MANIFEST}`", folder.display()))
            .hint("name the folder of `sink: {files: {path: …}}`; `gimbal run` makes it")
    })
}

impl TopicReader {
    /// Opens a topic of the folder at its first record. An unknown topic is a `Usage` error that lists the known ones.
    pub fn open(folder: &Path, topic: &str) -> Result<TopicReader> {
        // Say first what is wrong with the folder, if it is. Then look before reading: a manifest that is replaced in
        // between is read once more, never missed.
        listing(folder)?;
        let manifest = Seen::look(folder)?;
        Ok(TopicReader {
            folder: folder.to_owned(),
            topic: topic.to_owned(),
            manifest,
            files: files_of(&listing(folder)?, topic)?,
            number: 1,
            current: None,
            finished_bytes: 0,
            block: Vec::new(),
            at: 0,
            left: 0,
        })
    }

    /// Committed records of the topic, as far as the reader has looked.
    pub fn committed(&self) -> u64 {
        self.files.records()
    }

    /// The next committed record; `None` at the end of what is committed now. May be called again for more.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends for good, a topic does not")]
    pub fn next(&mut self) -> Result<Option<FileRecord>> {
        while self.left == 0 {
            if !self.next_block()? {
                return Ok(None);
            }
        }
        let Some(current) = &self.current else { return Ok(None) };
        let mut bytes = self.block.get(self.at..).unwrap_or_default();
        let before = bytes.len();
        let Some(record) = current.plan.decode(&mut bytes) else {
            return Err(undecodable(current));
        };
        self.at += before - bytes.len();
        self.left -= 1;
        if self.left == 0 && !bytes.is_empty() {
            return Err(undecodable(current));
        }
        Ok(Some(FileRecord {
            key: record.key,
            value: record.value,
            op: record.op,
            position: record.position,
            timestamp: record.timestamp,
            last: record.last,
            reread: record.reread,
            plan: current.plan.clone(),
        }))
    }

    /// The Avro body of the next committed record's key (absent without one), and whether the record is a tombstone;
    /// `None` at the end of what is committed now.
    pub fn next_key(&mut self) -> Result<Option<KeyBody<'_>>> {
        while self.left == 0 {
            if !self.next_block()? {
                return Ok(None);
            }
        }
        let Some(current) = &self.current else { return Ok(None) };
        let mut bytes = self.block.get(self.at..).unwrap_or_default();
        let before = bytes.len();
        let Some(found) = current.plan.decode_key(&mut bytes) else {
            return Err(undecodable(current));
        };
        self.at += before - bytes.len();
        self.left -= 1;
        if self.left == 0 && !bytes.is_empty() {
            return Err(undecodable(current));
        }
        Ok(Some(found))
    }

    /// Reads the next committed block. False if there is none yet.
    fn next_block(&mut self) -> Result<bool> {
        loop {
            if self.current.is_none() && !self.open_file()? {
                return Ok(false);
            }
            let closed = self.number <= self.files.closed.files;
            let Some(current) = &mut self.current else { return Ok(false) };
            let end = match (&self.files.open, closed) {
                (_, true) => file_len(current)?,
                (Some(open), false) => open.bytes,
                (None, false) => current.offset,
            };
            if current.offset < end {
                self.left = read_block(current, end, &mut self.block)?;
                self.at = 0;
                return Ok(true);
            }
            if closed {
                self.finish_file(end)?;
            } else if !self.refresh()? {
                return Ok(false);
            }
        }
    }

    /// Goes on to the next file, after a look at whether the finished ones are as long as the manifest says.
    fn finish_file(&mut self, len: u64) -> Result<()> {
        self.finished_bytes += len;
        if self.number == self.files.closed.files && self.finished_bytes != self.files.closed.bytes {
            return Err(damaged(format!(
                "the closed files of topic `{}` have {} bytes, the manifest says {}",
                self.topic, self.finished_bytes, self.files.closed.bytes
            )));
        }
        self.number += 1;
        self.current = None;
        Ok(())
    }

    /// Reads the manifest again if it was replaced. True if there is more than before.
    fn refresh(&mut self) -> Result<bool> {
        let seen = Seen::look(&self.folder)?;
        if seen == self.manifest {
            return Ok(false);
        }
        let files = files_of(&listing(&self.folder)?, &self.topic)?;
        self.manifest = seen;
        let grown = files != self.files;
        self.files = files;
        Ok(grown)
    }

    /// True if the file of the current number is in the manifest.
    fn is_committed(&self) -> bool {
        self.number <= self.files.closed.files || self.files.open.is_some()
    }

    /// Opens the file of the current number. False if it is not committed yet.
    fn open_file(&mut self) -> Result<bool> {
        if !self.is_committed() {
            self.refresh()?;
            if !self.is_committed() {
                return Ok(false);
            }
        }
        // The writer renames a closed file a moment after the manifest says so: what is not there under the first name
        // is there under the second.
        let folder = topic_folder(&self.folder, &self.topic)?;
        for path in [folder.join(open_name(self.number)), folder.join(closed_name(self.number))] {
            match File::open(&path) {
                Ok(file) => {
                    self.current = Some(begin(file, path)?);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failure(Code::Io, "open", &path, &error)),
            }
        }
        Err(damaged(format!("file {} of topic `{}` is missing", self.number, self.topic)))
    }
}

fn files_of(listing: &Listing, topic: &str) -> Result<TopicFiles> {
    listing.topics.get(topic).cloned().ok_or_else(|| {
        let known: Vec<String> = listing.topics.keys().map(|name| format!("`{name}`")).collect();
        let known =
            if known.is_empty() { "there is none yet".into() } else { format!("there are {}", known.join(", ")) };
        Error::definite(Code::Usage, format!("no topic `{}`: {known}", topic.escape_debug()))
            .hint("name one of these topics in full")
    })
}

fn file_len(current: &Current) -> Result<u64> {
    let about = current.file.metadata().map_err(|error| failure(Code::Io, "read", &current.path, &error))?;
    Ok(about.len())
}

fn undecodable(current: &Current) -> Error {
    damaged(format!(
        "a record in the block before byte {} of `{}` does not decode",
        current.offset,
        current.path.display()
    ))
}

/// Reads the header of a file.
fn begin(file: File, path: PathBuf) -> Result<Current> {
    let unreadable = |error: io::Error| failure(Code::Io, "read", &path, &error);
    let len = usize::try_from(file.metadata().map_err(unreadable)?.len()).unwrap_or(usize::MAX);
    let mut size = HEADER_BYTES.min(len);
    loop {
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
        if let Some(header) = read_header(&bytes)? {
            let plan = EnvelopePlan::compile(&header.schema).ok_or_else(|| {
                damaged(format!("the schema in `{}` is not an envelope that gimbal writes", path.display()))
            })?;
            return Ok(Current { file, path, plan: Arc::new(plan), sync: header.sync, offset: header.len as u64 });
        }
        if size >= len {
            return Err(damaged(format!("`{}` does not begin with an Avro header", path.display())));
        }
        size = size.saturating_mul(2).min(len);
    }
}

/// Reads the block at the current offset into `block`, and moves past it. Returns the number of its records.
fn read_block(current: &mut Current, end: u64, block: &mut Vec<u8>) -> Result<u64> {
    let path = &current.path;
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(format!("`{}` ends before its committed byte {end}", path.display())),
        _ => failure(Code::Io, "read", path, &error),
    };
    let broken = || damaged(format!("no whole block at byte {} of `{}`", current.offset, path.display()));
    let available = end - current.offset;
    let mut head = [0; 20];
    let head_len = available.min(head.len() as u64) as usize;
    let head = head.get_mut(..head_len).unwrap_or_default();
    current.file.read_exact_at(head, current.offset).map_err(unreadable)?;
    let mut rest: &[u8] = head;
    let (Some(count), Some(size)) = (read_long(&mut rest), read_long(&mut rest)) else { return Err(broken()) };
    let start = (head_len - rest.len()) as u64;
    let (Ok(count), Ok(size)) = (u64::try_from(count), u64::try_from(size)) else { return Err(broken()) };
    let whole = start.checked_add(size).and_then(|len| len.checked_add(16)).filter(|len| *len <= available);
    let Some(whole) = whole.filter(|_| count > 0) else { return Err(broken()) };
    block.resize(size as usize + 16, 0);
    current.file.read_exact_at(block, current.offset + start).map_err(unreadable)?;
    if block.get(size as usize..) != Some(&current.sync[..]) {
        return Err(broken());
    }
    block.truncate(size as usize);
    current.offset += whole;
    Ok(count)
}
