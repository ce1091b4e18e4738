//! The few file operations that durability rests on, and the form of the small JSON files that are replaced whole.
//!
//! Every operation passes a [`Probe`], so that tests can fail any of them, cut a write short, or crash between two.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Code, Error};
use crate::killpoint::{self, Point};

/// One kind of file operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a folder.
    CreateDir,
    /// Make an empty file.
    Create,
    /// Write bytes.
    Write,
    /// Cut a file to a length.
    Truncate,
    /// Make a file's bytes durable.
    SyncFile,
    /// Make a folder's entries durable.
    SyncDir,
    /// Rename a file; the path is the new one.
    Rename,
    /// Remove a file.
    Remove,
}

/// How a probe makes an operation fail.
#[derive(Debug)]
pub struct Fault {
    /// Of a write: the bytes that still reach the file.
    pub written: usize,
    /// What the operation reports.
    pub error: io::Error,
}

/// Sees every file operation before and after it happens.
pub trait Probe: Send + Sync {
    /// Lets the operation happen, or makes it fail.
    fn before(&self, step: Step, path: &Path) -> Result<(), Fault>;
    /// Told when the operation has succeeded.
    fn after(&self, step: Step, path: &Path);
}

/// The operations. Paths go along with open files only to be reported.
#[derive(Clone, Default)]
pub struct Disk {
    probe: Option<Arc<dyn Probe>>,
}

impl Disk {
    /// A disk whose operations a probe watches.
    pub fn probed(probe: Arc<dyn Probe>) -> Disk {
        Disk { probe: Some(probe) }
    }

    fn run<T>(&self, step: Step, path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if let Some(probe) = &self.probe {
            probe.before(step, path).map_err(|fault| fault.error)?;
        }
        let done = act()?;
        if let Some(probe) = &self.probe {
            probe.after(step, path);
        }
        Ok(done)
    }

    /// Makes a folder and what is missing above it; makes the entry in its parent durable.
    pub fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.run(Step::CreateDir, path, || fs::create_dir_all(path))?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => self.sync_dir(Path::new(".")),
        }
    }

    /// Makes an empty file, or empties the one that is there.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        self.run(Step::Create, path, || OpenOptions::new().write(true).create(true).truncate(true).open(path))
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(probe) = &self.probe
            && let Err(fault) = probe.before(Step::Write, path)
        {
            file.write_all_at(bytes.get(..fault.written.min(bytes.len())).unwrap_or_default(), offset)?;
            return Err(fault.error);
        }
        file.write_all_at(bytes, offset)?;
        if let Some(probe) = &self.probe {
            probe.after(Step::Write, path);
        }
        Ok(())
    }

    /// Cuts a file to `len` bytes.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.run(Step::Truncate, path, || OpenOptions::new().write(true).open(path)?.set_len(len))
    }

    /// Makes a file's bytes and length durable.
    pub fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.run(Step::SyncFile, path, || file.sync_data())
    }

    /// Makes a folder's entries durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Step::SyncDir, path, || File::open(path)?.sync_all())
    }

    /// Renames a file within one file system, replacing what is there.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Step::Rename, to, || fs::rename(from, to))
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.run(Step::Remove, path, || fs::remove_file(path))
    }

    /// Replaces a small file: after a crash it holds the old or the new bytes, whole; on return the new ones, durably.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = beside(path);
        let file = self.create(&new)?;
        self.write_at(&file, &new, bytes, 0)?;
        self.sync_file(&file, &new)?;
        drop(file);
        killpoint::pass(Point::FileReplacing);
        self.rename(&new, path)?;
        killpoint::pass(Point::FileReplaced);
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

/// The name under which the next content of `path` is written: `<path>.new`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// What failed on a file, as a definite error with the next step.
pub fn failure(code: Code, action: &str, path: &Path, error: &io::Error) -> Error {
    let failed = Error::definite(code, format!("cannot {action} `{}`: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            failed.hint("free space on this disk, then start again: all that was committed is intact")
        }
        io::ErrorKind::PermissionDenied => failed.hint("give the user that runs gimbal the right to write there"),
        io::ErrorKind::ReadOnlyFilesystem => failed.hint("mount the file system for writing, or name another folder"),
        _ => failed.hint("check the disk, then start again: all that was committed is intact"),
    }
}

const SEAL_START: &str = "{\"crc32\":\"";
const SEAL_END: &str = "\",";
const SEAL_LEN: usize = SEAL_START.len() + 8 + SEAL_END.len();

/// Puts a CRC-32 of the remaining text in front of a JSON object's members. The result is a JSON object again.
///
/// `object` is the text of an object with at least one member, without white space in front.
pub fn seal(object: &[u8]) -> Vec<u8> {
    let rest = object.get(1..).unwrap_or_default();
    let mut sealed = Vec::with_capacity(SEAL_LEN + rest.len());
    sealed.extend_from_slice(SEAL_START.as_bytes());
    sealed.extend_from_slice(format!("{:08x}", crc32fast::hash(rest)).as_bytes());
    sealed.extend_from_slice(SEAL_END.as_bytes());
    sealed.extend_from_slice(rest);
    sealed
}

/// True if a sealed text is whole: not one bit of it differs from what [`seal`] returned.
pub fn is_whole(sealed: &[u8]) -> bool {
    let Some((head, rest)) = sealed.split_at_checked(SEAL_LEN) else { return false };
    head == format!("{SEAL_START}{:08x}{SEAL_END}", crc32fast::hash(rest)).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_object_is_json_and_any_flipped_bit_shows() {
        let sealed = seal(b"{\"a\":1,\"b\":[2,3]}");
        assert!(is_whole(&sealed));
        let json: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
        assert_eq!((&json["a"], &json["b"][1]), (&1.into(), &3.into()));
        for i in 0..sealed.len() {
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[i] ^= 1 << bit;
                assert!(!is_whole(&damaged), "byte {i} bit {bit}");
            }
        }
        assert!(!is_whole(&sealed[..sealed.len() - 1]) && !is_whole(b"") && !is_whole(b"{}"));
    }
}
