//! Repeats in Kafka itself: the same event of an edge, written twice.
//!
//! An edge numbers the events of an asset without gaps (`of-asset-seq`), so a number that was passed already is a repeat, unless it fills a
//! gap that was seen before. Two generations of a map bound the memory: what was not asked for during a whole generation is forgotten,
//! and JetStream's own de-duplication is left to catch what that lets through.

use std::collections::HashMap;
use std::sync::Arc;

use asset_stream::Position;

/// Gaps that are remembered for an asset; more of them means that an edge lost much, and then the oldest gap is taken for final.
const GAPS: usize = 8;

/// One asset as one edge numbers it.
type Line = (Arc<str>, Arc<str>);

#[derive(Clone, Debug)]
struct Seen {
    last: Position,
    /// Numbers that were skipped, inclusive.
    gaps: Vec<(u64, u64)>,
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
    pub(crate) fn is_repeat(&mut self, edge: &Arc<str>, asset: &Arc<str>, at: Position) -> bool {
        let line = (edge.clone(), asset.clone());
        if let Some(seen) = self.young.get_mut(&line) {
            return seen.is_repeat(at);
        }
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        let (seen, repeat) = match self.old.remove(&line) {
            Some(mut seen) => {
                let repeat = seen.is_repeat(at);
                (seen, repeat)
            }
            None => (Seen { last: at, gaps: Vec::new() }, false),
        };
        self.young.insert(line, seen);
        repeat
    }
}

impl Seen {
    fn is_repeat(&mut self, at: Position) -> bool {
        if at.epoch != self.last.epoch {
            // A wiped log starts a new epoch. An older epoch after a newer one cannot be judged, so it passes.
            if at.epoch > self.last.epoch {
                *self = Self { last: at, gaps: Vec::new() };
            }
            return false;
        }
        if at.n > self.last.n {
            if at.n > self.last.n + 1 {
                if self.gaps.len() == GAPS {
                    self.gaps.remove(0);
                }
                self.gaps.push((self.last.n + 1, at.n - 1));
            }
            self.last = at;
            return false;
        }
        let Some(gap) = self.gaps.iter().position(|(first, last)| (*first..=*last).contains(&at.n)) else { return true };
        let (first, last) = self.gaps.swap_remove(gap);
        self.gaps.extend([(first, at.n.wrapping_sub(1)), (at.n.saturating_add(1), last)].into_iter().filter(|(first, last)| first <= last));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::Repeats;
    use asset_stream::Position;
    use std::sync::Arc;

    fn passes(repeats: &mut Repeats, asset: &str, epoch: u64, n: u64) -> bool {
        !repeats.is_repeat(&Arc::from("edge"), &Arc::from(asset), Position { epoch, n })
    }

    #[test]
    fn an_event_passes_once() {
        let mut repeats = Repeats::new(10);
        let sent = [1, 2, 3, 2, 3, 4, 1, 5];
        let passed: Vec<u64> = sent.into_iter().filter(|n| passes(&mut repeats, "PRESS-1", 7, *n)).collect();
        assert_eq!(passed, [1, 2, 3, 4, 5]);
        assert!(passes(&mut repeats, "PRESS-2", 7, 1), "another asset has numbers of its own");
    }

    #[test]
    fn what_fills_a_gap_is_no_repeat() {
        let mut repeats = Repeats::new(10);
        let sent = [1, 5, 3, 3, 2, 4, 4, 2, 6];
        let passed: Vec<u64> = sent.into_iter().filter(|n| passes(&mut repeats, "PRESS-1", 7, *n)).collect();
        assert_eq!(passed, [1, 5, 3, 2, 4, 6]);
    }

    #[test]
    fn a_new_epoch_starts_anew_and_an_old_one_is_not_judged() {
        let mut repeats = Repeats::new(10);
        assert!(passes(&mut repeats, "PRESS-1", 7, 9));
        assert!(passes(&mut repeats, "PRESS-1", 8, 1));
        assert!(passes(&mut repeats, "PRESS-1", 7, 9));
        assert!(!passes(&mut repeats, "PRESS-1", 8, 1));
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut repeats = Repeats::new(100);
        for n in 1..=10_000 {
            assert!(passes(&mut repeats, &format!("ASSET-{n}"), 7, 1));
            assert!(passes(&mut repeats, "BUSY", 7, n));
            assert!(!passes(&mut repeats, "BUSY", 7, n), "the busy asset was forgotten at {n}");
        }
        assert!(repeats.young.len() + repeats.old.len() <= 200);
    }
}
