//! Is the log an older copy of the one that was mirrored? A restored backup, a snapshot of a virtual machine, a cloned disk.
//!
//! It would use numbers a second time, for other events, and every reader that drops repeats would drop these: a silent loss. What the edge
//! announced last tells how far its log had come; so this is looked up before the process announces or sends anything. Where the topic is read
//! back anyway, events that the log does not know prove the same.

use rdkafka::Message;
use tracing::warn;

use crate::Announcement;
use crate::class::{Class, Failure};
use crate::note::{Note, Outdated};
use crate::reading::{self, Ended, Seen};
use crate::topic_client::TopicClient;
use crate::worker::Worker;

impl Worker {
    /// Fails with [`Class::Outdated`] if Kafka has acknowledged events of this epoch that the log does not know. Looks once in a process's life.
    pub(crate) fn check_copy(&mut self, client: &TopicClient) -> Result<(), Failure> {
        let known = self.note.as_ref().and_then(|note| note.outdated.as_ref()).filter(|known| known.edge == self.config.edge_id);
        if let Some(known) = known {
            return Err(failure(&known.proof));
        }
        if self.shared.is_current() {
            return Ok(());
        }
        let announced = match self.announced(client) {
            Ok(announced) => announced,
            // Without announcements there is nothing to know, and an edge that may not read them is to mirror all the same.
            Err(failure) if failure.class == Class::Topic => 0,
            Err(failure) if failure.class == Class::Denied => {
                warn!("whether the log is an older copy cannot be known: {}", failure.text);
                0
            }
            Err(failure) => return Err(failure),
        };
        if !self.turn() {
            return Ok(());
        }
        let durable = self.log.durable();
        if announced > durable {
            return Err(self.outdated(format!("it ends at event {durable}, and {announced} were mirrored")));
        }
        self.shared.set_current();
        Ok(())
    }

    /// Finds the log to be an older copy, as `proof` says, for as long as it exists.
    pub(crate) fn outdated(&mut self, proof: String) -> Failure {
        let failure = failure(&proof);
        let edge = self.config.edge_id.clone();
        let note = self.note.get_or_insert_with(|| Note::new(String::new(), self.config.assets_topic.clone()));
        note.outdated = Some(Outdated { edge, proof });
        self.try_to_keep();
        failure
    }

    /// How far this edge said that this epoch had been acknowledged.
    fn announced(&self, client: &TopicClient) -> Result<u64, Failure> {
        let topic = &self.config.edges_topic;
        let partitions = client.partitions(topic)?;
        let starts = client.starts(topic, &partitions)?;
        let (mut open, mut acknowledged) = (starts.len(), 0);
        reading::each(client, topic, &starts, &mut || self.turn(), |seen| {
            match seen {
                Seen::Record(message) if message.key() == Some(self.config.edge_id.as_bytes()) => {
                    let announcement = message.payload().and_then(|value| serde_json::from_slice::<Announcement>(value).ok());
                    if let Some(announcement) = announcement.filter(|announcement| announcement.epoch == self.log.epoch()) {
                        acknowledged = acknowledged.max(announcement.acknowledged);
                    }
                }
                Seen::Record(_) => {}
                Seen::End(_) => open -= 1,
            }
            (open == 0).then_some(Ended::Done)
        })?;
        Ok(acknowledged)
    }
}

fn failure(proof: &str) -> Failure {
    let text = format!(
        "the log is an older copy, of a backup, a snapshot or a cloned disk: {proof}. Nothing is sent, as readers would drop new events under \
         used numbers as repeats; events are kept on disk. Stop the edge and move the folder log in its state_dir away, or give it another id"
    );
    Failure::new(Class::Outdated, text)
}
