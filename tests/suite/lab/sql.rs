//! A connection that speaks like `psql`: text in, text out, and the caller waits.

use std::sync::OnceLock;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// An open connection. Statements run in autocommit unless they say `begin`.
pub struct Sql {
    client: Client,
}

/// Drives all connections of the test binary, on one thread.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime starts")
    })
}

impl Sql {
    /// Connects to `postgresql://…`.
    pub fn connect(url: &str) -> Sql {
        Sql::try_connect(url).unwrap_or_else(|error| panic!("cannot connect to `{url}`: {error:?}"))
    }

    /// As [`Sql::connect`], for tests in which the server may refuse.
    pub fn try_connect(url: &str) -> Result<Sql, tokio_postgres::Error> {
        runtime().block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            Ok(Sql { client })
        })
    }

    /// Runs statements separated by semicolons; panics if one fails.
    pub fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("`{sql}` failed: {error:?}"));
    }

    /// As [`Sql::run`], for statements that may fail.
    pub fn try_run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        runtime().block_on(self.client.batch_execute(sql))
    }

    /// The rows of a query, every value as text.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let answer = runtime().block_on(self.client.simple_query(sql));
        let messages = answer.unwrap_or_else(|error| panic!("`{sql}` failed: {error:?}"));
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }

    /// The first value of the first row; panics if there is none or it is null.
    pub fn text(&self, sql: &str) -> String {
        let first = self.rows(sql).into_iter().next().and_then(|row| row.into_iter().next()).flatten();
        first.unwrap_or_else(|| panic!("`{sql}` gave no value"))
    }
}
