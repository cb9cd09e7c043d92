//! What is copied in one transaction: commands, and how far the partitions are with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use asset_stream::{Timestamp, headers};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders};
use rdkafka::{Offset, TopicPartitionList};

use crate::record::{self, Record};

/// Brokers refuse times that lie in the future, each topic with a limit of its own. So much may a sender's clock be ahead.
const AHEAD: Duration = Duration::from_secs(60);

/// What was read since the last transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Command>,
    /// The next offset of each partition.
    pub(super) positions: BTreeMap<i32, i64>,
    /// When the first command was read.
    pub(super) since: Option<Instant>,
}

/// A command as it stands in the asset stream.
pub(super) struct Command {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// Unix milliseconds.
    pub(super) time: Option<i64>,
    headers: Option<OwnedHeaders>,
}

impl Batch {
    /// Takes a record in. `refused`: Kafka never takes a copy of it.
    pub(super) fn take(&mut self, message: &BorrowedMessage<'_>, refused: bool) {
        self.positions.insert(message.partition(), message.offset() + 1);
        let (Some(key), Some(value)) = (message.key(), message.payload()) else { return };
        if refused || record::of(value) == Record::Other {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.commands.push(Command {
            partition: message.partition(),
            offset: message.offset(),
            key: key.to_vec(),
            value: value.to_vec(),
            time: message.timestamp().to_millis().map(|time| honest(time, Timestamp::now().millis())),
            headers: message.headers().map(|headers| headers.detach()),
        });
    }

    pub(super) fn positions(&self, topic: &str) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(self.positions.len());
        for (partition, position) in &self.positions {
            list.add_partition_offset(topic, *partition, Offset::Offset(*position))?;
        }
        Ok(list)
    }
}

impl Command {
    /// Those that it has, and where it stands.
    pub(super) fn headers(&self, topic: &str) -> OwnedHeaders {
        let source = format!("{topic}:{}:{}", self.partition, self.offset);
        self.headers.clone().unwrap_or_default().insert(Header { key: headers::SOURCE, value: Some(&source) })
    }
}

fn honest(time: i64, now: i64) -> i64 {
    if time > now + AHEAD.as_millis() as i64 { now } else { time }
}

#[cfg(test)]
mod tests {
    use super::honest;

    #[test]
    fn a_time_is_kept_unless_brokers_would_refuse_it() {
        assert_eq!([honest(0, 1_000_000), honest(1_060_000, 1_000_000), honest(1_060_001, 1_000_000)], [0, 1_060_000, 1_000_000]);
    }
}
