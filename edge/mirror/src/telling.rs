//! Events of the mirror's own go through the log, as all others do.
//!
//! A full log that refuses new events may have no room before the mirror has gone on. So what it does not take waits in the cursor's note,
//! which is kept together with what it tells about.

use asset_stream::Sample;
use edge_buffer::{Appended, Entry, Log};
use service::error::chain;
use tracing::warn;

use crate::class::{Class, Failure};
use crate::note::Untold;
use crate::worker::Worker;

/// So many events wait at most; the note has to stay small.
const MAX_UNTOLD: usize = 100;

impl Worker {
    /// Tells a sample; on return it is durable in the log, or will be with the next cursor that is kept.
    pub(crate) fn tell(&mut self, sample: &Sample) -> Result<(), Failure> {
        let mut value = Vec::with_capacity(512);
        sample.encode(&mut value);
        let entry = Entry { key: sample.item.asset.clone(), timestamp: sample.record_time(), value };
        // Many records may be refused one after the other, and each of these appends waits for the disk.
        self.shared.turn();
        let (asset, timestamp) = (entry.key.to_string(), entry.timestamp);
        let untold = Untold { asset, timestamp, value: String::from_utf8_lossy(&entry.value).into_owned() };
        let Err(why) = append(&self.log, entry) else { return Ok(()) };
        match &mut self.note {
            Some(note) if note.untold.len() < MAX_UNTOLD => {
                warn!(asset = untold.asset, why, "the log does not take an event of the mirror's own; it is told as soon as there is room");
                note.untold.push(untold);
                Ok(())
            }
            _ => {
                let text = format!("the log does not take what the mirror has to tell, and nothing is given up before it does: {why}");
                Err(Failure::new(Class::Transient, text))
            }
        }
    }

    /// Tells what the log did not take before, as far as it takes it now. A crash before the next cursor is kept tells it twice.
    pub(crate) fn tell_untold(&mut self) {
        let Some(note) = &mut self.note else { return };
        let refused = |untold: &Untold| {
            let Untold { asset, timestamp, value } = untold.clone();
            append(&self.log, Entry { key: asset.into(), timestamp, value: value.into_bytes() }).is_err()
        };
        let told = note.untold.iter().position(refused).unwrap_or(note.untold.len());
        note.untold.drain(..told);
    }
}

/// Appends durably, or says why not.
fn append(log: &Log, entry: Entry) -> Result<(), String> {
    match log.append_durable(vec![entry]) {
        Ok(Appended::Durable { .. }) => Ok(()),
        Ok(Appended::Refused { reason, .. }) => Err(reason.to_string()),
        Err(e) => Err(chain(&e)),
    }
}
