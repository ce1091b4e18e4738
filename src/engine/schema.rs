//! Schemas: Relation messages, catalog samples, and the projections that follow from them.

use crate::diff::{self, SchemaChange};
use crate::engine::aside::listed;
use crate::engine::retype::risk;
use crate::engine::table::{Contract, Moment, Table, Upcoming, compile_all};
use crate::engine::transaction::protocol;
use crate::engine::{Engine, Request, Sample, SchemaEvent, Step};
use crate::error::{Code, Error, Result};
use crate::history::{self, ListedColumn, Listing, Observed, Resolution};
use crate::lsn::Lsn;
use crate::pgoutput::{Relation, RelationColumn};
use crate::position::Position;
use crate::table::{QualifiedName, RelationId, TableImage, TableVersion};

impl Engine {
    pub(super) fn relation(&mut self, relation: &Relation<'_>) -> Result<Step> {
        let Some(transaction) = &self.transaction else {
            return Err(protocol("a relation outside a transaction"));
        };
        let xid = transaction.xid;
        if let Some(table) = self.tables.get(relation.relation) {
            table.listing = Some(listing(relation));
            table.listed_by = Some(xid);
            table.upcoming.take_if(|upcoming| !upcoming.snapshot.sees(xid));
        }
        Ok(Step::Done)
    }

    /// Resolves the table's newest relation and compiles its contracts. False if a sample must come first.
    pub(super) fn prepare(&mut self, index: usize, at: Position, requests: &mut Vec<Request>) -> Result<bool> {
        let (Some(transaction), Some(table)) = (&self.transaction, self.tables.at(index)) else { return Ok(false) };
        let (xid, relation) = (transaction.xid_short, table.relation);
        if let Some(listing) = &table.listing {
            let mut broken = None;
            match self.history.resolve(listing, xid) {
                Resolution::NeedSample => {
                    requests.push(Request::Sample { relations: vec![relation], sees: xid });
                    return Ok(false);
                }
                Resolution::Version(version, _) => table.switch(version, Vec::new()),
                // Only a contract that binds an uncertain column minds; its compilation says so.
                Resolution::Unknown { version, candidates } => table.switch(version, candidates),
                Resolution::Contradiction(why) => {
                    broken = Some((why.error(&listing.name, at.commit_lsn), listed(listing)))
                }
                Resolution::Gone => broken = Some((gone(&listing.name.to_string(), at), listed(listing))),
            }
            if let Some((error, version)) = broken {
                return self.prepare_sealed(index, at, &error, version).map(|()| true);
            }
        }
        if table.compiled.is_none() {
            self.compile(index, at)?;
        }
        Ok(true)
    }

    /// Nobody knows what the table's columns are: its contracts are parked, and its rows are sealed as they are listed.
    fn prepare_sealed(&mut self, index: usize, at: Position, why: &Error, version: TableVersion) -> Result<()> {
        self.park_readers(index, at, || why.again())?;
        let moment = Moment { position: at, timestamp: self.now() };
        let Some(table) = self.tables.at(index) else { return Ok(()) };
        table.compiled = Some(compile_all(&mut self.contracts, &table.readers, &version, moment)?);
        // Neither evidence nor a version of the history.
        (table.version, table.listing, table.since) = (Some(version), None, at);
        Ok(())
    }

    /// Compiles the table's active contracts for its version, and notes what changed since the last one that was used.
    pub(super) fn compile(&mut self, index: usize, position: Position) -> Result<()> {
        let Some(table) = self.tables.at(index) else { return Ok(()) };
        let Some(version) = table.version.clone() else {
            return Err(protocol("a row event without a relation"));
        };
        let known = table.known.as_ref().filter(|known| **known != version);
        let changes = known.map(|known| diff::between(known, &version, &table.uncertain)).unwrap_or_default();
        let known_version = known.cloned();
        let (changed, readers) = (known.is_some(), table.readers.clone());
        let live = |contract: &&Contract| !contract.entry.is_parked();
        let before = readers.iter().filter_map(|index| self.contracts.get(*index)).filter(live).count();
        for index in &readers {
            let Some(contract) = self.contracts.get(*index).filter(live) else { continue };
            if let Err(error) = judge(contract, &changes, &version.name, position.commit_lsn) {
                self.park(*index, error, position)?;
            }
        }
        let moment = Moment { position, timestamp: self.now() };
        let compiled = compile_all(&mut self.contracts, &readers, &version, moment)?;
        let (mut at_risk, mut recoded) = (false, Vec::new());
        for index in &readers {
            let Some(contract) = self.contracts.get_mut(*index).filter(|c| !c.entry.is_parked()) else { continue };
            for change in &changes {
                let Some(known) = &known_version else { continue };
                let risk = risk(contract, change, known, &version);
                at_risk |= risk.at_risk;
                if risk.recoded && !recoded.contains(index) {
                    recoded.push(*index);
                }
            }
        }
        let after = readers.iter().filter_map(|index| self.contracts.get(*index)).filter(live).count();
        let broken = after < before;
        if changed {
            self.events.push(SchemaEvent { position, table: version.name.clone(), changes, broken, at_risk });
        }
        let Some(table) = self.tables.at(index) else { return Ok(()) };
        table.compiled = Some(compiled);
        table.since = position;
        self.history.append(position, version.clone());
        table.known = Some(version);
        for index in recoded {
            self.recoded(index, position);
        }
        if broken {
            self.settle_parked();
        }
        Ok(())
    }

    /// Takes a sample as evidence, and as the coming version once the stream has passed it.
    pub(super) fn sample(&mut self, sample: Sample) {
        self.look_at_leaves(&sample);
        let Sample { images, missing, names, snapshot, insert_lsn } = sample;
        self.xid_reference = self.xid_reference.max(snapshot.xmin.saturating_sub(1));
        self.prunable.push_back((insert_lsn, snapshot.xmin));
        self.ripe_at = self.ripe_at.min(insert_lsn);
        let upcoming = |image: Option<TableImage>| Upcoming { insert_lsn, snapshot: snapshot.clone(), image };
        for image in images {
            let Some(table) = self.tables.get(image.relation) else { continue };
            let sample = history::Sample { image: image.clone(), snapshot: snapshot.clone() };
            let newer = table.listed_by.is_none_or(|xid| snapshot.sees(xid));
            if self.history.observe(sample) != Observed::Stale && newer {
                let shown = table.listing.is_none() && table.version.as_ref() == Some(&TableVersion::of_image(&image));
                table.upcoming = (!shown).then(|| upcoming(Some(image)));
            }
        }
        for relation in missing {
            self.history.observe_gone(relation, snapshot.clone());
            if let Some(table) = self.tables.get(relation) {
                table.upcoming = Some(upcoming(None));
            }
        }
        for (name, meaning) in names {
            for contract in self.contracts.iter().filter(|contract| contract.version.source == name) {
                let other = meaning.is_some_and(|relation| relation != contract.entry.relation);
                if let (true, Some(table)) = (other, self.tables.get(contract.entry.relation)) {
                    table.upcoming = Some(upcoming(None));
                }
            }
        }
    }

    /// Between transactions: sampled images whose transactions have all been delivered become the tables' versions, so
    /// that a change shows although no row follows it.
    pub(super) fn apply_samples(&mut self) -> Result<()> {
        let passed = self.passed;
        // Asked after every transaction: usually there is none, and there may be thousands of tables to look through.
        if passed < self.ripe_at {
            return Ok(());
        }
        let ripe = |table: &Table| table.upcoming.as_ref().is_some_and(|upcoming| passed >= upcoming.insert_lsn);
        let relations: Vec<RelationId> = self.tables.iter().filter(|table| ripe(table)).map(|t| t.relation).collect();
        for relation in relations {
            let position = self.position.position();
            let Some(index) = self.tables.index(relation) else { continue };
            let Some(table) = self.tables.at(index) else { continue };
            let Some(Upcoming { image, .. }) = table.upcoming.take() else { continue };
            let Some(image) = image else {
                let name = table.known.as_ref().map(|version| version.name.to_string()).unwrap_or_default();
                self.park_readers(index, position, || gone(&name, position))?;
                continue;
            };
            table.switch(TableVersion::of_image(&image), Vec::new());
            if table.compiled.is_none() {
                self.compile(index, position)?;
            }
        }
        let waiting = self.tables.iter().filter_map(|table| table.upcoming.as_ref());
        self.ripe_at = waiting.map(|upcoming| upcoming.insert_lsn).min().unwrap_or(Lsn(u64::MAX));
        Ok(())
    }
}

/// Judges every change of a table for a contract.
fn judge(contract: &Contract, changes: &[SchemaChange], table: &QualifiedName, at: Lsn) -> Result<()> {
    let (bound, key) = (contract.bound(), contract.key());
    changes
        .iter()
        .try_for_each(|change| diff::verdict(change, &bound, &key).check(change, table, &contract.label(), at))
}

fn listing(relation: &Relation<'_>) -> Listing {
    let column = |column: RelationColumn<'_>| ListedColumn {
        name: column.name.to_owned(),
        type_oid: column.type_oid,
        typmod: column.typmod,
        identity: column.key,
    };
    Listing {
        relation: relation.relation,
        name: QualifiedName { namespace: relation.namespace.to_owned(), name: relation.name.to_owned() },
        replica_identity: relation.replica_identity,
        columns: relation.columns().map(column).collect(),
    }
}

fn gone(table: &str, at: Position) -> Error {
    Error::definite(Code::SourceReplaced, format!("table `{table}` is gone or another table has its name at {at}"))
        .hint("bring the table back under its name, or publish a new major from its successor")
}
