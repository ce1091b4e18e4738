//! A Kafka broker and a schema registry, each shared by all tests.

use std::sync::OnceLock;

use super::Servers;

/// A running broker.
pub struct Kafka {
    bootstrap: String,
    servers: Option<Servers>,
}

/// The broker that tests share. Name topics and transactional ids after the test.
pub fn kafka() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("GIMBAL_TEST_KAFKA") {
        Ok(bootstrap) => Kafka { bootstrap, servers: None },
        Err(_) => Kafka::start(&[]),
    })
}

impl Kafka {
    /// Starts a private broker. `settings` are variables of `scripts/lab.sh`, such as `GIMBAL_LAB_KAFKA_ADVERTISED`.
    pub fn start(settings: &[(&str, &str)]) -> Kafka {
        let servers = Servers::run(&["kafka"], settings);
        Kafka { bootstrap: servers.get("GIMBAL_TEST_KAFKA").to_owned(), servers: Some(servers) }
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Kills a private broker.
    pub fn kill(&self) {
        self.command("kill kafka");
    }

    /// Starts it again, with its data, at the same address.
    pub fn start_again(&self) {
        self.command("again kafka");
    }

    /// Lets a private broker hang: connections stay, and nothing is answered.
    pub fn pause(&self) {
        self.command("pause kafka");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.command("resume kafka");
    }

    fn command(&self, command: &str) {
        self.servers.as_ref().expect("only the lab's own broker can be changed").command(command);
    }
}

/// A running Confluent-compatible schema registry; what it holds is in memory.
pub struct Registry {
    url: String,
    servers: Option<Servers>,
}

/// The registry that tests share.
pub fn registry() -> &'static Registry {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("GIMBAL_TEST_REGISTRY") {
        Ok(url) => Registry { url, servers: None },
        Err(_) => Registry::start(),
    })
}

impl Registry {
    /// Starts a private registry.
    pub fn start() -> Registry {
        let servers = Servers::run(&["registry"], &[]);
        Registry { url: servers.get("GIMBAL_TEST_REGISTRY").to_owned(), servers: Some(servers) }
    }

    /// The base URL, with a path.
    pub fn url(&self) -> &str {
        &self.url
    }
}
