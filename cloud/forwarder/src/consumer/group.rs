//! What librdkafka calls, on our thread, from within `poll`: partitions that come and go, statistics, errors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use service::error::chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::served::{BATCH, Served};
use crate::budget::Bell;
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
}

impl Context {
    pub(super) fn new(setup: Arc<Setup>, runtime: tokio::runtime::Handle, bell: Arc<Bell>) -> Self {
        Self { setup, runtime, table: Mutex::default(), bell }
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
            let (mut task, left) = (served.task, deadline.saturating_duration_since(Instant::now()));
            let in_time = self.runtime.block_on(async { tokio::time::timeout(left, &mut task).await.is_ok() });
            if !in_time {
                task.abort();
                warn!(%topic, partition = number, "did not finish in time; what was under way is looked up by whoever comes next");
            }
            if let Some(position) = served.shared.position()
                // Partition numbers and offsets come from Kafka itself.
                && offsets.add_partition_offset(&topic, number, Offset::Offset(position)).is_err()
            {
                warn!(%topic, partition = number, position, "no offset of Kafka");
            }
            info!(%topic, partition = number, "no longer serving");
            self.setup.board.partition_ended(&topic, number);
        }
        offsets
    }
}

pub(super) fn commit(consumer: &BaseConsumer<Context>, offsets: &TopicPartitionList) {
    if offsets.count() > 0
        && let Err(error) = consumer.commit(offsets, CommitMode::Sync)
    {
        info!(error = %chain(&error), "the last offsets were not committed; what they cover is looked up and skipped");
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
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
        // The only word about records that Kafka dropped before we read them.
        if matches!((level, facility), (RDKafkaLogLevel::Warning, "OFFSET")) {
            return warn!(message, "Kafka no longer has the records from here on: they were not forwarded, and never will be");
        }
        self.setup.lives.hear(message);
        // It tells each failed connection again and again; what matters of it comes as an error, too.
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
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
            self.setup.board.settled(Trouble::Topics);
        }
        for element in list.elements() {
            self.begin(element.topic(), element.partition());
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            debug!(error = %chain(&error), "commit");
        }
    }
}
