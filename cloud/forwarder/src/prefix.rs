//! Which offset may be committed: the end of the prefix of records that are done.

use std::collections::VecDeque;

/// The records of one partition on their way, in the order of their offsets. Offsets may have holes (compaction, transaction markers).
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    open: VecDeque<(i64, Fate)>,
    position: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Done,
}

impl Prefix {
    /// A record starts its way. Offsets must grow.
    pub(crate) fn begin(&mut self, offset: i64) {
        debug_assert!(self.open.back().is_none_or(|(last, _)| *last < offset), "offsets grow within a partition");
        self.open.push_back((offset, Fate::Open));
    }

    /// A record is done: acknowledged, a known repeat, or among the dead letters. `false` if it was not on its way.
    pub(crate) fn done(&mut self, offset: i64) -> bool {
        let Ok(at) = self.open.binary_search_by_key(&offset, |(offset, _)| *offset) else { return false };
        if std::mem::replace(&mut self.open[at].1, Fate::Done) == Fate::Done {
            return false;
        }
        while let Some((offset, Fate::Done)) = self.open.front() {
            self.position = Some(offset + 1);
            self.open.pop_front();
        }
        true
    }

    /// The offset to commit: everything before it is done. `None` until the first record is.
    pub(crate) fn position(&self) -> Option<i64> {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::Prefix;
    use proptest::prelude::*;

    #[test]
    fn a_hole_holds_the_position_back() {
        let mut prefix = Prefix::default();
        [3, 4, 7].into_iter().for_each(|offset| prefix.begin(offset));
        assert!(prefix.done(4) && prefix.position().is_none());
        assert!(prefix.done(3));
        assert_eq!(prefix.position(), Some(5));
        assert!(!prefix.done(3) && !prefix.done(5), "unknown and finished offsets change nothing");
        assert!(prefix.done(7));
        assert_eq!(prefix.position(), Some(8));
    }

    proptest! {
        #[test]
        fn the_position_never_passes_a_record_that_is_not_done(
            steps in proptest::collection::vec((1_i64..4, any::<prop::sample::Index>()), 1..200)
        ) {
            let (mut prefix, mut open, mut next) = (Prefix::default(), Vec::new(), 0);
            for (step, pick) in steps {
                next += step;
                prefix.begin(next);
                open.push(next);
                if step > 1 {
                    let offset = open.swap_remove(pick.index(open.len()));
                    prop_assert!(prefix.done(offset));
                }
                let position = prefix.position().unwrap_or(0);
                prop_assert!(open.iter().all(|offset| *offset >= position), "{position} passes one of {open:?}");
            }
            for offset in open {
                prefix.done(offset);
            }
            prop_assert_eq!(prefix.position(), Some(next + 1));
        }
    }
}
