//! Reads rows again by their keys: values that the stream does not carry.

use std::collections::HashMap;

use futures_util::{StreamExt, pin_mut};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::engine::Reread;
use crate::error::{Code, Error, Result};
use crate::lsn::Snapshot;
use crate::postgres::catalog::{quote_identifier, quote_literal};
use crate::postgres::sampling;
use crate::postgres::sql::failed;
use crate::postgres::statements;
use crate::postgres::worker::{names, parse};
use crate::row::Cell;
use crate::table::{ColumnKind, RelationId, TableImage};

/// What is to be read.
#[derive(Debug)]
pub struct WantedRows {
    /// The table.
    pub relation: RelationId,
    /// The key's columns.
    pub key: Vec<i16>,
    /// Their texts, key by key.
    pub keys: Vec<Vec<String>>,
    /// The columns to read.
    pub attnums: Vec<i16>,
    /// The transaction that must be visible.
    pub sees: u32,
    /// Stop after so many bytes.
    pub bytes_max: usize,
}

/// Reads the rows. Nothing if that is to be tried again: the transaction is not visible yet, or the table changed meanwhile.
///
/// `shared` reads the catalog: names are resolved when the statement runs and not under its snapshot, so the image is read
/// before, and again while the statement's lock is held.
pub async fn reread(client: &Client, shared: &Client, wanted: &WantedRows) -> Result<Option<Reread>> {
    let mut sample = sampling::sample(shared, &[wanted.relation]).await?;
    let before = sample.images.pop();
    let Some(before) = before.filter(|image| names(image, &wanted.key).is_some()) else {
        let seen = sample.snapshot.sees_short(wanted.sees);
        return Ok(seen.then(|| unreadable(wanted, sample.snapshot)));
    };
    client.batch_execute(statements::CHUNK_BEGIN).await.map_err(|e| failed("beginning a re-read", &e))?;
    let read = under_snapshot(client, shared, wanted, &before).await;
    let end = client.batch_execute(statements::CHUNK_END).await;
    let read = read?;
    end.map_err(|e| failed("ending a re-read", &e))?;
    Ok(read)
}

async fn under_snapshot(
    client: &Client,
    shared: &Client,
    wanted: &WantedRows,
    before: &TableImage,
) -> Result<Option<Reread>> {
    let row = client.query_one(statements::CHUNK_FENCE, &[]).await.map_err(|e| failed("a re-read's snapshot", &e))?;
    let snapshot: Snapshot = parse(row.get(0))?;
    if !snapshot.sees_short(wanted.sees) {
        return Ok(None);
    }
    let there = |attnum: &i16| before.attnum(*attnum).is_some_and(|column| column.kind == ColumnKind::Ordinary);
    let attnums: Vec<i16> = wanted.attnums.iter().copied().filter(there).collect();
    let all: Vec<i16> = wanted.key.iter().chain(&attnums).copied().collect();
    let Some(columns) = names(before, &all) else { return Ok(None) };
    let mut reader = Reader::new(wanted, attnums, snapshot);
    let rows = match client.simple_query_raw(&statement(before, &columns, wanted)).await {
        Ok(rows) => rows,
        Err(error) => return again_or(error, wanted, reader.read.snapshot),
    };
    pin_mut!(rows);
    while let Some(message) = rows.next().await {
        match message {
            Ok(SimpleQueryMessage::Row(row)) => reader.row(&row)?,
            Ok(_) => {}
            Err(error) => return again_or(error, wanted, reader.read.snapshot),
        }
    }
    let Some(after) = sampling::sample(shared, &[wanted.relation]).await?.images.pop() else { return Ok(None) };
    if names(&after, &all).as_ref() != Some(&columns) {
        return Ok(None);
    }
    reader.read.image = Some(after);
    Ok(Some(reader.read))
}

/// Literals take the type of the column that they are compared with, without its length, to which a cast would cut.
fn statement(image: &TableImage, columns: &[&str], wanted: &WantedRows) -> String {
    let quoted: Vec<String> = columns.iter().map(|name| quote_identifier(name)).collect();
    let name = format!("{}.{}", quote_identifier(&image.name.namespace), quote_identifier(&image.name.name));
    // Tables that inherit from an ordinary one are not published with it.
    let table = if image.partitioned { name } else { format!("ONLY {name}") };
    let literals = |key: &Vec<String>| {
        let literals: Vec<String> = key.iter().map(|text| quote_literal(text)).collect();
        format!("({})", literals.join(", "))
    };
    let keys: Vec<String> = wanted.keys.iter().map(literals).collect();
    let key = quoted.get(..wanted.key.len()).unwrap_or_default().join(", ");
    statements::REREAD
        .replace("{columns}", &quoted.join(", "))
        .replace("{table}", &table)
        .replace("{key}", &key)
        // Last: a key may hold anything.
        .replace("{keys}", &keys.join(", "))
}

fn unreadable(wanted: &WantedRows, snapshot: Snapshot) -> Reread {
    Reread {
        relation: wanted.relation,
        snapshot,
        image: None,
        attnums: Vec::new(),
        found: Vec::new(),
        cells: Vec::new(),
        buffer: Vec::new(),
        cut: false,
    }
}

/// Takes rows, which come in any order.
struct Reader<'a> {
    numbers: HashMap<Vec<&'a str>, usize>,
    key: usize,
    bytes_max: usize,
    read: Reread,
}

impl<'a> Reader<'a> {
    fn new(wanted: &'a WantedRows, attnums: Vec<i16>, snapshot: Snapshot) -> Reader<'a> {
        let numbers = wanted.keys.iter().enumerate();
        let numbers = numbers.map(|(number, key)| (key.iter().map(String::as_str).collect(), number)).collect();
        let read = Reread { attnums, ..unreadable(wanted, snapshot) };
        Reader { numbers, key: wanted.key.len(), bytes_max: wanted.bytes_max, read }
    }

    fn row(&mut self, row: &SimpleQueryRow) -> Result<()> {
        let Reread { found, cells, buffer, attnums, cut, .. } = &mut self.read;
        *cut |= !found.is_empty() && buffer.len() >= self.bytes_max;
        if *cut {
            return Ok(());
        }
        let key: Option<Vec<&str>> = (0..self.key).map(|at| row.get(at)).collect();
        // An equal key of another text is another key to us; the update that made it is further on.
        let Some(number) = key.and_then(|key| self.numbers.get(&key)) else { return Ok(()) };
        found.push(*number);
        for at in self.key..self.key + attnums.len() {
            cells.push(match row.get(at) {
                None => Cell::Null,
                Some(text) => {
                    let start = buffer.len();
                    buffer.extend_from_slice(text.as_bytes());
                    match (u32::try_from(start), u32::try_from(text.len())) {
                        (Ok(start), Ok(len)) => Cell::Text { start, len },
                        _ => return Err(Error::definite(Code::MessageTooLarge, "rows read again exceed 4 GiB")),
                    }
                }
            });
        }
        Ok(())
    }
}

/// A table or column that is gone under its name, or a lost race for a lock: again. A key that is none of the column's type
/// any more finds nothing.
fn again_or(error: tokio_postgres::Error, wanted: &WantedRows, snapshot: Snapshot) -> Result<Option<Reread>> {
    let again = [
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_TABLE,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    match error.code() {
        Some(code) if again.contains(code) => Ok(None),
        Some(code) if code.code().starts_with("22") => Ok(Some(unreadable(wanted, snapshot))),
        _ => Err(failed("reading rows again", &error)),
    }
}
