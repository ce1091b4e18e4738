//! The set-up on the source: which tables are published how, the statements that make it so, and those that look at it.

use std::collections::BTreeSet;

use crate::contract::ContractVersion;
use crate::postgres::catalog::{DETAILS_SQL, quote_identifier as quote};
use crate::postgres::statements::Statement;
use crate::table::QualifiedName;

/// Ordinary and partitioned tables that are not a partition, outside the system's namespaces.
pub const TABLES: &str = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition \
     AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
     AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2";

/// Is the role there.
pub const ROLE: &str = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1";

/// Is a publication there.
pub const PUBLICATION: &str = "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1";

/// Is the slot there.
pub const SLOT: &str = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";

/// Drops the slot, for `install --remove`.
pub const DROP_SLOT: &str = "SELECT pg_catalog.pg_drop_replication_slot($1)";

/// Which tables a publication names.
pub const PUBLICATION_TABLES: &str = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_publication p \
     JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1";

/// Does a publication publish generated columns, which no server before PostgreSQL 18 can.
pub const GENERATED_COLUMNS: &str = "SELECT 1 FROM pg_catalog.pg_publication p WHERE p.pubname = $1 \
     AND pg_catalog.to_jsonb(p) ->> 'pubgencols' <> 'n'";

/// What `init` and `install` run beside the set-up itself, for `install --print`.
pub const LOOK_UPS: &[Statement] = &[
    Statement { purpose: "init: the database's tables", text: TABLES },
    Statement { purpose: "init: what `check` says about tables", text: DETAILS_SQL },
    Statement { purpose: "install: is the role there", text: ROLE },
    Statement { purpose: "install: is a publication there", text: PUBLICATION },
    Statement { purpose: "install: which tables a publication names", text: PUBLICATION_TABLES },
    Statement {
        purpose: "install, where a table is missing",
        text: "ALTER PUBLICATION {publication} ADD TABLE {table}",
    },
    Statement {
        purpose: "install, where a table is in no contract",
        text: "ALTER PUBLICATION {publication} DROP TABLE {table}",
    },
    Statement { purpose: "install: does a publication publish generated columns", text: GENERATED_COLUMNS },
    Statement {
        purpose: "install, where it does",
        text: "ALTER PUBLICATION {publication} SET (publish_generated_columns = none)",
    },
    Statement { purpose: "install, for every partition", text: "GRANT SELECT ON TABLE {partition} TO {role}" },
    Statement { purpose: "install --remove: is the slot there", text: SLOT },
    Statement { purpose: "install --remove", text: DROP_SLOT },
    Statement { purpose: "install --remove", text: "DROP PUBLICATION IF EXISTS {publication}" },
];

/// What one of the publications publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publishes {
    /// Everything, for tables with a key.
    Changes,
    /// Inserts, for append-only tables without one: the application's UPDATE would fail in the other publication.
    Inserts,
}

impl Publishes {
    /// The value of `publish`.
    pub fn operations(self) -> &'static str {
        match self {
            Publishes::Changes => "insert, update, delete, truncate",
            Publishes::Inserts => "insert",
        }
    }

    /// The publication's name, from the config's `source.publication`.
    pub fn name(self, publication: &str) -> String {
        match self {
            Publishes::Changes => publication.to_owned(),
            Publishes::Inserts => format!("{publication}_inserts"),
        }
    }

    /// How a contract's table is published.
    pub fn of(contract: &ContractVersion) -> Publishes {
        if contract.append_only && contract.key.is_empty() { Publishes::Inserts } else { Publishes::Changes }
    }
}

/// The tables that the contracts read: those with a key, and the append-only ones.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// In the first publication.
    pub changes: BTreeSet<QualifiedName>,
    /// In the second one.
    pub inserts: BTreeSet<QualifiedName>,
}

impl Wanted {
    /// Of these contracts.
    pub fn of(contracts: &[ContractVersion]) -> Wanted {
        let mut wanted = Wanted::default();
        for contract in contracts {
            let set = match Publishes::of(contract) {
                Publishes::Inserts => &mut wanted.inserts,
                Publishes::Changes => &mut wanted.changes,
            };
            set.insert(contract.source.clone());
        }
        wanted
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &QualifiedName> {
        self.changes.union(&self.inserts)
    }

    /// Those of one publication.
    pub fn tables(&self, publishes: Publishes) -> &BTreeSet<QualifiedName> {
        match publishes {
            Publishes::Changes => &self.changes,
            Publishes::Inserts => &self.inserts,
        }
    }
}

/// The statements that create the role and give it its rights.
pub fn role(user: &str, wanted: &Wanted, leaves: &[QualifiedName]) -> Vec<String> {
    let namespaces: BTreeSet<&str> = wanted.all().map(|table| table.namespace.as_str()).collect();
    let mut texts = vec![format!("CREATE ROLE {} LOGIN REPLICATION", quote(user))];
    texts.extend(namespaces.into_iter().map(|namespace| grant_usage(namespace, user)));
    // The root's grant does not reach the leaves, and chunks are read from leaves.
    texts.extend(wanted.all().chain(leaves).map(|table| grant_select(table, user)));
    texts
}

/// Lets the role look into a namespace.
pub fn grant_usage(namespace: &str, user: &str) -> String {
    format!("GRANT USAGE ON SCHEMA {} TO {}", quote(namespace), quote(user))
}

/// Lets the role read a table.
pub fn grant_select(table: &QualifiedName, user: &str) -> String {
    format!("GRANT SELECT ON TABLE {} TO {}", quoted(table), quote(user))
}

/// Makes a publication of PostgreSQL 18 or newer leave generated columns out, as on every older server.
pub fn without_generated_columns(name: &str) -> String {
    format!("ALTER PUBLICATION {} SET (publish_generated_columns = none)", quote(name))
}

/// A publication's `CREATE` statement. It leaves `publish_generated_columns` to its default, `none`, which no setting
/// changes: servers before PostgreSQL 18 do not know the name.
pub fn create_publication(publication: &str, publishes: Publishes, tables: &BTreeSet<QualifiedName>) -> String {
    let list: Vec<String> = tables.iter().map(quoted).collect();
    let tables = if list.is_empty() { String::new() } else { format!(" FOR TABLE {}", list.join(", ")) };
    format!(
        "CREATE PUBLICATION {}{tables} WITH (publish = '{}', publish_via_partition_root = true)",
        quote(&publishes.name(publication)),
        publishes.operations()
    )
}

/// Both publications' `CREATE` statements.
pub fn publish(publication: &str, wanted: &Wanted) -> Vec<String> {
    [Publishes::Changes, Publishes::Inserts]
        .map(|publishes| create_publication(publication, publishes, wanted.tables(publishes)))
        .into()
}

/// A table's name as an SQL identifier.
pub fn quoted(table: &QualifiedName) -> String {
    format!("{}.{}", quote(&table.namespace), quote(&table.name))
}
