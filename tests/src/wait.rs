//! Waiting for a condition instead of for time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What a look at the world found.
#[derive(Debug)]
pub enum Look<T> {
    /// The condition holds.
    Done(T),
    /// It does not hold yet: the state, for people.
    Waiting(String),
}

/// Looks again and again until the condition holds; after `max`, an error that names `what` and the last state. An error of `look` ends the wait.
pub fn until<T>(what: &str, max: Duration, mut look: impl FnMut() -> anyhow::Result<Look<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + max;
    loop {
        let state = match look()? {
            Look::Done(value) => return Ok(value),
            Look::Waiting(state) => state,
        };
        if Instant::now() >= deadline {
            bail!("gave up after {max:?} waiting until {what}; last state: {state}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// As [`until`], for a plain yes or no.
pub fn until_true(what: &str, max: Duration, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    until(what, max, || Ok(if holds() { Look::Done(()) } else { Look::Waiting("not yet".into()) }))
}

/// Now, in Unix milliseconds, as devices' journals and events have it.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
