//! The config file: one YAML, declared once.

mod parse;
mod sample;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, SourceText};
use crate::error::Code;

pub use sample::sample;
pub use secret::without_password;

/// The whole config, validated. Relative paths are already joined to the config file's folder.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names the pipeline: part of the state topic, the transactional id and the events topic.
    pub pipeline: String,
    /// The database.
    pub source: SourceConfig,
    /// Folder of the contract files and `catalog.json`.
    pub contracts: PathBuf,
    /// Folder of the `.avsc` files.
    pub schemas: PathBuf,
    /// Folder of key files and spill; never the checkpoint.
    pub state: PathBuf,
    /// Where records go.
    pub sink: SinkConfig,
    /// Who gives out schema ids.
    pub registry: RegistryConfig,
    /// Address of health, metrics, status and the embedded registry.
    pub listen: std::net::SocketAddr,
    /// What a caller must show to change anything; `api.token` in the state folder where the config says nothing.
    pub api_token: Option<SecretSource>,
    /// Named keys, for sealing and masking.
    pub keys: BTreeMap<String, SecretSource>,
    /// Names of the receivers of alerts.
    pub receivers: BTreeSet<String>,
}

/// `source:`
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// `postgresql://user@host:port/database?sslmode=…`; never with a password.
    pub url: String,
    /// File that holds the password, if it is not in `PGPASSWORD` or the passfile.
    pub password_file: Option<PathBuf>,
    /// The replication slot.
    pub slot: String,
    /// The publication; append-only tables without identity are in `<publication>_inserts`.
    pub publication: String,
}

/// `sink:`
#[derive(Clone, Debug)]
pub enum SinkConfig {
    /// Avro files in a folder.
    Files {
        /// The folder.
        path: PathBuf,
    },
    /// A Kafka cluster.
    Kafka {
        /// `host:port,host:port`.
        bootstrap: String,
        /// Replication factor of the topics that gimbal creates.
        replication: i32,
        /// Passed to librdkafka.
        properties: BTreeMap<String, String>,
    },
    /// Nowhere: only the checkpoint is kept. For benches; not in the sample config.
    Null {
        /// The folder of the checkpoint.
        path: PathBuf,
    },
}

/// `registry:`
#[derive(Clone, Debug)]
pub enum RegistryConfig {
    /// Ids are kept beside the file topics and served by the daemon.
    Embedded,
    /// A Confluent-compatible server.
    Http {
        /// Base URL, with a path if the server has one; several, separated by commas, are servers of one registry.
        url: String,
        /// User for basic authentication.
        username: Option<String>,
        /// Environment variable that holds the password.
        password_env: Option<String>,
        /// Environment variable that holds a token for bearer authentication.
        token_env: Option<String>,
        /// PEM file of the only authorities to trust; without it the system's.
        ca_file: Option<PathBuf>,
    },
}

/// Where a secret is; the secret itself is never in the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The content of a file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl Config {
    /// Reads and parses a config file; every error at once.
    pub fn load(path: &Path) -> Result<Config, Vec<Diagnostic>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot read the config file `{}`: {error}", path.display());
            let hint = "`gimbal init` writes one; `--config` names another";
            vec![Diagnostic::error(Code::ConfigInvalid, message).hint(hint)]
        })?;
        Config::parse(&path.display().to_string(), &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Parses a config text; relative paths are joined to `folder`. Secrets that should not be there are not shown.
    pub fn parse(name: &str, text: &str, folder: &Path) -> Result<Config, Vec<Diagnostic>> {
        parse::config(&SourceText::new(name, secret::blot(text)), text, folder)
    }
}

#[cfg(test)]
mod tests;
