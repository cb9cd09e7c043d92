//! Up to when everything that the server had to tell has arrived: where a gap begins when it is lost. Pure.
//!
//! A message holds what its subscription had until the server published it. When it arrives here says little about that: it may have waited, in
//! the network or behind a slow log. Its publish time says it, by the server's clock, which may be any. So the clocks are compared: no
//! message arrives before it is published, and the one with the shortest way tells best how far the server's clock is ahead.

use std::collections::HashMap;

use asset_stream::Timestamp;

/// Ways longer than this are taken for a clock that was set.
const LONGEST_WAY_MS: i64 = 60_000;

#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// How far the server's clock is ahead of ours, in milliseconds: at least so far.
    ahead: Option<i64>,
    /// By subscription, from its creation on: one's message says nothing about another's values.
    until: HashMap<u32, Timestamp>,
    /// What was lost before is told up to here.
    told: Option<Timestamp>,
}

impl Heard {
    /// A message or a keep-alive of this subscription is dealt with.
    pub(crate) fn message(&mut self, subscription: u32, published: Option<Timestamp>, now: Timestamp) {
        let until = published.map_or(now, |published| {
            let seen = published.millis().saturating_sub(now.millis());
            let ahead = self.ahead.map_or(seen, |ahead| ahead.max(seen));
            // Either clock was set.
            let ahead = if ahead.saturating_sub(seen) > LONGEST_WAY_MS { seen } else { ahead };
            self.ahead = Some(ahead);
            Timestamp::from_millis(published.millis().saturating_sub(ahead))
        });
        self.until.insert(subscription, until);
    }

    /// A subscription is asked for: what it tells before its first message arrives may be missing, too.
    pub(crate) fn begins(&mut self, subscription: u32, now: Timestamp) {
        self.until.insert(subscription, self.told.unwrap_or(now));
    }

    /// A subscription is no more, and nothing of it is missing.
    pub(crate) fn forget(&mut self, subscription: u32) {
        self.until.remove(&subscription);
    }

    /// Since when something may be missing; `None` before it was asked to tell anything.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.until.values().min().copied().or(self.told)
    }

    /// What is missing is told up to now; these subscriptions are left.
    pub(crate) fn told(&mut self, now: Timestamp, left: impl Iterator<Item = u32>) {
        self.until = left.map(|subscription| (subscription, now)).collect();
        self.told = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::Heard;
    use asset_stream::Timestamp;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_message_that_waited_counts_from_when_it_was_published() {
        let mut heard = Heard::default();
        assert_eq!(heard.since(), None, "nothing was asked for, so nothing can be missing");
        heard.begins(1, at(2));
        assert_eq!(heard.since(), Some(at(2)));
        // The server's clock is an hour ahead; the first message took 5 ms.
        heard.message(1, Some(at(3_600_000)), at(5));
        heard.message(1, Some(at(3_600_100)), at(900));
        assert_eq!(heard.since(), Some(at(105)), "795 ms of it were on the way");
        heard.message(1, Some(at(3_601_000)), at(1_002));
        assert_eq!(heard.since(), Some(at(1_002)), "the shortest way tells best how far the clocks are apart");
    }

    #[test]
    fn the_subscription_that_was_heard_last_says_nothing_about_another() {
        let mut heard = Heard::default();
        heard.message(1, Some(at(100)), at(100));
        heard.message(2, Some(at(200)), at(200));
        assert_eq!(heard.since(), Some(at(100)));
        heard.told(at(300), [1, 2].into_iter());
        assert_eq!(heard.since(), Some(at(300)));
        heard.message(2, None, at(400));
        assert_eq!(heard.since(), Some(at(300)), "the first one was not heard since");
        heard.message(1, None, at(500));
        assert_eq!(heard.since(), Some(at(400)), "without a publish time its arrival has to do");
    }

    #[test]
    fn a_subscription_counts_from_its_creation_and_no_longer_when_it_is_gone() {
        let mut heard = Heard::default();
        heard.begins(1, at(100));
        heard.begins(2, at(150));
        heard.message(1, Some(at(200)), at(200));
        assert_eq!(heard.since(), Some(at(150)), "the second one was not heard yet");
        heard.told(at(300), [1].into_iter());
        heard.message(1, Some(at(400)), at(400));
        assert_eq!(heard.since(), Some(at(400)), "the second one was lost, and that was told");
        heard.begins(3, at(450));
        assert_eq!(heard.since(), Some(at(300)), "its items had none since the gap");
        heard.forget(3);
        assert_eq!(heard.since(), Some(at(400)));
    }

    #[test]
    fn a_clock_that_is_set_is_believed_anew() {
        let mut heard = Heard::default();
        heard.message(1, Some(at(7_200_000)), at(0));
        heard.message(1, Some(at(1_000)), at(1_000));
        assert_eq!(heard.since(), Some(at(1_000)), "set back");
        heard.message(1, Some(at(90_000_000)), at(2_000));
        assert_eq!(heard.since(), Some(at(2_000)), "set forward");
    }
}
