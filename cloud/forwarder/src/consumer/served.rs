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
use crate::record::{Batch, Record};

/// Records of a partition that travel together, at most.
pub(crate) const BATCH: usize = 256;
/// Their bytes, at most, but for one record.
const BATCH_BYTES: usize = 1 << 20;

/// A partition as the Kafka thread serves it.
pub(super) struct Served {
    /// Its queue in librdkafka; `None` in the turn in which it was assigned.
    pub(super) queue: Option<PartitionQueue<Context>>,
    batches: mpsc::Sender<Batch>,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
    batch: Vec<Record>,
    bytes: usize,
    /// Its place is known to count, and nothing is handed over before.
    is_proven: bool,
    /// The life of the topic in which it counts, where Kafka tells that.
    life: Option<Arc<str>>,
    /// Offset of the first record that was read.
    pub(super) first: Option<i64>,
    last: Option<i64>,
    /// Position that was given to librdkafka for its next commit.
    pub(super) stored: Option<i64>,
}

impl Served {
    pub(super) fn new(batches: mpsc::Sender<Batch>, shared: Arc<Shared>, stop: CancellationToken, task: JoinHandle<()>) -> Self {
        Self {
            queue: None,
            batches,
            shared,
            stop,
            task,
            batch: Vec::new(),
            bytes: 0,
            is_proven: false,
            life: None,
            first: None,
            last: None,
            stored: None,
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Its place counts in this life of the topic.
    pub(super) fn prove(&mut self, life: Arc<str>) {
        (self.is_proven, self.life) = (true, Some(life));
    }

    /// Where Kafka tells no ids, nothing can be proven: the first record comes after the id, if there is one.
    pub(super) fn prove_without_life(&mut self) {
        self.is_proven = !self.batch.is_empty();
    }

    pub(super) fn life(&self) -> Option<&str> {
        self.life.as_deref()
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

    /// Reads what is fetched, a batch at most, as far as there is room.
    pub(super) fn read(&mut self, topic: &Arc<str>, errors: &mut Vec<KafkaError>) -> Result<(), Error> {
        let Some(queue) = self.queue.take() else { return Ok(()) };
        while self.shared.budget.has_room() && self.batch.len() < BATCH && self.bytes < BATCH_BYTES {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => self.accept(&message, topic.clone())?,
                Some(Err(error)) => errors.push(error),
                None => break,
            }
        }
        self.queue = Some(queue);
        Ok(())
    }

    /// Hands the batch to the partition's task; `true` if there was one, and may be more.
    pub(super) fn hand_over(&mut self) -> bool {
        if !self.is_proven || self.batch.is_empty() {
            return false;
        }
        self.shared.budget.take(Held { records: self.batch.len(), bytes: std::mem::take(&mut self.bytes) });
        let batch = Batch { life: self.life.clone(), records: std::mem::take(&mut self.batch) };
        // The channel has a place for every record of the budget, and closes only when the task was asked to stop.
        self.batches.try_send(batch).ok();
        true
    }
}
