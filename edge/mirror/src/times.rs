//! Record times that Kafka takes: no event is given up for its time.
//!
//! Brokers refuse records whose time lies too far ahead of their own clock (an hour, by default), or, where a topic is configured so, too far
//! behind. Neither says anything about the event: a device's or the edge's clock is wrong, or the event waited long. So it is sent again
//! with another record time; its value keeps the device's. What the brokers' clock says is not known, only what they refuse.
//!
//! What they do not refuse may be gone within minutes all the same: retention deletes by record time, so the backlog of a long outage can be
//! older than all that the topic keeps. Such events are sent with the time of sending, too.

use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use tracing::warn;

use crate::worker::Worker;

const HOUR: i64 = 3_600_000;
/// So long every event stays in Kafka, or half of the topic's retention, if that is shorter: its readers need time.
const STAY: i64 = 24 * HOUR;
/// What was learnt is let go of by one step at this pace, since clocks are set right. A step too far costs one refused batch.
const LET_GO_EVERY: Duration = Duration::from_secs(6 * 3600);

/// What is known about the record times that Kafka takes and keeps, all by the edge's clock, in ms.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Retention would soon delete events older than this; `None`: it deletes nothing.
    keeps: Option<i64>,
    /// No record time is later than so long before its sending; `None`: nothing was refused yet.
    back: Option<i64>,
    /// Events older than this are too old for the topic: they get the latest time there is.
    max_age: Option<i64>,
    learnt_at: Option<Instant>,
}

impl Times {
    /// Takes note of the topic's retention.
    pub(crate) fn heed(&mut self, retention: Option<i64>) {
        self.keeps = retention.map(|retention| retention - STAY.min(retention / 2));
    }

    /// The record time for an event of that time.
    pub(crate) fn record_time(&self, event: i64) -> i64 {
        if self.back.is_none() && self.keeps.is_none() { event } else { self.record_time_at(event, Timestamp::now().millis()) }
    }

    fn record_time_at(&self, event: i64, now: i64) -> i64 {
        let latest = now.saturating_sub(self.back.unwrap_or_default());
        let max_age = self.max_age.into_iter().chain(self.keeps).min();
        match self.back {
            _ if max_age.is_some_and(|age| event < now.saturating_sub(age)) => latest,
            Some(_) => event.min(latest),
            None => event,
        }
    }

    /// Learns from events that were refused for their time. Returns what to tell.
    pub(crate) fn learn(&mut self, refused: impl Iterator<Item = i64>) -> &'static str {
        self.learnt_at = Some(Instant::now());
        self.learn_at(refused, Timestamp::now().millis())
    }

    fn learn_at(&mut self, refused: impl Iterator<Item = i64>, now: i64) -> &'static str {
        let newest = refused.map(|event| self.record_time_at(event, now)).max().unwrap_or(now);
        let latest = now.saturating_sub(self.back.unwrap_or_default());
        match self.back {
            // Not even the latest time there is was taken.
            Some(back) if newest >= latest => {
                let further = back.saturating_mul(2).saturating_add(HOUR);
                // At 1970 it begins anew: perhaps somebody has set the clocks meanwhile.
                if further < now {
                    self.back = Some(further)
                } else {
                    self.forget()
                }
                "the edge's clock is ahead of Kafka's by more than an hour: check NTP on both"
            }
            before => {
                self.back = before.or(Some(0));
                if newest < latest {
                    // Half of it, so that a row of ever younger events is not refused one after the other.
                    self.max_age = Some(now.saturating_sub(newest) / 2);
                }
                "a clock is wrong, or they are too old for the topic: check the devices' clocks, and NTP on the edge"
            }
        }
    }

    /// Forgets one step of what was learnt, now and then.
    pub(crate) fn let_go(&mut self, now: Instant) {
        if self.learnt_at.is_some_and(|at| now.saturating_duration_since(at) >= LET_GO_EVERY) {
            self.learnt_at = Some(now);
            match self.back {
                Some(back) if back > 0 => self.back = Some((back - HOUR) / 2),
                _ => self.forget(),
            }
        }
    }

    /// What refusals have taught; retention is no refusal.
    fn forget(&mut self) {
        *self = Self { keeps: self.keeps, ..Self::default() };
    }
}

impl Worker {
    /// Takes note of the topic's retention, and says so if events wait that are too old for it.
    pub(crate) fn heed_retention(&mut self, retention: Option<i64>) {
        self.times.heed(retention);
        let Some((oldest, keeps)) = self.log.stats().oldest_unacknowledged.zip(self.times.keeps) else { return };
        let before = Timestamp::now().millis().saturating_sub(keeps);
        if oldest < before {
            let (oldest, before) = (Timestamp::from_millis(oldest), Timestamp::from_millis(before));
            let text = format!(
                "events wait since {oldest}, and the topic's retention.ms would soon delete them: those from before {before} are sent with the \
                 time of sending as the record's time; their values keep the time of observation"
            );
            warn!("{text}");
            self.shared.failed(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{HOUR, Times};

    const NOW: i64 = 1_769_528_223_871;
    const DAY: i64 = 24 * HOUR;

    /// A Kafka that takes record times from `earliest` to `latest`. Returns how many refusals it takes until all events are taken.
    fn teach(times: &mut Times, events: &[i64], earliest: i64, latest: i64) -> usize {
        for refusals in 0..100 {
            let is_taken = |event: &i64| (earliest..=latest).contains(&times.record_time_at(*event, NOW));
            let refused: Vec<i64> = events.iter().copied().filter(|event| !is_taken(event)).collect();
            if refused.is_empty() {
                return refusals;
            }
            times.learn_at(refused.into_iter(), NOW);
        }
        panic!("never taken: {times:?}");
    }

    #[test]
    fn times_that_kafka_takes_are_left_alone() {
        let mut times = Times::default();
        assert_eq!(teach(&mut times, &[1, NOW, NOW + HOUR], i64::MIN, NOW + HOUR), 0);
        assert_eq!(times.record_time(i64::MAX), i64::MAX);
    }

    #[test]
    fn events_of_a_clock_that_was_ahead_get_the_time_of_sending() {
        let mut times = Times::default();
        assert_eq!(teach(&mut times, &[NOW + 2 * HOUR, NOW - HOUR], i64::MIN, NOW + HOUR), 1);
        assert_eq!((times.record_time_at(NOW + 1, NOW), times.record_time_at(NOW - HOUR, NOW)), (NOW, NOW - HOUR));
    }

    #[test]
    fn an_edge_whose_clock_is_ahead_finds_a_time_that_kafka_takes_in_few_steps() {
        for (ahead, most) in [(2 * HOUR, 4), (3 * DAY, 9), (3650 * DAY, 20)] {
            let (mut times, kafka) = (Times::default(), NOW - ahead);
            let refusals = teach(&mut times, &[NOW - 5 * HOUR, NOW - 50, NOW, NOW + 1000], i64::MIN, kafka + HOUR);
            assert!(refusals <= most, "{refusals} refusals, {ahead} ms ahead");
            assert!(times.record_time_at(NOW, NOW) > kafka - ahead - 2 * HOUR, "not further back than needed: {times:?}");
        }
    }

    #[test]
    fn events_too_old_for_the_topic_get_the_time_of_sending_and_their_younger_neighbours_keep_theirs() {
        let mut times = Times::default();
        let events = [1, NOW - 40 * DAY, NOW - 8 * DAY, NOW - DAY, NOW];
        assert!(teach(&mut times, &events, NOW - 7 * DAY, NOW + HOUR) <= 2);
        assert_eq!(times.record_time_at(1, NOW), NOW);
        assert_eq!(times.record_time_at(NOW - DAY, NOW), NOW - DAY);
        let younger: Vec<i64> = (0..1000).map(|n| NOW - 8 * DAY + n * 60_000).collect();
        assert!(teach(&mut times, &younger, NOW - 7 * DAY, NOW + HOUR) <= 1);
    }

    #[test]
    fn events_that_retention_would_soon_delete_get_the_time_of_sending() {
        let mut times = Times::default();
        times.heed(Some(7 * DAY));
        assert_eq!((times.record_time_at(NOW - 6 * DAY - 1, NOW), times.record_time_at(NOW - 6 * DAY, NOW)), (NOW, NOW - 6 * DAY));
        assert_eq!(times.record_time_at(NOW + HOUR, NOW), NOW + HOUR, "what is ahead is no business of retention");
        times.heed(Some(HOUR));
        assert_eq!((times.record_time_at(NOW - HOUR / 2 - 1, NOW), times.record_time_at(NOW - HOUR / 2, NOW)), (NOW, NOW - HOUR / 2));
        teach(&mut times, &[NOW], i64::MIN, NOW - 6 * HOUR);
        assert!(times.record_time_at(NOW - HOUR, NOW) <= NOW - 6 * HOUR, "what would be refused comes before what would be deleted");
        times.forget();
        assert_eq!(times.record_time_at(NOW - HOUR, NOW), NOW, "refusals are forgotten, retention is not");
        times.heed(None);
        assert_eq!(times.record_time_at(1, NOW), 1);
    }

    #[test]
    fn where_nothing_helps_it_begins_anew_so_that_clocks_set_right_are_noticed() {
        let mut times = Times::default();
        for _ in 0..1000 {
            times.learn_at([NOW].into_iter(), NOW);
        }
        assert!(teach(&mut times, &[NOW], NOW - HOUR, NOW + HOUR) <= 30);
    }

    #[test]
    fn what_was_learnt_is_let_go_of_step_by_step() {
        let mut times = Times::default();
        teach(&mut times, &[NOW], i64::MIN, NOW - 6 * HOUR);
        assert_eq!(times.back, Some(7 * HOUR));
        let mut now = Instant::now();
        times.learnt_at = Some(now);
        for back in [Some(3 * HOUR), Some(HOUR), Some(0), None] {
            times.let_go(now + Duration::from_secs(3600));
            now += Duration::from_secs(6 * 3600);
            times.let_go(now);
            assert_eq!(times.back, back);
        }
    }
}
