//! The thread that reads Kafka: serves the group always, reads each partition as far as its budget goes, keeps the offsets.
//!
//! It never waits for NATS, so the group never takes it for dead; and it is the only place where offsets are stored, from what the
//! partitions say is done. Each partition has a queue of its own in librdkafka, and one that is full is simply not read: `pause` and
//! `resume` would throw away what is fetched already, and lose a resume now and then (librdkafka issue 5591; seen here once in ten outages).

mod group;
mod places;
mod served;
mod topics;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use service::error::chain;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Error;
use crate::budget::Bell;
use crate::config::Config;
use crate::lives;
use crate::member::Member;
use crate::partition::Setup;
use crate::status::Trouble;
use group::Context;
pub(crate) use served::BATCH;
use topics::Topics;

/// How long the thread rests when there is nothing to do and nothing wakes it.
const REST: Duration = Duration::from_millis(50);
/// How long Kafka may take to say what is committed of partitions that are new to us.
const PATIENCE: Duration = Duration::from_secs(2);

/// The Kafka side of a forwarder.
pub(crate) struct Consumer {
    consumer: Arc<BaseConsumer<Context>>,
    member: Member,
    turns: Arc<AtomicU64>,
    topics: Topics,
}

impl Consumer {
    /// A consumer that is subscribed to the routes' topics. Kafka need not be there yet.
    /// `turns` grows with every turn of its loop.
    pub(crate) fn new(
        config: &Config,
        member: &Member,
        setup: Arc<Setup>,
        runtime: tokio::runtime::Handle,
        turns: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let forward = &config.forward;
        let session = forward.session_timeout.as_millis();
        let mut client = config.kafka.client().map_err(Error::KafkaConfig)?;
        client
            .set("client.id", "openfactory-forwarder")
            .set("group.id", &member.group)
            .set("group.instance.id", &member.instance)
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
            // A connection that gives no answer for so long is replaced: a firewall may have forgotten it. Answers are small enough for that.
            .set("socket.timeout.ms", "20000")
            .set("fetch.max.bytes", "4194304")
            .set("fetch.error.backoff.ms", "200")
            .set("statistics.interval.ms", "1000")
            .set("debug", lives::DEBUG);
        config.kafka.apply_overrides(&mut client);
        // What is said of it, group.rs decides.
        client.set_log_level(RDKafkaLogLevel::Debug);
        let bell = Arc::new(Bell::default());
        let context = Context::new(setup, runtime, bell.clone());
        let failed = |source| Error::KafkaClient { client: "consumer", source };
        let mut consumer: BaseConsumer<Context> = client.create_with_context(context).map_err(failed)?;
        consumer.set_nonempty_callback(move || bell.ring());
        let topics: Vec<&str> = forward.routes.keys().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(failed)?;
        Ok(Self { consumer: Arc::new(consumer), member: member.clone(), turns, topics: Topics::default() })
    }

    /// Works until `stop`, or until Kafka shuts this consumer out.
    pub(crate) fn run(self, stop: &CancellationToken) -> Result<(), Error> {
        let result = self.read(stop);
        let context = self.consumer.context();
        match &result {
            Ok(()) => group::commit(&self.consumer, &context.finish_all()),
            Err(Error::MadeAnew { topic }) => {
                // What is committed of our partitions may be places of the topic's former life.
                let beginnings = context.beginnings(topic);
                context.finish_all();
                group::commit(&self.consumer, &beginnings);
            }
            Err(_) => drop(context.finish_all()),
        }
        result
    }

    fn read(&self, stop: &CancellationToken) -> Result<(), Error> {
        let context = self.consumer.context();
        while !stop.is_cancelled() {
            self.turns.fetch_add(1, Ordering::Relaxed);
            let read = self.read_partitions();
            // librdkafka told in which life of their topics these records stand before it fetched them, so we have heard it now.
            let served = self.serve_group();
            if let Some(topic) = context.lives.made_anew() {
                return Err(Error::MadeAnew { topic });
            }
            served?;
            read?.into_iter().try_for_each(|error| self.failed(error))?;
            self.topics.look(self.consumer.client(), &context.setup.forward, &context.setup.board);
            self.prove_places()?;
            let is_busy = context.hand_over();
            self.settle()?;
            if !is_busy {
                context.bell.wait(REST);
            }
        }
        Ok(())
    }

    /// Hears to the last word what the group and librdkafka have to say, and takes records that were fetched before their partition had a
    /// queue of its own.
    fn serve_group(&self) -> Result<(), Error> {
        let context = self.consumer.context();
        loop {
            let heard = context.heard();
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => self.accept_early(&message)?,
                Some(Err(error)) => self.failed(error)?,
                // `poll` gives nothing after each call of the context, too.
                None if context.heard() == heard => return Ok(()),
                None => {}
            }
        }
    }

    /// Asks what is committed of partitions that are new to us: a place of the topic's former life may stand there.
    fn prove_places(&self) -> Result<(), Error> {
        let context = self.consumer.context();
        let unproven = context.unproven();
        if unproven.count() == 0 {
            return Ok(());
        }
        match self.consumer.committed_offsets(unproven, PATIENCE) {
            Ok(committed) => context.prove(&committed),
            Err(error) => self.failed(error),
        }
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

    /// Reads every partition that has room; what librdkafka has to complain of.
    fn read_partitions(&self) -> Result<Vec<KafkaError>, Error> {
        let context = self.consumer.context();
        let mut errors = Vec::new();
        for (topic, partitions) in context.table().iter_mut() {
            for (number, served) in partitions.iter_mut() {
                if served.queue.is_none() {
                    served.queue = self.consumer.split_partition_queue(topic, *number).map(|mut queue| {
                        let bell = context.bell.clone();
                        queue.set_nonempty_callback(move || bell.ring());
                        queue
                    });
                    // From the next turn on: what stands in the common queue is older.
                    continue;
                }
                served.read(topic, &mut errors)?;
            }
        }
        Ok(errors)
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
                    places::add(&mut offsets, topic, *number, position, served.life()).map_err(Error::KafkaFatal)?;
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
                RDKafkaErrorCode::FencedInstanceId => {
                    let Member { group, instance, .. } = self.member.clone();
                    Error::Fenced { group, instance }
                }
                _ => Error::KafkaFatal(error),
            });
        }
        let (trouble, reason) = match code {
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::TopicAuthorizationFailed,
            ) => {
                self.topics.doubt();
                return Ok(());
            }
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => (Trouble::Group, format!("Kafka: {}", chain(&error))),
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
