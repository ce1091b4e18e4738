//! Appends a commit's records to the open files of its topics, and rolls them by schema, size and age.
//!
//! Nothing here is visible: the bytes count from the moment the manifest names them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{Batch, Record};
use crate::error::{Code, Error, Result};
use crate::sink::disk::{Disk, failure};
use crate::sink::manifest::{OpenFile, TopicFiles, open_name};
use crate::sink::ocf::{Block, Envelope, SyncMarker, split_frame, write_header};

/// A block is ended at this size (256 KiB): what a reader holds in memory at least.
const BLOCK_BYTES: usize = 256 << 10;

/// Blocks are written to the file at this size (1 MiB), which bounds the memory of a commit however large it is.
const WRITE_BYTES: usize = 1 << 20;

/// Files that are written and not yet synced, at most; far below the common limit of 1,024 open files.
const UNSYNCED_FILES_MAX: usize = 64;

/// The schemas in a file's header: ids of key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaIds {
    /// Absent for topics without key.
    pub key: Option<u32>,
    /// Of the value.
    pub value: u32,
}

/// A topic as declared: its folder, and the envelope schemas that its files may begin with.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The current schemas: those of a file that begins with a tombstone.
    pub current: SchemaIds,
    /// Envelope schema by the ids in it, for all that was declared since the sink was opened.
    pub envelopes: Vec<(SchemaIds, Arc<str>)>,
}

impl Topic {
    fn envelope(&self, ids: SchemaIds) -> Result<Arc<str>> {
        let known = self.envelopes.iter().find(|(known, _)| *known == ids);
        known.map(|(_, schema)| schema.clone()).ok_or_else(|| {
            let diagnosis = format!(
                "a record of topic `{}` has schema ids {:?} and {}, declared are {:?} and {}",
                self.name, ids.key, ids.value, self.current.key, self.current.value
            );
            Error::definite(Code::Internal, diagnosis)
        })
    }
}

/// Memory that is used for every topic in turn and kept between commits.
#[derive(Debug, Default)]
pub struct Buffers {
    block: Block,
    out: Vec<u8>,
}

#[cfg(test)]
impl Buffers {
    pub(super) fn capacity(&self) -> usize {
        self.block.capacity() + self.out.capacity()
    }
}

/// What a commit has done to files so far and still has to do.
#[derive(Default)]
pub struct Pending {
    /// Written, not synced.
    unsynced: Vec<(File, PathBuf)>,
    /// Folders with a new file.
    folders: Vec<PathBuf>,
    /// Files that the next manifest calls closed, to be renamed after it: folder and number.
    pub closed: Vec<(PathBuf, u64)>,
}

impl Pending {
    fn add(&mut self, disk: &Disk, file: File, path: PathBuf) -> Result<()> {
        self.unsynced.push((file, path));
        if self.unsynced.len() >= UNSYNCED_FILES_MAX { self.sync_files(disk) } else { Ok(()) }
    }

    fn sync_files(&mut self, disk: &Disk) -> Result<()> {
        for (file, path) in self.unsynced.drain(..) {
            disk.sync_file(&file, &path).map_err(|error| refused("sync", &path, &error))?;
        }
        Ok(())
    }

    /// Makes every byte and every new name durable. Only then may the manifest name them.
    pub fn sync(&mut self, disk: &Disk) -> Result<()> {
        self.sync_files(disk)?;
        for folder in self.folders.drain(..) {
            disk.sync_dir(&folder).map_err(|error| refused("sync", &folder, &error))?;
        }
        Ok(())
    }
}

/// Appends records to one topic.
pub struct Appender<'a> {
    /// Where to write.
    pub disk: &'a Disk,
    /// The topic as declared.
    pub topic: &'a Topic,
    /// Its files: what the next manifest will say.
    pub files: &'a mut TopicFiles,
    /// Empty at the start and at the end.
    pub buffers: &'a mut Buffers,
    /// Collects what is to be synced and renamed.
    pub pending: &'a mut Pending,
    /// A file of this size is closed.
    pub roll_bytes: u64,
    /// Seconds since 1970.
    pub now: u64,
    /// The open file, once something was written to it.
    pub handle: Option<(File, PathBuf)>,
}

impl Appender<'_> {
    /// Appends the records, in order. On return all bytes are written, none is synced for certain.
    pub fn append<'b>(&mut self, batch: &'b Batch, records: impl Iterator<Item = &'b Record>) -> Result<()> {
        self.buffers.block.clear();
        self.buffers.out.clear();
        for record in records {
            let key = record.key.map(|span| split_frame(batch.slice(span))).transpose()?;
            let value = record.value.map(|span| split_frame(batch.slice(span))).transpose()?;
            let sync = self.file_for(key.map(|(id, _)| id), value.map(|(id, _)| id))?;
            self.buffers.block.push(&Envelope {
                key: self.topic.current.key.map(|_| key.map(|(_, body)| body)),
                value: value.map(|(_, body)| body),
                op: record.op,
                position: record.position,
                timestamp: record.timestamp,
                last: record.last,
                reread: record.reread.map(|names| batch.slice(names)).unwrap_or_default(),
            });
            if self.buffers.block.len() >= BLOCK_BYTES {
                self.end_block(&sync);
                if self.buffers.out.len() >= WRITE_BYTES {
                    self.write()?;
                }
                if self.files.open.as_ref().is_some_and(|open| open.bytes >= self.roll_bytes) {
                    self.close()?;
                }
            }
        }
        self.flush()?;
        if self.files.open.as_ref().is_some_and(|open| open.bytes >= self.roll_bytes) {
            self.close()?;
        }
        match self.handle.take() {
            Some((file, path)) => self.pending.add(self.disk, file, path),
            None => Ok(()),
        }
    }

    /// The sync marker of a file whose schemas these ids are: the open one, or a new one.
    fn file_for(&mut self, key: Option<u32>, value: Option<u32>) -> Result<SyncMarker> {
        let fits = |open: &OpenFile| {
            key.is_none_or(|id| open.key_id == Some(id)) && value.is_none_or(|id| open.value_id == id)
        };
        match &self.files.open {
            Some(open) if fits(open) => return Ok(open.sync),
            Some(_) => self.close()?,
            None => {}
        }
        let current = self.topic.current;
        let ids = SchemaIds { key: key.or(current.key), value: value.unwrap_or(current.value) };
        let envelope = self.topic.envelope(ids)?;
        let mut sync = [0; 16];
        getrandom::fill(&mut sync)
            .map_err(|error| Error::definite(Code::Io, format!("the system gives no random bytes: {error}")))?;
        write_header(&mut self.buffers.out, &envelope, &sync);
        let bytes = self.buffers.out.len() as u64;
        let open = OpenFile { bytes, records: 0, opened: self.now, key_id: ids.key, value_id: ids.value, sync };
        self.files.open = Some(open);
        let path = self.path();
        let file = self.disk.create(&path).map_err(|error| refused("create", &path, &error))?;
        self.pending.folders.push(self.topic.folder.clone());
        self.handle = Some((file, path));
        Ok(sync)
    }

    fn path(&self) -> PathBuf {
        self.topic.folder.join(open_name(self.files.open_number()))
    }

    fn end_block(&mut self, sync: &SyncMarker) {
        let before = self.buffers.out.len();
        let records = self.buffers.block.finish(&mut self.buffers.out, sync);
        if let Some(open) = &mut self.files.open {
            open.records += records;
            open.bytes += (self.buffers.out.len() - before) as u64;
        }
    }

    /// Writes what is gathered to the end of the open file.
    fn write(&mut self) -> Result<()> {
        let Some(open) = &self.files.open else { return Ok(()) };
        let offset = open.bytes - self.buffers.out.len() as u64;
        let (file, path) = match self.handle.take() {
            Some(handle) => handle,
            None => {
                let path = self.path();
                let opened = File::options().write(true).open(&path);
                (opened.map_err(|error| refused("open", &path, &error))?, path)
            }
        };
        self.disk.write_at(&file, &path, &self.buffers.out, offset).map_err(|error| refused("write", &path, &error))?;
        self.buffers.out.clear();
        self.handle = Some((file, path));
        Ok(())
    }

    /// Ends the block and writes it out.
    fn flush(&mut self) -> Result<()> {
        if let Some(open) = &self.files.open {
            let sync = open.sync;
            self.end_block(&sync);
        }
        if self.buffers.out.is_empty() { Ok(()) } else { self.write() }
    }

    /// Counts the open file as closed once its last bytes are written.
    fn close(&mut self) -> Result<()> {
        self.flush()?;
        if let Some((file, path)) = self.handle.take() {
            self.pending.add(self.disk, file, path)?;
        }
        if let Some(number) = self.files.close() {
            self.pending.closed.push((self.topic.folder.clone(), number));
        }
        Ok(())
    }
}

fn refused(action: &str, path: &Path, error: &io::Error) -> Error {
    failure(Code::SinkRefused, action, path, error)
}
