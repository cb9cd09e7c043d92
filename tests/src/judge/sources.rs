//! Where the judge's records come from: Kafka, a JetStream stream, a plain subscriber's recording.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Headers as _;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::{Judge, Message, Record, Side};
use crate::nats::Received;

/// Reads a topic from its beginning; goes on where it stopped.
pub struct Topic {
    consumer: BaseConsumer,
    name: String,
    partitions: Vec<Partition>,
}

struct Partition {
    id: i32,
    /// The offset after the last record that was read.
    next: i64,
    /// The client met the end after that record.
    is_at_end: bool,
}

impl Topic {
    /// All partitions of `topic`, from their beginning.
    pub fn open(bootstrap: &str, topic: &str) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            // Of no consequence: nothing is committed.
            .set("group.id", "openfactory-judge")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).context("cannot ask Kafka for the topic")?;
        let ids = metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
        let partitions: Vec<Partition> = ids.map(|id| Partition { id, next: 0, is_at_end: false }).collect();
        ensure!(!partitions.is_empty(), "there is no topic {topic}");
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition_offset(topic, partition.id, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Self { consumer, name: topic.to_owned(), partitions })
    }

    /// Gives all records up to the present end of each partition to `take`; returns how many those were. Others may go on writing.
    pub fn read_to_end(&mut self, max: Duration, mut take: impl FnMut(&Record)) -> anyhow::Result<u64> {
        let deadline = Instant::now() + max;
        let mut ends = BTreeMap::new();
        for Partition { id, .. } in &self.partitions {
            let (first, end) =
                self.consumer.fetch_watermarks(&self.name, *id, Duration::from_secs(10)).context("cannot ask Kafka for the topic's end")?;
            // Nothing is there, or not any more.
            ends.insert(*id, if first == end { 0 } else { end });
        }
        let mut count = 0;
        let mut is_quiet = false;
        // A transaction's marker at the end is no record: there, the client's word counts, once nothing comes any more.
        while self.partitions.iter().any(|partition| partition.next < ends[&partition.id] && !(is_quiet && partition.is_at_end)) {
            ensure!(Instant::now() < deadline, "Kafka did not give the whole topic within {max:?}: {count} records so far, up to {ends:?}");
            let polled = self.consumer.poll(Duration::from_millis(200));
            is_quiet = polled.is_none();
            match polled {
                Some(Ok(message)) => {
                    let mut headers = BTreeMap::new();
                    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
                        headers.insert(header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned());
                    }
                    if let Some(partition) = self.partitions.iter_mut().find(|partition| partition.id == message.partition()) {
                        partition.next = message.offset() + 1;
                        partition.is_at_end = false;
                    }
                    count += 1;
                    take(&Record {
                        partition: message.partition(),
                        offset: message.offset(),
                        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                        headers,
                        value: message.payload().unwrap_or_default().to_vec(),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(id))) => {
                    if let Some(partition) = self.partitions.iter_mut().find(|partition| partition.id == id) {
                        partition.is_at_end = true;
                    }
                }
                // The client connects anew by itself; and None: nothing came for a moment.
                Some(Err(_)) | None => {}
            }
        }
        Ok(count)
    }
}

/// Reads Kafka until every tag's last value has come, or `max` is over: what is not there then is missing.
pub fn follow_kafka(judge: &mut Judge, topic: &mut Topic, max: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + max;
    loop {
        topic.read_to_end(max, |record| judge.kafka(record))?;
        if judge.outstanding() == 0 || Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Reads the JetStream stream that keeps `ofa.>` until everything of Kafka has come, or `max` is over.
pub fn follow_jetstream(judge: &mut Judge, url: &str, max: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = async_nats::connect(url).await.with_context(|| format!("cannot connect to {url}"))?;
        judge.listens(Side::JetStream);
        let jetstream = async_nats::jetstream::new(client);
        let name = jetstream.stream_by_subject("ofa.>").await.context("no JetStream stream keeps ofa.>")?;
        let stream = jetstream.get_stream(name).await?;
        let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
        let mut messages = stream.create_consumer(config).await?.messages().await?;
        let deadline = tokio::time::Instant::now() + max;
        while let Ok(Some(message)) = tokio::time::timeout_at(deadline, messages.next()).await {
            let message = message?;
            let info = message.info().map_err(|error| anyhow::anyhow!("JetStream does not say where a message stands: {error}"))?;
            let (pending, stored) = (info.pending, info.published.unix_timestamp_nanos() / 1_000_000);
            let received = Received::of(&message.message, "ofa.");
            judge.nats(Side::JetStream, &Message { at: i64::try_from(stored)?, ..received.into() });
            // All that is there, and nothing more is expected.
            if pending == 0 && judge.unserved(Side::JetStream) == 0 {
                break;
            }
        }
        Ok(())
    })
}

impl From<Received> for Message {
    fn from(Received { subject, headers, payload, at }: Received) -> Self {
        Self { subject, headers, payload, at }
    }
}
