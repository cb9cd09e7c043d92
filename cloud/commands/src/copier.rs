//! The thread that copies commands: records and offsets in one transaction each time, so that every command is copied once.
//!
//! What goes wrong ends a life: both clients are thrown away and made anew. The new producer has the same transactional id, so Kafka first
//! decides what became of the transaction before; then the consumer begins where that left its offsets. Nothing is remembered in between but
//! which records Kafka never takes. A rebalance drops what was read and not copied: whoever has the partition then reads it again.

mod batch;
mod context;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use service::error::chain;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Error;
use crate::config::Commands;
use crate::status::{Board, Trouble};
use crate::{kafka, topics};
use batch::Batch;
use context::{Deliveries, Group, Impossible};

/// While there are no commands, offsets are committed so often.
const OFFSETS: Duration = Duration::from_secs(5);
/// How long a command may wait for others that share its transaction.
const LINGER: Duration = Duration::from_millis(20);
/// Commands of a transaction, at most.
const BATCH: usize = 500;
/// How long each step of a transaction may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two lives.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at `stop`.
const TICK: Duration = Duration::from_millis(100);

/// Copies commands from the asset stream to their own topic.
pub(crate) struct Copier {
    kafka: service::kafka::Config,
    commands: Commands,
    board: Arc<Board>,
    impossible: Impossible,
}

/// Both clients, from one trouble to the next.
struct Life<'c> {
    copier: &'c Copier,
    consumer: BaseConsumer<Group>,
    producer: BaseProducer<Deliveries>,
}

/// Why a life ended; a sentence for people.
struct Ended(String);

impl Copier {
    /// Finds everything that starting could fail with; nothing is connected.
    pub(crate) fn new(kafka: service::kafka::Config, commands: Commands, board: Arc<Board>) -> Result<Self, Error> {
        let copier = Self { kafka, commands, board, impossible: Impossible::default() };
        copier.consumer().map(drop)?;
        copier.producer().map(drop)?;
        Ok(copier)
    }

    fn consumer(&self) -> Result<BaseConsumer<Group>, Error> {
        let failed = |source| Error::KafkaClient { client: "consumer", source };
        kafka::copying(&self.kafka, &self.commands)?.create_with_context(Group::new(self.board.clone())).map_err(failed)
    }

    fn producer(&self) -> Result<BaseProducer<Deliveries>, Error> {
        let failed = |source| Error::KafkaClient { client: "producer", source };
        let deliveries = Deliveries { impossible: self.impossible.clone(), board: self.board.clone() };
        kafka::transactions(&self.kafka, &self.commands)?.create_with_context(deliveries).map_err(failed)
    }

    /// Copies until `stop`; waits for whatever is away.
    pub(crate) fn run(&self, stop: &CancellationToken) -> Result<(), Error> {
        while !stop.is_cancelled() {
            self.turn();
            if let Err(reason) = topics::ready(&self.kafka, &self.commands) {
                self.wait(reason, stop);
                continue;
            }
            self.turn();
            let (consumer, producer) = (self.consumer()?, self.producer()?);
            let mut life = Life { copier: self, consumer, producer };
            let ended = life.run(stop);
            let Life { consumer, producer, .. } = life;
            // Closing them may wait for brokers that are away.
            let closing = std::thread::Builder::new().name("closing".into()).spawn(move || drop((producer, consumer)));
            match ended {
                // The group hears of it at once, if brokers are there.
                Ok(()) => drop(closing.map(std::thread::JoinHandle::join)),
                Err(Ended(reason)) => self.wait(reason, stop),
            }
        }
        Ok(())
    }

    fn turn(&self) {
        self.board.turns.fetch_add(1, Relaxed);
    }

    fn wait(&self, reason: String, stop: &CancellationToken) {
        if self.board.trouble(Trouble::Copying, reason.clone()) {
            warn!(%reason, "no commands are copied until this is over");
        }
        let end = Instant::now() + AGAIN;
        while Instant::now() < end && !stop.is_cancelled() {
            self.turn();
            std::thread::sleep(TICK);
        }
    }
}

impl Life<'_> {
    fn run(&mut self, stop: &CancellationToken) -> Result<(), Ended> {
        // From here on whoever had our name before can commit nothing more, and what it left open is taken back.
        self.producer.init_transactions(PATIENCE).map_err(|error| ended("transactions cannot begin", &error))?;
        let topic = self.copier.commands.assets_topic.as_str();
        self.consumer.subscribe(&[topic]).map_err(|error| ended("the asset stream cannot be read", &error))?;
        let (mut batch, mut committed) = (Batch::default(), Instant::now());
        while !stop.is_cancelled() {
            self.copier.turn();
            let revoked = self.consumer.context().revoked();
            // Commands that wait are copied when nothing is behind them.
            let polled = self.consumer.poll(if batch.commands.is_empty() { TICK } else { Duration::ZERO });
            if self.consumer.context().revoked() != revoked || self.consumer.assignment_lost() {
                batch = Batch::default();
            }
            let is_drained = polled.is_none();
            match polled {
                Some(Ok(message)) => {
                    let refused = self.copier.impossible.has(message.partition(), message.offset());
                    batch.take(&message, refused);
                    self.copier.board.read.fetch_add(1, Relaxed);
                }
                Some(Err(error)) => self.failed(&error)?,
                None => {}
            }
            let is_full = batch.commands.len() >= BATCH || batch.since.is_some_and(|since| since.elapsed() >= LINGER);
            let is_due = if batch.commands.is_empty() { committed.elapsed() >= OFFSETS } else { is_drained || is_full };
            if is_due && !batch.positions.is_empty() {
                self.copy(&std::mem::take(&mut batch))?;
                committed = Instant::now();
            }
        }
        if batch.positions.is_empty() { Ok(()) } else { self.copy(&batch) }
    }

    /// One transaction.
    fn copy(&self, batch: &Batch) -> Result<(), Ended> {
        let board = &self.copier.board;
        let failed = |error: KafkaError| ended("commands cannot be copied", &error);
        self.producer.begin_transaction().map_err(failed)?;
        for command in &batch.commands {
            let mut record =
                BaseRecord::with_opaque_to(&self.copier.commands.commands_topic, Box::new((command.partition, command.offset)))
                    .key(command.key.as_slice())
                    .payload(command.value.as_slice())
                    .headers(command.headers(&self.copier.commands.assets_topic));
            if let Some(time) = command.time {
                record = record.timestamp(time);
            }
            // A batch is far smaller than the producer's queue.
            self.producer.send(record).map_err(|(error, _)| failed(error))?;
        }
        // The library's own flush looks every 100 ms only.
        let end = Instant::now() + PATIENCE;
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(5));
            self.copier.turn();
            if Instant::now() >= end {
                return Err(Ended("commands cannot be copied: Kafka does not acknowledge them".into()));
            }
        }
        let members = self.consumer.group_metadata().ok_or_else(|| Ended("commands cannot be copied: the group is not known".into()))?;
        let positions = batch.positions(&self.copier.commands.assets_topic).map_err(failed)?;
        self.producer.send_offsets_to_transaction(&positions, &members, PATIENCE).map_err(failed)?;
        self.copier.turn();
        self.producer.commit_transaction(PATIENCE).map_err(failed)?;
        Board::add(&board.copied, batch.commands.len());
        batch.positions.iter().for_each(|(partition, position)| board.at(*partition, *position));
        if board.settled(&Trouble::Copying) {
            info!("commands are copied again");
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError) -> Result<(), Ended> {
        if let Some((fatal, _)) = self.consumer.client().fatal_error() {
            return Err(match fatal {
                Code::FencedInstanceId => Ended(fenced(&self.copier.commands)),
                _ => ended("Kafka ended the consumer", error),
            });
        }
        match error.rdkafka_error_code() {
            // One broker of several: the others go on, and librdkafka tells when none is left.
            Some(Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut) => Ok(()),
            Some(Code::AllBrokersDown) => {
                if self.copier.board.trouble(Trouble::Brokers, "Kafka: no broker answers".into()) {
                    warn!("no broker answers; commands are copied when one does");
                }
                Ok(())
            }
            _ => Err(ended("the asset stream cannot be read", error)),
        }
    }
}

fn ended(what: &str, error: &KafkaError) -> Ended {
    Ended(format!("Kafka: {what}: {}", chain(error)))
}

fn fenced(commands: &Commands) -> String {
    format!(
        "Kafka: another copier joined the group {:?} as {:?}; if this goes on, give each its own commands.instance (the default is the host's name)",
        commands.group,
        commands.instance()
    )
}
