//! The manifest of a folder of file topics: what exists, up to which byte, and the checkpoint that belongs to it.
//!
//! It is replaced whole by a rename, so records and checkpoint become visible in one step. What it does not name does
//! not exist: bytes past a committed length, files past the open one.
//!
//! A topic's files are numbered from 1 without a gap: `0000000001.avro`, … are closed and never change again, the next
//! is open. So a count and a sum stand for the list of closed files, and the manifest stays small.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::sink::StateEntries;
use crate::sink::disk::{Disk, failure, is_whole, seal};
use crate::sink::ocf::SyncMarker;

/// The manifest's name in the folder.
pub const MANIFEST: &str = "manifest.json";
/// The file whose lock makes a writer the only one.
pub const LOCK: &str = "lock";
/// The embedded registry's name in the folder.
pub const REGISTRY: &str = "registry.json";

/// The form that this program writes. Raised when an older one could misread a newer.
const FORMAT_VERSION: u32 = 1;

/// Most bytes of a manifest that are read (1 GiB); a larger one is damage, not data.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// All that is committed in one folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format_version: u32,
    /// The pipeline that owns the folder.
    pub pipeline: String,
    /// Raised by one with every commit.
    pub generation: u64,
    /// By topic name.
    pub topics: BTreeMap<String, TopicFiles>,
    /// The checkpoint: entries as text, which keeps their bytes as they were sealed.
    #[serde(default)]
    pub state: BTreeMap<String, String>,
}

/// The files of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicFiles {
    /// Files that never change again, numbered from 1.
    pub closed: Closed,
    /// The file that is written, numbered after them; absent until the next record after a roll.
    pub open: Option<OpenFile>,
}

impl TopicFiles {
    /// Number of the open file, or of the next one.
    pub fn open_number(&self) -> u64 {
        self.closed.files + 1
    }

    /// Committed records.
    pub fn records(&self) -> u64 {
        self.closed.records + self.open.as_ref().map_or(0, |open| open.records)
    }

    /// Counts the open file among the closed ones. Returns its number.
    pub fn close(&mut self) -> Option<u64> {
        let open = self.open.take()?;
        self.closed.files += 1;
        self.closed.bytes += open.bytes;
        self.closed.records += open.records;
        Some(self.closed.files)
    }
}

/// The closed files of a topic, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// How many there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their records.
    pub records: u64,
}

/// The file that a topic's next records go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// Committed length, header included.
    pub bytes: u64,
    /// Committed records.
    pub records: u64,
    /// When it was made, in seconds since 1970.
    pub opened: u64,
    /// Id of the key schema that the header holds; absent for topics without key.
    pub key_id: Option<u32>,
    /// Id of the value schema that the header holds.
    pub value_id: u32,
    /// The header's sync marker.
    #[serde(with = "marker")]
    pub sync: SyncMarker,
}

/// A sync marker as one hexadecimal number.
mod marker {
    use super::SyncMarker;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes it.
    pub fn serialize<S: Serializer>(sync: &SyncMarker, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(*sync)))
    }

    /// Reads it back.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SyncMarker, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(|_| D::Error::custom("not a sync marker"))?;
        Ok(number.to_be_bytes())
    }
}

/// The topics of a manifest, for readers: the checkpoint is not theirs.
#[derive(Clone, Debug, Deserialize)]
pub struct Listing {
    format_version: u32,
    /// By topic name.
    pub topics: BTreeMap<String, TopicFiles>,
}

impl Manifest {
    /// A folder without topics and without a checkpoint.
    pub fn new(pipeline: &str) -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            pipeline: pipeline.into(),
            generation: 0,
            topics: BTreeMap::new(),
            state: BTreeMap::new(),
        }
    }

    /// Reads the manifest of `folder`; `None` if there is none. Damage is a definite error.
    pub fn read(folder: &Path) -> Result<Option<Manifest>> {
        let path = folder.join(MANIFEST);
        let Some(text) = read_text(&path)? else { return Ok(None) };
        let manifest: Manifest = parse(&path, &text)?;
        check_version(&path, manifest.format_version)?;
        Ok(Some(manifest))
    }

    /// Replaces the manifest of `folder`, durably.
    pub fn write(&self, disk: &Disk, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec(self).map_err(|error| {
            Error::definite(Code::Internal, format!("the manifest cannot be written as JSON: {error}"))
        })?;
        disk.replace(&path, &seal(&text)).map_err(|error| failure(Code::SinkRefused, "replace", &path, &error))
    }

    /// The checkpoint as the sink's caller knows it.
    pub fn entries(&self) -> StateEntries {
        self.state.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect()
    }
}

impl Listing {
    /// Reads the topics of `folder`; `None` if there is no manifest. Damage is a definite error.
    pub fn read(folder: &Path) -> Result<Option<Listing>> {
        let path = folder.join(MANIFEST);
        let Some(text) = read_text(&path)? else { return Ok(None) };
        let listing: Listing = parse(&path, &text)?;
        check_version(&path, listing.format_version)?;
        Ok(Some(listing))
    }
}

fn read_text(path: &Path) -> Result<Option<Vec<u8>>> {
    let unreadable = |error: &io::Error| failure(Code::Io, "read", path, error);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
        Ok(about) if about.len() > MANIFEST_BYTES_MAX => {
            return Err(damaged(format!(
                "`{}` has {} bytes, the most is {MANIFEST_BYTES_MAX}",
                path.display(),
                about.len()
            )));
        }
        Ok(_) => {}
    }
    fs::read(path).map(Some).map_err(|error| unreadable(&error))
}

fn parse<'a, T: Deserialize<'a>>(path: &Path, text: &'a [u8]) -> Result<T> {
    if !is_whole(text) {
        return Err(damaged(format!("`{}` does not match its checksum", path.display())));
    }
    serde_json::from_slice(text)
        .map_err(|error| damaged(format!("`{}` has its checksum but not its form: {error}", path.display())))
}

fn check_version(path: &Path, version: u32) -> Result<()> {
    if version == FORMAT_VERSION {
        return Ok(());
    }
    Err(Error::definite(
        Code::StateInvalid,
        format!("`{}` has format {version}, this gimbal knows {FORMAT_VERSION}", path.display()),
    )
    .hint("run the gimbal that wrote it, or a newer one"))
}

/// Damage of committed files: what the manifest says and what is there differ.
pub fn damaged(diagnosis: impl Into<String>) -> Error {
    Error::definite(Code::SinkDamaged, diagnosis).hint(
        "restore the whole folder from a backup, or move it away and start anew: the first start publishes a snapshot",
    )
}

/// The folder of a topic. Fails for names that are no topic names, so that no name leads out of `folder`.
pub fn topic_folder(folder: &Path, topic: &str) -> Result<PathBuf> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let own = [MANIFEST, REGISTRY, LOCK].iter().any(|own| topic == *own || topic == format!("{own}.new"));
    if topic.is_empty()
        || topic.len() > TOPIC_LEN_MAX
        || !topic.chars().all(legal)
        || matches!(topic, "." | "..")
        || own
    {
        return Err(Error::definite(Code::SinkRefused, format!("`{}` cannot be a topic's name", topic.escape_debug()))
            .hint(
                "use 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`, as Kafka does, and no name of gimbal's own files",
            ));
    }
    Ok(folder.join(topic))
}

/// Most bytes in a topic's name: Kafka's limit.
const TOPIC_LEN_MAX: usize = 249;

/// Name of a file that is written.
pub fn open_name(number: u64) -> String {
    format!("{number:010}.avro.open")
}

/// Name of a file that never changes again.
pub fn closed_name(number: u64) -> String {
    format!("{number:010}.avro")
}

/// A data file by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFile {
    /// Rolled.
    Closed(u64),
    /// Written, or about to be renamed.
    Open(u64),
}

/// What a name in a topic's folder stands for; `None` for what is not ours.
pub fn data_file(name: &str) -> Option<DataFile> {
    let (digits, open) = match name.strip_suffix(".avro.open") {
        Some(digits) => (digits, true),
        None => (name.strip_suffix(".avro")?, false),
    };
    let number: u64 = digits.parse().ok()?;
    let (file, canonical) = match open {
        true => (DataFile::Open(number), open_name(number)),
        false => (DataFile::Closed(number), closed_name(number)),
    };
    (canonical == name).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let mut manifest = Manifest::new("shop");
        let open = OpenFile {
            bytes: 10,
            records: 2,
            opened: 5,
            key_id: Some(1),
            value_id: 2,
            sync: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255],
        };
        manifest.topics.insert("a".into(), TopicFiles { open: Some(open), ..TopicFiles::default() });
        manifest.state.insert("position".into(), "{\"lsn\":\"0/1\"}".into());
        manifest
    }

    #[test]
    fn a_manifest_reads_back_and_a_flipped_byte_is_damage_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), None);
        example().write(&Disk::default(), folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), Some(example()));
        assert_eq!(Listing::read(folder.path()).unwrap().unwrap().topics, example().topics);
        let path = folder.path().join(MANIFEST);
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut text = whole.clone();
            text[i] ^= 0x10;
            fs::write(&path, &text).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err();
            assert_eq!(error.code(), Code::SinkDamaged, "byte {i}");
            assert!(error.hint_text().is_some());
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        Manifest { format_version: 2, ..example() }.write(&Disk::default(), folder.path()).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err();
        assert_eq!((error.code(), error.diagnosis().contains("format 2")), (Code::StateInvalid, true));
    }

    #[test]
    fn no_topic_name_leads_out_of_the_folder() {
        let folder = Path::new("topics");
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc",
            "a\0b",
            "é",
            "manifest.json",
            "manifest.json.new",
            "lock",
            "registry.json",
        ] {
            assert!(topic_folder(folder, name).is_err(), "{name:?}");
        }
        assert!(topic_folder(folder, &"a".repeat(250)).is_err());
        for name in ["shop.orders.v1", "a", "...", "x-Y_9"] {
            assert_eq!(topic_folder(folder, name).unwrap(), folder.join(name));
        }
    }

    #[test]
    fn only_canonical_names_are_data_files() {
        assert_eq!(data_file("0000000012.avro"), Some(DataFile::Closed(12)));
        assert_eq!(data_file("0000000012.avro.open"), Some(DataFile::Open(12)));
        assert_eq!(data_file(&closed_name(u64::MAX)), Some(DataFile::Closed(u64::MAX)));
        for name in ["12.avro", "+000000012.avro", "0000000012.avro.new", "0000000012", "x.avro"] {
            assert_eq!(data_file(name), None, "{name}");
        }
    }
}
