//! Whether an asset is known at all, as far as that can be told cheaply: by the newest events of its partition.

use std::time::{Duration, Instant};

use asset_stream::command::{COMMAND_MARK, has_mark};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use crate::Error;
use crate::kafka::{self, PATIENCE, Quiet};
use crate::topics;

/// So many records are looked at, at most.
pub const NEWEST: i64 = 20_000;
/// And for so long.
const TIME: Duration = Duration::from_secs(3);

/// Looks at the newest events of the partition that `partition` chooses of so many.
pub(crate) fn recently(kafka: &service::kafka::Config, topic: &str, asset: &str, partition: impl Fn(i32) -> i32) -> Result<bool, Error> {
    let failed = |source| Error::Unreachable { topic: topic.to_owned(), source };
    let consumer: BaseConsumer<Quiet> = kafka::following(kafka)?.create_with_context(Quiet).map_err(failed)?;
    let partition = partition(topics::partitions(consumer.client(), topic).map_err(failed)?);
    let (first, end) = consumer.fetch_watermarks(topic, partition, PATIENCE).map_err(failed)?;
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, partition, Offset::Offset(first.max(end - NEWEST))).map_err(failed)?;
    consumer.assign(&place).map_err(failed)?;
    let deadline = Instant::now() + TIME;
    while Instant::now() < deadline {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        // A command is what somebody asks of it: that proves nothing.
        let is_told = !message.payload().is_some_and(|value| has_mark(value, COMMAND_MARK));
        if message.key() == Some(asset.as_bytes()) && is_told {
            return Ok(true);
        }
        if message.offset() + 1 >= end {
            break;
        }
    }
    Ok(false)
}
