//! Samples become events: encoded, numbered, durable.
//!
//! A thread of its own takes batches from the gateways in order and hands them to the log. What the log refuses is noted durably in the log's
//! ledger, also on a full disk, before the gateway is told; it becomes a gap event when the log takes events again ([`crate::losses`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use asset_stream::{Gap, GapReason, Sample, Timestamp};
use edge_buffer::{Appended, Entry, Health, Log, Refusal};
use gateway::{Batch, Outcome, SampleReceiver};
use service::error::chain;
use tracing::{error, warn};

/// How often the loop turns when devices are silent.
const TURN: Duration = Duration::from_secs(1);
/// How often refusals are noted: one small sync each, and what a crash of the edge may leave to the devices.
const NOTE_EVERY: Duration = Duration::from_millis(250);

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

/// What the log refused and nobody has been told yet.
#[derive(Debug, Default)]
struct Refused {
    counts: BTreeMap<Arc<str>, u64>,
    /// Of the oldest and the newest event, Unix ms.
    times: Option<(i64, i64)>,
    why: String,
    /// Finished when it is noted: until then the gateway may still have them from its device.
    batches: Vec<Batch>,
}

impl Refused {
    fn new(events: impl Iterator<Item = (Arc<str>, Timestamp)>, reason: &Refusal, batch: Batch) -> Self {
        let mut refused = Self { why: reason.to_string(), batches: vec![batch], ..Self::default() };
        for (asset, time) in events {
            *refused.counts.entry(asset).or_default() += 1;
            refused.spans((time.millis(), time.millis()));
        }
        refused
    }

    fn merge(&mut self, other: Self) {
        for (asset, count) in other.counts {
            *self.counts.entry(asset).or_default() += count;
        }
        other.times.into_iter().for_each(|times| self.spans(times));
        self.why = other.why;
        self.batches.extend(other.batches);
    }

    fn spans(&mut self, (from, to): (i64, i64)) {
        self.times = Some(self.times.map_or((from, to), |(a, b)| (a.min(from), b.max(to))));
    }
}

type Shared = Arc<Mutex<Refused>>;

fn locked(refused: &Shared) -> MutexGuard<'_, Refused> {
    refused.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How ingest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything taken is on disk, or noted there as refused.
    Settled,
    /// The log has ended, or its disk does not even take a note of what was refused.
    Unsettled,
}

/// Runs until every sender is gone and everything taken is in the log's hands, or the log is closed under it. Blocks; call it on a thread
/// of its own. `largest` is the largest entry, in bytes, that the log takes.
pub(crate) fn run(
    mut samples: SampleReceiver,
    log: &Log,
    largest: usize,
    counters: &Arc<Counters>,
    runtime: &tokio::runtime::Handle,
) -> End {
    let refused = Shared::default();
    // Each batch in the log's hands holds one end.
    let (under_way, all_decided) = mpsc::channel();
    let mut noted = Instant::now();
    loop {
        counters.turns.fetch_add(1, Ordering::Relaxed);
        let patience = if locked(&refused).times.is_some() { NOTE_EVERY } else { TURN };
        let next = runtime.block_on(async { tokio::time::timeout(patience, samples.recv()).await });
        match next {
            Ok(None) => break,
            Ok(Some(batch)) => {
                if let Err(error) = take(batch, log, largest, counters, &refused, under_way.clone()) {
                    error!(error = chain(&error), "the log takes no more events");
                    return End::Unsettled;
                }
            }
            Err(_) if log.health() == Health::Closed => {
                error!("the log has ended");
                return End::Unsettled;
            }
            Err(_) => {}
        }
        if noted.elapsed() >= NOTE_EVERY {
            note(log, &refused);
            noted = Instant::now();
        }
    }
    drop(under_way);
    while all_decided.recv().is_ok() {}
    note(log, &refused);
    if locked(&refused).times.is_some() { End::Unsettled } else { End::Settled }
}

fn take(
    mut batch: Batch,
    log: &Log,
    largest: usize,
    counters: &Arc<Counters>,
    refused: &Shared,
    under_way: mpsc::Sender<()>,
) -> Result<(), edge_buffer::Error> {
    let samples = batch.take_samples();
    let count = samples.len() as u64;
    counters.accepted.fetch_add(count, Ordering::Relaxed);
    let entries: Vec<Entry> = samples.iter().map(|sample| fitting(sample, largest)).collect();
    let told: Vec<_> = samples.iter().map(|sample| (sample.item.asset.clone(), sample.timestamp)).collect();
    drop(samples);
    let (counters, refused) = (counters.clone(), refused.clone());
    let done = move |appended: Appended| {
        match appended {
            Appended::Durable { .. } => {
                counters.durable.fetch_add(count, Ordering::Relaxed);
                batch.finish(Outcome::Durable);
            }
            // The process is ending: the gateway learns by its closed receipt that nobody can tell.
            Appended::Refused { reason: Refusal::Closed, .. } => {}
            Appended::Refused { reason, durable } => {
                counters.durable.fetch_add(durable as u64, Ordering::Relaxed);
                counters.refused.fetch_add(count - durable as u64, Ordering::Relaxed);
                locked(&refused).merge(Refused::new(told.into_iter().skip(durable), &reason, batch));
            }
        }
        drop(under_way);
    };
    log.append(entries, done)
}

/// Makes durable what was refused, then tells the gateways. If the disk does not take even that, it is kept and tried again; the gateways
/// wait meanwhile, as their batches fill the channel's limit.
fn note(log: &Log, refused: &Shared) {
    let taken = std::mem::take(&mut *locked(refused));
    let Some((from, to)) = taken.times else { return };
    let counts = taken.counts.iter().map(|(asset, count)| (asset.clone(), *count)).collect();
    match log.note_refused(counts, from, to, taken.why.clone()) {
        Ok(()) => taken.batches.into_iter().for_each(|batch| batch.finish(Outcome::Refused)),
        Err(error) => {
            warn!(error = chain(&error), "refused events cannot be noted; tried again");
            locked(refused).merge(taken);
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
    let detail = format!("the event has {size} bytes, the log takes {largest}; raise log.segment_size");
    let gap = Gap {
        item: Some(sample.item.id.clone()),
        count: Some(1),
        ..Gap::before_log(asset, GapReason::TooLarge, sample.timestamp, sample.timestamp, detail)
    };
    entry(&gap.to_sample(sample.ingested))
}

/// What stands in the log: exactly what Kafka gets.
pub(crate) fn entry(sample: &Sample) -> Entry {
    let mut value = Vec::with_capacity(256);
    sample.encode(&mut value);
    Entry { key: sample.item.asset.clone(), timestamp: sample.record_time(), value }
}
