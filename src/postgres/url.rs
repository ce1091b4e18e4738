//! The source URL: `postgresql://user@host:port/database?sslmode=…&sslrootcert=…&channel_binding=…`.
//!
//! A password never stands in it (see [`super::password`]), so a URL can be printed. Errors do not repeat its text all
//! the same: what does not parse may hold a password that was put in the wrong place.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Code, Error, Result};

const DEFAULT_PORT: u16 = 5432;

/// How a database is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceUrl {
    /// The role.
    pub user: String,
    /// A name or an address, an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// Whether and how the connection is encrypted.
    pub tls: TlsMode,
    /// Whether a password login is tied to the server's certificate.
    pub channel_binding: ChannelBinding,
}

/// `channel_binding`: whether SCRAM proves that nobody sits between the two ends of the TLS connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// Or no login.
    Require,
}

impl ChannelBinding {
    /// All of them with their words in a URL.
    const WORDS: [(&'static str, ChannelBinding); 3] = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
}

/// `sslmode` and `sslrootcert`. Modes that downgrade or do not verify do not exist here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// In clear.
    Disable,
    /// Encrypted; the certificate's chain is checked, its name is not.
    VerifyCa(Roots),
    /// Encrypted; chain and name are checked.
    VerifyFull(Roots),
}

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The operating system's list.
    System,
    /// The certificates of a PEM file.
    File(PathBuf),
}

impl SourceUrl {
    /// True if the host is this machine by its own name or address, where nobody can listen on the way.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Host and port, for messages.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, roots) = match &self.tls {
            TlsMode::Disable => ("disable", None),
            TlsMode::VerifyCa(roots) => ("verify-ca", Some(roots)),
            TlsMode::VerifyFull(roots) => ("verify-full", Some(roots)),
        };
        write!(f, "postgresql://{}@{}/{}?sslmode={mode}", escape(&self.user), self.address(), escape(&self.database))?;
        match roots {
            Some(Roots::File(path)) => {
                write!(f, "&sslrootcert={}", escape(&path.to_string_lossy()).replace("%2F", "/"))?;
            }
            Some(Roots::System) | None => {}
        }
        match self.channel_binding {
            ChannelBinding::Prefer => Ok(()),
            ChannelBinding::Disable => f.write_str("&channel_binding=disable"),
            ChannelBinding::Require => f.write_str("&channel_binding=require"),
        }
    }
}

impl FromStr for SourceUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<SourceUrl> {
        let rest = text
            .strip_prefix("postgresql://")
            .or_else(|| text.strip_prefix("postgres://"))
            .ok_or_else(|| invalid("the source URL does not start with `postgresql://`"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // The last `@` divides: an earlier one can only be part of a password, which is refused here.
        let (user, authority) = authority.rsplit_once('@').ok_or_else(|| invalid("the source URL names no user"))?;
        if user.contains(':') {
            return Err(password_in_url());
        }
        let (host, port) = split_host(authority)?;
        let mut url = SourceUrl {
            user: unescape(user, "user")?,
            host,
            port,
            database: unescape(database, "database")?,
            tls: TlsMode::Disable,
            channel_binding: ChannelBinding::Prefer,
        };
        if url.user.is_empty() {
            return Err(invalid("the source URL names no user"));
        }
        if url.database.is_empty() {
            return Err(invalid("the source URL names no database"));
        }
        let parameters = Parameters::parse(query)?;
        url.channel_binding = parameters.channel_binding()?;
        url.tls = parameters.tls(url.is_loopback())?;
        if url.channel_binding == ChannelBinding::Require && url.tls == TlsMode::Disable {
            return Err(invalid("the source URL has `channel_binding=require`, and no TLS to bind the login to")
                .hint("use `sslmode=verify-full`"));
        }
        Ok(url)
    }
}

/// The parameters after `?`, each at most once.
#[derive(Default)]
struct Parameters {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    channel_binding: Option<String>,
}

impl Parameters {
    fn parse(query: &str) -> Result<Parameters> {
        let mut parameters = Parameters::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| invalid("a parameter of the source URL has no `=`"))?;
            let name = unescape(name, "parameter name")?;
            let slot = match name.as_str() {
                "sslmode" => &mut parameters.sslmode,
                "sslrootcert" => &mut parameters.sslrootcert,
                "channel_binding" => &mut parameters.channel_binding,
                "password" => return Err(password_in_url()),
                _ => {
                    return Err(invalid(format!("the source URL has the unknown parameter `{name}`"))
                        .hint("known are `sslmode`, `sslrootcert` and `channel_binding`; gimbal pins every session setting itself"));
                }
            };
            if slot.replace(unescape(value, &name)?).is_some() {
                return Err(invalid(format!("the source URL has the parameter `{name}` twice")));
            }
        }
        Ok(parameters)
    }

    fn channel_binding(&self) -> Result<ChannelBinding> {
        let Some(text) = self.channel_binding.as_deref() else { return Ok(ChannelBinding::Prefer) };
        let known = ChannelBinding::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, value)| *value).ok_or_else(|| {
            invalid("the source URL has an unknown `channel_binding`")
                .hint("known are `disable`, `prefer` and `require`")
        })
    }

    fn tls(self, loopback: bool) -> Result<TlsMode> {
        let roots = match self.sslrootcert.as_deref() {
            None | Some("system") => Roots::System,
            Some("") => return Err(invalid("the source URL has an empty `sslrootcert`")),
            Some(path) => Roots::File(PathBuf::from(path)),
        };
        match self.sslmode.as_deref() {
            Some("verify-full") => Ok(TlsMode::VerifyFull(roots)),
            Some("verify-ca") => Ok(TlsMode::VerifyCa(roots)),
            Some("disable") if self.sslrootcert.is_some() => {
                Err(invalid("the source URL has `sslrootcert`, and `sslmode=disable` that would not use it"))
            }
            Some("disable") => Ok(TlsMode::Disable),
            Some(mode @ ("prefer" | "allow" | "require")) => {
                Err(invalid(format!("`sslmode={mode}` is refused: it falls back to clear text or trusts any server"))
                    .hint("use `verify-full` (or `verify-ca` where the certificate has another name), or `disable`"))
            }
            Some(_) => Err(invalid("the source URL has an unknown `sslmode`")
                .hint("known are `verify-full`, `verify-ca` and `disable`")),
            // Who names a root wants it used, on loopback too.
            None if loopback && self.sslrootcert.is_none() => Ok(TlsMode::Disable),
            None => Ok(TlsMode::VerifyFull(roots)),
        }
    }
}

fn split_host(authority: &str) -> Result<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) =
                rest.split_once(']').ok_or_else(|| invalid("the host of the source URL lacks its `]`"))?;
            if !host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
                return Err(invalid("the host of the source URL is in brackets and is no IPv6 address"));
            }
            match (after, after.strip_prefix(':')) {
                ("", _) => (host.to_string(), None),
                (_, Some(port)) => (host.to_string(), Some(port)),
                _ => return Err(invalid("the source URL goes on after the host's `]`")),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (unescape(host, "host")?, Some(port)),
            None => (unescape(authority, "host")?, None),
        },
    };
    if host.is_empty() {
        return Err(invalid("the source URL names no host"));
    }
    if host.contains(',') || port.is_some_and(|port| port.contains(',')) {
        return Err(invalid("the source URL names several hosts").hint("a slot lives on one server: name that one"));
    }
    if host.starts_with('/') {
        return Err(invalid("the host of the source URL is a socket folder").hint("use `127.0.0.1` and the port"));
    }
    let port = match port {
        None | Some("") => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(invalid("the port of the source URL is not a number from 1 to 65535")),
        },
    };
    Ok((host, port))
}

/// Undoes percent escapes. `what` names the part; its text stays out of the message.
fn unescape(text: &str, what: &str) -> Result<String> {
    let problem = || invalid(format!("the {what} in the source URL has a bad percent escape"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>().ok_or_else(problem)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(problem);
        let byte = (digit(digits[0])? << 4) | digit(digits[1])?;
        // Names end at a zero byte on the wire.
        match u8::try_from(byte) {
            Ok(0) | Err(_) => return Err(problem()),
            Ok(byte) => bytes.push(byte),
        }
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| problem())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

fn invalid(diagnosis: impl Into<String>) -> Error {
    Error::definite(Code::SourceUrl, diagnosis)
        .hint("the form is `postgresql://user@host:port/database?sslmode=verify-full`")
}

fn password_in_url() -> Error {
    Error::definite(Code::SourceUrl, "the source URL holds a password, where logs and process lists would show it")
        .hint("take it out, and give it by `PGPASSWORD`, `password_file` or the passfile (`~/.pgpass`)")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> SourceUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> Error {
        match text.parse::<SourceUrl>() {
            Ok(url) => panic!("{text} was accepted as {url:?}"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_whole_url_is_taken_apart() {
        let url = parse("postgresql://gimbal@db.example:6432/shop?sslmode=verify-ca&sslrootcert=/etc/ca%20one.pem");
        assert_eq!((&*url.user, &*url.host, url.port, &*url.database), ("gimbal", "db.example", 6432, "shop"));
        assert_eq!(url.tls, TlsMode::VerifyCa(Roots::File("/etc/ca one.pem".into())));
    }

    #[test]
    fn percent_escapes_and_ipv6_are_read() {
        let url = parse("postgres://a%40b%3Ac@[fe80::1]/my%2Fdb");
        assert_eq!((&*url.user, &*url.host, url.port, &*url.database), ("a@b:c", "fe80::1", 5432, "my/db"));
        assert_eq!(url.address(), "[fe80::1]:5432");
    }

    #[test]
    fn only_loopback_defaults_to_clear_text() {
        for host in ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"] {
            assert_eq!(parse(&format!("postgresql://u@{host}/d")).tls, TlsMode::Disable, "{host}");
        }
        for host in ["10.0.0.1", "localhost.example", "db", "[::2]", "127.0.0.1.example"] {
            assert_eq!(parse(&format!("postgresql://u@{host}/d")).tls, TlsMode::VerifyFull(Roots::System), "{host}");
        }
        let with_root = parse("postgresql://u@localhost/d?sslrootcert=ca.pem");
        assert_eq!(with_root.tls, TlsMode::VerifyFull(Roots::File("ca.pem".into())));
    }

    #[test]
    fn modes_that_downgrade_or_do_not_verify_are_refused_with_a_hint() {
        for mode in ["prefer", "allow", "require"] {
            let error = refused(&format!("postgresql://u@db/d?sslmode={mode}"));
            assert_eq!(error.code(), Code::SourceUrl);
            assert!(error.hint_text().is_some_and(|hint| hint.contains("verify-full")), "{error}");
        }
    }

    #[test]
    fn a_password_is_refused_and_never_repeated() {
        for text in [
            "postgresql://u:hunter2@db/d",
            "postgresql://u:hun@ter2@db/d",
            "postgresql://u@db/d?password=hunter2",
            "postgresql://db:hunter2/d",
            "postgresql://u@db:hunter2/d",
            "postgresql://u@db/d?sslmode=hunter2",
            "postgresql://u@db/d?hunter2",
            "hunter2",
            "postgresql://u@db/hunter2%2",
        ] {
            let error = refused(text);
            assert!(!format!("{error:?}").contains("ter2"), "{error}");
            assert!(error.hint_text().is_some());
        }
    }

    #[test]
    fn what_is_missing_unknown_or_double_is_an_error() {
        for (text, part) in [
            ("mysql://u@h/d", "postgresql://"),
            ("postgresql://h/d", "user"),
            ("postgresql://@h/d", "user"),
            ("postgresql://u@/d", "host"),
            ("postgresql://u@h", "database"),
            ("postgresql://u@h/", "database"),
            ("postgresql://u@h:0/d", "port"),
            ("postgresql://u@h:65536/d", "port"),
            ("postgresql://u@h1,h2/d", "several"),
            ("postgresql://u@%2Ftmp/d", "socket"),
            ("postgresql://u@[::1/d", "]"),
            ("postgresql://u@[db]/d", "IPv6"),
            ("postgresql://u@[::1]x/d", "]"),
            ("postgresql://u@h/d?application_name=x", "`application_name`"),
            ("postgresql://u@h/d?sslmode=disable&sslmode=disable", "twice"),
            ("postgresql://u@h/d?sslmode=disable&sslrootcert=x", "sslrootcert"),
            ("postgresql://u@h/d?channel_binding=maybe", "channel_binding"),
            ("postgresql://u@h/d?sslmode=disable&channel_binding=require", "no TLS"),
            ("postgresql://u@localhost/d?channel_binding=require", "no TLS"),
            ("postgresql://u@h/d%00", "escape"),
            ("postgresql://u@h/d%ff", "escape"),
        ] {
            let error = refused(text);
            assert!(error.diagnosis().contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(postgresql://)?[\\[\\]a%0-9:@/?&=,ü]{0,40}") {
            drop(text.parse::<SourceUrl>());
        }

        #[test]
        fn what_is_printed_parses_to_the_same(user in "[^\0]{1,12}", database in "[^\0]{1,12}", port in 1_u16..) {
            let tls = TlsMode::VerifyFull(Roots::System);
            for (_, channel_binding) in ChannelBinding::WORDS {
                let (user, database, tls) = (user.clone(), database.clone(), tls.clone());
                let url = SourceUrl { user, host: "db".into(), port, database, tls, channel_binding };
                prop_assert_eq!(url.to_string().parse::<SourceUrl>().ok(), Some(url));
            }
        }
    }
}
