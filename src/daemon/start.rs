//! Opens a session: slot, sink, checkpoint, catalog, schema ids, bindings; in the order that loses and doubles nothing.
//!
//! ```text
//!  slot there:  START_REPLICATION (the slot is the lock) ─▶ sink.load (fences) ─▶ checks ─▶ ids, topics, bindings ─▶ stream
//!  no slot:     sink.load ─▶ commit `creating` ─▶ create the slot, read the catalog at its point ─▶ commit `started` ─▶ stream
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::batch::{Batch, StateChange};
use crate::config::{Config, SinkConfig};
use crate::contract::{ContractKind, ContractVersion};
use crate::daemon::bind::Ids;
use crate::daemon::plan::{self, Checkpoint, Moment, Wanted, missing};
use crate::daemon::sealing;
use crate::engine::{Engine, Limits, Sample};
use crate::error::{Code, Error, Result};
use crate::killpoint::{self, Point};
use crate::lsn::{Lsn, Xid};
use crate::parcel::{self, DEAD_SUFFIX, PARKED_SUFFIX};
use crate::postgres::connection::Connection;
use crate::postgres::sql::Source;
use crate::postgres::stream::{Stream, StreamHandle};
use crate::postgres::{sampling, slot, worker};
use crate::registry::Registry;
use crate::sink::files::{FilesOptions, FilesSink};
use crate::sink::kafka::{KafkaOptions, KafkaSink};
use crate::sink::null::NullSink;
use crate::sink::{RegisteredSchema, Retention, Sink, TopicSpec};
use crate::state::{self, CachedId, ContractEntry, POSITION_KEY, ParcelIds, Phase, PositionEntry};
use crate::table::RelationId;

/// How long a slot that a dead predecessor still holds is asked for again.
const SLOT_WAIT: Duration = Duration::from_secs(15);

/// What a session begins with.
pub struct Opened {
    /// Ready to take the stream's first message.
    pub engine: Engine,
    /// The stream, started.
    pub stream: StreamHandle,
    /// Loaded and told its topics.
    pub sink: Box<dyn Sink>,
    /// Their catalog is watched.
    pub relations: Vec<RelationId>,
}

/// What a session is opened from.
pub struct Opening<'a> {
    /// The config.
    pub config: &'a Config,
    /// Contract versions that `check` accepted and that are to be published.
    pub contracts: &'a [Arc<ContractVersion>],
    /// Where the source is.
    pub source: &'a Source,
    /// An open SQL connection.
    pub client: &'a Client,
    /// Gives ids to schemas.
    pub registry: &'a dyn Registry,
    /// Runs what is asynchronous.
    pub runtime: &'a tokio::runtime::Handle,
}

impl Opening<'_> {
    /// Opens the session, or says why not.
    pub fn open(&self) -> Result<Opened> {
        let publications = self.runtime.block_on(slot::publications(self.client, self.config, self.contracts))?;
        let mut connection = Connection::connect(&self.source.url, self.source.password.as_ref())?;
        let identity = connection.identify_system()?;
        let mut sink = self.sink(identity.system_id)?;
        let name = &self.config.source.slot;
        let Some(found) = self.runtime.block_on(slot::find(self.client, name))? else {
            return self.open_without_slot(connection, &publications, sink);
        };
        found.check(name, &self.source.url.database)?;
        let stream = match self.start_stream(connection, &publications) {
            // A slot whose creation waits for old transactions is there although its client died, and then is not.
            Err(error) if error.code() == Code::SlotLost => {
                let connection = Connection::connect(&self.source.url, self.source.password.as_ref())?;
                return self.open_without_slot(connection, &publications, sink);
            }
            other => other?,
        };
        killpoint::pass(Point::SlotTaken);
        let checkpoint = Checkpoint::open(&sink.load()?)?;
        match &checkpoint.position {
            None => Err(slot::without_state(name)),
            Some(position) if position.phase == Phase::Started => {
                slot::check_position(position, &identity, &found)?;
                let position = position.clone();
                self.resume(position, checkpoint, sink, stream)
            }
            Some(_) => {
                // Nothing was acknowledged from a slot whose creation was broken off.
                stream.stop()?;
                let mut connection = Connection::connect(&self.source.url, self.source.password.as_ref())?;
                slot::drop(&mut connection, name)?;
                self.create(connection, &publications, checkpoint, sink)
            }
        }
    }

    fn open_without_slot(
        &self,
        connection: Connection,
        publications: &[String],
        mut sink: Box<dyn Sink>,
    ) -> Result<Opened> {
        let checkpoint = Checkpoint::open(&sink.load()?)?;
        if checkpoint.started() {
            return Err(slot::lost(&self.config.source.slot));
        }
        self.create(connection, publications, checkpoint, sink)
    }

    fn sink(&self, system_id: u64) -> Result<Box<dyn Sink>> {
        let config = self.config;
        Ok(match &config.sink {
            SinkConfig::Files { path } => Box::new(FilesSink::open(path, &config.pipeline, FilesOptions::default())?),
            SinkConfig::Null { path } => Box::new(NullSink::open(path)?),
            SinkConfig::Kafka { bootstrap, replication, properties } => Box::new(KafkaSink::new(KafkaOptions {
                bootstrap: bootstrap.clone(),
                replication: *replication,
                properties: properties.clone(),
                pipeline: config.pipeline.clone(),
                // After `adopt` the system id is another one, and the old producer is fenced all the same: by the slot.
                transactional_id: format!("gimbal.{}.{system_id}.{}", config.pipeline, config.source.slot),
            })?),
        })
    }

    fn start_stream(&self, connection: Connection, publications: &[String]) -> Result<StreamHandle> {
        let name = &self.config.source.slot;
        let end = Instant::now() + SLOT_WAIT;
        let mut connection = connection;
        loop {
            let names: Vec<&str> = publications.iter().map(String::as_str).collect();
            match Stream::spawn(connection, name, &names) {
                Err(error) if error.code() == Code::SlotHeld && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(200));
                    connection = Connection::connect(&self.source.url, self.source.password.as_ref())?;
                }
                // A dead predecessor would have let go by now: whoever holds it is alive.
                Err(error) if error.code() == Code::SlotHeld => {
                    let why = format!("{}, for {} s now", error.diagnosis(), SLOT_WAIT.as_secs());
                    let hint = error.hint_text().unwrap_or("stop the other daemon, then start again");
                    return Err(Error::definite(Code::SlotHeld, why).hint(hint));
                }
                other => return other,
            }
        }
    }

    /// First start: the checkpoint says `creating` before the slot exists, and `started` before anything is read from it.
    fn create(
        &self,
        mut connection: Connection,
        publications: &[String],
        checkpoint: Checkpoint,
        mut sink: Box<dyn Sink>,
    ) -> Result<Opened> {
        let identity = connection.identify_system()?;
        let position = PositionEntry {
            seq: checkpoint.position.map_or(0, |old| old.seq) + 1,
            phase: Phase::Creating { nonce: crate::postgres::nonce() },
            epoch: 0,
            system_id: identity.system_id,
            timeline: identity.timeline,
            commit_lsn: Lsn(0),
            next_ordinal: 0,
            complete: true,
            end_lsn: Lsn(0),
            anchor: None,
            ack: Lsn(0),
        };
        commit_position(sink.as_mut(), &position)?;
        killpoint::pass(Point::CreatingCommitted);
        let asked: Vec<_> = self.contracts.iter().map(|contract| contract.source.clone()).collect();
        let (consistent, sample) = slot::create(&mut connection, &self.config.source.slot, &asked)?;
        killpoint::pass(Point::SlotCreated);
        let position = plan::first_position(position, consistent);
        let setup = self.setup(position, Checkpoint::default(), sink.as_mut(), Some(sample))?;
        let (mut engine, relations) = setup;
        let mut batch = Batch::default();
        engine.seal(&mut batch)?;
        killpoint::pass(Point::StartCommitting);
        sink.commit(&batch)?;
        killpoint::pass(Point::StartCommitted);
        let stream = self.start_stream(connection, publications)?;
        Ok(Opened { engine, stream, sink, relations })
    }

    fn resume(
        &self,
        position: PositionEntry,
        checkpoint: Checkpoint,
        mut sink: Box<dyn Sink>,
        stream: StreamHandle,
    ) -> Result<Opened> {
        let (engine, relations) = self.setup(position, checkpoint, sink.as_mut(), None)?;
        Ok(Opened { engine, stream, sink, relations })
    }

    /// Binds every contract and compiles the engine's setup. `first` is the sample read at the slot's creation.
    fn setup(
        &self,
        position: PositionEntry,
        checkpoint: Checkpoint,
        sink: &mut dyn Sink,
        first: Option<Sample>,
    ) -> Result<(Engine, Vec<RelationId>)> {
        let mut ids = BTreeMap::new();
        let mut topics = Vec::new();
        for contract in self.contracts {
            let known = checkpoint.contracts.get(&(contract.contract.clone(), contract.major));
            let one = self.ids(contract, known)?;
            topics.push(topic(contract, &one));
            ids.insert((contract.contract.clone(), contract.major), one);
        }
        for contract in self.contracts {
            topics.extend(
                ids.get(&(contract.contract.clone(), contract.major)).into_iter().flat_map(|ids| aside(contract, ids)),
            );
        }
        sink.declare(&topics)?;
        killpoint::pass(Point::TopicsDeclared);
        let targets = self.targets(&checkpoint, first.as_ref())?;
        let sampled: Vec<RelationId> = targets.values().copied().collect();
        // The images first, then the fence: whatever the images show lies below it.
        let sample = match first {
            Some(sample) => sample,
            None => self.runtime.block_on(sampling::sample(self.client, &sampled))?,
        };
        let fence: Xid = self.runtime.block_on(worker::fence(self.client))?;
        let mut wanted = Vec::new();
        for version in self.contracts {
            let key = (version.contract.clone(), version.major);
            let (Some(ids), Some(relation)) = (ids.remove(&key), targets.get(&key).copied()) else {
                return Err(missing(version));
            };
            wanted.push(Wanted { version: version.clone(), ids, relation });
        }
        let relations: Vec<RelationId> = targets.into_values().collect::<BTreeSet<_>>().into_iter().collect();
        let setup = plan::setup(
            position,
            checkpoint,
            wanted,
            Moment { sample, fence, sealer: sealing::sealer(self.config)? },
            Limits::default(),
        )?;
        Ok((Engine::new(setup)?, relations))
    }

    /// The table of each contract: as bound, or by name where it begins now.
    fn targets(&self, checkpoint: &Checkpoint, first: Option<&Sample>) -> Result<BTreeMap<(String, u32), RelationId>> {
        let mut targets = BTreeMap::new();
        for contract in self.contracts {
            let key = (contract.contract.clone(), contract.major);
            let bound = checkpoint.contracts.get(&key).filter(|entry| entry.source == contract.source);
            let relation = match (bound, first) {
                (Some(entry), _) => Some(entry.relation),
                (None, Some(sample)) => {
                    sample.images.iter().find(|image| image.name == contract.source).map(|image| image.relation)
                }
                (None, None) => self.runtime.block_on(worker::table_by_name(self.client, &contract.source))?,
            };
            targets.insert(key, relation.ok_or_else(|| missing(contract))?);
        }
        Ok(targets)
    }

    /// Schema ids: from the checkpoint where the schema is the same, so that a registry that is down stops nothing.
    fn ids(&self, contract: &ContractVersion, known: Option<&ContractEntry>) -> Result<Ids> {
        let id = |suffix: &str, json: &str, cached: Option<&CachedId>| -> Result<CachedId> {
            let fingerprint = state::fingerprint(json);
            if let Some(cached) = cached.filter(|cached| cached.fingerprint == fingerprint) {
                return Ok(cached.clone());
            }
            let subject = format!("{}{suffix}", contract.topic);
            let id = self.runtime.block_on(self.registry.register(&subject, json))?;
            Ok(CachedId { id, fingerprint })
        };
        let key = match &contract.key_schema_json {
            Some(json) => Some(id("-key", json, known.and_then(|entry| entry.key_id.as_ref()))?),
            None => None,
        };
        let value = id("-value", &contract.schema_json, known.map(|entry| &entry.value_id))?;
        let cached = known.and_then(|entry| entry.parcel_ids.as_ref());
        let parcels = match sealing::configured(self.config) {
            true => Some(ParcelIds {
                parked: id(&format!("{}-value", PARKED_SUFFIX), parcel::SCHEMA, cached.map(|ids| &ids.parked))?,
                dead: id(&format!("{}-value", DEAD_SUFFIX), parcel::SCHEMA, cached.map(|ids| &ids.dead))?,
            }),
            false => None,
        };
        Ok(Ids { key, value, parcels })
    }
}

fn topic(contract: &ContractVersion, ids: &Ids) -> TopicSpec {
    let key = match (&ids.key, &contract.key_schema_json) {
        (Some(id), Some(json)) => Some(RegisteredSchema { id: id.id, json: json.clone() }),
        _ => None,
    };
    TopicSpec {
        name: contract.topic.clone(),
        partitions: contract.partitions,
        retention: match contract.kind {
            ContractKind::State => Retention::Compact,
            ContractKind::Log => Retention::Append,
        },
        key,
        value: RegisteredSchema { id: ids.value.id, json: contract.schema_json.clone() },
    }
}

/// The topics beside a contract's own: parked, dead letters; in one order over all their records.
fn aside(contract: &ContractVersion, ids: &Ids) -> Vec<TopicSpec> {
    let Some(ids) = &ids.parcels else { return Vec::new() };
    let spec = |suffix: &str, id: u32| TopicSpec {
        name: format!("{}{suffix}", contract.topic),
        partitions: 1,
        retention: Retention::Append,
        key: None,
        value: RegisteredSchema { id, json: parcel::SCHEMA.to_owned() },
    };
    vec![spec(PARKED_SUFFIX, ids.parked.id), spec(DEAD_SUFFIX, ids.dead.id)]
}

fn commit_position(sink: &mut dyn Sink, position: &PositionEntry) -> Result<()> {
    let mut batch = Batch::default();
    batch.state.push(StateChange { key: POSITION_KEY.to_owned(), value: Some(state::seal(position)?) });
    sink.commit(&batch)
}
