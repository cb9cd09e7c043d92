//! Creating topics, and asking what they take.

use std::future::Future;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataBroker;
use tracing::debug;

use crate::Config;
use crate::class::{self, Failure};
use crate::client::{self, Quiet, drop_aside};
use crate::topic_client;

/// Creating a topic, or looking up settings, may take a busy cluster that long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Creates a topic; one that exists by now is fine.
pub(crate) fn create(config: &Config, topic: &str, partitions: i32, replication: i32, settings: &[(&str, &str)]) -> Result<(), Failure> {
    let failed = |what: String, code: Code| Failure::new(class::of(code), format!("the topic {topic} cannot be created: {what}"));
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let results = ask(config, PATIENCE, async |admin| admin.create_topics(&[new], &options(PATIENCE)).await)?;
    for result in results {
        match result {
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(failed(code.to_string(), code)),
        }
    }
    Ok(())
}

/// What the settings of topic and brokers allow: Kafka's defaults where we may not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The largest batch that it takes, in bytes.
    pub(crate) max_message: usize,
    /// Records whose time is older than so long, in ms, may be deleted at any moment; `None`: they are kept for ever, or by another time.
    pub(crate) retention: Option<i64>,
    /// Brokers forget a producer whose last record's time is older than this.
    pub(crate) producer_expiration: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: 1_048_588, retention: Some(7 * 24 * 3_600_000), producer_expiration: Duration::from_secs(24 * 3600) }
    }
}

/// Asks for the settings. Those that we may not see, and those that these brokers do not tell, keep their defaults. No answer is an error: with a
/// retention that is longer than the topic's, events would be deleted as soon as they arrive.
pub(crate) fn limits(config: &Config, topic: &str) -> Result<Limits, Failure> {
    let answers = ask(config, PATIENCE, async |admin| {
        // Any broker but the one that answers: a connection that knows its address alone has no id.
        let broker = admin.inner().fetch_metadata(Some(topic), topic_client::PATIENCE)?.brokers().first().map_or(0, MetadataBroker::id);
        let resources = [ResourceSpecifier::Topic(topic), ResourceSpecifier::Broker(broker)];
        match admin.describe_configs(&resources, &options(PATIENCE)).await {
            Err(KafkaError::AdminOp(code)) => Ok(vec![Err(code)]),
            answers => answers,
        }
    })?;
    let mut limits = Limits::default();
    for answer in answers {
        match answer {
            Ok(settings) => limits.heed(&settings),
            Err(code) if is_passing(code) => {
                return Err(Failure::new(class::of(code), format!("Kafka does not tell the settings of the topic {topic}: {code}")));
            }
            Err(code) => debug!(topic, "Kafka does not tell its settings, its defaults are assumed: {code}"),
        }
    }
    Ok(limits)
}

/// True for what is no refusal: asked again, it may be answered.
fn is_passing(code: Code) -> bool {
    use Code::{
        AllBrokersDown, BrokerNotAvailable, BrokerTransportFailure, CoordinatorLoadInProgress, LeaderNotAvailable, NetworkException,
        OperationTimedOut, RequestTimedOut, Resolve, UnknownTopicOrPartition,
    };
    matches!(
        code,
        AllBrokersDown
            | BrokerNotAvailable
            | BrokerTransportFailure
            | CoordinatorLoadInProgress
            | LeaderNotAvailable
            | NetworkException
            | OperationTimedOut
            | RequestTimedOut
            | Resolve
            | UnknownTopicOrPartition
    )
}

impl Limits {
    fn heed(&mut self, settings: &ConfigResource) {
        let setting = |name: &str| settings.get(name).and_then(|entry| entry.value.as_deref());
        match settings.specifier {
            OwnedResourceSpecifier::Topic(_) => self.of_topic(setting),
            _ => self.of_broker(setting),
        }
    }

    fn of_topic<'s>(&mut self, setting: impl Fn(&str) -> Option<&'s str>) {
        if let Some(bytes) = setting("max.message.bytes").and_then(|value| value.parse().ok()) {
            self.max_message = bytes;
        }
        let deletes = setting("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
        let by_our_time = setting("message.timestamp.type").is_none_or(|time| time == "CreateTime");
        if let Some(millis) = setting("retention.ms").and_then(|value| value.parse().ok()) {
            self.retention = (deletes && by_our_time && millis >= 0).then_some(millis);
        }
    }

    fn of_broker<'s>(&mut self, setting: impl Fn(&str) -> Option<&'s str>) {
        if let Some(millis) = setting("producer.id.expiration.ms").and_then(|value| value.parse().ok()) {
            self.producer_expiration = Duration::from_millis(millis);
        }
    }
}

fn options(patience: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience))
}

fn ask<T, F>(config: &Config, patience: Duration, question: F) -> Result<T, Failure>
where
    F: AsyncFnOnce(&AdminClient<Quiet>) -> KafkaResult<T>,
{
    let failed = |text: String| Failure::new(class::Class::Transient, text);
    let settings = client::settings(config, "admin").map_err(|e| failed(e.to_string()))?;
    let admin: AdminClient<Quiet> = settings.create_with_context(Quiet::default()).map_err(|e| failed(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| failed(e.to_string()))?;
    let answer = runtime.block_on(limited(patience + Duration::from_secs(1), question(&admin)));
    drop_aside(admin, Duration::from_secs(1));
    match answer {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(Failure::new(class::of_error(&error), format!("Kafka cannot be asked: {error}"))),
        None => Err(failed("Kafka does not answer".into())),
    }
}

async fn limited<T>(patience: Duration, answer: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(patience, answer).await.ok()
}
