//! Looks up keys in a table under an open snapshot: which of them it lacks, or the rows of a few.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::engine::{Chunk, Lookup};
use crate::error::{Code, Error, Result};
use crate::postgres::catalog::{quote_identifier, quote_literal};
use crate::postgres::sampling;
use crate::postgres::sql::failed;
use crate::postgres::statements;
use crate::postgres::worker::names;
use crate::row::Cell;
use crate::table::{ColumnImage, RelationId, SourceType, TableImage};

/// Keys of a table; see [`crate::engine::Request::LookUp`].
#[derive(Debug)]
pub struct Wanted {
    /// The table.
    pub relation: RelationId,
    /// The key's columns, by attribute number.
    pub key: Vec<i16>,
    /// The texts of these columns, key by key.
    pub keys: Vec<Vec<String>>,
    /// Columns to read of each row; with none, only whether there is a row.
    pub attnums: Vec<i16>,
}

/// What became of it.
#[derive(Debug)]
pub enum Looked {
    /// Read.
    Read(Lookup),
    /// The table changed meanwhile, or was locked.
    Moved,
    /// A key is no value of its column's type: compare as text.
    Unparsable,
}

/// Looks up keys. Names are resolved when the statement runs, not under the snapshot: so the table's image is read on
/// another connection before and again after, while the read still holds its lock.
pub async fn look_up(client: &Client, shared: &Client, wanted: &Wanted, as_text: bool) -> Result<Looked> {
    let Some(before) = sampling::sample(shared, &[wanted.relation]).await?.images.pop() else {
        return Err(Error::definite(Code::SourceReplaced, format!("table with oid {} is gone", wanted.relation))
            .hint("bring the table back, or retire its contracts"));
    };
    let (Some(key), Some(columns)) = (names(&before, &wanted.key), names(&before, &wanted.attnums)) else {
        return Err(Error::definite(Code::ColumnDropped, format!("a bound column of `{}` was dropped", before.name))
            .hint("publish a new major without the field"));
    };
    let read = match columns.is_empty() {
        true => missing(client, &before, wanted, as_text).await,
        false => rows(client, &before, wanted, &columns, as_text).await,
    };
    let mut lookup = match read {
        Ok(lookup) => lookup?,
        Err(error) => return moved_or(error),
    };
    let heaps = sampling::named_leaves(client, wanted.relation).await?;
    lookup.heaps = heaps.iter().map(|leaf| (leaf.relation, leaf.filenode)).collect();
    let Some(after) = sampling::sample(shared, &[wanted.relation]).await?.images.pop() else {
        return Ok(Looked::Moved);
    };
    if names(&after, &wanted.key).as_ref() != Some(&key) || names(&after, &wanted.attnums).as_ref() != Some(&columns) {
        return Ok(Looked::Moved);
    }
    if let Some(rows) = &mut lookup.rows {
        rows.image = Some(after);
    }
    Ok(Looked::Read(lookup))
}

type Ran<T> = std::result::Result<T, tokio_postgres::Error>;

async fn missing(client: &Client, image: &TableImage, wanted: &Wanted, as_text: bool) -> Ran<Result<Lookup>> {
    let width = wanted.key.len();
    let arrays: Vec<Vec<&str>> = (0..width)
        .map(|at| wanted.keys.iter().map(|key| key.get(at).map(String::as_str).unwrap_or_default()).collect())
        .collect();
    let unnest = |n: usize| format!("pg_catalog.unnest(${n}::pg_catalog.text[])");
    let statement = statements::KEYS_MISSING
        .replace("{arrays}", &join(1..=width, unnest, ", "))
        .replace("{names}", &join(1..=width, |n| format!("k{n}"), ", "))
        .replace("{equal}", &equal(image, &wanted.key, as_text))
        .replace("{table}", &table(image));
    let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
    let rows = client.query(statement.as_str(), &parameters).await?;
    let number = |row: &tokio_postgres::Row| u32::try_from(row.get::<_, i64>(0) - 1).ok();
    Ok(Ok(Lookup { missing: rows.iter().filter_map(number).collect(), ..Lookup::default() }))
}

/// The rows of a few keys, as the server prints them: by the simple protocol, which alone prints all types.
async fn rows(
    client: &Client,
    image: &TableImage,
    wanted: &Wanted,
    columns: &[&str],
    as_text: bool,
) -> Ran<Result<Lookup>> {
    let width = wanted.key.len();
    let value = |(number, key): (usize, &Vec<String>)| {
        let texts: Vec<String> = key.iter().map(|text| quote_literal(text)).collect();
        format!("({number}, {})", texts.join(", "))
    };
    let values: Vec<String> = wanted.keys.iter().enumerate().map(value).collect();
    let key_columns = wanted.key.iter().filter_map(|attnum| image.attnum(*attnum));
    let as_key = key_columns.zip(1..).map(|(column, n)| match as_text {
        true => format!("k.k{n}"),
        false => format!("k.k{n}::{}", comparable(column)),
    });
    let statement = statements::KEYS_NAMED
        .replace("{keys}", &as_key.collect::<Vec<_>>().join(", "))
        .replace("{names}", &join(1..=width, |n| format!("k{n}"), ", "))
        .replace(
            "{columns}",
            &columns.iter().map(|name| format!("t.{}", quote_identifier(name))).collect::<Vec<_>>().join(", "),
        )
        .replace("{equal}", &equal(image, &wanted.key, as_text))
        .replace("{table}", &table(image))
        // Last: a key may hold anything.
        .replace("{values}", &values.join(", "));
    let messages = client.simple_query(&statement).await?;
    Ok(parse_rows(&messages, wanted))
}

fn parse_rows(messages: &[SimpleQueryMessage], wanted: &Wanted) -> Result<Lookup> {
    let mut chunk = Chunk { attnums: wanted.attnums.clone(), ..Chunk::default() };
    let mut missing = Vec::new();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    for (row, number) in rows.zip(0u32..) {
        let found = row.get(wanted.key.len()).is_some();
        if !found {
            missing.push(number);
        }
        for (attnum, at) in wanted.attnums.iter().zip(wanted.key.len() + 1..) {
            let text = match wanted.key.iter().position(|key| key == attnum) {
                Some(key) if !found => row.get(key),
                _ => row.get(at),
            };
            let cell = match text {
                None => Cell::Null,
                Some(text) => {
                    let start = chunk.buffer.len();
                    chunk.buffer.extend_from_slice(text.as_bytes());
                    match (u32::try_from(start), u32::try_from(text.len())) {
                        (Ok(start), Ok(len)) => Cell::Text { start, len },
                        _ => return Err(Error::definite(Code::MessageTooLarge, "named rows exceed 4 GiB")),
                    }
                }
            };
            chunk.cells.push(cell);
        }
        chunk.rows += 1;
    }
    if chunk.rows != wanted.keys.len() {
        return Err(Error::definite(Code::SourceProtocol, "a lookup of keys gave another number of rows")
            .hint("report it: a key should give one row"));
    }
    Ok(Lookup { missing, rows: Some(Box::new(chunk)), ..Lookup::default() })
}

fn join(numbers: std::ops::RangeInclusive<usize>, text: impl Fn(usize) -> String, between: &str) -> String {
    numbers.map(text).collect::<Vec<_>>().join(between)
}

fn table(image: &TableImage) -> String {
    let name = format!("{}.{}", quote_identifier(&image.name.namespace), quote_identifier(&image.name.name));
    // Tables that inherit from an ordinary one are not published with it.
    if image.partitioned { name } else { format!("ONLY {name}") }
}

fn equal(image: &TableImage, key: &[i16], as_text: bool) -> String {
    let columns = key.iter().filter_map(|attnum| image.attnum(*attnum)).zip(1..);
    let one = |(column, n): (&ColumnImage, usize)| match as_text {
        true => format!("t.{}::pg_catalog.text = k.k{n}", quote_identifier(&column.name)),
        false => format!("t.{} = k.k{n}::{}", quote_identifier(&column.name), comparable(column)),
    };
    columns.map(one).collect::<Vec<_>>().join(" AND ")
}

/// The type to compare a column's key as: without its length or precision, to which a cast would cut.
fn comparable(column: &ColumnImage) -> &str {
    match &column.source_type {
        SourceType::Bool => "pg_catalog.bool",
        SourceType::Int2 => "pg_catalog.int2",
        SourceType::Int4 => "pg_catalog.int4",
        SourceType::Int8 => "pg_catalog.int8",
        SourceType::Oid => "pg_catalog.oid",
        SourceType::Text | SourceType::Varchar => "pg_catalog.text",
        SourceType::Char => "pg_catalog.bpchar",
        SourceType::Name => "pg_catalog.name",
        SourceType::Bytea => "pg_catalog.bytea",
        SourceType::Date => "pg_catalog.date",
        SourceType::Timestamp => "pg_catalog.timestamp",
        SourceType::Timestamptz => "pg_catalog.timestamptz",
        SourceType::Uuid => "pg_catalog.uuid",
        _ => &column.type_name,
    }
}

/// A table or column that is gone under its name, or a lost race for a lock: again. A key that does not parse: as text.
fn moved_or(error: tokio_postgres::Error) -> Result<Looked> {
    match error.code() {
        Some(code) if code.code().starts_with("22") => Ok(Looked::Unparsable),
        Some(code)
            if [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE, SqlState::LOCK_NOT_AVAILABLE].contains(code) =>
        {
            Ok(Looked::Moved)
        }
        Some(code) if *code == SqlState::T_R_DEADLOCK_DETECTED => Ok(Looked::Moved),
        _ => Err(failed("looking up keys", &error)),
    }
}
