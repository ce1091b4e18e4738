//! A contract file as it was written: typed, with the place of everything that a later rule may complain about.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::expr::Expr;
use super::mapping::{Encoding, JsonPath, Rounding};
use super::model::{Backfill, ContractKind, OnError, VersionStatus};
use crate::diagnostic::SourceText;
use crate::table::QualifiedName;
use crate::yaml::{Node, Text};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Byte range.
    pub span: Range<usize>,
}

/// A parsed contract file. What could not be read is absent and already reported.
#[derive(Clone, Debug)]
pub struct ContractFile {
    /// The file.
    pub file: Arc<SourceText>,
    /// `contract:`
    pub name: Text,
    /// `owner:`
    pub owner: Option<String>,
    /// `description:`
    pub description: Option<String>,
    /// `kind:`
    pub kind: ContractKind,
    /// `append_only:`
    pub append_only: bool,
    /// `topic:`, with `{major}` in it.
    pub topic: Text,
    /// `source:`, `key:`, `partitions:` of the whole contract.
    pub shape: Shape,
    /// `sla:`
    pub sla: Sla,
    /// `notify:`
    pub notify: Vec<Text>,
    /// `tags:`
    pub tags: Vec<Text>,
    /// `subscribers:`
    pub subscribers: Vec<Subscriber>,
    /// `versions:`, by major.
    pub versions: BTreeMap<u32, VersionEntry>,
}

/// What may stand at the top and inside a version, where it rules.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// `source:`
    pub source: Option<Placed<QualifiedName>>,
    /// `key:`
    pub key: Option<Placed<Vec<Text>>>,
    /// `partitions:`
    pub partitions: Option<u32>,
}

impl Shape {
    /// This shape, and the other's parts where it says nothing.
    pub fn or(&self, outer: &Shape) -> Shape {
        Shape {
            source: self.source.clone().or_else(|| outer.source.clone()),
            key: self.key.clone().or_else(|| outer.key.clone()),
            partitions: self.partitions.or(outer.partitions),
        }
    }
}

/// `sla:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sla {
    /// How old the newest record may be.
    pub freshness: Option<std::time::Duration>,
    /// How long before a disruption subscribers want to know.
    pub notice: Option<std::time::Duration>,
}

/// One entry of `subscribers:`.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// `name:`
    pub name: Text,
    /// `owner:`
    pub owner: Option<String>,
    /// `version:`, a major.
    pub version: Placed<u32>,
    /// `fields:`; none for `all`.
    pub fields: Option<Vec<Text>>,
    /// `notify:`
    pub notify: Vec<Text>,
}

/// One entry of `versions:`.
#[derive(Clone, Debug)]
pub struct VersionEntry {
    /// Where its number stands.
    pub span: Range<usize>,
    /// `schema:`, a path below the schemas folder.
    pub schema: Text,
    /// `status:`
    pub status: VersionStatus,
    /// `deprecated_on:`
    pub deprecated_on: Option<Placed<jiff::civil::Date>>,
    /// `retire_on:`
    pub retire_on: Option<Placed<jiff::civil::Date>>,
    /// `backfill:`; none where it is left to the kind.
    pub backfill: Option<Backfill>,
    /// What the version says for itself.
    pub shape: Shape,
    /// `fields:`, in file order.
    pub fields: Vec<FieldEntry>,
    /// Where `fields:` stands, or else the version.
    pub fields_span: Range<usize>,
}

/// One entry of `fields:`.
#[derive(Clone, Debug)]
pub struct FieldEntry {
    /// The schema field.
    pub name: Text,
    /// How it is fed.
    pub feed: EntryFeed,
    /// `tags:`
    pub tags: Vec<Text>,
    /// `plain: true`
    pub plain: bool,
    /// `on_error:`
    pub on_error: Option<Placed<OnError>>,
}

/// How an entry feeds its field.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // A contract has few entries: boxes would save nothing.
pub enum EntryFeed {
    /// A column; without `from` the one of the field's name.
    Column {
        /// `from:`
        from: Text,
        /// `default:`
        default: Option<Node>,
        /// `map:`, in file order.
        map: Option<Placed<Vec<(Text, Text)>>>,
        /// `else:`
        otherwise: Option<Text>,
        /// `timezone:`
        timezone: Option<Text>,
        /// `expr:`, in place of `from`
        expr: Option<Placed<Expr>>,
        /// `path:`
        path: Option<Placed<JsonPath>>,
        /// `encode:`
        encode: Option<Encoding>,
        /// `round:`
        round: Option<Rounding>,
        /// `mask:`
        mask: Option<Placed<EntryMask>>,
    },
    /// `const:`
    Const(Node),
}

/// `mask:` of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryMask {
    /// `hmac_sha256:` and the name of a key of the config.
    HmacSha256(Text),
    /// `keep_last:`
    KeepLast(u32),
    /// `null`: never a value.
    Null,
    /// `drop`: always the default.
    Drop,
}
