//! Topics, as an operator makes and deletes them.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use std::time::Duration;

use crate::wait::{self, Look};

/// Leaves the number of copies to the brokers (`default.replication.factor`).
const AS_THE_BROKERS_HAVE_IT: TopicReplication<'static> = TopicReplication::Fixed(-1);

/// Makes a topic on `bootstrap`; `config` as Kafka names it.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) -> anyhow::Result<()> {
    create(bootstrap, NewTopic::new(topic, partitions, AS_THE_BROKERS_HAVE_IT), config)
}

/// Makes a topic whose partitions stand on these nodes, the first of each its preferred leader.
pub fn create_topic_on(bootstrap: &str, topic: &str, partitions: &[&[i32]], config: &[(&str, &str)]) -> anyhow::Result<()> {
    create(bootstrap, NewTopic::new(topic, i32::try_from(partitions.len())?, TopicReplication::Variable(partitions)), config)
}

/// Deletes a topic and waits until nobody knows it any more.
pub fn delete_topic(bootstrap: &str, topic: &str) -> anyhow::Result<()> {
    let results = runtime()?.block_on(admin(bootstrap)?.delete_topics(&[topic], &options()))?;
    for result in results {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot delete the topic {topic}: {code}"))?;
    }
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    wait::until(&format!("the topic {topic} is gone"), Duration::from_secs(30), || {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5))?;
        let is_gone = metadata.topics().iter().all(|topic| topic.error().is_some() || topic.partitions().is_empty());
        Ok(if is_gone { Look::Done(()) } else { Look::Waiting("it is there".into()) })
    })
}

/// Lets Kafka drop the first third of each partition's records, as its retention does.
pub fn drop_first_third(bootstrap: &str, topic: &str) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut dropped = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (first, end) = consumer.fetch_watermarks(topic, partition.id(), Duration::from_secs(10))?;
        dropped.add_partition_offset(topic, partition.id(), Offset::Offset(first + (end - first) / 3))?;
    }
    runtime()?.block_on(admin(bootstrap)?.delete_records(&dropped, &options()))?;
    Ok(())
}

fn create<'a>(bootstrap: &str, mut new: NewTopic<'a>, config: &[(&'a str, &'a str)]) -> anyhow::Result<()> {
    for (name, value) in config {
        new = new.set(name, value);
    }
    let results = runtime()?.block_on(admin(bootstrap)?.create_topics([&new], &options()))?;
    for result in results {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot make the topic {topic}: {code}"))?;
    }
    Ok(())
}

fn admin(bootstrap: &str) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", bootstrap).create()?)
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
