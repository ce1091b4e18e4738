//! The way to source and sink: the slot is taken, and what the server says of itself is read on the same connection.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::config::{Config, SinkConfig};
use crate::error::{Code, Error, Result};
use crate::postgres::connection::Connection;
use crate::postgres::slot::{self, Arrival, Slot};
use crate::postgres::sql::Source;
use crate::postgres::stream::{Stream, StreamHandle};
use crate::sink::Sink;
use crate::sink::files::{FilesOptions, FilesSink};
use crate::sink::kafka::{KafkaOptions, KafkaSink};
use crate::sink::null::NullSink;

/// How long a slot that a dead predecessor still holds is asked for again.
const SLOT_WAIT: Duration = Duration::from_secs(15);

/// What is needed to reach source and sink.
#[derive(Clone, Copy)]
pub struct Door<'a> {
    /// The config.
    pub config: &'a Config,
    /// Where the source is.
    pub source: &'a Source,
    /// An open SQL connection.
    pub client: &'a Client,
    /// Runs what is asynchronous.
    pub runtime: &'a tokio::runtime::Handle,
}

/// A slot that is ours: as long as the stream lives, nobody else can read or drop it.
pub struct Taken {
    /// The stream, from where the server has the slot confirmed.
    pub stream: StreamHandle,
    /// The server, as it was right before.
    pub arrival: Arrival,
}

impl Door<'_> {
    /// A new replication connection.
    pub fn connection(&self) -> Result<Connection> {
        Connection::connect(&self.source.url, self.source.password.as_ref())
    }

    /// Looks for the slot; one that is there and not ours to read is an error.
    pub fn find(&self) -> Result<Option<Slot>> {
        let name = &self.config.source.slot;
        let found = self.runtime.block_on(slot::find(self.client, name))?;
        found.as_ref().map_or(Ok(()), |slot| slot.check(name, &self.source.url.database))?;
        Ok(found)
    }

    /// The sink, not loaded yet. A folder of files is locked from here on.
    pub fn sink(&self, system_id: u64) -> Result<Box<dyn Sink>> {
        let config = self.config;
        Ok(match &config.sink {
            SinkConfig::Files { path } => Box::new(FilesSink::open(path, &config.pipeline, FilesOptions::default())?),
            SinkConfig::Null { path } => Box::new(NullSink::open(path)?),
            SinkConfig::Kafka { bootstrap, replication, properties } => Box::new(KafkaSink::new(KafkaOptions {
                bootstrap: bootstrap.clone(),
                replication: *replication,
                properties: properties.clone(),
                pipeline: config.pipeline.clone(),
                transactional_id: format!("gimbal.{}.{system_id}.{}", config.pipeline, config.source.slot),
            })?),
        })
    }

    /// Takes the slot by streaming from it.
    ///
    /// Errors: [`Code::SlotHeld`] if somebody alive has it, [`Code::SlotLost`] if it is gone.
    pub fn take(&self, mut connection: Connection, publications: &[String]) -> Result<Taken> {
        let name = &self.config.source.slot;
        let names: Vec<&str> = publications.iter().map(String::as_str).collect();
        let end = Instant::now() + SLOT_WAIT;
        loop {
            // Before the start: from then on the server could only tell what we confirm ourselves.
            let confirmed = self.find()?.and_then(|slot| slot.confirmed);
            let arrival = Arrival::read(&mut connection, confirmed)?;
            match Stream::spawn(connection, name, &names) {
                Ok(stream) => return Ok(Taken { stream, arrival }),
                Err(error) if error.code() == Code::SlotHeld && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(200));
                    connection = self.connection()?;
                }
                // A dead predecessor would have let go by now: whoever holds it is alive.
                Err(error) if error.code() == Code::SlotHeld => {
                    let why = format!("{}, for {} s now", error.diagnosis(), SLOT_WAIT.as_secs());
                    let hint = error.hint_text().unwrap_or("stop the other daemon, then start again");
                    return Err(Error::definite(Code::SlotHeld, why).hint(hint));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
