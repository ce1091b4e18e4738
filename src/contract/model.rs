//! A contract version after `check`: total, typed, ready to compile.

use std::sync::Arc;

use super::expr::Expr;
use super::mapping::{Encoding, JsonPath, Mask, Rounding};
use crate::avro::RecordSchema;
use crate::table::QualifiedName;

/// How a topic is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractKind {
    /// Keyed, compacted: the newest record of a key is the row.
    State,
    /// Every change is kept.
    Log,
}

impl ContractKind {
    /// As a contract says it.
    pub fn word(self) -> &'static str {
        match self {
            ContractKind::State => "state",
            ContractKind::Log => "log",
        }
    }
}

/// Where a version stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionStatus {
    Draft,
    Active,
    Deprecated,
    Retired,
}

impl VersionStatus {
    /// As a contract says it.
    pub fn word(self) -> &'static str {
        match self {
            VersionStatus::Draft => "draft",
            VersionStatus::Active => "active",
            VersionStatus::Deprecated => "deprecated",
            VersionStatus::Retired => "retired",
        }
    }
}

/// Whether a new topic begins with the rows that the table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backfill {
    Snapshot,
    None,
}

/// One major of a contract, with its current minor.
#[derive(Clone, Debug)]
pub struct ContractVersion {
    /// The contract's name.
    pub contract: String,
    /// The major: a topic of its own.
    pub major: u32,
    /// The minor: a registry version in the topic's subject.
    pub minor: u32,
    /// The topic's full name, `{major}` filled in.
    pub topic: String,
    /// Number of partitions.
    pub partitions: u32,
    /// state or log.
    pub kind: ContractKind,
    /// Inserts only; with an empty key.
    pub append_only: bool,
    /// The table as the contract names it.
    pub source: QualifiedName,
    /// Whether the topic begins with a snapshot.
    pub backfill: Backfill,
    /// Life cycle.
    pub status: VersionStatus,
    /// Names of the schema fields that make the key, in order; empty for append-only contracts without key.
    pub key: Vec<String>,
    /// The value schema.
    pub schema: Arc<RecordSchema>,
    /// Its JSON text, as registered (the `.avsc` file, compacted).
    pub schema_json: String,
    /// The frozen key schema (a record of the key fields), absent without a key.
    pub key_schema: Option<Arc<RecordSchema>>,
    /// Its JSON text.
    pub key_schema_json: Option<String>,
    /// One feed per field of `schema`, in its order.
    pub feeds: Vec<Feed>,
}

/// How one schema field is fed.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// The schema field.
    pub field: String,
    /// From where.
    pub source: FeedSource,
}

/// The source of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedSource {
    /// A column, by the text of `from` (or the field's own name).
    Column {
        /// The text; it is bound once to an attribute number.
        from: String,
        /// What the entry says beside `from`.
        options: FeedOptions,
    },
    /// Worked out from columns of the row.
    Expr {
        /// The expression; each of its columns is bound once to an attribute number.
        expr: Expr,
        /// What the entry says beside `expr`.
        options: FeedOptions,
    },
    /// The same value in every record, as JSON of the field's type; dates, times, timestamps, uuids, decimals and bytes
    /// are text as PostgreSQL prints them.
    Const(serde_json::Value),
}

/// What becomes of a value that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The daemon stops.
    Stop,
    /// The change is sealed and goes to the dead-letter topic.
    DeadLetter,
    /// The contract version is parked.
    Park,
    /// The field takes the entry's `default`.
    Default,
}

impl Feed {
    /// What is bound to columns: the key of each binding in the checkpoint (`field`, then `field#column`) and the column's
    /// name as the contract has it.
    pub fn bindings(&self) -> Vec<(String, &str)> {
        match &self.source {
            FeedSource::Const(_) => Vec::new(),
            FeedSource::Column { from, .. } => vec![(self.field.clone(), from.as_str())],
            FeedSource::Expr { expr, .. } => expr
                .columns()
                .iter()
                .enumerate()
                .map(|(at, column)| match at {
                    0 => (self.field.clone(), column.as_str()),
                    _ => (format!("{}#{column}", self.field), column.as_str()),
                })
                .collect(),
        }
    }

    /// True for a binding's key that is this feed's.
    pub fn owns(&self, binding: &str) -> bool {
        binding.strip_prefix(self.field.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
    }
}

/// What an entry may say beside `from`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedOptions {
    /// Stands for null; in the form of [`FeedSource::Const`].
    pub default: Option<serde_json::Value>,
    /// Source text to target text, for enums and codes.
    pub map: Option<Vec<(String, String)>>,
    /// Takes what `map` lacks.
    pub otherwise: Option<String>,
    /// `AT TIME ZONE`, for timestamp → timestamp-micros.
    pub timezone: Option<String>,
    /// `on_error`; without it a dead letter where there is a key for sealing, else the daemon stops.
    pub on_error: Option<OnError>,
    /// Where in a JSON column the value is.
    pub path: Option<JsonPath>,
    /// How bytes and text stand for each other.
    pub encode: Option<Encoding>,
    /// That digits may be lost, and how.
    pub round: Option<Rounding>,
    /// What is published in place of the value.
    pub mask: Option<Mask>,
}
