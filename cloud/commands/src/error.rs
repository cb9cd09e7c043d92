//! Why commands cannot be copied, sent or followed. Outages of Kafka and NATS are waited out by the service, and end a command of a person.

/// Something cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config cannot be used; (key, message) each.
    #[error("the config cannot be used: {}", .0.iter().map(|(key, message)| format!("{key}: {message}")).collect::<Vec<_>>().join("; "))]
    Config(Vec<(String, String)>),
    /// The `[kafka]` section cannot be used.
    #[error("the [kafka] section cannot be used")]
    KafkaConfig(#[source] service::kafka::Error),
    /// librdkafka refuses the settings.
    #[error("the Kafka {client} cannot be made from these settings")]
    KafkaClient {
        /// Which of our clients.
        client: &'static str,
        /// Why.
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// The topic is not there.
    #[error("there is no topic {topic}: is commands.assets_topic in the config the asset stream?")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// Kafka does not answer, or refuses.
    #[error("Kafka does not give the topic {topic}: are the brokers of [kafka] reachable, and may we read it?")]
    Unreachable {
        /// Its name.
        topic: String,
        /// Why.
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// Kafka has not acknowledged a command.
    #[error(
        "Kafka has not acknowledged the command, so it may stand in {topic} or not: `openfactory-cloud audit --asset …` shows it if it does"
    )]
    NotWritten {
        /// The asset stream.
        topic: String,
        /// Why.
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// More wait for what becomes of their commands than are followed.
    #[error("{limit} commands are waited for already, and more are not followed: this one was not written; ask again later")]
    TooMany {
        /// How many are.
        limit: usize,
    },
    /// Pages cannot be served.
    #[error(transparent)]
    Web(#[from] service::web::Error),
    /// The operating system gives no thread.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
    /// A bug of ours.
    #[error("a part of the service panicked; please report this")]
    Panicked,
}

impl Error {
    /// Whether the config is to blame.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_) | Self::KafkaConfig(_) | Self::KafkaClient { .. })
    }
}
