//! Cases that chance meets too rarely, or never.

use super::database::{Database, Workload};
use super::shell::sealer;
use super::topics::Topic;
use crate::batch::Batch;
use crate::daemon::plan::{self, Checkpoint, Moment, Wanted, first_position};
use crate::engine::{Engine, Input, Limits, Request, Step};
use crate::error::{Code, Error, Result};
use crate::identity::tests::Rng;
use crate::lsn::Lsn;
use crate::pgoutput::tests::{Model, ModelCell};
use crate::sink::StateEntries;
use crate::state::{PositionEntry, Progress};
use crate::table::ColumnImage;

/// One table, one contract, one engine at a time.
struct Case {
    db: Database,
    topic: Topic,
    state: StateEntries,
    batch: Batch,
    requests: Vec<Request>,
    sealed: bool,
}

const OID: u32 = 16_400;

impl Case {
    fn new() -> Case {
        let workload = Workload {
            ddl: 0,
            truncate: 0,
            drop_in_front: false,
            stall: 0,
            writers: 1,
            long: 0,
            poison: 0,
            unchanged: false,
        };
        let db = Database::new(&mut Rng(1), 1, workload);
        let mut topic = Topic::new("a".to_owned(), 0, vec![3]);
        topic.write(&db.sample(&[db.tables[0].relation], &[]).images[0]);
        Case { db, topic, state: StateEntries::new(), batch: Batch::default(), requests: Vec::new(), sealed: false }
    }

    /// A session's engine; at the first time at `first` with the contract live.
    fn open(&mut self, first: Lsn, wanted: bool) -> Result<Engine> {
        let relation = self.db.tables[0].relation;
        let checkpoint = Checkpoint::open(&self.state).unwrap();
        let begins = checkpoint.position.is_none();
        let position =
            checkpoint.position.clone().unwrap_or_else(|| first_position(plan::creating(String::new(), 1, 1), first));
        let sealer = self.sealed.then(sealer);
        let moment = Moment { sample: self.db.sample(&[relation], &[]), fence: self.db.snapshot().xmax, sealer };
        let version = self.topic.version.clone().unwrap();
        let wanted = wanted.then(|| Wanted { version, ids: self.topic.ids(), relation });
        let limits = Limits { batch_records: 2, ..Limits::default() };
        let mut setup = plan::setup(position.clone(), checkpoint, wanted.into_iter().collect(), moment, limits)?;
        if begins {
            setup.contracts[0].entry.progress = Progress::Live { since: position.position() };
            setup.contracts[0].dirty = true;
            setup.counted = vec![relation];
        }
        let mut engine = Engine::new(setup)?;
        self.batch.clear();
        engine.start(&mut self.batch, &mut self.requests)?;
        Ok(engine)
    }

    fn step(&mut self, engine: &mut Engine, message: &Model) -> Result<Step> {
        let step = engine.step(Input::Message(&message.encode()), &mut self.batch, &mut self.requests)?;
        if step != Step::Wait {
            return Ok(step);
        }
        let sample = self.db.sample(&[self.db.tables[0].relation], &[]);
        engine.step(Input::Sample(sample), &mut self.batch, &mut self.requests)?;
        engine.step(Input::Message(&message.encode()), &mut self.batch, &mut self.requests)
    }

    fn seal(&mut self, engine: &mut Engine) -> PositionEntry {
        let sealed = engine.seal(&mut self.batch).unwrap();
        for change in self.batch.state.drain(..) {
            match change.value {
                Some(value) => self.state.insert(change.key, value),
                None => self.state.remove(&change.key),
            };
        }
        sealed.position
    }

    fn relation(&self) -> Model {
        let image = &self.db.sample(&[self.db.tables[0].relation], &[]).images[0];
        let column = |c: &ColumnImage| (c.attnum == 1, c.name.clone(), c.type_oid, c.typmod);
        Model::Relation {
            oid: OID,
            namespace: "public".to_owned(),
            name: image.name.name.clone(),
            identity: b'd',
            columns: image.listed().map(column).collect(),
        }
    }

    fn begin(&self, at: u64) -> Model {
        Model::Begin { lsn: at, micros: 0, xid: (self.db.snapshot().xmin - 1) as u32 }
    }

    fn insert(&self, key: i64) -> Model {
        let columns = self.db.sample(&[self.db.tables[0].relation], &[]).images[0].columns.len();
        let new = (0..columns).map(|_| ModelCell::Text(key.to_string().into_bytes())).collect();
        Model::Insert { oid: OID, new }
    }
}

fn commit(at: u64) -> Model {
    Model::Commit { lsn: at, end: at + 8, micros: 0 }
}

#[test]
fn a_commit_record_may_begin_at_the_slots_consistent_point() {
    let mut case = Case::new();
    let mut engine = case.open(Lsn(0x100), true).unwrap();
    for message in [case.begin(0x100), case.relation(), case.insert(1), commit(0x100)] {
        assert_eq!(case.step(&mut engine, &message).unwrap(), Step::Done);
    }
    assert_eq!(case.batch.records.len(), 1);
    assert!(case.batch.records[0].last);
    let position = case.seal(&mut engine);
    assert_eq!((position.commit_lsn, position.end_lsn, position.complete), (Lsn(0x100), Lsn(0x108), true));
}

/// Half of a transaction is published; sent again it has no more than that.
#[test]
fn a_transaction_that_comes_back_shorter_stops_the_daemon() {
    let mut case = Case::new();
    let mut engine = case.open(Lsn(0x100), true).unwrap();
    for message in [case.begin(0x200), case.relation(), case.insert(1), case.insert(2)] {
        assert_eq!(case.step(&mut engine, &message).unwrap(), Step::Done);
    }
    let third = case.insert(3);
    assert_eq!(case.step(&mut engine, &third).unwrap(), Step::Full);
    let position = case.seal(&mut engine);
    assert_eq!((position.next_ordinal, position.complete), (2, false));

    let mut engine = case.open(Lsn(0), true).unwrap();
    for message in [case.begin(0x200), case.relation(), case.insert(1), case.insert(2)] {
        assert_eq!(case.step(&mut engine, &message).unwrap(), Step::Done);
    }
    assert_eq!(case.batch.records.len(), 0);
    assert_eq!(case.step(&mut engine, &commit(0x200)).unwrap_err().code(), Code::SourceMismatch);
}

/// SIGTERM can come between the full batch and its seal.
#[test]
fn a_stop_after_a_full_batch_keeps_what_the_position_names() {
    let mut case = Case::new();
    let mut engine = case.open(Lsn(0x100), true).unwrap();
    for message in [case.begin(0x200), case.relation(), case.insert(1), case.insert(2)] {
        case.step(&mut engine, &message).unwrap();
    }
    let third = case.insert(3);
    assert_eq!(case.step(&mut engine, &third).unwrap(), Step::Full);
    engine.rewind(&mut case.batch);
    assert_eq!(case.batch.records.len(), 2);
    assert_eq!(case.seal(&mut engine).next_ordinal, 2);
}

/// What its topic lacks nobody would ever publish.
#[test]
fn a_contract_that_was_taken_out_does_not_come_back() {
    let mut case = Case::new();
    let mut engine = case.open(Lsn(0x100), true).unwrap();
    case.seal(&mut engine);
    let mut engine = case.open(Lsn(0), false).unwrap();
    assert!(engine.unsealed());
    case.seal(&mut engine);
    assert!(!engine.unsealed());
    assert!(!case.state.keys().any(|key| key == "table/16400"), "its table counts no more");
    let error = case.open(Lsn(0), true).err().unwrap();
    assert_eq!(error.code(), Code::ContractInvalid);
}

fn truncate() -> Model {
    Model::Truncate { options: 0, oids: vec![OID] }
}

/// Whoever takes a parked contract's rows back must know of a TRUNCATE between them, or would keep the old ones.
#[test]
fn a_truncate_of_a_parked_contract_is_parked_too() {
    let mut case = Case::new();
    case.sealed = true;
    let mut engine = case.open(Lsn(0x100), true).unwrap();
    let since = engine.position().position();
    let lost = Error::definite(Code::KeyLost, "the key is not unique any more");
    engine.contracts[0].park(lost, None, since, None).unwrap();
    engine.settle_parked();
    for message in [case.begin(0x200), case.relation(), truncate(), case.insert(1), commit(0x200)] {
        assert_eq!(case.step(&mut engine, &message).unwrap(), Step::Done);
    }
    let records: Vec<_> = case.batch.records.iter().map(|r| (r.topic.0, r.position.ordinal, r.last)).collect();
    assert_eq!(records, [(1, 0, false), (1, 1, true)]);
    case.seal(&mut engine);
    assert_eq!(engine.contracts()[0].entry.parked.as_ref().unwrap().records, 2);
    assert_eq!(engine.copies().count(), 0, "a parked contract is not repaired");

    // A parked contract without the key it was sealed with would have to stop at its next row.
    case.sealed = false;
    assert_eq!(case.open(Lsn(0), true).err().unwrap().code(), Code::SealKeyDiffers);
    case.sealed = true;
    assert!(case.open(Lsn(0), true).unwrap().contracts()[0].entry.is_parked());
}

/// A key that no record can carry: its rows are dead letters, and it counts as dead until it is deleted or mended.
#[test]
fn a_key_that_does_not_fit_is_a_dead_letter_until_it_is_mended() {
    let mut case = Case::new();
    case.sealed = true;
    let mut engine = case.open(Lsn(0x100), true).unwrap();
    let text = |text: &str| ModelCell::Text(text.as_bytes().to_vec());
    let width = case.db.sample(&[case.db.tables[0].relation], &[]).images[0].columns.len();
    let row = |key: &str| (0..width).map(|at| text(if at == 0 { key } else { "1" })).collect::<Vec<_>>();
    let old = |key: &str| Some((false, row(key)));
    let dead = |engine: &Engine| engine.contracts()[0].dead.len();
    let update = |from: &str, to: &str| Model::Update { oid: OID, old: old(from), new: row(to) };
    let steps = [
        (Model::Insert { oid: OID, new: row("x") }, 1, 2),
        (update("x", "y"), 1, 2),
        (update("y", "7"), 0, 0),
        // The tombstone of the good key is published, the new row is not.
        (update("7", "z"), 1, 2),
        (Model::Delete { oid: OID, full: false, old: row("z") }, 0, 2),
    ];
    for message in [case.begin(0x200), case.relation()] {
        case.step(&mut engine, &message).unwrap();
    }
    for (message, keys, topic) in steps {
        if case.step(&mut engine, &message).unwrap() == Step::Full {
            case.seal(&mut engine);
            case.batch.clear();
            case.step(&mut engine, &message).unwrap();
        }
        let last = case.batch.records.last().unwrap();
        assert_eq!((dead(&engine), last.topic.0), (keys, topic), "{message:?}");
    }
    case.step(&mut engine, &commit(0x200)).unwrap();
    case.seal(&mut engine);
    assert!(!case.state.keys().any(|key| key.starts_with("dead/")), "{:?}", case.state.keys());
}
