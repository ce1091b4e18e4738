//! `gimbal install`: the publications, the role and its rights. Idempotent; `--print` shows every statement, those of
//! run time too, and runs none.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use crate::cli::Output;
use crate::config::Config;
use crate::contract::ContractVersion;
use crate::error::{Code, Error, Result};
use crate::postgres::catalog::quote_identifier as quote;
use crate::postgres::setup::{self, Publishes, Wanted};
use crate::postgres::sql::{self, Source, failed};
use crate::postgres::statements::{self, Statement};
use crate::postgres::url::SourceUrl;
use crate::postgres::worker::table_by_name;
use crate::postgres::{doctor_sql, sampling};
use crate::table::QualifiedName;

/// Arguments of `install`.
#[derive(clap::Args, Debug)]
pub struct InstallArgs {
    /// Show every statement that gimbal runs on production, now and at run time; run none
    #[arg(long)]
    pub print: bool,
    /// Connect as this owner of the tables instead of the config's user (the password in PGPASSWORD or the passfile)
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Drop the publications and the slot again; the daemon must be stopped, and cannot go on afterwards
    #[arg(long, conflicts_with = "print")]
    pub remove: bool,
}

/// A statement of the set-up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SetUp {
    text: String,
    /// True if what it makes is there already.
    done: bool,
}

/// Runs the command.
pub fn install(config: &Config, contracts: &[ContractVersion], args: &InstallArgs, out: &mut Output) -> Result<()> {
    let wanted = Wanted::of(contracts);
    if args.print {
        return print(config, &wanted, out);
    }
    let runtime = crate::cli::runtime()?;
    runtime.block_on(async {
        let source = match &args.admin {
            Some(url) => Source::of_url(url, None)?,
            None => Source::of(config)?,
        };
        let client = sql::connect(&source).await?;
        if args.remove {
            return remove(&client, config, out).await;
        }
        for statement in plan(&client, config, &wanted).await? {
            if statement.done {
                out.line(&format!("-- already there: {}", statement.text))?;
                continue;
            }
            out.line(&format!("{};", statement.text))?;
            client.batch_execute(&statement.text).await.map_err(|e| match &args.admin {
                Some(_) => failed("the set-up", &e),
                None => failed("the set-up", &e).hint("run it as an owner of the tables: `gimbal install --admin URL`"),
            })?;
        }
        out.line("-- installed; now `gimbal run`")
    })
}

fn print(config: &Config, wanted: &Wanted, out: &mut Output) -> Result<()> {
    out.line("-- once, by `gimbal install`, as the owner of the tables (`--admin URL`):")?;
    let user = config.source.url.parse::<SourceUrl>()?.user;
    let set_up = setup::role(&user, wanted, &[]).into_iter().chain(setup::publish(&config.source.publication, wanted));
    for text in set_up {
        out.line(&format!("{text};"))?;
    }
    out.line("\n-- beside it, by `gimbal init` and `gimbal install`:")?;
    list(setup::LOOK_UPS, out)?;
    out.line("\n-- at run time, by `gimbal run`, as the config's user; `{…}` stands for names, literals and numbers:")?;
    list(statements::ALL, out)?;
    out.line("\n-- by `gimbal doctor`, as the config's user:")?;
    list(doctor_sql::ALL, out)?;
    out.line("\n-- every connection of gimbal begins with these settings:")?;
    out.line(&format!("-- {}", crate::postgres::connection::session_options()))
}

fn list(statements: &[Statement], out: &mut Output) -> Result<()> {
    statements.iter().try_for_each(|one| out.line(&format!("-- {}\n{};", one.purpose, one.text)))
}

async fn plan(client: &Client, config: &Config, wanted: &Wanted) -> Result<Vec<SetUp>> {
    let user = config.source.url.parse::<SourceUrl>()?.user;
    let mut leaves = Vec::new();
    for table in wanted.all() {
        let relation = table_by_name(client, table).await?.ok_or_else(|| {
            Error::definite(Code::SourceUnknown, format!("the database has no table `{table}`"))
                .hint("correct `source:` in the contract, or create the table")
        })?;
        let found = sampling::named_leaves(client, relation).await?;
        leaves.extend(found.into_iter().map(|leaf| leaf.name).filter(|name| name != table));
    }
    let role_there = exists(client, setup::ROLE, &user).await?;
    let mut steps: Vec<SetUp> = setup::role(&user, wanted, &leaves)
        .into_iter()
        .map(|text| SetUp { done: role_there && text.starts_with("CREATE ROLE"), text })
        .collect();
    for publishes in [Publishes::Changes, Publishes::Inserts] {
        let (name, tables) = (publishes.name(&config.source.publication), wanted.tables(publishes));
        let there = exists(client, setup::PUBLICATION, &name).await?;
        let create = setup::create_publication(&config.source.publication, publishes, tables);
        steps.push(SetUp { text: create, done: there });
        if there {
            steps.extend(alter(client, &name, tables).await?);
            if exists(client, setup::GENERATED_COLUMNS, &name).await? {
                steps.push(SetUp { text: setup::without_generated_columns(&name), done: false });
            }
        }
    }
    Ok(steps)
}

/// What an existing publication has too little or too much.
async fn alter(client: &Client, name: &str, wanted: &BTreeSet<QualifiedName>) -> Result<Vec<SetUp>> {
    let rows = client
        .query(setup::PUBLICATION_TABLES, &[&name])
        .await
        .map_err(|e| failed("looking at the publications", &e))?;
    let named = |row: &tokio_postgres::Row| QualifiedName { namespace: row.get(0), name: row.get(1) };
    let there: BTreeSet<QualifiedName> = rows.iter().map(named).collect();
    let change = |verb: &str, table: &QualifiedName| SetUp {
        text: format!("ALTER PUBLICATION {} {verb} TABLE {}", quote(name), setup::quoted(table)),
        done: false,
    };
    let added = wanted.difference(&there).map(|table| change("ADD", table));
    let dropped = there.difference(wanted).map(|table| change("DROP", table));
    Ok(added.chain(dropped).collect())
}

async fn remove(client: &Client, config: &Config, out: &mut Output) -> Result<()> {
    let name = &config.source.publication;
    let slot = &config.source.slot;
    if exists(client, setup::SLOT, slot).await? {
        out.line(&format!("SELECT pg_catalog.pg_drop_replication_slot('{}');", slot.replace('\'', "''")))?;
        client.query(setup::DROP_SLOT, &[slot]).await.map_err(|e| failed("dropping the slot", &e))?;
    }
    for name in [name.clone(), format!("{name}_inserts")] {
        let text = format!("DROP PUBLICATION IF EXISTS {}", quote(&name));
        out.line(&format!("{text};"))?;
        client.batch_execute(&text).await.map_err(|e| failed("dropping a publication", &e))?;
    }
    out.line("-- removed; the topics and the role are left as they are")
}

async fn exists(client: &Client, query: &str, name: &str) -> Result<bool> {
    let row = client.query_opt(query, &[&name]).await.map_err(|e| failed("looking at the catalog", &e))?;
    Ok(row.is_some())
}
