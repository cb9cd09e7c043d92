//! What the log retains of a selection.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use asset_stream::{Event, GapReason};
use edge_buffer::{Read, Stored, View};

use super::{Phase, ReplayError, Selection, Step, Watch};
use crate::note::Note;

/// How an encoded gap event begins: others need not be decoded.
const GAP: &[u8] = br#"{"ID":"gap","#;

/// What would be sent, and what is not there any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Events that would be sent.
    pub events: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Their assets.
    pub assets: BTreeSet<Arc<str>>,
    /// First and last of their sequences.
    pub sequences: Option<(u64, u64)>,
    /// First and last of their record times, Unix ms.
    pub times: Option<(i64, i64)>,
    /// Events that Kafka refused once, told by gap events: not sent.
    pub refused: u64,
    /// Sequences within the range that cannot be read from the log.
    pub unreadable: u64,
    /// The first sequence that the log retains; what came before is on this edge no more.
    pub first_retained: u64,
    /// The time of the oldest event that was seen of it, Unix ms.
    pub oldest_retained: Option<i64>,
    /// Events of the selection that the mirror has not brought into Kafka yet: it will, by itself.
    pub backlog: u64,
}

/// The plan, and what it takes to carry it out.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) plan: Plan,
    /// False if it was told to stop.
    pub(super) is_whole: bool,
    /// How far the mirror had come.
    through: u64,
    /// Sequences that Kafka refused.
    told: BTreeSet<u64>,
}

impl Survey {
    /// Reads the selection up to `through`, and what was told behind it.
    pub(super) fn take(view: &View, selection: &Selection, through: u64, watch: Watch<'_>) -> Result<Self, ReplayError> {
        let first = view.first()?;
        let plan = Plan { first_retained: first, oldest_retained: oldest(view, first)?, ..Plan::default() };
        let mut survey = Self { plan, is_whole: true, through, told: BTreeSet::new() };
        survey.untold(view, selection);
        // A refusal is told behind what was refused, at a time that is never earlier.
        let mut reader = view.read(first.saturating_sub(1), view.durable(), selection.times.start..i64::MAX);
        let total = view.durable();
        loop {
            let reads = reader.next_block()?;
            if reads.is_empty() {
                break;
            }
            for read in reads {
                match read {
                    Read::Entry(event) => survey.count(&event, selection),
                    Read::Lost { first, last } => survey.plan.unreadable += last.min(through).saturating_sub(first - 1),
                }
            }
            if watch(Step { phase: Phase::Planning, done: reader.position(), total: Some(total) }).is_break() {
                survey.is_whole = false;
                break;
            }
        }
        survey.plan.events = survey.plan.events.saturating_sub(survey.plan.refused);
        Ok(survey)
    }

    /// Whether a gap event says that Kafka refused this event.
    pub(super) fn is_told(&self, sequence: u64) -> bool {
        self.told.contains(&sequence)
    }

    fn count(&mut self, event: &Stored, selection: &Selection) {
        if event.value.starts_with(GAP) {
            self.tell(&event.key, &event.value, selection);
        }
        if !selection.has(event) {
            return;
        }
        let (through, plan) = (self.through, &mut self.plan);
        if event.sequence > through {
            plan.backlog += 1;
            return;
        }
        plan.events += 1;
        plan.bytes += (event.key.len() + event.value.len()) as u64;
        if !plan.assets.contains(&event.key) {
            plan.assets.insert(event.key.clone());
        }
        let (first, _) = plan.sequences.unwrap_or((event.sequence, 0));
        plan.sequences = Some((first, event.sequence));
        let (from, to) = plan.times.unwrap_or((event.timestamp, event.timestamp));
        plan.times = Some((from.min(event.timestamp), to.max(event.timestamp)));
    }

    /// Gap events that the mirror could not tell yet.
    fn untold(&mut self, view: &View, selection: &Selection) {
        let note = view.cursor(edge_buffer::Cursor::MIRROR).and_then(|cursor| Note::decode(&cursor.note));
        for untold in note.into_iter().flat_map(|note| note.untold) {
            self.tell(&untold.asset, untold.value.as_bytes(), selection);
        }
    }

    /// Takes a gap event: what it says was refused is not sent again.
    fn tell(&mut self, asset: &str, value: &[u8], selection: &Selection) {
        let Some((sequence, at)) = refused(value) else { return };
        let is_retained = (self.plan.first_retained..=self.through).contains(&sequence);
        if self.told.insert(sequence) && is_retained && selection.has_asset(asset) && selection.times.contains(&at) {
            self.plan.refused += 1;
        }
    }
}

/// The sequence and time of which a gap event says that Kafka refused it.
fn refused(value: &[u8]) -> Option<(u64, i64)> {
    let event = Event::decode(value).ok()?;
    let gap: serde_json::Value = serde_json::from_str(event.value.as_str()?).ok()?;
    if gap["reason"] != GapReason::RefusedByKafka.as_str() || !gap["epoch"].is_null() {
        return None;
    }
    let at = asset_stream::Timestamp::parse(gap["from"].as_str()?)?;
    Some((gap["sequences"][0].as_u64()?, at.millis()))
}

/// The time of the first event that can be read.
fn oldest(view: &View, first: u64) -> Result<Option<i64>, ReplayError> {
    const ALL: Range<i64> = i64::MIN..i64::MAX;
    let mut reader = view.read(first.saturating_sub(1), view.durable(), ALL);
    loop {
        let reads = reader.next_block()?;
        if reads.is_empty() {
            return Ok(None);
        }
        let times = reads.into_iter().filter_map(|read| match read {
            Read::Entry(event) => Some(event.timestamp),
            Read::Lost { .. } => None,
        });
        if let Some(oldest) = times.min() {
            return Ok(Some(oldest));
        }
    }
}
