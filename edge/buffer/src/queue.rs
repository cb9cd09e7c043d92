//! The way from the callers to the log's threads: in order, bounded in bytes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Appended, Entry, Error};

/// What an entry takes beside its value.
const OVERHEAD: usize = size_of::<Entry>();

/// What is told when the fate of a batch is known.
pub(crate) type Done = Box<dyn FnOnce(Appended) + Send>;

/// Entries of one call, and whom to tell.
pub(crate) struct Batch {
    pub(crate) entries: Vec<Entry>,
    pub(crate) done: Done,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} entries)", self.entries.len())
    }
}

/// The next thing in the queue.
#[derive(Debug)]
pub(crate) enum Next {
    Batch(Batch),
    /// The deadline passed.
    Nothing,
    /// Closed, and everything was taken.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Queue {
    limit: usize,
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<(usize, Batch)>,
    bytes: usize,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new(), closed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch, waiting while the queue is full. A batch larger than the whole limit waits until it is alone.
    pub(crate) fn push(&self, batch: Batch) -> Result<(), Error> {
        let bytes: usize = batch.entries.iter().map(|entry| entry.value.len() + OVERHEAD).sum();
        let mut state = self.state();
        while !state.is_closed && state.bytes > 0 && state.bytes + bytes > self.limit {
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return Err(Error::Closed);
        }
        state.bytes += bytes;
        state.batches.push_back((bytes, batch));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes the next batch, waiting for one until `deadline`.
    pub(crate) fn pop(&self, deadline: Option<Instant>) -> Next {
        let mut state = self.state();
        loop {
            if let Some((bytes, batch)) = state.batches.pop_front() {
                state.bytes -= bytes;
                drop(state);
                self.emptied.notify_all();
                return Next::Batch(batch);
            }
            if state.is_closed {
                return Next::Closed;
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Next::Nothing,
                Some(left) => self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Takes no more batches; what is in the queue stays to be taken.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
        self.closed.notify_all();
    }

    /// Waits until the queue is closed, at most `timeout`.
    pub(crate) fn wait_closed(&self, timeout: Duration) {
        let state = self.state();
        drop(self.closed.wait_timeout_while(state, timeout, |state| !state.is_closed));
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::{Batch, Next, Queue};
    use crate::Entry;

    fn batch(bytes: usize) -> Batch {
        Batch { entries: vec![Entry { key: "k".into(), timestamp: 0, value: vec![0; bytes] }], done: Box::new(drop) }
    }

    #[test]
    fn a_full_queue_makes_the_caller_wait() {
        let queue = Queue::new(1000);
        queue.push(batch(800)).expect("open");
        let (tell, told) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                queue.push(batch(800)).expect("open");
                tell.send(()).expect("somebody waits");
            });
            // Time enough for a thread that does not wait.
            let early = told.recv_timeout(Duration::from_millis(100));
            assert_eq!(early, Err(RecvTimeoutError::Timeout), "the second batch went in although the first fills the queue");
            assert!(matches!(queue.pop(None), Next::Batch(_)));
            told.recv().expect("the second batch goes in");
        });
        queue.close();
        assert!(queue.push(batch(1)).is_err(), "closed");
        assert!(matches!(queue.pop(None), Next::Batch(_)));
        assert!(matches!(queue.pop(None), Next::Closed));
    }
}
