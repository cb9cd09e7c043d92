//! A forwarder at one partition: what it knows of repeats, its lane's window, and the prefix of what is done.

use std::collections::{BTreeMap, BTreeSet};

use crate::events::{Header, Record, event};
use crate::stream::Message;

/// Place of a record in the partition.
pub(crate) type Offset = usize;

/// Numbers of an asset's events that passed.
#[derive(Default)]
struct Seen(BTreeSet<u8>);

impl Seen {
    fn is_repeat(&mut self, n: u8, header: Header) -> bool {
        let is_before_all = self.0.first().is_some_and(|first| n < *first);
        // What is not marked and lies before all that is remembered was passed before that.
        let is_repeat = self.0.contains(&n) || (is_before_all && header == Header::None);
        if !is_repeat {
            self.0.insert(n);
        }
        is_repeat
    }
}

/// An event of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    record: Record,
    state: State,
    /// It was looked up, and is to be published.
    is_absent: bool,
    newest: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Ready,
    Sent,
}

/// What to do next with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    LookUp,
    Publish,
}

/// Which events of an asset may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The oldest one alone.
    OneByOne,
    /// All.
    Pipelined,
}

/// A forwarder's memory of a partition: all of it is lost with a kill. Records are taken in at once, and wait in the window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Forwarder {
    /// What is not done, by offset.
    window: BTreeMap<Offset, Slot>,
    /// Assets whose oldest event is known not to stand in the stream.
    clear: BTreeSet<&'static str>,
    end: Offset,
}

impl Forwarder {
    /// Reads the partition from what was committed on.
    pub(crate) fn start(kafka: &[Record], committed: Offset) -> Self {
        let mut repeats: BTreeMap<&str, Seen> = BTreeMap::new();
        let mut is_repeat = |record: Record| {
            let event = event(record.sequence);
            repeats.entry(event.asset).or_default().is_repeat(event.asset_sequence, record.header)
        };
        let read = kafka.iter().copied().enumerate().skip(committed).filter(|(_, record)| !is_repeat(*record));
        let slot = |record: Record| Slot { record, state: State::Ready, is_absent: false, newest: record.sequence };
        let window = read.map(|(offset, record)| (offset, slot(record))).collect();
        Self { window, clear: BTreeSet::new(), end: kafka.len() }
    }

    /// Everything before this offset is done.
    pub(crate) fn position(&self) -> Offset {
        self.window.keys().next().copied().unwrap_or(self.end)
    }

    /// What may be done now.
    pub(crate) fn steps(&self, rule: Rule) -> impl Iterator<Item = (Offset, Step)> {
        let mut assets = BTreeSet::new();
        self.window.iter().filter_map(move |(offset, slot)| {
            let asset = event(slot.record.sequence).asset;
            let is_next = assets.insert(asset) || rule == Rule::Pipelined;
            let is_absent = slot.is_absent || (slot.record.header == Header::None && self.clear.contains(asset));
            let step = if is_absent { Step::Publish } else { Step::LookUp };
            (is_next && slot.state == State::Ready).then_some((*offset, step))
        })
    }

    /// What was published, and not answered.
    pub(crate) fn sent(&self) -> impl Iterator<Item = Offset> {
        self.window.iter().filter(|(_, slot)| slot.state == State::Sent).map(|(offset, _)| *offset)
    }

    /// The stream told the last message on the event's subject.
    pub(crate) fn looked_up(&mut self, offset: Offset, last: Option<Message>) {
        let Some(slot) = self.window.get_mut(&offset) else { return };
        if last.is_some_and(|last| last.proves(slot.record)) {
            self.window.remove(&offset);
            return;
        }
        slot.is_absent = true;
        let behind = last.filter(|_| slot.record.header == Header::Resent).map_or(0, |last| last.newest);
        slot.newest = slot.record.sequence.max(behind);
        if slot.record.header == Header::None {
            self.clear.insert(event(slot.record.sequence).asset);
        }
    }

    pub(crate) fn publish(&mut self, offset: Offset) -> Option<Message> {
        let slot = self.window.get_mut(&offset)?;
        slot.state = State::Sent;
        Some(Message { sequence: slot.record.sequence, newest: slot.newest })
    }

    pub(crate) fn finished(&mut self, offset: Offset) {
        self.window.remove(&offset);
    }

    /// The server said no: it may be tried again.
    pub(crate) fn refused(&mut self, offset: Offset) {
        if let Some(slot) = self.window.get_mut(&offset) {
            slot.state = State::Ready;
        }
    }

    /// Nobody knows what became of it: it will be looked up.
    pub(crate) fn unknown(&mut self, offset: Offset) {
        if let Some(slot) = self.window.get_mut(&offset) {
            (slot.state, slot.is_absent) = (State::Ready, false);
            self.clear.remove(event(slot.record.sequence).asset);
        }
    }

    /// Every answer is gone with the connection.
    pub(crate) fn connection_lost(&mut self) {
        self.clear.clear();
        self.window.values_mut().for_each(|slot| (slot.state, slot.is_absent) = (State::Ready, false));
    }
}
