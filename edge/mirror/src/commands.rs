//! Kafka → commands for this edge: follows the topic of commands, and writes this edge's claims into it.
//!
//! Promises:
//! - Every committed record of the partitions that can hold the edge's assets comes out once for each life of a [`Follower`], in the order of its
//!   partition, from the place that the caller kept; never from the end, so nothing that was asked while the edge was away is missed.
//! - What the topic does not have any more (retention, made anew, another cluster) is said ([`Incoming::Missed`]), not passed over.
//! - It never gives up: trouble is a state with a sentence ([`Follower::state`]).
//!
//! What a command means, and whether it was seen before, is the caller's business. So is keeping the [`Places`]: no consumer group is joined and
//! nothing is committed in Kafka, as brokers forget a group's offsets after a week without it.

mod follow;
mod places;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::mpsc;
use tracing::debug;

use crate::client::{self, Quiet, drop_aside};
use crate::{Config, Error, spawn};

pub use places::Places;

/// What comes from the topic.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The topic is followed now, in this cluster.
    Follows {
        /// Its id, if it tells one.
        cluster: Option<String>,
    },
    /// A record.
    Record(Record),
    /// The topic does not have these offsets any more: commands among them were not seen by this edge, and will not be executed.
    Missed {
        /// Where.
        partition: i32,
        /// The first of them.
        from: i64,
        /// The first that is there; below `from` if the topic was made anew.
        to: i64,
    },
}

/// A record of the topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// The asset.
    pub key: Arc<str>,
    /// JSON, if it is an event.
    pub value: Vec<u8>,
    /// The record's time, Unix ms; its writer's clock.
    pub time: Option<i64>,
}

/// How following goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Looking for the topic.
    #[default]
    Starting,
    /// Commands arrive when there are some.
    Following,
    /// There is no such topic; how to make it.
    NoTopic(String),
    /// Kafka cannot be read; why.
    Trouble(String),
}

/// Follows the topic of commands on a thread of its own until it is dropped.
pub struct Follower {
    shared: Arc<Shared>,
    producer: Option<ThreadedProducer<Claims>>,
    topic: String,
}

/// What the thread and its owner share.
#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
    assets: Mutex<Arc<BTreeSet<Arc<str>>>>,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn enter(&self, state: State) {
        let mut present = lock(&self.state);
        if *present != state {
            match &state {
                State::Starting => {}
                State::Following => tracing::info!("commands are followed"),
                State::NoTopic(why) | State::Trouble(why) => tracing::warn!("commands cannot be read: {why}; tried again"),
            }
            *present = state;
        }
    }

    fn assets(&self) -> Arc<BTreeSet<Arc<str>>> {
        lock(&self.assets).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while holding one of these locks; if it did, what they guard is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower {
    /// Starts to follow `topic` for `assets` from `places` on. Does not wait for Kafka. Ends when `incoming` is closed, too.
    ///
    /// # Errors
    /// What no waiting can cure: settings that cannot work.
    pub fn start(
        config: &Config,
        topic: &str,
        assets: BTreeSet<Arc<str>>,
        places: Places,
        incoming: mpsc::Sender<Incoming>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), state: Mutex::default(), assets: Mutex::new(Arc::new(assets)) });
        let producer = producer(config)?;
        let follow = follow::Follow::new(config.clone(), topic.to_owned(), shared.clone(), places, incoming);
        spawn("commands", move || follow.run())?;
        Ok(Self { shared, producer: Some(producer), topic: topic.to_owned() })
    }

    /// The assets have changed. Partitions that are followed stay so; others begin where the caller had left them, or at their beginning.
    pub fn serve(&self, assets: BTreeSet<Arc<str>>) {
        *lock(&self.shared.assets) = Arc::new(assets);
    }

    /// Hands a record over to be written into a partition of the topic. Whether it stands there is seen when it is read; it may get lost, and
    /// may come twice if it is claimed again.
    pub fn claim(&self, partition: i32, asset: &str, value: &[u8]) {
        let Some(producer) = &self.producer else { return };
        let record = BaseRecord::to(&self.topic).partition(partition).key(asset.as_bytes()).payload(value);
        if let Err((error, _)) = producer.send(record) {
            debug!(%error, "a claim was not taken; it is claimed again");
        }
    }

    /// How it goes.
    pub fn state(&self) -> State {
        lock(&self.shared.state).clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(producer) = self.producer.take() {
            drop_aside(producer, std::time::Duration::ZERO);
        }
    }
}

fn producer(config: &Config) -> Result<ThreadedProducer<Claims>, Error> {
    let mut settings = client::settings(config, "claims")?;
    settings
        .set("acks", "all")
        // Claims of an asset stand in the order of its commands, unless one is lost.
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        // A claim that did not arrive by then is made again by the caller, who would see it twice in the topic otherwise.
        .set("message.timeout.ms", "5000")
        .set("queue.buffering.max.messages", "10000");
    settings.create_with_context(Claims::default()).map_err(Error::Client)
}

/// The context of the producer of claims.
#[derive(Clone, Default)]
struct Claims(Quiet);

impl ClientContext for Claims {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Claims {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            debug!(%error, "a claim did not arrive; it is claimed again");
        }
    }
}
