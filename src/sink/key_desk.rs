//! Keeps what was read of a topic's keys from one page to the next, one repair at a time a folder under `state`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Config, SinkConfig};
use crate::engine::{JobId, KeyPage};
use crate::error::Result;
use crate::sink::keys::key_reader;
use crate::sink::spill::{self, Spill};
use crate::state::KeyPlace;

/// A page that is asked for; see [`crate::engine::Request::Keys`].
#[derive(Clone, Debug)]
pub struct WantedKeys {
    /// The copy.
    pub job: JobId,
    /// Its pass.
    pub pass: u32,
    /// The topic's full name.
    pub topic: String,
    /// The key schema's id.
    pub key_id: u32,
    /// Only keys behind this place.
    pub after: Option<KeyPlace>,
    /// Most keys.
    pub keys_max: usize,
    /// Most bytes.
    pub bytes_max: usize,
}

/// Reads keys for repairs. Cheap to clone; its calls block.
#[derive(Clone)]
pub struct KeyDesk(Arc<Inner>);

/// By copy: its pass, and what was read in it.
type Spills = HashMap<JobId, (u32, Arc<Mutex<Spill>>)>;

struct Inner {
    sink: SinkConfig,
    folders: Arc<Folders>,
    spills: Mutex<Spills>,
}

/// Gives each spill a folder of its own, as long as the process lives.
struct Folders {
    folder: PathBuf,
    /// Given out so far; absent before what a crash left was removed. Not before the first use: the folder may be another
    /// daemon's until the slot is ours.
    given: Mutex<Option<u64>>,
}

impl Folders {
    fn next(&self) -> Result<PathBuf> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.is_none() {
            spill::remove(&self.folder)?;
        }
        let number = given.map_or(1, |given| given + 1);
        *given = Some(number);
        Ok(self.folder.join(number.to_string()))
    }
}

impl KeyDesk {
    /// A desk for a config's sink and state folder.
    pub fn new(config: &Config) -> KeyDesk {
        let folders = Arc::new(Folders { folder: config.state.join("repair"), given: Mutex::default() });
        KeyDesk(Arc::new(Inner { sink: config.sink.clone(), folders, spills: Mutex::default() }))
    }

    /// A desk for a new session, which knows nothing of what the one before read.
    pub fn session(&self) -> KeyDesk {
        let Inner { sink, folders, .. } = &*self.0;
        KeyDesk(Arc::new(Inner { sink: sink.clone(), folders: folders.clone(), spills: Mutex::default() }))
    }

    /// The next page. The first of a pass reads the whole topic.
    pub fn page(&self, wanted: &WantedKeys) -> Result<KeyPage> {
        let known = {
            let spills = self.spills();
            let found = spills.get(&wanted.job).filter(|(pass, _)| *pass == wanted.pass);
            found.map(|(_, spill)| spill.clone())
        };
        let spill = match known {
            Some(spill) => spill,
            None => {
                // The old one's folder goes before the new one's is made.
                drop(self.spills().remove(&wanted.job));
                let folder = self.0.folders.next()?;
                let mut reader = key_reader(&self.0.sink)?;
                let read = Spill::read(&folder, reader.as_mut(), &wanted.topic, wanted.key_id, wanted.after)?;
                let spill = Arc::new(Mutex::new(read));
                self.spills().insert(wanted.job, (wanted.pass, spill.clone()));
                spill
            }
        };
        let mut spill = spill.lock().unwrap_or_else(PoisonError::into_inner);
        spill.page(wanted.after, wanted.keys_max, wanted.bytes_max)
    }

    /// The copy is done.
    pub fn end(&self, job: JobId) {
        drop(self.spills().remove(&job));
    }

    fn spills(&self) -> std::sync::MutexGuard<'_, Spills> {
        self.0.spills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
