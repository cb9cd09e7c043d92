//! Limits and removal: room for the next segment, and what goes when.
//!
//! All of it happens on the commit thread. The order is always: the ledger says durably what goes, then the file is emptied (readers that
//! have it open must not hold its space) and its name removed. A crash in between leaves a file that the next start removes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::block;
use crate::checkpoint::Checkpoint;
use crate::commit::in_full;
use crate::format::{Kind, unpack};
use crate::scan::{Identity, Window};
use crate::shared::{Shared, now};
use crate::stats::Meter;
use crate::{Error, KeyLoss, Loss, LossReason, WhenFull};

/// There is no room, and the policy does not make any; why, in words.
#[derive(Debug)]
pub(crate) struct NoRoom(pub(crate) String);

impl Shared {
    /// Makes room for `needed` bytes: acknowledged segments go first, then, if the policy says so, others.
    pub(crate) fn make_room(&self, needed: u64) -> Result<(), NoRoom> {
        let config = &self.config;
        let mut gained = 0;
        let at_first = self.free();
        loop {
            let used = self.segments.lock().bytes();
            // The quarantine counts, but it must not starve the log: that always has room for four segments.
            let limit = config.max_bytes.saturating_sub(self.other_bytes()).max(4 * config.segment_bytes);
            // Some file systems give space back late. What was removed here counts as free, or all would go for nothing.
            let free = self.free().max(at_first.saturating_add(gained));
            let fits = used + needed <= limit;
            if fits && free >= needed.saturating_add(config.min_free) {
                return Ok(());
            }
            let why = match fits {
                false => format!("{used} bytes are used, {needed} more are needed, {limit} may be used (max_bytes)"),
                true => {
                    format!("{free} bytes are free on the file system, {needed} are needed, {} must stay free (min_free)", config.min_free)
                }
            };
            // Somebody else may have filled the file system: then nothing that could go would be enough, and nothing is given up for nothing.
            let most = self.segments.lock().droppable_bytes();
            if free.saturating_add(most) < needed.saturating_add(config.min_free) {
                return Err(NoRoom(format!(
                    "{why}; dropping everything ({most} bytes) would not be enough: something else fills the disk"
                )));
            }
            gained += self.drop_one().map_err(|NoRoom(but)| NoRoom(format!("{why}; {but}")))?;
        }
    }

    fn free(&self) -> u64 {
        // If it cannot be known, the reservation will tell.
        self.storage.free_space(&self.config.dir).unwrap_or(u64::MAX)
    }

    /// Removes the oldest segment if it is acknowledged or the policy says so; how many bytes that freed.
    pub(crate) fn drop_one(&self) -> Result<u64, NoRoom> {
        let Some((oldest, next)) = self.segments.lock().oldest() else {
            return Err(NoRoom("nothing is left that could be dropped".into()));
        };
        let acknowledged = self.acknowledged();
        if next - 1 > acknowledged && self.config.when_full == WhenFull::RefuseNew {
            return Err(NoRoom(format!(
                "nothing is dropped before it is acknowledged (when_full), and that is the case up to {acknowledged} only"
            )));
        }
        let removed = self.ledger.with(|ledger| ledger.removed);
        let mut arrival = self.arrival.lock();
        // Where a segment before it was moved to the quarantine a moment ago, and no reader has said so yet, that one goes with it.
        let from = acknowledged.max(arrival.through).max(removed) + 1;
        if from < next {
            arrival.dropped = next - 1;
        }
        let loss = (from < next).then(|| self.tally(oldest.first, from, next));
        let count = loss.as_ref().and_then(|loss| loss.count).unwrap_or(0);
        self.remove_oldest(next, loss).map_err(|error| NoRoom(format!("the oldest segment could not be dropped: {}", in_full(&error))))?;
        if from < next {
            Meter::add(&self.meter.dropped, count);
            tracing::warn!(first = from, last = next - 1, "the log is full: its oldest segment was dropped before it was acknowledged");
        }
        Ok(oldest.bytes)
    }

    /// Removes acknowledged segments that need not be kept any longer.
    pub(crate) fn retain(&self) {
        let acknowledged = self.acknowledged();
        loop {
            let Some((_, next)) = self.segments.lock().oldest() else { return };
            if next - 1 > acknowledged {
                return;
            }
            let is_old = || {
                let Some(age) = self.config.retain_age else { return false };
                // The next segment was begun when this one was complete.
                let complete = self.begun(next).unwrap_or(i64::MAX);
                now().saturating_sub(complete) > i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
            };
            if self.acknowledged_bytes(acknowledged) <= self.config.retain_bytes && !is_old() {
                return;
            }
            if let Err(error) = self.remove_oldest(next, None) {
                tracing::warn!(error = in_full(&error), "an acknowledged segment could not be removed");
                return;
            }
        }
    }

    fn acknowledged_bytes(&self, acknowledged: u64) -> u64 {
        let segments = self.segments.lock();
        let ends = segments.iter().skip(1).map(|next| next.first - 1);
        segments.iter().zip(ends).take_while(|(_, end)| *end <= acknowledged).map(|(segment, _)| segment.bytes).sum()
    }

    /// When a segment was begun, Unix milliseconds.
    fn begun(&self, first: u64) -> Option<i64> {
        let file = self.storage.open(&self.path(first)).ok()?;
        let mut window = Window::small(file.as_ref()).ok()?;
        let header = window.header(0, Identity { epoch: self.epoch, first })?;
        (header.kind == Kind::Checkpoint).then_some(header.oldest)
    }

    fn remove_oldest(&self, next: u64, loss: Option<Loss>) -> Result<(), Error> {
        let acknowledged = self.acknowledged();
        self.ledger.update(|ledger| {
            if let Some(loss) = loss {
                ledger.add(loss, acknowledged);
            }
            ledger.remove_through(next - 1);
            ledger.forget(acknowledged);
        })?;
        let Some((oldest, _)) = self.segments.lock().oldest().filter(|(_, of)| *of <= next) else { return Ok(()) };
        let path = self.path(oldest.first);
        // From here on the segment is gone, whatever the file system says: if its name stays, the next start removes it.
        self.segments.lock().remove(oldest.first);
        let removed = match self.storage.open(&path) {
            Ok(file) => file.set_len(0).and_then(|()| self.storage.remove(&path)).and_then(|()| self.storage.sync_dir(&self.config.dir)),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "a segment that is not needed any more could not be removed");
        }
        Ok(())
    }

    /// What is lost if the entries from `from` on of the segment `first` go. `next` is the first sequence of the next segment.
    fn tally(&self, first: u64, from: u64, next: u64) -> Loss {
        let mut loss = Loss {
            id: 0,
            epoch: self.epoch,
            reason: LossReason::DroppedOldest,
            first: from,
            last: next - 1,
            count: Some(next - from),
            keys: Vec::new(),
            from: now(),
            to: now(),
            detail: "the log was full and dropped its oldest segment before it was acknowledged".into(),
        };
        let known = self.ledger.with(|ledger| ledger.unknown(self.epoch, from, next - 1));
        let whole = from == first && known == [(from, next - 1)];
        let quick = whole.then(|| self.difference(first, next)).flatten();
        let opened = self.storage.open(&self.path(first)).ok();
        let window = opened.as_deref().and_then(|file| Window::new(file).ok());
        let Some(mut window) = window else {
            loss.keys = vec![KeyLoss { key: None, first: 0, last: 0, count: None }];
            return loss;
        };
        let identity = Identity { epoch: self.epoch, first };
        let (keys, times) = count(&mut window, identity, from, next, quick.is_none());
        let keys = quick.unwrap_or(keys);
        if let Some((oldest, newest)) = times {
            (loss.from, loss.to) = (oldest, newest);
        }
        let counted: u64 = keys.iter().filter_map(|key| key.count).sum();
        let expected: u64 = known.iter().map(|(first, last)| last - first + 1).sum();
        loss.keys = keys;
        loss.count = Some(expected);
        if let Some(unread) = expected.checked_sub(counted).filter(|&n| n > 0) {
            loss.keys.push(KeyLoss { key: None, first: 0, last: 0, count: Some(unread) });
        }
        loss
    }

    /// What each key counted between two segments' checkpoints, if that accounts for every entry.
    fn difference(&self, first: u64, next: u64) -> Option<Vec<KeyLoss>> {
        let begin = self.checkpoint(first)?;
        let end = self.checkpoint(next)?;
        let mut keys = Vec::new();
        for (key, &last) in &end.keys {
            let before = begin.keys.get(key).copied().unwrap_or(begin.floor);
            if last > before {
                keys.push(KeyLoss { key: Some(key.clone()), first: before + 1, last, count: Some(last - before) });
            }
        }
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        let total: u64 = keys.iter().filter_map(|key| key.count).sum();
        (total == next - first).then_some(keys)
    }

    /// The checkpoint at the head of a segment.
    pub(crate) fn checkpoint(&self, first: u64) -> Option<Checkpoint> {
        let file = self.storage.open(&self.path(first)).ok()?;
        let mut window = Window::new(file.as_ref()).ok()?;
        let (header, frame) = window.frame(0, Identity { epoch: self.epoch, first })?;
        Checkpoint::from_frame(&header, frame)
    }
}

/// Counts what can be read of `from..next` in a segment, by key if asked to; and the timestamps' range.
fn count(window: &mut Window<'_>, identity: Identity, from: u64, next: u64, by_key: bool) -> (Vec<KeyLoss>, Option<(i64, i64)>) {
    let mut keys: HashMap<Arc<str>, KeyLoss> = HashMap::new();
    let mut times: Option<(i64, i64)> = None;
    let mut zstd = zstd::bulk::Decompressor::new().ok();
    let (mut buffer, mut slots) = (bytes::BytesMut::new(), Vec::new());
    let mut at = 0;
    loop {
        let Some(header) = window.header(at, identity) else {
            match window.next_frame(at + 1, identity) {
                Some(header) => at = header.offset,
                None => break,
            }
            continue;
        };
        if header.first >= next {
            break;
        }
        at = header.end();
        if header.kind != Kind::Entries || header.last < from {
            continue;
        }
        times = Some(times.map_or((header.oldest, header.newest), |(a, b)| (a.min(header.oldest), b.max(header.newest))));
        if !by_key {
            continue;
        }
        let Some((_, frame)) = window.frame(header.offset, identity) else { continue };
        let unpacked = zstd.as_mut().and_then(|zstd| unpack(&header, frame, zstd, &mut buffer));
        let Some(parts) = unpacked.and_then(|()| block::decode(&buffer, header.count, &mut slots)) else { continue };
        for (sequence, slot) in (header.first..).zip(&slots) {
            if sequence < from {
                continue;
            }
            let key = parts[slot.key].key;
            let n = slot.key_sequence;
            match keys.get_mut(key) {
                Some(loss) => (loss.last, loss.count) = (loss.last.max(n), loss.count.map(|count| count + 1)),
                None => {
                    let key: Arc<str> = key.into();
                    keys.insert(key.clone(), KeyLoss { key: Some(key), first: n, last: n, count: Some(1) });
                }
            }
        }
    }
    let mut keys: Vec<_> = keys.into_values().collect();
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    (keys, times)
}
