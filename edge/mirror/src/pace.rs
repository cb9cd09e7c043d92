//! How fast: an optional limit, and the figures for the status.

use std::time::{Duration, Instant};

/// Lets at most so many events a second through, with bursts of a tenth of a second.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: Option<f64>,
    tokens: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(per_second: Option<u32>, now: Instant) -> Self {
        Self { per_second: per_second.map(f64::from), tokens: 1.0, at: now }
    }

    /// How many events may go now, at most `wanted`.
    pub(crate) fn allowed(&mut self, wanted: usize, now: Instant) -> usize {
        let Some(per_second) = self.per_second else { return wanted };
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * per_second).min((per_second / 10.0).max(1.0));
        wanted.min(self.tokens as usize)
    }

    pub(crate) fn took(&mut self, count: usize) {
        if self.per_second.is_some() {
            self.tokens -= count as f64;
        }
    }
}

/// Rates over the last seconds.
#[derive(Debug)]
pub(crate) struct Meter {
    at: Instant,
    sent: u64,
    came: u64,
    sent_rate: f64,
    came_rate: f64,
}

impl Meter {
    const STEP: Duration = Duration::from_secs(1);
    /// Weight of the newest second.
    const WEIGHT: f64 = 0.3;

    pub(crate) fn new(sent: u64, came: u64, now: Instant) -> Self {
        Self { at: now, sent, came, sent_rate: 0.0, came_rate: 0.0 }
    }

    /// Takes in the counters; true about once a second, when the rates are new.
    pub(crate) fn step(&mut self, sent: u64, came: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        if passed < Self::STEP {
            return false;
        }
        let smooth = |old: f64, delta: u64| old + Self::WEIGHT * (delta as f64 / passed.as_secs_f64() - old);
        self.sent_rate = smooth(self.sent_rate, sent.saturating_sub(self.sent));
        self.came_rate = smooth(self.came_rate, came.saturating_sub(self.came));
        (self.at, self.sent, self.came) = (now, sent, came);
        true
    }

    /// Events a second.
    pub(crate) fn rate(&self) -> f64 {
        self.sent_rate
    }

    /// How long a backlog will last; `None` if it does not shrink.
    pub(crate) fn eta(&self, backlog: u64) -> Option<Duration> {
        let shrinks = self.sent_rate - self.came_rate;
        if backlog == 0 || shrinks < 1.0 {
            return None;
        }
        Duration::try_from_secs_f64(backlog as f64 / shrinks).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Meter, Pace};
    use std::time::{Duration, Instant};

    #[test]
    fn the_rate_holds_over_time_and_an_idle_hour_gives_no_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1000), start);
        let mut sent = 0;
        for millis in 0..5000 {
            let n = pace.allowed(500, start + Duration::from_millis(millis));
            pace.took(n);
            sent += n;
        }
        assert!((4900..=5101).contains(&sent), "{sent} in 5 s at 1000 a second");
        assert!(pace.allowed(5000, start + Duration::from_secs(3600)) <= 100);
        assert_eq!(Pace::new(None, start).allowed(7, start), 7);
    }

    #[test]
    fn a_backlog_that_grows_has_no_end() {
        let start = Instant::now();
        let mut meter = Meter::new(0, 0, start);
        assert!(!meter.step(1, 1, start + Duration::from_millis(999)));
        for second in 1..60 {
            assert!(meter.step(second * 500, second * 100, start + Duration::from_secs(second)));
        }
        let eta = meter.eta(4000).expect("it shrinks by 400 a second");
        assert!((9..=11).contains(&eta.as_secs()), "{eta:?}");
        assert_eq!(meter.eta(0), None);
        for second in 60..120 {
            meter.step(60 * 500, second * 100, start + Duration::from_secs(second));
        }
        assert_eq!(meter.eta(4000), None);
    }
}
