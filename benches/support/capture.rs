//! A recorded stream, and an engine that takes it: what the benches of the pure core share.

use std::sync::Arc;
use std::time::Duration;

use gimbal::batch::{Batch, TopicId};
use gimbal::daemon::bind::{Ids, bind};
use gimbal::engine::{Contract, Engine, Input, Limits, Sample, Setup, Step};
use gimbal::history::History;
use gimbal::lsn::Lsn;
use gimbal::position::Position;
use gimbal::postgres::connection::Connection;
use gimbal::postgres::frames::Frame;
use gimbal::postgres::stream::{Stream, StreamEvent};
use gimbal::postgres::{sampling, slot, sql};
use gimbal::state::{CachedId, Phase, PositionEntry, Progress};
use gimbal::table::{QualifiedName, RelationId};

use super::{PUBLICATIONS, contract_version, create_table, lab};

/// Messages as they came, one behind the other.
#[derive(Default)]
pub struct Capture {
    pub bytes: Vec<u8>,
    pub ends: Vec<usize>,
}

impl Capture {
    /// One by one.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut start, *end)..*end])
    }

    /// Adds one.
    pub fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push(self.bytes.len());
    }

    /// Moves every position on by `distance`.
    pub fn advance(&mut self, distance: u64) {
        let mut start = 0;
        for end in &self.ends {
            let message = &mut self.bytes[std::mem::replace(&mut start, *end)..*end];
            let places: &[usize] = match message[0] {
                b'B' => &[1],
                b'C' => &[2, 10],
                _ => &[],
            };
            for place in places {
                let lsn: &mut [u8; 8] = (&mut message[*place..place + 8]).try_into().expect("eight bytes");
                *lsn = (u64::from_be_bytes(*lsn) + distance).to_be_bytes();
            }
        }
    }
}

/// What was recorded, with what an engine needs that has not seen it.
pub struct Recorded {
    /// The messages.
    pub capture: Capture,
    position: PositionEntry,
    before: Sample,
    after: Sample,
}

/// Records this many transactions of `mix`.
pub fn record(transactions: u64) -> Recorded {
    let database = lab::postgres().fresh_database("bench_capture");
    create_table(&database);
    let source = sql::Source::of_url(&format!("{}?sslmode=disable", database.url()), None).expect("a URL");
    let mut connection = Connection::connect(&source.url, None).expect("a connection");
    let identity = connection.identify_system().expect("an identity");
    let name = QualifiedName { namespace: "public".to_owned(), name: "orders".to_owned() };
    let (start, before) = slot::create(&mut connection, "bench_capture", &[name], &[]).expect("a slot");
    database.run(&format!("call mix({transactions})"));
    let relations = [before.images[0].relation];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let after = runtime.block_on(async {
        let client = sql::connect(&source).await.expect("a connection");
        sampling::sample(&client, &relations).await.expect("a sample")
    });
    let stream = Stream::spawn(connection, "bench_capture", &PUBLICATIONS).expect("a stream");
    let mut capture = Capture::default();
    let mut commits = 0;
    while commits < transactions {
        match stream.events.recv_timeout(Duration::from_secs(60)).expect("the stream goes on") {
            StreamEvent::Ended(error) => panic!("{error}"),
            StreamEvent::Frames(buffer) => {
                for frame in buffer.frames() {
                    let Frame::Data { message, .. } = frame else { continue };
                    capture.push(message);
                    commits += u64::from(message[0] == b'C');
                }
            }
        }
    }
    stream.stop().expect("the stream stops");
    database.run("select pg_drop_replication_slot('bench_capture')");
    let position = PositionEntry {
        seq: 0,
        phase: Phase::Started,
        epoch: 0,
        system_id: identity.system_id,
        timeline: identity.timeline,
        commit_lsn: Lsn(start.0 - 1),
        next_ordinal: 0,
        complete: true,
        end_lsn: start,
        anchor: None,
        ack: start,
        witness: None,
    };
    Recorded { capture, position, before, after }
}

impl Recorded {
    /// The oid that the rows carry.
    pub fn relation(&self) -> RelationId {
        self.before.images[0].relation
    }

    /// An engine for `tables` tables like the recorded one, of the oids from there on, with `contracts` contracts each.
    pub fn engine(&self, tables: u32, contracts: u16) -> Engine {
        let of = |sample: &Sample| {
            let clone = |table| {
                let mut image = sample.images[0].clone();
                image.relation = RelationId(image.relation.0 + table);
                image
            };
            Sample { images: (0..tables).map(clone).collect(), ..sample.clone() }
        };
        let (before, after) = (of(&self.before), of(&self.after));
        let id = |id| CachedId { id, fingerprint: String::new() };
        let ids = Ids { key: Some(id(1)), value: id(2), parcels: None };
        let mut bound: Vec<Contract> = Vec::new();
        for image in &before.images {
            let version = contract_version(std::slice::from_ref(image));
            for number in 0..contracts {
                let mut version = version.clone();
                version.contract = format!("orders_{}_{number}", image.relation);
                let topic = TopicId(u16::try_from(bound.len()).expect("few contracts"));
                let mut contract =
                    bind(Arc::new(version), topic, ids.clone(), None, image.relation, Some(image)).expect("it binds");
                contract.entry.progress = Progress::Live { since: Position::default() };
                bound.push(contract);
            }
        }
        let setup = Setup {
            position: self.position.clone(),
            counted: before.images.iter().map(|image| image.relation).collect(),
            uncounted: Vec::new(),
            contracts: bound,
            ended: Vec::new(),
            history: History::default(),
            fence: before.snapshot.xmax,
            sample: before,
            copies: Vec::new(),
            limits: Limits::default(),
            sealing: None,
        };
        let mut engine = Engine::new(setup).expect("an engine");
        let (mut batch, mut requests) = (Batch::default(), Vec::new());
        engine.start(&mut batch, &mut requests).expect("it starts");
        engine.step(Input::Sample(after), &mut batch, &mut requests).expect("a sample is taken");
        engine
    }
}

/// What one pass made.
#[derive(Default)]
pub struct Made {
    pub records: u64,
    pub bytes: u64,
}

/// One pass over the capture. Not inlined: callgrind collects inside it.
#[inline(never)]
pub fn replay_once(capture: &Capture, engine: &mut Engine, batch: &mut Batch) -> Made {
    let mut made = Made::default();
    let mut requests = Vec::new();
    let mut seal = |engine: &mut Engine, batch: &mut Batch| {
        engine.seal(batch).expect("it seals");
        made.records += batch.records.len() as u64;
        made.bytes += batch.bytes.len() as u64;
        batch.clear();
    };
    for message in capture.messages() {
        loop {
            match engine.step(Input::Message(message), batch, &mut requests).expect("a step") {
                Step::Done => break,
                Step::Full => seal(engine, batch),
                Step::Wait => panic!("the engine waits for a sample"),
            }
        }
    }
    seal(engine, batch);
    made
}
