//! After a crash: since when was nobody listening?

use std::collections::HashMap;
use std::sync::Arc;

use asset_stream::{Gap, GapReason, Sample, Timestamp};
use edge_buffer::Log;

use crate::look_back;

/// So many of the log's last events are looked at: some tens of milliseconds.
const LOOK_BACK: u64 = 20_000;
/// A device's values come in the order of their messages, not quite in that of their times.
const OUT_OF_ORDER_MS: i64 = 1_000;

/// The gap's detail, also for what the device says until it answers.
pub(crate) const WHY: &str = "the edge ended without stopping in order (crash, kill, power cut) and did not listen";

/// The last events before the crash, by asset.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    last: HashMap<Arc<str>, i64>,
    /// The oldest of those looked at, for assets that are not among them.
    since: Option<i64>,
}

impl Unheard {
    /// Looks at the end of the log as it was found.
    pub(crate) fn look(log: &Log) -> Result<Self, edge_buffer::Error> {
        let mut unheard = Self::default();
        look_back::entries(log, LOOK_BACK, |stored| {
            unheard.since = Some(unheard.since.map_or(stored.timestamp, |since| since.min(stored.timestamp)));
            unheard.last.insert(stored.key, stored.timestamp);
        })?;
        Ok(unheard)
    }

    /// What the crash could not say of the asset: nobody listened to its device until `now`. Told at once: the edge may end again before the
    /// device answers. `None` if the log knows of no event at all.
    pub(crate) fn gap(&self, asset: &Arc<str>, now: Timestamp) -> Option<Sample> {
        let last = self.last.get(asset).copied().or(self.since)?;
        // A clock that was set between the two must not turn the gap around.
        let from = Timestamp::from_millis(last - OUT_OF_ORDER_MS).min(now);
        Some(Gap::before_log(asset.clone(), GapReason::EdgeCrashed, from, now, WHY.to_owned()).to_sample(now))
    }
}
