//! Reading back: the input and output around [`crate::readback`].

use std::collections::BTreeMap;
use std::str;
use std::time::{Duration, Instant};

use asset_stream::headers::{self, Position};
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::class::{self, Class, Failure};
use crate::readback::Standing;
use crate::topic_client::TopicClient;

/// A cluster that gives nothing for so much longer than librdkafka waits for an answer has failed.
const STALLED: Duration = Duration::from_secs(10);
/// What a record costs beside its key and value, about.
const OVERHEAD: u64 = 100;

/// Whose records are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Ours {
    pub(crate) topic: String,
    pub(crate) edge_id: String,
    pub(crate) epoch: u64,
}

/// What the headers of a record of ours say.
pub(crate) struct Numbers<'m> {
    pub(crate) sequence: u64,
    pub(crate) key_sequence: u64,
    /// `of-resent` is there.
    pub(crate) is_resent: bool,
    /// The value of `of-replay`.
    pub(crate) replay: Option<&'m [u8]>,
}

impl Ours {
    /// The record's numbers, if it is of this edge and epoch.
    pub(crate) fn numbers<'m>(&self, message: &'m BorrowedMessage<'_>) -> Option<Numbers<'m>> {
        let (mut is_ours, mut sequence, mut key_sequence, mut is_resent, mut replay) = (false, None, None, false, None);
        for header in message.headers()?.iter() {
            let value = header.value.unwrap_or_default();
            match header.key {
                headers::EDGE => is_ours = value == self.edge_id.as_bytes(),
                headers::SEQUENCE => sequence = position(value),
                headers::ASSET_SEQUENCE => key_sequence = position(value),
                headers::RESENT => is_resent = true,
                headers::REPLAY => replay = Some(value),
                _ => {}
            }
        }
        let (sequence, key_sequence) = (sequence?, key_sequence?);
        let numbers = Numbers { sequence: sequence.n, key_sequence: key_sequence.n, is_resent, replay };
        (is_ours && sequence.epoch == self.epoch).then_some(numbers)
    }

    /// Whether the record is this event of the log, whatever the edge was called when it was sent.
    fn is_event(&self, message: &BorrowedMessage<'_>, sequence: u64) -> bool {
        let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == headers::SEQUENCE));
        let found = header.and_then(|header| position(header.value.unwrap_or_default()));
        found.is_some_and(|found| (found.epoch, found.n) == (self.epoch, sequence))
    }
}

fn position(value: &[u8]) -> Option<Position> {
    str::from_utf8(value).ok()?.parse().ok()
}

/// Where reading stands, per partition: the next offset.
pub(crate) type Places = BTreeMap<i32, i64>;

/// Asked between records: whether to go on.
pub(crate) type Turn<'a> = &'a mut dyn FnMut() -> bool;

/// How a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All was read.
    Done,
    /// The limit was reached first.
    TooMuch,
    /// It was told to stop.
    Stopped,
}

/// Reads each partition from its place up to its target and notes what of ours stands there. Moves the places on; takes from `budget` (bytes).
pub(crate) fn read(
    client: &TopicClient,
    ours: &Ours,
    places: &mut Places,
    targets: &[(i32, i64)],
    budget: &mut u64,
    standing: &mut Standing,
    turn: Turn<'_>,
) -> Result<Ended, Failure> {
    up_to(client, &ours.topic, places, targets, turn, |message| {
        match ours.numbers(message) {
            // Sent again on request: no sign that somebody else writes under our id.
            Some(Numbers { sequence, replay: Some(_), .. }) if standing.is_found(sequence) => {}
            Some(Numbers { sequence, key_sequence, .. }) => standing.found(sequence, key_of(message), key_sequence),
            None => {}
        }
        let size = OVERHEAD + message.key().map_or(0, <[u8]>::len) as u64 + message.payload().map_or(0, <[u8]>::len) as u64;
        *budget = budget.saturating_sub(size);
        (*budget == 0).then_some(Ended::TooMuch)
    })
}

/// The record's key; records of ours have keys that are text.
pub(crate) fn key_of<'m>(message: &'m BorrowedMessage<'_>) -> &'m str {
    str::from_utf8(message.key().unwrap_or_default()).unwrap_or_default()
}

/// Reads each partition from its place up to its target; moves the places on. `take` may end it early.
pub(crate) fn up_to(
    client: &TopicClient,
    topic: &str,
    places: &mut Places,
    targets: &[(i32, i64)],
    turn: Turn<'_>,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Option<Ended>,
) -> Result<Ended, Failure> {
    let mut open: BTreeMap<i32, i64> = targets.iter().copied().filter(|(p, end)| places.get(p).is_some_and(|at| at < end)).collect();
    let starts: Vec<(i32, i64)> = open.keys().map(|partition| (*partition, places[partition])).collect();
    each(client, topic, &starts, turn, |seen| {
        let mut ended = None;
        match seen {
            Seen::Record(message) => {
                let partition = message.partition();
                ended = take(message);
                places.insert(partition, message.offset() + 1);
                if open.get(&partition).is_some_and(|end| message.offset() + 1 >= *end) {
                    open.remove(&partition);
                }
            }
            // The targets were asked for before this reading began, so its end of partition lies at or beyond them. What is between the
            // last record and the target are marks of transactions, or what compaction took.
            Seen::End(partition) => {
                if let Some(end) = open.remove(&partition) {
                    places.insert(partition, end);
                }
            }
        }
        if open.is_empty() { Some(Ended::Done) } else { ended }
    })
}

/// Looks whether each partition's last acknowledged event is where it was. Returns the partitions that hold another record there.
pub(crate) fn verify(client: &TopicClient, ours: &Ours, expected: &BTreeMap<i32, (i64, u64)>, turn: Turn<'_>) -> Result<Vec<i32>, Failure> {
    let mut open = expected.clone();
    let mut changed = Vec::new();
    let starts: Vec<(i32, i64)> = open.iter().map(|(partition, (offset, _))| (*partition, *offset)).collect();
    each(client, &ours.topic, &starts, turn, |seen| {
        match seen {
            Seen::Record(message) => {
                let partition = message.partition();
                if let Some((offset, sequence)) = open.remove(&partition)
                    // A record behind that place means that it is gone, by retention or compaction: that says nothing.
                    && message.offset() == offset
                    && !ours.is_event(message, sequence)
                {
                    changed.push(partition);
                }
            }
            Seen::End(partition) => {
                open.remove(&partition);
            }
        }
        open.is_empty().then_some(Ended::Done)
    })?;
    Ok(changed)
}

pub(crate) enum Seen<'a, 'm> {
    Record(&'a BorrowedMessage<'m>),
    End(i32),
}

/// Reads each partition from its start on, until `see` says how it ended.
pub(crate) fn each(
    client: &TopicClient,
    topic: &str,
    starts: &[(i32, i64)],
    turn: Turn<'_>,
    mut see: impl FnMut(Seen<'_, '_>) -> Option<Ended>,
) -> Result<Ended, Failure> {
    if starts.is_empty() {
        return Ok(Ended::Done);
    }
    let failed = |e: KafkaError| Failure::new(class::of_error(&e), format!("the topic cannot be read back: {e}"));
    let mut assignment = TopicPartitionList::with_capacity(starts.len());
    for (partition, offset) in starts {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(failed)?;
    }
    client.consumer.assign(&assignment).map_err(failed)?;
    let mut heard = Instant::now();
    let mut count = 0_u32;
    let ended = loop {
        count = count.wrapping_add(1);
        if count.is_multiple_of(256) && !turn() {
            break Ok(Ended::Stopped);
        }
        let seen = match client.consumer.poll(Duration::from_millis(100)) {
            None if !turn() => break Ok(Ended::Stopped),
            None => {
                if heard.elapsed() > client.answer_limit + STALLED {
                    let text = format!(
                        "the topic cannot be read back: nothing came within {} s; where the link is thin, a longer limit is tried next",
                        client.answer_limit.as_secs()
                    );
                    break Err(Failure::new(Class::Stalled, text));
                }
                continue;
            }
            Some(Ok(message)) => {
                heard = Instant::now();
                see(Seen::Record(&message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                see(Seen::End(partition))
            }
            Some(Err(error)) => match class::of_error(&error) {
                // No group is joined, so nobody's refusal of one matters.
                _ if error.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed) => None,
                Class::Denied | Class::Topic => break Err(failed(error)),
                _ => None,
            },
        };
        if let Some(ended) = seen {
            break Ok(ended);
        }
    };
    client.consumer.unassign().map_err(failed)?;
    ended
}
