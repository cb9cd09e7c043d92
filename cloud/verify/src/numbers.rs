//! Which numbers of a gapless count are there.

use std::collections::BTreeMap;

/// Numbers in one bit map.
const BLOCK: u64 = 64;

/// First and last of a stretch of numbers.
pub type Range = (u64, u64);

/// How many numbers the stretches hold.
pub(crate) fn count(ranges: &[Range]) -> u64 {
    ranges.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
}

/// A set of numbers that come nearly in order: whole blocks of 64 are kept as stretches, the others as bits. So the memory is one of holes,
/// and of what the partitions of a topic are read ahead of each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// First and last block of each stretch of blocks that are complete; no two touch.
    whole: BTreeMap<u64, u64>,
    /// The other blocks that hold anything.
    open: BTreeMap<u64, u64>,
}

impl Numbers {
    /// Puts a number in; `false` if it is there already.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let (block, bit) = (number / BLOCK, 1 << (number % BLOCK));
        if self.whole.range(..=block).next_back().is_some_and(|(_, last)| *last >= block) {
            return false;
        }
        let bits = self.open.entry(block).or_default();
        let is_new = *bits & bit == 0;
        *bits |= bit;
        if *bits == u64::MAX {
            self.open.remove(&block);
            self.complete(block);
        }
        is_new
    }

    fn complete(&mut self, block: u64) {
        let before = self.whole.range(..block).next_back().map(|(first, last)| (*first, *last)).filter(|(_, last)| last + 1 == block);
        let last = self.whole.remove(&(block + 1)).unwrap_or(block);
        self.whole.insert(before.map_or(block, |(first, _)| first), last);
    }

    /// The stretches that are there, growing; no two touch.
    pub(crate) fn ranges(&self) -> Vec<Range> {
        let mut all: Vec<Range> =
            self.whole.iter().map(|(first, last)| (first * BLOCK, last.saturating_mul(BLOCK).saturating_add(BLOCK - 1))).collect();
        for (block, bits) in &self.open {
            let mut bit = 0;
            while bit < 64 && bits >> bit != 0 {
                let first = bit + (bits >> bit).trailing_zeros();
                bit = first + (bits >> first).trailing_ones();
                all.push((block * BLOCK + u64::from(first), block * BLOCK + u64::from(bit - 1)));
            }
        }
        joined(all)
    }

    /// The stretches between `first` and `last` that are not there.
    pub(crate) fn absent(&self, first: u64, last: u64) -> Vec<Range> {
        if first > last { Vec::new() } else { without(&[(first, last)], &self.ranges()) }
    }
}

/// The same numbers as stretches that grow and do not touch.
pub(crate) fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// The numbers of `ranges` that `others` do not hold; both as [`joined`] gives them, and so is the result.
pub(crate) fn without(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    for (mut first, last) in ranges.iter().copied() {
        let from = others.partition_point(|(_, end)| *end < first);
        let mut is_covered = false;
        for (begin, end) in others[from..].iter().take_while(|(begin, _)| *begin <= last) {
            if *begin > first {
                left.push((first, begin - 1));
            }
            is_covered = *end >= last;
            first = end.saturating_add(1);
        }
        if !is_covered {
            left.push((first, last));
        }
    }
    left
}

/// The numbers that both hold.
pub(crate) fn within(ranges: &[Range], others: &[Range]) -> Vec<Range> {
    without(ranges, &without(ranges, others))
}

#[cfg(test)]
mod tests {
    use super::{Numbers, Range, count, joined, within, without};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn expand(ranges: &[Range]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    #[test]
    fn what_comes_in_order_costs_the_same_however_much_it_is() {
        let mut numbers = Numbers::default();
        assert!((1..=1_000_000).all(|n| numbers.insert(n)));
        assert_eq!(numbers.ranges(), [(1, 1_000_000)]);
        assert!(numbers.whole.len() + numbers.open.len() <= 3, "{numbers:?}");
        assert!(!numbers.insert(77) && !numbers.insert(1_000_000));
    }

    #[test]
    fn the_highest_number_there_can_be_is_one_of_them() {
        let mut numbers = Numbers::default();
        assert!(numbers.insert(u64::MAX) && numbers.insert(1) && !numbers.insert(u64::MAX));
        assert_eq!(numbers.absent(1, u64::MAX), [(2, u64::MAX - 1)]);
        assert!((u64::MAX - 63..u64::MAX).all(|n| numbers.insert(n)));
        assert_eq!(numbers.ranges(), [(1, 1), (u64::MAX - 63, u64::MAX)]);
    }

    proptest! {
        #[test]
        fn they_are_a_set(mut put in proptest::collection::vec(0_u64..700, 0..900)) {
            let (mut numbers, mut set) = (Numbers::default(), BTreeSet::new());
            // Whole blocks too.
            put.extend(128..300);
            for n in put {
                prop_assert_eq!(numbers.insert(n), set.insert(n), "{}", n);
            }
            prop_assert_eq!(expand(&numbers.ranges()), set.clone());
            prop_assert!(numbers.ranges().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let absent: BTreeSet<u64> = (5..=650).filter(|n| !set.contains(n)).collect();
            prop_assert_eq!(expand(&numbers.absent(5, 650)), absent);
        }

        #[test]
        fn stretches_are_taken_out_and_cut_like_sets(
            one in proptest::collection::vec((0_u64..200, 0_u64..9), 0..20),
            two in proptest::collection::vec((0_u64..200, 0_u64..9), 0..20),
        ) {
            let ranges = |all: Vec<(u64, u64)>| joined(all.into_iter().map(|(first, more)| (first, first + more)).collect());
            let (one, two) = (ranges(one), ranges(two));
            let (a, b) = (expand(&one), expand(&two));
            prop_assert_eq!(count(&one), a.len() as u64);
            prop_assert_eq!(expand(&without(&one, &two)), &a - &b);
            prop_assert_eq!(expand(&within(&one, &two)), &a & &b);
        }
    }
}
