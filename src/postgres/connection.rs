//! A replication connection: login, simple statements, and the switch to streaming. It blocks.
//!
//! `tokio-postgres` has no replication mode, and `postgres-protocol` cannot parse CopyBothResponse; so the header of
//! every message is looked at first.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Header, Message};
use postgres_protocol::message::frontend;

use super::login;
use super::password::Password;
use super::sqlstate::{During, error_response};
use super::tls;
use super::transport::Transport;
use super::url::{ChannelBinding, SourceUrl, TlsMode};
use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;

/// How gimbal names itself to the server.
pub const APPLICATION_NAME: &str = "gimbal";

/// Every session setting that a text in the stream or a snapshot depends on, and our own limits.
///
/// Given at start-up they win over settings of the role, the database and the server.
const PINS: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    // 0 would print 0.1 + 0.2 as 0.3.
    ("extra_float_digits", "1"),
    ("standard_conforming_strings", "on"),
    ("search_path", ""),
    ("statement_timeout", "60s"),
    ("lock_timeout", "10s"),
    // Longer than a chunk may wait for its fence, short enough that a forgotten snapshot does not hold vacuum back.
    ("idle_in_transaction_session_timeout", "300s"),
    // A predecessor that died frees the slot soon.
    ("wal_sender_timeout", "10s"),
    // A stalled standby must not hang a heartbeat.
    ("synchronous_commit", "local"),
    // From PostgreSQL 18 on, a missing publication is a warning in the stream and no error.
    ("client_min_messages", "warning"),
    // Row security would filter a snapshot in silence; off makes it an error.
    ("row_security", "off"),
    // Chunks go by ctid and must not start in the middle; one reader is enough for them.
    ("synchronize_seqscans", "off"),
    ("max_parallel_workers_per_gather", "0"),
    // Compiling a catalog query costs more than running it.
    ("jit", "off"),
];

/// Most bytes of one answer outside the stream (16 MiB): a bound for what a broken server can make us allocate.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How long a statement may stay without any answer, unless [`Connection::set_answer_timeout`] says otherwise. Above
/// `statement_timeout`, so that the server's own error comes first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// The start-up message's `options` with every pin, for this connection and for those of `tokio-postgres`.
pub fn session_options() -> String {
    let pins: Vec<String> = PINS.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
    pins.join(" ")
}

/// The `tokio-postgres` configuration for `url`: same pins, same name, and no way around TLS. Use it with
/// [`tls::sql_connector`], or with `NoTls` where that gives none.
pub fn sql_config(url: &SourceUrl, password: Option<&Password>) -> tokio_postgres::Config {
    use tokio_postgres::config::{ChannelBinding as Binding, SslMode};
    let mut config = tokio_postgres::Config::new();
    config
        .host(&url.host)
        .port(url.port)
        .user(&url.user)
        .dbname(&url.database)
        .application_name(APPLICATION_NAME)
        .options(session_options())
        .connect_timeout(Duration::from_secs(10))
        .ssl_mode(if url.tls == TlsMode::Disable { SslMode::Disable } else { SslMode::Require });
    config.channel_binding(match url.channel_binding {
        ChannelBinding::Disable => Binding::Disable,
        ChannelBinding::Prefer => Binding::Prefer,
        ChannelBinding::Require => Binding::Require,
    });
    if let Some(password) = password {
        config.password(password.as_bytes());
    }
    config
}

/// A replication connection that is ready for a statement.
pub struct Connection {
    pub(super) transport: Transport,
    inbound: BytesMut,
    outbound: BytesMut,
    parameters: BTreeMap<String, String>,
}

/// What `IDENTIFY_SYSTEM` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Unique to the cluster since its initdb.
    pub system_id: u64,
    /// The current timeline; it changes at a failover or a restore.
    pub timeline: u32,
    /// Written and flushed up to here.
    pub flush_lsn: Lsn,
    /// The database that we are connected to.
    pub database: String,
}

/// Rows of a simple statement: texts, or nothing for NULL.
pub type Rows = Vec<Vec<Option<String>>>;

pub(super) enum Reply {
    Message(Message),
    /// The server has switched to streaming.
    CopyBoth,
}

impl Connection {
    /// Connects, encrypts and logs in.
    ///
    /// Errors: [`Code::SourceUnreachable`] (transient), [`Code::SourceTls`], [`Code::TlsRefused`],
    /// [`Code::CertificateName`], [`Code::CertificateUntrusted`], [`Code::SourceAuth`], [`Code::ChannelBinding`],
    /// [`Code::SourceUrl`] (no such database), [`Code::SourceSetting`] (SQL_ASCII; a pooler that drops our pins).
    pub fn connect(url: &SourceUrl, password: Option<&Password>) -> Result<Connection> {
        let transport = Transport::connect(url, tls::client_config(url)?)?;
        let mut connection = Connection {
            transport,
            inbound: BytesMut::with_capacity(16 << 10),
            outbound: BytesMut::new(),
            parameters: BTreeMap::new(),
        };
        login::log_in(&mut connection, url, password)?;
        connection.set_answer_timeout(ANSWER_TIMEOUT)?;
        Ok(connection)
    }

    /// How long a statement may stay without any answer. `CREATE_REPLICATION_SLOT` waits for every open transaction.
    pub fn set_answer_timeout(&self, timeout: Duration) -> Result<()> {
        self.transport.set_read_timeout(timeout)
    }

    /// A setting that the server reports by itself, such as `server_version`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Runs one statement, SQL or a replication command, and returns its rows.
    ///
    /// After a server's error the connection can be used again, unless the server closed it.
    pub fn simple_query(&mut self, sql: &str) -> Result<Rows> {
        self.send(|buffer| frontend::query(sql, buffer))?;
        let mut rows = Vec::new();
        let mut outcome = Ok(());
        loop {
            match self.receive_raw()? {
                Reply::Message(Message::DataRow(body)) => rows.push(self.row(&body)?),
                Reply::Message(
                    Message::RowDescription(_) | Message::CommandComplete(_) | Message::EmptyQueryResponse,
                ) => {}
                Reply::Message(Message::ErrorResponse(body)) => {
                    outcome = Err(error_response(During::Statement, body.fields()));
                }
                Reply::Message(Message::ReadyForQuery(_)) => return outcome.map(|()| rows),
                _ => return Err(self.unexpected("the answer to a statement")),
            }
        }
    }

    /// Asks the server who it is.
    pub fn identify_system(&mut self) -> Result<SystemIdentity> {
        let rows = self.simple_query("IDENTIFY_SYSTEM")?;
        let cell = |at: usize| rows.first().and_then(|row| row.get(at)).and_then(Option::as_deref);
        let identity = || {
            Some(SystemIdentity {
                system_id: cell(0)?.parse().ok()?,
                timeline: cell(1)?.parse().ok()?,
                flush_lsn: cell(2)?.parse().ok()?,
                database: cell(3)?.to_string(),
            })
        };
        identity().ok_or_else(|| self.unexpected("the answer to IDENTIFY_SYSTEM"))
    }

    /// Sends a command that switches to streaming. Returns the socket and what was already read behind the switch.
    pub(super) fn into_stream(mut self, command: &str) -> Result<(Transport, BytesMut)> {
        self.send(|buffer| frontend::query(command, buffer))?;
        match self.receive(During::StreamStart)? {
            Reply::CopyBoth => Ok((self.transport, self.inbound)),
            Reply::Message(_) => Err(self.unexpected("the answer to START_REPLICATION")),
        }
    }

    pub(super) fn send(&mut self, encode: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<()> {
        self.outbound.clear();
        encode(&mut self.outbound).map_err(|error| {
            Error::definite(Code::SourceStatement, format!("a message to the server cannot be encoded: {error}"))
        })?;
        let sent = self.transport.write_all(&self.outbound);
        // It may hold a password.
        self.outbound.clear();
        sent
    }

    /// The next message that is not about the session itself; a server's error becomes ours.
    pub(super) fn receive(&mut self, during: During) -> Result<Reply> {
        match self.receive_raw()? {
            Reply::Message(Message::ErrorResponse(body)) => Err(error_response(during, body.fields())),
            reply => Ok(reply),
        }
    }

    fn receive_raw(&mut self) -> Result<Reply> {
        loop {
            match self.receive_any()? {
                Reply::Message(Message::ParameterStatus(body)) => {
                    if let (Ok(name), Ok(value)) = (body.name(), body.value()) {
                        self.parameters.insert(name.to_string(), value.to_string());
                    }
                }
                Reply::Message(Message::NoticeResponse(_) | Message::NotificationResponse(_)) => {}
                reply => return Ok(reply),
            }
        }
    }

    fn receive_any(&mut self) -> Result<Reply> {
        loop {
            if let Some(header) = Header::parse(&self.inbound).map_err(|error| self.malformed(&error))? {
                let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
                if len > ANSWER_BYTES_MAX {
                    return Err(self.unexpected("an answer, with more than 16 MiB,"));
                }
                if self.inbound.len() > len {
                    if header.tag() == b'W' {
                        drop(self.inbound.split_to(len + 1));
                        return Ok(Reply::CopyBoth);
                    }
                    return match Message::parse(&mut self.inbound) {
                        Ok(Some(message)) => Ok(Reply::Message(message)),
                        Ok(None) => Err(self.unexpected("a whole message")),
                        Err(error) => Err(self.malformed(&error)),
                    };
                }
            }
            let mut chunk = [0; 8 << 10];
            match self.transport.read(&mut chunk) {
                Ok(0) => return Err(self.transport.broken(&io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.inbound.extend_from_slice(chunk.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.transport.broken(&error)),
            }
        }
    }

    fn row(&self, body: &DataRowBody) -> Result<Vec<Option<String>>> {
        let text = |range: Option<std::ops::Range<usize>>| match range {
            None => Ok(None),
            Some(range) => match body.buffer().get(range).map(std::str::from_utf8) {
                Some(Ok(text)) => Ok(Some(text.to_string())),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a text that is not UTF-8")),
            },
        };
        body.ranges().map(text).collect().map_err(|error| self.malformed(&error))
    }

    /// The server sent something that has no place here.
    pub(super) fn unexpected(&self, place: &str) -> Error {
        Error::definite(
            Code::SourceProtocol,
            format!("the server at `{}` breaks the protocol at {place}", self.transport.address),
        )
        .hint("check that a PostgreSQL server, version 14 or later, listens there")
    }

    fn malformed(&self, error: &io::Error) -> Error {
        Error::definite(
            Code::SourceProtocol,
            format!("a message of the server at `{}` cannot be read: {error}", self.transport.address),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_hold_every_pin_and_no_blank_inside_one() {
        let options = session_options();
        assert!(options.starts_with("-c DateStyle=ISO -c "), "{options}");
        assert!(options.contains(" -c search_path= "), "{options}");
        assert_eq!(options.split(" -c ").count(), PINS.len());
        assert!(PINS.iter().all(|(name, value)| !format!("{name}{value}").contains([' ', '\\'])));
    }

    #[test]
    fn printing_the_sql_config_does_not_show_the_password() {
        let url: SourceUrl = "postgresql://u@localhost/d".parse().expect("valid");
        let printed = format!("{:?}", sql_config(&url, Some(&Password::new("hunter2"))));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
