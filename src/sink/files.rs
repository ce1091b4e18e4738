//! The files sink: topics as Avro object container files in a folder, the checkpoint in the folder's manifest.
//!
//! ```text
//!  batch ─▶ bytes past the committed length ─▶ fdatasync ─▶ manifest.json.new ─▶ fsync ─▶ rename ─▶ fsync folder
//!           (they do not exist yet)                                              (now they do, with the checkpoint)
//! ```
//!
//! A crash at any point leaves the old manifest or the new one, whole, and [`Sink::load`] mends the rest. After a failed
//! commit the sink does not guess what reached the disk: it refuses to go on until it is loaded again.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::batch::Batch;
use crate::error::{Code, Error, Result};
use crate::killpoint::{self, Point};
use crate::sink::disk::{Disk, failure};
use crate::sink::envelope::envelope_schema;
use crate::sink::manifest::{LOCK, Manifest, TopicFiles, damaged, topic_folder};
use crate::sink::recovery::{data_files, recover, rename_closed};
use crate::sink::rolling::{Appender, Buffers, Pending, SchemaIds, Topic};
use crate::sink::{Sink, StateEntries, TopicSpec};

/// When a file is closed and the next one begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilesOptions {
    /// At this size, give or take a block. Default 128 MiB: a few seconds' work for a reader of one file.
    pub roll_bytes: u64,
    /// At this age, with the first commit after it. Default one hour: what a batch job waits for at most.
    pub roll_age: Duration,
}

impl Default for FilesOptions {
    fn default() -> FilesOptions {
        FilesOptions { roll_bytes: 128 << 20, roll_age: Duration::from_secs(3600) }
    }
}

/// Where the sink takes the age of files from.
pub(super) type Clock = Box<dyn Fn() -> SystemTime + Send>;

/// A folder of file topics, held by an exclusive lock as long as this value lives.
pub struct FilesSink {
    folder: PathBuf,
    pipeline: String,
    options: FilesOptions,
    disk: Disk,
    clock: Clock,
    _lock: File,
    topics: Vec<Topic>,
    /// Absent before `load` and after a failed commit.
    manifest: Option<Manifest>,
    /// Closed files that still have their open name: folder and number.
    to_rename: Vec<(PathBuf, u64)>,
    buffers: Buffers,
    /// Indexes of a batch's records by topic; kept for its memory.
    by_topic: Vec<Vec<u32>>,
}

impl FilesSink {
    /// Makes the folder if need be and takes its lock; nothing else is read or written before [`Sink::load`].
    ///
    /// Fails with `SinkHeld` if another process (or another sink in this one) holds the folder.
    pub fn open(path: &Path, pipeline: &str, options: FilesOptions) -> Result<FilesSink> {
        FilesSink::open_on(Disk::default(), Box::new(SystemTime::now), path, pipeline, options)
    }

    pub(super) fn open_on(
        disk: Disk,
        clock: Clock,
        path: &Path,
        pipeline: &str,
        options: FilesOptions,
    ) -> Result<FilesSink> {
        disk.create_dir(path).map_err(|error| failure(Code::SinkRefused, "create the folder", path, &error))?;
        Ok(FilesSink {
            folder: path.to_owned(),
            pipeline: pipeline.to_owned(),
            options,
            disk,
            clock,
            _lock: lock(&path.join(LOCK))?,
            topics: Vec::new(),
            manifest: None,
            to_rename: Vec::new(),
            buffers: Buffers::default(),
            by_topic: Vec::new(),
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    #[cfg(test)]
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffers.capacity()
    }

    fn now(&self) -> u64 {
        (self.clock)().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Adds the topics that the manifest lacks, and checks that no one else's files are in their way.
    fn create_topics(&mut self, manifest: &mut Manifest) -> Result<()> {
        let mut grown = false;
        for topic in &self.topics {
            if manifest.topics.contains_key(&topic.name) {
                continue;
            }
            let folder = &topic.folder;
            self.disk
                .create_dir(folder)
                .map_err(|error| failure(Code::SinkRefused, "create the folder", folder, &error))?;
            if !data_files(folder)?.is_empty() {
                return Err(damaged(format!("`{}` has files, the manifest does not know the topic", folder.display())));
            }
            manifest.topics.insert(topic.name.clone(), TopicFiles::default());
            grown = true;
        }
        if grown { manifest.write(&self.disk, &self.folder) } else { Ok(()) }
    }

    /// Renames what the last manifest closed. A file that keeps its open name is no loss, so it may fail and be repeated.
    fn rename_closed(&mut self) -> Result<()> {
        while let Some((folder, number)) = self.to_rename.last() {
            rename_closed(&self.disk, folder, *number)?;
            self.to_rename.pop();
        }
        Ok(())
    }

    fn try_commit(&mut self, manifest: &mut Manifest, batch: &Batch) -> Result<()> {
        self.rename_closed()?;
        self.sort_by_topic(batch)?;
        let now = self.now();
        let mut pending = Pending::default();
        for (topic, records) in self.topics.iter().zip(&self.by_topic).filter(|(_, records)| !records.is_empty()) {
            let mut appender = Appender {
                disk: &self.disk,
                topic,
                files: manifest.topics.entry(topic.name.clone()).or_default(),
                buffers: &mut self.buffers,
                pending: &mut pending,
                roll_bytes: self.options.roll_bytes,
                now,
                handle: None,
            };
            appender.append(batch, records.iter().filter_map(|&i| batch.records.get(i as usize)))?;
            killpoint::pass(Point::FilesWritten);
        }
        self.close_aged(manifest, now, &mut pending)?;
        apply_state(manifest, batch)?;
        manifest.generation += 1;
        // Bytes before the manifest that names them. The other order would show readers what a power cut takes back.
        pending.sync(&self.disk)?;
        killpoint::pass(Point::FilesSynced);
        manifest.write(&self.disk, &self.folder)?;
        self.to_rename.append(&mut pending.closed);
        Ok(())
    }

    fn sort_by_topic(&mut self, batch: &Batch) -> Result<()> {
        self.by_topic.resize_with(self.topics.len(), Vec::new);
        self.by_topic.iter_mut().for_each(Vec::clear);
        for (i, record) in batch.records.iter().enumerate() {
            match self.by_topic.get_mut(usize::from(record.topic.0)) {
                Some(records) => records.push(i as u32),
                None => {
                    let diagnosis =
                        format!("a record names topic {}, {} are declared", record.topic.0, self.topics.len());
                    return Err(Error::definite(Code::Internal, diagnosis));
                }
            }
        }
        Ok(())
    }

    /// Closes files by age, whether the batch has records for them or not.
    fn close_aged(&self, manifest: &mut Manifest, now: u64, pending: &mut Pending) -> Result<()> {
        for (name, files) in &mut manifest.topics {
            let aged = |opened: u64| now.saturating_sub(opened) >= self.options.roll_age.as_secs();
            if files.open.as_ref().is_some_and(|open| aged(open.opened))
                && let Some(number) = files.close()
            {
                pending.closed.push((topic_folder(&self.folder, name)?, number));
            }
        }
        Ok(())
    }
}

impl Sink for FilesSink {
    fn load(&mut self) -> Result<StateEntries> {
        self.manifest = None;
        self.to_rename.clear();
        let manifest = recover(&self.disk, &self.folder, &self.pipeline)?;
        Ok(self.manifest.insert(manifest).entries())
    }

    fn declare(&mut self, specs: &[TopicSpec]) -> Result<()> {
        let topics = specs.iter().map(|spec| declared(&self.folder, &self.topics, spec)).collect::<Result<_>>()?;
        self.topics = topics;
        let mut manifest = self.manifest.take().ok_or_else(not_loaded)?;
        self.create_topics(&mut manifest)?;
        self.manifest = Some(manifest);
        Ok(())
    }

    fn commit(&mut self, batch: &Batch) -> Result<()> {
        let mut manifest = self.manifest.take().ok_or_else(not_loaded)?;
        if !batch.is_empty() {
            if let Err(error) = self.try_commit(&mut manifest, batch) {
                // Gives back the room of what is not committed. If that fails too, the next load does it.
                let _ = recover(&self.disk, &self.folder, &self.pipeline);
                return Err(error);
            }
            // The commit stands; a name that could not be changed is changed before the next one.
            let _ = self.rename_closed();
        }
        self.manifest = Some(manifest);
        Ok(())
    }
}

fn not_loaded() -> Error {
    Error::definite(Code::Internal, "the files sink is used before its state was loaded, or after a failed commit")
}

/// A topic with its envelope schemas: the current one, and those of an earlier declaration of the same topic.
fn declared(folder: &Path, before: &[Topic], spec: &TopicSpec) -> Result<Topic> {
    let current = SchemaIds { key: spec.key.as_ref().map(|key| key.id), value: spec.value.id };
    let mut envelopes = before.iter().find(|t| t.name == spec.name).map(|t| t.envelopes.clone()).unwrap_or_default();
    if !envelopes.iter().any(|(ids, _)| *ids == current) {
        let key = spec.key.as_ref().map(|key| key.json.as_str());
        envelopes.push((current, envelope_schema(key, &spec.value.json)?.into()));
    }
    Ok(Topic { name: spec.name.clone(), folder: topic_folder(folder, &spec.name)?, current, envelopes })
}

fn apply_state(manifest: &mut Manifest, batch: &Batch) -> Result<()> {
    for change in &batch.state {
        match &change.value {
            Some(value) => {
                let text = std::str::from_utf8(value).map_err(|_| {
                    Error::definite(Code::Internal, format!("the state entry `{}` is not text", change.key))
                })?;
                manifest.state.insert(change.key.clone(), text.to_owned());
            }
            None => {
                manifest.state.remove(&change.key);
            }
        }
    }
    Ok(())
}

/// Takes the lock without waiting, and leaves this process's id in the file for whoever is refused.
fn lock(path: &Path) -> Result<File> {
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = opened.map_err(|error| failure(Code::SinkRefused, "open", path, &error))?;
    match file.try_lock() {
        Ok(()) => {
            // Only a courtesy, so a full disk does not matter: the lock itself needs no room.
            let id = std::process::id().to_string();
            let _ = file.set_len(0).and_then(|()| file.write_all(id.as_bytes()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut id = String::new();
            let holder = match file.read_to_string(&mut id) {
                Ok(_) if id.bytes().all(|b| b.is_ascii_digit()) && !id.is_empty() => format!("process {id}"),
                _ => "another process".into(),
            };
            Err(Error::definite(Code::SinkHeld, format!("{holder} holds `{}`", path.display()))
                .hint("stop the other gimbal, or give this pipeline a folder of its own"))
        }
        Err(TryLockError::Error(error)) => Err(failure(Code::SinkRefused, "lock", path, &error)),
    }
}
