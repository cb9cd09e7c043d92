//! When which group is read. Pure: the clock is handed in.
//!
//! A group's cycle is all its requests, once. Among cycles under way the one whose interval ends first goes first, request by request,
//! so that a slow group with many requests does not hold up a fast one, and a fast one that cannot keep up does not starve a slow one.
//! Cycles are never queued: those that a slow device leaves no time for are skipped, and counted.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Interval;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send the next request of this group.
    Ask(usize),
    /// Nothing is due before then.
    Wait(Instant),
    /// Nothing will ever be due.
    Idle,
}

#[derive(Debug)]
struct Turn {
    interval: Interval,
    /// When the running cycle was due, or the next one is; `None`: never.
    due: Option<Instant>,
}

/// The groups of one device.
#[derive(Debug)]
pub(crate) struct Schedule(Vec<Turn>);

impl Schedule {
    /// Everything is due at once.
    pub(crate) fn new(intervals: impl IntoIterator<Item = Interval>, now: Instant) -> Self {
        Self(intervals.into_iter().map(|interval| Turn { interval, due: Some(now) }).collect())
    }

    /// What to do now.
    pub(crate) fn next(&self, now: Instant) -> Next {
        let due = |turn: &Turn| turn.due.filter(|due| *due <= now);
        let deadline = |(i, turn): (usize, &Turn)| Some((due(turn)? + turn.interval.length(), i));
        if let Some((_, group)) = self.0.iter().enumerate().filter_map(deadline).min() {
            return Next::Ask(group);
        }
        self.0.iter().filter_map(|turn| turn.due).min().map_or(Next::Idle, Next::Wait)
    }

    /// A group's cycle has ended. Returns how many cycles were skipped because there was no time for them.
    pub(crate) fn finish(&mut self, group: usize, now: Instant) -> u32 {
        let turn = &mut self.0[group];
        let (Some(due), Interval::Every(interval)) = (turn.due, turn.interval) else {
            turn.due = None;
            return 0;
        };
        // The grid stays where it was: a late cycle does not shift those after it.
        let skipped = now.saturating_duration_since(due).as_nanos() / interval.as_nanos().max(1);
        let skipped = u32::try_from(skipped).unwrap_or(u32::MAX - 1);
        turn.due = due.checked_add(interval.saturating_mul(skipped + 1));
        skipped
    }

    /// A group that is read once is read again then.
    pub(crate) fn again(&mut self, group: usize, at: Instant) {
        self.0[group].due = Some(at);
    }
}

impl Interval {
    fn length(self) -> Duration {
        match self {
            // Once, and soon: what is read once must not wait behind everything else.
            Self::Once => Duration::from_secs(1),
            Self::Every(interval) => interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Schedule};
    use crate::config::Interval;
    use std::time::Duration;
    use tokio::time::Instant;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_cycle_whose_interval_ends_first_goes_first() {
        let start = Instant::now();
        let mut schedule = Schedule::new([Interval::Every(ms(1000)), Interval::Every(ms(100))], start);
        assert_eq!(schedule.next(start), Next::Ask(1));
        assert_eq!(schedule.finish(1, start + ms(10)), 0);
        assert_eq!(schedule.next(start + ms(10)), Next::Ask(0));
        // The slow group has requests left when the fast one is due again.
        assert_eq!(schedule.next(start + ms(100)), Next::Ask(1));
        schedule.finish(1, start + ms(110));
        assert_eq!(schedule.next(start + ms(110)), Next::Ask(0));
        schedule.finish(0, start + ms(120));
        assert_eq!(schedule.next(start + ms(120)), Next::Wait(start + ms(200)));
    }

    #[test]
    fn cycles_that_cannot_be_kept_are_skipped_counted_and_starve_nobody() {
        let start = Instant::now();
        let mut schedule = Schedule::new([Interval::Every(ms(1000)), Interval::Every(ms(10))], start);
        let (mut now, mut fast, mut slow, mut skipped) = (start, 0, 0, 0);
        while now < start + ms(10_000) {
            let group = match schedule.next(now) {
                Next::Ask(group) => group,
                Next::Wait(until) => {
                    now = until;
                    continue;
                }
                Next::Idle => panic!("there is always something to do"),
            };
            now += ms(35);
            skipped += schedule.finish(group, now);
            *(if group == 0 { &mut slow } else { &mut fast }) += 1;
        }
        assert!((9..=10).contains(&slow), "the slow group was read {slow} times in 10 s");
        assert!(fast > 200 && fast + skipped >= 990, "read {fast} times, skipped {skipped}, of 1000");
    }

    #[test]
    fn a_group_that_is_read_once_is_done_until_asked_again() {
        let start = Instant::now();
        let mut schedule = Schedule::new([Interval::Once], start);
        assert_eq!(schedule.next(start), Next::Ask(0));
        assert_eq!((schedule.finish(0, start + ms(5000)), schedule.next(start + ms(5000))), (0, Next::Idle));
        schedule.again(0, start + ms(9000));
        assert_eq!(schedule.next(start + ms(5000)), Next::Wait(start + ms(9000)));
    }
}
