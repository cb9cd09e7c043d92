//! Telling systemd how we are, and feeding its watchdog by progress.
//!
//! Outside systemd (no `NOTIFY_SOCKET`) every call does nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

fn tell(state: &[(&str, &str)]) {
    if let Err(error) = systemd::daemon::notify(state.iter()) {
        warn!(%error, "systemd could not be notified");
    }
}

/// The service does its work: the log is open, ports are bound.
pub fn ready() {
    tell(&[("READY", "1")]);
}

/// The config is read again; [`ready`] says that this is over, whatever came of it.
pub fn reloading() {
    tell(&[("RELOADING", "1")]);
}

/// The line that `systemctl status` shows.
pub fn status(text: &str) {
    tell(&[("STATUS", text)]);
}

/// The service is stopping.
pub fn stopping() {
    tell(&[("STOPPING", "1")]);
}

/// One loop that must turn.
pub struct Progress {
    /// Its name, for the log.
    pub name: &'static str,
    /// A number that grows each time the loop turned, even when there was nothing to do.
    pub turns: Box<dyn Fn() -> u64 + Send>,
}

/// Feeds the watchdog, if the unit has one, as long as every loop turned since the last time. Ends with `stop`.
pub async fn watchdog(loops: Vec<Progress>, stop: CancellationToken) {
    let Some(limit) = systemd::daemon::watchdog_enabled().ok().filter(|us| *us > 0).map(Duration::from_micros) else { return };
    let mut seen: Vec<u64> = loops.iter().map(|l| (l.turns)()).collect();
    // Three tries within the limit: one late turn is no failure.
    let mut tick = tokio::time::interval(limit / 3);
    // The first is now, when nothing can have turned yet.
    tick.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let mut stuck = Vec::new();
        for (one, before) in loops.iter().zip(&mut seen) {
            let now = (one.turns)();
            if now == std::mem::replace(before, now) {
                stuck.push(one.name);
            }
        }
        if stuck.is_empty() {
            tell(&[("WATCHDOG", "1")]);
        } else {
            warn!(?stuck, "no progress; systemd restarts the service if this goes on");
        }
    }
}
