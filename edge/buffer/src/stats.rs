//! What the log tells about itself.

use std::time::Duration;

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
