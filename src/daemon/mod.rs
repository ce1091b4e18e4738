//! The daemon: opens sessions, one after the other, and serves health, metrics and status beside them.
//!
//! A transient error ends the session, and after a pause the next one begins from the checkpoint, exactly as a restart
//! would; so there is one way to recover, and it is used all the time. A definite error ends the daemon.

pub mod adopt;
pub mod alerts;
pub mod api;
pub mod bind;
pub mod committer;
pub mod connect;
mod mask_keys;
pub mod plan;
pub mod rebind;
pub mod report;
pub mod sealing;
pub mod session;
pub mod start;
pub mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};

use crate::config::{Config, RegistryConfig, SinkConfig};
use crate::contract::{ContractVersion, VersionStatus};
use crate::daemon::api::Command;
use crate::daemon::committer::Committer;
use crate::daemon::connect::Door;
use crate::daemon::report::Reporter;
use crate::daemon::session::{Ended, Parts, Session};
use crate::daemon::start::Opening;
use crate::daemon::status::{ErrorStatus, FORMAT_VERSION, StatusBoard};
use crate::error::{Code, Error, Kind, Result};
use crate::metrics::Metrics;
use crate::postgres::desk::Desk;
use crate::postgres::sql::{self, Source};
use crate::postgres::worker::{Retention, Watched, Worker, flush_lsn};
use crate::registry::Registry;
use crate::registry::embedded::EmbeddedRegistry;
use crate::registry::http::HttpRegistry;
use crate::server;
use crate::sink::key_desk::KeyDesk;

/// The pause after the first failed session; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The longest pause.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// A session that lasted this long starts the pauses anew.
const RETRY_RESET: Duration = Duration::from_secs(60);

/// What `run` was asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Stop when all that was in the log at the start is published.
    pub once: bool,
}

/// A daemon that is ready to run.
pub struct Daemon {
    config: Config,
    contracts: Vec<Arc<ContractVersion>>,
    runtime: tokio::runtime::Runtime,
    registry: Arc<dyn Registry>,
    board: StatusBoard,
    metrics: Metrics,
    options: RunOptions,
    commands: Receiver<Command>,
    keys: KeyDesk,
}

impl Daemon {
    /// Sets up what outlives a session: the runtime, the registry, the HTTP server.
    pub fn new(config: Config, contracts: Vec<ContractVersion>, options: RunOptions) -> Result<Daemon> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|e| Error::definite(Code::Io, format!("the async runtime does not start: {e}")))?;
        let mut contracts = contracts;
        mask_keys::load(&config, &mut contracts)?;
        let board = StatusBoard::default();
        board.update(|status| {
            status.format_version = FORMAT_VERSION;
            status.pipeline = config.pipeline.clone();
            "starting".clone_into(&mut status.state);
        });
        let metrics = Metrics::new();
        let (registry, embedded) = registry(&config)?;
        let (api, commands) = api::queue(config.api_token.clone());
        runtime.block_on(server::serve(config.listen, board.clone(), metrics.clone(), embedded, api))?;
        let published =
            |version: &ContractVersion| matches!(version.status, VersionStatus::Active | VersionStatus::Deprecated);
        let contracts: Vec<_> = contracts.into_iter().filter(published).map(Arc::new).collect();
        if contracts.is_empty() {
            return Err(Error::definite(Code::ContractInvalid, "no contract version is active or deprecated")
                .hint("set `status: active` in a contract"));
        }
        let keys = KeyDesk::new(&config);
        Ok(Daemon { config, contracts, runtime, registry, board, metrics, options, commands, keys })
    }

    /// Where its status is read.
    pub fn board(&self) -> StatusBoard {
        self.board.clone()
    }

    /// Runs sessions until the goal, a signal, or a definite error.
    pub fn run(self, shutdown: Receiver<()>) -> Result<()> {
        let mut pause = RETRY_FIRST;
        loop {
            let begin = Instant::now();
            let error = match self.session(&shutdown) {
                Ok(ended) => {
                    tracing::info!(?ended, "stopped");
                    self.board.update(|status| "stopped".clone_into(&mut status.state));
                    return Ok(());
                }
                Err(error) => error,
            };
            self.board.update(|status| {
                status.error = Some(ErrorStatus::from(&error));
                if error.kind() == Kind::Transient { "starting" } else { "stopped" }.clone_into(&mut status.state);
            });
            if error.kind() == Kind::Definite {
                return Err(error);
            }
            if begin.elapsed() >= RETRY_RESET {
                pause = RETRY_FIRST;
            }
            tracing::warn!(code = %error.code(), error = error.diagnosis(), seconds = pause.as_secs_f32(), "trying again");
            if shutdown.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return Ok(());
            }
            pause = (pause * 2).min(RETRY_MOST);
        }
    }

    fn session(&self, shutdown: &Receiver<()>) -> Result<Ended> {
        let config = &self.config;
        let source = Source::of(config)?;
        let client = self.runtime.block_on(sql::connect(&source))?;
        let until = if self.options.once { Some(self.runtime.block_on(flush_lsn(&client))?) } else { None };
        let door = Door { config, source: &source, client: &client, runtime: self.runtime.handle() };
        let opening = Opening { door, contracts: &self.contracts, registry: self.registry.as_ref() };
        let opened = opening.open()?;
        tracing::info!(pos = %opened.engine.position().position(), contracts = opened.engine.contracts().len(), "streaming");
        let (answers_out, answers) = unbounded();
        let worker = Worker::new(source, client, answers_out, self.keys.session());
        let (board, metrics) = (self.board.clone(), self.metrics.clone());
        let retention = move |retention: Retention| {
            metrics.slot(retention.lag, retention.retained, retention.safe);
            board.update(|status| {
                status.lag_bytes = retention.lag;
                status.retained_wal_bytes = retention.retained;
                status.safe_wal_bytes = retention.safe;
            });
        };
        let watched = Watched {
            relations: opened.relations,
            names: self.contracts.iter().map(|contract| contract.source.clone()).collect(),
            members: opened.members,
            slot: config.source.slot.clone(),
            retention: Box::new(retention),
        };
        let watch = self.runtime.spawn(worker.clone().watch(watched));
        let session = Session::new(Parts {
            engine: opened.engine,
            stream: opened.stream,
            committer: Committer::spawn(opened.sink)?,
            desk: Desk::new(worker, self.runtime.handle().clone()),
            answers,
            shutdown: shutdown.clone(),
            reporter: Reporter::new(self.board.clone(), self.metrics.clone()),
            until,
            commands: self.commands.clone(),
        });
        let ended = session.run();
        watch.abort();
        ended
    }
}

/// The registry, and the embedded one apart, because the daemon serves it.
type Registries = (Arc<dyn Registry>, Option<Arc<EmbeddedRegistry>>);

fn registry(config: &Config) -> Result<Registries> {
    match (&config.registry, &config.sink) {
        (RegistryConfig::Embedded, SinkConfig::Files { path } | SinkConfig::Null { path }) => {
            let embedded = Arc::new(EmbeddedRegistry::open(path)?);
            Ok((embedded.clone(), Some(embedded)))
        }
        (RegistryConfig::Embedded, SinkConfig::Kafka { .. }) => Err(Error::definite(
            Code::ConfigInvalid,
            "`registry: embedded` needs the files sink, the config names Kafka",
        )
        .hint("name a Confluent-compatible registry: `registry: {url: …}`")),
        (RegistryConfig::Http { .. }, _) => Ok((Arc::new(HttpRegistry::new(&config.registry)?), None)),
    }
}

/// A receiver that is disconnected from SIGTERM or SIGINT on, so that every later look at it tells; a second signal ends
/// the process at once.
pub fn shutdown_signal() -> Result<Receiver<()>> {
    let (sender, receiver) = bounded(0);
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
        .map_err(|e| Error::definite(Code::Io, format!("signals cannot be caught: {e}")))?;
    std::thread::spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        drop(sender);
        signals.next();
        std::process::exit(130);
    });
    Ok(receiver)
}
