//! What librdkafka calls from within `poll`: partitions that come and go, statistics, deliveries.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use service::error::chain;
use tracing::{debug, error, info, warn};

use crate::kafka;
use crate::status::{Board, Trouble};

/// Places of the asset stream whose record Kafka never takes into the topic of commands.
#[derive(Clone, Default)]
pub(super) struct Impossible(Arc<Mutex<BTreeSet<(i32, i64)>>>);

impl Impossible {
    pub(super) fn has(&self, partition: i32, offset: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(partition, offset))
    }

    fn add(&self, place: (i32, i64)) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place)
    }
}

/// The consumer's.
pub(super) struct Group {
    board: Arc<Board>,
    revoked: AtomicU64,
}

impl Group {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board, revoked: AtomicU64::new(0) }
    }

    /// Grows when partitions are taken from us.
    pub(super) fn revoked(&self) -> u64 {
        self.revoked.load(Relaxed)
    }
}

impl ClientContext for Group {
    fn stats(&self, statistics: Statistics) {
        for of_topic in statistics.topics.values() {
            for (number, partition) in &of_topic.partitions {
                // -1001 and the like: not known yet.
                if partition.ls_offset >= 0 {
                    self.board.ends_at(*number, partition.ls_offset, Some(partition.committed_offset).filter(|offset| *offset >= 0));
                }
            }
        }
        // That all brokers are down is told as an error; that one is back is told here alone.
        let is_up = statistics.brokers.values().any(|broker| broker.state == "UP" && broker.nodeid >= 0);
        if is_up && self.board.settled(&Trouble::Brokers) {
            info!("Kafka answers again");
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The only word about records that Kafka dropped before we read them.
        if matches!((level, facility), (RDKafkaLogLevel::Warning, "OFFSET")) {
            return warn!(message, "Kafka no longer has the records from here on: commands among them were not copied, and never will be");
        }
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            self.revoked.fetch_add(1, Relaxed);
            self.board.assigned(std::iter::empty());
            debug!(partitions = list.count(), "partitions are given back");
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            let partitions: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
            info!(?partitions, "copying the commands of these partitions");
            self.board.assigned(partitions.into_iter());
            if self.board.settled(&Trouble::Copying) {
                info!("commands are copied again");
            }
        }
    }
}

/// The producer's.
pub(super) struct Deliveries {
    pub(super) impossible: Impossible,
    pub(super) board: Arc<Board>,
}

impl ClientContext for Deliveries {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka, copies");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka, copies");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<(i32, i64)>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Self::DeliveryOpaque) {
        let Err((error, _)) = result else { return };
        if kafka::is_about_the_record(error) && self.impossible.add(*place) {
            let (partition, offset) = *place;
            Board::add(&self.board.failed, 1);
            error!(partition, offset, error = %chain(error), "Kafka does not take this command into the topic of commands, so it reaches no edge; the others go on");
        }
    }
}
