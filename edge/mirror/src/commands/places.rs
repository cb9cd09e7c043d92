//! Up to where the topic of commands was read, and done with.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// For each partition, the first offset that is not done with: everything before it need not be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The cluster that they are of; offsets of another one mean nothing.
    pub cluster: Option<String>,
    /// The topic that they are of.
    #[serde(default)]
    pub topic: String,
    next: BTreeMap<i32, i64>,
    /// Read, and not done with. Not kept: they are read again.
    #[serde(skip)]
    open: BTreeMap<i32, BTreeSet<i64>>,
}

impl Places {
    /// Where to begin with a partition; `None` where nothing of it was read.
    pub fn of(&self, partition: i32) -> Option<i64> {
        let next = *self.next.get(&partition)?;
        let open = self.open.get(&partition).and_then(BTreeSet::first);
        Some(open.map_or(next, |first| (*first).min(next)))
    }

    /// The partitions of which something was read.
    pub fn partitions(&self) -> impl Iterator<Item = i32> {
        self.next.keys().copied()
    }

    /// A record was read; until it is done with, reading would begin with it.
    pub fn read(&mut self, partition: i32, offset: i64) {
        self.open.entry(partition).or_default().insert(offset);
        let next = self.next.entry(partition).or_default();
        *next = (*next).max(offset + 1);
    }

    /// A record is done with.
    pub fn done(&mut self, partition: i32, offset: i64) {
        if let Some(open) = self.open.get_mut(&partition) {
            open.remove(&offset);
        }
    }

    /// Begins anew with a partition.
    pub fn restart(&mut self, partition: i32, offset: i64) {
        self.open.remove(&partition);
        self.next.insert(partition, offset);
    }

    /// What a later life begins with.
    pub fn kept(&self) -> Self {
        let next = self.next.keys().filter_map(|partition| Some((*partition, self.of(*partition)?))).collect();
        Self { cluster: self.cluster.clone(), topic: self.topic.clone(), next, open: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn a_place_never_passes_what_is_not_done_with() {
        let mut places = Places::default();
        assert_eq!(places.of(3), None);
        for offset in [7, 8, 12] {
            places.read(3, offset);
        }
        assert_eq!(places.of(3), Some(7));
        places.done(3, 8);
        assert_eq!(places.kept().of(3), Some(7), "7 is not done with, whatever comes behind it");
        places.done(3, 7);
        assert_eq!(places.of(3), Some(12));
        places.done(3, 12);
        assert_eq!((places.of(3), places.of(0)), (Some(13), None));
        let text = serde_json::to_string(&places.kept()).expect("JSON");
        assert_eq!(serde_json::from_str::<Places>(&text).expect("JSON").of(3), Some(13));
    }
}
