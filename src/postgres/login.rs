//! The login: start-up message, authentication, and what the server says about itself.

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::connection::{APPLICATION_NAME, Connection, Reply, session_options};
use super::password::Password;
use super::sqlstate::During;
use super::url::{self, SourceUrl};
use crate::error::{Code, Error, Result};

/// Logs in to a connection just opened, and waits until the server is ready.
pub(super) fn log_in(connection: &mut Connection, url: &SourceUrl, password: Option<&Password>) -> Result<()> {
    let options = session_options();
    let parameters = [
        ("user", url.user.as_str()),
        ("database", url.database.as_str()),
        ("replication", "database"),
        ("application_name", APPLICATION_NAME),
        ("options", options.as_str()),
    ];
    connection.send(|buffer| frontend::startup_message(parameters, buffer))?;
    authenticate(connection, url, password)?;
    loop {
        match connection.receive(During::Login)? {
            Reply::Message(Message::BackendKeyData(_)) => {}
            Reply::Message(Message::ReadyForQuery(_)) => return check_settings(connection),
            _ => return Err(connection.unexpected("the end of the login")),
        }
    }
}

fn authenticate(connection: &mut Connection, url: &SourceUrl, password: Option<&Password>) -> Result<()> {
    let mut bound = false;
    loop {
        match connection.receive(During::Login)? {
            Reply::Message(Message::AuthenticationOk) => {
                return if bound { Ok(()) } else { unbound(url, "lets the role in without SCRAM") };
            }
            Reply::Message(Message::AuthenticationCleartextPassword) => {
                unbound(url, "asks for the password in clear")?;
                let password = demanded(url, password)?;
                if !connection.transport.is_encrypted() && !connection.transport.loopback {
                    return Err(Error::definite(
                        Code::SourceAuth,
                        format!(
                            "the server at `{}` asks for the password in clear over an open network",
                            url.address()
                        ),
                    )
                    .hint("use `sslmode=verify-full`, or the method `scram-sha-256` in the server's `pg_hba.conf`"));
                }
                connection.send(|buffer| frontend::password_message(password.as_bytes(), buffer))?;
            }
            Reply::Message(Message::AuthenticationMd5Password(body)) => {
                unbound(url, "asks for an MD5 hash of the password")?;
                let password = demanded(url, password)?;
                let hash = md5_hash(url.user.as_bytes(), password.as_bytes(), body.salt());
                connection.send(|buffer| frontend::password_message(hash.as_bytes(), buffer))?;
            }
            Reply::Message(Message::AuthenticationSasl(body)) => {
                let mut mechanisms = body.mechanisms();
                let mut offered = Offered::default();
                while let Ok(Some(mechanism)) = mechanisms.next() {
                    offered.plain |= mechanism == SCRAM_SHA_256;
                    offered.plus |= mechanism == SCRAM_SHA_256_PLUS;
                }
                let choice = choose(connection, url, offered)?;
                bound = choice.mechanism == SCRAM_SHA_256_PLUS;
                scram_login(connection, choice, demanded(url, password)?)?;
            }
            Reply::Message(Message::AuthenticationGss | Message::AuthenticationKerberosV5) => {
                return Err(unsupported(url, "GSSAPI"));
            }
            Reply::Message(Message::AuthenticationSspi) => return Err(unsupported(url, "SSPI")),
            _ => return Err(connection.unexpected("the authentication")),
        }
    }
}

/// The mechanisms of a server that we know.
#[derive(Clone, Copy, Default)]
struct Offered {
    plain: bool,
    plus: bool,
}

/// How to log in by SCRAM.
struct Choice {
    mechanism: &'static str,
    binding: ChannelBinding,
}

/// Binds the login to the server's certificate wherever both ends can.
fn choose(connection: &Connection, url: &SourceUrl, offered: Offered) -> Result<Choice> {
    let wanted = url.channel_binding != url::ChannelBinding::Disable;
    let end_point = connection.transport.server_end_point().filter(|_| wanted);
    let (mechanism, binding) = match (end_point, offered) {
        (Some(end_point), Offered { plus: true, .. }) => {
            return Ok(Choice {
                mechanism: SCRAM_SHA_256_PLUS,
                binding: ChannelBinding::tls_server_end_point(end_point),
            });
        }
        (_, Offered { plain: false, .. }) => {
            return Err(unsupported(url, "a SASL mechanism other than SCRAM-SHA-256"));
        }
        // Says "I could, and you do not offer it", under the password's proof: a server that did offer it knows then
        // that somebody took its offer out.
        (Some(_), Offered { plus: false, .. }) => {
            unbound(url, "does not offer SCRAM-SHA-256-PLUS")?;
            (SCRAM_SHA_256, ChannelBinding::unrequested())
        }
        (None, _) => {
            unbound(url, "has a certificate whose signature defines no channel binding")?;
            (SCRAM_SHA_256, ChannelBinding::unsupported())
        }
    };
    Ok(Choice { mechanism, binding })
}

/// Refuses what is not bound to the TLS connection, if the URL demands that it is.
fn unbound(url: &SourceUrl, does: &str) -> Result<()> {
    match url.channel_binding {
        url::ChannelBinding::Require => Err(not_bound(url, does)),
        url::ChannelBinding::Disable | url::ChannelBinding::Prefer => Ok(()),
    }
}

/// The URL says `channel_binding=require`, and the login would not be.
pub(super) fn not_bound(url: &SourceUrl, does: &str) -> Error {
    Error::definite(
        Code::ChannelBinding,
        format!("the server at `{}` {does}, the source URL has `channel_binding=require`", url.address()),
    )
    .hint(
        "use `scram-sha-256` in the server's `pg_hba.conf` and a certificate signed with RSA or ECDSA; if the server has \
         both, somebody answers in its place",
    )
}

/// SCRAM proves both sides: a server that does not know the password's verifier fails at the last step.
fn scram_login(connection: &mut Connection, choice: Choice, password: &Password) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::definite(Code::SourceAuth, format!("the server's side of the SCRAM login is wrong: {error}"))
            .hint("either the server's password entry is damaged, or somebody answers in its place")
    };
    let mut scram = ScramSha256::new(password.as_bytes(), choice.binding);
    connection.send(|buffer| frontend::sasl_initial_response(choice.mechanism, scram.message(), buffer))?;
    let Reply::Message(Message::AuthenticationSaslContinue(body)) = connection.receive(During::Login)? else {
        return Err(connection.unexpected("the SCRAM login"));
    };
    scram.update(body.data()).map_err(failed)?;
    connection.send(|buffer| frontend::sasl_response(scram.message(), buffer))?;
    let Reply::Message(Message::AuthenticationSaslFinal(body)) = connection.receive(During::Login)? else {
        return Err(connection.unexpected("the end of the SCRAM login"));
    };
    scram.finish(body.data()).map_err(failed)
}

fn demanded<'a>(url: &SourceUrl, password: Option<&'a Password>) -> Result<&'a Password> {
    password.ok_or_else(|| no_password(url))
}

/// The server asks for a password that nobody gave.
pub(super) fn no_password(url: &SourceUrl) -> Error {
    Error::definite(
        Code::SourceAuth,
        format!("the server at `{}` asks for a password of `{}`, and there is none", url.address(), url.user),
    )
    .hint("give it by `PGPASSWORD`, `password_file` or the passfile (`~/.pgpass`)")
}

fn unsupported(url: &SourceUrl, method: &str) -> Error {
    Error::definite(
        Code::SourceAuth,
        format!("the server at `{}` asks for {method}, which gimbal does not know", url.address()),
    )
    .hint("use `scram-sha-256` in the server's `pg_hba.conf` for this role")
}

/// Refuses what would make the stream's texts ambiguous.
fn check_settings(connection: &Connection) -> Result<()> {
    if connection.parameter("server_encoding") == Some("SQL_ASCII") {
        return Err(Error::definite(
            Code::SourceSetting,
            "the database has the encoding SQL_ASCII, so nobody knows what its bytes mean",
        )
        .hint("dump it and load it into a database with a real encoding"));
    }
    // A pooler in between may drop the options of the start-up message. These five the server reports.
    for (name, expected) in [
        ("DateStyle", "ISO"),
        ("IntervalStyle", "iso_8601"),
        ("TimeZone", "UTC"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
    ] {
        let reported = connection.parameter(name).unwrap_or_default();
        // DateStyle is reported with the order of fields behind it: `ISO, MDY`.
        if reported.split(',').next() != Some(expected) {
            return Err(Error::definite(
                Code::SourceSetting,
                format!("the session has `{name}` = `{reported}` although gimbal asked for `{expected}`"),
            )
            .hint("connect to the server itself: a pooler in between drops or rewrites the options"));
        }
    }
    Ok(())
}
