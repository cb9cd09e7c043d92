//! Counting keys across damage: what each key lost, and where it may go on counting.
//!
//! Entries of a key are numbered without gaps. So whoever knows how far a key had counted before a hole, and sees its next entry (or a
//! later checkpoint) behind it, knows exactly how many of its entries the hole took. Of a key that is not seen again nobody knows; then
//! the bound is the number of entries that the hole took and that no other key accounts for. Such a key skips that many numbers, and keys
//! that were never seen begin to count above it: a number that may have been given out is never given out again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::KeyLoss;
use crate::checkpoint::KeyCounts;

/// A hole in the sequence.
#[derive(Debug)]
struct Hole {
    /// Entries lost in it, or the bound of it.
    lost: u64,
    /// Of these, not accounted for by keys yet.
    open: u64,
    keys: Vec<KeyLoss>,
}

/// The count, taken while walking over the log from a checkpoint on.
#[derive(Debug)]
pub(crate) struct Census {
    /// For each key: how far it has counted, and how many holes lay before its last entry.
    keys: HashMap<Arc<str>, (u64, usize)>,
    floor: u64,
    holes: Vec<Hole>,
}

impl Census {
    /// Begins where the keys had counted so far.
    pub(crate) fn new(keys: &KeyCounts, floor: u64) -> Self {
        Self { keys: keys.iter().map(|(key, count)| (key.clone(), (*count, 0))).collect(), floor, holes: Vec::new() }
    }

    /// Walked over `count` entries of a key, the first of which has the number `first`.
    pub(crate) fn saw(&mut self, key: &str, first: u64, count: u64) {
        let holes = self.holes.len();
        let floor = self.floor;
        let (key, before, holes_before) = match self.keys.get_mut(key) {
            Some((seen, holes_seen)) => {
                let before = (*seen, *holes_seen);
                // Never back: a checkpoint may have been ahead of the entries that follow it.
                *seen = (*seen).max(first + count - 1);
                *holes_seen = holes;
                if first <= before.0 + 1 || before.1 == holes {
                    return;
                }
                (Arc::from(key), before.0, before.1)
            }
            None => {
                let key: Arc<str> = Arc::from(key);
                self.keys.insert(key.clone(), ((first + count).saturating_sub(1), holes));
                if first <= floor + 1 || holes == 0 {
                    return;
                }
                (key, floor, 0)
            }
        };
        self.lost(key, before, first - 1, holes_before);
    }

    /// A key had counted this far at this place, as a checkpoint says.
    pub(crate) fn counted(&mut self, key: &str, count: u64) {
        self.saw(key, count + 1, 0);
    }

    /// A key's numbers `before + 1 ..= last` are missing; the first hole from `hole` on that can have taken them all is said to have.
    fn lost(&mut self, key: Arc<str>, before: u64, last: u64, hole: usize) {
        let count = last - before;
        let fitting = self.holes.iter().skip(hole).position(|hole| hole.open >= count).unwrap_or(0);
        let Some(hole) = self.holes.get_mut(hole + fitting) else { return };
        hole.open = hole.open.saturating_sub(count);
        hole.keys.push(KeyLoss { key: Some(key), first: before + 1, last, count: Some(count) });
    }

    /// Came to a hole of (at most) `lost` entries.
    pub(crate) fn hole(&mut self, lost: u64) {
        self.holes.push(Hole { lost, open: lost, keys: Vec::new() });
    }

    /// Ends the count. The losses of each hole by key; how far the keys have counted, or may have; where unknown keys begin.
    ///
    /// `is_complete`: the last thing seen was a checkpoint, so a key that was not seen behind a hole has lost nothing in it.
    pub(crate) fn finish(mut self, end: End) -> (Vec<Vec<KeyLoss>>, KeyCounts, u64) {
        let holes = self.holes.len();
        if matches!(end, End::Unknown) && self.holes.iter().any(|hole| hole.open > 0) {
            for (key, (count, seen)) in &mut self.keys {
                let bound: u64 = self.holes[*seen..].iter().map(|hole| hole.open).sum();
                if bound > 0 {
                    self.holes[*seen].keys.push(KeyLoss { key: Some(key.clone()), first: *count + 1, last: *count + bound, count: None });
                    *count += bound;
                }
            }
            let unknown: u64 = self.holes.iter().map(|hole| hole.open).sum();
            self.floor += unknown;
        }
        debug_assert!(self.keys.values().all(|(_, seen)| *seen <= holes), "a key was seen behind holes that are not there");
        let mut losses = Vec::with_capacity(holes);
        for hole in &mut self.holes {
            if hole.open > 0 {
                let count = (hole.open == hole.lost && hole.keys.is_empty()).then_some(hole.lost);
                hole.keys.push(KeyLoss { key: None, first: 0, last: 0, count });
            }
            hole.keys.sort_by(|a, b| a.key.cmp(&b.key));
            losses.push(std::mem::take(&mut hole.keys));
        }
        (losses, self.keys.into_iter().map(|(key, (count, _))| (key, count)).collect(), self.floor)
    }
}

/// What is known where a count ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every key's count was told ([`Census::counted`]).
    Counted,
    /// Keys that were not seen again may have lost entries.
    Unknown,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Census, End};
    use crate::KeyLoss;
    use crate::checkpoint::KeyCounts;

    fn counts(of: &[(&str, u64)]) -> KeyCounts {
        of.iter().map(|(key, n)| (Arc::from(*key), *n)).collect()
    }

    fn loss(key: &str, first: u64, last: u64) -> KeyLoss {
        KeyLoss { key: Some(Arc::from(key)), first, last, count: Some(last - first + 1) }
    }

    #[test]
    fn keys_seen_again_tell_exactly_what_a_hole_took() {
        let mut census = Census::new(&counts(&[("a", 10), ("b", 5)]), 0);
        census.hole(7);
        census.saw("a", 14, 2);
        census.saw("c", 3, 1);
        census.saw("b", 8, 1);
        let (losses, keys, floor) = census.finish(End::Unknown);
        assert_eq!(losses, [vec![loss("a", 11, 13), loss("b", 6, 7), loss("c", 1, 2)]]);
        assert_eq!((keys, floor), (counts(&[("a", 15), ("b", 8), ("c", 3)]), 0));
    }

    #[test]
    fn keys_not_seen_again_skip_as_many_numbers_as_may_have_been_theirs() {
        let mut census = Census::new(&counts(&[("a", 10), ("b", 5)]), 0);
        census.hole(4);
        census.saw("a", 12, 1);
        let (losses, keys, floor) = census.finish(End::Unknown);
        let doubt = KeyLoss { key: Some(Arc::from("b")), first: 6, last: 8, count: None };
        let unknown = KeyLoss { key: None, first: 0, last: 0, count: None };
        assert_eq!(losses, [vec![unknown, loss("a", 11, 11), doubt]]);
        assert_eq!((keys, floor), (counts(&[("a", 12), ("b", 8)]), 3));
    }

    #[test]
    fn a_checkpoint_behind_the_hole_leaves_no_doubt() {
        let mut census = Census::new(&counts(&[("a", 10), ("b", 5)]), 0);
        census.hole(3);
        census.counted("a", 12);
        census.counted("b", 5);
        census.counted("new", 1);
        let (losses, ..) = census.finish(End::Counted);
        assert_eq!(losses, [vec![loss("a", 11, 12), loss("new", 1, 1)]]);
    }
}
