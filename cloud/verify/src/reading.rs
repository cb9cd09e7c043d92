//! Kafka: the topic from its places to its ends, all partitions at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use asset_stream::headers;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use crate::Error;
use crate::ledger::Event;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A cluster that gives nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(30);

/// An offset in each partition.
pub(crate) type Places = BTreeMap<i32, i64>;

/// What matters of librdkafka's words comes as an error, too.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

/// Reads one topic; joins no group, and commits nothing.
pub(crate) struct Topic {
    consumer: BaseConsumer<Quiet>,
    name: String,
    partitions: Vec<i32>,
}

impl Topic {
    pub(crate) fn open(kafka: &service::kafka::Config, name: &str) -> Result<Self, Error> {
        let mut settings = kafka.client().map_err(Error::Config)?;
        settings
            .set("client.id", "openfactory-verify")
            // librdkafka asks for a name even where no group is joined.
            .set("group.id", "openfactory-verify");
        kafka.apply_overrides(&mut settings);
        settings
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            .set("auto.offset.reset", "earliest")
            // What every reader of the stream sees.
            .set("isolation.level", "read_committed")
            // For each partition: what is fetched ahead.
            .set("queued.max.messages.kbytes", "8192");
        let consumer: BaseConsumer<Quiet> = settings.create_with_context(Quiet).map_err(Error::Client)?;
        let unreachable = |source| Error::Unreachable { topic: name.to_owned(), source };
        let metadata = consumer.fetch_metadata(Some(name), PATIENCE).map_err(unreachable)?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        if let Some(code) = found.and_then(|topic| topic.error()).map(Code::from)
            && !matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic)
        {
            return Err(unreachable(KafkaError::MetadataFetch(code)));
        }
        let partitions: Vec<i32> = found.map(|topic| topic.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(Error::NoTopic { topic: name.to_owned() });
        }
        Ok(Self { consumer, name: name.to_owned(), partitions })
    }

    /// The first offset that is still there.
    pub(crate) fn starts(&self) -> Result<Places, Error> {
        self.offsets(Offset::Beginning)
    }

    /// The offset of the next record.
    pub(crate) fn ends(&self) -> Result<Places, Error> {
        self.offsets(Offset::End)
    }

    /// The first offset whose record is not older than `millis`; the end if there is none.
    pub(crate) fn at_time(&self, millis: i64) -> Result<Places, Error> {
        let (found, ends) = (self.offsets(Offset::Offset(millis.max(0)))?, self.ends()?);
        Ok(found.into_iter().map(|(partition, offset)| (partition, if offset < 0 { ends[&partition] } else { offset })).collect())
    }

    fn offsets(&self, what: Offset) -> Result<Places, Error> {
        let failed = |source| Error::Unreachable { topic: self.name.clone(), source };
        let mut list = TopicPartitionList::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            list.add_partition_offset(&self.name, *partition, what).map_err(failed)?;
        }
        let mut places = Places::new();
        for element in self.consumer.offsets_for_times(list, PATIENCE).map_err(failed)?.elements() {
            element.error().map_err(failed)?;
            places.insert(element.partition(), element.offset().to_raw().unwrap_or(-1));
        }
        Ok(places)
    }

    /// Gives every record from the places on to `see`, up to the ends. Each partition's come in its order.
    pub(crate) fn read(&self, places: &Places, ends: &Places, mut see: impl FnMut(&BorrowedMessage<'_>)) -> Result<(), Error> {
        let failed = |source| Error::Unreachable { topic: self.name.clone(), source };
        let mut open: Places =
            ends.iter().filter(|(partition, end)| places.get(partition).is_some_and(|at| at < *end)).map(|(p, end)| (*p, *end)).collect();
        let mut assignment = TopicPartitionList::with_capacity(open.len());
        for partition in open.keys() {
            assignment.add_partition_offset(&self.name, *partition, Offset::Offset(places[partition])).map_err(failed)?;
        }
        self.consumer.assign(&assignment).map_err(failed)?;
        let mut heard = Instant::now();
        let mut trouble = KafkaError::MessageConsumption(Code::OperationTimedOut);
        while !open.is_empty() {
            match self.consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let Some(end) = open.get(&message.partition()).copied() else { continue };
                    if message.offset() < end {
                        see(&message);
                    }
                    if message.offset() + 1 >= end {
                        open.remove(&message.partition());
                    }
                }
                // The ends were asked for before, so this one lies at or behind them: what is left are markers of transactions.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    heard = Instant::now();
                    open.remove(&partition);
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(Code::TopicAuthorizationFailed | Code::UnknownTopicOrPartition) => return Err(failed(error)),
                    // No group is joined, so nobody's refusal of one matters.
                    Some(Code::GroupAuthorizationFailed) => {}
                    // The client connects anew by itself.
                    _ => trouble = error,
                },
                None if heard.elapsed() > STALLED => return Err(failed(trouble)),
                None => {}
            }
        }
        self.consumer.unassign().map_err(failed)
    }
}

/// The record as an event of an edge; `None` if no edge wrote it.
pub(crate) fn event<'m>(message: &'m BorrowedMessage<'_>) -> Option<Event<'m>> {
    let (mut edge, mut sequence, mut asset_sequence, mut is_late) = (None, None, None, false);
    for header in message.headers()?.iter() {
        let text = std::str::from_utf8(header.value.unwrap_or_default()).unwrap_or_default();
        match header.key {
            headers::EDGE => edge = Some(text).filter(|edge| !edge.is_empty()),
            headers::SEQUENCE => sequence = text.parse().ok(),
            headers::ASSET_SEQUENCE => asset_sequence = text.parse().ok(),
            headers::RESENT | headers::REPLAY => is_late = true,
            _ => {}
        }
    }
    Some(Event {
        partition: message.partition(),
        edge: edge?,
        asset: std::str::from_utf8(message.key()?).ok()?,
        sequence: sequence?,
        asset_sequence: asset_sequence?,
        is_late,
        time: message.timestamp().to_millis(),
        value: message.payload().unwrap_or_default(),
    })
}
