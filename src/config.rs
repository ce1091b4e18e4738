//! The config file: one YAML, declared once.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
}

/// `registry:`
#[derive(Clone, Debug)]
pub enum RegistryConfig {
    /// Ids are kept beside the file topics and served by the daemon.
    Embedded,
    /// A Confluent-compatible server.
    Http {
        /// Base URL, with a path if the server has one.
        url: String,
        /// User for basic authentication.
        username: Option<String>,
        /// Environment variable that holds the password.
        password_env: Option<String>,
    },
}
