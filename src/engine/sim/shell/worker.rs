//! The model's worker: what becomes of a request.

use std::collections::BTreeSet;

use super::{Daemon, Defect, Errand};
use crate::engine::sim::database::Database;
use crate::engine::{ChunkOutcome, Input, JobId, KeyPage, Lookup, LookupOutcome, Request, Reread};
use crate::identity::tests::Rng;
use crate::lsn::{Lsn, Snapshot, Xid};
use crate::row::{Cell, Datum, Row};
use crate::state::{Leaf, Tid};
use crate::table::RelationId;

impl Daemon {
    /// What becomes of a request: an answer, itself again, or nothing.
    pub(super) fn run(&mut self, request: Request, rng: &mut Rng) -> Option<Errand> {
        let defect = self.defect;
        let open = |db: &Database, fence: Xid| db.snapshot().xmin >= fence || defect == Defect::NoFence;
        let answer = match &request {
            Request::Sample { relations, sees } => {
                let sample = self.db.sample(relations, &[]);
                sample.snapshot.sees_short(*sees).then_some(Input::Sample(sample))
            }
            Request::Reread { .. } => self.reread(&request, rng).map(|reread| Input::Reread(Box::new(reread))),
            Request::Fence { job, fence } => {
                let leaves = self.db.tables.iter().flat_map(|table| &table.leaves);
                self.early.entry(*job).or_default().extend(leaves.map(|leaf| (leaf.relation, leaf.blocks())));
                open(&self.db, *fence).then(|| Input::FencePassed { job: *job, insert_lsn: self.db.insert_lsn() })
            }
            Request::Leaves { job, relation } => {
                let table = self.db.tables.iter().find(|table| table.relation == *relation).unwrap();
                let early = self.early.get(job).filter(|_| defect == Defect::EarlyMeasure);
                let leaf = |heap: &crate::engine::sim::heap::Heap| Leaf {
                    relation: heap.relation,
                    filenode: heap.file,
                    blocks: early.and_then(|early| early.get(&heap.relation)).copied().unwrap_or_else(|| heap.blocks()),
                };
                let leaves = table.leaves.iter().map(leaf).collect();
                Some(Input::Leaves { job: *job, leaves })
            }
            Request::OpenChunk { job, fence } => open(&self.db, *fence).then(|| {
                let snapshot = self.db.snapshot();
                assert!(self.db.chunks.insert(*job, snapshot.clone()).is_none(), "a chunk inside a chunk");
                let by_key = self.session.as_ref().is_some_and(|session| session.asking.contains(job));
                let mut insert_lsn = self.db.insert_lsn();
                if by_key && self.defect == Defect::LookUpWithoutFence {
                    insert_lsn = Lsn(0);
                }
                Input::ChunkOpened { job: *job, snapshot, insert_lsn, timestamp: 0 }
            }),
            Request::Keys { job, .. } => self.keys(&request).map(|page| Input::KeysRead { job: *job, page }),
            Request::LookUp { job, relation, keys, .. } => match self.look_up(*job, *relation, keys) {
                None => None,
                Some(_) if rng.chance(4) => Some(LookupOutcome::Retry),
                Some(lookup) => Some(LookupOutcome::Read(Box::new(lookup))),
            }
            .map(|outcome| Input::LookedUp { job: *job, outcome }),
            Request::ReadChunk { job, relation, leaf, attnums, from, to_block, rows_max, .. } => {
                let table = self.db.tables.iter().position(|table| table.relation == *relation).unwrap();
                if self.db.locked(table) {
                    return Some(Errand::Request(request));
                }
                let mut snapshot = self.db.chunks.remove(job).expect("no chunk was opened");
                if self.defect == Defect::ReadWithoutSnapshot {
                    snapshot = self.db.snapshot();
                }
                let heap = self.db.tables[table].leaves.iter().find(|heap| heap.relation == leaf.relation).unwrap();
                let mut chunk = heap.read(&snapshot, *from, *to_block, attnums, *rows_max);
                chunk.image = self.db.sample(&[*relation], &[]).images.pop();
                chunk.micros = rng.between(1, 3) as u64;
                // As the worker does: a read without the column would be no read, and the stream will say that it is gone.
                let listed =
                    |attnum: &i16| chunk.image.iter().flat_map(|image| image.listed()).any(|c| c.attnum == *attnum);
                let outcome = if rng.chance(4) || !attnums.iter().all(listed) {
                    ChunkOutcome::Retry
                } else {
                    ChunkOutcome::Read(Box::new(chunk))
                };
                Some(Input::ChunkRead { job: *job, outcome })
            }
            Request::CloseChunk { job } => {
                assert!(self.db.chunks.remove(job).is_some(), "no chunk to close");
                return None;
            }
            Request::EndCopy { .. } => return None,
            Request::Heartbeat => {
                self.db.heartbeat(rng);
                return None;
            }
        };
        Some(answer.map_or(Errand::Request(request), Errand::Answer))
    }

    /// The keys of a topic as a page, of what it showed when the pass began.
    fn keys(&mut self, request: &Request) -> Option<KeyPage> {
        let Request::Keys { job, pass, topic, key_id, after, keys_max, .. } = request else { return None };
        let session = self.session.as_mut()?;
        let known = session.keys.get(job).is_some_and(|(known, _)| known == pass);
        if !known {
            let framed = |key: i64| {
                let mut bytes = [&[0], &key_id.to_be_bytes()[..]].concat();
                crate::sink::ocf::write_long(&mut bytes, key);
                (crate::sink::spill::place(&bytes), bytes)
            };
            let all = self.checker.keys(topic).into_iter().map(framed).collect();
            session.keys.insert(*job, (*pass, all));
        }
        session.asking.insert(*job);
        let (_, all) = session.keys.get(job)?;
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut rest = all.range((from, std::ops::Bound::Unbounded));
        let taken: Vec<_> = rest.by_ref().take(*keys_max).collect();
        let place = taken.last().map(|(place, _)| **place);
        Some(KeyPage {
            keys: taken.into_iter().map(|(_, key)| key.clone()).collect(),
            place,
            end: rest.next().is_none(),
        })
    }

    /// Which keys a table lacks; `None` while it is locked.
    fn look_up(&mut self, job: JobId, relation: RelationId, keys: &[Vec<String>]) -> Option<Lookup> {
        let table = self.db.tables.iter().position(|table| table.relation == relation).unwrap();
        if self.db.locked(table) {
            return None;
        }
        let snapshot = self.db.chunks.remove(&job).expect("no lookup was opened");
        if let Some(session) = &mut self.session {
            session.asking.remove(&job);
        }
        let leaves = &self.db.tables[table].leaves;
        let seen = leaves.iter().flat_map(|leaf| leaf.tuples.values()).filter(|tuple| tuple.visible(&snapshot));
        let seen: BTreeSet<String> = seen.map(|tuple| tuple.key.to_string()).collect();
        let missing =
            keys.iter().zip(0..).filter(|(key, _)| !seen.contains(&key[0])).map(|(_, number)| number).collect();
        let heaps = leaves.iter().map(|leaf| (leaf.relation, leaf.file)).collect();
        Some(Lookup { missing, heaps, rows: None })
    }

    fn reread(&mut self, request: &Request, rng: &mut Rng) -> Option<Reread> {
        let Request::Reread { relation, key, keys, attnums, sees, bytes_max } = request else { return None };
        assert_eq!(*key, [1]);
        let mut sample = self.db.sample(&[*relation], &[]);
        let blind = self.defect == Defect::RereadUnseen;
        if (!sample.snapshot.sees_short(*sees) && !blind) || rng.chance(5) {
            return None;
        }
        let snapshot = sample.snapshot.clone();
        let image = sample.images.pop()?;
        let listed = |attnum: &&i16| image.listed().any(|column| column.attnum == **attnum);
        let attnums: Vec<i16> = attnums.iter().filter(listed).copied().collect();
        let table = self.db.tables.iter().find(|table| table.relation == *relation).unwrap();
        let wanted = |key: i64| keys.iter().position(|wanted| wanted[0] == key.to_string());
        let mut read = Reread {
            relation: *relation,
            image: None,
            snapshot,
            attnums,
            found: Vec::new(),
            cells: Vec::new(),
            buffer: Vec::new(),
            cut: false,
        };
        for leaf in &table.leaves {
            let chunk =
                leaf.read(&read.snapshot, Tid::default(), u32::MAX, &[&[1], &*read.attnums].concat(), usize::MAX);
            for cells in chunk.cells.chunks(read.attnums.len() + 1) {
                let row = Row { buffer: &chunk.buffer, cells };
                let text = |at: usize| match row.get(at) {
                    Datum::Text(text) => Some(text),
                    _ => None,
                };
                let key = std::str::from_utf8(text(0).unwrap()).unwrap().parse().unwrap();
                let Some(number) = wanted(key) else { continue };
                if !read.found.is_empty() && read.buffer.len() >= *bytes_max {
                    read.cut = true;
                    continue;
                }
                read.found.push(number);
                for at in 1..cells.len() {
                    let start = read.buffer.len() as u32;
                    read.buffer.extend_from_slice(text(at).unwrap_or_default());
                    let len = read.buffer.len() as u32 - start;
                    read.cells.push(text(at).map_or(Cell::Null, |_| Cell::Text { start, len }));
                }
            }
        }
        read.image = Some(image);
        if blind {
            // The engine would not take what does not see the transaction.
            read.snapshot = Snapshot { xmin: Xid::MAX, xmax: Xid::MAX, running: BTreeSet::new() };
        }
        Some(read)
    }
}
