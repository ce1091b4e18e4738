//! The one pass over everything: what is there, as data. Nothing is judged here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Client;

use super::machine::{self, Machine};
use super::{is_published, local};
use crate::config::{Config, RegistryConfig, SinkConfig};
use crate::contract::{ContractKind, ContractVersion};
use crate::daemon::plan::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::postgres::catalog::Leaf;
use crate::postgres::connection::Connection;
use crate::postgres::sql::{self, failed};
use crate::postgres::url::SourceUrl;
use crate::postgres::{doctor_sql, sampling};
use crate::registry::http::HttpRegistry;
use crate::registry::inspect;
use crate::sink::Retention;
use crate::sink::kafka::{KafkaOptions, inspect as kafka};
use crate::sink::manifest::{LOCK, Manifest};
use crate::state::POSITION_KEY;
use crate::table::{QualifiedName, RelationId, TableImage};

/// How long the daemon of this pipeline may take to answer.
const DAEMON_WAIT: Duration = Duration::from_secs(2);

/// How often and how long the registry is asked.
const REGISTRY_PATIENCE: (u32, Duration) = (2, Duration::from_secs(5));

/// Everything that the checks look at.
pub(super) struct Facts<'a> {
    /// The config.
    pub config: &'a Config,
    /// All contract versions, also those that are not published.
    pub contracts: &'a [ContractVersion],
    /// The pipeline of the daemon that answers at `listen`.
    pub daemon: Option<String>,
    /// What the machine says about `listen`; an error's text.
    pub listen: Option<String>,
    pub source: Result<Source>,
    pub sink: SinkFacts,
    /// Absent for the embedded registry.
    pub registry: Option<Result<inspect::Inspection>>,
}

/// The server.
pub(super) struct Source {
    pub url: SourceUrl,
    pub server: Server,
    /// A login for replication.
    pub replication: Result<()>,
    /// Ours less the server's, in microseconds.
    pub clock_offset: i64,
    /// Absent on a standby, which cannot answer the rest.
    pub rest: Option<Rest>,
}

/// Settings, limits, and the role that asks.
pub(super) struct Server {
    pub in_recovery: bool,
    pub wal_level: String,
    pub slots_max: i64,
    pub slots: i64,
    pub senders_max: i64,
    pub senders: i64,
    /// Bytes; absent without a limit.
    pub slot_keep: Option<u64>,
    pub encoding: String,
    /// Free bytes on the disk of the data folder, where that is this machine's and the role may know it.
    pub disk_free: Option<u64>,
    pub may_replicate: bool,
    pub superuser: bool,
    pub reads_all_stats: bool,
    /// After so many seconds without a reader a slot is lost; absent without a limit.
    pub slot_idle: Option<u64>,
}

/// What only a primary tells.
pub(super) struct Rest {
    pub slot: Option<Slot>,
    pub publications: Vec<Publication>,
    pub tables: Vec<Table>,
}

/// The slot of the pipeline's name.
pub(super) struct Slot {
    pub active_pid: Option<i32>,
    pub wal_status: Option<String>,
    pub plugin: Option<String>,
    pub database: Option<String>,
    pub application: Option<String>,
    pub retained: u64,
}

/// A publication of the pipeline's name.
pub(super) struct Publication {
    pub name: String,
    pub all_tables: bool,
    pub via_root: bool,
    /// insert, update, delete, truncate
    pub publishes: [bool; 4],
    pub generated_columns: bool,
    pub tables: Vec<PublishedTable>,
    pub namespaces: Vec<String>,
}

/// A table that a publication names.
pub(super) struct PublishedTable {
    pub name: QualifiedName,
    pub row_filter: bool,
    pub column_list: bool,
}

/// A contracted table.
pub(super) struct Table {
    /// As the contract names it.
    pub source: QualifiedName,
    /// As it is; absent if it is not there.
    pub image: Option<TableImage>,
    /// The table itself and its leaves.
    pub rights: Vec<Rights>,
}

/// What the role may do with a table or a leaf.
pub(super) struct Rights {
    pub name: QualifiedName,
    pub usage: bool,
    pub select: bool,
    pub row_security: bool,
}

/// Where records go.
pub(super) enum SinkFacts {
    Folder(Folder),
    Kafka(Result<kafka::Inspection>),
}

/// The folder of file topics (or of the null sink's checkpoint).
pub(super) struct Folder {
    pub path: PathBuf,
    /// What is there; the nearest folder above it where nothing is.
    pub exists: bool,
    pub is_folder: bool,
    pub nearest: PathBuf,
    pub writable: bool,
    pub free: Option<u64>,
    pub holder: Option<u32>,
    /// The checkpoint; `None` before the first start.
    pub state: Option<Result<crate::sink::StateEntries>>,
}

impl<'a> Facts<'a> {
    /// Looks at everything.
    pub fn gather(config: &'a Config, contracts: &'a [ContractVersion], machine: &Machine) -> Result<Facts<'a>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::definite(Code::Io, format!("the async runtime does not start: {e}")))?;
        let published: Vec<&ContractVersion> = contracts.iter().filter(|version| is_published(version)).collect();
        let daemon = runtime.block_on(daemon(config));
        let sink = sink(config, &published);
        let bound = sink.checkpoint().map(|checkpoint| bound(&checkpoint)).unwrap_or_default();
        let source = runtime.block_on(source(config, &published, &bound, machine));
        let registry = runtime.block_on(registry(config, &published));
        let listen = if daemon.is_none() { local::try_listen(config.listen) } else { None };
        Ok(Facts { config, contracts, daemon, listen, source, sink, registry })
    }

    /// True if the daemon of this very pipeline answers.
    pub fn daemon_runs(&self) -> bool {
        self.daemon.as_deref() == Some(&self.config.pipeline)
    }

    /// Contract versions that the daemon publishes.
    pub fn published(&self) -> impl Iterator<Item = &'a ContractVersion> {
        self.contracts.iter().filter(|version| is_published(version))
    }
}

impl SinkFacts {
    /// The checkpoint, where there is a readable one.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let state = match self {
            SinkFacts::Folder(folder) => folder.state.as_ref(),
            SinkFacts::Kafka(Ok(found)) => found.state.as_ref(),
            SinkFacts::Kafka(Err(_)) => None,
        };
        Checkpoint::open(state?.as_ref().ok()?).ok()
    }

    /// True if it is certain that there is no checkpoint.
    pub fn is_new(&self) -> bool {
        let state = match self {
            SinkFacts::Folder(folder) => folder.state.as_ref(),
            SinkFacts::Kafka(Ok(found)) => found.state.as_ref(),
            SinkFacts::Kafka(Err(_)) => return false,
        };
        match state {
            None => true,
            Some(Ok(entries)) => !entries.contains_key(POSITION_KEY),
            Some(Err(_)) => false,
        }
    }
}

/// Tables that are bound already: they are followed by their oid, whatever they are called by now.
fn bound(checkpoint: &Checkpoint) -> BTreeMap<(String, u32), RelationId> {
    checkpoint.contracts.iter().map(|(key, entry)| (key.clone(), entry.relation)).collect()
}

async fn daemon(config: &Config) -> Option<String> {
    let client = reqwest::Client::builder().no_proxy().timeout(DAEMON_WAIT).build().ok()?;
    let answer = client.get(format!("http://{}/status", config.listen)).send().await.ok()?;
    let status: serde_json::Value = answer.json().await.ok()?;
    Some(status.get("pipeline")?.as_str()?.to_owned())
}

// ---- the source -----------------------------------------------------------------------------------------------------

async fn source(
    config: &Config,
    published: &[&ContractVersion],
    bound: &BTreeMap<(String, u32), RelationId>,
    machine: &Machine,
) -> Result<Source> {
    let source = sql::Source::of(config)?;
    let client = sql::connect(&source).await?;
    let server = server(&client, &source.url).await?;
    let clock_offset = clock_offset(&client, machine).await?;
    let rest = match server.in_recovery {
        true => None,
        false => Some(Rest {
            slot: slot(&client, &config.source.slot).await?,
            publications: publications(&client, &config.source.publication).await?,
            tables: tables(&client, published, bound).await?,
        }),
    };
    // Last, so that no sender of ours is counted.
    let replication = Connection::connect(&source.url, source.password.as_ref())
        .and_then(|mut connection| connection.identify_system())
        .map(|_| ());
    Ok(Source { url: source.url, server, replication, clock_offset, rest })
}

async fn server(client: &Client, url: &SourceUrl) -> Result<Server> {
    let row = client.query_one(doctor_sql::SERVER, &[]).await.map_err(|e| failed("looking at the server", &e))?;
    let megabytes: i64 = row.get(6);
    let folder: Option<&str> = row.get(8);
    Ok(Server {
        in_recovery: row.get(0),
        wal_level: row.get(1),
        slots_max: row.get(2),
        slots: row.get(3),
        senders_max: row.get(4),
        senders: row.get(5),
        slot_keep: u64::try_from(megabytes).ok().map(|megabytes| megabytes << 20),
        encoding: row.get(7),
        disk_free: folder.filter(|_| url.is_loopback()).and_then(|folder| machine::free_bytes(Path::new(folder))),
        may_replicate: row.get(9),
        superuser: row.get(10),
        reads_all_stats: row.get(11),
        slot_idle: row.get::<_, Option<i64>>(12).and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0),
    })
}

/// The server's answer is dated in the middle between question and answer.
async fn clock_offset(client: &Client, machine: &Machine) -> Result<i64> {
    let before = (machine.clock)();
    let row = client.query_one(doctor_sql::CLOCK, &[]).await.map_err(|e| failed("reading the server's clock", &e))?;
    let after = (machine.clock)();
    Ok(before + (after - before) / 2 - row.get::<_, i64>(0))
}

async fn slot(client: &Client, name: &str) -> Result<Option<Slot>> {
    let row = client.query_opt(doctor_sql::SLOT, &[&name]).await.map_err(|e| failed("looking at the slot", &e))?;
    Ok(row.map(|row| Slot {
        active_pid: row.get(0),
        wal_status: row.get(1),
        plugin: row.get(3),
        database: row.get(4),
        application: row.get(5),
        retained: row.get::<_, Option<i64>>(6).and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
    }))
}

async fn publications(client: &Client, name: &str) -> Result<Vec<Publication>> {
    let names = [name.to_owned(), format!("{name}_inserts")];
    let ask = async |statement| {
        let rows = client.query(statement, &[&names.as_slice()]).await;
        rows.map_err(|e| failed("looking at the publications", &e))
    };
    let tables = ask(doctor_sql::PUBLICATION_TABLES).await?;
    let namespaces = ask(doctor_sql::PUBLISHED_NAMESPACES).await?;
    let read = |row: &tokio_postgres::Row| {
        let name: String = row.get(0);
        let own = |row: &&tokio_postgres::Row| row.get::<_, &str>(0) == name;
        let table = |row: &tokio_postgres::Row| PublishedTable {
            name: QualifiedName { namespace: row.get(1), name: row.get(2) },
            row_filter: row.get(3),
            column_list: row.get(4),
        };
        Publication {
            all_tables: row.get(1),
            via_root: row.get(2),
            publishes: [row.get(3), row.get(4), row.get(5), row.get(6)],
            generated_columns: row.get(7),
            tables: tables.iter().filter(own).map(table).collect(),
            namespaces: namespaces.iter().filter(own).map(|row| row.get(1)).collect(),
            name: name.clone(),
        }
    };
    Ok(ask(doctor_sql::PUBLICATIONS).await?.iter().map(read).collect())
}

async fn tables(
    client: &Client,
    published: &[&ContractVersion],
    bound: &BTreeMap<(String, u32), RelationId>,
) -> Result<Vec<Table>> {
    let oid = |version: &ContractVersion| bound.get(&(version.contract.clone(), version.major)).copied();
    let oids: Vec<RelationId> = published.iter().filter_map(|version| oid(version)).collect();
    let names: Vec<QualifiedName> =
        published.iter().filter(|version| oid(version).is_none()).map(|version| version.source.clone()).collect();
    let mut images = sampling::sample(client, &oids).await?.images;
    images.extend(sampling::sample_named(client, &names).await?.images);
    let mut tables: Vec<Table> = Vec::new();
    for version in published {
        if tables.iter().any(|known| known.source == version.source) {
            continue;
        }
        let is_it = |image: &&TableImage| match oid(version) {
            Some(oid) => image.relation == oid,
            None => image.name == version.source,
        };
        let image = images.iter().find(is_it).cloned();
        let rights = match &image {
            Some(image) => rights(client, image).await?,
            None => Vec::new(),
        };
        tables.push(Table { source: version.source.clone(), image, rights });
    }
    Ok(tables)
}

async fn rights(client: &Client, image: &TableImage) -> Result<Vec<Rights>> {
    let leaves: Vec<Leaf> = sampling::named_leaves(client, image.relation).await?;
    let mut oids = vec![image.relation.0];
    oids.extend(leaves.iter().map(|leaf| leaf.relation.0).filter(|oid| *oid != image.relation.0));
    let rows = client.query(doctor_sql::TABLE_RIGHTS, &[&oids]).await;
    let rows = rows.map_err(|e| failed("looking at the role's rights", &e))?;
    let right = |row: &tokio_postgres::Row| Rights {
        name: QualifiedName { namespace: row.get(1), name: row.get(2) },
        usage: row.get(3),
        select: row.get(4),
        row_security: row.get(5),
    };
    Ok(rows.iter().map(right).collect())
}

// ---- sink and registry ----------------------------------------------------------------------------------------------

fn sink(config: &Config, published: &[&ContractVersion]) -> SinkFacts {
    match &config.sink {
        SinkConfig::Files { path } | SinkConfig::Null { path } => SinkFacts::Folder(folder(path)),
        SinkConfig::Kafka { bootstrap, replication, properties } => {
            let options = KafkaOptions {
                bootstrap: bootstrap.clone(),
                replication: *replication,
                properties: properties.clone(),
                pipeline: config.pipeline.clone(),
                transactional_id: String::new(),
            };
            let topic = |version: &&ContractVersion| {
                let retention = match version.kind {
                    ContractKind::State => Retention::Compact,
                    ContractKind::Log => Retention::Append,
                };
                (version.topic.clone(), version.partitions, retention)
            };
            let topics: Vec<kafka::Wanted> = published.iter().map(topic).collect();
            SinkFacts::Kafka(kafka::inspect(&options, &topics))
        }
    }
}

fn folder(path: &Path) -> Folder {
    let there = |path: &&Path| path.exists();
    let nearest = path.ancestors().find(there).unwrap_or(Path::new("."));
    // A relative path with one part has the empty path above it, which is the current folder.
    let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
    let lock = std::fs::metadata(path.join(LOCK)).ok();
    let is_folder = path.is_dir();
    Folder {
        path: path.to_owned(),
        exists: path.exists(),
        is_folder,
        nearest: nearest.to_owned(),
        writable: machine::may_write(nearest),
        free: machine::free_bytes(nearest),
        holder: lock.as_ref().and_then(machine::lock_holder),
        state: if is_folder {
            Manifest::read(path).map(|found| found.map(|it| it.entries())).transpose()
        } else {
            None
        },
    }
}

async fn registry(config: &Config, published: &[&ContractVersion]) -> Option<Result<inspect::Inspection>> {
    if matches!(config.registry, RegistryConfig::Embedded) {
        return None;
    }
    let mut subjects = Vec::new();
    for version in published {
        subjects.extend(version.key_schema_json.as_ref().map(|_| format!("{}-key", version.topic)));
        subjects.push(format!("{}-value", version.topic));
    }
    let (tries, wait) = REGISTRY_PATIENCE;
    Some(match HttpRegistry::new(&config.registry) {
        Ok(registry) => registry.patience(tries, wait).inspect(&subjects).await,
        Err(error) => Err(error),
    })
}
