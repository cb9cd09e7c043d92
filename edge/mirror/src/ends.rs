//! The asset topic's ends, asked for now and then, so that a later reading back has less to read.

use tracing::{debug, warn};

use crate::scout::Scout;
use crate::shared::Shared;

/// Asks for the asset topic's ends and leaves them to the mirror's own thread.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Partitions of the topic when they were last counted; 0: never.
    partitions: usize,
}

impl Ends {
    pub(crate) fn ask(&mut self, topic: &str, scout: &Scout, shared: &Shared) {
        // The order matters: what is handed over after this number was read lands at or beyond the ends.
        let handed_over = shared.handed_over();
        if handed_over == 0 {
            return;
        }
        match scout.partitions(topic).and_then(|partitions| scout.ends(topic, &partitions)) {
            Ok(ends) => {
                let before = std::mem::replace(&mut self.partitions, ends.len());
                if before != 0 && ends.len() > before {
                    let now = ends.len();
                    let text = format!("the topic {topic} has grown from {before} to {now} partitions: assets change their partition");
                    warn!("{text}; the order of an asset's events across the two is not defined");
                    shared.failed(text);
                }
                shared.put_ends((handed_over, ends));
            }
            Err(failure) => debug!("the asset topic's ends: {}", failure.text),
        }
    }
}
