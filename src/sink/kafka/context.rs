//! What librdkafka tells beside its answers: log lines, errors, failed deliveries.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;

/// Most lines that one client may log per [`LOG_WINDOW`]: a broker that is down makes the client talk without end.
const LOG_LINES_MAX: u32 = 10;
/// The window of [`LOG_LINES_MAX`].
const LOG_WINDOW: Duration = Duration::from_secs(10);

/// A record that the broker or the client refused.
#[derive(Clone, Debug)]
pub(super) struct FailedDelivery {
    pub(super) topic: String,
    pub(super) code: Option<RDKafkaErrorCode>,
    pub(super) text: String,
}

/// Why brokers do not let the client in: the client library itself only tries again, and reports a time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// User, password or mechanism.
    Login,
    /// The certificate, the authority or the protocol.
    Tls,
}

impl Refusal {
    /// What a log line about a failed connection says. Its text can name users, so it goes no further.
    fn of(message: &str) -> Option<Refusal> {
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&["SASL authentication error", "SASL SCRAM", "Authentication failed", "Unsupported mechanism"]) {
            return Some(Refusal::Login);
        }
        // A broker that is stopping breaks handshakes too, with other words.
        says(&["certificate verify failed", "certificate required", "wrong version number", "no shared cipher"])
            .then_some(Refusal::Tls)
    }
}

/// Receives everything that one client reports by itself, and keeps what decides about a transaction.
#[derive(Debug, Default)]
pub(super) struct Context {
    failed_deliveries: AtomicU64,
    first_failure: Mutex<Option<FailedDelivery>>,
    coordinator_trouble: AtomicBool,
    refusal: Mutex<Option<Refusal>>,
    limit: Mutex<Limit>,
}

impl Context {
    /// Forgets what concerned an earlier transaction.
    pub(super) fn begin(&self) {
        self.failed_deliveries.store(0, Ordering::Relaxed);
        self.coordinator_trouble.store(false, Ordering::Relaxed);
        *self.first_failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// True if the log showed a lost connection or an unanswered request at the transaction coordinator.
    pub(super) fn coordinator_trouble(&self) -> bool {
        self.coordinator_trouble.load(Ordering::Relaxed)
    }

    /// True if a record of this transaction was refused.
    pub(super) fn has_failed_deliveries(&self) -> bool {
        self.failed_deliveries.load(Ordering::Relaxed) > 0
    }

    /// How many records were refused, and the first of them.
    pub(super) fn failed_deliveries(&self) -> (u64, Option<FailedDelivery>) {
        let first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.failed_deliveries.load(Ordering::Relaxed), first)
    }

    /// What the log showed of brokers that do not let the client in, if it did.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self) -> Option<u64> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The request to end a transaction goes over a connection of this name. If it broke, or the answer did not
        // come, the client sends the request again by itself and says nothing but this.
        if matches!(facility, "FAIL" | "REQTMOUT") && message.contains("TxnCoordinator") {
            self.coordinator_trouble.store(true, Ordering::Relaxed);
        }
        if facility == "FAIL"
            && let Some(refusal) = Refusal::of(message)
        {
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        }
        let Some(suppressed) = self.admit() else { return };
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
                if facility != "CONFWARN" =>
            {
                tracing::warn!(facility, message, suppressed, "kafka client")
            }
            _ => tracing::debug!(facility, message, suppressed, "kafka client"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is news for a reader, not an error.
        if matches!(error, KafkaError::PartitionEOF(_))
            || error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF)
        {
            return;
        }
        if let Some(suppressed) = self.admit() {
            tracing::warn!(error = %error, reason, suppressed, "kafka client");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, message)) = result {
            self.failed_deliveries.fetch_add(1, Ordering::Relaxed);
            let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| FailedDelivery {
                topic: message.topic().to_owned(),
                code: error.rdkafka_error_code(),
                text: error.to_string(),
            });
        }
    }
}

impl ConsumerContext for Context {}

/// Lets [`LOG_LINES_MAX`] lines through per window, and counts the others.
#[derive(Debug, Default)]
struct Limit {
    window: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Limit {
    /// The number of lines that were swallowed before this one, or `None` to swallow it too.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|start| now.duration_since(start) >= LOG_WINDOW) {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines >= LOG_LINES_MAX {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_log_lines_is_cut_and_counted() {
        let (mut limit, start) = (Limit::default(), Instant::now());
        let shown = (0..100).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(shown, LOG_LINES_MAX as usize);
        assert_eq!(limit.admit(start + LOG_WINDOW), Some(90));
    }

    #[test]
    fn a_refused_login_and_failed_tls_are_told_from_a_broken_connection() {
        let of = |message: &str| {
            let context = Context::default();
            context.log(RDKafkaLogLevel::Error, "FAIL", message);
            context.refusal()
        };
        let login =
            "[thrd:sasl_plaintext://h:1/bootstrap]: sasl_plaintext://h:1/bootstrap: SASL authentication error: no";
        assert_eq!(of(login), Some(Refusal::Login));
        let tls = "[thrd:ssl://h:1/bootstrap]: ssl://h:1/bootstrap: SSL handshake failed: certificate verify failed";
        assert_eq!(of(tls), Some(Refusal::Tls));
        assert_eq!(of("[thrd:h:1/bootstrap]: h:1/bootstrap: Connect to ipv4#h:1 failed: Connection refused"), None);
    }

    #[test]
    fn only_the_coordinator_casts_doubt_on_a_commit() {
        let context = Context::default();
        context.log(RDKafkaLogLevel::Info, "FAIL", "[thrd:127.0.0.1:9092/1]: 127.0.0.1:9092/1: Disconnected");
        assert!(!context.coordinator_trouble());
        context.log(RDKafkaLogLevel::Info, "FAIL", "[thrd:TxnCoordinator]: TxnCoordinator: Disconnected");
        assert!(context.coordinator_trouble());
        context.begin();
        assert!(!context.coordinator_trouble());
    }
}
