//! What a table looks like: images read from the catalog, and versions as the stream shows them.

mod details;

use serde::{Deserialize, Serialize};

pub use details::{TableDetails, Unfit, UnfitIndex};

/// A table's oid. It stays when the table is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelationId(pub u32);

impl std::fmt::Display for RelationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A namespace (PostgreSQL's schema) and a name, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QualifiedName {
    /// PostgreSQL's schema.
    pub namespace: String,
    /// The table's name.
    pub name: String,
}

impl std::fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

/// A column's type, with domains resolved to their base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceType {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    /// `numeric(precision, scale)`; without a modifier both are absent.
    Numeric {
        precision: Option<u16>,
        scale: Option<i16>,
    },
    Money,
    Text,
    Varchar,
    /// `char(n)`: its text is padded with blanks.
    Char,
    Name,
    Citext,
    Bytea,
    Date,
    Time,
    Timetz,
    Interval,
    Timestamp,
    Timestamptz,
    Uuid,
    Json,
    Jsonb,
    /// Labels in sort order.
    Enum {
        labels: Vec<EnumLabel>,
    },
    /// Items are separated by commas; an array whose item type has another `pg_type.typdelim` is `Other`.
    Array(Box<SourceType>),
    /// Everything else is published as PostgreSQL's text.
    Other {
        name: String,
    },
}

/// An enum label; it binds by its oid, so a rename does not lose it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumLabel {
    /// `pg_enum.oid`.
    pub oid: u32,
    /// The label's text at the time of the image.
    pub label: String,
}

/// Whether a column is in Relation messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Listed.
    Ordinary,
    /// `GENERATED ALWAYS AS (…) STORED` (or virtual): not listed.
    Generated,
    /// Dropped for good: not listed, its number is never used again.
    Dropped,
}

/// One attribute number of a table, as the catalog shows it. For a dropped column only `attnum` and `kind` mean anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnImage {
    /// `pg_attribute.attnum`, from 1.
    pub attnum: i16,
    /// Ordinary, generated or dropped.
    pub kind: ColumnKind,
    /// The name at the time of the image.
    pub name: String,
    /// `atttypid`, not resolved: a domain's own oid.
    pub type_oid: u32,
    /// `atttypmod`.
    pub typmod: i32,
    /// As `format_type()` prints it, for messages.
    pub type_name: String,
    /// The type with domains resolved.
    pub source_type: SourceType,
    /// `attnotnull`, a domain's constraint not counted.
    pub not_null: bool,
}

/// `pg_class.relreplident`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// The whole old row.
    Full,
    /// A named unique index.
    Index,
    /// No old row at all.
    Nothing,
}

/// A unique index that can identify rows: immediate, not partial, over plain NOT NULL columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    /// The index's name, for messages.
    pub name: String,
    /// Attribute numbers in index order.
    pub attnums: Vec<i16>,
    /// True for the primary key.
    pub primary: bool,
    /// True for the index chosen by REPLICA IDENTITY USING INDEX.
    pub replica_identity: bool,
}

/// The whole description of a table at one moment: every attribute number from 1 to `relnatts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableImage {
    /// The oid.
    pub relation: RelationId,
    /// The name at the time of the image.
    pub name: QualifiedName,
    /// True for a partitioned root.
    pub partitioned: bool,
    /// How old rows are identified in the stream.
    pub replica_identity: ReplicaIdentity,
    /// One entry per attribute number, in order, none left out.
    pub columns: Vec<ColumnImage>,
    /// Candidate keys.
    pub keys: Vec<UniqueKey>,
    /// Of a partitioned root's key columns those that the old rows of every leaf carry: a change is logged with the replica
    /// identity of its leaf, which is the leaf's own and is not inherited. Absent for any other table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_by_leaves: Option<Vec<i16>>,
}

impl TableImage {
    /// The first of these columns that the old rows of some leaf lack.
    pub fn uncarried(&self, attnums: impl IntoIterator<Item = i16>) -> Option<&ColumnImage> {
        let carried = self.carried_by_leaves.as_ref()?;
        attnums.into_iter().find(|attnum| !carried.contains(attnum)).and_then(|attnum| self.attnum(attnum))
    }

    /// Columns that a Relation message lists, in its order.
    pub fn listed(&self) -> impl Iterator<Item = &ColumnImage> {
        self.columns.iter().filter(|column| column.kind == ColumnKind::Ordinary)
    }

    /// The ordinary column of this name.
    pub fn column(&self, name: &str) -> Option<&ColumnImage> {
        self.listed().find(|column| column.name == name)
    }

    /// Attribute numbers of the columns that an old row carries in the stream. Empty under NOTHING, or where the key or
    /// index is missing: then the table takes no updates and deletes.
    pub fn identity(&self) -> Vec<i16> {
        let key = |chosen: fn(&UniqueKey) -> bool| {
            self.keys.iter().find(|key| chosen(key)).map(|key| key.attnums.clone()).unwrap_or_default()
        };
        match self.replica_identity {
            ReplicaIdentity::Default => key(|key| key.primary),
            ReplicaIdentity::Index => key(|key| key.replica_identity),
            ReplicaIdentity::Full => self.listed().map(|column| column.attnum).collect(),
            ReplicaIdentity::Nothing => Vec::new(),
        }
    }

    /// The column with this number.
    pub fn attnum(&self, attnum: i16) -> Option<&ColumnImage> {
        usize::try_from(attnum).ok().and_then(|n| n.checked_sub(1)).and_then(|i| self.columns.get(i))
    }
}

/// One column of a table version, at its place in the stream's tuples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionColumn {
    /// The number, where it is certain; only certain columns can be bound.
    pub attnum: Option<i16>,
    /// The name in this version.
    pub name: String,
    /// As the Relation message says.
    pub type_oid: u32,
    /// As the Relation message says.
    pub typmod: i32,
    /// As `format_type()` prints it, for messages.
    pub type_name: String,
    /// The type with domains resolved; absent where no image shows it.
    pub source_type: Option<SourceType>,
    /// From the image; false where none shows it.
    pub not_null: bool,
    /// True if it is part of the replica identity, so that old rows carry it.
    pub identity: bool,
}

impl VersionColumn {
    /// The column as an image describes it exactly; `identity`: whether old rows carry it.
    pub fn of_image(column: &ColumnImage, identity: bool) -> VersionColumn {
        VersionColumn {
            attnum: Some(column.attnum),
            name: column.name.clone(),
            type_oid: column.type_oid,
            typmod: column.typmod,
            type_name: column.type_name.clone(),
            source_type: Some(column.source_type.clone()),
            not_null: column.not_null,
            identity,
        }
    }
}

/// A table as the stream shows it between two schema changes: listed columns by place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    /// The oid.
    pub relation: RelationId,
    /// The name in this version.
    pub name: QualifiedName,
    /// How old rows are identified.
    pub replica_identity: ReplicaIdentity,
    /// By place.
    pub columns: Vec<VersionColumn>,
}

impl TableVersion {
    /// The version that an image describes exactly.
    pub fn of_image(image: &TableImage) -> TableVersion {
        let identity = image.identity();
        TableVersion {
            relation: image.relation,
            name: image.name.clone(),
            replica_identity: image.replica_identity,
            columns: image
                .listed()
                .map(|column| VersionColumn::of_image(column, identity.contains(&column.attnum)))
                .collect(),
        }
    }

    /// Place and column of an attribute number.
    pub fn place(&self, attnum: i16) -> Option<(usize, &VersionColumn)> {
        self.columns.iter().enumerate().find(|(_, column)| column.attnum == Some(attnum))
    }
}
