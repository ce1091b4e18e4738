//! Runs the catalog's statements over ordinary SQL or a replication connection.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::engine::Sample;
use crate::error::{Code, Error, Result};
use crate::postgres::catalog::{
    self, CHANGED_SQL, CatalogRead, DETAILS_SQL, Fingerprints, IMAGE_SQL, LEAVES_SQL, TextRows,
};
use crate::postgres::connection::Connection;
use crate::postgres::sql::failed;
use crate::postgres::statements;
use crate::state::Leaf;
use crate::table::{QualifiedName, RelationId, TableDetails};

async fn text_rows(client: &Client, statement: &str, parameter: &str) -> Result<TextRows> {
    text_rows_of(client, statement, parameter).await.map_err(|e| failed("reading the catalog", &e))
}

async fn text_rows_of(
    client: &Client,
    statement: &str,
    parameter: &str,
) -> std::result::Result<TextRows, tokio_postgres::Error> {
    let parameters: [&(dyn ToSql + Sync); 1] = [&parameter];
    let rows = client.query(statement, &parameters).await?;
    Ok(rows.iter().map(|row| (0..row.len()).map(|i| row.get(i)).collect()).collect())
}

fn sample_of(read: CatalogRead, asked: &[RelationId]) -> Sample {
    let missing = asked.iter().filter(|oid| !read.images.iter().any(|image| image.relation == **oid)).copied();
    Sample {
        missing: missing.collect(),
        images: read.images,
        names: Vec::new(),
        snapshot: read.snapshot,
        insert_lsn: read.insert_lsn,
    }
}

/// Reads the images of these tables.
pub async fn sample(client: &Client, relations: &[RelationId]) -> Result<Sample> {
    let rows = text_rows(client, IMAGE_SQL, &catalog::tables_by_oid(relations)).await?;
    Ok(sample_of(catalog::parse_images(&rows)?, relations))
}

/// Reads the images of tables by name.
pub async fn sample_named(client: &Client, tables: &[QualifiedName]) -> Result<Sample> {
    let rows = text_rows(client, IMAGE_SQL, &catalog::tables_by_name(tables)).await?;
    Ok(sample_of(catalog::parse_images(&rows)?, &[]))
}

/// The same inside the transaction of a replication connection, such as the one that created the slot; by oid too.
pub fn sample_at_slot(
    connection: &mut Connection,
    tables: &[QualifiedName],
    relations: &[RelationId],
) -> Result<Sample> {
    let mut read = |parameter: &str| {
        let statement = catalog::with_parameter(IMAGE_SQL, parameter);
        catalog::parse_images(&connection.simple_query(&statement)?)
    };
    let mut sample = sample_of(read(&catalog::tables_by_name(tables))?, &[]);
    // Both statements of the transaction have its one snapshot.
    let by_oid = sample_of(read(&catalog::tables_by_oid(relations))?, relations);
    sample.missing = by_oid.missing;
    for image in by_oid.images {
        if sample.images.iter().all(|known| known.relation != image.relation) {
            sample.images.push(image);
        }
    }
    Ok(sample)
}

/// Whether anything moved that an image holds.
pub async fn probe(client: &Client, relations: &[RelationId]) -> Result<Fingerprints> {
    let rows = text_rows(client, CHANGED_SQL, &catalog::tables_by_oid(relations)).await?;
    catalog::parse_fingerprints(&rows)
}

/// The heaps of a table with their names.
pub async fn named_leaves(client: &Client, relation: RelationId) -> Result<Vec<catalog::Leaf>> {
    let rows = text_rows(client, LEAVES_SQL, &relation.to_string()).await?;
    catalog::parse_leaves(&rows)
}

/// The heaps of a table, for a copy. Their sizes need a lock: whoever holds it off longer than `lock_timeout` is waited for
/// again, so give it a connection that nobody else needs.
pub async fn leaves(client: &Client, relation: RelationId) -> Result<Vec<Leaf>> {
    let rows = loop {
        match text_rows_of(client, LEAVES_SQL, &relation.to_string()).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            other => break other.map_err(|e| failed("reading the catalog", &e))?,
        }
    };
    let leaf = |leaf: catalog::Leaf| {
        let blocks = u32::try_from(leaf.blocks)
            .map_err(|_| Error::definite(Code::SourceProtocol, format!("leaf `{}` has too many blocks", leaf.name)))?;
        Ok(Leaf { relation: leaf.relation, filenode: leaf.filenode, blocks })
    };
    catalog::parse_leaves(&rows)?.into_iter().map(leaf).collect()
}

/// The name of a table that holds rows, if it is there.
pub async fn leaf_name(client: &Client, leaf: RelationId) -> Result<Option<QualifiedName>> {
    let row = client
        .query_opt(statements::LEAF_NAME, &[&leaf.0])
        .await
        .map_err(|e| failed("asking for a leaf's name", &e))?;
    Ok(row.map(|row| QualifiedName { namespace: row.get(0), name: row.get(1) }))
}

/// Reads what `check` says about tables beyond their images, by name.
pub async fn details_named(client: &Client, tables: &[QualifiedName]) -> Result<BTreeMap<QualifiedName, TableDetails>> {
    let rows = text_rows(client, DETAILS_SQL, &catalog::tables_by_name(tables)).await?;
    catalog::parse_details(&rows)
}
