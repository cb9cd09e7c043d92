//! One partition as the Kafka thread serves it: its queue in librdkafka, read as far as the budget goes, in batches.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::group::Context;
use crate::Error;
use crate::budget::Held;
use crate::partition::Shared;
use crate::record::Record;

/// Records of a partition that travel together, at most.
pub(crate) const BATCH: usize = 256;
/// Their bytes, at most, but for one record.
const BATCH_BYTES: usize = 1 << 20;

/// A partition as the Kafka thread serves it.
pub(super) struct Served {
    /// Its queue in librdkafka; `None` in the turn in which it was assigned.
    pub(super) queue: Option<PartitionQueue<Context>>,
    records: mpsc::Sender<Vec<Record>>,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
    batch: Vec<Record>,
    bytes: usize,
    /// Offset of the first record that was read.
    pub(super) first: Option<i64>,
    last: Option<i64>,
    /// Position that was given to librdkafka for its next commit.
    pub(super) stored: Option<i64>,
}

impl Served {
    pub(super) fn new(records: mpsc::Sender<Vec<Record>>, shared: Arc<Shared>, stop: CancellationToken, task: JoinHandle<()>) -> Self {
        Self { queue: None, records, shared, stop, task, batch: Vec::new(), bytes: 0, first: None, last: None, stored: None }
    }

    /// Takes a record in; they come in the order of their offsets.
    pub(super) fn accept(&mut self, message: &BorrowedMessage<'_>, topic: Arc<str>) -> Result<(), Error> {
        if self.last.replace(message.offset()).is_some_and(|last| last >= message.offset()) {
            return Err(Error::Disordered { topic: topic.to_string(), partition: message.partition(), offset: message.offset() });
        }
        self.first.get_or_insert(message.offset());
        let record = Record::copy_of(message, topic);
        self.bytes += record.cost();
        self.batch.push(record);
        Ok(())
    }

    /// Hands over what was read the last time, and reads what is fetched, as far as there is room; `true` if there may be more to do now.
    /// What is read waits for a turn, in which librdkafka may tell that it stands in another life of the topic.
    pub(super) fn read(&mut self, topic: &Arc<str>, errors: &mut Vec<KafkaError>) -> Result<bool, Error> {
        self.hand_over();
        let Some(queue) = self.queue.take() else { return Ok(false) };
        while self.shared.budget.has_room() && self.batch.len() < BATCH && self.bytes < BATCH_BYTES {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => self.accept(&message, topic.clone())?,
                Some(Err(error)) => errors.push(error),
                None => break,
            }
        }
        self.queue = Some(queue);
        Ok(!self.batch.is_empty())
    }

    /// Hands the batch to the partition's task.
    fn hand_over(&mut self) {
        if !self.batch.is_empty() {
            self.shared.budget.take(Held { records: self.batch.len(), bytes: std::mem::take(&mut self.bytes) });
            // The channel has a place for every record of the budget, and closes only when the task was asked to stop.
            self.records.try_send(std::mem::take(&mut self.batch)).ok();
        }
    }
}
