//! The commands that are known: nothing that is in here is begun a second time.

use std::collections::HashMap;
use std::sync::Arc;

use asset_stream::command::status::State;
use serde::{Deserialize, Serialize};

/// So many are remembered beyond their time.
const KEPT: usize = 20_000;
/// So many at all: those whose time is not over are never forgotten, so no more are taken in.
const MOST: usize = 50_000;
/// A clock that is set back by less does not make a forgotten command one that is in time.
const MARGIN_MS: i64 = 3_600_000;

/// What tells a command from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Name {
    /// The target.
    pub(crate) asset: Arc<str>,
    /// `header.sender_uuid`.
    pub(crate) sender: String,
    /// `header.correlation_id`; for a record whose envelope cannot be read, its place: `topic:partition:offset`.
    pub(crate) id: String,
}

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Known {
    /// Another edge, or an earlier log of this one, has claimed it.
    Claimed,
    /// This edge handles it; the last state that is on disk.
    Told(State),
}

/// What is known of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) known: Known,
    pub(crate) method: String,
    /// Of what it asks for, to tell a repeat from another command under the same id; unknown after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<u64>,
    /// Until when a repeat of it could be in time, Unix ms.
    pub(crate) until: i64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Index(HashMap<Name, Entry>);

impl Index {
    pub(crate) fn get(&self, name: &Name) -> Option<&Entry> {
        self.0.get(name)
    }

    /// A step of a command is on disk, or its claim was seen.
    pub(crate) fn note(&mut self, name: Name, entry: Entry) {
        self.0.insert(name, entry);
    }

    /// A later state of a command that is known.
    pub(crate) fn note_state(&mut self, name: &Name, state: State) {
        if let Some(entry) = self.0.get_mut(name) {
            entry.known = Known::Told(state);
        }
    }

    /// Commands of this edge that have no end.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&Name, &Entry, State)> {
        self.0.iter().filter_map(|(name, entry)| match entry.known {
            Known::Told(state) if !state.is_end() => Some((name, entry, state)),
            _ => None,
        })
    }

    /// Whether a new command can be remembered as long as it has to be.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    /// Forgets the oldest of those whose time is over, if there are too many.
    pub(crate) fn tidy(&mut self, now: i64) {
        let Some(surplus) = self.0.len().checked_sub(KEPT).filter(|surplus| *surplus > 0) else { return };
        let is_over = |entry: &Entry| entry.until < now - MARGIN_MS && !matches!(entry.known, Known::Told(state) if !state.is_end());
        let mut over: Vec<(i64, Name)> =
            self.0.iter().filter(|(_, entry)| is_over(entry)).map(|(name, e)| (e.until, name.clone())).collect();
        over.sort_unstable();
        for (_, name) in over.into_iter().take(surplus) {
            self.0.remove(&name);
        }
    }

    /// To be kept, in a fixed order.
    pub(crate) fn entries(&self) -> Vec<(Name, Entry)> {
        let mut entries: Vec<_> = self.0.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        entries
    }
}

impl FromIterator<(Name, Entry)> for Index {
    fn from_iter<I: IntoIterator<Item = (Name, Entry)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Index, KEPT, Known, MARGIN_MS, Name};
    use asset_stream::command::status::State;

    fn name(i: usize) -> Name {
        Name { asset: "A".into(), sender: "S".into(), id: i.to_string() }
    }

    #[test]
    fn a_command_is_forgotten_only_when_there_are_many_its_time_is_over_and_it_has_an_end() {
        let mut index = Index::default();
        let entry = |known, until| Entry { known, method: "M".into(), digest: None, until };
        for i in 0..KEPT {
            index.note(name(i), entry(Known::Told(State::Succeeded), i as i64));
        }
        index.tidy(i64::MAX);
        assert_eq!(index.entries().len(), KEPT, "there is room");
        index.note(name(KEPT), entry(Known::Told(State::Executing), 0));
        index.note(name(KEPT + 1), entry(Known::Claimed, 1));
        index.tidy(MARGIN_MS);
        assert_eq!(index.entries().len(), KEPT + 2, "a repeat of any of them could still be in time");
        index.tidy(MARGIN_MS + 2);
        assert!(index.get(&name(0)).is_none(), "the oldest goes first");
        assert!(index.get(&name(KEPT)).is_some(), "it has no end");
        assert_eq!(index.entries().len(), KEPT);
        assert_eq!(index.open().map(|(open, _, state)| (open.clone(), state)).collect::<Vec<_>>(), [(name(KEPT), State::Executing)]);
    }
}
