//! What opening the log found.

use std::path::PathBuf;
use std::time::Duration;

use crate::Loss;

/// What was found and done when the log was opened; for the daemon's log and its gap events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovery {
    /// The log was made anew (empty directory, or nothing readable in it): a new epoch began.
    pub is_new_epoch: bool,
    /// The log had been closed in order.
    pub was_closed: bool,
    /// Bytes of a torn tail that were never durable and were cut.
    pub torn_bytes: u64,
    /// Where damaged bytes were put.
    pub quarantined: Vec<PathBuf>,
    /// Losses found now; they are among [`crate::Log::losses`] too.
    pub losses: Vec<Loss>,
    /// What else a person should know, in sentences.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}
