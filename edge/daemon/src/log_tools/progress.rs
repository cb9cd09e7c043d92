//! How far a long look has come, for whoever waits at a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use edge_buffer::{Block, Inspection};
use service::units::printed;

/// Nobody waits for less.
const PATIENCE: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(200);

/// A line on the terminal that is written anew.
pub(crate) struct Progress {
    what: &'static str,
    /// First sequence of each segment, and the bytes before it.
    before: Vec<(u64, u64)>,
    total: u64,
    next: Instant,
    is_shown: bool,
}

impl Progress {
    /// `what` is done to all of the log.
    pub(crate) fn new(what: &'static str, log: &Inspection) -> Self {
        let mut total = 0;
        let mut before = Vec::new();
        for segment in &log.segments {
            before.push((segment.first, total));
            total += segment.used;
        }
        Self { what, before, total, next: Instant::now() + PATIENCE, is_shown: false }
    }

    /// Came to a block.
    pub(crate) fn at(&mut self, block: &Block) {
        let now = Instant::now();
        if now < self.next || !std::io::stderr().is_terminal() {
            return;
        }
        let place = self.before.partition_point(|(first, _)| *first <= block.segment);
        let before = place.checked_sub(1).map_or(0, |place| self.before[place].1);
        eprint!("\r\x1b[K{} {} of {}", self.what, printed(before + block.end), printed(self.total));
        // A terminal that is gone is no reason to stop.
        std::io::stderr().flush().ok();
        (self.next, self.is_shown) = (now + EVERY, true);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }
}
