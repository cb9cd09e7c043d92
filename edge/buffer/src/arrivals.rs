//! Entries that reached their goal, by the numbers of their keys.

use std::collections::HashMap;
use std::sync::Arc;

/// Which entries of which keys arrived, whatever became of them in the log. Neighbours are kept as one range, so an ordinary set
/// costs one range a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    ranges: HashMap<Arc<str>, Vec<(u64, u64)>>,
}

impl Arrivals {
    /// Notes an entry by its [`crate::Stored::key_sequence`]; a key's entries in their order.
    pub fn note(&mut self, key: &str, key_sequence: u64) {
        let Some(ranges) = self.ranges.get_mut(key) else {
            self.ranges.insert(key.into(), vec![(key_sequence, key_sequence)]);
            return;
        };
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == key_sequence => *last = key_sequence,
            _ => ranges.push((key_sequence, key_sequence)),
        }
    }

    /// The highest number noted of a key.
    pub fn last(&self, key: &str) -> Option<u64> {
        self.ranges.get(key)?.iter().map(|(_, last)| *last).max()
    }

    /// True if nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges noted of a key, first and last number each.
    pub(crate) fn of(&self, key: &str) -> &[(u64, u64)] {
        self.ranges.get(key).map_or(&[], Vec::as_slice)
    }
}
