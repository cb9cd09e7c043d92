//! How far a run has come, for the person who waits: on a terminal in one line, elsewhere a line now and then.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use edge_mirror::replay::{Phase, Step};

/// Between two changes of the line on a terminal.
const OFTEN: Duration = Duration::from_millis(200);
/// Between two lines elsewhere.
const SELDOM: Duration = Duration::from_secs(10);
/// Erases the line that the cursor is in.
const ERASE: &str = "\r\x1b[2K";

/// Writes to standard error; what the command finds goes to standard output.
#[derive(Debug)]
pub(crate) struct Meter {
    is_terminal: bool,
    phase: Option<Phase>,
    /// When the phase began, and what was done before.
    began: (Instant, u64),
    shown: Instant,
}

impl Meter {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { is_terminal: std::io::stderr().is_terminal(), phase: None, began: (now, 0), shown: now }
    }

    /// Shows a step, if it is time to.
    pub(crate) fn show(&mut self, step: Step) {
        let now = Instant::now();
        if self.phase != Some(step.phase) {
            (self.phase, self.began) = (Some(step.phase), (now, step.done));
        }
        let pause = if self.is_terminal { OFTEN } else { SELDOM };
        if now.duration_since(self.shown) < pause {
            return;
        }
        self.shown = now;
        let (began, before) = self.began;
        let line = line(step, step.done.saturating_sub(before), now.duration_since(began));
        // Nobody to show it to is no reason to stop.
        let mut err = std::io::stderr().lock();
        if self.is_terminal {
            drop(write!(err, "{ERASE}{line}").and_then(|()| err.flush()));
        } else {
            drop(writeln!(err, "{line}"));
        }
    }

    /// Gives the line back to what comes next.
    pub(crate) fn end(&self) {
        if self.is_terminal {
            drop(write!(std::io::stderr(), "{ERASE}"));
        }
    }
}

/// A step in words; `done` of it in `time`.
fn line(step: Step, done: u64, time: Duration) -> String {
    let total = step.total.unwrap_or(step.done).max(step.done);
    let what = match step.phase {
        Phase::Waiting => {
            return format!(
                "waiting {} s for what an earlier run may still have under way",
                total.saturating_sub(step.done).div_ceil(1000)
            );
        }
        Phase::Planning => "reading the log: event",
        Phase::Resuming => "looking what was sent already: record",
        Phase::Reading => "reading the topic: record",
        Phase::Comparing => "comparing with the log: event",
        Phase::Sending => "sending: event",
        Phase::Verifying => "reading once more what was sent: record",
    };
    let rate = done as f64 / time.as_secs_f64().max(0.001);
    let left = if rate < 1.0 { String::new() } else { format!(", about {:.0} s left", (total - step.done) as f64 / rate) };
    format!("{what} {} of {total}, {rate:.0} a second{left}", step.done)
}

#[cfg(test)]
mod tests {
    use super::{Phase, Step, line};
    use std::time::Duration;

    #[test]
    fn a_step_is_told_with_rate_and_time_left() {
        let told = |phase, done, total, new, secs| line(Step { phase, done, total }, new, Duration::from_secs(secs));
        assert_eq!(told(Phase::Sending, 3_000, Some(9_000), 2_000, 2), "sending: event 3000 of 9000, 1000 a second, about 6 s left");
        assert_eq!(told(Phase::Reading, 0, None, 0, 1), "reading the topic: record 0 of 0, 0 a second");
        assert_eq!(told(Phase::Waiting, 1_200, Some(10_000), 0, 1), "waiting 9 s for what an earlier run may still have under way");
    }
}
