//! `gimbal init`: reads tables from a database, then drafts contracts, schemas and a config for them.

use std::path::Path;

use crate::cli::Output;
use crate::cli::init::{Details, InitOptions, catalog_tables, write_catalog, write_drafts, write_token};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::postgres::sql::{self, Source, failed};
use crate::postgres::{sampling, setup};
use crate::table::{QualifiedName, TableImage};

/// Arguments of `init`.
#[derive(clap::Args, Debug)]
pub struct InitArgs {
    /// The database, such as postgresql://user@host/database (the password in PGPASSWORD or the passfile)
    #[arg(long, value_name = "URL", alias = "dsn", required_unless_present = "catalog_only")]
    pub source: Option<String>,
    /// Tables to draft contracts for, separated by commas: `public.orders,public.customers`; all where left out
    #[arg(long, value_delimiter = ',', value_name = "TABLES")]
    pub tables: Vec<String>,
    /// Name of the pipeline: part of topics, slot and publication; the database's name where left out
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Overwrite drafts that differ
    #[arg(long)]
    pub force: bool,
    /// Draft nothing: write `catalog.json` anew for the tables that it has and those of `--tables`
    #[arg(long, conflicts_with_all = ["pipeline", "force"])]
    pub catalog_only: bool,
}

/// Runs the command.
pub fn init(config: &Path, args: &InitArgs, out: &mut Output) -> Result<()> {
    if args.catalog_only {
        return refresh(config, args, out);
    }
    let url = args.source.clone().unwrap_or_default();
    let source = Source::of_url(&url, None)?;
    let names: Vec<QualifiedName> = args.tables.iter().map(|text| parse_name(text)).collect();
    let (images, details) = crate::cli::runtime()?.block_on(read(&source, &names))?;
    let options = InitOptions {
        config: config.to_owned(),
        pipeline: args.pipeline.clone().unwrap_or_else(|| pipeline_name(&source.url.database)),
        source_url: url,
        force: args.force,
        details,
    };
    let written = write_drafts(&images, &options)?;
    for path in &written {
        out.line(&format!("wrote {}", path.display()))?;
    }
    if let Some(path) = write_token(&Config::load(config).map_err(Error::from)?)? {
        out.line(&format!("wrote {}, which commands show to the daemon", path.display()))?;
    }
    if written.is_empty() {
        out.line("nothing to write: all drafts are there")?;
    }
    out.line("next: read the drafts, then `gimbal check`, `gimbal install --print`, `gimbal install`, `gimbal run`")
}

/// Writes `catalog.json` anew, so that `check` knows columns that production has by now.
fn refresh(config: &Path, args: &InitArgs, out: &mut Output) -> Result<()> {
    let config = Config::load(config).map_err(Error::from)?;
    let source = match &args.source {
        Some(url) => Source::of_url(url, None)?,
        None => Source::of(&config)?,
    };
    let known = catalog_tables(&config)?;
    let tables: Vec<QualifiedName> = known.into_iter().chain(args.tables.iter().map(|text| parse_name(text))).collect();
    let (images, details) = crate::cli::runtime()?.block_on(read(&source, &tables))?;
    let path = write_catalog(&config, &images, &details)?;
    out.line(&format!("wrote {}", path.display()))
}

async fn read(source: &Source, tables: &[QualifiedName]) -> Result<(Vec<TableImage>, Details)> {
    let client = sql::connect(source).await?;
    let names: Vec<QualifiedName> = if tables.is_empty() {
        let rows = client.query(setup::TABLES, &[]).await.map_err(|e| failed("listing tables", &e))?;
        rows.iter().map(|row| QualifiedName { namespace: row.get(0), name: row.get(1) }).collect()
    } else {
        tables.to_vec()
    };
    let images = sampling::sample_named(&client, &names).await?.images;
    match names.iter().find(|name| !images.iter().any(|image| image.name == **name)) {
        Some(missing) => Err(Error::definite(Code::SourceUnknown, format!("the database has no table `{missing}`"))
            .hint("write `namespace.table`, as PostgreSQL spells it, without quotes")),
        None if images.is_empty() => {
            Err(Error::definite(Code::SourceUnknown, format!("database `{}` has no tables", source.url.database)))
        }
        None => {
            let details = sampling::details_named(&client, &names).await?;
            Ok((images, details))
        }
    }
}

/// `namespace.table`, or a table in `public`.
fn parse_name(text: &str) -> QualifiedName {
    let (namespace, name) = text.trim().split_once('.').unwrap_or(("public", text.trim()));
    QualifiedName { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A database's name as a pipeline's: lower-case letters, digits and `_`.
fn pipeline_name(database: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    database.chars().map(legal).collect()
}
