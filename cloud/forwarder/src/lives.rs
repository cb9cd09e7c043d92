//! A topic that is deleted and made anew keeps its name, and its offsets begin with 0 again: it lives once more.
//!
//! Kafka gives each life of a topic an id. librdkafka knows it and tells it in its debug log alone; a test against a real Kafka sees to it
//! that it still does. Without a word from it, all records count as those of one life.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What librdkafka's debug log has to hold: its setting `debug`.
pub(crate) const DEBUG: &str = "topic";
/// What librdkafka has for an id before it asked for it.
const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The present life of each topic.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    ids: HashMap<String, Arc<str>>,
    made_anew: Option<String>,
}

impl Lives {
    /// Hears a line of librdkafka's log.
    pub(crate) fn hear(&self, line: &str) {
        let Some((topic, before, id)) = change(line) else { return };
        let mut told = self.lock();
        told.ids.insert(topic.to_owned(), id.into());
        if before != UNKNOWN {
            told.made_anew = Some(topic.to_owned());
        }
    }

    /// The topic's id.
    pub(crate) fn of(&self, topic: &str) -> Option<Arc<str>> {
        self.lock().ids.get(topic).cloned()
    }

    /// The topic that was made anew under our eyes: all our places in it are worth nothing.
    pub(crate) fn made_anew(&self) -> Option<String> {
        self.lock().made_anew.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Topic, id before, id now.
fn change(line: &str) -> Option<(&str, &str, &str)> {
    let (topic, ids) = line.split_once(" changed id from ")?;
    let (before, now) = ids.split_once(" to ")?;
    Some((topic.rsplit_once("Topic ")?.1, before, now.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::Lives;

    #[test]
    fn a_topic_is_made_anew_when_an_id_follows_another() {
        let lives = Lives::default();
        lives.hear("[thrd:main]: Topic ofa_assets changed id from AAAAAAAAAAAAAAAAAAAAAA to 2lGzoWtoTgyBPGtVUnvIaw");
        lives.hear("[thrd:main]: Topic ofa_assets partition 0 Leader 1 epoch 0");
        assert_eq!((lives.of("ofa_assets").as_deref(), lives.made_anew()), (Some("2lGzoWtoTgyBPGtVUnvIaw"), None));
        lives.hear("[thrd:main]: Topic ofa_assets changed id from 2lGzoWtoTgyBPGtVUnvIaw to 0bA9xJ5jQ8e3V0pYwq1-_w");
        assert_eq!(lives.of("ofa_assets").as_deref(), Some("0bA9xJ5jQ8e3V0pYwq1-_w"));
        assert_eq!((lives.made_anew().as_deref(), lives.of("others")), (Some("ofa_assets"), None));
    }
}
