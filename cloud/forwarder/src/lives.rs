//! A topic that is deleted and made anew keeps its name, and its offsets begin with 0 again: it lives once more.
//!
//! Kafka gives each life of a topic an id. librdkafka asks for records by it, and tells it in its debug log alone, before it does so; a test
//! against a real Kafka sees to it that it still does. Without a word from it, all records count as those of one life.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What librdkafka's debug log has to hold: its setting `debug`.
pub(crate) const DEBUG: &str = "topic";

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
        let Some((topic, id)) = change(line) else { return };
        let mut told = self.lock();
        // librdkafka forgets the id when no partition of the topic is ours any more, and we do not.
        if told.ids.insert(topic.to_owned(), id.into()).is_some_and(|before| *before != *id) {
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

/// Topic, and its id now.
fn change(line: &str) -> Option<(&str, &str)> {
    let (topic, ids) = line.split_once(" changed id from ")?;
    let (_, now) = ids.split_once(" to ")?;
    Some((topic.rsplit_once("Topic ")?.1, now.trim_end()))
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

    #[test]
    fn an_id_that_librdkafka_forgot_meanwhile_is_not_a_new_one_and_another_one_is() {
        let lives = Lives::default();
        let first = |id: &str| lives.hear(&format!("[thrd:main]: Topic ofa_assets changed id from AAAAAAAAAAAAAAAAAAAAAA to {id}"));
        first("2lGzoWtoTgyBPGtVUnvIaw");
        first("2lGzoWtoTgyBPGtVUnvIaw");
        assert_eq!(lives.made_anew(), None);
        first("0bA9xJ5jQ8e3V0pYwq1-_w");
        assert_eq!(lives.made_anew().as_deref(), Some("ofa_assets"));
    }
}
