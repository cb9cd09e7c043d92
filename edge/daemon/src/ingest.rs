//! Samples become events: encoded, numbered, durable.
//!
//! A thread of its own takes batches from the gateways in order and hands them to the log. What the log refuses is counted per asset and
//! becomes a gap event as soon as the log takes events again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use asset_stream::{Gap, GapReason, Sample, Timestamp};
use edge_buffer::{Appended, Entry, Log, Refusal};
use gateway::{Batch, Outcome, SampleReceiver};
use tracing::{error, warn};

/// Kafka refuses records that are more than an hour ahead of its clock (`message.timestamp.after.max.ms`); half of that leaves room for
/// the difference between the edge's clock and the broker's.
const MAX_AHEAD_MS: i64 = 30 * 60 * 1000;

/// What ingest counts; read by the status page.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Samples taken from gateways.
    pub(crate) accepted: AtomicU64,
    /// Events on disk, since the start.
    pub(crate) durable: AtomicU64,
    /// Events that the log refused, since the start.
    pub(crate) refused: AtomicU64,
    /// Turns of the loop, for the watchdog.
    pub(crate) turns: AtomicU64,
}

#[derive(Debug)]
struct Refused {
    count: u64,
    from: Timestamp,
    to: Timestamp,
    why: String,
}

impl Refused {
    fn add(&mut self, count: u64, from: Timestamp, to: Timestamp) {
        self.count += count;
        self.from = self.from.min(from);
        self.to = self.to.max(to);
    }
}

type RefusedByAsset = Arc<Mutex<BTreeMap<Arc<str>, Refused>>>;

/// Runs until every sender is gone and everything taken is in the log's hands. Blocks; call it on a thread of its own.
/// `largest` is the largest entry, in bytes, that the log takes.
pub(crate) fn run(mut samples: SampleReceiver, log: &Log, largest: usize, counters: &Arc<Counters>, runtime: &tokio::runtime::Handle) {
    let refused = RefusedByAsset::default();
    loop {
        counters.turns.fetch_add(1, Ordering::Relaxed);
        // The time limit lets the loop turn for the watchdog when devices are silent.
        let next = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), samples.recv()).await });
        match next {
            Ok(None) => break,
            Ok(Some(batch)) => take(batch, log, largest, counters, &refused),
            Err(_) => {}
        }
        tell_refused(log, &refused);
    }
}

fn take(mut batch: Batch, log: &Log, largest: usize, counters: &Arc<Counters>, refused: &RefusedByAsset) {
    let samples = batch.take_samples();
    let count = samples.len() as u64;
    counters.accepted.fetch_add(count, Ordering::Relaxed);
    let entries: Vec<Entry> = samples.iter().map(|sample| fitting(sample, largest)).collect();
    let told: Vec<_> = samples.iter().map(|sample| (sample.item.asset.clone(), sample.timestamp)).collect();
    drop(samples);
    let (counters, refused) = (counters.clone(), refused.clone());
    let done = move |appended: Appended| match appended {
        Appended::Durable { .. } => {
            counters.durable.fetch_add(count, Ordering::Relaxed);
            batch.finish(Outcome::Durable);
        }
        // The process is ending: the gateway learns by its closed receipt that nobody can tell.
        Appended::Refused { reason: Refusal::Closed, .. } => {}
        Appended::Refused { reason, durable } => {
            counters.durable.fetch_add(durable as u64, Ordering::Relaxed);
            counters.refused.fetch_add(count - durable as u64, Ordering::Relaxed);
            let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
            for (asset, time) in told.into_iter().skip(durable) {
                let why = reason.to_string();
                refused.entry(asset).or_insert(Refused { count: 0, from: time, to: time, why }).add(1, time, time);
            }
            batch.finish(Outcome::Refused);
        }
    };
    if let Err(error) = log.append(entries, done) {
        error!(error = %service::error::chain(&error), "the log takes no more events");
    }
}

/// What the log refused is told as soon as it takes events again; until then it is kept and counted on.
fn tell_refused(log: &Log, refused: &RefusedByAsset) {
    let waiting = std::mem::take(&mut *refused.lock().unwrap_or_else(PoisonError::into_inner));
    for (asset, lost) in waiting {
        let gap = Gap {
            asset: asset.clone(),
            item: None,
            reason: GapReason::RefusedNew,
            count: Some(lost.count),
            sequences: None,
            asset_sequences: None,
            from: lost.from,
            to: lost.to,
            detail: lost.why.clone(),
        };
        if !matches!(log.append_durable(vec![entry(&gap.to_sample(Timestamp::now()))]), Ok(Appended::Durable { .. })) {
            warn!(%asset, count = lost.count, "events were refused; the gap is told when the log takes events again");
            let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
            let (count, from, to) = (lost.count, lost.from, lost.to);
            refused.entry(asset).or_insert(Refused { count: 0, ..lost }).add(count, from, to);
        }
    }
}

/// The entry, or the gap event that stands in for one that the log could never take.
fn fitting(sample: &Sample, largest: usize) -> Entry {
    let whole = entry(sample);
    let size = whole.key.len() + whole.value.len();
    if size <= largest {
        return whole;
    }
    let asset = sample.item.asset.clone();
    warn!(%asset, item = %sample.item.id, size, largest, "an event is too large for the log");
    let gap = Gap {
        asset,
        item: Some(sample.item.id.clone()),
        reason: GapReason::TooLarge,
        count: Some(1),
        sequences: None,
        asset_sequences: None,
        from: sample.timestamp,
        to: sample.timestamp,
        detail: format!("the event has {size} bytes, the log takes {largest}; raise log.segment_size"),
    };
    entry(&gap.to_sample(sample.ingested))
}

/// What stands in the log: exactly what Kafka gets.
pub(crate) fn entry(sample: &Sample) -> Entry {
    let mut value = Vec::with_capacity(256);
    sample.encode(&mut value);
    Entry { key: sample.item.asset.clone(), timestamp: record_time(sample.timestamp, sample.ingested), value }
}

/// The record's time: the device's, unless its clock is so wrong that a broker refuses it or reads it as "none".
fn record_time(device: Timestamp, ingested: Timestamp) -> i64 {
    let (device, ingested) = (device.millis(), ingested.millis());
    if device > 0 && device <= ingested.saturating_add(MAX_AHEAD_MS) { device } else { ingested }
}

#[cfg(test)]
mod tests {
    use super::record_time;
    use asset_stream::Timestamp;

    #[test]
    fn a_device_clock_in_the_past_is_kept_and_one_far_ahead_is_clamped() {
        let time = Timestamp::from_millis;
        let now = 1_769_528_223_871;
        assert_eq!(record_time(time(1_000), time(now)), 1_000, "1970 is in the past, brokers take it");
        assert_eq!(record_time(time(now + 60_000), time(now)), now + 60_000, "a minute ahead is ordinary");
        assert_eq!(record_time(time(now + 7_200_000), time(now)), now, "two hours ahead would be refused");
        for broken in [0, -1] {
            assert_eq!(record_time(time(broken), time(now)), now, "Kafka has no such time: {broken}");
        }
    }
}
