//! What the show needs: private servers, a filled shop, a config, and the programs beside this one.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;

use crate::Result;
use crate::process::{Running, complete};
use crate::shop::Shop;
use crate::topics::Place;

/// Where the pipeline publishes to.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Files and the embedded registry: nothing else is needed
    Files,
    /// A real Kafka and a real schema registry
    Kafka,
}

/// Time for servers to come up, and to go.
const SERVERS_PATIENCE: Duration = Duration::from_secs(120);

/// The stage: everything is gone when it is.
pub struct Stage {
    servers: Running,
    folder: TempDir,
    program: PathBuf,
    gimbal: PathBuf,
    config: PathBuf,
    /// The shop's database, as its owner.
    pub source: String,
    /// Where the topics will be.
    pub place: Place,
}

impl Stage {
    /// Starts the servers, makes an empty database `shop`, and writes the config.
    ///
    /// `gimbal` is the program; where it is not given, it lies beside this example.
    pub fn set(sink: Sink, gimbal: Option<PathBuf>) -> Result<Stage> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = std::env::current_exe()?;
        let gimbal = gimbal.unwrap_or_else(|| program.ancestors().nth(2).unwrap_or(root).join("gimbal"));
        if !gimbal.exists() {
            return Err(format!(
                "`{}` is missing: run `cargo build` with the profile of this example",
                gimbal.display()
            )
            .into());
        }
        let folder = TempDir::with_prefix("gimbal-demo.")?;
        let mut command = Command::new("bash");
        command.arg(root.join("scripts/lab.sh")).args(["run", "pg"]);
        if sink == Sink::Kafka {
            command.args(["kafka", "registry"]);
        }
        let servers = Running::start("lab", &mut command, folder.path())?;
        let (lines, _) = servers.await_line("ready", SERVERS_PATIENCE)?;
        let addresses: HashMap<&str, &str> = lines.iter().filter_map(|line| line.split_once('=')).collect();
        let address = |name: &str| addresses.get(name).copied().ok_or_else(|| format!("the lab did not say {name}"));

        let server = address("GIMBAL_TEST_PG")?;
        Shop::connect(server)?.batch("CREATE DATABASE shop")?;
        let (host, _) = server.rsplit_once('/').ok_or("the server's address has no database")?;
        let source = format!("{host}/shop");
        let (place, sink) = match sink {
            Sink::Files => {
                let place = Place::Files(folder.path().join("topics"));
                (place, "sink:\n  files: {path: topics}\nregistry: embedded\n".to_owned())
            }
            Sink::Kafka => {
                let (bootstrap, registry) = (address("GIMBAL_TEST_KAFKA")?, address("GIMBAL_TEST_REGISTRY")?);
                let place = Place::Kafka { bootstrap: bootstrap.to_owned(), registry: registry.to_owned() };
                let sink = format!(
                    "sink:\n  kafka: {{bootstrap: \"{bootstrap}\", replication: 1}}\nregistry: {{url: \"{registry}\"}}\n"
                );
                (place, sink)
            }
        };
        let config = folder.path().join("gimbal.yaml");
        let (_, server) = host.rsplit_once('@').ok_or("the server's address has no user")?;
        fs::write(&config, config_text(server, root, &sink)?)?;
        Ok(Stage { servers, folder, program, gimbal, config, source, place })
    }

    /// The folder of everything that belongs to the show.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command of gimbal to its end.
    pub fn gimbal(&self, arguments: &[&str]) -> Result<String> {
        complete(&format!("gimbal {}", arguments.join(" ")), &mut self.gimbal_command(arguments))
    }

    /// Starts the daemon.
    pub fn start_daemon(&self) -> Result<Running> {
        // The other parts end with their standard input. The daemon does not read any, so it is told when we are gone.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&self.gimbal).arg("--config").arg(&self.config).arg("run");
        Running::start("gimbal", &mut command, self.folder())
    }

    /// Starts another part of the demo against the shop.
    pub fn start_part(&self, name: &'static str, arguments: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.program);
        command.arg(name).args(["--source", &self.source]).args(arguments);
        Running::start(name, &mut command, self.folder())
    }

    fn gimbal_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.gimbal);
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    /// Stops the servers and removes the folder.
    pub fn strike(self) -> Result<()> {
        self.servers.release(SERVERS_PATIENCE)?;
        self.folder.close()?;
        Ok(())
    }
}

fn config_text(server: &str, root: &Path, sink: &str) -> Result<String> {
    // The port is free now, and nobody else is told of it.
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let root = root.display();
    Ok(format!(
        "pipeline: shop
source:
  url: postgresql://gimbal@{server}/shop?sslmode=disable
  slot: gimbal_shop
  publication: gimbal_shop
contracts: {root}/contracts
schemas: {root}/schemas
state: state
{sink}listen: {listen}
"
    ))
}
