//! Creating topics, and asking what they take.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};

use crate::Config;
use crate::class::{self, Failure};
use crate::client::{self, Quiet, drop_aside};

/// Creating a topic may take a cluster that long.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is good to know, but not needed.
const SHORT: Duration = Duration::from_secs(2);

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

/// A setting of the topic, e.g. `max.message.bytes`; `None` if we may not know.
pub(crate) fn setting<T: FromStr>(config: &Config, topic: &str, name: &str) -> Option<T> {
    let resource = ResourceSpecifier::Topic(topic);
    let results = ask(config, SHORT, async |admin| admin.describe_configs([&resource], &options(SHORT)).await).ok()?;
    results.into_iter().next()?.ok()?.get(name)?.value.as_ref()?.parse().ok()
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
