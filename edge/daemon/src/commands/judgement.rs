//! Whether a command is executed: by its signature and sender, its deadline, and what the device can do.

use std::path::Path;
use std::time::Instant;

use asset_stream::Timestamp;
use asset_stream::command::Command;
use asset_stream::command::status::{Reason, State};
use edge_mirror::Clock;
use gateway::{Refusal, Request};

use super::config::{Config, UntrustedClock};
use super::policy::Policy;
use super::worker::Work;
use crate::clock;

/// What is to become of a command.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It waits for its turn, at most until the deadline (Unix ms).
    Accept { request: Request, deadline: i64 },
    /// It ends here.
    Refuse(State, Refusal),
}

/// From when on it must not be executed, Unix ms; why that cannot be known.
pub(crate) fn deadline(command: &Command, config: &Config) -> Result<i64, Refusal> {
    let malformed = |detail: String| Refusal { reason: Reason::Malformed, detail };
    let asked =
        command.header.deadline().map_err(|text| malformed(format!("header.expires_at is no time: {text:?}; expected ISO 8601 in UTC")))?;
    let given = || command.header.time().map(|time| time.millis() + millis(config.default_deadline));
    asked.map(Timestamp::millis).or_else(given).ok_or_else(|| {
        malformed(format!(
            "it has no header.expires_at, and header.timestamp ({:?}) is no time: nobody could know when it is too late for it",
            command.header.timestamp
        ))
    })
}

/// In the unit of deadlines.
pub(crate) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Why no deadline can be judged now.
pub(crate) fn clock_refusal(setting: UntrustedClock) -> Option<Refusal> {
    if setting == UntrustedClock::Execute || clock::look(Path::new(clock::TIMESYNC)) != Clock::Free {
        return None;
    }
    let detail = "the edge's clock is not synchronised, so it cannot know whether the deadline has passed; see commands.untrusted_clock";
    Some(Refusal { reason: Reason::ClockUntrusted, detail: detail.into() })
}

/// The deadline of a command of an earlier life, if it may be gone on with by what holds now.
pub(crate) fn still_allows(asset: &str, method: &str, command: &Command, policy: &Policy, config: &Config) -> Option<i64> {
    policy.allows(asset, method, command).ok()?;
    let deadline = deadline(command, config).ok()?;
    (deadline - Timestamp::now().millis() <= millis(config.longest_deadline)).then_some(deadline)
}

/// Judges a command that this edge has claimed.
pub(crate) fn judge(
    asset: &str,
    method: &str,
    command: &Command,
    deadline: Result<i64, Refusal>,
    policy: &mut Policy,
    config: &Config,
    work: &Work,
) -> Verdict {
    let reject = |refusal| Verdict::Refuse(State::Rejected, refusal);
    // Who asks comes first: to others the edge tells nothing about its devices.
    let allowed = match policy.allows(asset, method, command) {
        Ok(allowed) => allowed,
        Err(refusal) => return reject(refusal),
    };
    let deadline = match deadline {
        Ok(deadline) => deadline,
        Err(refusal) => return reject(refusal),
    };
    if let Some(refusal) = clock_refusal(config.untrusted_clock) {
        return reject(refusal);
    }
    let left = deadline - Timestamp::now().millis();
    if left <= 0 {
        let detail = format!("its deadline had passed {:.1} s before it arrived, by the edge's clock", -left as f64 / 1000.0);
        return Verdict::Refuse(State::Expired, Refusal { reason: Reason::ArrivedLate, detail });
    }
    if left > millis(config.longest_deadline) {
        let detail = format!(
            "its deadline lies {:.0} s ahead by the edge's clock, and commands.longest_deadline is {} s",
            left as f64 / 1000.0,
            config.longest_deadline.as_secs()
        );
        return reject(Refusal { reason: Reason::OutOfRange, detail });
    }
    let request = Request { method: method.to_owned(), arguments: command.arguments.clone() };
    // The rate comes last: what is refused anyway is not counted.
    let checked = work.terms.check(&request).and_then(|()| work.actions.check(&request));
    match checked.and_then(|()| policy.take(&allowed, &command.header.sender_uuid, Instant::now())) {
        Ok(()) => Verdict::Accept { request, deadline },
        Err(refusal) => reject(refusal),
    }
}
