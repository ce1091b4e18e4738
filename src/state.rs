//! The checkpoint: small JSON entries by key, each versioned and checksummed, committed together with the records.
//!
//! Keys: `position` · `contract/<name>/<major>` · `dead/<name>/<major>/<hash of a key>` · `table/<oid>` and its history
//! below · `copy/<job>` · `seal`. An entry reads
//! `{"v":1,"crc":…,"data":{…}}`; `crc` is CRC-32 over the text of `data`. Later versions add keys, and never change one.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;
use crate::position::Position;
use crate::table::{QualifiedName, RelationId};

/// The format that this program writes and the newest that it reads.
const FORMAT: u64 = 1;

/// The key of the one entry that every commit writes.
pub const POSITION_KEY: &str = "position";

/// How far the pipeline is on its way into life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The slot is about to be created; nothing was acknowledged, so a slot of this name may be dropped.
    Creating {
        /// Tells this attempt from others.
        nonce: String,
    },
    /// Everything up to the position is durable.
    Started,
}

/// The last heartbeat that passed by in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Where its message stands in the log.
    pub lsn: Lsn,
    /// Its content.
    pub nonce: String,
}

/// A transaction by which a history is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Start of its commit record.
    pub commit_lsn: Lsn,
    /// Commit time, microseconds since 1970: another history can have a commit at the same place, not in the same instant.
    pub timestamp: i64,
}

/// The entry `position`: everything up to here is published, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionEntry {
    /// Counts commits, so that two checkpoints never look alike.
    pub seq: u64,
    /// Creating or started.
    pub phase: Phase,
    /// Raised by `adopt` and by a repair after a refused connect.
    pub epoch: u16,
    /// From IDENTIFY_SYSTEM.
    pub system_id: u64,
    /// From IDENTIFY_SYSTEM.
    pub timeline: u32,
    /// Start of the commit record of the last transaction that was delivered, wholly or in part.
    pub commit_lsn: Lsn,
    /// The next ordinal within it: row events below are published. Snapshot rows continue it.
    pub next_ordinal: u32,
    /// True if that transaction was delivered to its end.
    pub complete: bool,
    /// End of the last transaction that was delivered to its end.
    pub end_lsn: Lsn,
    /// The last heartbeat within what was delivered.
    pub anchor: Option<Anchor>,
    /// End of the last commit before the anchor: the most that may be acknowledged.
    pub ack: Lsn,
    /// The last transaction behind the anchor with row events that count: a restart is sent it again for certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Witness>,
}

impl PositionEntry {
    /// A server that has what was published has its log flushed at least up to here.
    pub fn reach(&self) -> Lsn {
        // Of a transaction that is published in part the commit record was there, and its end is not known yet.
        if self.complete { self.end_lsn } else { self.end_lsn.max(Lsn(self.commit_lsn.0.saturating_add(1))) }
    }

    /// The position of the next row event that would continue the last transaction.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, commit_lsn: self.commit_lsn, ordinal: self.next_ordinal }
    }
}

/// A field's column, bound once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The text that was bound; it binds anew only when this text changes.
    pub from: String,
    /// The column.
    pub attnum: i16,
    /// Its type when it was bound.
    pub type_oid: u32,
}

/// Where a contract version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It waits for transactions that were open when it came; nothing is published yet.
    Activating,
    /// Its first rows are still to be copied.
    Snapshotting,
    /// The topic shows the table.
    Live {
        /// From here on.
        since: Position,
    },
    /// It is not published any more; its topic lacks what happened since.
    Ended {
        /// From here on.
        since: Position,
    },
    /// A promise cannot be kept: its row events are sealed and go to its parked topic.
    Parked {
        /// From here on.
        since: Position,
        /// True if the topic showed the table before.
        copied: bool,
    },
}

/// Why a contract version is parked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Such as `E0201`.
    pub code: String,
    /// What is wrong, never with a row's value.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The schema field, where it is about one.
    pub field: Option<String>,
    /// Commit time of the change that it was parked at, microseconds since 1970; absent where nothing was committed yet.
    pub starts_at: Option<i64>,
    /// Records in the parked topic since then.
    pub records: u64,
}

/// From when to when a contract version had keys in its dead set, most recently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadSpan {
    /// Commit time of the first dead letter, microseconds since 1970.
    pub starts_at: i64,
    /// Its position.
    pub pos: Position,
    /// Commit time of the change after which every key was good again, and its position.
    pub ended: Option<(i64, Position)>,
}

/// A schema id with the schema that it stands for, so that a registry that is down does not stop a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedId {
    /// The registry's id.
    pub id: u32,
    /// CRC-32 and length of the schema's JSON text.
    pub fingerprint: String,
}

/// The fingerprint under which an id is cached.
pub fn fingerprint(schema_json: &str) -> String {
    format!("{:08x}-{}", crc32fast::hash(schema_json.as_bytes()), schema_json.len())
}

/// The entry `contract/<name>/<major>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractEntry {
    /// The contract's name.
    pub contract: String,
    /// The major.
    pub major: u32,
    /// The table's name as it was bound.
    pub source: QualifiedName,
    /// The table.
    pub relation: RelationId,
    /// By schema field; further columns of a field by `field#column`.
    pub bindings: BTreeMap<String, Binding>,
    /// Activating to ended.
    pub progress: Progress,
    /// Row events behind this position are for it, the others are its snapshot's; absent while it is activating.
    pub begun: Option<Position>,
    /// The key schema's id.
    pub key_id: Option<CachedId>,
    /// The value schema's id.
    pub value_id: CachedId,
    /// `pg_publication_rel.oid` of the table: another one after the table left the publication and came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication_rel: Option<u32>,
    /// The ids of the parcels' schema in the parked and the dead-letter topic, where these exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parcel_ids: Option<ParcelIds>,
    /// Present while it is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Parked>,
    /// Its dead set, last time that there was something in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_span: Option<DeadSpan>,
    /// True if the dead set was too small: any key may show an older value, until a repair.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlevel: bool,
}

/// Ids of the parcels' schema in the two topics beside a contract's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParcelIds {
    /// In `<topic>.parked`.
    pub parked: CachedId,
    /// In `<topic>.dead`.
    pub dead: CachedId,
}

/// The prefix of the keys of dead sets.
pub const DEAD_PREFIX: &str = "dead/";

/// The entry `dead/<name>/<major>/<hash>`: the topic lacks the newest row of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadEntry {
    /// The contract's name.
    pub contract: String,
    /// The major.
    pub major: u32,
    /// 128 bits of the key's bytes, in hexadecimal.
    pub key: String,
}

impl DeadEntry {
    /// The entry of a key's hash.
    pub fn new(contract: &str, major: u32, hash: u128) -> DeadEntry {
        DeadEntry { contract: contract.to_owned(), major, key: format!("{hash:032x}") }
    }

    /// The hash.
    pub fn hash(&self) -> Option<u128> {
        u128::from_str_radix(&self.key, 16).ok()
    }

    /// The entry's key in the checkpoint.
    pub fn state_key(&self) -> String {
        format!("{DEAD_PREFIX}{}/{}/{}", self.contract, self.major, self.key)
    }
}

/// The key of the entry that names the sealing key.
pub const SEAL_KEY: &str = "seal";

/// The entry `seal`: rows were sealed with this key, and can be opened with no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealEntry {
    /// See [`crate::seal::SealKey::fingerprint`].
    pub fingerprint: String,
}

impl ContractEntry {
    /// The entry's key in the checkpoint.
    pub fn key(contract: &str, major: u32) -> String {
        format!("contract/{contract}/{major}")
    }

    /// True if row events are for it, be it for its topic or for its parked one.
    pub fn active(&self) -> bool {
        matches!(self.progress, Progress::Snapshotting | Progress::Live { .. } | Progress::Parked { .. })
    }

    /// True if its row events are parked.
    pub fn is_parked(&self) -> bool {
        matches!(self.progress, Progress::Parked { .. })
    }
}

/// The entry `table/<oid>`: the table's row events take ordinals. The entries below it are the table's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// The table.
    pub relation: RelationId,
}

impl TableEntry {
    /// The entry's key in the checkpoint.
    pub fn key(relation: RelationId) -> String {
        format!("table/{relation}")
    }
}

/// A place in a heap: block and line pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tid {
    /// Block number.
    pub block: u32,
    /// Line pointer within it, from 1; 0 stands before the first.
    pub offset: u16,
}

impl std::fmt::Display for Tid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({},{})", self.block, self.offset)
    }
}

/// One heap to copy: the table itself, or a leaf partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// Its oid.
    pub relation: RelationId,
    /// `pg_relation_filenode()` when its copy began; a rewrite changes it.
    pub filenode: u32,
    /// Its blocks, measured once after the fence; later pages hold only rows that the stream has.
    pub blocks: u32,
}

/// The entry `copy/<job>`: one pass over a table, for the contracts that began it together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyEntry {
    /// The table.
    pub relation: RelationId,
    /// Contract name and major.
    pub contracts: Vec<(String, u32)>,
    /// Empty until the fence has passed.
    pub leaves: Vec<Leaf>,
    /// Index into `leaves`.
    pub leaf: u32,
    /// All rows of the leaf below this place are published.
    pub next: Tid,
    /// Rows published so far.
    pub rows: u64,
    /// Present if this is a repair of one contract version; absent for a first load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairEntry>,
}

/// What makes a copy a repair: the contract stays live, its rows are written again, and keys without a row are deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairEntry {
    /// Asked for, or begun anew, here.
    pub since: Position,
    /// What is to be done next.
    pub phase: RepairPhase,
    /// Keys that were looked up.
    pub keys: u64,
    /// Tombstones that were written for keys without a row.
    pub tombstones: u64,
}

/// The parts of a repair, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairPhase {
    /// The topic's keys are looked up in the table; those without a row get a tombstone.
    Keys {
        /// Every key whose hash is at most this one is done. In the order of the hash, so that it means the same after a
        /// restart, however much the topic has grown or was compacted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<KeyPlace>,
    },
    /// Every row of the table is written.
    Rows,
    /// Only these keys: a row for each that the table has, a tombstone for each other one.
    Named {
        /// The texts of the key's columns, in the order of the contract's key.
        keys: Vec<Vec<String>>,
    },
}

/// A place in the order of key hashes, as 32 hexadecimal digits in JSON (whose numbers do not hold 128 bits everywhere).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPlace(pub u128);

impl From<KeyPlace> for String {
    fn from(place: KeyPlace) -> String {
        format!("{:032x}", place.0)
    }
}

impl TryFrom<String> for KeyPlace {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> std::result::Result<KeyPlace, Self::Error> {
        u128::from_str_radix(&text, 16).map(KeyPlace)
    }
}

impl CopyEntry {
    /// A pass over a table that has not begun.
    pub fn new(relation: RelationId, contracts: Vec<(String, u32)>) -> CopyEntry {
        CopyEntry { relation, contracts, leaves: Vec::new(), leaf: 0, next: Tid::default(), rows: 0, repair: None }
    }

    /// A repair of one contract version that has not begun: with it in the checkpoint, the next session carries it out.
    /// `keyed`: whether keys without a row are deleted (a `state` contract), or rows are written only (`log`).
    pub fn repair(contract: &ContractEntry, since: Position, keyed: bool) -> CopyEntry {
        let phase = if keyed { RepairPhase::Keys { after: None } } else { RepairPhase::Rows };
        CopyEntry {
            repair: Some(RepairEntry { since, phase, keys: 0, tombstones: 0 }),
            ..CopyEntry::new(contract.relation, vec![(contract.contract.clone(), contract.major)])
        }
    }

    /// The entry's key in the checkpoint.
    pub fn key(job: u64) -> String {
        format!("{COPY_PREFIX}{job}")
    }
}

/// The prefix of the copies' keys.
pub const COPY_PREFIX: &str = "copy/";

/// Seals an entry: version and checksum around its JSON.
pub fn seal<T: Serialize>(entry: &T) -> Result<Vec<u8>> {
    let data = serde_json::to_string(entry)
        .map_err(|e| Error::definite(Code::Internal, format!("a checkpoint entry cannot be written: {e}")))?;
    Ok(seal_json(&data))
}

/// Seals an entry that is JSON already.
pub fn seal_json(data: &str) -> Vec<u8> {
    format!("{{\"v\":{FORMAT},\"crc\":{},\"data\":{data}}}", crc32fast::hash(data.as_bytes())).into_bytes()
}

/// Opens a sealed entry.
pub fn open<T: DeserializeOwned>(key: &str, sealed: &[u8]) -> Result<T> {
    let data = open_json(key, sealed)?;
    serde_json::from_value(data).map_err(|e| damaged(key, format!("does not parse: {e}")))
}

/// Opens a sealed entry as JSON.
pub fn open_json(key: &str, sealed: &[u8]) -> Result<serde_json::Value> {
    #[derive(Deserialize)]
    struct Envelope {
        v: u64,
        crc: u32,
        data: serde_json::Value,
    }
    let envelope: Envelope =
        serde_json::from_slice(sealed).map_err(|e| damaged(key, format!("does not parse: {e}")))?;
    if envelope.v > FORMAT {
        return Err(damaged(key, format!("has format {}, this gimbal knows up to {FORMAT}", envelope.v))
            .hint("run the newer gimbal that wrote it"));
    }
    let found = crc32fast::hash(envelope.data.to_string().as_bytes());
    if found != envelope.crc {
        return Err(damaged(key, format!("has checksum {found:08x}, its seal says {:08x}", envelope.crc)));
    }
    Ok(envelope.data)
}

fn damaged(key: &str, what: String) -> Error {
    Error::definite(Code::StateInvalid, format!("checkpoint entry `{key}` {what}"))
        .hint("restore the sink's state, or start again with a new pipeline name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> PositionEntry {
        PositionEntry {
            seq: 7,
            phase: Phase::Creating { nonce: "n".into() },
            epoch: 1,
            system_id: u64::MAX,
            timeline: 2,
            commit_lsn: Lsn(u64::MAX),
            next_ordinal: 3,
            complete: true,
            end_lsn: Lsn(9),
            anchor: Some(Anchor { lsn: Lsn(5), nonce: "é\"\\".into() }),
            ack: Lsn(4),
            witness: Some(Witness { commit_lsn: Lsn(8), timestamp: -1 }),
        }
    }

    #[test]
    fn an_entry_opens_as_it_was_sealed() {
        let sealed = seal(&entry()).unwrap();
        assert_eq!(open::<PositionEntry>("position", &sealed).unwrap(), entry());
    }

    #[test]
    fn every_changed_byte_of_an_entry_is_found() {
        let sealed = seal(&entry()).unwrap();
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            if let Ok(opened) = open::<PositionEntry>("position", &bad) {
                assert_eq!(opened, entry(), "byte {i}");
            }
        }
    }

    #[test]
    fn a_copy_of_a_checkpoint_before_repairs_opens_and_looks_the_same() {
        let old = r#"{"relation":7,"contracts":[["a",1]],"leaves":[],"leaf":0,"next":{"block":0,"offset":0},"rows":3}"#;
        let entry: CopyEntry = serde_json::from_str(old).unwrap();
        assert_eq!((entry.rows, &entry.repair), (3, &None));
        assert_eq!(serde_json::to_string(&entry).unwrap(), old);
    }

    #[test]
    fn a_place_in_the_order_of_keys_survives_the_checkpoint() {
        let phase = RepairPhase::Keys { after: Some(KeyPlace(u128::MAX / 3)) };
        let sealed = seal(&phase).unwrap();
        assert_eq!(open::<RepairPhase>("copy/1", &sealed).unwrap(), phase);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let error = open::<PositionEntry>("position", br#"{"v":2,"crc":0,"data":{}}"#).unwrap_err();
        assert_eq!(error.code(), Code::StateInvalid);
    }
}
