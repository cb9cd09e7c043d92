//! Damage that readers come across: what is lost is worked out, kept aside and noted durably before anybody is told.

use crate::block;
use crate::census::{Census, End};
use crate::checkpoint::Checkpoint;
use crate::format::{Kind, unpack};
use crate::ledger::Ledger;
use crate::scan::{Identity, Window};
use crate::segment::Segment;
use crate::shared::{Shared, now};
use crate::stats::Meter;
use crate::{Error, KeyLoss, Loss, LossReason};

/// What the journal knows this message by; its catalog explains it.
const UNREADABLE: &str = "990cd8b5ea7846348dd7d929fd47cb5b";

/// Missing sequences in a segment.
#[derive(Debug)]
pub(crate) struct Hole {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) keys: Vec<KeyLoss>,
    /// Timestamps of the neighbours.
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Where something is missing, as the reader saw it.
#[derive(Debug)]
pub(crate) struct Missing {
    /// The segment that should hold it.
    pub(crate) segment: u64,
    /// First sequence of the next segment.
    pub(crate) next: Option<u64>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Where the damaged bytes lie; empty where there are none.
    pub(crate) bytes: (u64, u64),
    pub(crate) why: String,
}

impl Shared {
    /// Makes the loss durable, once, however many readers come across it. What was acknowledged before is not lost to the stream: it is
    /// noted as settled.
    pub(crate) fn report(&self, missing: &Missing) -> Result<(), Error> {
        let Missing { segment, next, first, last, .. } = *missing;
        let parts = self.ledger.with(|ledger| ledger.unknown(self.epoch, first, last));
        if parts.is_empty() {
            return Ok(());
        }
        let holes = self.survey(segment, next);
        let kept = self.keep_aside(missing);
        let acknowledged = self.acknowledged();
        let losses = self.ledger.update(|ledger| {
            let mut losses = Vec::new();
            for (first, last) in ledger.unknown(self.epoch, first, last) {
                let hole = holes.iter().find(|hole| hole.first <= first && last <= hole.last);
                let detail = format!("{}; {kept}", missing.why);
                losses.extend(note(ledger, self.loss(first, last, hole, detail), acknowledged));
            }
            losses
        })?;
        for loss in losses {
            Meter::add(&self.meter.damaged, loss.last - loss.first + 1);
            tracing::error!(
                first = loss.first,
                last = loss.last,
                segment,
                message_id = UNREADABLE,
                "a part of the log cannot be read: {}",
                loss.detail
            );
        }
        Ok(())
    }

    /// Moves a file that holds nothing of the segment whose name it has to the quarantine, and forgets the segment.
    pub(crate) fn put_aside(&self, segment: &Segment) -> Result<(), Error> {
        let path = self.path(segment.first);
        match self.quarantine.take(segment.first, segment.bytes) {
            Ok(kept) => {
                tracing::error!(path = %path.display(), kept = %kept.display(), "a file is not the segment that its name speaks of: moved")
            }
            // Another reader did it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("move to the quarantine", path)(error)),
        }
        self.segments.lock().remove(segment.first);
        Ok(())
    }

    fn loss(&self, first: u64, last: u64, hole: Option<&Hole>, detail: String) -> Loss {
        let count = last - first + 1;
        let whole = hole.filter(|hole| (hole.first, hole.last) == (first, last));
        let keys = whole.map_or_else(|| vec![KeyLoss { key: None, first: 0, last: 0, count: Some(count) }], |hole| hole.keys.clone());
        let (from, to) = hole.map_or_else(|| (now(), now()), |hole| (hole.from, hole.to));
        Loss { id: 0, epoch: self.epoch, reason: LossReason::Damaged, first, last, count: Some(count), keys, from, to, detail }
    }

    fn keep_aside(&self, missing: &Missing) -> String {
        let (from, to) = missing.bytes;
        let file = match self.storage.open(&self.path(missing.segment)) {
            Ok(file) if from < to => file,
            _ => return "there are no bytes to keep".into(),
        };
        let copied = match Window::new(file.as_ref()) {
            Ok(mut window) => self.quarantine.copy(&mut window, missing.segment, from, to),
            Err(error) => Err(error.to_string()),
        };
        copied.map_or_else(|why| why, |path| format!("the bytes are kept in {}", path.display()))
    }

    /// Walks over a whole segment and says what is missing in it.
    fn survey(&self, first: u64, next: Option<u64>) -> Vec<Hole> {
        // Before the walk: what the counts speak of must be in the file by then.
        let (end, keys) = match next {
            Some(next) => (next, self.checkpoint(next).map(|checkpoint| checkpoint.keys)),
            None => {
                let counts = self.counts.lock();
                (counts.sequence + 1, Some(counts.by_name()))
            }
        };
        let Ok(file) = self.storage.open(&self.path(first)) else { return Vec::new() };
        let Ok(mut window) = Window::new(file.as_ref()) else { return Vec::new() };
        let Ok(mut zstd) = zstd::bulk::Decompressor::new() else { return Vec::new() };
        let identity = Identity { epoch: self.epoch, first };
        let mut buffer = bytes::BytesMut::new();
        let begin = window.frame(0, identity).and_then(|(header, frame)| Checkpoint::from_frame(&header, frame));
        let mut census = begin.as_ref().map(|begin| Census::new(&begin.keys, begin.floor));
        let mut holes: Vec<Hole> = Vec::new();
        let (mut at, mut expected, mut newest) = (0, first, None);
        while expected < end {
            let unpacked = window.frame(at, identity).and_then(|(header, frame)| {
                if header.kind == Kind::Entries && header.first < end {
                    unpack(&header, frame, &mut zstd, &mut buffer)?;
                    block::key_parts(&buffer, header.count)?;
                }
                Some(header)
            });
            let Some(header) = unpacked else {
                match window.next_frame(at + 1, identity) {
                    Some(header) => at = header.offset,
                    None => break,
                }
                continue;
            };
            at = header.end();
            if header.kind != Kind::Entries || header.last < expected {
                continue;
            }
            if header.first >= end {
                break;
            }
            if header.first > expected {
                let (from, to) = between(newest, Some(header.oldest));
                holes.push(Hole { first: expected, last: header.first - 1, keys: Vec::new(), from, to });
                if let Some(census) = &mut census {
                    census.hole(header.first - expected);
                }
            }
            for part in block::key_parts(&buffer, header.count).into_iter().flatten() {
                if let Some(census) = &mut census {
                    census.saw(part.key, part.first, part.count);
                }
            }
            (expected, newest) = (header.last + 1, Some(header.newest));
        }
        if expected < end {
            let (from, to) = between(newest, None);
            holes.push(Hole { first: expected, last: end - 1, keys: Vec::new(), from, to });
            if let Some(census) = &mut census {
                census.hole(end - expected);
            }
        }
        let lost = match (census, keys) {
            (Some(mut census), Some(keys)) => {
                // In order: asked twice about a segment with two holes, the answers must fit together.
                let mut keys: Vec<_> = keys.iter().collect();
                keys.sort_unstable();
                keys.into_iter().for_each(|(key, count)| census.counted(key, *count));
                census.finish(End::Counted).0
            }
            _ => holes.iter().map(|hole| vec![KeyLoss { key: None, first: 0, last: 0, count: Some(hole.last - hole.first + 1) }]).collect(),
        };
        for (hole, keys) in holes.iter_mut().zip(lost) {
            hole.keys = keys;
        }
        holes
    }
}

/// The time between two neighbours' timestamps, as far as there are any.
pub(crate) fn between(before: Option<i64>, after: Option<i64>) -> (i64, i64) {
    let (a, b) = match (before, after) {
        (Some(a), Some(b)) => (a, b),
        (Some(a), None) => (a, now()),
        (None, Some(b)) => (b, b),
        (None, None) => (now(), now()),
    };
    (a.min(b), a.max(b))
}

/// Notes a loss of damage. What was acknowledged before is not lost to the stream: that part is settled at once.
pub(crate) fn note(ledger: &mut Ledger, loss: Loss, acknowledged: u64) -> Vec<Loss> {
    let parts = split(loss, acknowledged).into_iter().map(|(loss, is_settled)| {
        let loss = ledger.add(loss, acknowledged);
        if is_settled {
            ledger.settle(loss.id);
        }
        loss
    });
    parts.collect()
}

/// Parts a loss at the acknowledged sequence; whether each part is settled because it was acknowledged before it was lost.
fn split(loss: Loss, acknowledged: u64) -> Vec<(Loss, bool)> {
    if loss.last <= acknowledged {
        return vec![(loss, true)];
    }
    if loss.first > acknowledged {
        return vec![(loss, false)];
    }
    let part = |first, last| {
        let mut part = Loss { first, last, ..loss.clone() };
        part.count = part.count.map(|_| last - first + 1);
        // Which of a key's numbers lie on which side nobody knows any more.
        part.keys.iter_mut().for_each(|key| key.count = None);
        part
    };
    vec![(part(loss.first, acknowledged), true), (part(acknowledged + 1, loss.last), false)]
}
