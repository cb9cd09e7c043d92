//! Loss as data: what is missing, kept until the daemon has made events of it.

use std::sync::Arc;

/// Why entries are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// The log was full and its oldest segment was dropped before it was acknowledged.
    DroppedOldest,
    /// Bytes that were durable cannot be read any more.
    Damaged,
    /// The log took none when they came ([`crate::Log::note_refused`]). They never had numbers: `first` and `last` are 0 everywhere.
    Refused,
}

/// Entries that were durable and are not there any more, or that the log refused.
///
/// Kept durably, and listed by [`crate::Log::losses`], until [`crate::Log::told`] was told that entries were appended for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Unique in this log.
    pub id: u64,
    /// The epoch that the numbers belong to: [`crate::Log::epoch`], or the one before where a whole log was lost.
    pub epoch: u64,
    /// Why.
    pub reason: LossReason,
    /// First missing sequence; 0 if they had none.
    pub first: u64,
    /// Last missing sequence. Numbers in `first..=last` are never given to other entries.
    pub last: u64,
    /// How many entries are missing; `None` where only the bound `last - first + 1` is known.
    pub count: Option<u64>,
    /// The same by key, as far as it can be known; a key more than once, where some of its numbers in between are not missing.
    pub keys: Vec<KeyLoss>,
    /// Timestamp of the oldest missing entry as far as known, Unix milliseconds.
    pub from: i64,
    /// Timestamp of the newest missing entry as far as known, Unix milliseconds.
    pub to: i64,
    /// For people: what happened, where, in a sentence.
    pub detail: String,
}

/// One key's share of a [`Loss`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLoss {
    /// The key; `None` for entries of keys that cannot be known.
    pub key: Option<Arc<str>>,
    /// First missing number of the key's own count; 0 where not known.
    pub first: u64,
    /// Last missing number of the key's own count; 0 where not known. Numbers in `first..=last` are never given to other entries.
    pub last: u64,
    /// How many are missing; `None` where `first..=last` is only a bound.
    pub count: Option<u64>,
}
