//! The thread that reads Kafka: polls always, hands batches to the partitions, pauses those that are full, keeps the offsets.
//!
//! It never waits for NATS longer than a moment, so the group never takes it for dead; and it is the only place where offsets are stored,
//! from what the partitions say is done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Error;
use crate::budget::Held;
use crate::config::Config;
use crate::link::chain;
use crate::partition::{Partition, Setup, Shared};
use crate::record::Record;
use crate::status::Trouble;

/// How long one poll may wait for a record; also the pace of everything else that the thread does.
const POLL: Duration = Duration::from_millis(50);
/// Records of a partition that travel together, at most.
const BATCH: usize = 256;
/// Records read before offsets are looked after again.
const TURN: usize = 4096;
/// How long the thread waits for room in a full partition before it pauses it. Pausing throws away what librdkafka has fetched already, so
/// it is for outages, not for a NATS that is merely slower than Kafka.
const ROOM: Duration = Duration::from_millis(200);
/// How long a partition that is given away may take to finish; its lanes give up on answers before.
const FAREWELL: Duration = Duration::from_secs(5);

/// The partitions that this forwarder serves.
type Table = HashMap<Arc<str>, HashMap<i32, Served>>;

struct Served {
    records: mpsc::Sender<Vec<Record>>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    batch: Vec<Record>,
    bytes: usize,
    flow: Flow,
    stored: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Running,
    Paused,
}

/// Called by librdkafka, on our thread, from within `poll`.
struct Context {
    setup: Arc<Setup>,
    runtime: tokio::runtime::Handle,
    table: Mutex<Table>,
}

/// The Kafka side of a forwarder.
pub(crate) struct Consumer {
    consumer: BaseConsumer<Context>,
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
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.error.backoff.ms", "200")
            .set("statistics.interval.ms", "1000");
        config.kafka.apply_overrides(&mut client);
        let context = Context { setup, runtime, table: Mutex::default() };
        let failed = |source| Error::KafkaClient { client: "consumer", source };
        let consumer: BaseConsumer<Context> = client.create_with_context(context).map_err(failed)?;
        let topics: Vec<&str> = forward.routes.keys().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(failed)?;
        Ok(Self { consumer, group: forward.group.clone(), instance, turns: Arc::default() })
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
        while !stop.is_cancelled() {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let mut wait = POLL;
            for _ in 0..TURN {
                match self.consumer.poll(wait) {
                    None => break,
                    Some(Ok(message)) => self.accept(&message),
                    Some(Err(error)) => self.failed(error)?,
                }
                wait = Duration::ZERO;
            }
            self.settle()?;
        }
        Ok(())
    }

    fn accept(&self, message: &BorrowedMessage<'_>) {
        let mut table = self.consumer.context().table();
        let Some((topic, partitions)) = table.get_key_value(message.topic()).map(|(topic, _)| topic.clone()).and_then(|topic| {
            let partitions = table.get_mut(&topic)?;
            Some((topic, partitions))
        }) else {
            return;
        };
        // Without an entry the partition was given away while the record was on its way to us.
        let Some(served) = partitions.get_mut(&message.partition()) else { return };
        let record = Record::copy_of(message, topic);
        served.bytes += record.cost();
        served.batch.push(record);
        if served.batch.len() >= BATCH && served.flow == Flow::Running && !served.hand_over(ROOM) {
            served.flow = Flow::Paused;
            self.pause(message.topic(), message.partition());
        }
    }

    /// Hands over what was read, resumes who has room again, stores what is done.
    fn settle(&self) -> Result<(), Error> {
        let context = self.consumer.context();
        let mut offsets = TopicPartitionList::new();
        let mut table = context.table();
        for (topic, partitions) in table.iter_mut() {
            for (number, served) in partitions.iter_mut() {
                if served.task.is_finished() && !served.shared.has_ended() {
                    return Err(Error::Panicked);
                }
                let patience = if served.flow == Flow::Running { ROOM } else { Duration::ZERO };
                match (served.hand_over(patience), served.flow) {
                    (true, Flow::Paused) => {
                        served.flow = Flow::Running;
                        self.resume(topic, *number);
                    }
                    (false, Flow::Running) => {
                        served.flow = Flow::Paused;
                        self.pause(topic, *number);
                    }
                    _ => {}
                }
                let position = served.shared.position();
                let (in_flight, paused) = (served.shared.budget.held().records, served.flow == Flow::Paused);
                context.setup.board.known_partition(topic, *number, |facts| {
                    (facts.position, facts.in_flight, facts.paused) = (position.or(facts.position), in_flight, paused);
                });
                if let Some(position) = position
                    && served.stored != Some(position)
                {
                    served.stored = Some(position);
                    offsets.add_partition_offset(topic, *number, Offset::Offset(position)).map_err(Error::KafkaFatal)?;
                }
            }
        }
        drop(table);
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

    fn pause(&self, topic: &str, partition: i32) {
        info!(topic, partition, "paused: NATS is too far behind");
        if let Err(error) = self.consumer.pause(&one(topic, partition)) {
            warn!(topic, partition, error = %chain(&error), "could not be paused");
        }
    }

    fn resume(&self, topic: &str, partition: i32) {
        info!(topic, partition, "resumed");
        if let Err(error) = self.consumer.resume(&one(topic, partition)) {
            warn!(topic, partition, error = %chain(&error), "could not be resumed");
        }
    }
}

fn one(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    list
}

impl Served {
    /// Hands the batch to the partition's task if its budget has room; `true` when nothing is left here.
    fn hand_over(&mut self, patience: Duration) -> bool {
        if self.batch.is_empty() {
            // A paused partition without a batch has room when a record would fit.
            return self.flow == Flow::Running || self.shared.budget.has_room();
        }
        if !self.shared.budget.take(Held { records: self.batch.len(), bytes: self.bytes }, patience) {
            return false;
        }
        self.bytes = 0;
        // The channel has a place for every record of the budget, and closes only when the task was asked to stop.
        self.records.try_send(std::mem::take(&mut self.batch)).ok();
        true
    }
}

impl Context {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, topic: &str, number: i32) {
        let Some(route) = self.setup.forward.routes.get(topic) else { return };
        let topic: Arc<str> = topic.into();
        let (records, batches) = mpsc::channel(self.setup.forward.in_flight + 1);
        let (shared, stop) = (Arc::new(Shared::new(&self.setup.forward)), CancellationToken::new());
        let (setup, route) = (self.setup.clone(), Arc::new(route.clone()));
        let guard = self.runtime.enter();
        let work = Partition::start(setup, topic.clone(), number, route, batches, shared.clone(), stop.clone());
        let task = self.runtime.spawn(work);
        drop(guard);
        info!(%topic, partition = number, "serving");
        self.setup.board.partition(&topic, number, |_| {});
        let served = Served { records, shared, stop, task, batch: Vec::new(), bytes: 0, flow: Flow::Running, stored: None };
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

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        // librdkafka remembers a pause beyond the assignment.
        if list.count() > 0
            && let Err(error) = consumer.resume(list)
        {
            warn!(error = %chain(&error), "assigned partitions could not be resumed");
        }
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
