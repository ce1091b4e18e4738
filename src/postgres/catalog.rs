//! The statements that read the catalog, and what their rows mean.
//!
//! Every statement takes one text parameter, returns text columns only, and names everything with its namespace, so that
//! the same text runs on a replication connection (simple protocol, [`with_parameter`]) and on an ordinary one, and is
//! what `install --print` shows. Tables are found by joins under the statement's snapshot; functions that look names up
//! (`::regclass`, `to_regclass`) see a newer catalog than the snapshot and are not used. `format_type()` does too; it names
//! types for messages, with the namespace where `search_path` is pinned to nothing, as on every connection of gimbal's.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Code, Error, Result};
use crate::history::Sample;
use crate::lsn::{Lsn, Snapshot};
use crate::table::{QualifiedName, RelationId, TableImage};

mod details;
mod image;

pub use details::{DETAILS_SQL, parse_details};

/// Reads whole images. `$1`: [`tables_by_oid`] or [`tables_by_name`]. Rows for [`parse_images`].
pub const IMAGE_SQL: &str = include_str!("catalog/image.sql");

/// The cheap probe: has anything moved that an image holds? (Not covered: new names of types other than enums and domains,
/// which are in messages only.) `$1`: [`tables_by_oid`]. Rows for [`parse_fingerprints`].
pub const CHANGED_SQL: &str = include_str!("catalog/changed.sql");

/// The leaf partitions of a table, or the table itself. `$1`: its oid. Rows for [`parse_leaves`]. Read them with
/// `FROM ONLY`: the children of a table by plain inheritance are tables of their own.
pub const LEAVES_SQL: &str = include_str!("catalog/leaves.sql");

/// Rows as text, the common shape of both protocols.
pub type TextRows = Vec<Vec<Option<String>>>;

/// What one run of [`IMAGE_SQL`] read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogRead {
    /// The statement's snapshot.
    pub snapshot: Snapshot,
    /// Where WAL was inserted next, read after the snapshot was taken: once the stream has passed it, every transaction
    /// that the snapshot sees is delivered.
    pub insert_lsn: Lsn,
    /// The tables that exist, by rising oid.
    pub images: Vec<TableImage>,
}

impl CatalogRead {
    /// One sample per table, for [`crate::history::History::observe`].
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        self.images.iter().map(|image| Sample { image: image.clone(), snapshot: self.snapshot.clone() })
    }
}

/// What one run of [`CHANGED_SQL`] found. Equal fingerprints in two runs mean that nothing moved between their snapshots;
/// a table that is missing does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprints {
    /// The statement's snapshot.
    pub snapshot: Snapshot,
    /// By table.
    pub tables: BTreeMap<RelationId, String>,
}

/// A table that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The oid.
    pub relation: RelationId,
    /// The name.
    pub name: QualifiedName,
    /// Size of the main fork in blocks.
    pub blocks: u64,
    /// `pg_relation_filenode()`: another one after a rewrite or TRUNCATE.
    pub filenode: u32,
}

/// The parameter of [`IMAGE_SQL`] and [`CHANGED_SQL`] for these tables. A few hundred at a time keep the answer small.
pub fn tables_by_oid(tables: &[RelationId]) -> String {
    parameter("oids", tables)
}

/// The parameter of [`IMAGE_SQL`] for the tables that have these names in the statement's snapshot.
pub fn tables_by_name(tables: &[QualifiedName]) -> String {
    let names: Vec<[&str; 2]> = tables.iter().map(|table| [table.namespace.as_str(), table.name.as_str()]).collect();
    parameter("names", &names)
}

fn parameter(key: &str, tables: impl Serialize) -> String {
    serde_json::json!({ key: tables }).to_string()
}

/// The statement with its parameter as a literal, for the simple protocol.
pub fn with_parameter(sql: &str, parameter: &str) -> String {
    sql.replace("$1", &quote_literal(parameter))
}

/// A text as an SQL literal, safe whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', r"\\")) } else { format!("'{quoted}'") }
}

/// A name as an SQL identifier, always quoted.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Understands the rows of [`IMAGE_SQL`].
pub fn parse_images(rows: &TextRows) -> Result<CatalogRead> {
    let mut head = None;
    let mut types = image::Types::default();
    let mut tables = Vec::new();
    for row in rows {
        let [snapshot, insert_lsn, types_json, image] = columns(row, "catalog image")?;
        head = head.or(Some((required(snapshot, "snapshot")?, required(insert_lsn, "WAL insert position")?)));
        if let Some(json) = types_json {
            types = image::Types::parse(json)?;
        }
        tables.extend(image);
    }
    let (snapshot, insert_lsn) = head.ok_or_else(|| unexpected("catalog image: no row"))?;
    let mut images = tables.into_iter().map(|json| types.image(json)).collect::<Result<Vec<TableImage>>>()?;
    images.sort_by_key(|image| image.relation);
    Ok(CatalogRead {
        snapshot: snapshot.parse().map_err(|_| unexpected("snapshot"))?,
        insert_lsn: insert_lsn.parse().map_err(|_| unexpected("WAL insert position"))?,
        images,
    })
}

/// Understands the rows of [`CHANGED_SQL`].
pub fn parse_fingerprints(rows: &TextRows) -> Result<Fingerprints> {
    let mut found: Option<Fingerprints> = None;
    for row in rows {
        let [snapshot, oid, fingerprint] = columns(row, "catalog probe")?;
        let found = match &mut found {
            Some(found) => found,
            None => found.insert(Fingerprints {
                snapshot: required(snapshot, "snapshot")?.parse().map_err(|_| unexpected("snapshot"))?,
                tables: BTreeMap::new(),
            }),
        };
        if let Some(oid) = oid {
            let relation = RelationId(oid.parse().map_err(|_| unexpected("oid"))?);
            found.tables.insert(relation, required(fingerprint, "fingerprint")?.to_owned());
        }
    }
    found.ok_or_else(|| unexpected("catalog probe: no row"))
}

/// Understands the rows of [`LEAVES_SQL`]. Empty if the table is gone; a leaf that went between the statement's snapshot
/// and the reading of its size is a transient error.
pub fn parse_leaves(rows: &TextRows) -> Result<Vec<Leaf>> {
    let leaf = |row: &Vec<Option<String>>| {
        let [oid, namespace, name, blocks, filenode] = columns(row, "leaf partition")?;
        let (namespace, name) =
            (required(namespace, "namespace")?.to_owned(), required(name, "table name")?.to_owned());
        let (Some(blocks), Some(filenode)) = (blocks, filenode) else {
            let diagnosis = format!("table `{namespace}.{name}` was dropped while its size was read");
            return Err(Error::transient(Code::SourceStatement, diagnosis));
        };
        Ok(Leaf {
            relation: RelationId(required(oid, "oid")?.parse().map_err(|_| unexpected("oid"))?),
            name: QualifiedName { namespace, name },
            blocks: blocks.parse().map_err(|_| unexpected("number of blocks"))?,
            filenode: filenode.parse().map_err(|_| unexpected("filenode"))?,
        })
    };
    rows.iter().map(leaf).collect()
}

fn columns<'a, const N: usize>(row: &'a [Option<String>], what: &str) -> Result<[Option<&'a str>; N]> {
    let cells: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
    <[Option<&str>; N]>::try_from(cells)
        .map_err(|cells| unexpected(&format!("{what}: {} columns, not {N}", cells.len())))
}

fn required<'a>(cell: Option<&'a str>, what: &str) -> Result<&'a str> {
    cell.ok_or_else(|| unexpected(what))
}

/// An answer that no PostgreSQL from 14 on gives to these statements.
fn unexpected(what: &str) -> Error {
    Error::definite(Code::SourceProtocol, format!("the catalog's answer is not as expected: {what}"))
        .hint("check that the server is PostgreSQL 14 or later, and that nothing between changes its answers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_stands_once_in_each_statement_and_in_no_comment() {
        for sql in [IMAGE_SQL, CHANGED_SQL, LEAVES_SQL] {
            assert_eq!(sql.matches("$1").count(), 1);
            assert!(sql.lines().all(|line| !line.trim_start().starts_with("--") || !line.contains("$1")));
        }
        let tables = [QualifiedName { namespace: "a".to_owned(), name: "b\nc".to_owned() }];
        assert!(!tables_by_name(&tables).contains('\n'));
    }

    #[test]
    fn literals_survive_quotes_and_backslashes() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r#"{"a":"\"'"}"#), r#" E'{"a":"\\"''"}'"#);
        assert_eq!(quote_identifier(r#"odd"name"#), r#""odd""name""#);
    }

    #[test]
    fn a_statement_without_tables_still_tells_its_snapshot() {
        let row = |cells: &[Option<&str>]| cells.iter().map(|cell| cell.map(str::to_owned)).collect::<Vec<_>>();
        let read = parse_images(&vec![row(&[Some("10:12:11"), Some("0/1A"), None, None])]).unwrap();
        assert_eq!((read.snapshot.to_string(), read.insert_lsn, read.images), ("10:12:11".to_owned(), Lsn(26), vec![]));
        let found = parse_fingerprints(&vec![row(&[Some("10:12:11"), None, None])]).unwrap();
        assert!(found.tables.is_empty());
    }

    #[test]
    fn answers_of_another_shape_are_errors() {
        let rows = |cells: &[Option<&str>]| vec![cells.iter().map(|cell| cell.map(str::to_owned)).collect::<Vec<_>>()];
        for cells in
            [&[][..], &[None, None, None], &[Some("1:1:"), Some("x"), None], &[Some("1:1:"), Some("0/1"), Some("{}")]]
        {
            assert_eq!(parse_images(&rows(cells)).unwrap_err().code(), Code::SourceProtocol, "{cells:?}");
        }
        assert!(parse_images(&Vec::new()).is_err() && parse_fingerprints(&Vec::new()).is_err());
        let vanished = parse_leaves(&rows(&[Some("1"), Some("a"), Some("b"), None, None])).unwrap_err();
        assert_eq!(vanished.kind(), crate::error::Kind::Transient);
    }
}
