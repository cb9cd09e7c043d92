//! Repeats in Kafka itself: the same event of an edge, written twice.
//!
//! An edge numbers the events of an asset without gaps (`of-asset-seq`), so a number that was passed already is a repeat, unless it fills a
//! gap that was seen before. Before the place where this memory of an asset begins nothing is known: there, what the edge marked as late
//! (`of-resent`, `of-replay`) may be a repeat or fill a gap and is left to the stream to judge, and anything else is a repeat. Two generations of a map
//! bound the memory: what was not asked for during a whole generation is forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::Origin;

/// Stretches that are remembered for an asset; more of them means that an edge lost much, and then the memory begins behind the oldest.
const STRETCHES: usize = 9;

/// One asset as one edge numbers it.
type Line = (Arc<str>, Arc<str>);

#[derive(Clone, Debug, Default)]
struct Seen {
    epoch: u64,
    /// Numbers that passed: first and last of each stretch, growing, with gaps between them.
    passed: Vec<(u64, u64)>,
}

/// What a partition remembers of the assets that passed.
#[derive(Debug)]
pub(crate) struct Repeats {
    young: HashMap<Line, Seen>,
    old: HashMap<Line, Seen>,
    generation: usize,
}

impl Repeats {
    /// Remembers between `generation` and twice as many assets.
    pub(crate) fn new(generation: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation: generation.max(1) }
    }

    /// `true` if this event of the asset passed before.
    pub(crate) fn is_repeat(&mut self, asset: &Arc<str>, event: &Origin) -> bool {
        let line = (event.edge.clone(), asset.clone());
        if let Some(seen) = self.young.get_mut(&line) {
            return seen.is_repeat(event);
        }
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        let mut seen = self.old.remove(&line).unwrap_or_default();
        let is_repeat = seen.is_repeat(event);
        self.young.insert(line, seen);
        is_repeat
    }
}

impl Seen {
    fn is_repeat(&mut self, event: &Origin) -> bool {
        let (epoch, n) = (event.asset_sequence.epoch, event.asset_sequence.n);
        if epoch < self.epoch {
            // A wiped log starts a new epoch. An older one after it cannot be judged, so it passes.
            return false;
        }
        if epoch > self.epoch {
            *self = Self { epoch, passed: Vec::new() };
        }
        let place = self.passed.partition_point(|(_, last)| *last < n);
        let is_repeat = match self.passed.get(place) {
            None => false,
            Some((first, _)) if *first <= n => true,
            Some(_) => place == 0 && !event.is_resent,
        };
        if !is_repeat {
            self.pass(place, n);
        }
        is_repeat
    }

    /// Adds a number between the stretches before `place` and the one there.
    fn pass(&mut self, place: usize, n: u64) {
        let continues = place > 0 && self.passed[place - 1].1 + 1 == n;
        let precedes = self.passed.get(place).is_some_and(|(first, _)| n + 1 == *first);
        match (continues, precedes) {
            (true, true) => self.passed[place - 1].1 = self.passed.remove(place).1,
            (true, false) => self.passed[place - 1].1 = n,
            (false, true) => self.passed[place].0 = n,
            (false, false) => {
                self.passed.insert(place, (n, n));
                if self.passed.len() > STRETCHES {
                    self.passed.remove(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Repeats;
    use crate::message::Origin;
    use asset_stream::Position;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::sync::Arc;

    fn event(epoch: u64, n: u64) -> Origin {
        let at = Position { epoch, n };
        Origin { edge: "edge".into(), sequence: at, asset_sequence: at, is_resent: false, replay: None }
    }

    fn resent(n: u64) -> Origin {
        Origin { is_resent: true, ..event(7, n) }
    }

    fn passes(repeats: &mut Repeats, asset: &str, event: &Origin) -> bool {
        !repeats.is_repeat(&Arc::from(asset), event)
    }

    fn passed(events: impl IntoIterator<Item = Origin>) -> Vec<u64> {
        let mut repeats = Repeats::new(10);
        events.into_iter().filter(|event| passes(&mut repeats, "PRESS-1", event)).map(|event| event.asset_sequence.n).collect()
    }

    #[test]
    fn an_event_passes_once() {
        assert_eq!(passed([1, 2, 3, 2, 3, 4, 1, 5].map(|n| event(7, n))), [1, 2, 3, 4, 5]);
        let mut repeats = Repeats::new(10);
        assert!(["PRESS-1", "PRESS-2"].iter().all(|asset| passes(&mut repeats, asset, &event(7, 1))), "each asset has numbers of its own");
    }

    #[test]
    fn what_fills_a_gap_is_no_repeat() {
        assert_eq!(passed([1, 5, 3, 3, 2, 4, 4, 2, 6].map(|n| event(7, n))), [1, 5, 3, 2, 4, 6]);
    }

    #[test]
    fn before_the_memory_begins_only_what_an_edge_marked_as_late_passes() {
        let events = [event(7, 5), event(7, 4), resent(2), resent(2), resent(5), event(7, 6), resent(4), resent(3), event(7, 3)];
        assert_eq!(passed(events), [5, 2, 6, 4, 3]);
    }

    #[test]
    fn a_new_epoch_starts_anew_and_an_old_one_is_not_judged() {
        let mut repeats = Repeats::new(10);
        let passed = [event(7, 9), event(8, 1), event(7, 9), event(8, 1)].map(|event| passes(&mut repeats, "PRESS-1", &event));
        assert_eq!(passed, [true, true, true, false]);
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut repeats = Repeats::new(100);
        for n in 1..=10_000 {
            assert!(passes(&mut repeats, &format!("ASSET-{n}"), &event(7, 1)));
            assert!(passes(&mut repeats, "BUSY", &event(7, 2 * n)));
            assert!(!passes(&mut repeats, "BUSY", &event(7, 2 * n)), "the busy asset was forgotten at {n}");
        }
        assert!(repeats.young.len() + repeats.old.len() <= 200);
        assert!(repeats.young.values().all(|seen| seen.passed.len() <= super::STRETCHES));
    }

    proptest! {
        #[test]
        fn what_an_edge_marked_as_late_is_dropped_only_if_it_passed(
            numbers in proptest::collection::vec((1_u64..60, any::<bool>()), 1..200)
        ) {
            let (mut repeats, mut there) = (Repeats::new(10), HashSet::new());
            for (n, is_resent) in numbers {
                if passes(&mut repeats, "PRESS-1", &Origin { is_resent, ..event(7, n) }) {
                    there.insert(n);
                } else {
                    prop_assert!(!is_resent || there.contains(&n), "{n} never passed");
                }
            }
        }
    }
}
