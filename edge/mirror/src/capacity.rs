//! How much may be under way: what the link carries in a given time.
//!
//! On a thin link everything that is handed over waits in a queue, in librdkafka and in the kernel. A request that waits longer than its time
//! limit is broken off and begun again, for ever; and what a killed process left in the kernel still arrives when the next one reads back. So
//! no more is handed over than arrives well within these times. A link that carries all that the window holds is not slowed down.

use std::time::{Duration, Instant};

use crate::window::Window;

/// What may be under way before anything is known of the link: 8 s of 64 kbit/s where nothing can be compressed.
pub(crate) const CAUTIOUS: usize = 64 << 10;

/// What is under way is looked at together, until all of it has arrived.
#[derive(Debug)]
struct Round {
    began: Instant,
    /// Its last event.
    through: u64,
    /// Bytes that had arrived when it began.
    arrived: u64,
}

/// The link's capacity, as far as it is known. It is that of one producer's life.
#[derive(Debug)]
pub(crate) struct Capacity {
    /// In this time, what is under way has to arrive.
    time: Duration,
    /// Bytes that may be under way.
    bytes: usize,
    round: Option<Round>,
}

impl Capacity {
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, bytes: CAUTIOUS, round: None }
    }

    /// Bytes of events that may be under way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Learns from what has arrived.
    pub(crate) fn look(&mut self, window: &Window, now: Instant) {
        if let Some(Round { began, through, arrived }) = self.round {
            if window.acknowledged() < through {
                return;
            }
            let took = now.saturating_duration_since(began).max(Duration::from_millis(1));
            let fits = (window.arrived() - arrived) as f64 * self.time.as_secs_f64() / took.as_secs_f64();
            // A short round of few bytes tells nothing of how many there might be.
            if took > self.time || fits > self.bytes as f64 {
                self.bytes = (fits as usize).max(CAUTIOUS);
            }
        }
        self.round = (window.waiting() > 0).then(|| Round { began: now, through: window.through(), arrived: window.arrived() });
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use edge_buffer::Stored;

    use super::Capacity;
    use crate::window::Window;

    const EVENT: usize = 1000;

    /// Lets a link carry a backlog for a while; returns how much was under way at the end, in the link's seconds.
    fn under_way_after(seconds: u64, bytes_a_second: usize, round_trip: Duration, capacity: &mut Capacity) -> f64 {
        let mut now = Instant::now();
        let end = now + Duration::from_secs(seconds);
        let mut window = Window::new(0);
        let (mut sequence, mut reported) = (0, 0);
        while now < end {
            while window.bytes() < capacity.bytes() {
                sequence += 1;
                let event = Stored { sequence, key_sequence: sequence, key: "PRESS-1".into(), timestamp: 0, value: Default::default() };
                window.hand_over(&event, EVENT);
            }
            capacity.look(&window, now);
            let batch = window.waiting().min(1000);
            now += round_trip + Duration::from_secs_f64((batch * EVENT) as f64 / bytes_a_second as f64);
            for _ in 0..batch {
                window.report(reported, Ok((0, reported as i64)));
                reported += 1;
            }
            window.advance(&mut Vec::new());
            capacity.look(&window, now);
        }
        capacity.bytes() as f64 / bytes_a_second as f64
    }

    #[test]
    fn a_thin_link_has_no_more_under_way_than_it_carries_in_the_time() {
        let mut capacity = Capacity::new(Duration::from_secs(8));
        let seconds = under_way_after(300, 50_000, Duration::from_millis(20), &mut capacity);
        assert!((7.0..9.0).contains(&seconds), "{seconds} s are under way");
    }

    #[test]
    fn a_link_that_becomes_thin_has_less_under_way() {
        let mut capacity = Capacity::new(Duration::from_secs(8));
        under_way_after(10, 5_000_000, Duration::from_millis(1), &mut capacity);
        assert!(capacity.bytes() > 32 << 20, "{} bytes", capacity.bytes());
        let seconds = under_way_after(3600, 50_000, Duration::from_millis(20), &mut capacity);
        assert!((7.0..9.0).contains(&seconds), "{seconds} s are under way");
    }

    #[test]
    fn a_long_way_is_not_taken_for_a_thin_link() {
        let mut capacity = Capacity::new(Duration::from_secs(8));
        under_way_after(30, 10_000_000, Duration::from_millis(500), &mut capacity);
        assert!(capacity.bytes() > 8 << 20, "{} bytes", capacity.bytes());
    }

    #[test]
    fn few_events_do_not_make_a_link_thin() {
        let mut capacity = Capacity::new(Duration::from_secs(8));
        under_way_after(1, 5_000_000, Duration::from_millis(1), &mut capacity);
        let before = capacity.bytes();
        let mut window = Window::new(0);
        let start = Instant::now();
        window.hand_over(&Stored { sequence: 1, key_sequence: 1, key: "PRESS-1".into(), timestamp: 0, value: Default::default() }, EVENT);
        capacity.look(&window, start);
        window.report(0, Ok((0, 0)));
        window.advance(&mut Vec::new());
        capacity.look(&window, start + Duration::from_secs(1));
        assert_eq!(capacity.bytes(), before);
    }
}
