//! What the log tells about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::locked::Locked;

/// Counters and gauges of a log; the counters start at zero with the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Whether entries are being taken.
    pub health: Health,
    /// Bytes on disk: segments as reserved, cursors, ledger, quarantine.
    pub bytes: u64,
    /// Of these, in quarantine.
    pub quarantine_bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// First sequence that is still kept; 0 = none.
    pub first: u64,
    /// Last durable sequence; 0 = none.
    pub last: u64,
    /// Where the `mirror` cursor stands.
    pub acknowledged: u64,
    /// Timestamp of the oldest entry that is not acknowledged (of its block, to be exact), Unix milliseconds.
    pub oldest_unacknowledged: Option<i64>,
    /// Bytes on disk of the blocks that are not acknowledged.
    pub unacknowledged_bytes: u64,
    /// Bytes of the file system that others may still use.
    pub free_bytes: u64,
    /// Keys ever seen.
    pub keys: usize,
    /// Entries made durable.
    pub appended: u64,
    /// Entries refused.
    pub refused: u64,
    /// Entries dropped before they were acknowledged.
    pub dropped: u64,
    /// Entries found damaged.
    pub damaged: u64,
    /// Losses not settled yet.
    pub losses: usize,
    /// Blocks written.
    pub blocks: u64,
    /// Bytes of these blocks before compression.
    pub plain_bytes: u64,
    /// Bytes of these blocks as written.
    pub stored_bytes: u64,
    /// Group commits: one write and one fdatasync each.
    pub syncs: u64,
    /// The last group commit, write and fdatasync.
    pub sync_last: Duration,
    /// The slowest one.
    pub sync_max: Duration,
    /// All of them together.
    pub sync_total: Duration,
    /// Group commits that failed.
    pub sync_failures: u64,
    /// Bytes waiting to be put into blocks.
    pub queue_bytes: usize,
}

/// Whether entries are being taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    #[default]
    Writable,
    /// No: there is no room, in words.
    Full(String),
    /// No: the disk failed, in words. Tried again with the entries that come.
    Failing(String),
    /// No: closed.
    Closed,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) appended: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) blocks: AtomicU64,
    pub(crate) plain_bytes: AtomicU64,
    pub(crate) stored_bytes: AtomicU64,
    /// How far the newest segment is written.
    pub(crate) written: AtomicU64,
    pub(crate) sync_failures: AtomicU64,
    pub(crate) syncs: Locked<Syncs>,
    pub(crate) health: Locked<Health>,
}

/// How long group commits took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Syncs {
    pub(crate) count: u64,
    pub(crate) last: Duration,
    pub(crate) max: Duration,
    pub(crate) total: Duration,
}

impl Meter {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, took: Duration) {
        let mut syncs = self.syncs.lock();
        *syncs = Syncs { count: syncs.count + 1, last: took, max: syncs.max.max(took), total: syncs.total + took };
    }

    /// Fills in what is counted here.
    pub(crate) fn fill(&self, stats: &mut Stats) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let syncs = *self.syncs.lock();
        stats.health = self.health.lock().clone();
        stats.appended = read(&self.appended);
        stats.refused = read(&self.refused);
        stats.dropped = read(&self.dropped);
        stats.damaged = read(&self.damaged);
        stats.blocks = read(&self.blocks);
        stats.plain_bytes = read(&self.plain_bytes);
        stats.stored_bytes = read(&self.stored_bytes);
        stats.sync_failures = read(&self.sync_failures);
        (stats.syncs, stats.sync_last, stats.sync_max, stats.sync_total) = (syncs.count, syncs.last, syncs.max, syncs.total);
    }
}
