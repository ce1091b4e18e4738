//! `gimbal adopt`: takes a server that is not the one of the checkpoint, or a slot that is not its slot.
//!
//! ```text
//!  locks (folder, slot) ─▶ checkpoint ─▶ what does not fit ─▶ contracts bound anew ─▶ consent ─▶ one commit: `creating`, epoch + 1
//! ```
//!
//! The commit is all of it. A checkpoint that says `creating` lets the next `run` drop a slot of this name and make it
//! anew, as after a first start that was broken off; so a crash anywhere leaves the old checkpoint or the new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, StateChange};
use crate::config::SinkConfig;
use crate::contract::ContractVersion;
use crate::daemon::connect::{Door, Taken};
use crate::daemon::plan::{self, Checkpoint};
use crate::daemon::rebind::{self, Ids, Known};
use crate::engine::{AnchorWatch, HEARTBEAT_PREFIX};
use crate::error::{Code, Error, Result};
use crate::history::History;
use crate::lsn::Lsn;
use crate::pgoutput::{self, Message};
use crate::position::Position;
use crate::postgres::connection::SystemIdentity;
use crate::postgres::frames::Frame;
use crate::postgres::stream::StreamEvent;
use crate::postgres::{nonce, publication, sampling, slot, worker};
use crate::sink::{Sink, StateEntries};
use crate::state::{self, COPY_PREFIX, ContractEntry, POSITION_KEY, Phase, PositionEntry, Progress};
use crate::table::{QualifiedName, RelationId, TableImage, TableVersion};

/// How long the stream may take to show the next messages.
const STREAM_WAIT: Duration = Duration::from_secs(60);

/// What `adopt` found.
pub enum Found {
    /// Nothing is to be done, for this reason.
    Nothing(&'static str),
    /// This, once it is agreed to.
    Adoption(Box<Adoption>),
}

/// What is to be committed. As long as it lives, no daemon can take the slot or the folder.
pub struct Adoption {
    lines: Vec<String>,
    batch: Batch,
    sink: Box<dyn Sink>,
    lock: Option<Taken>,
}

impl Adoption {
    /// What was found and what will be done, for people.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Does it.
    pub fn commit(mut self) -> Result<()> {
        self.sink.commit(&self.batch)?;
        self.lock.map_or(Ok(()), |taken| taken.stream.stop())
    }
}

/// Sets a contract so that all of its rows come again. The one place that decides how.
///
/// As `r` records in a new snapshot; then a repair takes back what was deleted in the gap. A parked contract begins anew too.
pub fn requeue(entry: &mut ContractEntry) {
    entry.progress = Progress::Activating;
    entry.begun = None;
    entry.ghosts = true;
    entry.parked = None;
    entry.unlevel = false;
}

/// Compares server, slot and checkpoint, and prepares what is to be done; `only`: one contract, copied again.
pub fn look(door: &Door<'_>, contracts: &[Arc<ContractVersion>], only: Option<&str>) -> Result<Found> {
    let publications = door.runtime.block_on(publication::publications(door.client, door.config, contracts))?;
    let mut connection = door.connection()?;
    let identity = connection.identify_system()?;
    let mut sink = door.sink(identity.system_id)?;
    let slot = door.find()?;
    let there = slot.is_some();
    let lock = match slot.filter(|slot| !slot.is_lost()).map(|_| door.take(connection, &publications.names)) {
        Some(Err(error)) if error.code() == Code::SlotLost => None,
        taken => taken.transpose()?,
    };
    let entries = load(door, sink.as_mut(), identity.system_id)?;
    let checkpoint = Checkpoint::open(&entries)?;
    let why = match misfit(door, &checkpoint, &identity, there, lock.as_ref())? {
        Fit::Nothing(reason) if only.is_none() => return Ok(Found::Nothing(reason)),
        Fit::Nothing(_) => None,
        Fit::Misfit(why) => Some(why),
    };
    let server = Server { door, identity, there };
    let (lines, new) = match (why, only) {
        (None, only) => one_contract(&entries, &checkpoint, only.unwrap_or_default())?,
        (Some(why), None) => server.everything(&entries, checkpoint, contracts, &why)?,
        (Some(why), Some(_)) => {
            let what = format!("one contract is not enough: {}", why.diagnosis());
            return Err(Error::definite(Code::AdoptRefused, what).hint("run `gimbal adopt` without `--contract`"));
        }
    };
    let batch = Batch { state: difference(&entries, new), ..Batch::default() };
    Ok(Found::Adoption(Box::new(Adoption { lines, batch, sink, lock })))
}

/// The checkpoint, after whoever published for the old server can publish no more.
fn load(door: &Door<'_>, sink: &mut dyn Sink, system_id: u64) -> Result<StateEntries> {
    let entries = sink.load()?;
    let old = Checkpoint::open(&entries)?.position.map(|position| position.system_id);
    match (&door.config.sink, old) {
        (SinkConfig::Kafka { .. }, Some(old)) if old != system_id => {
            // The transactional id names the system: that of the old one is fenced by a producer of the same id.
            door.sink(old)?.load()?;
            sink.load()
        }
        _ => Ok(entries),
    }
}

enum Fit {
    Nothing(&'static str),
    /// What `run` would say.
    Misfit(Error),
}

/// Makes the checks that `run` makes.
fn misfit(
    door: &Door<'_>,
    checkpoint: &Checkpoint,
    identity: &SystemIdentity,
    there: bool,
    lock: Option<&Taken>,
) -> Result<Fit> {
    let name = &door.config.source.slot;
    Ok(match (&checkpoint.position, lock) {
        (None, _) if there => Fit::Misfit(slot::without_state(name)),
        (None, _) => Fit::Nothing("the pipeline has not begun: `gimbal run` begins it"),
        (Some(position), _) if position.phase != Phase::Started => {
            match !checkpoint.contracts.is_empty() && position.system_id != identity.system_id {
                true => Fit::Misfit(slot::other_system(identity.system_id, position.system_id)),
                false => Fit::Nothing("the slot is to be made by the next `gimbal run`"),
            }
        }
        (Some(position), None) => Fit::Misfit(match position.system_id == identity.system_id {
            true => slot::lost(name),
            false => slot::other_system(identity.system_id, position.system_id),
        }),
        (Some(position), Some(taken)) => {
            match taken.arrival.check(position).and_then(|()| anchored(door, taken, position)) {
                Ok(()) => Fit::Nothing("server, slot and checkpoint fit together: `gimbal run` goes on"),
                Err(why) if (314..=318).contains(&why.code().number()) || why.code() == Code::SlotLost => {
                    Fit::Misfit(why)
                }
                Err(error) => return Err(error),
            }
        }
    })
}

/// Reads the stream until the anchor has passed by, as the engine does.
fn anchored(door: &Door<'_>, taken: &Taken, position: &PositionEntry) -> Result<()> {
    let mut watch = AnchorWatch::new(position);
    // Its heartbeat is behind everything: if the anchor is not there, this comes.
    door.runtime.block_on(worker::fence(door.client))?;
    while watch.waits() {
        let buffer = match taken.stream.events.recv_timeout(STREAM_WAIT) {
            Ok(StreamEvent::Frames(buffer)) => buffer,
            Ok(StreamEvent::Ended(error)) => return Err(error),
            Err(_) => {
                let what = format!("the stream has shown nothing for {} s", STREAM_WAIT.as_secs());
                return Err(Error::transient(Code::SourceUnreachable, what));
            }
        };
        for frame in buffer.frames() {
            let Frame::Data { message, .. } = frame else { continue };
            match pgoutput::decode(message) {
                Ok(Message::Begin(begin)) => watch.begin(begin.commit_lsn, begin.timestamp)?,
                Ok(Message::Logical(logical)) if logical.prefix == HEARTBEAT_PREFIX => watch.heartbeat(&logical),
                _ => {}
            }
        }
        taken.stream.recycle(buffer);
    }
    Ok(())
}

/// The server that is to be adopted.
struct Server<'a> {
    door: &'a Door<'a>,
    identity: SystemIdentity,
    /// A slot of our name is there.
    there: bool,
}

type Planned = (Vec<String>, StateEntries);

impl Server<'_> {
    /// The new checkpoint: next epoch, contracts bound anew, no past but the tables' names.
    fn everything(
        &self,
        entries: &StateEntries,
        checkpoint: Checkpoint,
        contracts: &[Arc<ContractVersion>],
        why: &Error,
    ) -> Result<Planned> {
        let SystemIdentity { system_id, timeline, .. } = self.identity;
        let old = checkpoint.position.as_ref();
        let ids = if old.is_some_and(|old| old.system_id == system_id) { Ids::Kept } else { Ids::Foreign };
        let epoch = old.map_or(0, |old| old.epoch).checked_add(1).ok_or_else(|| {
            Error::definite(Code::AdoptRefused, "the epoch is at its end").hint("begin a new pipeline")
        })?;
        let seq = old.map_or(0, |old| old.seq) + 1;
        let mut new = StateEntries::new();
        new.insert(
            POSITION_KEY.to_owned(),
            state::seal(&PositionEntry { seq, epoch, ..plan::creating(nonce(), system_id, timeline) })?,
        );
        let mut lines = vec![
            format!("found: {} [{} {}]", why.diagnosis(), why.code(), why.code().slug()),
            format!("epoch: {} → {epoch}", old.map_or("none".to_owned(), |old| old.epoch.to_string())),
            format!(
                "slot `{}`: {} by the next `gimbal run`",
                self.door.config.source.slot,
                if self.there { "dropped and made anew" } else { "made" }
            ),
        ];
        if !checkpoint.contracts.is_empty() {
            lines.push("contracts, bound to these tables and columns, and copied again:".to_owned());
        }
        let published = |entry: &ContractEntry| {
            contracts.iter().any(|version| version.contract == entry.contract && version.major == entry.major)
        };
        let images = self.images(&checkpoint)?;
        let mut history = History::default();
        for entry in checkpoint.contracts.values() {
            let key = ContractEntry::key(&entry.contract, entry.major);
            if !published(entry) || matches!(entry.progress, Progress::Ended { .. }) {
                if let Some(ended) = ended(entry, old) {
                    new.insert(key, state::seal(&ended)?);
                }
                continue;
            }
            let known = Known::of(entry, &checkpoint.history);
            let mut bound = rebind::rebind(entry, &known, &images, ids)?;
            requeue(&mut bound);
            let image = rebind::table(entry, &known, &images, ids)?;
            lines.extend(rebind::describe(entry, &bound, image));
            // Should the server be replaced once more, these are the names to go by.
            history.append(Position { epoch, commit_lsn: Lsn(0), ordinal: 0 }, TableVersion::of_image(image));
            new.insert(key, state::seal(&bound)?);
        }
        for (key, json) in history.take_changes()? {
            if let Some(json) = json {
                new.insert(key, state::seal_json(&json));
            }
        }
        // What others keep in the checkpoint stays: only the past of tables and copies under way are void.
        let kept = entries.iter().filter(|(key, _)| !void(key)).map(|(key, value)| (key.clone(), value.clone()));
        let new = kept.chain(new).collect();
        lines.push("rows that were deleted meanwhile stay in the topics until they are repaired".to_owned());
        Ok((lines, new))
    }

    /// The tables that the contracts may mean: by the names that they had last, and by their oids.
    fn images(&self, checkpoint: &Checkpoint) -> Result<Vec<TableImage>> {
        let entries = checkpoint.contracts.values();
        let names: Vec<QualifiedName> = entries.map(|entry| Known::of(entry, &checkpoint.history).table).collect();
        let oids: Vec<RelationId> = checkpoint.contracts.values().map(|entry| entry.relation).collect();
        let Door { client, runtime, .. } = self.door;
        let mut images = runtime.block_on(sampling::sample_named(client, &names))?.images;
        let by_oid = runtime.block_on(sampling::sample(client, &oids))?.images;
        let more: Vec<_> =
            by_oid.into_iter().filter(|by_oid| images.iter().all(|i| i.relation != by_oid.relation)).collect();
        images.extend(more);
        Ok(images)
    }
}

/// True for the entries that mean nothing on another server.
fn void(key: &str) -> bool {
    key == POSITION_KEY || key.starts_with("table/") || key.starts_with("contract/") || key.starts_with(COPY_PREFIX)
}

/// What is remembered of a contract that is not published any more.
fn ended(entry: &ContractEntry, position: Option<&PositionEntry>) -> Option<ContractEntry> {
    match (entry.progress, position) {
        (Progress::Ended { .. }, _) => Some(entry.clone()),
        (_, Some(position)) if entry.active() => {
            Some(ContractEntry { progress: Progress::Ended { since: position.position() }, ..entry.clone() })
        }
        _ => None,
    }
}

/// The checkpoint with one contract to be copied again; nothing else moves, the epoch neither.
fn one_contract(entries: &StateEntries, checkpoint: &Checkpoint, name: &str) -> Result<Planned> {
    let mut new = entries.clone();
    let mut lines = vec![format!("found: server, slot and checkpoint fit; contract `{name}` is to be copied again")];
    let wanted = |entry: &&ContractEntry| entry.contract == name && !matches!(entry.progress, Progress::Ended { .. });
    for entry in checkpoint.contracts.values().filter(wanted) {
        let mut entry = entry.clone();
        requeue(&mut entry);
        lines.push(format!("  {} v{} ← {}", entry.contract, entry.major, entry.source));
        new.insert(ContractEntry::key(&entry.contract, entry.major), state::seal(&entry)?);
    }
    let Some(position) = checkpoint.position.as_ref().filter(|_| lines.len() > 1) else {
        return Err(Error::definite(Code::AdoptRefused, format!("the checkpoint has no contract `{name}`"))
            .hint("name one that is published, as in its file"));
    };
    new.insert(POSITION_KEY.to_owned(), state::seal(&PositionEntry { seq: position.seq + 1, ..position.clone() })?);
    // A pass that is under way would not begin again for it.
    for (id, copy) in &checkpoint.copies {
        if copy.contracts.iter().any(|(contract, _)| contract == name) {
            new.remove(&format!("{COPY_PREFIX}{id}"));
        }
    }
    lines.push("rows that were deleted meanwhile stay in its topics until they are repaired".to_owned());
    Ok((lines, new))
}

/// What turns one checkpoint into the other.
fn difference(old: &StateEntries, new: StateEntries) -> Vec<StateChange> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let mut changes: BTreeMap<String, Option<Vec<u8>>> = gone.map(|key| (key.clone(), None)).collect();
    changes.extend(new.into_iter().filter(|(key, value)| old.get(key) != Some(value)).map(|(k, v)| (k, Some(v))));
    changes.into_iter().map(|(key, value)| StateChange { key, value }).collect()
}
