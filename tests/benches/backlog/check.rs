//! Whether Kafka holds each event once and in its asset's order: a pass over the topic that needs a bit an event.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use asset_stream::{Position, headers};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Nothing to read for so long means that Kafka does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every sequence of the epoch must stand in `topic` once, at least up to `through`, and each asset's numbers must follow each other.
pub(crate) fn check(bootstrap: &str, topic: &str, epoch: u64, mut through: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut seen = vec![0_u64; usize::try_from(through / 64)? + 1];
    let mut assets: HashMap<Vec<u8>, u64> = HashMap::new();
    let (mut records, mut repeats, mut strays) = (0_u64, 0_u64, 0_u64);
    for_each(bootstrap, topic, |record| {
        records += 1;
        let sequence = number(record, headers::SEQUENCE, epoch)?;
        let (word, bit) = (usize::try_from(sequence / 64)?, 1 << (sequence % 64));
        // What the edge said while it was stopped.
        through = through.max(sequence);
        if word >= seen.len() {
            seen.resize(word + 1, 0);
        }
        repeats += u64::from(seen[word] & bit != 0);
        seen[word] |= bit;
        let key = record.key().context("a record has no key")?;
        let last = match assets.get_mut(key) {
            Some(last) => last,
            None => assets.entry(key.to_vec()).or_default(),
        };
        let own = number(record, headers::ASSET_SEQUENCE, epoch)?;
        strays += u64::from(own != *last + 1);
        *last = own;
        Ok(())
    })?;
    let found: u64 = seen.iter().map(|word| u64::from(word.count_ones())).sum();
    println!(
        "checked in {:.1?}: records={records} assets={} missing={} duplicated={repeats} out_of_order={strays}",
        began.elapsed(),
        assets.len(),
        through - found
    );
    ensure!((found, repeats, strays) == (through, 0, 0), "Kafka does not hold each event once and in order");
    Ok(())
}

fn number(record: &impl Message, header: &str, epoch: u64) -> anyhow::Result<u64> {
    let headers = record.headers().context("a record has no headers")?;
    let value =
        headers.iter().find(|found| found.key == header).and_then(|found| found.value).context("a record lacks a header of ours")?;
    let position: Position = std::str::from_utf8(value)?.parse()?;
    ensure!(position.epoch == epoch, "a record is of epoch {}, not {epoch}", position.epoch);
    Ok(position.n)
}

/// Hands over every record that stands in the topic now, partition by partition in order.
fn for_each(
    bootstrap: &str,
    topic: &str,
    mut take: impl FnMut(&rdkafka::message::BorrowedMessage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "check")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut places = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        places.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&places)?;
    let mut open = places.count();
    while open > 0 {
        match consumer.poll(PATIENCE).context("Kafka does not go on")? {
            Ok(record) => take(&record)?,
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
