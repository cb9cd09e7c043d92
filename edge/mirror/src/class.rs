//! What an error means for the mirror, and what failed in words.

use crate::client::LastError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Who is to blame, and so what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// This record is refused, whenever it is sent.
    Record,
    /// This record is refused with this record time.
    Time,
    /// Another record of its batch was refused; this one was not looked at.
    Neighbour,
    /// We are not allowed to.
    Denied,
    /// The topic is not there.
    Topic,
    /// Record after record is refused: that is not the records' fault. Never a single report's meaning.
    Refusals,
    /// The log is an older copy. Never a report's meaning.
    Outdated,
    /// A cluster that can be connected to gives no answer within the time limit. Never a report's meaning.
    Stalled,
    /// Anything else: build up everything anew, and try again.
    Transient,
}

/// What a delivery report's error means.
pub(crate) fn of(code: Code) -> Class {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize | Code::InvalidRecord => Class::Record,
        Code::InvalidTimestamp => Class::Time,
        Code::InvalidDifferentRecord => Class::Neighbour,
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL
        | Code::PolicyViolation
        | Code::Authentication => Class::Denied,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::InvalidTopic => Class::Topic,
        _ => Class::Transient,
    }
}

/// True for refusals that follow from the record's size alone.
pub(crate) fn is_about_size(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize)
}

/// What a failed call means.
pub(crate) fn of_error(error: &KafkaError) -> Class {
    error.rdkafka_error_code().map_or(Class::Transient, of)
}

/// Something failed; what it means, and in words.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    pub(crate) text: String,
    /// The client told the reason beside the call, which it does once, however often the call fails.
    pub(crate) has_reason: bool,
}

impl Failure {
    pub(crate) fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, text: text.into(), has_reason: false }
    }

    /// A failed call; the reason is often only in what the client said beside it.
    pub(crate) fn of_call(what: &str, error: &KafkaError, last_error: &LastError) -> Self {
        match last_error.take() {
            Some((class, reason)) => Self { has_reason: true, ..Self::new(class, format!("{what}: {reason}")) },
            None => Self::new(of_error(error), format!("{what}: {}", in_words(error))),
        }
    }
}

/// The error, for people who do not know the client's own words for it.
fn in_words(error: &KafkaError) -> String {
    let words = match error.rdkafka_error_code() {
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown) => "no broker can be reached, or what answers there is no broker",
        Some(Code::UnsupportedFeature) => "what answers there is no broker, but perhaps a controller: is the port right?",
        Some(Code::OperationTimedOut) => "there is no answer in time",
        _ => return error.to_string(),
    };
    words.to_owned()
}
