//! Ordinary SQL on production: connections with every setting pinned, and errors with codes.

use std::path::Path;

use tokio_postgres::{Client, NoTls};

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::postgres::connection::sql_config;
use crate::postgres::password::Password;
use crate::postgres::sqlstate::{During, server_error};
use crate::postgres::url::SourceUrl;
use crate::postgres::{login, tls};

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub struct Source {
    /// Host, database, user, TLS.
    pub url: SourceUrl,
    /// The password, if the server may ask for one.
    pub password: Option<Password>,
}

impl Source {
    /// The config's source.
    pub fn of(config: &Config) -> Result<Source> {
        Source::of_url(&config.source.url, config.source.password_file.as_deref())
    }

    /// A source by its URL.
    pub fn of_url(url: &str, password_file: Option<&Path>) -> Result<Source> {
        let url: SourceUrl = url.parse()?;
        let password = Password::find(&url, password_file)?;
        Ok(Source { url, password })
    }
}

/// Opens a connection for ordinary SQL with the same pins as the stream.
pub async fn connect(source: &Source) -> Result<Client> {
    let config = sql_config(&source.url, source.password.as_ref());
    match tls::sql_connector(&source.url)? {
        None => {
            let (client, connection) = config.connect(NoTls).await.map_err(|e| refused(&source.url, &e))?;
            spawn(connection);
            Ok(client)
        }
        Some(connector) => {
            let (client, connection) = config.connect(connector).await.map_err(|e| refused(&source.url, &e))?;
            spawn(connection);
            Ok(client)
        }
    }
}

/// Why a login failed, with the same codes as on the replication connection.
fn refused(url: &SourceUrl, error: &tokio_postgres::Error) -> Error {
    if let Some(cause) = tls::cause(error) {
        return tls::handshake_error(url, cause);
    }
    if error.as_db_error().is_some() {
        return convert("connecting", During::Login, error);
    }
    // The driver keeps what happened on its own side in a text.
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    match cause.as_str() {
        "server does not support TLS" => tls::refused(url),
        "password missing" => login::no_password(url),
        cause if cause.contains("channel binding") => login::not_bound(url, "offers no login that is bound to TLS"),
        _ => convert("connecting", During::Login, error),
    }
}

fn spawn<F>(connection: F)
where
    F: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "sql connection ended");
        }
    });
}

/// An error of the server or the connection, with what was being done. Never with row values.
pub fn failed(doing: &str, error: &tokio_postgres::Error) -> Error {
    convert(doing, During::Statement, error)
}

fn convert(doing: &str, during: During, error: &tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        return server_error(during, db.code().code(), db.message());
    }
    let text = match std::error::Error::source(error) {
        Some(cause) => format!("{doing} failed: {error}: {cause}"),
        None => format!("{doing} failed: {error}"),
    };
    Error::transient(Code::SourceUnreachable, text)
        .hint("check that the server runs and that host, port and TLS are right")
}
