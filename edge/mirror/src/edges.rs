//! `ofa_edges`: the edge announces itself, and sees who else uses its id.
//!
//! A thread of its own: what happens here never holds up the mirror. At the same pace it asks for the asset topic's ends ([`crate::ends`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use edge_buffer::Log;
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tracing::{debug, error, info};

use crate::class::{Class, Failure};
use crate::client::{self, Quiet, drop_aside};
use crate::ends::Ends;
use crate::shared::Shared;
use crate::status::State;
use crate::times::Times;
use crate::topic_client::TopicClient;
use crate::{Config, CreateTopics, admin};

/// How often the thread looks around.
const TURN: Duration = Duration::from_millis(200);

/// What an edge tells about itself; the record's key is its id. Unknown fields are left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// The edge's id.
    pub edge: String,
    /// One life of the process: another life has another one.
    pub instance: String,
    /// When this life began, Unix ms by the edge's clock.
    pub started: i64,
    /// When this was said, by the edge's clock, ISO 8601.
    pub at: String,
    /// The log's epoch.
    pub epoch: u64,
    /// The daemon's version.
    pub version: String,
    /// The host's name.
    pub host: String,
    /// The mirror's state, in a word.
    pub state: String,
    /// Durable events that Kafka has not acknowledged.
    pub backlog: u64,
    /// Record time of the oldest of them, ISO 8601.
    pub oldest_unsent: Option<String>,
    /// Events that Kafka acknowledged in this life.
    pub mirrored: u64,
    /// Every event of the epoch up to this sequence is in Kafka, or told as a gap.
    #[serde(default)]
    pub acknowledged: u64,
    /// How far the edge trusts its clock: `unknown`, `synchronised` or `free`.
    pub clock: String,
    /// Devices in the config.
    pub devices: u32,
    /// Of these, connected.
    pub connected: u32,
}

impl Announcement {
    /// Whether this process must give way to `other`: same id, another life, begun later. The same for both sides, whatever their clocks say.
    fn gives_way_to(&self, other: &Self) -> bool {
        self.edge == other.edge && self.instance != other.instance && (other.started, &other.instance) > (self.started, &self.instance)
    }
}

#[derive(Default)]
struct Delivered {
    quiet: Quiet,
    last: Mutex<Option<Result<(i32, i64), KafkaError>>>,
}

impl ClientContext for Delivered {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.quiet.error(error, reason);
    }
}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

/// The announcing thread's state.
pub(crate) struct Announcer {
    config: Arc<Config>,
    log: Log,
    shared: Arc<Shared>,
    instance: String,
    started: i64,
    has_complained: bool,
    has_topic: bool,
    is_watching: bool,
    times: Times,
    ends: Ends,
}

impl Announcer {
    pub(crate) fn new(config: Arc<Config>, log: Log, shared: Arc<Shared>) -> Self {
        let instance = instance();
        let started = Timestamp::now().millis();
        Self {
            config,
            log,
            shared,
            instance,
            started,
            has_complained: false,
            has_topic: false,
            is_watching: false,
            times: Times::default(),
            ends: Ends::default(),
        }
    }

    /// Runs until told to stop, or until a younger process shows up.
    pub(crate) fn run(mut self) {
        let (client, producer) = match (TopicClient::watching(&self.config, "edges"), self.producer()) {
            (Ok(client), Ok(producer)) => (client, producer),
            (Err(e), _) | (_, Err(e)) => {
                error!(error = service::error::chain(&e), "the edge cannot announce itself");
                return;
            }
        };
        let mut next = Instant::now();
        while !self.shared.is_stopping() && !self.shared.is_superseded() {
            // What a copy of the log is judged by must not be overwritten by the copy.
            if self.shared.is_current() && Instant::now() >= next {
                let outcome = self.announce(&client, &producer);
                // Until the first one went out, tries follow each other quickly: a twin must not go unnoticed for long.
                next = Instant::now() + if outcome.is_ok() { self.config.announce_every } else { self.config.announce_every / 10 };
                match outcome {
                    Ok(()) => self.has_complained = false,
                    Err(failure) => self.complain(&failure),
                }
                self.ends.ask(&self.config.assets_topic, &client, &self.shared);
            }
            if self.is_watching {
                self.watch(&client);
            } else {
                std::thread::sleep(TURN);
            }
        }
        drop_aside((client, producer), Duration::ZERO);
    }

    fn producer(&self) -> Result<BaseProducer<Delivered>, crate::Error> {
        let mut settings = client::settings(&self.config, "announce")?;
        settings
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", self.config.announce_every.as_millis().clamp(1000, 25_000).to_string())
            .set("queue.buffering.max.messages", "10")
            .set("linger.ms", "0");
        settings.create_with_context(Delivered::default()).map_err(crate::Error::Client)
    }

    fn announce(&mut self, client: &TopicClient, producer: &BaseProducer<Delivered>) -> Result<(), Failure> {
        let topic = self.config.edges_topic.as_str();
        if !self.has_topic {
            match client.partitions(topic) {
                Err(failure) if failure.class == Class::Topic => {
                    let CreateTopics::Create { partitions, replication, .. } = &self.config.create_topics else {
                        return Err(Failure::new(failure.class, self.config.missing(topic)));
                    };
                    // Each edge reads what others announce in its partition: with one, that grows with the square of the fleet.
                    admin::create(&self.config, topic, *partitions, *replication, &[("cleanup.policy", "compact")])?;
                    info!(topic, "topic created");
                }
                other => drop(other?),
            }
            self.has_topic = true;
        }
        let value = serde_json::to_vec(&self.announcement()).map_err(|e| Failure::new(Class::Transient, e.to_string()))?;
        let context = producer.client().context();
        let lock = || context.last.lock().unwrap_or_else(PoisonError::into_inner);
        *lock() = None;
        let failed = |e: &KafkaError| Failure::new(crate::class::of_error(e), format!("announcing in {topic} failed: {e}"));
        let now = Timestamp::now().millis();
        let record = BaseRecord::to(topic).key(self.config.edge_id.as_bytes()).payload(&value[..]).timestamp(self.times.record_time(now));
        producer.send(record).map_err(|(e, _)| failed(&e))?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let delivered = loop {
            producer.poll(Duration::from_millis(20));
            if let Some(outcome) = lock().take() {
                break outcome;
            }
            if Instant::now() > deadline || self.shared.is_stopping() {
                return Err(Failure::new(Class::Transient, format!("announcing in {topic} failed: no answer")));
            }
        };
        let (partition, offset) = delivered.map_err(|e| {
            self.has_topic = false;
            if crate::class::of_error(&e) == Class::Time {
                self.times.learn([now].into_iter());
            }
            failed(&e)
        })?;
        if !self.is_watching {
            // All announcements of one id stand in one partition. What stands before our own first word is of the past.
            let mut place = TopicPartitionList::new();
            place.add_partition_offset(topic, partition, Offset::Offset(offset + 1)).map_err(|e| failed(&e))?;
            client.consumer.assign(&place).map_err(|e| failed(&e))?;
            self.is_watching = true;
        }
        Ok(())
    }

    fn announcement(&self) -> Announcement {
        let status = self.shared.status();
        let facts = self.shared.facts();
        Announcement {
            edge: self.config.edge_id.clone(),
            instance: self.instance.clone(),
            started: self.started,
            at: Timestamp::now().to_string(),
            epoch: self.log.epoch(),
            version: facts.version,
            host: facts.host,
            state: status.state.as_str().into(),
            backlog: status.backlog,
            oldest_unsent: status.oldest_unsent.map(|millis| Timestamp::from_millis(millis).to_string()),
            mirrored: status.mirrored,
            acknowledged: status.acknowledged,
            clock: facts.clock.as_str().into(),
            devices: facts.devices,
            connected: facts.connected,
        }
    }

    /// Reads what others announce under our id.
    fn watch(&self, client: &TopicClient) {
        let deadline = Instant::now() + TURN;
        while Instant::now() < deadline {
            let message = match client.consumer.poll(TURN) {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    debug!(error = %error, "while watching for twins");
                    continue;
                }
                None => return,
            };
            if message.key() != Some(self.config.edge_id.as_bytes()) {
                continue;
            }
            let Some(Ok(other)) = message.payload().map(serde_json::from_slice::<Announcement>) else { continue };
            let own = self.announcement();
            if own.gives_way_to(&other) {
                let sentence = format!(
                    "another process mirrors as {} since {}, on host {:?}: this one has stopped mirroring; give one of the two another edge id and restart",
                    own.edge,
                    Timestamp::from_millis(other.started),
                    other.host
                );
                error!("{sentence}");
                self.shared.failed(&sentence);
                self.shared.set_superseded();
                self.shared.enter(State::Superseded, sentence);
                return;
            }
            if other.instance != own.instance {
                info!(host = other.host, "an older process with our edge id still announces itself; it will give way");
            }
        }
    }

    fn complain(&mut self, failure: &Failure) {
        if !self.has_complained {
            info!("the edge cannot announce itself now: {}; it goes on trying", failure.text);
        }
        self.has_complained = true;
    }
}

/// A name for this life of the process that no other has: 128 random bits from the system, as a UUID.
fn instance() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::Announcement;

    fn announcement(instance: &str, started: i64) -> Announcement {
        Announcement {
            edge: "EDGE-1".into(),
            instance: instance.into(),
            started,
            at: String::new(),
            epoch: 0,
            version: String::new(),
            host: String::new(),
            state: String::new(),
            backlog: 0,
            oldest_unsent: None,
            mirrored: 0,
            acknowledged: 0,
            clock: String::new(),
            devices: 0,
            connected: 0,
        }
    }

    #[test]
    fn of_two_processes_with_one_id_exactly_one_gives_way() {
        for (a, b) in [(announcement("a", 1), announcement("b", 2)), (announcement("a", 5), announcement("b", 5))] {
            assert!(a.gives_way_to(&b));
            assert!(!b.gives_way_to(&a));
            assert!(!a.gives_way_to(&a));
        }
        let other = Announcement { edge: "EDGE-2".into(), ..announcement("z", 9) };
        assert!(!announcement("a", 1).gives_way_to(&other));
    }
}
