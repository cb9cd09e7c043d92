//! The thread that follows the topic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asset_stream::partition;
use rdkafka::Message as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{Incoming, Places, Record, Shared, State};
use crate::Config;
use crate::class::{Class, Failure};
use crate::client::drop_aside;
use crate::topic_client::TopicClient;

/// Between two looks whether to stop, or to follow something else.
const TURN: Duration = Duration::from_millis(200);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked whether the topic has more partitions.
const LOOK: Duration = Duration::from_secs(60);

pub(super) struct Follow {
    config: Config,
    topic: String,
    shared: Arc<Shared>,
    /// Where to begin with a partition: what was kept, and then what was read.
    places: Places,
    incoming: mpsc::Sender<Incoming>,
}

/// Why a stretch of following ended.
enum End {
    /// For good.
    Stopped,
    /// Other partitions are to be followed.
    Changed,
}

impl Follow {
    pub(super) fn new(config: Config, topic: String, shared: Arc<Shared>, places: Places, incoming: mpsc::Sender<Incoming>) -> Self {
        Self { config, topic, shared, places, incoming }
    }

    pub(super) fn run(mut self) {
        let client = match TopicClient::following(&self.config, "commands") {
            Ok(client) => client,
            Err(error) => return self.shared.enter(State::Trouble(service::error::chain(&error))),
        };
        while !self.shared.is_stopping() {
            match self.follow(&client) {
                Ok(End::Stopped) => break,
                Ok(End::Changed) => {}
                Err(failure) => {
                    self.shared.enter(match failure.class {
                        Class::Topic => State::NoTopic(self.config.missing_commands(&self.topic)),
                        _ => State::Trouble(failure.text),
                    });
                    client.consumer.unassign().ok();
                    self.pause(AGAIN);
                }
            }
        }
        drop_aside(client, Duration::ZERO);
    }

    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.shared.is_stopping() && !self.incoming.is_closed() {
            std::thread::sleep(TURN.min(pause));
        }
    }

    fn follow(&mut self, client: &TopicClient) -> Result<End, Failure> {
        client.consumer.unassign().map_err(|error| client.failure("the consumer cannot be reset", &error))?;
        let there = client.partitions(&self.topic)?;
        let assets = self.shared.assets();
        let wanted = self.wanted(&assets, &there);
        let cluster = client.cluster();
        if !wanted.is_empty() {
            self.begin(client, &wanted, cluster.as_deref())?;
        }
        // Not before: places of another cluster must not be kept under this one's name.
        if self.tell(Incoming::Follows { cluster }).is_err() {
            return Ok(End::Stopped);
        }
        self.shared.enter(State::Following);
        let mut looked = Instant::now();
        loop {
            if self.shared.is_stopping() || self.incoming.is_closed() {
                return Ok(End::Stopped);
            }
            if !Arc::ptr_eq(&assets, &self.shared.assets()) && self.wanted(&self.shared.assets(), &there) != wanted {
                return Ok(End::Changed);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                match client.partitions(&self.topic) {
                    Ok(now) if now != there => return Ok(End::Changed),
                    Ok(_) => self.shared.enter(State::Following),
                    Err(failure) if failure.class == Class::Topic => return Err(failure),
                    Err(failure) => self.shared.enter(State::Trouble(failure.text)),
                }
            }
            match client.consumer.poll(TURN) {
                None => {}
                Some(Err(error)) if error.rdkafka_error_code() == Some(Code::UnknownTopicOrPartition) => {
                    return Err(client.failure("the topic cannot be read", &error));
                }
                // The client goes on by itself.
                Some(Err(error)) => debug!(%error, "while following commands"),
                Some(Ok(message)) => {
                    self.shared.enter(State::Following);
                    let (partition, offset) = (message.partition(), message.offset());
                    self.places.restart(partition, offset + 1);
                    let Some(Ok(key)) = message.key().map(std::str::from_utf8) else { continue };
                    let record = Record {
                        partition,
                        offset,
                        key: key.into(),
                        value: message.payload().unwrap_or_default().to_vec(),
                        time: message.timestamp().to_millis(),
                    };
                    if self.tell(Incoming::Record(record)).is_err() {
                        return Ok(End::Stopped);
                    }
                }
            }
        }
    }

    /// What can hold the assets' commands, now or before the topic got more partitions.
    fn wanted(&self, assets: &BTreeSet<Arc<str>>, there: &[i32]) -> BTreeSet<i32> {
        let count = i32::try_from(there.len()).unwrap_or(i32::MAX);
        let own = assets.iter().map(|asset| partition::of_key(asset.as_bytes(), count));
        let mut wanted: BTreeSet<i32> = own.collect();
        if !assets.is_empty() {
            wanted.extend(self.places.partitions());
        }
        wanted.retain(|partition| there.contains(partition));
        wanted
    }

    fn begin(&mut self, client: &TopicClient, wanted: &BTreeSet<i32>, cluster: Option<&str>) -> Result<(), Failure> {
        let partitions: Vec<i32> = wanted.iter().copied().collect();
        let (starts, ends) = (client.starts(&self.topic, &partitions)?, client.ends(&self.topic, &partitions)?);
        let is_another = matches!((self.places.cluster.as_deref(), cluster), (Some(kept), Some(now)) if kept != now)
            || (!self.places.topic.is_empty() && self.places.topic != self.topic);
        self.places.topic.clone_from(&self.topic);
        self.places.cluster = cluster.map(str::to_owned).or(self.places.cluster.take());
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for ((partition, start), (_, end)) in starts.into_iter().zip(ends) {
            let kept = self.places.of(partition);
            let begin = match kept {
                Some(kept) if !is_another && (start..=end).contains(&kept) => kept,
                Some(kept) => {
                    warn!(partition, kept, start, end, "the topic of commands does not have any more what was to be read next");
                    // Whoever stops now learns it from the channel.
                    self.tell(Incoming::Missed { partition, from: kept, to: start }).ok();
                    start
                }
                None => start,
            };
            self.places.restart(partition, begin);
            let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(begin));
            added.map_err(|error| client.failure("the topic cannot be followed", &error))?;
        }
        client.consumer.assign(&list).map_err(|error| client.failure("the topic cannot be followed", &error))
    }

    /// Waits while the edge is behind.
    fn tell(&self, incoming: Incoming) -> Result<(), ()> {
        self.incoming.blocking_send(incoming).map_err(drop)
    }
}
