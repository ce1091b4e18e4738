//! The tables of another environment, read only.

use std::collections::BTreeSet;

use crate::contract::{Catalog, Resolved};
use crate::error::Result;
use crate::postgres::sampling;
use crate::postgres::sql::{self, Source};
use crate::table::QualifiedName;

/// An environment's tables, and how messages call it.
pub struct Environment {
    /// Such as `database shop at db.example.org`.
    pub name: String,
    /// The contracted tables that it has.
    pub catalog: Catalog,
}

/// Reads the tables that contracts name from the database of a URL.
pub fn read(url: &str, resolved: &Resolved) -> Result<Environment> {
    let source = Source::of_url(url, None)?;
    let versions = resolved
        .contracts
        .iter()
        .flat_map(|contract| contract.versions.values().filter_map(|entry| entry.shape.or(&contract.shape).source));
    let names: BTreeSet<QualifiedName> = versions.map(|source| source.value).collect();
    let names: Vec<QualifiedName> = names.into_iter().collect();
    let catalog = crate::cli::runtime()?.block_on(async {
        let client = sql::connect(&source).await?;
        let images = sampling::sample_named(&client, &names).await?.images;
        Ok::<_, crate::error::Error>(Catalog::new(images).with_details(sampling::details_named(&client, &names).await?))
    })?;
    Ok(Environment { name: format!("database `{}` at `{}`", source.url.database, source.url.host), catalog })
}
