//! What goes in, what comes out, and what became of an append.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// What is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose entry it is: entries of one key are numbered and kept in order.
    pub key: Arc<str>,
    /// The record's time, in Unix milliseconds. Carried, never used for order.
    pub timestamp: i64,
    /// Carried unchanged.
    pub value: Vec<u8>,
}

/// What was appended, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the log: 1, 2, 3 …, never used twice in an epoch.
    pub sequence: u64,
    /// Its place among its key's entries: 1, 2, 3 …, never used twice in an epoch.
    pub key_sequence: u64,
    /// As appended.
    pub key: Arc<str>,
    /// As appended, Unix milliseconds.
    pub timestamp: i64,
    /// As appended. A slice of its block: holding one value holds the block (≤ `block_bytes` or one large entry).
    pub value: Bytes,
}

/// What became of the entries of one [`crate::Log::append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// All are on disk (fdatasync returned), numbered `first..=last` in their order.
    Durable {
        /// Sequence of the first entry.
        first: u64,
        /// Sequence of the last entry.
        last: u64,
    },
    /// Not all were taken.
    Refused {
        /// Why.
        reason: Refusal,
        /// So many entries from the batch's front are durable all the same; the others are not in the log.
        durable: usize,
    },
}

/// Why entries were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `max_bytes` or `min_free` is reached, and the policy is `RefuseNew` or nothing is left to drop.
    Full(String),
    /// The disk failed; what failed, in words. The log goes on trying with the next entries.
    Disk(String),
    /// The log was closed before they were written.
    Closed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(why) => write!(f, "the log is full: {why}"),
            Self::Disk(why) => write!(f, "the disk failed: {why}"),
            Self::Closed => f.write_str("the log was closed"),
        }
    }
}

/// What a [`crate::Reader`] hands out, in the order of the sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// An entry.
    Entry(Stored),
    /// The entries `first..=last` are not there any more: dropped, removed after acknowledgement, or damaged. Where they count as
    /// lost, the [`crate::Loss`] is durable before a reader is told.
    Lost {
        /// First missing sequence.
        first: u64,
        /// Last missing sequence.
        last: u64,
    },
}

/// A reader's kept place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to and including this sequence is done with; 0 = nothing yet.
    pub sequence: u64,
    /// Whatever its owner needs beside it, at most [`Cursor::MAX_NOTE`] bytes.
    pub note: Vec<u8>,
}

impl Cursor {
    /// The largest note, in bytes.
    pub const MAX_NOTE: usize = 1 << 20;
    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 255;
    /// How many cursors a log keeps.
    pub const MAX_COUNT: usize = 64;
    /// The cursor that drives retention: what lies at or before it is acknowledged.
    pub const MIRROR: &'static str = "mirror";
}
