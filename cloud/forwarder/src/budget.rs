//! What a partition may hold in memory: shared by the thread that reads Kafka, which takes, and the partition's task, which gives back.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Room for records and bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    held: Mutex<Held>,
    room: Condvar,
    limit: Held,
}

/// Records and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: Held) -> Self {
        Self { held: Mutex::default(), room: Condvar::new(), limit }
    }

    /// Takes the room for a batch, waiting at most `patience` for it. A batch larger than the whole limit is taken when nothing else is
    /// held, so the largest record passes, too.
    pub(crate) fn take(&self, batch: Held, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut held = self.lock();
        loop {
            let fits = held.records + batch.records <= self.limit.records && held.bytes + batch.bytes <= self.limit.bytes;
            if fits || *held == Held::default() {
                held.records += batch.records;
                held.bytes += batch.bytes;
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            held = self.room.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives room back.
    pub(crate) fn give(&self, batch: Held) {
        let mut held = self.lock();
        held.records = held.records.saturating_sub(batch.records);
        held.bytes = held.bytes.saturating_sub(batch.bytes);
        drop(held);
        self.room.notify_one();
    }

    /// `true` when at least half of the limit is free: a partition that was paused goes on with a reserve, not with a drop.
    pub(crate) fn has_room(&self) -> bool {
        let held = self.lock();
        held.records <= self.limit.records / 2 && held.bytes <= self.limit.bytes / 2
    }

    /// What is held now.
    pub(crate) fn held(&self) -> Held {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Held};
    use std::time::Duration;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn both_limits_hold_and_what_is_larger_than_both_passes_alone() {
        let budget = Budget::new(Held { records: 10, bytes: 100 });
        assert!(budget.take(Held { records: 5, bytes: 10 }, NOW));
        assert!(!budget.take(Held { records: 6, bytes: 1 }, NOW));
        assert!(!budget.take(Held { records: 1, bytes: 91 }, NOW));
        budget.give(Held { records: 5, bytes: 10 });
        assert!(budget.take(Held { records: 1, bytes: 1000 }, NOW));
        assert_eq!(budget.held(), Held { records: 1, bytes: 1000 });
    }

    #[test]
    fn a_waiting_reader_goes_on_as_soon_as_there_is_room() {
        let (budget, one) = (Budget::new(Held { records: 1, bytes: 1 }), Held { records: 1, bytes: 1 });
        assert!(budget.take(one, NOW));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| budget.take(one, Duration::from_secs(60)));
            budget.give(one);
            assert!(reader.join().expect("no panic"));
        });
    }
}
