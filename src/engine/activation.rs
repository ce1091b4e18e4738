//! How a contract begins: which transactions are its snapshot's, and which the stream's.
//!
//! ```text
//!  fence F ─▶ no transaction below F runs ─▶ log's position P ─▶ the stream has passed P: active from here on
//!                                                                 chunks see every transaction delivered until here
//! ```
//!
//! What a transaction wrote that was open while the publication got the table is sent in part, and which part is chance.
//! All such transactions lie below F. So the contract takes nothing of what is delivered up to the boundary behind P, and
//! everything after it; and its chunks are read under snapshots that see all that was delivered by then, also what was
//! committed and not yet visible. A transaction id alone cannot draw this line: one below F can delete a row that another
//! one above F wrote, and the topic would keep the row.

use crate::contract::Backfill;
use crate::engine::job::{Job, Stage};
use crate::engine::table::{ContractIndex, Table};
use crate::engine::{Engine, JobId};
use crate::error::Result;
use crate::lsn::Xid;
use crate::state::{ContractEntry, CopyEntry, Progress};
use crate::table::RelationId;

impl Engine {
    /// Adds the tables of the contracts, and those whose rows count though nobody reads them any more.
    pub(super) fn add_tables(&mut self, counted: &[RelationId]) {
        let mut relations: Vec<RelationId> = self.contracts.iter().map(|contract| contract.entry.relation).collect();
        relations.extend(counted);
        relations.sort_unstable();
        relations.dedup();
        for relation in relations {
            self.tables.insert(Table {
                relation,
                counted: counted.contains(&relation),
                listing: None,
                listed_by: None,
                version: None,
                uncertain: Vec::new(),
                known: self.history.versions(relation).last().map(|(_, version)| version.clone()),
                since: self.history.versions(relation).last().map(|(at, _)| at).unwrap_or_default(),
                compiled: None,
                upcoming: None,
                readers: self.contracts_of(relation, ContractEntry::active),
                changes: [0; 4],
                dirty: false,
            });
        }
    }

    fn contracts_of(&self, relation: RelationId, wanted: impl Fn(&ContractEntry) -> bool) -> Vec<ContractIndex> {
        let all = self.contracts.iter().enumerate();
        all.filter(|(_, c)| c.entry.relation == relation && wanted(&c.entry)).map(|(index, _)| index).collect()
    }

    /// Resumes the copies of the checkpoint and adds one pass per table for the contracts that have none.
    pub(super) fn plan_copies(&mut self, copies: Vec<(JobId, CopyEntry)>, fence: Xid) {
        self.copies.next_id = copies.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        let waits = |entry: &ContractEntry| matches!(entry.progress, Progress::Activating | Progress::Snapshotting);
        let mut covered: Vec<ContractIndex> = Vec::new();
        for (id, entry) in copies {
            let repair = entry.repair.is_some();
            let indexes = self.contracts_of(entry.relation, |contract| {
                let goes_on = if repair { contract.active() } else { waits(contract) };
                goes_on && entry.contracts.contains(&(contract.contract.clone(), contract.major))
            });
            if indexes.is_empty() {
                self.copies.ended.push(id);
                continue;
            }
            if !repair {
                covered.extend(&indexes);
            }
            self.add_job(id, entry, indexes, fence, false);
        }
        let relations: Vec<RelationId> = self.tables.iter().map(|table| table.relation).collect();
        for relation in relations {
            let mut indexes = self.contracts_of(relation, waits);
            indexes.retain(|index| !covered.contains(index));
            if indexes.is_empty() {
                continue;
            }
            let contracts = indexes.iter().filter_map(|index| self.contracts.get(*index));
            let names = contracts.map(|c| (c.entry.contract.clone(), c.entry.major)).collect();
            let id = self.copies.take_id();
            self.add_job(id, CopyEntry::new(relation, names), indexes, fence, true);
        }
    }

    pub(super) fn add_job(
        &mut self,
        id: JobId,
        entry: CopyEntry,
        indexes: Vec<ContractIndex>,
        fence: Xid,
        dirty: bool,
    ) {
        let mut contracts = indexes.iter().filter_map(|index| self.contracts.get(*index));
        let active = contracts.all(|contract| contract.entry.active());
        let attnums = self.attnums(&indexes);
        let stage = if active { Stage::Queued } else { Stage::Unfenced };
        let repaired = if entry.repair.is_some() { indexes.first().copied() } else { None };
        let mut job = Job::new(id, entry, indexes, attnums, fence, stage, self.limits, dirty);
        if let Some(contract) = repaired.and_then(|index| self.contracts.get_mut(index)) {
            contract.repairs += 1;
            job.set_keys(contract);
        }
        self.copies.jobs.push(job);
    }

    pub(super) fn attnums(&self, indexes: &[ContractIndex]) -> Vec<i16> {
        let contracts = indexes.iter().filter_map(|index| self.contracts.get(*index));
        let mut attnums: Vec<i16> =
            contracts.flat_map(|c| c.entry.bindings.values().map(|binding| binding.attnum)).collect();
        attnums.sort_unstable();
        attnums.dedup();
        attnums
    }

    /// Between transactions: begins the contracts whose fence the stream has passed.
    pub(super) fn activate(&mut self) -> Result<()> {
        let position = self.position.position();
        let mut joined = Vec::new();
        for job in &mut self.copies.jobs {
            // By the position, not by a keepalive: after a restart everything behind the position is sent again, and of a
            // transaction that was open while the publication changed perhaps another part.
            if !matches!(job.stage, Stage::FencePassed { insert_lsn } if self.position.end_lsn >= insert_lsn) {
                continue;
            }
            for index in &job.contracts {
                let Some(contract) = self.contracts.get_mut(*index).filter(|contract| !contract.entry.active()) else {
                    continue;
                };
                contract.entry.begun = Some(position);
                contract.entry.progress = match contract.version.backfill {
                    Backfill::Snapshot => Progress::Snapshotting,
                    Backfill::None => Progress::Live { since: position },
                };
                contract.dirty = true;
                if let Some(table) = self.tables.get(contract.entry.relation) {
                    self.uncounted.retain(|relation| *relation != table.relation);
                    table.dirty |= !table.counted;
                    table.counted = true;
                    table.readers.push(*index);
                    table.compiled = None;
                    joined.push(table.relation);
                }
            }
            let snapshotting = |index: &ContractIndex| {
                self.contracts.get(*index).is_some_and(|c| c.entry.progress == Progress::Snapshotting)
            };
            job.contracts.retain(snapshotting);
            job.fence = job.fence.max(self.xid_reference + 1);
            job.stage = if job.contracts.is_empty() { Stage::Done } else { Stage::Queued };
        }
        for relation in joined {
            // What it binds may be gone since it was bound, and neither a row event nor another sample need ever tell.
            let Some(index) = self.tables.index(relation) else { continue };
            let shown = self.tables.at(index).is_some_and(|table| table.version.is_some() && table.listing.is_none());
            if shown {
                self.compile(index, position)?;
            }
        }
        Ok(())
    }
}
