//! What the log must remember beside its segments: what it removed, what it lost, how far it had come.
//!
//! Kept in [`Slots`] of its own and repeated in each checkpoint. It is written before segments are removed (so a loss is durable before
//! what it speaks of goes) and after one was made (so a segment that it names existed, and if it is missing it was taken away).

use std::collections::HashMap;
use std::sync::Arc;

use crate::format::MAX_SAID;
use crate::wire::{self, Input};
use crate::{Arrivals, KeyLoss, Loss, LossReason};

/// Above this, a full disk or a flood of losses would make the ledger itself a burden: keys are summed up.
const MAX_KEYS: usize = 200_000;

/// A loss, and how far it has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) loss: Loss,
    pub(crate) telling: Telling,
}

/// How far a loss has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// No entries stand in the log for it.
    Untold,
    /// Entries were appended for it, the last one with this sequence. If they are lost before they are acknowledged, it is untold again.
    Told(u64),
    /// Whoever follows the log knows it. Kept only while readers can still come across the damage.
    Settled,
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
    /// Losses for which no entries stand in the log.
    pub(crate) fn untold(&self) -> impl Iterator<Item = &Loss> {
        self.records.iter().filter(|record| record.telling == Telling::Untold).map(|record| &record.loss)
    }

    /// Notes a loss and gives it its id. `acknowledged`: how far the mirror has come.
    pub(crate) fn add(&mut self, mut loss: Loss, acknowledged: u64) -> Loss {
        for record in &mut self.records {
            // The entries that told it went the same way.
            if matches!(record.telling, Telling::Told(at) if (loss.first..=loss.last).contains(&at)) {
                record.telling = Telling::Untold;
            }
        }
        // What the mirror has not come to yet is one loss, however long it takes.
        if let Some(Record { loss: before, telling: Telling::Untold }) = self.records.last_mut()
            && (before.reason, before.epoch, before.last + 1) == (LossReason::DroppedOldest, loss.epoch, loss.first)
            && loss.reason == LossReason::DroppedOldest
            && before.last > acknowledged
        {
            join(before, loss);
            let joined = before.clone();
            self.bound();
            return joined;
        }
        loss.id = self.next_id();
        self.records.push(Record { loss: loss.clone(), telling: Telling::Untold });
        self.bound();
        loss
    }

    /// Notes entries that were refused: one loss that grows until it is told.
    pub(crate) fn add_refused(&mut self, loss: Loss) {
        let growing = |record: &&mut Record| record.telling == Telling::Untold && record.loss.reason == LossReason::Refused;
        match self.records.iter_mut().find(growing) {
            Some(Record { loss: before, .. }) => join(before, loss),
            None => {
                let loss = Loss { id: self.next_id(), ..loss };
                self.records.push(Record { loss, telling: Telling::Untold });
            }
        }
        self.bound();
    }

    /// Notes that entries were appended for a loss, the last one as `at`. A loss that has changed since it was listed stays untold: as a
    /// whole where numbers say what is meant, else without what was told.
    pub(crate) fn told(&mut self, told: &Loss, at: u64) {
        for Record { loss, telling } in self.records.iter_mut().filter(|record| record.telling == Telling::Untold) {
            if loss == told {
                *telling = Telling::Told(at);
            } else if loss.id == told.id && loss.reason == LossReason::Refused {
                subtract(loss, told);
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next_loss += 1;
        self.next_loss
    }

    /// Notes that nobody needs to be told of a loss.
    pub(crate) fn settle(&mut self, id: u64) {
        for record in self.records.iter_mut().filter(|record| record.loss.id == id) {
            record.telling = Telling::Settled;
        }
    }

    /// Takes from the dropped entries those that reached their goal all the same.
    pub(crate) fn arrived(&mut self, epoch: u64, arrivals: &Arrivals) {
        self.records.retain_mut(|Record { loss, telling }| {
            if *telling == Telling::Untold && loss.reason == LossReason::DroppedOldest && loss.epoch == epoch {
                let before = std::mem::take(&mut loss.keys);
                for key in before {
                    let rest = absent(&key, arrivals);
                    let count = |keys: &[KeyLoss]| keys.iter().filter_map(|key| key.count).sum::<u64>();
                    let found = key.count.map(|before| before - count(&rest));
                    loss.count = loss.count.map(|all| all.saturating_sub(found.unwrap_or(0)));
                    loss.keys.extend(rest);
                }
            }
            loss.count != Some(0) || !loss.keys.is_empty()
        });
    }

    /// Notes that everything up to `last` was removed on purpose.
    pub(crate) fn remove_through(&mut self, last: u64) {
        self.removed = self.removed.max(last);
    }

    /// What was told to a mirror that acknowledged it is settled. Settled losses that no reader can come across any more are forgotten; so
    /// are those that never name a place in a segment.
    pub(crate) fn forget(&mut self, acknowledged: u64) {
        let removed = self.removed;
        self.records.retain_mut(|record| {
            if matches!(record.telling, Telling::Told(at) if at <= acknowledged) {
                record.telling = Telling::Settled;
            }
            let found_again = record.loss.reason == LossReason::Damaged && record.loss.last > removed;
            record.telling != Telling::Settled || found_again
        });
    }

    /// The epoch ends with its entries: those that told losses are gone with the others.
    pub(crate) fn end_epoch(&mut self, acknowledged: u64) {
        self.forget(acknowledged);
        self.records.retain(|record| record.telling != Telling::Settled);
        self.records.iter_mut().for_each(|record| record.telling = Telling::Untold);
    }

    /// The parts of `first..=last` that no loss here speaks of.
    pub(crate) fn unknown(&self, epoch: u64, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut known: Vec<_> = self
            .records
            .iter()
            .map(|record| &record.loss)
            .filter(|loss| loss.reason != LossReason::Refused && loss.epoch == epoch && loss.last >= first && loss.first <= last)
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
        for Record { loss, telling } in &self.records {
            match telling {
                Telling::Untold => out.push(0),
                Telling::Settled => out.push(1),
                Telling::Told(at) => {
                    out.push(2);
                    wire::put(out, *at);
                }
            }
            out.push(match loss.reason {
                LossReason::DroppedOldest => 1,
                LossReason::Damaged => 2,
                LossReason::Refused => 3,
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
            let telling = match input.number()? {
                0 => Telling::Untold,
                1 => Telling::Settled,
                2 => Telling::Told(input.number()?),
                _ => return None,
            };
            let reason = match input.number()? {
                1 => LossReason::DroppedOldest,
                2 => LossReason::Damaged,
                3 => LossReason::Refused,
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
            ledger.records.push(Record { loss, telling });
        }
        [ledger.newest, ledger.removed, ledger.next_loss].iter().all(|n| *n < MAX_SAID).then_some(ledger)
    }
}

/// What is left of a key's loss without those that arrived. Where numbers are a bound only, nobody knows which of them the arrived ones are.
fn absent(key: &KeyLoss, arrivals: &Arrivals) -> Vec<KeyLoss> {
    let is_exact = key.first > 0 && key.count == Some(key.last - key.first + 1);
    let ranges = key.key.as_deref().filter(|_| is_exact).map_or(&[][..], |name| arrivals.of(name));
    let mut rest = vec![key.clone()];
    for &(first, last) in ranges {
        let part = |of: &KeyLoss, first: u64, last: u64| {
            (first <= last).then(|| KeyLoss { first, last, count: Some(last - first + 1), ..of.clone() })
        };
        let without = |of: &KeyLoss| [part(of, of.first, of.last.min(first - 1)), part(of, of.first.max(last + 1), of.last)];
        rest = rest.iter().flat_map(without).flatten().collect();
    }
    rest
}

/// Takes from a loss of entries without numbers those that were told.
fn subtract(loss: &mut Loss, told: &Loss) {
    loss.count = loss.count.zip(told.count).map(|(all, told)| all.saturating_sub(told));
    for key in &mut loss.keys {
        let told = told.keys.iter().find(|told| told.key == key.key).and_then(|told| told.count);
        key.count = key.count.map(|all| all.saturating_sub(told.unwrap_or(0)));
    }
    loss.keys.retain(|key| key.count != Some(0));
}

/// Appends what was lost next to a loss.
fn join(loss: &mut Loss, later: Loss) {
    loss.last = later.last;
    loss.count = loss.count.zip(later.count).map(|(a, b)| a + b);
    (loss.from, loss.to) = (loss.from.min(later.from), loss.to.max(later.to));
    loss.detail = later.detail;
    let mut places: HashMap<Option<Arc<str>>, usize> = loss.keys.iter().enumerate().map(|(i, key)| (key.key.clone(), i)).collect();
    for key in later.keys {
        let place = places.get(&key.key).map(|&i| &mut loss.keys[i]);
        match place {
            Some(mine) if mine.last + 1 == key.first || key.first == 0 => {
                mine.last = mine.last.max(key.last);
                mine.count = mine.count.zip(key.count).map(|(a, b)| a + b);
            }
            // Some in between arrived, or were lost in another way.
            _ => {
                places.insert(key.key.clone(), loss.keys.len());
                loss.keys.push(key);
            }
        }
    }
}

fn sum_up(loss: &mut Loss) {
    if loss.keys.len() > 1 {
        loss.keys = vec![KeyLoss { key: None, first: 0, last: 0, count: loss.count }];
        loss.detail.push_str(" (too many keys to name each)");
    }
}
