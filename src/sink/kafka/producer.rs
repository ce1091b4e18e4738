//! One transactional producer: begin, produce, drain, commit; and whether the outcome is certain.

use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::CommitBreakdown;
use super::context::Context;
use super::failure::{failure, is_fenced, refine};
use super::settings::Settings;
use super::state_topic::COMMIT_HEADER;
use crate::batch::{Batch, Record};
use crate::error::{Code, Error, Kind, Result};
use crate::killpoint::{self, Point};
use crate::state::POSITION_KEY;

/// How long `init_transactions` may take: the coordinator first ends what a predecessor left open.
const INIT_WAIT: Duration = Duration::from_secs(15);
/// How long the coordinator may take to end a transaction, before its outcome is in doubt.
const COMMIT_WAIT: Duration = Duration::from_secs(15);
/// How long an abort may take; it is only a courtesy to readers.
const ABORT_WAIT: Duration = Duration::from_secs(3);
/// Shortest and longest sleep while the client waits for acknowledgements.
const DRAIN_PAUSE: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(1));
/// Records between two looks at the client's events.
const EVENTS_EVERY: usize = 4096;
/// Most events handled at once, so that a talkative client cannot hold a commit.
const EVENTS_MAX: usize = 10_000;
/// The value of the `last` header. Not empty: an empty one reads as false in many languages.
const LAST: &[u8] = b"1";

/// Where a batch goes.
pub(super) struct Route<'a> {
    /// Indexed by the records' topic ids.
    pub(super) topics: &'a [String],
    /// Takes the state changes.
    pub(super) state_topic: &'a str,
    /// Names the commit.
    pub(super) commit: &'a [u8],
}

/// What a commit that returned success proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The request left once: this transaction is committed, and nothing is under way.
    Certain,
    /// The request may have left twice. The late one would commit half of the next transaction of this producer.
    Suspect,
}

/// A producer that owns the transactional id, until a newer one does.
pub(super) struct TransactionalProducer {
    client: BaseProducer<Context>,
    resend_after: Duration,
    transaction_timeout: Duration,
}

impl TransactionalProducer {
    /// Takes the transactional id over: fences every other producer and aborts what it left open.
    pub(super) fn init(
        settings: &Settings,
        transactional_id: &str,
        state_topic: &str,
    ) -> Result<TransactionalProducer> {
        let client: BaseProducer<Context> =
            BaseProducer::from_config_and_context(&settings.producer(transactional_id), Context::default())
                .map_err(|error| failure("set up the Kafka producer", &error))?;
        // A client that has a connection finds its coordinator at once; one that has none tries every 500 ms.
        let _ = client.client().fetch_metadata(Some(state_topic), INIT_WAIT);
        let initialized = client.init_transactions(INIT_WAIT);
        let producer = TransactionalProducer {
            client,
            resend_after: settings.resend_after(),
            transaction_timeout: settings.transaction_timeout(),
        };
        producer.serve_events();
        initialized.map_err(|error| producer.failed("take over the transactional id", &error))?;
        Ok(producer)
    }

    /// One whole transaction. After an error its outcome is unknown and this producer must not be used again.
    pub(super) fn transact(&self, batch: &Batch, route: &Route<'_>) -> Result<(Certainty, CommitBreakdown)> {
        self.serve_events();
        self.client.context().begin();
        let begin = Instant::now();
        self.client.begin_transaction().map_err(|error| self.failed("begin a transaction", &error))?;
        let sent = self.produce(batch, route).map(|()| Instant::now());
        killpoint::pass(Point::KafkaProduced);
        let drained = sent.and_then(|sent| self.drain(begin).map(|()| (sent, Instant::now())));
        let (sent, drained) = drained.inspect_err(|_| self.abort())?;
        killpoint::pass(Point::KafkaDrained);
        let committed = self.client.commit_transaction(COMMIT_WAIT.min(self.transaction_timeout));
        killpoint::pass(Point::KafkaCommitted);
        let breakdown = CommitBreakdown { produce: sent - begin, drain: drained - sent, commit: drained.elapsed() };
        self.serve_events();
        committed.map_err(|error| self.failed("commit a transaction", &error))?;
        let suspect = breakdown.commit >= self.resend_after || self.client.context().coordinator_trouble();
        Ok((if suspect { Certainty::Suspect } else { Certainty::Certain }, breakdown))
    }

    fn produce(&self, batch: &Batch, route: &Route<'_>) -> Result<()> {
        let mut time = DecimalText::default();
        for (i, record) in batch.records.iter().enumerate() {
            let topic = route.topics.get(usize::from(record.topic.0)).ok_or_else(|| {
                Error::definite(Code::Internal, format!("topic number {} was never declared", record.topic.0))
            })?;
            let mut message = BaseRecord::<[u8], [u8]>::to(topic).headers(headers(batch, record, &mut time));
            message.key = record.key.map(|span| batch.slice(span));
            message.payload = record.value.map(|span| batch.slice(span));
            self.send(message, || format!("publish the record at {} to `{topic}`", record.position))?;
            if i % EVENTS_EVERY == EVENTS_EVERY - 1 {
                self.serve_events();
            }
        }
        for change in &batch.state {
            let mut message = BaseRecord::<[u8], [u8]>::to(route.state_topic).key(change.key.as_bytes()).partition(0);
            message.payload = change.value.as_deref();
            if change.key == POSITION_KEY {
                let header = Header { key: COMMIT_HEADER, value: Some(route.commit) };
                message.headers = Some(OwnedHeaders::new_with_capacity(1).insert(header));
            }
            self.send(message, || format!("write `{}` to `{}`", change.key, route.state_topic))?;
        }
        Ok(())
    }

    fn send(&self, mut message: BaseRecord<'_, [u8], [u8]>, doing: impl Fn() -> String) -> Result<()> {
        let started = Instant::now();
        loop {
            match self.client.send(message) {
                Ok(()) => {
                    killpoint::pass(Point::KafkaSent);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if started.elapsed() >= self.transaction_timeout {
                        let diagnosis = format!("cannot {}: the brokers take no records", doing());
                        return Err(Error::transient(Code::SinkUnreachable, diagnosis));
                    }
                    message = back;
                    self.client.poll(DRAIN_PAUSE.1);
                }
                Err((error, _)) => return Err(self.failed(&doing(), &error)),
            }
        }
    }

    /// Waits until every record is acknowledged.
    ///
    /// The binding's own way to do this waits in steps of 100 ms.
    fn drain(&self, begin: Instant) -> Result<()> {
        let mut pause = DRAIN_PAUSE.0;
        while self.client.in_flight_count() > 0 {
            self.serve_events();
            if self.client.context().has_failed_deliveries() {
                break;
            }
            if begin.elapsed() >= self.transaction_timeout {
                let diagnosis = format!(
                    "{} records were not acknowledged within {} s",
                    self.client.in_flight_count(),
                    self.transaction_timeout.as_secs_f64()
                );
                return Err(Error::transient(Code::SinkUnreachable, diagnosis));
            }
            if self.client.in_flight_count() > 0 {
                std::thread::sleep(pause);
                pause = (pause * 2).min(DRAIN_PAUSE.1);
            }
        }
        self.check_deliveries()
    }

    fn check_deliveries(&self) -> Result<()> {
        let (count, first) = self.client.context().failed_deliveries();
        let Some(first) = first else { return Ok(()) };
        if let Some(fenced) = self.fenced() {
            return Err(fenced);
        }
        Err(refine(
            &format!("publish {count} records, the first of them to `{}`", first.topic),
            first.code,
            &first.text,
        ))
    }

    /// Ends an open transaction, so that readers need not wait for its time-out. The next producer would do it too.
    fn abort(&self) {
        if self.fenced().is_none()
            && let Err(error) = self.client.abort_transaction(ABORT_WAIT)
        {
            tracing::debug!(error = %error, "abort failed; the next producer aborts");
        }
    }

    fn serve_events(&self) {
        for _ in 0..EVENTS_MAX {
            let before = self.client.in_flight_count();
            if before == 0 {
                return;
            }
            self.client.poll(Duration::ZERO);
            // Records on their way count too; what did not shrink is not an event.
            if self.client.in_flight_count() >= before {
                return;
            }
        }
    }

    /// The client's error, unless the reason is that a newer producer took over.
    fn failed(&self, doing: &str, error: &KafkaError) -> Error {
        let own = failure(doing, error);
        if own.kind() == Kind::Definite && own.code() == Code::SinkFenced {
            return own;
        }
        self.fenced().unwrap_or(own)
    }

    fn fenced(&self) -> Option<Error> {
        let (code, text) = self.client.client().fatal_error()?;
        is_fenced(code).then(|| refine("write to Kafka", Some(code), &text))
    }
}

fn headers(batch: &Batch, record: &Record, time: &mut DecimalText) -> OwnedHeaders {
    let position = record.position.text();
    let headers = OwnedHeaders::new_with_capacity(3 + usize::from(record.last) + usize::from(record.reread.is_some()))
        .insert(Header { key: "op", value: Some(record.op.letter().as_bytes()) })
        .insert(Header { key: "pos", value: Some(&position[..]) })
        .insert(Header { key: "ts", value: Some(time.of(record.timestamp)) });
    let headers = if record.last { headers.insert(Header { key: "last", value: Some(LAST) }) } else { headers };
    match record.reread {
        Some(names) => headers.insert(Header { key: "reread", value: Some(batch.slice(names)) }),
        None => headers,
    }
}

/// A number's decimal text, made anew only when the number changes: records of a transaction share their time.
#[derive(Default)]
struct DecimalText {
    number: Option<i64>,
    text: String,
}

impl DecimalText {
    fn of(&mut self, number: i64) -> &[u8] {
        if self.number != Some(number) {
            self.number = Some(number);
            self.text.clear();
            // Writing to a `String` cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut self.text, format_args!("{number}"));
        }
        self.text.as_bytes()
    }
}
