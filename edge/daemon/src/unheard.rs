//! After a crash: since when was nobody listening?

use std::collections::HashMap;
use std::sync::Arc;

use asset_stream::Timestamp;
use edge_buffer::{Log, Read};

/// So many of the log's last events are looked at: some tens of milliseconds.
const LOOK_BACK: u64 = 20_000;
/// A device's values come in the order of their messages, not quite in that of their times.
const OUT_OF_ORDER_MS: i64 = 1_000;

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
        let end = log.durable();
        let mut reader = log.reader(end.saturating_sub(LOOK_BACK));
        let mut unheard = Self::default();
        while reader.position() < end {
            let block = reader.next_block(500)?;
            if block.is_empty() {
                break;
            }
            for read in block {
                if let Read::Entry(stored) = read {
                    unheard.since = Some(unheard.since.map_or(stored.timestamp, |since| since.min(stored.timestamp)));
                    unheard.last.insert(stored.key, stored.timestamp);
                }
            }
        }
        Ok(unheard)
    }

    /// Since when an asset's device was not listened to; `None` if the log knows of no event at all.
    pub(crate) fn since(&self, asset: &str) -> Option<Timestamp> {
        self.last.get(asset).copied().or(self.since).map(|last| Timestamp::from_millis(last - OUT_OF_ORDER_MS))
    }
}
