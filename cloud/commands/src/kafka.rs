//! What our Kafka clients have in common, and the settings that promises rest on.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tracing::debug;

use crate::Error;
use crate::config::{Commands, Start};

/// How long one question may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Readers of the topic of commands wait so long, at most, for a copier that was killed and does not come back.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// librdkafka tells each failed connection again and again; what matters of it comes as an error, too.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

fn client(kafka: &service::kafka::Config, name: &str) -> Result<ClientConfig, Error> {
    let mut client = kafka.client().map_err(Error::KafkaConfig)?;
    client.set("client.id", format!("openfactory-commands-{name}")).set("allow.auto.create.topics", "false");
    // A connection that gives no answer for so long is replaced: a firewall may have forgotten it.
    client.set("socket.timeout.ms", "20000");
    Ok(client)
}

/// Of the copier's consumer. Eager on purpose: when partitions move, all of them do, and begin where they are committed.
pub(crate) fn copying(kafka: &service::kafka::Config, commands: &Commands) -> Result<ClientConfig, Error> {
    let mut settings = client(kafka, "copier")?;
    kafka.apply_overrides(&mut settings);
    settings
        .set("group.id", &commands.group)
        .set("group.instance.id", commands.instance())
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1000")
        .set("isolation.level", "read_committed")
        .set(
            "auto.offset.reset",
            match commands.start {
                Start::Earliest => "earliest",
                Start::Latest => "latest",
            },
        )
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("topic.metadata.refresh.interval.ms", "5000")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "200")
        // For each partition: what is fetched ahead.
        .set("queued.max.messages.kbytes", "4096")
        .set("statistics.interval.ms", "1000");
    Ok(settings)
}

/// Of the copier's producer.
pub(crate) fn transactions(kafka: &service::kafka::Config, commands: &Commands) -> Result<ClientConfig, Error> {
    let mut settings = client(kafka, "copies")?;
    kafka.apply_overrides(&mut settings);
    written(&mut settings);
    settings
        .set("transactional.id", format!("{}-{}", commands.group, commands.instance()))
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
        // librdkafka asks for no more than that.
        .set("socket.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
    Ok(settings)
}

/// Of the producer of commands. `timeout`: how long Kafka may take to acknowledge one.
pub(crate) fn sending(kafka: &service::kafka::Config, timeout: Duration) -> Result<ClientConfig, Error> {
    let mut settings = client(kafka, "sender")?;
    kafka.apply_overrides(&mut settings);
    written(&mut settings);
    settings.set("message.timeout.ms", timeout.as_millis().to_string());
    Ok(settings)
}

fn written(settings: &mut ClientConfig) {
    settings
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        // How large a command may be is for the broker to say.
        .set("message.max.bytes", "1000000000")
        // It judges the size of a whole batch: a large command must not take its neighbours with it.
        .set("batch.num.messages", "1");
}

/// Of the consumer that follows what becomes of commands. It joins no group, and commits nothing.
pub(crate) fn following(kafka: &service::kafka::Config) -> Result<ClientConfig, Error> {
    let mut settings = client(kafka, "follower")?;
    kafka.apply_overrides(&mut settings);
    settings
        // librdkafka asks for a name even where no group is joined.
        .set("group.id", "openfactory-commands-follower")
        .set("isolation.level", "read_committed")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("auto.offset.reset", "latest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "4096");
    Ok(settings)
}

/// Whether Kafka refuses this record, whenever it is written: it stops nothing else.
pub(crate) fn is_about_the_record(error: &KafkaError) -> bool {
    let codes = [Code::MessageSizeTooLarge, Code::InvalidTimestamp, Code::InvalidRecord, Code::InvalidMessage, Code::PolicyViolation];
    error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}
