//! What a partition may hold in memory, and the bell that wakes the thread that reads Kafka.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Wakes one thread; a ring before it waits is not lost.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Returns when the bell was rung since the last call, at the latest after `patience`.
    pub(crate) fn wait(&self, patience: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self.changed.wait_timeout_while(rung, patience, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

/// Room for records and bytes: the Kafka thread takes, the partition's task gives back.
#[derive(Debug)]
pub(crate) struct Budget {
    held: Mutex<Held>,
    limit: Held,
    bell: Arc<Bell>,
}

/// Records and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: Held, bell: Arc<Bell>) -> Self {
        Self { held: Mutex::default(), limit, bell }
    }

    /// Takes room for a batch. The limits may be passed by it once: what is read must be put somewhere, and the largest record must pass.
    pub(crate) fn take(&self, batch: Held) {
        let mut held = self.lock();
        held.records += batch.records;
        held.bytes += batch.bytes;
    }

    /// Gives room back; rings the bell when there was none.
    pub(crate) fn give(&self, batch: Held) {
        let mut held = self.lock();
        let was_full = self.is_full(*held);
        held.records = held.records.saturating_sub(batch.records);
        held.bytes = held.bytes.saturating_sub(batch.bytes);
        let has_room = !self.is_full(*held);
        drop(held);
        if was_full && has_room {
            self.bell.ring();
        }
    }

    /// Whether more may be read.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_full(*self.lock())
    }

    /// What is held now.
    pub(crate) fn held(&self) -> Held {
        *self.lock()
    }

    fn is_full(&self, held: Held) -> bool {
        held.records >= self.limit.records || held.bytes >= self.limit.bytes
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bell, Budget, Held};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[test]
    fn either_limit_fills_the_budget() {
        let budget = Budget::new(Held { records: 10, bytes: 100 }, Arc::default());
        budget.take(Held { records: 9, bytes: 99 });
        assert!(budget.has_room());
        budget.take(Held { records: 1, bytes: 0 });
        assert!(!budget.has_room());
        budget.give(Held { records: 1, bytes: 0 });
        budget.take(Held { records: 0, bytes: 1000 });
        assert!(!budget.has_room());
        budget.give(Held { records: 0, bytes: 1000 });
        assert_eq!((budget.has_room(), budget.held()), (true, Held { records: 9, bytes: 99 }));
    }

    #[test]
    fn a_reader_that_waits_goes_on_as_soon_as_there_is_room() {
        let (bell, one) = (Arc::new(Bell::default()), Held { records: 1, bytes: 1 });
        let budget = Budget::new(one, bell.clone());
        budget.take(one);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| bell.wait(Duration::from_secs(60)));
            budget.give(one);
            reader.join().expect("no panic");
        });
        assert!(started.elapsed() < Duration::from_secs(30), "the bell was not heard");
        bell.ring();
        bell.wait(Duration::from_secs(60));
        assert!(started.elapsed() < Duration::from_secs(30), "a ring before the wait was lost");
    }
}
