//! Opens a session: slot, sink, checkpoint, catalog, schema ids, bindings; in the order that loses and doubles nothing.
//!
//! ```text
//!  slot there:  START_REPLICATION (the slot is the lock) ─▶ sink.load (fences) ─▶ checks ─▶ ids, topics, bindings ─▶ stream
//!  no slot:     sink.load ─▶ commit `creating` ─▶ create the slot, read the catalog at its point ─▶ commit `started` ─▶ stream
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::batch::{Batch, StateChange};
use crate::contract::{ContractKind, ContractVersion};
use crate::daemon::bind::Ids;
use crate::daemon::connect::Door;
use crate::daemon::plan::{self, Checkpoint, Moment, Wanted, missing};
use crate::daemon::sealing;
use crate::engine::{Engine, Limits, Sample};
use crate::error::{Code, Result};
use crate::killpoint::{self, Point};
use crate::lsn::Xid;
use crate::parcel::{self, DEAD_SUFFIX, PARKED_SUFFIX};
use crate::postgres::connection::Connection;
use crate::postgres::publication::{self, Member, Publications};
use crate::postgres::stream::StreamHandle;
use crate::postgres::{nonce, sampling, slot, worker};
use crate::registry::Registry;
use crate::sink::{RegisteredSchema, Retention, Sink, TopicSpec};
use crate::state::{self, CachedId, ContractEntry, POSITION_KEY, ParcelIds, Phase, PositionEntry};
use crate::table::RelationId;

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
    /// They must stay in their publications.
    pub members: Vec<Member>,
}

/// What a session is opened from.
pub struct Opening<'a> {
    /// The way to source and sink.
    pub door: Door<'a>,
    /// Contract versions that `check` accepted and that are to be published.
    pub contracts: &'a [Arc<ContractVersion>],
    /// Gives ids to schemas.
    pub registry: &'a dyn Registry,
}

impl Opening<'_> {
    /// Opens the session, or says why not.
    pub fn open(&self) -> Result<Opened> {
        let Door { config, client, runtime, .. } = self.door;
        let publications = runtime.block_on(publication::publications(client, config, self.contracts))?;
        let mut connection = self.door.connection()?;
        let identity = connection.identify_system()?;
        let mut sink = self.door.sink(identity.system_id)?;
        let name = &config.source.slot;
        let taken = match self.door.find()? {
            None => return self.open_without_slot(connection, &publications, sink, false),
            Some(slot) if slot.is_lost() => return self.open_without_slot(connection, &publications, sink, true),
            Some(_) => match self.door.take(connection, &publications.names) {
                // A slot whose creation waits for old transactions is there although its client died, and then is not.
                Err(error) if error.code() == Code::SlotLost => {
                    return self.open_without_slot(self.door.connection()?, &publications, sink, false);
                }
                other => other?,
            },
        };
        killpoint::pass(Point::SlotTaken);
        let checkpoint = Checkpoint::open(&sink.load()?)?;
        match &checkpoint.position {
            None => Err(slot::without_state(name)),
            Some(position) if position.phase == Phase::Started => {
                taken.arrival.check(position)?;
                // The server's history up to here is the one that was published, whatever its timeline is called now.
                let position = PositionEntry { timeline: taken.arrival.identity.timeline, ..position.clone() };
                let (engine, relations) = self.setup(position, checkpoint, sink.as_mut(), None, &publications)?;
                Ok(Opened {
                    members: publications.members(engine.contracts()),
                    engine,
                    stream: taken.stream,
                    sink,
                    relations,
                })
            }
            Some(_) => {
                // Nothing was acknowledged from a slot whose creation was broken off, or that is to be made anew.
                taken.stream.stop()?;
                let mut connection = self.door.connection()?;
                slot::drop(&mut connection, name)?;
                self.create(connection, &publications, checkpoint, sink)
            }
        }
    }

    /// The server has no slot of this name, or a dead one.
    fn open_without_slot(
        &self,
        mut connection: Connection,
        publications: &Publications,
        mut sink: Box<dyn Sink>,
        dead: bool,
    ) -> Result<Opened> {
        let name = &self.door.config.source.slot;
        let checkpoint = Checkpoint::open(&sink.load()?)?;
        if let Some(position) = checkpoint.position.as_ref().filter(|_| checkpoint.started()) {
            let system_id = connection.identify_system()?.system_id;
            return Err(match position.system_id == system_id {
                true => slot::lost(name),
                false => slot::other_system(system_id, position.system_id),
            });
        }
        if dead {
            if checkpoint.position.is_none() {
                return Err(slot::without_state(name));
            }
            slot::drop(&mut connection, name)?;
        }
        self.create(connection, publications, checkpoint, sink)
    }

    /// First start, or start after `gimbal adopt`: the checkpoint says `creating` before the slot exists, and `started`
    /// before anything is read from it.
    fn create(
        &self,
        mut connection: Connection,
        publications: &Publications,
        checkpoint: Checkpoint,
        mut sink: Box<dyn Sink>,
    ) -> Result<Opened> {
        let identity = connection.identify_system()?;
        let old = checkpoint.position.as_ref();
        if let Some(old) = old.filter(|old| !checkpoint.contracts.is_empty() && old.system_id != identity.system_id) {
            // Adopted, and then the server was replaced once more: the contracts are bound to the one before.
            return Err(slot::other_system(identity.system_id, old.system_id));
        }
        let position = PositionEntry {
            seq: old.map_or(0, |old| old.seq) + 1,
            epoch: old.map_or(0, |old| old.epoch),
            ..plan::creating(nonce(), identity.system_id, identity.timeline)
        };
        commit_position(sink.as_mut(), &position)?;
        killpoint::pass(Point::CreatingCommitted);
        let asked: Vec<_> = self.contracts.iter().map(|contract| contract.source.clone()).collect();
        let bound: Vec<_> = checkpoint.contracts.values().map(|entry| entry.relation).collect();
        let (consistent, sample) = slot::create(&mut connection, &self.door.config.source.slot, &asked, &bound)?;
        killpoint::pass(Point::SlotCreated);
        let position = plan::first_position(position, consistent);
        let (mut engine, relations) = self.setup(position, checkpoint, sink.as_mut(), Some(sample), publications)?;
        let mut batch = Batch::default();
        engine.seal(&mut batch)?;
        killpoint::pass(Point::StartCommitting);
        sink.commit(&batch)?;
        killpoint::pass(Point::StartCommitted);
        let stream = self.door.take(connection, &publications.names)?.stream;
        Ok(Opened { members: publications.members(engine.contracts()), engine, stream, sink, relations })
    }

    /// Binds every contract and compiles the engine's setup. `first` is the sample read at the slot's creation.
    fn setup(
        &self,
        position: PositionEntry,
        checkpoint: Checkpoint,
        sink: &mut dyn Sink,
        first: Option<Sample>,
        publications: &Publications,
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
            None => self.door.runtime.block_on(sampling::sample(self.door.client, &sampled))?,
        };
        let fence: Xid = self.door.runtime.block_on(worker::fence(self.door.client))?;
        let mut wanted = Vec::new();
        for version in self.contracts {
            let key = (version.contract.clone(), version.major);
            let (Some(ids), Some(relation)) = (ids.remove(&key), targets.get(&key).copied()) else {
                return Err(missing(version));
            };
            wanted.push(Wanted { version: version.clone(), ids, relation });
        }
        let relations: Vec<RelationId> = targets.into_values().collect::<BTreeSet<_>>().into_iter().collect();
        let there: BTreeSet<RelationId> = sample.images.iter().map(|image| image.relation).collect();
        let moment = Moment { sample, fence, sealer: sealing::sealer(self.door.config)? };
        let mut setup = plan::setup(position, checkpoint, wanted, moment, Limits::default())?;
        for contract in &mut setup.contracts {
            let there = there.contains(&contract.entry.relation);
            publications.enroll(contract, there)?;
        }
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
                (None, None) => {
                    self.door.runtime.block_on(worker::table_by_name(self.door.client, &contract.source))?
                }
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
            let id = self.door.runtime.block_on(self.registry.register(&subject, json))?;
            Ok(CachedId { id, fingerprint })
        };
        let key = match &contract.key_schema_json {
            Some(json) => Some(id("-key", json, known.and_then(|entry| entry.key_id.as_ref()))?),
            None => None,
        };
        let value = id("-value", &contract.schema_json, known.map(|entry| &entry.value_id))?;
        let cached = known.and_then(|entry| entry.parcel_ids.as_ref());
        let parcels = match sealing::configured(self.door.config) {
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
