//! Why a forwarder cannot start, or had to stop. Outages of Kafka and NATS are none of these: they are waited out.

/// A forwarder cannot work.
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
    /// Another forwarder uses this one's name.
    #[error(
        "another forwarder joined the group {group:?} as {instance:?}, so this one was shut out: give each its own forward.instance (the default is the host's name)"
    )]
    Fenced {
        /// The consumer group.
        group: String,
        /// The name that both use.
        instance: String,
    },
    /// Kafka ended the consumer for good.
    #[error("Kafka refuses this consumer for good")]
    KafkaFatal(#[source] rdkafka::error::KafkaError),
    /// librdkafka broke its own promise; starting again restores it.
    #[error("{topic}/{partition}: the record at {offset} came after later ones; starting again from the last commit")]
    Disordered {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
    },
    /// All places in the topic are worth nothing; starting again begins with its first record.
    #[error("the topic {topic} was deleted and made anew; starting again from its beginning")]
    MadeAnew {
        /// The topic.
        topic: String,
    },
    /// Pages cannot be served.
    #[error(transparent)]
    Web(#[from] service::web::Error),
    /// The operating system gives no thread.
    #[error("the thread of the Kafka consumer could not be started")]
    Thread(#[source] std::io::Error),
    /// A bug of ours.
    #[error("a part of the forwarder panicked; please report this")]
    Panicked,
}

impl Error {
    /// `true` if starting again may help without a change of the config. A forwarder that was shut out must not come back by itself: it
    /// would shut the other one out in turn.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::KafkaFatal(_) | Self::Disordered { .. } | Self::MadeAnew { .. } | Self::Thread(_) | Self::Panicked | Self::Web(_)
        )
    }
}
