//! The thread that reads Kafka: serves the group always, reads each partition as far as its budget goes, keeps the offsets.
//!
//! It never waits for NATS, so the group never takes it for dead; and it is the only place where offsets are stored, from what the
//! partitions say is done. Each partition has a queue of its own in librdkafka, and one that is full is simply not read: `pause` and
//! `resume` would throw away what is fetched already, and lose a resume now and then (librdkafka issue 5591; seen here once in ten outages).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use service::error::chain;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Error;
use crate::budget::{Bell, Held};
use crate::config::Config;
use crate::partition::{Partition, Setup, Shared};
use crate::record::Record;
use crate::status::Trouble;

/// How long the thread rests when there is nothing to do and nothing wakes it.
const REST: Duration = Duration::from_millis(50);
/// Records of a partition that travel together, at most.
pub(crate) const BATCH: usize = 256;
/// Their bytes, at most, but for one record.
const BATCH_BYTES: usize = 1 << 20;
/// Batches read from one partition before the others and the group are looked after.
const BATCHES: usize = 8;
/// How long a partition that is given away may take to finish; its lanes give up on answers before.
const FAREWELL: Duration = Duration::from_secs(5);

/// The partitions that this forwarder serves.
type Table = HashMap<Arc<str>, HashMap<i32, Served>>;

struct Served {
    /// Its queue in librdkafka; `None` in the turn in which it was assigned.
    queue: Option<PartitionQueue<Context>>,
    records: mpsc::Sender<Vec<Record>>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    batch: Vec<Record>,
    bytes: usize,
    first: Option<i64>,
    last: Option<i64>,
    stored: Option<i64>,
}

/// Called by librdkafka, on our thread, from within `poll`.
struct Context {
    setup: Arc<Setup>,
    runtime: tokio::runtime::Handle,
    table: Mutex<Table>,
    bell: Arc<Bell>,
}

/// The Kafka side of a forwarder.
pub(crate) struct Consumer {
    consumer: Arc<BaseConsumer<Context>>,
    group: String,
    instance: String,
    turns: Arc<AtomicU64>,
}

impl Consumer {
    /// A consumer that is subscribed to the routes' topics. Kafka need not be there yet.
    pub(crate) fn new(config: &Config, instance: String, setup: Arc<Setup>, runtime: tokio::runtime::Handle) -> Result<Self, Error> {
        let forward = &config.forward;
        let session = forward.session_timeout.as_millis();
        let mut client = config.kafka.client().map_err(Error::KafkaConfig)?;
        client
            .set("client.id", "openfactory-forwarder")
            .set("group.id", &forward.group)
            .set("group.instance.id", &instance)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session.to_string())
            // A member learns of a change by its heartbeat, so this is part of how fast another forwarder takes over.
            .set("heartbeat.interval.ms", (session / 12).max(100).to_string())
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("allow.auto.create.topics", "false")
            // A topic that is made later is found within this time.
            .set("topic.metadata.refresh.interval.ms", "5000")
            // For each partition.
            .set("queued.max.messages.kbytes", "4096")
            .set("fetch.error.backoff.ms", "200")
            .set("statistics.interval.ms", "1000");
        config.kafka.apply_overrides(&mut client);
        let bell = Arc::new(Bell::default());
        let context = Context { setup, runtime, table: Mutex::default(), bell: bell.clone() };
        let failed = |source| Error::KafkaClient { client: "consumer", source };
        let mut consumer: BaseConsumer<Context> = client.create_with_context(context).map_err(failed)?;
        consumer.set_nonempty_callback(move || bell.ring());
        let topics: Vec<&str> = forward.routes.keys().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(failed)?;
        Ok(Self { consumer: Arc::new(consumer), group: forward.group.clone(), instance, turns: Arc::default() })
    }

    /// Grows with every turn of the loop.
    pub(crate) fn turns(&self) -> Arc<AtomicU64> {
        self.turns.clone()
    }

    /// Works until `stop`, or until Kafka shuts this consumer out.
    pub(crate) fn run(self, stop: &CancellationToken) -> Result<(), Error> {
        let result = self.read(stop);
        let context = self.consumer.context();
        let left: Vec<(Arc<str>, i32, Served)> = std::mem::take(&mut *context.table())
            .into_iter()
            .flat_map(|(topic, partitions)| partitions.into_iter().map(move |(number, served)| (topic.clone(), number, served)))
            .collect();
        let finished = context.finish(left);
        if result.is_ok() && finished.count() > 0 {
            commit(&self.consumer, &finished);
        }
        result
    }

    fn read(&self, stop: &CancellationToken) -> Result<(), Error> {
        let context = self.consumer.context();
        while !stop.is_cancelled() {
            self.turns.fetch_add(1, Ordering::Relaxed);
            // What the group has to say, and records that were fetched before their partition had a queue of its own: these come first.
            while let Some(event) = self.consumer.poll(Duration::ZERO) {
                match event {
                    Ok(message) => self.accept_early(&message)?,
                    Err(error) => self.failed(error)?,
                }
            }
            let mut errors = Vec::new();
            let is_busy = self.read_partitions(&mut errors)?;
            errors.into_iter().try_for_each(|error| self.failed(error))?;
            self.settle()?;
            if !is_busy {
                context.bell.wait(REST);
            }
        }
        Ok(())
    }

    fn accept_early(&self, message: &BorrowedMessage<'_>) -> Result<(), Error> {
        let mut table = self.consumer.context().table();
        let Some((topic, _)) = table.get_key_value(message.topic()) else { return Ok(()) };
        let topic = topic.clone();
        // Without an entry the partition was given away while the record was on its way to us.
        match table.get_mut(&topic).and_then(|of_topic| of_topic.get_mut(&message.partition())) {
            Some(served) => served.accept(message, topic),
            None => Ok(()),
        }
    }

    /// Reads every partition that has room; `true` if there may be more.
    fn read_partitions(&self, errors: &mut Vec<KafkaError>) -> Result<bool, Error> {
        let context = self.consumer.context();
        let mut is_busy = false;
        for (topic, partitions) in context.table().iter_mut() {
            for (number, served) in partitions.iter_mut() {
                if served.queue.is_none() {
                    served.queue = self.consumer.split_partition_queue(topic, *number).map(|mut queue| {
                        let bell = context.bell.clone();
                        queue.set_nonempty_callback(move || bell.ring());
                        queue
                    });
                    // From the next turn on: what stands in the common queue is older.
                    is_busy = true;
                    continue;
                }
                is_busy |= served.read(topic, errors)?;
            }
        }
        Ok(is_busy)
    }

    /// Says how the partitions are, and stores what is done.
    fn settle(&self) -> Result<(), Error> {
        let context = self.consumer.context();
        let mut offsets = TopicPartitionList::new();
        for (topic, partitions) in context.table().iter_mut() {
            for (number, served) in partitions.iter_mut() {
                if served.task.is_finished() && !served.shared.has_ended() {
                    return Err(Error::Panicked);
                }
                let position = served.shared.position();
                let (in_flight, is_full) = (served.shared.budget.held().records, !served.shared.budget.has_room());
                context.setup.board.known_partition(topic, *number, |facts| {
                    // Before anything is done, what was read first is where the partition stands.
                    facts.position = position.or(facts.position).or(served.first);
                    (facts.in_flight, facts.paused) = (in_flight, is_full);
                });
                if let Some(position) = position
                    && served.stored != Some(position)
                {
                    served.stored = Some(position);
                    offsets.add_partition_offset(topic, *number, Offset::Offset(position)).map_err(Error::KafkaFatal)?;
                }
            }
        }
        if offsets.count() > 0
            && let Err(error) = self.consumer.store_offsets(&offsets)
        {
            // Happens when a partition is taken from us in this moment: whoever has it now reads from the last commit.
            info!(error = %chain(&error), "offsets were not stored");
        }
        Ok(())
    }

    fn failed(&self, error: KafkaError) -> Result<(), Error> {
        let code = error.rdkafka_error_code();
        if let Some((fatal, _)) = self.consumer.client().fatal_error() {
            return Err(match fatal {
                RDKafkaErrorCode::FencedInstanceId => Error::Fenced { group: self.group.clone(), instance: self.instance.clone() },
                _ => Error::KafkaFatal(error),
            });
        }
        let (trouble, reason) = match code {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                let topics: Vec<&str> = self.consumer.context().setup.forward.routes.keys().map(String::as_str).collect();
                (Trouble::Topics, format!("Kafka: a topic of the routes ({}) does not exist yet", topics.join(", ")))
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
                (Trouble::Topics, format!("Kafka: {}", chain(&error)))
            }
            // One broker of several: the others go on, and librdkafka tells when none is left.
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve | RDKafkaErrorCode::OperationTimedOut) => {
                debug!(error = %chain(&error), "a broker does not answer");
                return Ok(());
            }
            Some(RDKafkaErrorCode::AllBrokersDown) => (Trouble::Brokers, "Kafka: no broker answers".to_owned()),
            _ => (Trouble::Brokers, format!("Kafka: {}", chain(&error))),
        };
        if self.consumer.context().setup.board.trouble(trouble, reason.clone()) {
            warn!(%reason, "Kafka is waited for");
        }
        Ok(())
    }
}

impl Served {
    /// Takes a record in; they come in the order of their offsets.
    fn accept(&mut self, message: &BorrowedMessage<'_>, topic: Arc<str>) -> Result<(), Error> {
        if self.last.replace(message.offset()).is_some_and(|last| last >= message.offset()) {
            return Err(Error::Disordered { topic: topic.to_string(), partition: message.partition(), offset: message.offset() });
        }
        self.first.get_or_insert(message.offset());
        let record = Record::copy_of(message, topic);
        self.bytes += record.cost();
        self.batch.push(record);
        Ok(())
    }

    /// Reads what is fetched, as far as there is room; `true` if there may be more to read now.
    fn read(&mut self, topic: &Arc<str>, errors: &mut Vec<KafkaError>) -> Result<bool, Error> {
        let Some(queue) = self.queue.take() else { return Ok(false) };
        let mut is_empty = false;
        self.hand_over();
        for _ in 0..BATCHES {
            if is_empty || !self.shared.budget.has_room() {
                break;
            }
            while self.batch.len() < BATCH && self.bytes < BATCH_BYTES {
                match queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => self.accept(&message, topic.clone())?,
                    Some(Err(error)) => errors.push(error),
                    None => {
                        is_empty = true;
                        break;
                    }
                }
            }
            self.hand_over();
        }
        self.queue = Some(queue);
        Ok(!is_empty && self.shared.budget.has_room())
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

impl Context {
    fn table(&self) -> MutexGuard<'_, Table> {
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
        let served =
            Served { queue: None, records, shared, stop, task, batch: Vec::new(), bytes: 0, first: None, last: None, stored: None };
        self.table().entry(topic).or_default().insert(number, served);
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

fn commit(consumer: &BaseConsumer<Context>, offsets: &TopicPartitionList) {
    if let Err(error) = consumer.commit(offsets, CommitMode::Sync) {
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

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
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
        } else if offsets.count() > 0 {
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
