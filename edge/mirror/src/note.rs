//! What the mirror keeps beside its cursor in the log, to know after a crash where in Kafka to look.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// The cursor's note, as JSON: read by people too, when something went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    version: u32,
    /// The cluster's id, as its brokers tell it.
    pub(crate) cluster: String,
    pub(crate) topic: String,
    /// True if nothing was under way when this was kept: nothing beyond the cursor can stand in Kafka.
    pub(crate) clean: bool,
    pub(crate) partitions: BTreeMap<i32, Place>,
    /// Events up to here may stand before their partition's place, since some of them were sent again behind others: not to find one proves nothing.
    #[serde(default)]
    pub(crate) unsure_through: u64,
    /// The log was found to be an older copy. Kept, as the copy grows past what proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outdated: Option<Outdated>,
    /// Events of the mirror's own that the log did not take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) untold: Vec<Untold>,
}

/// Under which edge id the log must not be sent, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outdated {
    pub(crate) edge: String,
    pub(crate) proof: String,
}

/// An event that waits for room in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Untold {
    pub(crate) asset: String,
    /// The record's time, Unix ms.
    pub(crate) timestamp: i64,
    pub(crate) value: String,
}

/// Where one partition stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// No event beyond the cursor stands before this offset.
    pub(crate) from: i64,
    /// Offset and sequence of the last acknowledged event there: must still be found there later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<(i64, u64)>,
}

impl Note {
    pub(crate) fn new(cluster: String, topic: String) -> Self {
        Self { version: VERSION, cluster, topic, ..Self::default() }
    }

    /// Begins anew in another cluster or topic; what has to be told stays.
    pub(crate) fn move_to(&mut self, cluster: String, topic: String) {
        *self = Self { untold: std::mem::take(&mut self.untold), ..Self::new(cluster, topic) };
    }

    /// Reads a kept note. `None`: not ours, or of a later version; the mirror then looks by time instead of by offset.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|note: &Self| note.version == VERSION)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Strings and numbers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Notes an acknowledged event. False if the partition's offsets went backwards: the topic is not what it was.
    #[must_use]
    pub(crate) fn acknowledge(&mut self, partition: i32, offset: i64, sequence: u64) -> bool {
        // librdkafka reports a batch that a broker had taken before without its offset: then the place stays where it is.
        if offset < 0 {
            return true;
        }
        let place = self.partitions.entry(partition).or_default();
        if place.last.is_some_and(|(last, _)| offset <= last) {
            return false;
        }
        place.last = Some((offset, sequence));
        true
    }

    /// Notes log ends, or places behind an acknowledged event, before which nothing beyond the cursor can stand.
    pub(crate) fn advance_to(&mut self, ends: &[(i32, i64)]) {
        for &(partition, end) in ends {
            let place = self.partitions.entry(partition).or_default();
            place.from = place.from.max(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Note, Place};

    #[test]
    fn a_note_reads_back_as_written_and_a_later_version_is_not_guessed_at() {
        let mut note = Note::new("q1Sh-9_ISia_zwGINzRvyQ".into(), "ofa_assets".into());
        assert!(note.acknowledge(3, 41, 7));
        note.advance_to(&[(0, 5), (3, 42), (3, 12)]);
        assert_eq!(note.partitions[&3], Place { from: 42, last: Some((41, 7)) });
        assert_eq!(Note::decode(&note.encode()), Some(note.clone()));
        let later = String::from_utf8(note.encode()).expect("UTF-8").replace("\"version\":1", "\"version\":2");
        assert_eq!(Note::decode(later.as_bytes()), None);
        assert_eq!(Note::decode(b""), None);
    }

    #[test]
    fn offsets_that_go_backwards_are_noticed_and_not_taken_over() {
        let mut note = Note::new("a".into(), "b".into());
        assert!(note.acknowledge(0, 10, 1));
        assert!(!note.acknowledge(0, 10, 2));
        assert!(note.acknowledge(0, -1001, 3), "an unknown offset says nothing");
        assert_eq!(note.partitions[&0], Place { from: 0, last: Some((10, 1)) });
    }
}
