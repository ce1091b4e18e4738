//! A private PostgreSQL without autovacuum, stopped with its last user.

use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use gimbal::history::{ListedColumn, Listing};
use gimbal::postgres::catalog::TextRows;
use gimbal::table::{QualifiedName, RelationId, ReplicaIdentity};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::lab::{Options, Postgres};

const OPTIONS: &str = "-c search_path= -c standard_conforming_strings=on";

pub struct Server {
    postgres: Postgres,
}

impl Server {
    /// One server for all tests that leave its settings alone.
    pub fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let server = Server::start(Options::default());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    pub fn start(options: Options) -> Arc<Server> {
        Arc::new(Server { postgres: Postgres::start(options.set("autovacuum", "off")) })
    }

    /// A new, empty database.
    pub async fn database(self: &Arc<Server>, name: &str) -> Database {
        let admin = Database::open(self.clone(), "postgres").await;
        admin.run(&format!("create database {name}")).await;
        Database::open(self.clone(), name).await
    }
}

/// A connection; it keeps its server up.
pub struct Database {
    client: tokio_postgres::Client,
    server: Arc<Server>,
    name: String,
}

impl Database {
    async fn open(server: Arc<Server>, name: &str) -> Database {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(server.postgres.port()).user("postgres").dbname(name).options(OPTIONS);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        // The tests' own statements name what they make without a namespace.
        client.batch_execute("set search_path = public; set synchronous_commit = local").await.unwrap();
        Database { client, server, name: name.to_owned() }
    }

    /// One more connection.
    pub async fn connect(&self) -> Database {
        Database::open(self.server.clone(), &self.name).await
    }

    pub async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|err| panic!("{sql}: {err:?}"));
    }

    /// False if the server refuses.
    pub async fn try_run(&self, sql: &str) -> bool {
        self.client.batch_execute(sql).await.is_ok()
    }

    pub async fn value(&self, sql: &str) -> String {
        self.rows(sql).await.remove(0).remove(0).unwrap()
    }

    /// The rows of a statement over the simple protocol.
    pub async fn rows(&self, sql: &str) -> TextRows {
        let messages = self.client.simple_query(sql).await.unwrap_or_else(|err| panic!("{sql}: {err:?}"));
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// The same over the extended protocol, with a real parameter.
    pub async fn prepared_rows(&self, sql: &str, parameter: &str) -> TextRows {
        let rows = self.client.query(sql, &[&parameter]).await.unwrap_or_else(|err| panic!("{sql}: {err:?}"));
        rows.iter().map(|row| (0..row.len()).map(|i| row.get::<_, Option<String>>(i)).collect()).collect()
    }

    /// The same on a replication connection, with an empty search path.
    pub fn replication_rows(&self, sql: &str) -> TextRows {
        let port = self.server.postgres.port();
        let target = format!("host=127.0.0.1 port={port} user=postgres dbname={} replication=database", self.name);
        let output = Command::new("psql")
            .args(["-X", "-A", "-t", "-F", "\u{1f}", "-R", "\u{1e}", "-c", sql, &target])
            .env("PGOPTIONS", OPTIONS)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let cell = |cell: &str| (!cell.is_empty()).then(|| cell.to_owned());
        text.trim_end_matches('\n').split('\u{1e}').map(|row| row.split('\u{1f}').map(cell).collect()).collect()
    }
}

/// Reads a Relation message.
pub fn relation(message: &[u8]) -> Listing {
    let mut at = 1;
    let mut take = |len: usize| {
        at += len;
        message[at - len..at].to_vec()
    };
    let number = |bytes: Vec<u8>| bytes.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    let text = |take: &mut dyn FnMut(usize) -> Vec<u8>| {
        let bytes: Vec<u8> = std::iter::from_fn(|| Some(take(1)[0]).filter(|byte| *byte != 0)).collect();
        String::from_utf8(bytes).unwrap()
    };
    let oid = RelationId(number(take(4)));
    let (namespace, name) = (text(&mut take), text(&mut take));
    assert_eq!(take(1), b"d");
    let columns = (0..number(take(2))).map(|_| {
        let identity = take(1)[0] & 1 == 1;
        let name = text(&mut take);
        ListedColumn { name, type_oid: number(take(4)), typmod: number(take(4)) as i32, identity }
    });
    Listing {
        relation: oid,
        name: QualifiedName { namespace, name },
        columns: columns.collect(),
        replica_identity: ReplicaIdentity::Default,
    }
}
