//! What the handles, the readers and the threads of an open log share.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::checkpoint::KeyCounts;
use crate::kept::{Kept, KeptCursors};
use crate::ledger::Ledger;
use crate::locked::Locked;
use crate::quarantine::Quarantine;
use crate::queue::Queue;
use crate::segment::{self, Segments};
use crate::stats::Meter;
use crate::storage::Storage;
use crate::{Config, Cursor, LossReason};

/// The shared state of an open log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) epoch: u64,
    pub(crate) queue: Queue,
    pub(crate) counts: Locked<Counts>,
    pub(crate) segments: Locked<Segments>,
    pub(crate) cursors: Kept<KeptCursors>,
    pub(crate) ledger: Kept<Ledger>,
    pub(crate) arrival: Locked<Arrival>,
    pub(crate) quarantine: Quarantine,
    pub(crate) meter: Meter,
    /// The place that the disk did not give last.
    pub(crate) unreadable: Locked<Unreadable>,
    /// Grows when entries that already have numbers are refused: numbers given out under an older one are void.
    pub(crate) generation: AtomicU64,
    durable: AtomicU64,
    progress: Mutex<()>,
    progressed: Condvar,
    /// Readers hold it too: as long as one lives, no other process may take the directory.
    _lock: Box<dyn Any + Send + Sync>,
}

/// A place that the disk does not give, and how often it was asked: by whatever reader, as those who get an error may begin another.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    place: (u64, u64),
    attempts: u32,
}

impl Unreadable {
    /// Another attempt failed at an offset of a segment; how many did so far.
    pub(crate) fn failed(&mut self, place: (u64, u64)) -> u32 {
        if self.place != place {
            *self = Self { place, attempts: 0 };
        }
        self.attempts += 1;
        self.attempts
    }

    /// The disk gave the place.
    pub(crate) fn given(&mut self, place: (u64, u64)) {
        if self.place == place {
            self.attempts = 0;
        }
    }
}

/// How far keys have counted, as far as it is durable. Keys have indexes: the position in `names` and `counts`.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The last durable sequence.
    pub(crate) sequence: u64,
    pub(crate) names: Vec<Arc<str>>,
    /// Shorter than `names` while new keys are under way.
    pub(crate) counts: Vec<u64>,
    /// Where a new key begins to count.
    pub(crate) floor: u64,
}

impl Counts {
    pub(crate) fn new(sequence: u64, keys: KeyCounts, floor: u64) -> Self {
        let (names, counts) = keys.into_iter().unzip();
        Self { sequence, names, counts, floor }
    }

    /// Entries of a key became durable.
    pub(crate) fn add(&mut self, key: u32, entries: u32) {
        let key = key as usize;
        if self.counts.len() <= key {
            self.counts.resize(key + 1, self.floor);
        }
        self.counts[key] += u64::from(entries);
    }

    /// The same by name. Keys that never had a durable entry are not in it.
    pub(crate) fn by_name(&self) -> KeyCounts {
        // One that was known before a loss raised the floor may have counted less: it goes on where it was.
        let counted = self.names.iter().zip(&self.counts).filter(|(_, count)| **count != self.floor);
        counted.map(|(name, count)| (name.clone(), *count)).collect()
    }
}

/// Where the mirror and the dropping of what it has not acknowledged meet. Locked while a segment is dropped, so that an entry has either
/// arrived before, or counts as dropped.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Everything up to here has arrived, whether the cursor says so yet or not.
    pub(crate) through: u64,
    /// The last sequence that was dropped before it had arrived.
    pub(crate) dropped: u64,
}

/// What [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) lock: Box<dyn Any + Send + Sync>,
    pub(crate) epoch: u64,
    pub(crate) counts: Counts,
    pub(crate) segments: Segments,
    pub(crate) cursors: Kept<KeptCursors>,
    pub(crate) ledger: Kept<Ledger>,
    pub(crate) quarantine: Quarantine,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let through = parts.cursors.with(|kept| kept.cursors.get(Cursor::MIRROR).map_or(0, |cursor| cursor.sequence));
        let dropped = parts.ledger.with(|ledger| {
            let dropped = ledger.untold().filter(|loss| loss.reason == LossReason::DroppedOldest && loss.epoch == parts.epoch);
            dropped.map(|loss| loss.last).max().unwrap_or(0)
        });
        Self {
            arrival: Locked::new(Arrival { through, dropped }),
            queue: Queue::new(parts.config.queue_bytes),
            durable: AtomicU64::new(parts.counts.sequence),
            counts: Locked::new(parts.counts),
            segments: Locked::new(parts.segments),
            config: parts.config,
            storage: parts.storage,
            epoch: parts.epoch,
            cursors: parts.cursors,
            ledger: parts.ledger,
            quarantine: parts.quarantine,
            meter: Meter::default(),
            unreadable: Locked::default(),
            generation: AtomicU64::new(0),
            progress: Mutex::new(()),
            progressed: Condvar::new(),
            _lock: parts.lock,
        }
    }

    /// The last durable sequence.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Everything up to `sequence` is durable now.
    pub(crate) fn set_durable(&self, sequence: u64) {
        let guard = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        self.durable.store(sequence, Ordering::Release);
        drop(guard);
        self.progressed.notify_all();
    }

    pub(crate) fn wait_durable(&self, beyond: u64, timeout: Duration) -> u64 {
        let deadline = Instant::now().checked_add(timeout);
        let mut guard = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let durable = self.durable();
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if durable > beyond || left.is_zero() {
                return durable;
            }
            guard = self.progressed.wait_timeout(guard, left.min(Duration::from_secs(3600))).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What lies at or before this sequence is acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.cursors.with(|kept| kept.cursors.get(Cursor::MIRROR).map_or(0, |cursor| cursor.sequence))
    }

    /// Bytes on disk beside the segments.
    pub(crate) fn other_bytes(&self) -> u64 {
        self.cursors.bytes() + self.ledger.bytes() + self.quarantine.bytes()
    }

    /// A segment's file.
    pub(crate) fn path(&self, first: u64) -> std::path::PathBuf {
        segment::path(&self.config.dir, first)
    }
}

/// The wall clock, Unix milliseconds.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
