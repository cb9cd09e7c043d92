//! What the mirror needs to know.

use std::collections::BTreeMap;
use std::time::Duration;

use asset_stream::topics;

use crate::Error;

/// Properties of librdkafka on which the mirror's promises rest (decision 0003), by all their names.
const PROTECTED: [(&str, &str); 23] = {
    const ACKNOWLEDGED: &str = "the cursor passes an event when all in-sync brokers have it";
    const ONCE: &str = "without it, events stand twice or in another order";
    const FOREVER: &str = "an event is kept and tried until Kafka has it";
    const PREFIX: &str = "what follows a batch that failed would be sent before it is known what stands";
    const IN_FLIGHT: &str = "set mirror.max_in_flight, which knows its limits";
    const PLACE: &str = "all producers must put an asset's events into the same partition";
    const READ_BACK: &str = "reading back must see every record of the topic";
    [
        ("acks", ACKNOWLEDGED),
        ("request.required.acks", ACKNOWLEDGED),
        ("delivery.report.only.error", "the cursor moves by delivery reports"),
        ("enable.idempotence", ONCE),
        ("queuing.strategy", ONCE),
        ("enable.gapless.guarantee", PREFIX),
        ("max.in.flight", IN_FLIGHT),
        ("max.in.flight.requests.per.connection", IN_FLIGHT),
        ("message.timeout.ms", FOREVER),
        ("delivery.timeout.ms", FOREVER),
        ("retries", FOREVER),
        ("message.send.max.retries", FOREVER),
        ("request.timeout.ms", "after a doubt the mirror waits as long before it trusts what it reads back"),
        ("transactional.id", "an edge that loses its link within a transaction would stop all readers of the topic"),
        ("partitioner", PLACE),
        ("queue.buffering.max.messages", "set mirror.window"),
        ("queue.buffering.max.kbytes", "set mirror.window_size"),
        ("message.max.bytes", "a smaller one would turn events into gaps that Kafka takes"),
        ("allow.auto.create.topics", "a missing topic is made by mirror.create_topics, or by a person"),
        ("isolation.level", READ_BACK),
        ("auto.offset.reset", READ_BACK),
        ("enable.partition.eof", READ_BACK),
        ("group.id", "the mirror joins no group"),
    ]
};

/// Everything that can be set. [`Config::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach the brokers.
    pub kafka: service::kafka::Config,
    /// Names this edge in the header `of-edge` and in `ofa_edges`.
    pub edge_id: String,
    /// UUID of the edge's own asset, which tells what happens to the topic.
    pub edge_asset: String,
    /// Where events go.
    pub assets_topic: String,
    /// Where edges announce themselves.
    pub edges_topic: String,
    /// What to do about a topic that is missing.
    pub create_topics: CreateTopics,
    /// At most so many events are handed over and not yet acknowledged.
    pub window: usize,
    /// At most so many bytes of events are handed over and not yet acknowledged. librdkafka needs about 600 bytes an event beside them.
    pub window_bytes: usize,
    /// At most so many events a second; absent: as many as Kafka takes.
    pub rate: Option<u32>,
    /// How batches are compressed: a codec that librdkafka knows (`zstd`, `lz4`, `gzip`, `none`).
    pub compression: String,
    /// How long an event may wait for others to share its batch.
    pub linger: Duration,
    /// Requests under way to one broker. More than one hides the round trip of a long link, at the price described in decision 0003.
    pub max_in_flight: u8,
    /// The largest record that is tried at all, in bytes. What the topic itself allows is asked from the broker.
    pub max_record_bytes: usize,
    /// How long a broker may take for a request; after doubt, the mirror waits as long before it trusts what it reads back.
    pub request_timeout: Duration,
    /// After so long without any answer, brokers may have forgotten the producer: doubt. At most half of their `producer.id.expiration.ms`
    /// (a day, if they do not tell) is waited for.
    pub producer_memory: Duration,
    /// At most so many bytes are read back to settle one doubt; beyond, events in doubt are sent again, marked.
    pub doubt_limit_bytes: u64,
    /// What to do when the topic is not what it was: other cluster, made anew, cut back.
    pub on_changed_topic: OnChangedTopic,
    /// How often the cursor is kept, at most.
    pub keep_every: Duration,
    /// How often the edge announces itself.
    pub announce_every: Duration,
}

/// What to do about a topic that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateTopics {
    /// Wait for somebody to create it; the status says how.
    Never,
    /// Create it.
    Create {
        /// Partitions of the asset stream. They cannot change later without breaking each asset's order in Kafka.
        partitions: i32,
        /// Copies of each partition.
        replication: i32,
        /// Further settings of the asset stream's topic, e.g. `retention.ms`.
        settings: BTreeMap<String, String>,
    },
}

/// What to do when the topic is not what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnChangedTopic {
    /// Go on with the first event that was not acknowledged.
    #[default]
    Continue,
    /// Send again whatever the log still has and the topic has not.
    ResendRetained,
}

impl OnChangedTopic {
    /// The word for configs, logs and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::ResendRetained => "resend_retained",
        }
    }
}

impl Config {
    /// The defaults.
    pub fn new(kafka: service::kafka::Config, edge_id: impl Into<String>) -> Self {
        let edge_id = edge_id.into();
        Self {
            kafka,
            edge_asset: edge_id.to_uppercase(),
            edge_id,
            assets_topic: topics::ASSETS.into(),
            edges_topic: topics::EDGES.into(),
            create_topics: CreateTopics::Never,
            window: 50_000,
            window_bytes: 32 << 20,
            rate: None,
            compression: "zstd".into(),
            linger: Duration::from_millis(5),
            max_in_flight: 1,
            max_record_bytes: 8 << 20,
            request_timeout: Duration::from_secs(10),
            producer_memory: Duration::from_secs(12 * 3600),
            doubt_limit_bytes: 512 << 20,
            on_changed_topic: OnChangedTopic::Continue,
            keep_every: Duration::from_millis(250),
            announce_every: Duration::from_secs(30),
        }
    }

    /// Finds what cannot work before anything is started.
    ///
    /// # Errors
    /// The first of [`Self::problems`].
    pub fn check(&self) -> Result<(), Error> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// [`Self::check`], and makes the producer without connecting: librdkafka reads certificates and refuses what it does not know only then.
    ///
    /// # Errors
    /// What no waiting can cure.
    pub fn try_out(&self, epoch: u64) -> Result<(), Error> {
        self.check()?;
        crate::producer::Producer::start(self, crate::worker::ROLE, epoch, crate::worker::BATCH, self.linger)?.end(Duration::ZERO);
        Ok(())
    }

    /// Everything that cannot work.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, key, problem| {
            if !holds {
                problems.push(Error::Config { key, problem });
            }
        };
        expect(!self.edge_id.is_empty(), "edge_id", "is empty");
        for (key, topic) in [("assets_topic", &self.assets_topic), ("edges_topic", &self.edges_topic)] {
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            let is_name = (1..=249).contains(&topic.len()) && topic.bytes().all(legal);
            expect(is_name, key, "is no name that Kafka takes: 1 to 249 letters, digits, dots, underscores, hyphens");
        }
        expect((1..=10_000_000).contains(&self.window), "window", "must be 1 to 10000000 events");
        expect((1 << 10..=1 << 30).contains(&self.window_bytes), "window_bytes", "must be 1 KiB to 1 GiB");
        expect(self.rate != Some(0), "rate", "must be at least 1 event a second; leave it out for no limit");
        expect((1..=5).contains(&self.max_in_flight), "max_in_flight", "must be 1 to 5: an idempotent producer knows no more");
        expect((1_000..=1_000_000_000).contains(&self.max_record_bytes), "max_record_bytes", "must be 1000 to 1000000000 bytes");
        let timeouts = Duration::from_millis(100)..=Duration::from_secs(900);
        expect(timeouts.contains(&self.request_timeout), "request_timeout", "must be 100 ms to 15 min");
        problems.extend(self.kafka.protect(&PROTECTED).map_err(Error::Kafka).err());
        problems
    }

    /// That the topic of commands is missing, which others make.
    pub(crate) fn missing_commands(&self, topic: &str) -> String {
        let (brokers, assets) = (self.kafka.brokers.join(","), &self.assets_topic);
        format!(
            "the topic {topic} does not exist; create it with as many partitions as {assets} has (kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions 12 --replication-factor 3), or let openfactory-cloud commands do it"
        )
    }

    /// That a topic is missing, with the command that makes it.
    pub(crate) fn missing(&self, topic: &str) -> String {
        let brokers = self.kafka.brokers.join(",");
        let settings = if topic == self.edges_topic { " --config cleanup.policy=compact" } else { "" };
        let command = format!(
            "kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions 12 --replication-factor 3{settings}"
        );
        format!(
            "the topic {topic} does not exist and may not be created from here; create it ({command}; fewer copies where there are fewer brokers), or set [mirror.create_topics]"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn overrides_that_would_break_a_promise_are_refused_by_each_of_their_names() {
        let mut config = Config::new(service::kafka::Config::plain("kafka:9092"), "EDGE-1");
        config.check().expect("the defaults are valid");
        for property in ["enable.idempotence", "request.timeout.ms", "max.in.flight", "max.in.flight.requests.per.connection"] {
            config.kafka.overrides = [(property.into(), "5".into())].into();
            let error = service::error::chain(&config.check().expect_err("promises rest on it"));
            assert!(error.contains(&format!("kafka.overrides: {property} cannot be overridden")), "{error}");
        }
    }
}
