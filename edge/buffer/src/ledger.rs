//! What the log must remember beside its segments: what it removed, what it lost, how far it had come.
//!
//! Kept in [`Slots`] of its own and repeated in each checkpoint. It is written before segments are removed (so a loss is durable before
//! what it speaks of goes) and after one was made (so a segment that it names existed, and if it is missing it was taken away).

use std::sync::Arc;

use crate::format::MAX_SAID;
use crate::wire::{self, Input};
use crate::{KeyLoss, Loss, LossReason};

/// Above this, a full disk or a flood of losses would make the ledger itself a burden: keys are summed up.
const MAX_KEYS: usize = 200_000;
/// From here on, drops that follow each other become one loss.
const MAX_APART: usize = 8;

/// A loss, and whether events were appended for it. Settled ones are kept while readers can still come across the damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) loss: Loss,
    pub(crate) is_settled: bool,
}

/// The ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// First sequence of the newest segment that is known to have existed.
    pub(crate) newest: u64,
    /// Everything up to here was removed on purpose.
    pub(crate) removed: u64,
    /// The id of the next loss.
    pub(crate) next_loss: u64,
    /// Losses, oldest first.
    pub(crate) records: Vec<Record>,
}

impl Ledger {
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = &Loss> {
        self.records.iter().filter(|record| !record.is_settled).map(|record| &record.loss)
    }

    /// Notes a loss and gives it its id.
    pub(crate) fn add(&mut self, mut loss: Loss) -> Loss {
        let crowded = self.unsettled().count() >= MAX_APART;
        if let Some(Record { loss: before, is_settled: false }) = self.records.last_mut()
            && crowded
            && (before.reason, before.epoch, before.last + 1) == (LossReason::DroppedOldest, loss.epoch, loss.first)
            && loss.reason == LossReason::DroppedOldest
        {
            join(before, &loss);
            return before.clone();
        }
        self.next_loss += 1;
        loss.id = self.next_loss;
        self.records.push(Record { loss: loss.clone(), is_settled: false });
        self.bound();
        loss
    }

    /// Takes from a loss what `told` says of it: all, or, where it has grown since, the part that was told.
    pub(crate) fn settle(&mut self, told: &Loss) {
        for record in &mut self.records {
            let loss = &mut record.loss;
            if loss.id != told.id || loss.epoch != told.epoch || record.is_settled {
                continue;
            }
            if loss.last <= told.last {
                record.is_settled = true;
            } else {
                subtract(loss, told);
            }
        }
        self.forget();
    }

    /// Notes that everything up to `last` was removed on purpose.
    pub(crate) fn remove_through(&mut self, last: u64) {
        self.removed = self.removed.max(last);
        self.forget();
    }

    /// Settled losses that no reader can come across any more are forgotten; so are those that never name a place in a segment.
    fn forget(&mut self) {
        let removed = self.removed;
        self.records.retain(|record| {
            let found_again = record.loss.reason == LossReason::Damaged && record.loss.last > removed;
            !record.is_settled || found_again
        });
    }

    /// The parts of `first..=last` that no loss here speaks of.
    pub(crate) fn unknown(&self, epoch: u64, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut known: Vec<_> = self
            .records
            .iter()
            .map(|record| &record.loss)
            .filter(|loss| loss.epoch == epoch && loss.last >= first && loss.first <= last)
            .map(|loss| (loss.first, loss.last))
            .collect();
        known.sort_unstable();
        let mut parts = Vec::new();
        let mut from = first;
        for (first, last) in known {
            if first > from {
                parts.push((from, first - 1));
            }
            from = from.max(last + 1);
        }
        if from <= last {
            parts.push((from, last));
        }
        parts
    }

    /// Adds what `other` (a checkpoint's copy) knows and this one does not.
    pub(crate) fn merge(&mut self, other: &Self) {
        for record in &other.records {
            if record.loss.id > self.next_loss {
                self.records.push(record.clone());
            }
        }
        self.next_loss = self.next_loss.max(other.next_loss);
        self.removed = self.removed.max(other.removed);
        self.newest = self.newest.max(other.newest);
    }

    /// The same with the keys of its losses summed up: small enough for the space that is reserved.
    pub(crate) fn summed_up(&self) -> Self {
        let mut small = self.clone();
        small.records.iter_mut().for_each(|record| sum_up(&mut record.loss));
        small
    }

    fn bound(&mut self) {
        let mut total: usize = self.records.iter().map(|record| record.loss.keys.len()).sum();
        for record in &mut self.records {
            if total <= MAX_KEYS {
                break;
            }
            total -= record.loss.keys.len();
            sum_up(&mut record.loss);
            total += record.loss.keys.len();
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for n in [self.newest, self.removed, self.next_loss, self.records.len() as u64] {
            wire::put(out, n);
        }
        for Record { loss, is_settled } in &self.records {
            out.push(u8::from(*is_settled));
            out.push(match loss.reason {
                LossReason::DroppedOldest => 1,
                LossReason::Damaged => 2,
            });
            for n in [loss.id, loss.epoch, loss.first, loss.last] {
                wire::put(out, n);
            }
            wire::put_option(out, loss.count);
            wire::put_signed(out, loss.from);
            wire::put_signed(out, loss.to);
            wire::put_bytes(out, loss.detail.as_bytes());
            wire::put(out, loss.keys.len() as u64);
            for key in &loss.keys {
                out.push(u8::from(key.key.is_some()));
                wire::put_bytes(out, key.key.as_deref().unwrap_or_default().as_bytes());
                wire::put(out, key.first);
                wire::put(out, key.last);
                wire::put_option(out, key.count);
            }
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Option<Self> {
        let mut ledger = Self { newest: input.number()?, removed: input.number()?, next_loss: input.number()?, records: Vec::new() };
        for _ in 0..input.count()? {
            let is_settled = input.number()? == 1;
            let reason = match input.number()? {
                1 => LossReason::DroppedOldest,
                2 => LossReason::Damaged,
                _ => return None,
            };
            let mut loss = Loss {
                reason,
                id: input.number()?,
                epoch: input.number()?,
                first: input.number()?,
                last: input.number()?,
                count: input.option()?,
                from: input.signed()?,
                to: input.signed()?,
                detail: input.text()?.to_owned(),
                keys: Vec::new(),
            };
            for _ in 0..input.count()? {
                let known = input.number()? == 1;
                let key = input.key()?;
                let (first, last, count) = (input.number()?, input.number()?, input.option()?);
                loss.keys.push(KeyLoss { key: known.then_some(key), first, last, count });
            }
            if loss.last >= MAX_SAID || loss.first > loss.last {
                return None;
            }
            ledger.records.push(Record { loss, is_settled });
        }
        [ledger.newest, ledger.removed, ledger.next_loss].iter().all(|n| *n < MAX_SAID).then_some(ledger)
    }
}

/// Appends a later drop to a loss.
fn join(loss: &mut Loss, later: &Loss) {
    loss.last = later.last;
    loss.count = loss.count.zip(later.count).map(|(a, b)| a + b);
    (loss.from, loss.to) = (loss.from.min(later.from), loss.to.max(later.to));
    loss.detail.clone_from(&later.detail);
    let mut places: std::collections::HashMap<Option<Arc<str>>, usize> =
        loss.keys.iter().enumerate().map(|(i, key)| (key.key.clone(), i)).collect();
    for key in &later.keys {
        match places.get(&key.key) {
            Some(&i) => {
                let mine = &mut loss.keys[i];
                mine.last = mine.last.max(key.last);
                mine.count = mine.count.zip(key.count).map(|(a, b)| a + b);
            }
            None => {
                places.insert(key.key.clone(), loss.keys.len());
                loss.keys.push(key.clone());
            }
        }
    }
}

/// Takes the part that was told from a loss that has grown since.
fn subtract(loss: &mut Loss, told: &Loss) {
    loss.first = told.last + 1;
    loss.count = loss.count.zip(told.count).map(|(a, b)| a.saturating_sub(b));
    for told in &told.keys {
        for mine in loss.keys.iter_mut().filter(|mine| mine.key == told.key) {
            mine.first = if told.key.is_some() { told.last + 1 } else { mine.first };
            mine.count = mine.count.zip(told.count).map(|(a, b)| a.saturating_sub(b));
        }
    }
    loss.keys.retain(|key| key.count != Some(0));
}

fn sum_up(loss: &mut Loss) {
    if loss.keys.len() > 1 {
        loss.keys = vec![KeyLoss { key: None, first: 0, last: 0, count: loss.count }];
        loss.detail.push_str(" (too many keys to name each)");
    }
}
