//! What librdkafka calls, on our thread, from within `poll`: partitions that come and go, statistics, errors.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, TopicPartitionList};
use service::error::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::places;
use super::served::{BATCH, Served};
use crate::Error;
use crate::budget::Bell;
use crate::lives::Lives;
use crate::partition::{Partition, Setup, Shared};
use crate::status::Trouble;

/// How long a partition that is given away may take to finish; its lanes give up on answers before.
const FAREWELL: Duration = Duration::from_secs(5);

/// The partitions that this forwarder serves.
type Table = HashMap<Arc<str>, HashMap<i32, Served>>;

/// Called by librdkafka, on our thread, from within `poll`.
pub(super) struct Context {
    pub(super) setup: Arc<Setup>,
    runtime: tokio::runtime::Handle,
    table: Mutex<Table>,
    pub(super) bell: Arc<Bell>,
    pub(super) lives: Lives,
    calls: AtomicU64,
}

impl Context {
    pub(super) fn new(setup: Arc<Setup>, runtime: tokio::runtime::Handle, bell: Arc<Bell>) -> Self {
        Self { setup, runtime, table: Mutex::default(), bell, lives: Lives::default(), calls: AtomicU64::new(0) }
    }

    /// Grows with every call of librdkafka.
    pub(super) fn heard(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn hear(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, topic: &str, number: i32) {
        let Some(route) = self.setup.forward.routes.get(topic) else { return };
        let topic: Arc<str> = topic.into();
        let (records, batches) = mpsc::channel(self.setup.forward.in_flight + BATCH);
        let (shared, stop) = (Arc::new(Shared::new(&self.setup.forward, self.bell.clone())), CancellationToken::new());
        let (setup, route) = (self.setup.clone(), Arc::new(route.clone()));
        let guard = self.runtime.enter();
        let work = Partition::start(setup, topic.clone(), number, route, batches, shared.clone(), stop.clone());
        let task = self.runtime.spawn(work);
        drop(guard);
        info!(%topic, partition = number, "serving");
        self.setup.board.partition(&topic, number, |_| {});
        self.table().entry(topic).or_default().insert(number, Served::new(records, shared, stop, task));
    }

    /// Partitions of which nobody asked yet what is committed, and that can be asked of: their topic's life is known.
    pub(super) fn unproven(&self) -> TopicPartitionList {
        let mut unproven = TopicPartitionList::new();
        for (topic, partitions) in self.table().iter_mut() {
            let is_known = self.lives.of(topic).is_some();
            for (number, served) in partitions.iter_mut().filter(|(_, served)| !served.is_proven()) {
                if is_known {
                    unproven.add_partition(topic, *number);
                } else {
                    served.prove_without_life();
                }
            }
        }
        unproven
    }

    /// Lets partitions begin whose committed place counts in the present life of their topic.
    pub(super) fn prove(&self, committed: &TopicPartitionList) -> Result<(), Error> {
        let mut table = self.table();
        for place in committed.elements().iter().filter(|place| place.error().is_ok()) {
            let Some(life) = self.lives.of(place.topic()) else { continue };
            if !places::counts_in(place, &life) {
                return Err(Error::MadeAnew { topic: place.topic().to_owned() });
            }
            if let Some(served) = table.get_mut(place.topic()).and_then(|of_topic| of_topic.get_mut(&place.partition())) {
                served.prove(life);
            }
        }
        Ok(())
    }

    /// Hands over what was read; `true` if that was anything.
    pub(super) fn hand_over(&self) -> bool {
        let mut is_any = false;
        for served in self.table().values_mut().flat_map(HashMap::values_mut) {
            is_any |= served.hand_over();
        }
        is_any
    }

    /// The first place of each partition of a topic.
    pub(super) fn beginnings(&self, topic: &str) -> TopicPartitionList {
        let (mut places, life) = (TopicPartitionList::new(), self.lives.of(topic));
        for number in self.table().get(topic).into_iter().flat_map(HashMap::keys) {
            // 0 is an offset.
            places::add(&mut places, topic, *number, 0, life.as_deref()).ok();
        }
        places
    }

    /// [`Self::finish`] for all that are left.
    pub(super) fn finish_all(&self) -> TopicPartitionList {
        let topics = std::mem::take(&mut *self.table());
        self.finish(
            topics
                .into_iter()
                .flat_map(|(topic, of_topic)| of_topic.into_iter().map(move |(n, served)| (topic.clone(), n, served)))
                .collect(),
        )
    }

    /// Lets partitions end, waiting for answers that are under way; the offsets to be committed.
    fn finish(&self, partitions: Vec<(Arc<str>, i32, Served)>) -> TopicPartitionList {
        let mut offsets = TopicPartitionList::new();
        let deadline = Instant::now() + FAREWELL;
        for (_, _, served) in &partitions {
            served.stop.cancel();
        }
        for (topic, number, served) in partitions {
            let left = deadline.saturating_duration_since(Instant::now());
            let (life, mut task) = (served.life().map(str::to_owned), served.task);
            let in_time = self.runtime.block_on(async { tokio::time::timeout(left, &mut task).await.is_ok() });
            if !in_time {
                task.abort();
                warn!(%topic, partition = number, "did not finish in time; what was under way is looked up by whoever comes next");
            }
            if let Some(position) = served.shared.position()
                // Partition numbers and offsets come from Kafka itself.
                && places::add(&mut offsets, &topic, number, position, life.as_deref()).is_err()
            {
                warn!(%topic, partition = number, position, "no offset of Kafka");
            }
            info!(%topic, partition = number, "no longer serving");
            self.setup.board.partition_ended(&topic, number);
        }
        offsets
    }
}

/// The last word on partitions that go. It is stored, too: librdkafka commits once more when they are gone, what was stored last.
pub(super) fn commit(consumer: &BaseConsumer<Context>, offsets: &TopicPartitionList) {
    if offsets.count() > 0
        && let Err(error) = consumer.store_offsets(offsets).and_then(|()| consumer.commit(offsets, CommitMode::Sync))
    {
        info!(error = %chain(&error), "the last offsets were not committed; what they cover is looked up and skipped");
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.hear();
        for (topic, of_topic) in statistics.topics {
            for (number, partition) in of_topic.partitions {
                // -1001 and the like: not known yet.
                if partition.ls_offset >= 0 {
                    self.setup.board.known_partition(&topic, number, |facts| {
                        facts.end = Some(partition.ls_offset);
                        if partition.committed_offset >= 0 {
                            facts.position = facts.position.max(Some(partition.committed_offset));
                        }
                    });
                }
            }
        }
        // That all brokers are down is told as an error; that one is back is told here alone.
        let is_up = statistics.brokers.values().any(|broker| broker.state == "UP" && broker.nodeid >= 0);
        if is_up && self.setup.board.settled(Trouble::Brokers) {
            info!("Kafka answers again");
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.hear();
        // The only word about records that Kafka dropped before we read them.
        if matches!((level, facility), (RDKafkaLogLevel::Warning, "OFFSET")) {
            return warn!(message, "Kafka no longer has the records from here on: they were not forwarded, and never will be");
        }
        self.lives.hear(message);
        // It tells each failed connection again and again; what matters of it comes as an error, too.
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.hear();
        let Rebalance::Revoke(list) = rebalance else { return };
        let mut partitions = Vec::new();
        for element in list.elements() {
            let mut table = self.table();
            let Some((topic, _)) = table.get_key_value(element.topic()) else { continue };
            let topic = topic.clone();
            if let Some(served) = table.get_mut(&topic).and_then(|of_topic| of_topic.remove(&element.partition())) {
                partitions.push((topic, element.partition(), served));
            }
        }
        let offsets = self.finish(partitions);
        if consumer.assignment_lost() {
            warn!("the group took our partitions away; what was under way is looked up by whoever has them now");
        } else {
            commit(consumer, &offsets);
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        if list.count() > 0 {
            self.setup.board.settled(Trouble::Group);
        }
        for element in list.elements() {
            self.begin(element.topic(), element.partition());
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        self.hear();
        if let Err(error) = result {
            debug!(error = %chain(&error), "commit");
        }
    }
}
