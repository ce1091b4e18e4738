//! Config text → [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::secret::has_password;
use super::{Config, RegistryConfig, SecretSource, SinkConfig, SourceConfig};
use crate::diagnostic::{Diagnostic, SourceText};
use crate::error::Code;
use crate::yaml::{MapReader, Node, NodeKind, Report, Text};

/// Longest pipeline name: the topics and slots made of it must stay legal.
const PIPELINE_LENGTH_MAX: usize = 50;

/// PostgreSQL's limit for names.
const NAME_LENGTH_MAX: usize = 63;

/// Where the daemon listens unless the config says: this machine only.
const LISTEN_DEFAULT: std::net::SocketAddr =
    std::net::SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8642));

/// Parses `text`; `shown` is the same text without secrets, for messages.
pub(super) fn config(shown: &Arc<SourceText>, text: &str, folder: &Path) -> Result<Config, Vec<Diagnostic>> {
    let report = Report::new(shown, Code::ConfigInvalid);
    let parsed = report.parse_text(text).and_then(|root| read(&Reader { report: &report, folder }, &root));
    let mut findings = report.into_findings();
    findings.sort_by(|a, b| a.position().cmp(&b.position()));
    match parsed {
        Some(config) if findings.is_empty() => Ok(config),
        _ => Err(findings),
    }
}

struct Reader<'a> {
    report: &'a Report,
    folder: &'a Path,
}

fn read(reader: &Reader<'_>, root: &Node) -> Option<Config> {
    let mut map = MapReader::new(reader.report, "the config", root)?;
    let pipeline = map.required("pipeline");
    if let Some(pipeline) = &pipeline {
        reader.legal_pipeline(pipeline);
    }
    let name = pipeline.as_ref().map_or("", |text| text.value.as_str());
    let source = map.entry("source");
    if source.is_none() && !text_has_key(root, "source") {
        map.missing("source");
    }
    let source = source.and_then(|entry| reader.source(&entry.value, name));
    let mut folder = |key, default: &str| {
        let given = map.text(key).map(|text| text.value);
        reader.folder.join(given.unwrap_or_else(|| default.to_owned()))
    };
    let (contracts, schemas, state) =
        (folder("contracts", "contracts"), folder("schemas", "schemas"), folder("state", "state"));
    let sink = map.value("sink").map(|node| reader.sink(node));
    let sink_given = sink.is_some();
    let sink = sink.unwrap_or_else(|| Some(SinkConfig::Files { path: reader.folder.join("topics") }));
    let registry_node = map.value("registry");
    let registry = registry_node.map_or(Some(RegistryConfig::Embedded), |node| reader.registry(node));
    if let (Some(SinkConfig::Kafka { .. }), Some(RegistryConfig::Embedded), true) = (&sink, &registry, sink_given) {
        let span = registry_node.map_or_else(|| map.span().start..map.span().start, |node| node.span.clone());
        let finding =
            Diagnostic::error(Code::NotSupported, "the embedded registry serves file topics only, not yet Kafka");
        let hint = "name a Confluent-compatible registry: registry: {url: \"http://127.0.0.1:8081\"}";
        reader.report.push(finding.at(&reader.report.file, span).hint(hint));
    }
    let listen = map.parsed("listen", "an address and a port, such as 127.0.0.1:8642");
    let api_token = match map.value("api_token") {
        Some(node) => reader.secret("`api_token`", node),
        None => Some(SecretSource::File(state.join("api.token"))),
    };
    let keys = map.value("keys").map(|node| reader.keys(node)).unwrap_or_default();
    let receivers = map.value("receivers").map(|node| reader.receivers(node)).unwrap_or_default();
    map.finish();
    Some(Config {
        pipeline: pipeline?.value,
        source: source?,
        contracts,
        schemas,
        state,
        sink: sink?,
        registry: registry?,
        listen: listen.unwrap_or(LISTEN_DEFAULT),
        api_token,
        keys,
        receivers,
    })
}

fn text_has_key(node: &Node, key: &str) -> bool {
    matches!(&node.kind, NodeKind::Mapping(entries) if entries.iter().any(|entry| entry.key.scalar() == Some(key)))
}

impl Reader<'_> {
    fn legal_pipeline(&self, name: &Text) {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if name.value.len() > PIPELINE_LENGTH_MAX || !name.value.chars().all(legal) {
            let hint = format!("use at most {PIPELINE_LENGTH_MAX} lower-case letters, digits, `_` and `-`");
            self.report.error_with_hint(&name.span, format!("`{}` is no legal pipeline name", name.value), hint);
        }
    }

    fn source(&self, node: &Node, pipeline: &str) -> Option<SourceConfig> {
        let mut map = MapReader::new(self.report, "`source`", node)?;
        let url = map.required("url");
        if let Some(url) = &url {
            self.source_url(url);
        }
        let password_file = map.text("password_file").map(|text| self.folder.join(text.value));
        let default = format!("gimbal_{}", pipeline.replace('-', "_"));
        let slot = map.text("slot");
        if let Some(slot) = &slot {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            self.legal_name(slot, "slot", legal, "lower-case letters, digits and `_`");
        }
        let publication = map.text("publication");
        if let Some(publication) = &publication {
            self.legal_name(publication, "publication", |c| !c.is_control(), "visible characters");
        }
        map.finish();
        Some(SourceConfig {
            url: url?.value,
            password_file,
            slot: slot.map_or(default.clone(), |text| text.value),
            publication: publication.map_or(default, |text| text.value),
        })
    }

    fn legal_name(&self, name: &Text, what: &str, legal: fn(char) -> bool, allowed: &str) {
        if name.value.len() > NAME_LENGTH_MAX || !name.value.chars().all(legal) {
            let message = format!("`{}` is no legal {what} name", name.value);
            self.report.error_with_hint(
                &name.span,
                message,
                format!("use at most {NAME_LENGTH_MAX} bytes of {allowed}"),
            );
        }
    }

    fn source_url(&self, url: &Text) {
        if !url.value.starts_with("postgresql://") && !url.value.starts_with("postgres://") {
            let hint = "write postgresql://user@host:5432/database?sslmode=verify-full";
            self.report.error_with_hint(&url.span, "`url` must begin with `postgresql://`", hint);
        }
        self.no_password(url, "put it in `password_file`, in PGPASSWORD or in the passfile");
    }

    fn no_password(&self, url: &Text, hint: &str) {
        if has_password(&url.value) {
            self.report.error_with_hint(&url.span, "the URL holds a password", hint);
        }
    }

    fn sink(&self, node: &Node) -> Option<SinkConfig> {
        let mut map = MapReader::new(self.report, "`sink`", node)?;
        let (files, kafka, null) = (map.value("files"), map.value("kafka"), map.value("null"));
        map.finish();
        match (files, kafka, null) {
            (Some(files), None, None) => Some(SinkConfig::Files { path: self.sink_folder("`files`", files)? }),
            (None, Some(kafka), None) => self.kafka(kafka),
            (None, None, Some(null)) => Some(SinkConfig::Null { path: self.sink_folder("`null`", null)? }),
            _ => {
                let hint = "write {files: {path: topics}} or {kafka: {bootstrap: \"127.0.0.1:9092\"}}";
                self.report.error_with_hint(&node.span, "`sink` must name one of `files` and `kafka`", hint);
                None
            }
        }
    }

    fn sink_folder(&self, name: &str, node: &Node) -> Option<PathBuf> {
        let mut map = MapReader::new(self.report, name, node)?;
        let path = map.required("path");
        map.finish();
        Some(self.folder.join(path?.value))
    }

    fn kafka(&self, node: &Node) -> Option<SinkConfig> {
        let mut map = MapReader::new(self.report, "`kafka`", node)?;
        let bootstrap = map.required("bootstrap");
        let place = map.value("replication").map(|node| node.span.clone());
        let replication = map.parsed::<i32>("replication", "a whole number").unwrap_or(1);
        if let (Some(span), false) = (&place, (1..=1000).contains(&replication)) {
            self.report.error(span, format!("`replication` must be between 1 and 1000, not {replication}"));
        }
        let properties = map.value("properties").map(|node| self.properties(node)).unwrap_or_default();
        map.finish();
        Some(SinkConfig::Kafka { bootstrap: bootstrap?.value, replication, properties })
    }

    fn properties(&self, node: &Node) -> BTreeMap<String, String> {
        self.named(node, "`properties`", |name, value| {
            self.report.text(&format!("property `{name}`"), value).map(|text| text.value)
        })
    }

    fn registry(&self, node: &Node) -> Option<RegistryConfig> {
        match node.scalar() {
            Some("embedded") => return Some(RegistryConfig::Embedded),
            Some(other) => {
                let message = format!("`registry` cannot be `{other}`");
                self.report.error_with_hint(&node.span, message, "write `embedded`, or {url: \"http://…\"}");
                return None;
            }
            None => {}
        }
        let mut map = MapReader::new(self.report, "`registry`", node)?;
        let url = map.required("url");
        if let Some(url) = &url {
            let http = |one: &str| one.starts_with("http://") || one.starts_with("https://");
            if !url.value.split(',').all(|one| http(one.trim())) {
                self.report.error(&url.span, "`url` must begin with `http://` or `https://`");
            }
            self.no_password(
                url,
                "put the user in `username`, and the password in the variable that `password_env` names",
            );
        }
        let username = map.text("username").map(|text| text.value);
        let password_env = map.text("password_env").map(|text| text.value);
        let token_env = map.text("token_env");
        if let (Some(_), Some(token)) = (&username, &token_env) {
            self.report.error(&token.span, "`registry` has both `username` and `token_env`: one login is enough");
        }
        let token_env = token_env.map(|text| text.value);
        let ca_file = map.text("ca_file").map(|text| self.folder.join(text.value));
        map.finish();
        Some(RegistryConfig::Http { url: url?.value, username, password_env, token_env, ca_file })
    }

    fn secret(&self, what: &str, node: &Node) -> Option<SecretSource> {
        if node.scalar().is_some() {
            let hint = "write {file: path} or {env: NAME}";
            self.report.error_with_hint(&node.span, format!("{what} holds a secret itself"), hint);
            return None;
        }
        let mut map = MapReader::new(self.report, what, node)?;
        let (file, env) = (map.text("file"), map.text("env"));
        map.finish();
        match (file, env) {
            (Some(file), None) => Some(SecretSource::File(self.folder.join(file.value))),
            (None, Some(env)) => Some(SecretSource::Env(env.value)),
            _ => {
                self.report.error(&node.span, format!("{what} must say one of `file` and `env`"));
                None
            }
        }
    }

    fn keys(&self, node: &Node) -> BTreeMap<String, SecretSource> {
        self.named(node, "`keys`", |name, value| self.secret(&format!("key `{name}`"), value))
    }

    /// Alerts are not sent yet: the names are kept, so that contracts can be checked against them.
    fn receivers(&self, node: &Node) -> BTreeSet<String> {
        let named = self.named(node, "`receivers`", |name, value| {
            MapReader::new(self.report, format!("receiver `{name}`"), value).map(|_| ())
        });
        named.into_keys().collect()
    }

    /// A mapping of names to values of one kind.
    fn named<T>(&self, node: &Node, what: &str, value: impl Fn(&str, &Node) -> Option<T>) -> BTreeMap<String, T> {
        let (Some(_), NodeKind::Mapping(entries)) = (MapReader::new(self.report, what, node), &node.kind) else {
            return BTreeMap::new();
        };
        entries
            .iter()
            .filter_map(|entry| {
                let name = entry.key.scalar()?;
                Some((name.to_owned(), value(name, &entry.value)?))
            })
            .collect()
    }
}
