//! A run's way into Kafka: from finding the topic to the end of the last producer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use edge_buffer::Stored;

use super::progress::Progress;
use super::send::Ended;
use super::{Job, Outcome, Phase, ReplayError, Step, Watch};
use crate::admin::{self, Limits};
use crate::readback::Standing;
use crate::reading::{self, Numbers, Ours, Places};
use crate::times::Times;
use crate::topic_client::{LONGEST_ANSWER, TopicClient};

/// Between two looks at the clock.
const NAP: Duration = Duration::from_millis(50);

/// Says of an event of the log whether it is to be sent.
pub(super) type Wanted<'a> = &'a mut dyn FnMut(&Stored) -> bool;

pub(super) struct Run<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) progress: Progress,
    pub(super) client: TopicClient,
    pub(super) partitions: Vec<i32>,
    /// Events that are to be sent, those of the run's earlier sessions included.
    pub(super) total: u64,
    /// The largest batch that the topic takes.
    pub(super) limits: Limits,
    pub(super) times: Times,
    /// Of a batch that Kafka refused: each goes alone, to find the one that was meant.
    pub(super) suspects: BTreeSet<u64>,
    /// Kafka does not take them.
    pub(super) refused: BTreeSet<u64>,
    /// When nothing of an earlier producer can be under way any more.
    pub(super) quiet_at: Instant,
}

impl<'a> Run<'a> {
    pub(super) fn begin(job: &'a Job<'a>, mut progress: Progress, total: u64) -> Result<Self, ReplayError> {
        let (config, topic) = (job.config, &job.config.assets_topic);
        let client = TopicClient::new(config, "replay-look", LONGEST_ANSWER).map_err(ReplayError::Config)?;
        let partitions = client.partitions(topic)?;
        let cluster = client.cluster().unwrap_or_default();
        if progress.note.partitions.is_empty() {
            progress.note.cluster = cluster;
            progress.note.advance_to(&client.ends(topic, &partitions)?);
        } else if progress.note.cluster != cluster {
            let text = format!("the unfinished run went into the cluster {}, and this is {cluster}: begin anew", progress.note.cluster);
            return Err(ReplayError::Kafka(text));
        }
        let limits = admin::limits(config, topic)?;
        let mut times = Times::default();
        times.heed(limits.retention);
        let now = Instant::now();
        Ok(Self {
            job,
            client,
            partitions,
            total,
            limits,
            times,
            suspects: BTreeSet::new(),
            refused: BTreeSet::new(),
            quiet_at: if progress.note.clean { now } else { now + config.request_timeout },
            progress,
        })
    }

    /// Sends what is wanted; false if it was told to stop before the end.
    pub(super) fn send(&mut self, wanted: Wanted<'_>, watch: Watch<'_>) -> Result<bool, ReplayError> {
        loop {
            let Some(standing) = self.settle(watch)? else { return Ok(false) };
            self.progress.note.clean = false;
            self.progress.keep()?;
            let ended = self.flow(standing, wanted, watch);
            self.progress.keep()?;
            match ended? {
                Ended::Done => return Ok(true),
                Ended::Stopped => return Ok(false),
                Ended::Again => {}
            }
        }
    }

    /// The run's end, for now or for good.
    pub(super) fn finish(self, mut outcome: Outcome) -> Result<Outcome, ReplayError> {
        outcome.sent = self.progress.sent;
        outcome.refused = self.refused.len() as u64;
        if outcome.is_complete {
            self.progress.remove()?;
        }
        Ok(outcome)
    }

    /// Finds out what this run has brought into Kafka behind its place. `None`: told to stop.
    fn settle(&mut self, watch: Watch<'_>) -> Result<Option<Standing>, ReplayError> {
        let after = self.progress.sequence;
        if self.progress.note.clean {
            return Ok(Some(Standing::clear(after)));
        }
        if !self.wait(watch) {
            return Ok(None);
        }
        let places = self.partitions.iter().map(|p| (*p, self.progress.note.partitions.get(p).map_or(0, |place| place.from))).collect();
        self.look(Phase::Resuming, places, after, watch)
    }

    /// Waits until nothing of an earlier producer can be under way; false if it was told to stop.
    pub(super) fn wait(&self, watch: Watch<'_>) -> bool {
        let began = Instant::now();
        let whole = self.quiet_at.saturating_duration_since(began);
        while Instant::now() < self.quiet_at {
            let step = Step { phase: Phase::Waiting, done: began.elapsed().as_millis() as u64, total: Some(whole.as_millis() as u64) };
            if watch(step).is_break() {
                return false;
            }
            std::thread::sleep(NAP);
        }
        true
    }

    /// Looks from `places` on which events behind `after` stand under this run's id. `None`: told to stop.
    pub(super) fn look(&self, phase: Phase, mut places: Places, after: u64, watch: Watch<'_>) -> Result<Option<Standing>, ReplayError> {
        let (topic, id) = (&self.job.config.assets_topic, self.progress.id.as_bytes());
        let ends = self.client.ends(topic, &self.partitions)?;
        let total = ends.iter().map(|(p, end)| end.saturating_sub(places.get(p).copied().unwrap_or(*end)).max(0) as u64).sum();
        let (ours, mut standing) = (self.ours(), Standing::doubt(after, self.progress.through));
        let done = std::cell::Cell::new(0);
        let mut turn = || watch(Step { phase, done: done.get(), total: Some(total) }).is_continue();
        let ended = reading::up_to(&self.client, topic, &mut places, &ends, &mut turn, |message| {
            done.set(done.get() + 1);
            if let Some(Numbers { sequence, key_sequence, .. }) = ours.numbers(message).filter(|numbers| numbers.replay == Some(id)) {
                standing.found(sequence, reading::key_of(message), key_sequence);
            }
            None
        })?;
        Ok((ended == reading::Ended::Done).then_some(standing))
    }

    pub(super) fn ours(&self) -> Ours {
        let config = self.job.config;
        Ours { topic: config.assets_topic.clone(), edge_id: config.edge_id.clone(), epoch: self.job.view.epoch() }
    }
}
