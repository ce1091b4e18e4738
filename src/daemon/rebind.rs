//! Binds a contract anew after its server was replaced: by the names that the history remembers, not by those in the
//! contract file, so that a rename before the dump is kept. Pure.

use std::collections::BTreeMap;

use crate::error::{Code, Error, Result};
use crate::history::History;
use crate::state::{Binding, ContractEntry};
use crate::table::{ColumnImage, ColumnKind, QualifiedName, RelationId, TableImage};

/// Whether ids of the checkpoint mean anything on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// The same cluster, perhaps set back or on another timeline: oids and attribute numbers are what they were.
    Kept,
    /// Another cluster: every one is another.
    Foreign,
}

/// What the checkpoint remembers of a contract's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name that it had last.
    pub table: QualifiedName,
    /// Names by attribute number.
    columns: BTreeMap<i16, String>,
}

impl Known {
    /// From the last table version; where that is not certain, from the newest image; where there is none, from the file.
    pub fn of(entry: &ContractEntry, history: &History) -> Known {
        let mut columns: BTreeMap<i16, String> =
            entry.bindings.values().map(|binding| (binding.attnum, binding.from.clone())).collect();
        let mut table = entry.source.clone();
        if let Some((image, _)) = history.newest(entry.relation) {
            table.clone_from(&image.name);
            columns.extend(image.listed().map(|column| (column.attnum, column.name.clone())));
        }
        if let Some((_, version)) = history.versions(entry.relation).last() {
            table.clone_from(&version.name);
            columns.extend(version.columns.iter().filter_map(|column| Some((column.attnum?, column.name.clone()))));
        }
        Known { table, columns }
    }
}

/// The entry, bound to the server's table and columns; everything else in it stays.
///
/// Errors: [`Code::AdoptRefused`] if the table or a column is missing, or if name and id point to different ones.
pub fn rebind(entry: &ContractEntry, known: &Known, images: &[TableImage], ids: Ids) -> Result<ContractEntry> {
    let image = table(entry, known, images, ids)?;
    let kept = ids == Ids::Kept && image.relation == entry.relation;
    let mut bindings = BTreeMap::new();
    for (field, binding) in &entry.bindings {
        let name = known.columns.get(&binding.attnum).unwrap_or(&binding.from);
        let by_id = image.attnum(binding.attnum).filter(|column| kept && column.kind == ColumnKind::Ordinary);
        let by_name = image.column(name);
        let column = one(by_id, by_name, |column| column.attnum).map_err(|why| {
            refused(
                entry,
                format!("field `{field}` was fed by column `{name}` of `{}`, {}", known.table, why.of("column")),
            )
        })?;
        let ColumnImage { attnum, type_oid, .. } = *column;
        bindings.insert(field.clone(), Binding { from: binding.from.clone(), attnum, type_oid });
    }
    Ok(ContractEntry { relation: image.relation, bindings, ..entry.clone() })
}

/// The server's table for a contract.
pub fn table<'a>(entry: &ContractEntry, known: &Known, images: &'a [TableImage], ids: Ids) -> Result<&'a TableImage> {
    let by_id = images.iter().find(|image| ids == Ids::Kept && image.relation == entry.relation);
    let by_name = images.iter().find(|image| image.name == known.table);
    one(by_id, by_name, |image: &TableImage| image.relation)
        .map_err(|why| refused(entry, format!("it was published from table `{}`, {}", known.table, why.of("table"))))
}

/// Why there is not one answer.
#[derive(Clone, Copy, Debug)]
enum Doubt {
    Missing,
    Two,
}

impl Doubt {
    fn of(self, what: &str) -> String {
        match self {
            Doubt::Missing => format!("the server has no {what} of that name"),
            Doubt::Two => format!("which has another name now, and another {what} has that one"),
        }
    }
}

fn one<T, I: PartialEq>(by_id: Option<T>, by_name: Option<T>, id: impl Fn(T) -> I) -> Result<T, Doubt>
where
    T: Copy,
{
    match (by_id, by_name) {
        (Some(a), Some(b)) if id(a) != id(b) => Err(Doubt::Two),
        (Some(found), _) | (None, Some(found)) => Ok(found),
        (None, None) => Err(Doubt::Missing),
    }
}

fn refused(entry: &ContractEntry, what: String) -> Error {
    Error::definite(Code::AdoptRefused, format!("contract `{}` v{}: {what}", entry.contract, entry.major)).hint(
        "bring it back under its name, or take the version out of the contract (`status: retired`) and begin a new major",
    )
}

/// The new entry in lines for whoever has to agree.
pub fn describe(old: &ContractEntry, new: &ContractEntry, image: &TableImage) -> Vec<String> {
    let moved = |RelationId(old): RelationId, RelationId(new): RelationId| match old == new {
        true => format!("oid {new}"),
        false => format!("oid {old} → {new}"),
    };
    let head = format!("  {} v{} ← {} ({})", new.contract, new.major, image.name, moved(old.relation, new.relation));
    let field = |(field, binding): (&String, &Binding)| {
        let column = image.attnum(binding.attnum);
        let (name, of_type) = column.map_or(("?", "?"), |column| (column.name.as_str(), column.type_name.as_str()));
        let before = old.bindings.get(field).map_or(binding.attnum, |old| old.attnum);
        let number =
            if before == binding.attnum { before.to_string() } else { format!("{before} → {}", binding.attnum) };
        format!("    {field} ← {name} {of_type} (column {number})")
    };
    std::iter::once(head).chain(new.bindings.iter().map(field)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{column, image};
    use crate::lsn::Lsn;
    use crate::position::Position;
    use crate::state::{CachedId, Progress};
    use crate::table::TableVersion;

    /// Field `amount` was bound to `sum`, which was renamed to `total` before the checkpoint.
    fn entry() -> (ContractEntry, History) {
        let image = image(vec![column(1, "id"), column(2, "total")]);
        let binding = |from: &str, attnum| Binding { from: from.into(), attnum, type_oid: 25 };
        let entry = ContractEntry {
            contract: "orders".into(),
            major: 1,
            source: QualifiedName { namespace: "public".into(), name: "as_written".into() },
            relation: image.relation,
            bindings: [("id".to_owned(), binding("id", 1)), ("amount".to_owned(), binding("sum", 2))].into(),
            progress: Progress::Live { since: Position::default() },
            begun: None,
            key_id: None,
            value_id: CachedId { id: 1, fingerprint: String::new() },
            publication_rel: Some(1),
            parcel_ids: None,
            parked: None,
            dead_span: None,
            unlevel: false,
            ghosts: false,
        };
        let mut history = History::default();
        history.append(Position { epoch: 0, commit_lsn: Lsn(1), ordinal: 0 }, TableVersion::of_image(&image));
        (entry, history)
    }

    fn foreign(columns: Vec<ColumnImage>) -> TableImage {
        TableImage { relation: RelationId(999), ..image(columns) }
    }

    #[test]
    fn on_another_cluster_names_of_the_last_version_bind() {
        let (entry, history) = entry();
        let known = Known::of(&entry, &history);
        let there = foreign(vec![column(1, "sum"), column(2, "id"), column(3, "total")]);
        let new = rebind(&entry, &known, std::slice::from_ref(&there), Ids::Foreign).unwrap();
        assert_eq!(new.relation, RelationId(999));
        assert_eq!((new.bindings["id"].attnum, new.bindings["amount"].attnum), (2, 3));
        assert_eq!(new.bindings["amount"].from, "sum", "the file's text binds anew only when it changes");
        assert_eq!(describe(&entry, &new, &there)[1], "    amount ← total text (column 2 → 3)");
    }

    #[test]
    fn a_missing_column_or_table_is_refused_with_its_name() {
        let (entry, history) = entry();
        let known = Known::of(&entry, &history);
        let without = foreign(vec![column(1, "id"), column(2, "sum")]);
        let error = rebind(&entry, &known, &[without], Ids::Foreign).unwrap_err();
        assert!(error.code() == Code::AdoptRefused && error.diagnosis().contains("`total`"), "{error}");
        let error = rebind(&entry, &known, &[], Ids::Foreign).unwrap_err();
        assert!(error.code() == Code::AdoptRefused && error.diagnosis().contains("no table of that name"), "{error}");
    }

    #[test]
    fn on_the_same_cluster_ids_bind_and_a_swapped_name_is_refused() {
        let (entry, history) = entry();
        let known = Known::of(&entry, &history);
        // Set back to before the rename.
        let new = rebind(&entry, &known, &[image(vec![column(1, "id"), column(2, "sum")])], Ids::Kept).unwrap();
        assert_eq!(new.bindings["amount"].attnum, 2);
        let swapped = image(vec![column(1, "id"), column(2, "sum"), column(3, "total")]);
        let error = rebind(&entry, &known, &[swapped], Ids::Kept).unwrap_err();
        assert!(error.diagnosis().contains("another column has that one"), "{error}");
    }
}
