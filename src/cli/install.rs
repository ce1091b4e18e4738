//! `gimbal install`: the publications, the role and its rights. Idempotent; `--print` shows every statement, those of
//! run time too, and runs none.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use crate::cli::Output;
use crate::config::Config;
use crate::contract::ContractVersion;
use crate::error::{Code, Error, Result};
use crate::postgres::catalog::quote_identifier as quote;
use crate::postgres::sampling;
use crate::postgres::sql::{self, Source, failed};
use crate::postgres::statements;
use crate::postgres::url::SourceUrl;
use crate::postgres::worker::table_by_name;
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

/// The tables that the contracts read: those with a key, and the append-only ones.
#[derive(Clone, Debug, Default)]
struct Wanted {
    changes: BTreeSet<QualifiedName>,
    inserts: BTreeSet<QualifiedName>,
}

impl Wanted {
    fn of(contracts: &[ContractVersion]) -> Wanted {
        let mut wanted = Wanted::default();
        for contract in contracts {
            let set =
                if contract.append_only && contract.key.is_empty() { &mut wanted.inserts } else { &mut wanted.changes };
            set.insert(contract.source.clone());
        }
        wanted
    }

    fn all(&self) -> impl Iterator<Item = &QualifiedName> {
        self.changes.union(&self.inserts)
    }
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
    for text in role(&user, wanted, &[]).into_iter().chain(publish(config, wanted)) {
        out.line(&format!("{text};"))?;
    }
    out.line("\n-- at run time, by `gimbal run`, as the config's user; `{…}` stands for names, literals and numbers:")?;
    for statement in statements::ALL {
        out.line(&format!("-- {}\n{};", statement.purpose, statement.text))?;
    }
    out.line("\n-- every connection of gimbal begins with these settings:")?;
    out.line(&format!("-- {}", crate::postgres::connection::session_options()))
}

fn role(user: &str, wanted: &Wanted, leaves: &[QualifiedName]) -> Vec<String> {
    let namespaces: BTreeSet<&str> = wanted.all().map(|table| table.namespace.as_str()).collect();
    let mut texts = vec![format!("CREATE ROLE {} LOGIN REPLICATION", quote(user))];
    for namespace in namespaces {
        texts.push(format!("GRANT USAGE ON SCHEMA {} TO {}", quote(namespace), quote(user)));
    }
    // The root's grant does not reach the leaves, and chunks are read from leaves.
    for table in wanted.all().chain(leaves) {
        texts.push(format!("GRANT SELECT ON TABLE {} TO {}", quoted(table), quote(user)));
    }
    texts
}

/// The publications' `CREATE` statements.
fn publish(config: &Config, wanted: &Wanted) -> Vec<String> {
    let name = &config.source.publication;
    let one = |name: &str, tables: &BTreeSet<QualifiedName>, operations: &str| {
        let list: Vec<String> = tables.iter().map(quoted).collect();
        let tables = if list.is_empty() { String::new() } else { format!(" FOR TABLE {}", list.join(", ")) };
        format!(
            "CREATE PUBLICATION {}{tables} WITH (publish = '{operations}', publish_via_partition_root = true)",
            quote(name)
        )
    };
    vec![
        one(name, &wanted.changes, "insert, update, delete, truncate"),
        one(&format!("{name}_inserts"), &wanted.inserts, "insert"),
    ]
}

fn quoted(table: &QualifiedName) -> String {
    format!("{}.{}", quote(&table.namespace), quote(&table.name))
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
    let role_there = exists(client, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1", &user).await?;
    let mut steps: Vec<SetUp> = role(&user, wanted, &leaves)
        .into_iter()
        .map(|text| SetUp { done: role_there && text.starts_with("CREATE ROLE"), text })
        .collect();
    let name = &config.source.publication;
    let names = [(name.clone(), &wanted.changes), (format!("{name}_inserts"), &wanted.inserts)];
    for ((name, tables), create) in names.into_iter().zip(publish(config, wanted)) {
        let there = exists(client, "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1", &name).await?;
        steps.push(SetUp { text: create, done: there });
        if there {
            steps.extend(alter(client, &name, tables).await?);
        }
    }
    Ok(steps)
}

/// What an existing publication has too little or too much.
async fn alter(client: &Client, name: &str, wanted: &BTreeSet<QualifiedName>) -> Result<Vec<SetUp>> {
    let rows = client
        .query(
            "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_publication p \
             JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1",
            &[&name],
        )
        .await
        .map_err(|e| failed("looking at the publications", &e))?;
    let named = |row: &tokio_postgres::Row| QualifiedName { namespace: row.get(0), name: row.get(1) };
    let there: BTreeSet<QualifiedName> = rows.iter().map(named).collect();
    let change = |verb: &str, table: &QualifiedName| SetUp {
        text: format!("ALTER PUBLICATION {} {verb} TABLE {}", quote(name), quoted(table)),
        done: false,
    };
    let added = wanted.difference(&there).map(|table| change("ADD", table));
    let dropped = there.difference(wanted).map(|table| change("DROP", table));
    Ok(added.chain(dropped).collect())
}

async fn remove(client: &Client, config: &Config, out: &mut Output) -> Result<()> {
    let name = &config.source.publication;
    let slot = &config.source.slot;
    if exists(client, "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", slot).await? {
        out.line(&format!("SELECT pg_catalog.pg_drop_replication_slot('{}');", slot.replace('\'', "''")))?;
        client
            .query("SELECT pg_catalog.pg_drop_replication_slot($1)", &[slot])
            .await
            .map_err(|e| failed("dropping the slot", &e))?;
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
