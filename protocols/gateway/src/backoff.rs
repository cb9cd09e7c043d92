//! Waiting longer after each failure.

use std::time::Duration;

/// Exponential backoff with full jitter in its upper half: many gateways that lost the same server do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from `min`, doubling up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), next: min }
    }

    /// How long to wait now: between half of the step and the step; the next step is twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Starts again from `min`: call it when a connection has proven itself, not when it was merely opened.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn the_delay_doubles_to_its_limit_and_starts_again_after_reset() {
        let (min, max) = (Duration::from_millis(100), Duration::from_millis(350));
        let mut backoff = Backoff::new(min, max);
        for step in [100, 200, 350, 350] {
            let (delay, step) = (backoff.next_delay(), Duration::from_millis(step));
            assert!(delay >= step / 2 && delay <= step, "{delay:?} is not within the upper half of {step:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= min);
    }
}
