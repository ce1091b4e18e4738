//! Brings a folder of file topics to what its manifest says: the first thing a writer does, after a crash or not.
//!
//! Mended without a word, because a crash leaves it: bytes past a committed length, an open file that the manifest does
//! not know, a closed file that still has its open name. Everything else that differs is damage, and nothing is removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Code, Error, Result};
use crate::sink::disk::{Disk, failure};
use crate::sink::manifest::{
    DataFile, MANIFEST, Manifest, TopicFiles, closed_name, damaged, data_file, open_name, topic_folder,
};

/// Reads the manifest (or writes the first one) and mends what a crash may have left.
pub fn recover(disk: &Disk, folder: &Path, pipeline: &str) -> Result<Manifest> {
    let manifest = match Manifest::read(folder)? {
        Some(manifest) => manifest,
        None => {
            if let Some(topic) = folder_with_data(folder)? {
                let missing = folder.join(MANIFEST);
                return Err(damaged(format!("`{}` is missing, but topic `{topic}` has files", missing.display())));
            }
            // Written before any topic, so that its absence beside data files is never normal.
            let manifest = Manifest::new(pipeline);
            manifest.write(disk, folder)?;
            manifest
        }
    };
    if manifest.pipeline != pipeline {
        return Err(Error::definite(
            Code::SinkRefused,
            format!("`{}` belongs to pipeline `{}`, not to `{pipeline}`", folder.display(), manifest.pipeline),
        )
        .hint("give each pipeline a folder of its own in `sink: {files: {path: …}}`"));
    }
    for (topic, files) in &manifest.topics {
        recover_topic(disk, &topic_folder(folder, topic)?, files)?;
    }
    Ok(manifest)
}

/// The names in a folder that stand for data files.
pub fn data_files(folder: &Path) -> Result<Vec<DataFile>> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => damaged(format!("the topic's folder `{}` is missing", folder.display())),
        _ => failure(Code::Io, "list", folder, &error),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        files.extend(name.to_str().and_then(data_file));
    }
    Ok(files)
}

fn folder_with_data(folder: &Path) -> Result<Option<String>> {
    let unreadable = |error: io::Error| failure(Code::Io, "list", folder, &error);
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().map_err(unreadable)?.is_dir() && !data_files(&entry.path())?.is_empty() {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn recover_topic(disk: &Disk, folder: &Path, topic: &TopicFiles) -> Result<()> {
    let (mut files, mut bytes, mut open_exists) = (0, 0, false);
    let (mut to_rename, mut to_remove) = (Vec::new(), Vec::new());
    for file in data_files(folder)? {
        let mut count = |path: &Path| {
            files += 1;
            bytes += fs::metadata(path).map_err(|error| failure(Code::Io, "read", path, &error))?.len();
            Ok::<(), Error>(())
        };
        match file {
            DataFile::Closed(number) if number > topic.closed.files => {
                let path = folder.join(closed_name(number));
                return Err(damaged(format!("the manifest does not know the closed file `{}`", path.display())));
            }
            DataFile::Closed(number) => count(&folder.join(closed_name(number)))?,
            DataFile::Open(number) if number <= topic.closed.files => {
                count(&folder.join(open_name(number)))?;
                to_rename.push(number);
            }
            DataFile::Open(number) if number == topic.open_number() && topic.open.is_some() => open_exists = true,
            DataFile::Open(number) => to_remove.push(folder.join(open_name(number))),
        }
    }
    if (files, bytes) != (topic.closed.files, topic.closed.bytes) {
        return Err(damaged(format!(
            "`{}` has {files} closed files with {bytes} bytes, the manifest says {} with {}",
            folder.display(),
            topic.closed.files,
            topic.closed.bytes
        )));
    }
    if let Some(open) = &topic.open {
        cut_open(disk, &folder.join(open_name(topic.open_number())), open.bytes, &open.sync, open_exists)?;
    }
    for path in to_remove {
        disk.remove(&path).map_err(|error| failure(Code::SinkRefused, "remove", &path, &error))?;
    }
    to_rename.into_iter().try_for_each(|number| rename_closed(disk, folder, number))
}

/// Gives a closed file its final name. Until then its open name serves, so a failure costs nothing but the name.
pub fn rename_closed(disk: &Disk, folder: &Path, number: u64) -> Result<()> {
    let from = folder.join(open_name(number));
    disk.rename(&from, &folder.join(closed_name(number)))
        .map_err(|error| failure(Code::SinkRefused, "rename", &from, &error))
}

/// Cuts the open file to its committed length, after a look at whether it is the file that was committed.
fn cut_open(disk: &Disk, path: &Path, committed: u64, sync: &[u8; 16], exists: bool) -> Result<()> {
    if !exists {
        return Err(damaged(format!("the open file `{}` is missing", path.display())));
    }
    let unreadable = |error: io::Error| failure(Code::Io, "read", path, &error);
    let file = File::open(path).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    if len < committed {
        return Err(damaged(format!("`{}` has {len} bytes, {committed} are committed", path.display())));
    }
    let mut end = [0; 16];
    let read = committed.checked_sub(16).map(|at| file.read_exact_at(&mut end, at));
    if !matches!(read, Some(Ok(()))) || end != *sync {
        return Err(damaged(format!("`{}` does not end a block at its committed byte {committed}", path.display())));
    }
    if len > committed {
        disk.truncate(path, committed).map_err(|error| failure(Code::SinkRefused, "truncate", path, &error))?;
    }
    Ok(())
}
