//! Kafka: a partition with a leader and a follower, and what it knows of idempotent producers.

use crate::events::{Record, Sequence};
use crate::producer::Attempt;

/// A producer's life; each has a producer id of its own.
pub(crate) type Life = u8;

/// A batch on its way to a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Request {
    pub(crate) partition: usize,
    pub(crate) life: Life,
    /// The producer's own number of the first record; counted for each partition from 0.
    pub(crate) first: u8,
    pub(crate) records: Vec<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    /// The batch stands from this offset on: by this request, or by one before it.
    Taken {
        offset: u8,
    },
    Refused,
}

/// A record with the producer that brought it, as long as the broker remembers that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    record: Record,
    producer: Option<(Life, u8)>,
}

/// The leader's log. The follower holds what lies below the high watermark, and becomes the leader with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Partition {
    log: Vec<Entry>,
    high_watermark: u8,
}

impl Partition {
    /// What the leader does with a request. Of a producer that it does not know it takes any number, as Kafka does.
    pub(crate) fn take(&mut self, request: &Request) -> Answer {
        let numbers = || self.log.iter().map(|entry| entry.producer.filter(|(life, _)| *life == request.life).map(|(_, number)| number));
        let last = numbers().flatten().max();
        if last.is_some_and(|last| request.first <= last) {
            let there = numbers().position(|number| number == Some(request.first));
            return there.map_or(Answer::Refused, |offset| Answer::Taken { offset: offset as u8 });
        }
        if last.is_some_and(|last| request.first > last + 1) {
            return Answer::Refused;
        }
        let offset = self.end();
        let numbered = (request.first..).zip(&request.records);
        self.log.extend(numbered.map(|(number, record)| Entry { record: *record, producer: Some((request.life, number)) }));
        Answer::Taken { offset }
    }

    /// The follower has caught up.
    pub(crate) fn replicate(&mut self) {
        self.high_watermark = self.end();
    }

    pub(crate) fn is_replicated(&self) -> bool {
        self.high_watermark == self.end()
    }

    /// The follower becomes the leader: clean, so what was acknowledged survives, and what producers are known by is read from the log.
    pub(crate) fn change_leader(&mut self) {
        self.log.truncate(usize::from(self.high_watermark));
    }

    /// `producer.id.expiration.ms` has passed.
    pub(crate) fn forget_producers(&mut self) {
        self.log.iter_mut().for_each(|entry| entry.producer = None);
    }

    pub(crate) fn remembers_a_producer(&self) -> bool {
        self.log.iter().any(|entry| entry.producer.is_some())
    }

    /// Whether the answer leaves the leader: with `acks=all`, once the follower has the batch.
    pub(crate) fn lets_go(&self, attempt: &Attempt) -> bool {
        match attempt.answer {
            None => false,
            Some(Answer::Refused) => true,
            Some(Answer::Taken { offset }) => usize::from(offset) + attempt.request.records.len() <= self.high_watermark.into(),
        }
    }

    pub(crate) fn high_watermark(&self) -> u8 {
        self.high_watermark
    }

    /// All that the leader holds.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        self.log.iter().map(|entry| entry.record)
    }

    /// What readers get from an offset on.
    pub(crate) fn read(&self, from: u8) -> impl Iterator<Item = Record> {
        self.records().take(usize::from(self.high_watermark)).skip(usize::from(from))
    }

    /// Whether an event stands where no change of leader can remove it.
    pub(crate) fn holds(&self, sequence: Sequence) -> bool {
        self.read(0).any(|record| record.sequence == sequence)
    }

    fn end(&self) -> u8 {
        self.log.len() as u8
    }
}
