//! Looking at the cluster: what is there, and what stands in the topic.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::class::{self, Class, Failure};
use crate::client::{self, LastError, Quiet};
use crate::{Config, Error};

/// How long one question to the cluster may take. Connecting goes on between questions, so a long link needs no more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The longest time limit for one answer: within it, 64 kbit/s carry nearly two megabytes, twice what a broker takes as a batch.
pub(crate) const LONGEST_ANSWER: Duration = Duration::from_secs(240);

/// At most so many bytes are asked for at a time, of all partitions together; a larger batch comes alone.
const FETCH: usize = 256 << 10;

/// A consumer without a group, for questions and for reading back.
pub(crate) struct TopicClient {
    pub(crate) consumer: BaseConsumer<Quiet>,
    last_error: Arc<LastError>,
    /// How long an answer may take before its connection is given up.
    pub(crate) answer_limit: Duration,
}

impl TopicClient {
    /// A client whose answers may take `answer_limit`.
    pub(crate) fn new(config: &Config, role: &str, answer_limit: Duration) -> Result<Self, Error> {
        Self::with(config, role, answer_limit, &[])
    }

    /// A client that mostly waits for news: it asks less often than librdkafka's twice a second, which a broker of a large fleet would feel.
    /// Other questions wait for the answer of a fetch on the same connection, so this stays below [`PATIENCE`].
    pub(crate) fn watching(config: &Config, role: &str) -> Result<Self, Error> {
        Self::with(config, role, Self::short_limit(config), &[("fetch.wait.max.ms", "1500")])
    }

    /// A client that follows a topic into which others write by transactions: what is not committed may never have been.
    pub(crate) fn following(config: &Config, role: &str) -> Result<Self, Error> {
        let own = [("fetch.wait.max.ms", "1500"), ("isolation.level", "read_committed"), ("enable.partition.eof", "false")];
        Self::with(config, role, Self::short_limit(config), &own)
    }

    fn with(config: &Config, role: &str, answer_limit: Duration, own: &[(&str, &str)]) -> Result<Self, Error> {
        let mut settings = client::settings(config, role)?;
        let last_error = Arc::new(LastError::default());
        settings
            // librdkafka asks for a name even where no group is joined and nothing committed.
            .set("group.id", format!("openfactory-edge-{}", config.edge_id))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // What an interrupted transaction of somebody else holds back must not hide our own records.
            .set("isolation.level", "read_uncommitted")
            .set("auto.offset.reset", "earliest")
            // librdkafka asks again, for ever, for what takes longer.
            .set("socket.timeout.ms", answer_limit.as_millis().to_string())
            // 64 kbit/s carry so much within the shortest of these limits.
            .set("fetch.max.bytes", FETCH.to_string())
            .set("message.max.bytes", FETCH.to_string())
            .set("fetch.message.max.bytes", (FETCH / 8).to_string())
            .set("queued.max.messages.kbytes", (16 << 10).to_string())
            .set("topic.metadata.refresh.interval.ms", "30000");
        for (key, value) in own {
            settings.set(*key, *value);
        }
        let consumer = settings.create_with_context(Quiet(last_error.clone())).map_err(Error::Client)?;
        Ok(Self { consumer, last_error, answer_limit })
    }

    /// The time limit to begin with: a connection that swallows everything is noticed so late.
    pub(crate) fn short_limit(config: &Config) -> Duration {
        (config.request_timeout * 6).clamp(PATIENCE * 3, LONGEST_ANSWER)
    }

    /// What to try when a batch did not come through within the limit.
    pub(crate) fn longer_limit(&self) -> Duration {
        (self.answer_limit * 2).min(LONGEST_ANSWER)
    }

    /// The topic's partitions. [`Class::Topic`] if there is no such topic.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Vec<i32>, Failure> {
        // What was said about an earlier question says nothing about this one.
        self.serve();
        let metadata = self.consumer.fetch_metadata(Some(topic), PATIENCE).map_err(|e| self.failure("Kafka cannot be asked", &e))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let missing = || Failure::new(Class::Topic, format!("the topic {topic} does not exist"));
        let found = found.ok_or_else(missing)?;
        if let Some(error) = found.error() {
            let code = Code::from(error);
            return Err(match class::of(code) {
                Class::Topic => missing(),
                class => Failure::new(class, format!("the topic {topic} cannot be looked at: {code}")),
            });
        }
        let mut partitions: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
        partitions.sort_unstable();
        if partitions.is_empty() { Err(missing()) } else { Ok(partitions) }
    }

    /// The cluster's id; `None` if it does not tell.
    pub(crate) fn cluster(&self) -> Option<String> {
        self.consumer.client().fetch_cluster_id(PATIENCE)
    }

    /// Each partition's end: the offset that its next record will get.
    pub(crate) fn ends(&self, topic: &str, partitions: &[i32]) -> Result<Vec<(i32, i64)>, Failure> {
        self.offsets(topic, partitions, |_| Offset::End)
    }

    /// Each partition's first offset that is still there.
    pub(crate) fn starts(&self, topic: &str, partitions: &[i32]) -> Result<Vec<(i32, i64)>, Failure> {
        self.offsets(topic, partitions, |_| Offset::Beginning)
    }

    /// Each partition's first offset whose record is not older than `millis`; its end if there is none.
    pub(crate) fn at_time(&self, topic: &str, partitions: &[i32], millis: i64) -> Result<Vec<(i32, i64)>, Failure> {
        let found = self.offsets(topic, partitions, |_| Offset::Offset(millis.max(0)))?;
        if found.iter().all(|(_, offset)| *offset >= 0) {
            return Ok(found);
        }
        let ends = self.ends(topic, partitions)?;
        let end_of = |partition| ends.iter().find(|(p, _)| *p == partition).map_or(0, |(_, end)| *end);
        Ok(found.into_iter().map(|(partition, offset)| (partition, if offset >= 0 { offset } else { end_of(partition) })).collect())
    }

    fn offsets(&self, topic: &str, partitions: &[i32], what: impl Fn(i32) -> Offset) -> Result<Vec<(i32, i64)>, Failure> {
        let failure = |e: KafkaError| self.failure("the topic's offsets cannot be asked for", &e);
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(topic, *partition, what(*partition)).map_err(failure)?;
        }
        let answer = self.consumer.offsets_for_times(list, PATIENCE * 2).map_err(failure)?;
        let mut offsets = Vec::with_capacity(partitions.len());
        for element in answer.elements() {
            element.error().map_err(failure)?;
            offsets.push((element.partition(), element.offset().to_raw().unwrap_or(-1)));
        }
        Ok(offsets)
    }

    pub(crate) fn failure(&self, what: &str, error: &KafkaError) -> Failure {
        self.serve();
        Failure::of_call(what, error, &self.last_error)
    }

    /// Lets the client tell what it has to tell. Only for a consumer without assignment: a record would be lost.
    fn serve(&self) {
        if self.consumer.assignment().is_ok_and(|assigned| assigned.count() == 0) {
            for _ in 0..16 {
                if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                    tracing::debug!(target: "librdkafka", error = %error, "while idle");
                }
            }
        }
    }
}
