//! The embedded registry: schema ids and versions in one file beside the file topics.
//!
//! Compatibility is the caller's business (FULL_TRANSITIVE is checked before a schema gets here); this one only knows
//! whether two schemas are the same: as JSON, not as text.

use std::collections::BTreeMap;
use std::fs;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::error::{Code, Error, Result};
use crate::registry::{Answer, Registry};
use crate::sink::disk::{Disk, failure, is_whole, seal};
use crate::sink::manifest::REGISTRY;

/// The form that this program writes. Raised when an older one could misread a newer.
const FORMAT_VERSION: u32 = 1;

/// Gives out ids from 1 and versions from 1 per subject, durable before they are returned.
///
/// One process writes it: the one that holds the folder (see [`crate::sink::files::FilesSink::open`]).
pub struct EmbeddedRegistry {
    path: PathBuf,
    disk: Disk,
    content: Mutex<Content>,
}

/// The file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Content {
    format_version: u32,
    /// Schema texts; the id is the place, from 1.
    schemas: Vec<String>,
    /// Ids by subject; the version is the place, from 1.
    subjects: BTreeMap<String, Vec<u32>>,
}

/// One version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectVersion {
    /// The subject.
    pub subject: String,
    /// From 1.
    pub version: u32,
    /// The schema's id.
    pub id: u32,
    /// The schema's JSON, as it was first registered.
    pub schema: String,
}

/// Which version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Latest,
    /// This one.
    Number(u32),
}

impl EmbeddedRegistry {
    /// Reads the registry in `folder` (the file sink's), or begins an empty one, which is written with its first schema.
    ///
    /// Fails with `SinkDamaged` if the file does not match its checksum.
    pub fn open(folder: &Path) -> Result<EmbeddedRegistry> {
        EmbeddedRegistry::open_on(Disk::default(), folder)
    }

    pub(super) fn open_on(disk: Disk, folder: &Path) -> Result<EmbeddedRegistry> {
        let path = folder.join(REGISTRY);
        let content = match fs::read(&path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Content { format_version: FORMAT_VERSION, schemas: Vec::new(), subjects: BTreeMap::new() }
            }
            Err(error) => return Err(failure(Code::Io, "read", &path, &error)),
        };
        Ok(EmbeddedRegistry { path, disk, content: Mutex::new(content) })
    }

    /// The schema of an id.
    pub fn schema_by_id(&self, id: u32) -> Option<String> {
        self.content().schema(id).map(str::to_owned)
    }

    /// All subjects, sorted.
    pub fn subjects(&self) -> Vec<String> {
        self.content().subjects.keys().cloned().collect()
    }

    /// The versions of a subject; `None` if it is unknown.
    pub fn versions(&self, subject: &str) -> Option<Vec<u32>> {
        self.content().subjects.get(subject).map(|ids| (1..=ids.len() as u32).collect())
    }

    /// One version of a subject; `None` if the subject or the version is unknown.
    pub fn version(&self, subject: &str, which: Which) -> Option<SubjectVersion> {
        let content = self.content();
        let ids = content.subjects.get(subject)?;
        let version = match which {
            Which::Latest => ids.len(),
            Which::Number(number) => number as usize,
        };
        let id = *ids.get(version.checked_sub(1)?)?;
        let schema = content.schema(id)?.to_owned();
        Some(SubjectVersion { subject: subject.to_owned(), version: version as u32, id, schema })
    }

    /// Every use of a schema: subject and version.
    pub fn uses(&self, id: u32) -> Vec<(String, u32)> {
        let content = self.content();
        let versions = content.subjects.iter().flat_map(|(subject, ids)| {
            ids.iter()
                .zip(1u32..)
                .filter(move |(used, _)| **used == id)
                .map(move |(_, version)| (subject.clone(), version))
        });
        versions.collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // The content is replaced whole or not at all, so a panic elsewhere leaves nothing half done.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register_now(&self, subject: &str, schema: &str) -> Result<u32> {
        let refused =
            |why: String| Error::definite(Code::SchemaInvalid, format!("the schema for subject `{subject}` {why}"));
        let json: Json = serde_json::from_str(schema).map_err(|error| refused(format!("is not JSON: {error}")))?;
        apache_avro::Schema::parse_str(schema).map_err(|error| refused(format!("is not Avro: {error}")))?;
        let mut content = self.content();
        let mut next = content.clone();
        let id = match content.id_of(&json) {
            Some(id) => id,
            None => {
                next.schemas.push(schema.to_owned());
                next.schemas.len() as u32
            }
        };
        let versions = next.subjects.entry(subject.to_owned()).or_default();
        if versions.contains(&id) {
            return Ok(id);
        }
        versions.push(id);
        let text = serde_json::to_vec(&next).map_err(|error| {
            Error::definite(Code::Internal, format!("the registry cannot be written as JSON: {error}"))
        })?;
        // Durable before anyone learns the id: a record with an id that is later given to another schema is unreadable.
        let written = self.disk.replace(&self.path, &seal(&text));
        written.map_err(|error| failure(Code::RegistryRefused, "replace", &self.path, &error))?;
        *content = next;
        Ok(id)
    }
}

impl Content {
    fn schema(&self, id: u32) -> Option<&str> {
        self.schemas.get((id as usize).checked_sub(1)?).map(String::as_str)
    }

    fn id_of(&self, schema: &Json) -> Option<u32> {
        let same = |text: &String| serde_json::from_str::<Json>(text).is_ok_and(|known| known == *schema);
        self.schemas.iter().position(same).map(|place| place as u32 + 1)
    }
}

impl Registry for EmbeddedRegistry {
    fn register<'a>(&'a self, subject: &'a str, schema: &'a str) -> Answer<'a, u32> {
        Box::pin(ready(self.register_now(subject, schema)))
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Content> {
    let damaged = |what: String| {
        Error::definite(Code::SinkDamaged, format!("`{}` {what}", path.display()))
            .hint("restore it from a backup: the ids in the topics' records have their schemas from it")
    };
    if !is_whole(text) {
        return Err(damaged("does not match its checksum".into()));
    }
    let content: Content =
        serde_json::from_slice(text).map_err(|error| damaged(format!("has its checksum but not its form: {error}")))?;
    match content.format_version {
        FORMAT_VERSION => Ok(content),
        version => Err(Error::definite(
            Code::StateInvalid,
            format!("`{}` has format {version}, this gimbal knows {FORMAT_VERSION}", path.display()),
        )
        .hint("run the gimbal that wrote it, or a newer one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::disk::{Fault, Probe, Step};
    use std::sync::Arc;

    const A: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#;
    const A_SPACED: &str = r#"{ "name": "A", "type": "record", "fields": [ {"type": "int", "name": "x"} ] }"#;
    const B: &str = r#"{"type":"record","name":"B","fields":[]}"#;

    #[test]
    fn ids_and_versions_count_from_one_and_the_same_schema_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let registry = EmbeddedRegistry::open(folder.path()).unwrap();
        assert_eq!(registry.register_now("t-value", A).unwrap(), 1);
        assert_eq!(registry.register_now("t-value", B).unwrap(), 2);
        assert_eq!(registry.register_now("t-value", A_SPACED).unwrap(), 1, "the same JSON in another text");
        assert_eq!(registry.register_now("u-value", A).unwrap(), 1, "ids belong to schemas, not to subjects");
        for registry in [&registry, &EmbeddedRegistry::open(folder.path()).unwrap()] {
            assert_eq!(registry.subjects(), ["t-value", "u-value"]);
            assert_eq!(registry.versions("t-value"), Some(vec![1, 2]));
            assert_eq!(registry.versions("v"), None);
            let latest = registry.version("t-value", Which::Latest).unwrap();
            assert_eq!((latest.version, latest.id, latest.schema.as_str()), (2, 2, B));
            assert_eq!(registry.version("t-value", Which::Number(1)).unwrap().schema, A);
            assert_eq!(registry.version("t-value", Which::Number(0)), None);
            assert_eq!(registry.version("t-value", Which::Number(3)), None);
            assert_eq!((registry.schema_by_id(1).as_deref(), registry.schema_by_id(3)), (Some(A), None));
            assert_eq!(registry.schema_by_id(0), None);
            assert_eq!(registry.uses(1), [("t-value".to_owned(), 1), ("u-value".to_owned(), 1)]);
        }
    }

    #[test]
    fn what_is_not_avro_gets_no_id() {
        let folder = tempfile::tempdir().unwrap();
        let registry = EmbeddedRegistry::open(folder.path()).unwrap();
        for schema in ["{", r#"{"type":"nothing"}"#] {
            assert_eq!(registry.register_now("t", schema).unwrap_err().code(), Code::SchemaInvalid);
        }
        assert!(registry.subjects().is_empty());
    }

    #[test]
    fn damage_is_told_and_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        EmbeddedRegistry::open(folder.path()).unwrap().register_now("t", A).unwrap();
        let path = folder.path().join(REGISTRY);
        let mut text = fs::read(&path).unwrap();
        let last = text.len() - 5;
        text[last] ^= 1;
        fs::write(&path, &text).unwrap();
        let error = EmbeddedRegistry::open(folder.path()).err().unwrap();
        assert_eq!(error.code(), Code::SinkDamaged);
        assert!(error.hint_text().is_some());
    }

    /// Fails the step with this number and all after it.
    struct FailFrom(std::sync::atomic::AtomicUsize);

    impl Probe for FailFrom {
        fn before(&self, _: Step, _: &Path) -> std::result::Result<(), Fault> {
            use std::sync::atomic::Ordering::Relaxed;
            match self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
                Ok(_) => Ok(()),
                Err(_) => Err(Fault { written: 3, error: io::Error::from(io::ErrorKind::StorageFull) }),
            }
        }

        fn after(&self, _: Step, _: &Path) {}
    }

    #[test]
    fn no_id_is_given_before_it_is_durable() {
        for steps in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            EmbeddedRegistry::open(folder.path()).unwrap().register_now("t", A).unwrap();
            let disk = Disk::probed(Arc::new(FailFrom(steps.into())));
            let registry = EmbeddedRegistry::open_on(disk, folder.path()).unwrap();
            let error = registry.register_now("t", B).unwrap_err();
            assert_eq!((error.code(), error.kind()), (Code::RegistryRefused, crate::error::Kind::Definite));
            assert_eq!(registry.schema_by_id(2), None, "after {steps} steps");
            let again = EmbeddedRegistry::open(folder.path()).unwrap();
            assert_eq!(again.schema_by_id(1).as_deref(), Some(A), "after {steps} steps");
            assert_eq!(again.register_now("t", B).unwrap(), 2, "after {steps} steps");
        }
    }
}
