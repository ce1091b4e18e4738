//! One ordinary connection to the shop, without a runtime in sight.

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

use crate::Result;

/// A connection that blocks. Its failures are the driver's, so that callers can look at the SQLSTATE.
pub struct Shop {
    runtime: Runtime,
    client: Client,
}

/// Parameters of a statement.
pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Shop {
    /// Connects to `postgresql://…`, without TLS: the demo's server is on this machine.
    pub fn connect(url: &str) -> Result<Shop> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        // The connection's own failure shows up in the next statement.
        runtime.spawn(async move {
            let _ = connection.await;
        });
        Ok(Shop { runtime, client })
    }

    /// Runs statements that return nothing.
    pub fn batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(sql))
    }

    /// Runs one statement and returns the number of rows that it touched.
    pub fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, tokio_postgres::Error> {
        self.runtime.block_on(self.client.execute(sql, parameters))
    }

    /// Runs one query.
    pub fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.runtime.block_on(self.client.query(sql, parameters))
    }

    /// Runs a query of one row and one whole number; null is 0.
    pub fn number(&self, sql: &str) -> Result<i64, tokio_postgres::Error> {
        let row = self.runtime.block_on(self.client.query_one(sql, &[]))?;
        Ok(row.try_get::<_, Option<i64>>(0)?.unwrap_or(0))
    }
}
