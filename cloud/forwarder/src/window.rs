//! What of a lane may be published now: the bookkeeping behind promise 4, without any I/O.
//!
//! The rule: **an event is handed to JetStream only when its asset's previous event is known to stand in the stream.** So at most one event
//! of an asset is under way, and many assets are. Whatever happens to it (refused, unanswered, sent again, taken twice), no later event
//! of its asset can overtake it, and however many forwarders work on one partition for a moment, the stream holds the asset's events in order.
//!
//! An event whose fate is not known (sent, but never answered; or read again after a restart) is first looked up in the stream, by the
//! last message on its subject: ids grow along a subject. Once the stream says that an event of an asset is not there, none of the later
//! ones is, and the asset needs no more questions. An event that its edge wrote late (`of-resent`, `of-replay`) keeps no such order: it is always looked
//! up, and its absence says nothing about others.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Assets whose standing is remembered; beyond it the memory is emptied, which costs one question an asset and nothing else.
const STANDINGS: usize = 100_000;

/// What the window needs to know of an event.
pub(crate) trait Entry {
    /// Unique in the window.
    fn offset(&self) -> i64;
    /// Events of one asset leave in the order in which they came.
    fn asset(&self) -> &Arc<str>;
    /// `Nats-Msg-Id`.
    fn id(&self) -> &str;
    /// It may stand in Kafka twice, or after later ones of its asset.
    fn is_resent(&self) -> bool;
    /// The life of the topic in which its id counts; `None` for ids that are never used again.
    fn life(&self) -> Option<&str> {
        None
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'w, E> {
    /// Ask the stream whether the event stands in it.
    LookUp(&'w E),
    /// Publish it.
    Publish(&'w E),
}

/// How much may be under way, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events.
    pub(crate) in_flight: usize,
    /// After this time without an answer, the fate of an event counts as unknown.
    pub(crate) patience: Duration,
}

/// Events of one partition that go to one cluster.
#[derive(Debug)]
pub(crate) struct Window<E> {
    limits: Limits,
    events: HashMap<i64, Slot<E>>,
    /// Offsets of an asset's events; the first one alone may be under way. No entry is empty.
    queues: HashMap<Arc<str>, VecDeque<i64>>,
    /// Heads of their queues that wait to be handed out.
    ready: VecDeque<i64>,
    /// What was handed out, oldest first; stale entries are recognised by their time.
    sent: VecDeque<(Instant, i64)>,
    under_way: usize,
    /// Assets whose head is known not to stand in the stream.
    clear: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct Slot<E> {
    event: E,
    sent: Option<Instant>,
    /// It was looked up, and is to be published.
    is_absent: bool,
}

impl<E: Entry> Window<E> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            events: HashMap::new(),
            queues: HashMap::new(),
            ready: VecDeque::new(),
            sent: VecDeque::new(),
            under_way: 0,
            clear: HashSet::new(),
        }
    }

    /// Takes an event in.
    pub(crate) fn push(&mut self, event: E) {
        let offset = event.offset();
        match self.queues.get_mut(event.asset()) {
            Some(queue) => queue.push_back(offset),
            None => {
                self.queues.insert(event.asset().clone(), VecDeque::from([offset]));
                self.ready.push_back(offset);
            }
        }
        self.events.insert(offset, Slot { event, sent: None, is_absent: false });
    }

    /// Hands out the next event, if the rule and the limits let one go.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Step<'_, E>> {
        if self.under_way >= self.limits.in_flight {
            return None;
        }
        let offset = self.ready.pop_front()?;
        let slot = self.events.get_mut(&offset)?;
        slot.sent = Some(now);
        self.under_way += 1;
        self.sent.push_back((now, offset));
        let event = &slot.event;
        let is_absent = slot.is_absent || (!event.is_resent() && self.clear.contains(event.asset()));
        Some(if is_absent { Step::Publish(event) } else { Step::LookUp(event) })
    }

    /// An event of the window.
    pub(crate) fn get_mut(&mut self, offset: i64) -> Option<&mut E> {
        self.events.get_mut(&offset).map(|slot| &mut slot.event)
    }

    /// The event stands in the stream (or will never be taken): gives it back, and the asset's next one may go. `None` for an answer
    /// that came twice.
    pub(crate) fn finished(&mut self, offset: i64) -> Option<E> {
        // A late answer to an attempt that was given up is as good as any, also while the event waits for its next attempt.
        let slot = self.events.remove(&offset)?;
        match slot.sent {
            Some(_) => self.under_way -= 1,
            None => self.ready.retain(|waiting| *waiting != offset),
        }
        if let Some(queue) = self.queues.get_mut(slot.event.asset()) {
            debug_assert_eq!(queue.front(), Some(&offset), "only the head of a queue is ever handed out");
            queue.pop_front();
            match queue.front() {
                Some(next) => self.ready.push_back(*next),
                None => {
                    self.queues.remove(slot.event.asset());
                }
            }
        }
        Some(slot.event)
    }

    /// The stream does not hold the event: it is published next. Nor does it hold later ones of its asset, if the event keeps their order.
    pub(crate) fn absent(&mut self, offset: i64) {
        if let Some(slot) = self.take_back(offset) {
            slot.is_absent = true;
            let keeper = (!slot.event.is_resent()).then(|| slot.event.asset().clone());
            if let Some(asset) = keeper {
                if self.clear.len() >= STANDINGS {
                    self.clear.clear();
                }
                self.clear.insert(asset);
            }
            self.ready.push_front(offset);
        }
    }

    /// The server said no: the event is not in the stream, and may be tried again.
    pub(crate) fn refused(&mut self, offset: i64) {
        if self.take_back(offset).is_some() {
            self.ready.push_front(offset);
        }
    }

    /// Nobody knows what became of the event: it will be looked up.
    pub(crate) fn unknown(&mut self, offset: i64) {
        if let Some(slot) = self.take_back(offset) {
            slot.is_absent = false;
            let asset = slot.event.asset().clone();
            self.clear.remove(&asset);
            self.ready.push_front(offset);
        }
    }

    /// The connection is gone, and with it every answer. Another forwarder may have stepped in meanwhile, so all assets are looked up again.
    pub(crate) fn connection_lost(&mut self) {
        self.clear.clear();
        self.sent.clear();
        self.under_way = 0;
        let mut heads: Vec<i64> = self.queues.values().filter_map(|queue| queue.front().copied()).collect();
        heads.sort_unstable();
        for head in &heads {
            if let Some(slot) = self.events.get_mut(head) {
                slot.sent = None;
                slot.is_absent = false;
            }
        }
        self.ready = heads.into();
    }

    /// Gives up waiting for what was handed out too long ago; how many that were.
    pub(crate) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while let Some((sent, offset)) = self.oldest() {
            if now.duration_since(sent) < self.limits.patience {
                break;
            }
            self.unknown(offset);
            expired += 1;
        }
        expired
    }

    /// When [`Self::expire`] should be called next.
    pub(crate) fn next_expiry(&mut self) -> Option<Instant> {
        self.oldest().map(|(sent, _)| sent + self.limits.patience)
    }

    /// Events that were handed out and not answered.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Events in the window.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    fn oldest(&mut self) -> Option<(Instant, i64)> {
        while let Some((sent, offset)) = self.sent.front().copied() {
            if self.events.get(&offset).is_some_and(|slot| slot.sent == Some(sent)) {
                return Some((sent, offset));
            }
            self.sent.pop_front();
        }
        None
    }

    /// The event is no longer under way; `None` if it was not.
    fn take_back(&mut self, offset: i64) -> Option<&mut Slot<E>> {
        let slot = self.events.get_mut(&offset)?;
        slot.sent.take()?;
        self.under_way -= 1;
        Some(slot)
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
