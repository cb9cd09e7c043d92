//! Where records go that cannot be forwarded: a topic of its own, so that the flow goes on and nothing is lost.

use std::time::Duration;

use asset_stream::Timestamp;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tracing::debug;

use crate::Error;
use crate::record::{Record, Time};

/// Header: the topic where the record stands.
pub const TOPIC: &str = "of-dead-topic";
/// Header: its partition.
pub const PARTITION: &str = "of-dead-partition";
/// Header: its offset.
pub const OFFSET: &str = "of-dead-offset";
/// Header: why it could not be forwarded, in plain words.
pub const REASON: &str = "of-dead-reason";

/// Writes dead letters, durably.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    producer: FutureProducer<Quiet>,
}

/// How much of a record goes into its dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of it.
    Whole,
    /// Where it stands and why, no more: the whole is larger than the dead-letter topic takes.
    Note,
}

/// librdkafka tells each failed connection again and again; the consumer says once, in plain words, that Kafka is away.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka, dead letters");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka, dead letters");
    }
}

impl DeadLetters {
    pub(crate) fn new(kafka: &service::kafka::Config) -> Result<Self, Error> {
        let mut config = kafka.client().map_err(Error::KafkaConfig)?;
        config
            .set("client.id", "openfactory-forwarder-dead-letters")
            // A letter that stands there twice harms nobody, so nothing is asked of the brokers before the first one.
            .set("acks", "all")
            // Kafka's absence is waited out here, not answered with an error.
            .set("message.timeout.ms", "0")
            .set("queue.buffering.max.kbytes", "65536")
            // How large a letter may be is for the broker to say.
            .set("message.max.bytes", "1000000000")
            // The broker judges the size of a whole batch: a large letter must not take its neighbours with it.
            .set("batch.num.messages", "1")
            .set("linger.ms", "0");
        kafka.apply_overrides(&mut config);
        let producer =
            config.create_with_context(Quiet).map_err(|source| Error::KafkaClient { client: "producer of dead letters", source })?;
        Ok(Self { producer })
    }

    /// Hands the record over; resolves when Kafka holds it on all replicas in sync.
    pub(crate) fn write(&self, topic: &str, record: &Record, form: Form, reason: &str) -> BoxFuture<'static, Result<(), KafkaError>> {
        let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len() + 4);
        if form == Form::Whole {
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
        }
        for (key, value) in [(TOPIC, &*record.topic), (PARTITION, &*partition), (OFFSET, &*offset), (REASON, reason)] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut letter: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).headers(headers);
        if form == Form::Whole {
            letter.key = record.key.as_deref();
            letter.payload = record.value.as_deref();
        }
        letter.timestamp = match record.time {
            Time::None => None,
            // Brokers refuse what lies in the future, each topic with a limit of its own.
            Time::Producer(millis) | Time::Broker(millis) => Some(millis.min(Timestamp::now().millis())),
        };
        match self.producer.send_result(letter) {
            Ok(delivery) => delivery
                .map_err(|_| KafkaError::Canceled)
                .and_then(|delivered| async { delivered.map(drop).map_err(|(error, _)| error) })
                .boxed(),
            Err((error, _)) => async move {
                // The producer's queue is full: the caller tries again after this.
                tokio::time::sleep(Duration::from_millis(200)).await;
                Err(error)
            }
            .boxed(),
        }
    }
}
