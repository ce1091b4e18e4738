//! A contracted table at run time: its history, its version, and the projections compiled for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::batch::TopicId;
use crate::contract::{ContractKind, ContractVersion, FeedSource, OnError};
use crate::engine::dead::DeadSet;
use crate::error::{Code, Error, Result};
use crate::history::{Candidate, Listing};
use crate::lsn::{Lsn, Snapshot, Xid};
use crate::position::Position;
use crate::projection::{self, Projection, SchemaIds};
use crate::state::{ContractEntry, Parked, Progress};
use crate::table::{RelationId, TableImage, TableVersion, VersionColumn};

/// Index into the engine's contracts.
pub type ContractIndex = usize;

/// A contract version at run time.
#[derive(Debug)]
pub struct Contract {
    /// What was checked.
    pub version: Arc<ContractVersion>,
    /// What was bound and how far it is.
    pub entry: ContractEntry,
    /// Where its records go.
    pub topic: TopicId,
    /// Where what cannot be published goes; absent without a key for sealing.
    pub aside: Option<Aside>,
    /// Records published since the daemon started.
    pub records: u64,
    /// Keys whose newest row is a dead letter.
    pub dead: DeadSet,
    /// How often the dead set was too small since the session began.
    pub overflows: u64,
    /// Dead letters since the daemon started, by reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// Records with a value that was read again, since the daemon started.
    pub rereads: u64,
    /// Updates whose row was gone when it was read again, since the daemon started.
    pub superseded: u64,
    /// True if the entry is not yet in the checkpoint as it is.
    pub dirty: bool,
    /// Repairs of it that are under way.
    pub repairs: u32,
}

/// The topics beside a contract's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Takes the changes while the contract is parked.
    pub parked: TopicId,
    /// The id of the parcels' schema there.
    pub parked_schema: u32,
    /// Takes single changes that do not fit.
    pub dead: TopicId,
    /// The id of the parcels' schema there.
    pub dead_schema: u32,
}

impl Contract {
    /// Parks it from a position on, if its rows can be sealed; else the error is for everybody. `timestamp`: commit time of
    /// the change that it comes with. A contract that is parked already stays as it is.
    pub fn park(&mut self, error: Error, field: Option<String>, since: Position, timestamp: Option<i64>) -> Result<()> {
        if self.aside.is_none() {
            return Err(unsealed(error));
        }
        if self.entry.is_parked() {
            return Ok(());
        }
        let copied = !matches!(self.entry.progress, Progress::Activating | Progress::Snapshotting);
        self.entry.progress = Progress::Parked { since, copied };
        self.entry.parked = Some(Parked {
            code: error.code().to_string(),
            message: error.diagnosis().to_owned(),
            hint: error.hint_text().map(str::to_owned),
            field,
            starts_at: timestamp,
            records: 0,
        });
        self.dirty = true;
        Ok(())
    }

    /// Compiles its key alone against a table version, for a contract whose other fields are broken.
    fn compile_key(&self, version: &TableVersion) -> Option<Projection> {
        let schema = self.version.key_schema.clone()?;
        let fed = |field: &crate::avro::Field| self.version.feeds.iter().find(|feed| feed.field == field.name).cloned();
        let feeds = schema.fields.iter().map(fed).collect::<Option<Vec<_>>>()?;
        let key = ContractVersion { schema, feeds, ..ContractVersion::clone(&self.version) };
        projection::compile(&key, &self.columns(), version, self.ids()).ok()
    }

    fn ids(&self) -> SchemaIds {
        SchemaIds { key: self.entry.key_id.as_ref().map(|c| c.id), value: self.entry.value_id.id }
    }

    /// What the contract says of a value of this field that does not fit.
    pub fn on_error(&self, field: u16) -> Option<OnError> {
        match &self.version.feeds.get(usize::from(field))?.source {
            FeedSource::Column { options, .. } | FeedSource::Expr { options, .. } => options.on_error,
            FeedSource::Const(_) => None,
        }
    }

    /// The name of the value schema's field at an index.
    pub fn field_name(&self, field: u16) -> Option<&str> {
        self.version.schema.fields.get(usize::from(field)).map(|field| field.name.as_str())
    }

    /// True while a copy must know which of its keys the stream touches.
    pub fn copied(&self) -> bool {
        self.repairs > 0 || self.entry.progress == Progress::Snapshotting
    }

    /// `orders v1`, for messages.
    pub fn label(&self) -> String {
        format!("{} v{}", self.entry.contract, self.entry.major)
    }

    /// Attribute numbers of the columns that feed it.
    pub fn bound(&self) -> Vec<i16> {
        self.entry.bindings.values().map(|binding| binding.attnum).collect()
    }

    /// Attribute numbers of the columns that feed its key.
    pub fn key(&self) -> Vec<i16> {
        self.version.key.iter().filter_map(|field| self.entry.bindings.get(field)).map(|b| b.attnum).collect()
    }

    /// Attribute numbers that its fields read, by the key of the binding.
    fn columns(&self) -> BTreeMap<String, i16> {
        self.entry.bindings.iter().map(|(key, binding)| (key.clone(), binding.attnum)).collect()
    }

    /// A column that has another type than the one that was bound.
    fn retyped<'a>(&self, version: &'a TableVersion) -> Option<&'a VersionColumn> {
        let mut columns =
            self.entry.bindings.values().filter_map(|binding| Some((binding, version.place(binding.attnum)?.1)));
        columns.find(|(binding, column)| column.type_oid != binding.type_oid).map(|(_, column)| column)
    }

    /// Compiles it against a table version.
    pub fn compile(&self, version: &TableVersion) -> Result<Projection> {
        let compiled = projection::compile(&self.version, &self.columns(), version, self.ids());
        compiled.map_err(|error| match (self.retyped(version), error.code()) {
            (Some(column), Code::PairRefused | Code::KeyInvalid) => Error::definite(
                Code::ColumnRetyped,
                format!(
                    "column `{}` of `{}` changed its type to `{}`: {}",
                    column.name,
                    version.name,
                    column.type_name,
                    error.diagnosis()
                ),
            )
            .hint("publish a new major that is fed by the new type, or change the column back"),
            _ => error,
        })
    }
}

/// A contract's projection for the table's current version.
#[derive(Debug)]
pub struct Compiled {
    /// Whose it is.
    pub contract: ContractIndex,
    /// Where its records go.
    pub topic: TopicId,
    /// state or log.
    pub kind: ContractKind,
    /// What its rows become.
    pub mapping: Mapping,
}

/// What a contract's rows become.
#[derive(Debug)]
pub enum Mapping {
    /// Records of its topic.
    Live(Projection),
    /// Parcels of its parked topic. The projection is good for the key, where even that can be had.
    Parked(Option<Projection>),
}

/// When and where a compilation takes place, for contracts that it parks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The row event that needs it, or the next one.
    pub position: Position,
    /// Commit time, microseconds since 1970.
    pub timestamp: Option<i64>,
}

/// What would have to be sealed stops the daemon where there is no key.
pub fn unsealed(error: Error) -> Error {
    let known = error.hint_text().map(|hint| format!("{hint}; ")).unwrap_or_default();
    let hint =
        format!("{known}with a key in the config (`keys: {{seal: {{file: …}}}}`) it is set aside and the rest goes on");
    error.hint(hint)
}

/// A sampled image, or that the table is gone.
#[derive(Debug)]
pub struct Upcoming {
    /// Once the stream has passed this position, every transaction that the snapshot sees was delivered.
    pub insert_lsn: Lsn,
    /// What it was read under.
    pub snapshot: Snapshot,
    /// Absent if the table is gone, or another one has its name.
    pub image: Option<TableImage>,
}

/// A contracted table.
#[derive(Debug)]
pub struct Table {
    /// Its oid.
    pub relation: RelationId,
    /// True if its row events take ordinals.
    pub counted: bool,
    /// The newest Relation message, until a row event needs it. It is resolved with that row's transaction, whose time is as
    /// well the message's (else there were a newer message): so skipped transactions need no catalog.
    pub listing: Option<Listing>,
    /// The transaction of the newest Relation message. A sample that sees it is not older than the message, one that does not
    /// is not newer.
    pub listed_by: Option<Xid>,
    /// The version that the last Relation message or sample showed.
    pub version: Option<TableVersion>,
    /// What of it is not certain.
    pub uncertain: Vec<Candidate>,
    /// The version of the newest row event that was published; tells what changed.
    pub known: Option<TableVersion>,
    /// From where on the table looks as `version` says, once that was compiled.
    pub since: Position,
    /// Compiled for `version` at the first row event that needs it, so that skipped history costs nothing.
    pub compiled: Option<Arc<[Compiled]>>,
    /// The newest sample, where it shows another version.
    pub upcoming: Option<Upcoming>,
    /// Its active contracts.
    pub readers: Vec<ContractIndex>,
    /// Row events seen since the daemon started: inserts, updates, deletes, truncates.
    pub changes: [u64; 4],
    /// True if it counts and the checkpoint does not say so.
    pub dirty: bool,
}

impl Table {
    /// Takes over a version; compiled anew at the next row event if it is another one.
    pub fn switch(&mut self, version: TableVersion, uncertain: Vec<Candidate>) {
        if self.version.as_ref() != Some(&version) {
            self.version = Some(version);
            self.compiled = None;
        }
        self.uncertain = uncertain;
        self.listing = None;
    }

    /// True if its rows can be projected.
    pub fn ready(&self) -> bool {
        self.listing.is_none() && self.compiled.is_some()
    }
}

/// The contracted tables by oid.
#[derive(Debug, Default)]
pub struct Tables {
    all: Vec<Table>,
    by_relation: HashMap<RelationId, usize>,
    last: Option<(RelationId, usize)>,
}

impl Tables {
    /// Adds a table.
    pub fn insert(&mut self, table: Table) {
        self.by_relation.insert(table.relation, self.all.len());
        self.all.push(table);
    }

    /// The table's index; quick when the same table is asked for again.
    pub fn index(&mut self, relation: RelationId) -> Option<usize> {
        match self.last {
            Some((last, index)) if last == relation => Some(index),
            _ => {
                let index = *self.by_relation.get(&relation)?;
                self.last = Some((relation, index));
                Some(index)
            }
        }
    }

    /// The table at an index.
    pub fn at(&mut self, index: usize) -> Option<&mut Table> {
        self.all.get_mut(index)
    }

    /// The table with this oid.
    pub fn get(&mut self, relation: RelationId) -> Option<&mut Table> {
        let index = self.index(relation)?;
        self.all.get_mut(index)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Table> {
        self.all.iter()
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        self.all.iter_mut()
    }
}

/// Compiles every contract of a table against a version. One that does not compile is parked, where that can be.
pub fn compile_all(
    contracts: &mut [Contract],
    indexes: &[ContractIndex],
    version: &TableVersion,
    moment: Moment,
) -> Result<Arc<[Compiled]>> {
    let mut all = Vec::with_capacity(indexes.len());
    for index in indexes {
        let Some(contract) = contracts.get_mut(*index) else { continue };
        let live = if contract.entry.is_parked() { None } else { Some(contract.compile(version)) };
        let mapping = match live {
            Some(Ok(projection)) => Mapping::Live(projection),
            Some(Err(error)) => {
                contract.park(error.at(moment.position), None, moment.position, moment.timestamp)?;
                Mapping::Parked(contract.compile_key(version))
            }
            None => Mapping::Parked(contract.compile_key(version)),
        };
        all.push(Compiled { contract: *index, topic: contract.topic, kind: contract.version.kind, mapping });
    }
    Ok(Arc::from(all))
}
