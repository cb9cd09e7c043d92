//! What is done before a new producer may send: is the topic what it was, and what of ours stands there?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asset_stream::{DataItem, Kind, Sample, Timestamp};
use edge_buffer::Read;
use service::error::chain;
use tracing::{info, warn};

use crate::OnChangedTopic;
use crate::class::{Class, Failure};
use crate::fail_point;
use crate::note::Place;
use crate::readback::Standing;
use crate::reading::{self, Ended, Places};
use crate::status::State;
use crate::topic_client::TopicClient;
use crate::window::Window;
use crate::worker::{Beyond, Doubt, TopicFacts, Worker};

/// Looking by time begins this much earlier: a topic that stamps records itself may have another clock.
pub(crate) const SLACK_MILLIS: i64 = 3_600_000;

/// In what way the topic is not what it was.
enum Change {
    OtherCluster {
        before: String,
    },
    OtherTopic {
        before: String,
    },
    /// These partitions end before what was acknowledged, or hold another record there.
    Partitions(BTreeMap<i32, String>),
}

impl Change {
    fn as_str(&self) -> &'static str {
        match self {
            Self::OtherCluster { .. } => "other_cluster",
            Self::OtherTopic { .. } => "other_topic",
            Self::Partitions(_) => "changed_partitions",
        }
    }

    fn describe(&self, found: &TopicFacts, topic: &str) -> String {
        match self {
            Self::OtherCluster { before } => format!("Kafka's cluster id was {before} and is {}", found.cluster),
            Self::OtherTopic { before } => format!("the topic was {before} and is {topic}"),
            Self::Partitions(partitions) => {
                let each: Vec<String> = partitions.iter().map(|(p, what)| format!("partition {p} {what}")).collect();
                format!("the topic {topic} was made anew or cut back: {}", each.join(", "))
            }
        }
    }
}

impl Worker {
    /// Compares the topic with what the note says; a change is said aloud and settled as configured.
    pub(crate) fn compare(&mut self, client: &TopicClient, found: &TopicFacts) -> Result<(), Failure> {
        let Some(change) = self.find_change(client, found)? else { return Ok(()) };
        let text = change.describe(found, &self.config.assets_topic);
        let action = self.config.on_changed_topic;
        // What can fail comes first: once the note has changed, nobody finds the change again.
        let starts = match action {
            OnChangedTopic::Continue => None,
            OnChangedTopic::ResendRetained => Some(client.starts(&self.config.assets_topic, &found.partitions)?),
        };
        let value = serde_json::json!({ "change": change.as_str(), "action": action.as_str(), "detail": text });
        let item = Arc::new(DataItem::new(self.config.edge_asset.as_str(), "mirror", "Mirror.TopicChanged", Kind::OpenFactory));
        let now = Timestamp::now();
        // Before the note of the changed topic is kept: a crash in between tells it twice, never not.
        self.tell(&Sample::good(item, value.to_string(), now, now))?;
        warn!(action = action.as_str(), "{text}");
        self.shared.failed(&text);
        self.shared.update(|status| status.changes += 1);

        let topic = self.config.assets_topic.clone();
        let note = self.note_for(found);
        match &change {
            Change::OtherCluster { .. } | Change::OtherTopic { .. } => note.move_to(found.cluster.clone(), topic),
            Change::Partitions(changed) => note.partitions.retain(|partition, _| !changed.contains_key(partition)),
        }
        if let Some(starts) = starts {
            note.partitions = starts.into_iter().map(|(partition, from)| (partition, Place { from, last: None })).collect();
            self.rewind();
        }
        self.keep(if self.doubt == Doubt::None { Beyond::Nothing } else { Beyond::Maybe })
    }

    fn find_change(&self, client: &TopicClient, found: &TopicFacts) -> Result<Option<Change>, Failure> {
        let Some(note) = &self.note else { return Ok(None) };
        if note.topic != self.config.assets_topic {
            return Ok(Some(Change::OtherTopic { before: note.topic.clone() }));
        }
        if !note.cluster.is_empty() && !found.cluster.is_empty() && note.cluster != found.cluster {
            return Ok(Some(Change::OtherCluster { before: note.cluster.clone() }));
        }
        let mut changed = BTreeMap::new();
        let mut expected = BTreeMap::new();
        for (partition, place) in &note.partitions {
            let known = place.from.max(place.last.map_or(0, |(offset, _)| offset + 1));
            match found.ends.iter().find(|(p, _)| p == partition) {
                None => drop(changed.insert(*partition, "is gone".to_owned())),
                Some((_, end)) if *end < known => {
                    changed.insert(*partition, format!("ends at {end}, it had reached {known}"));
                }
                Some(_) => drop(place.last.map(|last| expected.insert(*partition, last))),
            }
        }
        for partition in reading::verify(client, &self.ours(), &expected, &mut || self.turn())? {
            let offset = expected[&partition].0;
            changed.insert(partition, format!("holds another record at {offset}"));
        }
        Ok((!changed.is_empty()).then_some(Change::Partitions(changed)))
    }

    /// Puts the whole retained log in doubt: whatever does not stand is sent.
    fn rewind(&mut self) {
        let first = self.log.stats().first.max(1);
        self.window = Window::new((first - 1).min(self.window.acknowledged()));
        let quiet_at = match self.doubt {
            Doubt::Since { quiet_at, .. } => quiet_at,
            Doubt::None | Doubt::NoCursor => Instant::now(),
        };
        self.doubt = Doubt::Since { through: self.log.durable(), quiet_at };
    }

    /// Finds out what of the events beyond the cursor stands in Kafka. `None`: told to stop.
    pub(crate) fn settle(&mut self, client: &TopicClient, found: &TopicFacts) -> Result<Option<Standing>, Failure> {
        let after = self.window.acknowledged();
        let (through, quiet_at) = match self.doubt {
            Doubt::None => return self.begin(found, Standing::clear(after), &found.ends),
            Doubt::Since { through, .. } if through <= after => return self.begin(found, Standing::clear(after), &found.ends),
            Doubt::Since { through, quiet_at } => (through, Some(quiet_at)),
            // Before the first event of an epoch goes out, a cursor is kept. So nothing should stand; whether that is so is looked up.
            Doubt::NoCursor => (self.log.durable(), None),
        };
        let mut places = self.starting_points(client, found, after, through)?;
        let mut standing = Standing::doubt(after, through);
        standing.unsure_through(self.note_for(found).unsure_through);
        let mut budget = self.config.doubt_limit_bytes;
        let count = through - after;
        self.shared.enter(State::ReadingBack, format!("looking which of {count} events beyond the cursor stand in Kafka already"));
        let began = Instant::now();

        let Some(mut ended) = self.read(client, &mut places, &found.ends, &mut budget, &mut standing)? else { return Ok(None) };
        self.fuse.reached(fail_point::READING_BACK);
        let mut ends = found.ends.clone();
        if let Some(quiet_at) = quiet_at
            && ended == Ended::Done
            && !standing.is_settled()
        {
            let left = quiet_at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let text = format!("waiting {:.0} s for what an earlier producer may still have under way", left.as_secs_f64().ceil());
                self.shared.enter(State::ReadingBack, text);
                self.wait(left);
            }
            ends = client.ends(&self.config.assets_topic, &found.partitions)?;
            let Some(again) = self.read(client, &mut places, &ends, &mut budget, &mut standing)? else { return Ok(None) };
            ended = again;
        }
        if !self.turn() {
            return Ok(None);
        }
        let strangers = standing.strangers();
        if strangers > 0 {
            return Err(self.outdated(format!("Kafka holds {strangers} events of its epoch that it does not know")));
        }
        if ended == Ended::TooMuch {
            standing.give_up();
        }
        if self.doubt == Doubt::NoCursor && standing.count() == 0 {
            standing = Standing::clear(after);
            return self.begin(found, standing, &found.ends);
        }
        self.say_what_stands(&standing, began.elapsed());
        // Ends that were asked for after the old producer was quiet; whatever is sent from now on lands beyond them.
        self.begin(found, standing, &ends)
    }

    fn read(
        &self,
        client: &TopicClient,
        places: &mut Places,
        ends: &[(i32, i64)],
        budget: &mut u64,
        standing: &mut Standing,
    ) -> Result<Option<Ended>, Failure> {
        let ended = reading::read(client, &self.ours(), places, ends, budget, standing, &mut || self.turn())?;
        Ok((ended != Ended::Stopped).then_some(ended))
    }

    /// Where reading back begins, per partition: at the kept offset, else where records of the doubt's time begin.
    fn starting_points(&mut self, client: &TopicClient, found: &TopicFacts, after: u64, through: u64) -> Result<Places, Failure> {
        let kept = self.places();
        let unknown: Vec<i32> = found.partitions.iter().copied().filter(|partition| !kept.contains_key(partition)).collect();
        let mut places: Places = kept.iter().map(|(partition, place)| (*partition, place.from)).collect();
        if unknown.is_empty() {
            return Ok(places);
        }
        let since = self.oldest_in_doubt(after, through)?;
        let by_time = client.at_time(&self.config.assets_topic, &unknown, since.saturating_sub(SLACK_MILLIS))?;
        let note = self.note_for(found);
        for (partition, from) in by_time {
            note.partitions.insert(partition, Place { from, last: None });
            places.insert(partition, from);
        }
        Ok(places)
    }

    /// The oldest record time among the first events in doubt: as many as one producer can have had under way at most, and then some.
    fn oldest_in_doubt(&self, after: u64, through: u64) -> Result<i64, Failure> {
        let unreadable = |e: edge_buffer::Error| Failure::new(Class::Transient, format!("the log cannot be read: {}", chain(&e)));
        let mut reader = self.log.reader(after);
        let mut left = self.config.window * 4;
        let mut oldest = i64::MAX;
        while left > 0 && reader.position() < through && self.turn() {
            let reads = reader.next_block(left.min(1000)).map_err(unreadable)?;
            if reads.is_empty() {
                break;
            }
            for read in reads {
                left = left.saturating_sub(1);
                if let Read::Entry(event) = read {
                    oldest = oldest.min(event.timestamp);
                }
            }
        }
        Ok(if oldest == i64::MAX { Timestamp::now().millis() } else { oldest })
    }

    /// Nothing is in doubt that `standing` does not answer: keeps that, so that a producer may start.
    fn begin(&mut self, found: &TopicFacts, standing: Standing, ends: &[(i32, i64)]) -> Result<Option<Standing>, Failure> {
        let after = self.window.acknowledged();
        let note = self.note_for(found);
        if found.cluster != note.cluster && !found.cluster.is_empty() {
            note.cluster.clone_from(&found.cluster);
        }
        if standing.through() <= after {
            note.advance_to(ends);
            self.mark = None;
        } else {
            self.mark = Some((standing.through(), ends.to_vec()));
        }
        self.keep(Beyond::Maybe)?;
        Ok(Some(standing))
    }

    fn say_what_stands(&self, standing: &Standing, took: Duration) {
        let stand = standing.count();
        info!(stand, complete = standing.is_complete(), ?took, "read back what an earlier producer brought into Kafka");
        if !standing.is_complete() {
            warn!("reading back reached its limit: events in doubt are sent again, marked of-resent; readers drop them by their sequence");
        }
        if standing.repeats() > 0 {
            warn!(repeats = standing.repeats(), "Kafka holds records of this edge and log twice: does another box use the same edge id?");
        }
        self.shared.update(|status| {
            status.doubts += 1;
            status.repeats += standing.repeats();
        });
    }
}
