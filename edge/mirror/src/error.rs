//! Why a mirror cannot be started. What goes wrong later is state ([`crate::Status`]), not an error: the mirror goes on trying.

/// The mirror could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The brokers' section cannot be used, or overrides what a promise rests on.
    #[error("the brokers' settings cannot be used")]
    Kafka(#[source] service::kafka::Error),
    /// librdkafka refuses a setting.
    #[error("librdkafka refuses its settings: see kafka.overrides")]
    Client(#[source] rdkafka::error::KafkaError),
    /// A value cannot work.
    #[error("{key} {problem}")]
    Config {
        /// The field of [`crate::Config`].
        key: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The system gave no thread.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
}
