//! Kafka's errors as ours: what a retry can mend, what it cannot, and what to do then.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::Refusal;
use crate::error::{Code, Error, Kind};

use RDKafkaErrorCode as K;

/// Turns an error of the client into ours; `doing` completes "cannot …".
pub(super) fn failure(doing: &str, error: &KafkaError) -> Error {
    match error {
        // The description may quote the value, and the value may be a password.
        KafkaError::ClientConfig(_, _, key, _) => {
            Error::definite(Code::ConfigInvalid, format!("librdkafka refuses property `{key}` or its value"))
                .hint("see librdkafka's CONFIGURATION.md for the properties that `sink.kafka.properties` may hold")
        }
        KafkaError::ClientCreation(text) => {
            Error::definite(Code::ConfigInvalid, format!("librdkafka refuses its configuration: {text}"))
                .hint("correct `sink.kafka.properties`")
        }
        KafkaError::Transaction(inner) => refine(doing, Some(inner.code()), &inner.string()),
        KafkaError::AdminOp(code) => refine(doing, Some(*code), &code.to_string()),
        _ => match error.rdkafka_error_code() {
            Some(code) => refine(doing, Some(code), &code.to_string()),
            None => refine(doing, None, &error.to_string()),
        },
    }
}

/// The same, from a code and the broker's or the client's words.
pub(super) fn refine(doing: &str, code: Option<RDKafkaErrorCode>, text: &str) -> Error {
    let (kind, our_code, hint) = code.map_or((Kind::Transient, Code::SinkUnreachable, None), verdict);
    let diagnosis = format!("cannot {doing}: {}", text.trim_end_matches('.'));
    let error = match kind {
        Kind::Transient => Error::transient(our_code, diagnosis),
        Kind::Definite => Error::definite(our_code, diagnosis),
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Brokers that do not let the client in, whatever the library says about it.
pub(super) fn shut_out(doing: &str, refusal: Refusal) -> Error {
    let (why, hint) = match refusal {
        Refusal::Login => ("the brokers refuse the login", LOGIN_HINT),
        Refusal::Tls => (
            "TLS with the brokers fails",
            "check `security.protocol`, `ssl.ca.location` and the name in the brokers' certificates",
        ),
    };
    Error::definite(Code::SinkAuth, format!("cannot {doing}: {why}")).hint(hint)
}

const LOGIN_HINT: &str = "check user, password and mechanism (`sasl.*` in `sink.kafka.properties`)";

/// True if a newer producer of the same transactional id has taken over.
pub(super) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    // `InvalidProducerEpoch` is what brokers before 2.7 say for the same.
    matches!(code, K::Fenced | K::ProducerFenced | K::InvalidProducerEpoch)
}

fn verdict(code: RDKafkaErrorCode) -> (Kind, Code, Option<&'static str>) {
    const FENCED: &str = "another daemon runs with the same transactional id, or this one was paused for longer than \
                          `transaction.timeout.ms`; stop the other one, then start again";
    match code {
        _ if is_fenced(code) => (Kind::Definite, Code::SinkFenced, Some(FENCED)),
        K::Authentication | K::SaslAuthenticationFailed | K::UnsupportedSASLMechanism => {
            (Kind::Definite, Code::SinkAuth, Some(LOGIN_HINT))
        }
        K::TopicAuthorizationFailed => (
            Kind::Definite,
            Code::SinkRefused,
            Some("grant Describe, Create, Read and Write on the topics to the user"),
        ),
        K::TransactionalIdAuthorizationFailed => {
            (Kind::Definite, Code::SinkRefused, Some("grant Describe and Write on the transactional id to the user"))
        }
        K::ClusterAuthorizationFailed => {
            (Kind::Definite, Code::SinkRefused, Some("grant Create and DescribeConfigs to the user"))
        }
        K::InvalidTransactionTimeout => (
            Kind::Definite,
            Code::SinkRefused,
            Some("lower `transaction.timeout.ms` below the broker's `transaction.max.timeout.ms`"),
        ),
        K::MessageSizeTooLarge | K::InvalidMessageSize => (
            Kind::Definite,
            Code::SinkRefused,
            Some("raise `message.max.bytes` in `sink.kafka.properties` and `max.message.bytes` of the topic"),
        ),
        K::InvalidReplicationFactor => {
            (Kind::Definite, Code::TopicSettings, Some("set `sink.kafka.replication` to at most the number of brokers"))
        }
        K::UnknownTopic | K::UnknownTopicOrPartition | K::UnknownPartition => (
            Kind::Definite,
            Code::TopicSettings,
            Some("a topic was deleted while gimbal ran; restore it, or start again and repair its contract"),
        ),
        K::InvalidTopic | K::PolicyViolation | K::InvalidConfig | K::InvalidPartitions => {
            (Kind::Definite, Code::TopicSettings, Some("the broker's rules forbid this topic; see the broker's log"))
        }
        K::InvalidRecord | K::UnsupportedVersion | K::UnsupportedFeature | K::UnsupportedForMessageFormat => {
            (Kind::Definite, Code::SinkRefused, Some("gimbal needs brokers of version 2.5 or newer"))
        }
        _ => (Kind::Transient, Code::SinkUnreachable, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_property_is_named_but_its_value_is_not() {
        let error = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "Invalid value \"hunter2\"".into(),
            "sasl.mechanism".into(),
            "hunter2".into(),
        );
        let error = failure("connect", &error);
        assert!(error.to_string().contains("sasl.mechanism") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_fenced_producer_stops_and_a_lost_broker_is_retried() {
        assert_eq!(refine("commit", Some(K::ProducerFenced), "x").code(), Code::SinkFenced);
        assert_eq!(refine("commit", Some(K::ProducerFenced), "x").kind(), Kind::Definite);
        assert_eq!(refine("commit", Some(K::OperationTimedOut), "x").kind(), Kind::Transient);
    }
}
