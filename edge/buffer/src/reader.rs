//! Reading in order.

use crate::{Error, Log, Read};

/// Reads the log in order, never beyond what is durable.
#[derive(Debug)]
pub struct Reader {
    log: Log,
    position: u64,
}

impl Reader {
    pub(crate) fn new(log: Log, after: u64) -> Self {
        Self { log, position: after }
    }

    /// The next entries, at most `max`; empty when there is nothing new ([`Log::wait_durable`] waits for more).
    pub fn next_block(&mut self, max: usize) -> Result<Vec<Read>, Error> {
        let found = self.log.after(self.position, max);
        self.position += found.len() as u64;
        Ok(found.into_iter().map(Read::Entry).collect())
    }

    /// The last sequence handed out (or skipped as lost); the next call goes on after it.
    pub fn position(&self) -> u64 {
        self.position
    }
}
