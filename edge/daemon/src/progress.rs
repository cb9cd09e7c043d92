//! How far a long look has come, for whoever waits at a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Nobody waits for less.
const PATIENCE: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(200);
/// Characters of a whole bar.
const BAR: usize = 24;

/// A line on the terminal that is written anew; it is gone when this is dropped.
pub(crate) struct Line {
    next: Instant,
    is_shown: bool,
}

impl Line {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
        Self { next: Instant::now() + PATIENCE, is_shown: false }
    }

    /// Shows the text if it is time to, and anybody sees it.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if now < self.next || !std::io::stderr().is_terminal() {
            return;
        }
        eprint!("\r\x1b[K{}", text());
        // A terminal that is gone is no reason to stop.
        std::io::stderr().flush().ok();
        (self.next, self.is_shown) = (now + EVERY, true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
        }
    }
}

/// How much is done, as a picture.
pub(crate) fn bar(done: usize, all: usize) -> String {
    let filled = (BAR * done.min(all)).checked_div(all).unwrap_or(BAR);
    format!("[{}{}]", "#".repeat(filled), "·".repeat(BAR - filled))
}
