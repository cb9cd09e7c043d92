//! Comparing Kafka with the log, and sending what is missing.

use std::cell::Cell;

use asset_stream::Timestamp;
use edge_buffer::{Read, Stored};

use super::compare::{Compare, Fate, Mark, checksum};
use super::plan::Survey;
use super::progress::Folder;
use super::run::Run;
use super::{Comparison, Job, Outcome, Phase, ReplayError, Selection, Step, Watch};
use crate::doubt::SLACK_MILLIS;
use crate::reading::{self, Ended};

/// What to do about missing events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Say which they are.
    Report,
    /// Send them.
    Send,
}

/// Finds out which of the selected events do not stand in Kafka, and sends them if asked to, in order.
///
/// # Errors
/// See [`ReplayError`].
pub fn reconcile(job: &Job<'_>, action: Action, watch: Watch<'_>) -> Result<Outcome, ReplayError> {
    job.config.check().map_err(ReplayError::Config)?;
    let folder = Folder::open(&job.folder)?;
    let (mut progress, is_resumed) = folder.find(job)?;
    // The topic tells what is missing by now; of an unfinished run only its id, its range and what it may have under way still count.
    let selection = Selection { times: progress.from..progress.to, assets: job.selection.assets.clone() };
    progress.sequence = 0;
    let survey = Survey::take(job.view, &selection, progress.through, watch)?;
    let mut outcome = Outcome::new(&progress, is_resumed, survey.plan.clone());
    let Some((first, _)) = survey.plan.sequences.filter(|_| survey.is_whole) else {
        outcome.is_complete = survey.is_whole;
        return Ok(outcome);
    };
    let mut run = Run::begin(job, progress, 0)?;
    if !run.wait(watch) {
        return Ok(outcome);
    }
    let retention = run.limits.retention;
    let mut judge = Judge {
        selection,
        survey,
        compare: Compare::new(first, run.progress.through),
        through: run.progress.through,
        retained_from: retention.map_or(i64::MIN, |millis| Timestamp::now().millis().saturating_sub(millis)),
    };
    let Some(comparison) = judge.compare(&run, retention, watch)? else { return Ok(outcome) };
    let missing = comparison.total().missing;
    outcome.comparison = Some(comparison);
    if action == Action::Report || missing == 0 {
        outcome.is_complete = true;
        if action == Action::Send {
            run.progress.remove()?;
        }
        return Ok(outcome);
    }
    // Whatever an unfinished run had sent was found in the topic.
    let ends = run.client.ends(&job.config.assets_topic, &run.partitions)?;
    (run.total, run.progress.sent, run.progress.note.clean) = (missing, 0, true);
    run.progress.note.advance_to(&ends);
    outcome.is_complete = run.send(&mut |event| judge.fate(event) == Some(Fate::Missing), watch)?;
    if outcome.is_complete {
        let sent = run.look(Phase::Verifying, ends.into_iter().collect(), first - 1, watch)?;
        outcome.verified = sent.map(|standing| standing.count());
    }
    run.finish(outcome)
}

/// Says what is to become of each event.
struct Judge {
    selection: Selection,
    survey: Survey,
    compare: Compare,
    through: u64,
    /// Older events would be deleted at once.
    retained_from: i64,
}

impl Judge {
    /// `None`: not our business.
    fn fate(&self, event: &Stored) -> Option<Fate> {
        if event.sequence > self.through || !self.selection.has(event) {
            return None;
        }
        Some(if self.compare.stands(event.sequence) {
            Fate::Stands
        } else if self.survey.is_told(event.sequence) {
            Fate::Refused
        } else if event.timestamp < self.retained_from {
            Fate::Expired
        } else {
            Fate::Missing
        })
    }

    /// Reads the topic, then the log. `None`: told to stop.
    fn compare(&mut self, run: &Run<'_>, retention: Option<i64>, watch: Watch<'_>) -> Result<Option<Comparison>, ReplayError> {
        let Some(records) = self.read_topic(run, watch)? else { return Ok(None) };
        let job = run.job;
        let (first, _) = self.survey.plan.sequences.unwrap_or_default();
        let mut reader = job.view.read(first.saturating_sub(1), self.through, self.selection.times.clone());
        loop {
            let reads = reader.next_block()?;
            if reads.is_empty() {
                return Ok(Some(self.compare.report(records, retention)));
            }
            for read in reads {
                match read {
                    Read::Entry(event) => {
                        if self.selection.has_asset(&event.key) {
                            self.compare.contents(&event);
                        }
                        if let Some(fate) = self.fate(&event) {
                            self.compare.count(&event, fate);
                        }
                    }
                    Read::Lost { first, last } => self.compare.unreadable(first, last),
                }
            }
            if watch(Step { phase: Phase::Comparing, done: reader.position(), total: Some(self.through) }).is_break() {
                return Ok(None);
            }
        }
    }

    /// Notes what stands in the topic, from the time of the oldest selected event on. The number of records read; `None`: told to stop.
    fn read_topic(&mut self, run: &Run<'_>, watch: Watch<'_>) -> Result<Option<u64>, ReplayError> {
        let topic = &run.job.config.assets_topic;
        let (oldest, _) = self.survey.plan.times.unwrap_or_default();
        let ends = run.client.ends(topic, &run.partitions)?;
        let starts = run.client.at_time(topic, &run.partitions, oldest.saturating_sub(SLACK_MILLIS))?;
        let mut places: reading::Places = starts.into_iter().collect();
        let total = ends.iter().map(|(p, end)| end.saturating_sub(places.get(p).copied().unwrap_or(*end)).max(0) as u64).sum();
        let (ours, records) = (run.ours(), Cell::new(0));
        let mut turn = || watch(Step { phase: Phase::Reading, done: records.get(), total: Some(total) }).is_continue();
        let ended = reading::up_to(&run.client, topic, &mut places, &ends, &mut turn, |message| {
            records.set(records.get() + 1);
            let key = reading::key_of(message);
            if let Some(numbers) = ours.numbers(message).filter(|_| self.selection.has_asset(key)) {
                let value = rdkafka::Message::payload(message).unwrap_or_default();
                let checksum = checksum(numbers.sequence, numbers.key_sequence, key.as_bytes(), value);
                let mark = if numbers.is_resent || numbers.replay.is_some() { Mark::Again } else { Mark::None };
                self.compare.found(numbers.sequence, checksum, mark);
            }
            None
        })?;
        Ok((ended == Ended::Done).then(|| records.get()))
    }
}
