//! The history in the checkpoint: one entry per sample and per version, so that none grows with the table's age.
//!
//! ```text
//!  table/<oid>/sample/<number>        the image, with the first and the latest snapshot under which it was seen
//!  table/<oid>/version/<position>     the table version that begins there
//!  table/<oid>/gone                   the latest snapshot under which the table did not exist
//! ```

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::History;
use crate::error::{Code, Error, Result};
use crate::lsn::ParseError;
use crate::position::Position;
use crate::table::RelationId;

/// The key of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntryKey {
    Sample(RelationId, u64),
    Version(RelationId, Position),
    Gone(RelationId),
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryKey::Sample(relation, number) => write!(f, "table/{relation}/sample/{number}"),
            EntryKey::Version(relation, position) => write!(f, "table/{relation}/version/{position}"),
            EntryKey::Gone(relation) => write!(f, "table/{relation}/gone"),
        }
    }
}

impl FromStr for EntryKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<EntryKey, ParseError> {
        let (relation, rest) = text.strip_prefix("table/").and_then(|rest| rest.split_once('/')).ok_or(ParseError)?;
        let relation = RelationId(relation.parse().map_err(|_| ParseError)?);
        match rest.split_once('/') {
            Some(("sample", number)) => Ok(EntryKey::Sample(relation, number.parse().map_err(|_| ParseError)?)),
            Some(("version", position)) => Ok(EntryKey::Version(relation, position.parse()?)),
            None if rest == "gone" => Ok(EntryKey::Gone(relation)),
            _ => Err(ParseError),
        }
    }
}

impl History {
    /// The checkpoint's entries that changed since the last call: key, and JSON or `None` for an entry that is to go.
    pub fn take_changes(&mut self) -> Result<Vec<(String, Option<String>)>> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| Ok((key.to_string(), self.entry(key)?))).collect()
    }

    /// Puts back an entry that [`History::take_changes`] gave; `key` begins with `table/`.
    pub fn restore(&mut self, key: &str, json: &[u8]) -> Result<()> {
        let parsed = key.parse().map_err(|ParseError| invalid(key, "its key is not one of this gimbal's"))?;
        match parsed {
            EntryKey::Sample(relation, number) => {
                self.tables.entry(relation).or_default().samples.insert(number, from_json(key, json)?);
            }
            EntryKey::Version(relation, position) => {
                self.tables.entry(relation).or_default().versions.insert(position, from_json(key, json)?);
            }
            EntryKey::Gone(relation) => self.tables.entry(relation).or_default().gone = Some(from_json(key, json)?),
        }
        Ok(())
    }

    fn entry(&self, key: EntryKey) -> Result<Option<String>> {
        let json = match key {
            EntryKey::Sample(relation, number) => {
                self.tables.get(&relation).and_then(|table| table.samples.get(&number)).map(to_json)
            }
            EntryKey::Version(relation, position) => {
                self.tables.get(&relation).and_then(|table| table.versions.get(&position)).map(to_json)
            }
            EntryKey::Gone(relation) => self.tables.get(&relation).and_then(|table| table.gone.as_ref()).map(to_json),
        };
        json.transpose()
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|err| Error::definite(Code::Internal, format!("a state entry has no JSON: {err}")))
}

fn from_json<T: DeserializeOwned>(key: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|err| invalid(key, &err.to_string()))
}

fn invalid(key: &str, why: &str) -> Error {
    Error::definite(Code::StateInvalid, format!("the state entry `{key}` cannot be read: {why}"))
        .hint("run the gimbal that wrote this state, or a newer one")
}
