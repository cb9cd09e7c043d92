//! The two topics: whether they are there, and making that of the commands.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use service::error::chain;
use tracing::info;

use crate::config::{Commands, CreateTopic};
use crate::kafka::{PATIENCE, Quiet};

/// Creating a topic may take a busy cluster that long.
const CREATION: Duration = Duration::from_secs(10);

/// The number of a topic's partitions; 0 if it is not there.
pub(crate) fn partitions<C: rdkafka::ClientContext>(client: &Client<C>, topic: &str) -> Result<i32, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), PATIENCE)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(0) };
    match found.error().map(Code::from) {
        None | Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}

/// Looks for both topics, and makes the one of the commands if it may. The error is a sentence for people.
pub(crate) fn ready(kafka: &service::kafka::Config, commands: &Commands) -> Result<(), String> {
    let unreachable = |error: KafkaError| match error.rdkafka_error_code() {
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve) => {
            "Kafka: no broker answers".to_owned()
        }
        _ => format!("Kafka: {}", chain(&error)),
    };
    let settings = kafka.client().map_err(|error| chain(&error))?;
    let admin: AdminClient<Quiet> = settings.create_with_context(Quiet).map_err(unreachable)?;
    let of = |topic: &str| partitions(admin.inner(), topic).map_err(unreachable);
    let (assets, topic) = (&commands.assets_topic, &commands.commands_topic);
    let of_assets = of(assets)?;
    if of_assets == 0 {
        return Err(format!("Kafka: the asset stream {assets} does not exist yet, or is closed to us"));
    }
    if of(topic)? > 0 {
        return Ok(());
    }
    match &commands.create_topic {
        Some(CreateTopic { replication_factor }) => create(&admin, topic, of_assets, *replication_factor),
        None => Err(missing(kafka, topic, of_assets)),
    }
}

fn missing(kafka: &service::kafka::Config, topic: &str, partitions: i32) -> String {
    let brokers = kafka.brokers.join(",");
    format!(
        "Kafka: the topic {topic} does not exist, or is closed to us; create it (kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} \
         --partitions {partitions} --replication-factor 3; fewer copies where there are fewer brokers), or set [commands.create_topic]"
    )
}

fn create(admin: &AdminClient<Quiet>, topic: &str, partitions: i32, replication: i32) -> Result<(), String> {
    let failed = |what: String| format!("Kafka: the topic {topic} cannot be created: {what}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| failed(error.to_string()))?;
    let options = AdminOptions::new().request_timeout(Some(CREATION)).operation_timeout(Some(CREATION));
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
    let results = runtime.block_on(admin.create_topics(&[new], &options)).map_err(|error| failed(chain(&error)))?;
    for result in results {
        match result {
            Ok(_) => info!(topic, partitions, replication, "topic created"),
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(failed(code.to_string())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn a_missing_topic_is_told_with_the_command_that_makes_it() {
        let told = missing(&service::kafka::Config::plain("kafka:9092"), "ofa_cmds", 12);
        let command = "kafka-topics.sh --bootstrap-server kafka:9092 --create --topic ofa_cmds --partitions 12 --replication-factor 3";
        assert!(told.contains(command) && told.contains("[commands.create_topic]"), "{told}");
    }
}
