//! A disk that crashes at a chosen operation and keeps, after a power cut, only what was synced.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::sink::disk::{Disk, Fault, Probe, Step};

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is gone; the operating system keeps every byte and every name.
    Process,
    /// The power is gone: only synced bytes and names are left.
    PowerCut,
    /// The power is gone, every name had reached the disk, and of unsynced bytes a part: zeros follow.
    TornNames,
    /// The power is gone, and all bytes had reached the disk, but no unsynced name.
    TornBytes,
}

pub const CRASHES: [Crash; 4] = [Crash::Process, Crash::PowerCut, Crash::TornNames, Crash::TornBytes];

/// Counts operations, fails all from one on, and notes what is durable.
#[derive(Default)]
pub struct Simulated {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: usize,
    /// Operations that fail: from, before, how.
    failing: Option<(usize, usize, io::ErrorKind)>,
    /// Synced content by inode.
    bytes: HashMap<u64, Vec<u8>>,
    /// Synced entries by folder: name to inode; folders count as entries of their parent.
    names: HashMap<PathBuf, BTreeMap<String, u64>>,
}

impl Probe for Simulated {
    fn before(&self, step: Step, _: &Path) -> Result<(), Fault> {
        let mut state = self.state.lock().unwrap();
        let now = state.steps;
        state.steps += 1;
        match state.failing {
            // The first write that fails still leaves a part of its bytes.
            Some((from, to, error)) if (from..to).contains(&now) => {
                Err(Fault { written: if step == Step::Write && now == from { 40 } else { 0 }, error: error.into() })
            }
            _ => Ok(()),
        }
    }

    fn after(&self, step: Step, path: &Path) {
        let mut state = self.state.lock().unwrap();
        match step {
            Step::Create => {
                state.bytes.remove(&inode(path));
            }
            Step::SyncFile => {
                state.bytes.insert(inode(path), fs::read(path).unwrap());
            }
            Step::SyncDir => {
                state.names.insert(path.to_owned(), listing(path));
            }
            Step::CreateDir | Step::Write | Step::Truncate | Step::Rename | Step::Remove => {}
        }
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn listing(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino())).collect()
}

impl Simulated {
    /// A disk on which all that is in `folder` is durable.
    pub fn on(folder: &Path) -> Arc<Simulated> {
        let simulated = Simulated::default();
        {
            let mut state = simulated.state.lock().unwrap();
            for (path, is_dir) in walk(folder) {
                if is_dir {
                    state.names.insert(path.clone(), listing(&path));
                } else {
                    state.bytes.insert(inode(&path), fs::read(&path).unwrap());
                }
            }
        }
        Arc::new(simulated)
    }

    pub fn disk(self: &Arc<Simulated>) -> Disk {
        Disk::probed(self.clone())
    }

    /// Fails operation number `step`, counted from now, and all after it.
    pub fn crash_after(&self, step: usize, error: io::ErrorKind) {
        let mut state = self.state.lock().unwrap();
        state.failing = Some((state.steps + step, usize::MAX, error));
    }

    /// Fails operation number `step`, counted from now, and no other.
    pub fn fail_once_after(&self, step: usize, error: io::ErrorKind) {
        let mut state = self.state.lock().unwrap();
        state.failing = Some((state.steps + step, state.steps + step + 1, error));
    }

    /// Lets operations succeed again.
    pub fn mend(&self) {
        self.state.lock().unwrap().failing = None;
    }

    /// Operations so far.
    pub fn steps(&self) -> usize {
        self.state.lock().unwrap().steps
    }

    /// Makes in `to` what a crash now leaves of `from`.
    pub fn survive(&self, crash: Crash, from: &Path, to: &Path) {
        let state = self.state.lock().unwrap();
        // Bytes are found by inode, because a rename that is not durable has moved the file's name only.
        let on_disk: HashMap<u64, PathBuf> =
            walk(from).into_iter().filter(|(_, is_dir)| !is_dir).map(|(path, _)| (inode(&path), path)).collect();
        let mut folders = vec![from.to_owned()];
        while let Some(folder) = folders.pop() {
            let target = to.join(folder.strip_prefix(from).unwrap());
            fs::create_dir_all(&target).unwrap();
            let names = match crash {
                Crash::Process | Crash::TornNames => listing(&folder),
                Crash::PowerCut | Crash::TornBytes => state.names.get(&folder).cloned().unwrap_or_default(),
            };
            for (name, inode) in names {
                if folder.join(&name).is_dir() {
                    folders.push(folder.join(&name));
                    continue;
                }
                let synced = state.bytes.get(&inode).cloned().unwrap_or_default();
                let current = on_disk.get(&inode).map(|path| fs::read(path).unwrap());
                let bytes = match (crash, current) {
                    (Crash::Process | Crash::TornBytes, Some(current)) => current,
                    (Crash::TornNames, Some(current)) => {
                        let mut torn = synced;
                        let more = current.get(torn.len()..).unwrap_or_default();
                        torn.extend(
                            more.iter().enumerate().map(|(i, byte)| if i < more.len() / 2 { *byte } else { 0 }),
                        );
                        torn
                    }
                    _ => synced,
                };
                fs::write(target.join(&name), bytes).unwrap();
            }
        }
    }
}

fn walk(folder: &Path) -> Vec<(PathBuf, bool)> {
    let mut found = vec![(folder.to_owned(), true)];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push((path, false));
        }
    }
    found
}
