//! The model's application: what transactions write, and how tables change.

use super::*;

impl Database {
    pub(super) fn write(&mut self, rng: &mut Rng, xid: Xid) {
        let table = rng.between(0, self.tables.len() - 1);
        if self.open.iter().any(|(other, tx)| *other != xid && tx.exclusive.contains(&table)) {
            return;
        }
        let (key, target) = (rng.between(1, KEYS as usize) as i64, rng.between(1, KEYS as usize) as i64);
        let Ok(found) = self.find(table, key, xid) else { return };
        let (old, new_key) = match (found, rng.between(0, 9)) {
            (None, _) => (None, Some(key)),
            (Some(old), 0..6) => (Some(old), Some(key)),
            (Some(old), 6..8) if self.find(table, target, xid).is_ok_and(|t| t.is_none()) => (Some(old), Some(target)),
            (Some(old), _) => (Some(old), None),
        };
        let shape = self.shape_for(table, xid);
        let version = self.next_version;
        self.next_version += 1;
        let mut unchanged = Vec::new();
        let new = new_key.map(|key| {
            let before = old.as_ref().map(|(_, tuple)| &tuple.row);
            new_row(rng, &shape.image, (key, version), before, &mut unchanged, self.workload.poison)
        });
        if shape.image.replica_identity != ReplicaIdentity::Full && !self.workload.unchanged {
            unchanged.retain(|attnum| !self.bound.contains(attnum));
        }
        self.versions.insert((table, version), Version { xid, row: new.clone() });
        let leaves = self.tables[table].leaves.len();
        if let Some((leaf, tuple)) = &old {
            self.tables[table].leaves[*leaf].delete(tuple.tid, xid);
        }
        let leaf_of = |key: i64| key as usize % leaves;
        if let (Some(key), Some(row)) = (new_key, &new) {
            self.tables[table].leaves[leaf_of(key)].insert(rng, xid, key, row.clone());
        }
        let moved = matches!((&old, new_key), (Some((leaf, _)), Some(key)) if *leaf != leaf_of(key));
        let old = old.map(|(_, tuple)| tuple.row);
        self.advance(rng);
        let event =
            |old, new, unchanged| Event::Row(RowEvent { table, shape: shape.clone(), old, new, unchanged, version });
        let tx = self.open.get_mut(&xid).unwrap();
        tx.shared.insert(table);
        if moved {
            // Between leaves an update is a delete and an insert.
            tx.events.push(event(old, None, Vec::new()));
            tx.events.push(event(None, new, Vec::new()));
        } else {
            tx.events.push(event(old, new, unchanged));
        }
    }

    /// ALTER TABLE, VACUUM FULL or a rewrite, in a transaction of its own or in one that runs.
    pub(super) fn change_table(&mut self, rng: &mut Rng) {
        let running: Vec<Xid> = self.open.iter().filter(|(_, tx)| !tx.stalled).map(|(xid, _)| *xid).collect();
        let inside = !running.is_empty() && rng.chance(40);
        let xid = if inside { *rng.pick(&running) } else { self.next_xid };
        let touches = |tx: &Tx, table: &usize| tx.shared.contains(table) || tx.exclusive.contains(table);
        let free = |table: &usize| !self.open.iter().any(|(other, tx)| *other != xid && touches(tx, table));
        let free: Vec<usize> = (0..self.tables.len()).filter(free).collect();
        if free.is_empty() {
            return;
        }
        let table = *rng.pick(&free);
        if !inside {
            self.begin(rng);
        }
        let mut image = self.shape_for(table, xid).image.clone();
        let rewrite = !inside && rng.chance(30);
        if !rewrite {
            let bound = if self.breaks { &BTreeSet::new() } else { &self.bound };
            alter(rng, &mut image, bound, self.workload.drop_in_front);
            if self.full.contains(&table) {
                image.replica_identity = ReplicaIdentity::Full;
            }
            crate::engine::sim::trace(|| {
                format!(
                    "alter table {table} by {xid}: {:?} {:?}",
                    image.replica_identity,
                    image.columns.iter().map(|c| (c.attnum, &c.name, c.kind)).collect::<Vec<_>>()
                )
            });
            let shape = self.shape(image);
            self.open.get_mut(&xid).unwrap().shapes.push((table, shape));
        }
        let new_tuples = rng.chance(50);
        let tx = self.open.get_mut(&xid).unwrap();
        tx.exclusive.insert(table);
        if rewrite {
            tx.rewrite = Some((table, new_tuples));
        }
        self.advance(rng);
        if !inside {
            let stall = rng.chance(self.workload.stall);
            match rng.chance(10) {
                true => self.abort(xid),
                false => self.commit(rng, xid, stall),
            }
        }
    }

    /// TRUNCATE, in a transaction that may go on to insert.
    pub(super) fn truncate_table(&mut self, rng: &mut Rng) {
        let running: Vec<Xid> = self.open.iter().filter(|(_, tx)| !tx.stalled).map(|(xid, _)| *xid).collect();
        let inside = !running.is_empty() && rng.chance(60);
        let xid = if inside { *rng.pick(&running) } else { self.begin(rng) };
        let table = rng.between(0, self.tables.len() - 1);
        let touches = |tx: &Tx| tx.shared.contains(&table) || tx.exclusive.contains(&table);
        if !self.open.iter().any(|(other, tx)| *other != xid && touches(tx)) {
            self.tables[table].leaves.iter_mut().for_each(|leaf| leaf.delete_all(xid));
            let shape = self.shape_for(table, xid);
            let tx = self.open.get_mut(&xid).unwrap();
            tx.exclusive.insert(table);
            tx.truncated.insert(table);
            tx.events.push(Event::Truncate { table, shape });
            self.advance(rng);
        }
        if !inside {
            self.commit(rng, xid, false);
        }
    }
}

fn new_row(
    rng: &mut Rng,
    image: &TableImage,
    (key, version): (i64, i64),
    before: Option<&Row>,
    unchanged: &mut Vec<i16>,
    poison: u64,
) -> Row {
    let value = |column: &ColumnImage| match (column.kind, column.attnum) {
        (ColumnKind::Dropped, _) => None,
        (_, 1) => Some(key.to_string()),
        (_, 2) => Some(version.to_string()),
        (_, attnum) => {
            if let Some(before) = before.filter(|_| rng.chance(40)) {
                let old = before.get(attnum as usize - 1).cloned().flatten();
                if old.is_some() && rng.chance(30) {
                    unchanged.push(attnum);
                }
                return old;
            }
            let word = if rng.chance(poison) { "x" } else { "" };
            (!rng.chance(10)).then(|| format!("{word}{attnum}{version:09}"))
        }
    };
    image.columns.iter().map(value).collect()
}

/// One ALTER TABLE. Bound columns are renamed, and never dropped or retyped.
fn alter(rng: &mut Rng, image: &mut TableImage, bound: &BTreeSet<i16>, drop_in_front: bool) {
    let last_bound = bound.last().copied().unwrap_or(2);
    let droppable = |column: &ColumnImage| {
        let free = column.kind != ColumnKind::Dropped && column.attnum > 2 && !bound.contains(&column.attnum);
        free && (drop_in_front || column.attnum > last_bound)
    };
    let count = image.columns.len();
    let alive: Vec<usize> = (2..count).filter(|at| image.columns[*at].kind != ColumnKind::Dropped).collect();
    if alive.is_empty() {
        return;
    }
    let pick = |rng: &mut Rng| *rng.pick(&alive);
    match rng.between(0, 7) {
        7 => {
            // A type without a rewrite, of a column that nobody reads.
            let free = |column: &&mut ColumnImage| column.attnum > 2 && !bound.contains(&column.attnum);
            if let Some(column) = image.columns.iter_mut().filter(free).find(|c| c.kind != ColumnKind::Dropped) {
                (column.type_oid, column.typmod, column.source_type) = (1043, 20, SourceType::Varchar);
                column.type_name = "character varying(16)".into();
            }
        }
        0 => {
            let (a, b) = (pick(rng), pick(rng));
            let name = image.columns[a].name.clone();
            image.columns[a].name = std::mem::replace(&mut image.columns[b].name, name);
        }
        1 => {
            let at = pick(rng);
            image.columns[at].name = format!("r{}", rng.next() % 1000);
        }
        2 if count < 12 => {
            let kind = if rng.chance(30) { ColumnKind::Generated } else { ColumnKind::Ordinary };
            let name = format!("a{}", rng.next() % 1000);
            image.columns.push(column(count as i16 + 1, name, SourceType::Text, kind));
        }
        3 | 4 => {
            if let Some(column) = image.columns.iter_mut().find(|column| droppable(column)) {
                column.kind = ColumnKind::Dropped;
                column.name = String::new();
            }
        }
        5 => image.name.name = format!("t{}x{}", image.relation.0, rng.next() % 100),
        _ => {
            image.replica_identity = match image.replica_identity {
                ReplicaIdentity::Full => ReplicaIdentity::Default,
                _ => ReplicaIdentity::Full,
            }
        }
    }
}
