//! The edge: what its log keeps, and what its mirror holds in memory.

use std::collections::{BTreeSet, VecDeque};

use crate::broker::{Life, Partition};
use crate::events::{Sequence, event};
use crate::producer::Producer;

/// What survives a kill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    /// Events up to this one are on disk.
    pub(crate) durable: Sequence,
    pub(crate) cursor: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cursor {
    /// Events up to this one are acknowledged.
    pub(crate) sequence: Sequence,
    pub(crate) note: Note,
}

/// What can stand in Kafka beyond the cursor that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Beyond {
    Nothing,
    Maybe,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Note {
    pub(crate) beyond: Beyond,
    /// For each partition: no event beyond the cursor stands before this offset.
    pub(crate) places: Vec<u8>,
    /// Up to here, copies may stand before their partition's place.
    pub(crate) unsure_through: Sequence,
}

impl Note {
    fn new(partitions: usize) -> Self {
        Self { beyond: Beyond::Maybe, places: vec![0; partitions], unsure_through: 0 }
    }

    pub(crate) fn advance_to(&mut self, ends: &[u8]) {
        self.places.iter_mut().zip(ends).for_each(|(place, end)| *place = (*place).max(*end));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Waiting,
    Settled,
    Acknowledged { partition: usize, offset: u8 },
}

/// Events handed over and not yet acknowledged, in the log's order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    pub(crate) acknowledged: Sequence,
    slots: VecDeque<Slot>,
}

impl Window {
    fn new(acknowledged: Sequence) -> Self {
        Self { acknowledged, slots: VecDeque::new() }
    }

    pub(crate) fn through(&self) -> Sequence {
        self.acknowledged + self.slots.len() as Sequence
    }

    pub(crate) fn hand_over(&mut self) {
        self.slots.push_back(Slot::Waiting);
    }

    pub(crate) fn stands(&mut self) {
        self.slots.push_back(Slot::Settled);
    }

    pub(crate) fn report(&mut self, sequence: Sequence, partition: usize, offset: u8) {
        self.slots[usize::from(sequence - self.acknowledged - 1)] = Slot::Acknowledged { partition, offset };
    }

    /// The events that passed and were reported with their offsets.
    pub(crate) fn advance(&mut self) -> Vec<(Sequence, usize, u8)> {
        let mut passed = Vec::new();
        while let Some(slot) = self.slots.front().copied().filter(|slot| *slot != Slot::Waiting) {
            self.slots.pop_front();
            self.acknowledged += 1;
            if let Slot::Acknowledged { partition, offset } = slot {
                passed.push((self.acknowledged, partition, offset));
            }
        }
        passed
    }
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stands,
    Send,
    SendMarked,
}

/// What was found in Kafka of the events in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    after: Sequence,
    pub(crate) through: Sequence,
    found: BTreeSet<Sequence>,
    unsure_through: Sequence,
}

impl Standing {
    pub(crate) fn clear(after: Sequence) -> Self {
        Self { after, through: after, found: BTreeSet::new(), unsure_through: 0 }
    }

    /// Nothing was read: whatever is in doubt may stand.
    pub(crate) fn give_up(after: Sequence, through: Sequence) -> Self {
        Self { after, through, found: BTreeSet::new(), unsure_through: through }
    }

    /// Reads the partitions from their places to their ends.
    pub(crate) fn read(after: Sequence, through: Sequence, note: &Note, partitions: &[Partition]) -> Self {
        let records = partitions.iter().zip(&note.places).flat_map(|(partition, place)| partition.read(*place));
        let found = records.map(|record| record.sequence).filter(|sequence| (after + 1..=through).contains(sequence)).collect();
        Self { after, through, found, unsure_through: note.unsure_through }
    }

    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.count() == usize::from(self.through - self.after)
    }

    pub(crate) fn verdict(&self, sequence: Sequence) -> Verdict {
        if sequence <= self.after || self.found.contains(&sequence) {
            return Verdict::Stands;
        }
        if sequence > self.through {
            return Verdict::Send;
        }
        let is_overtaken = self.found.iter().any(|found| *found > sequence && event(*found).asset == event(sequence).asset);
        if sequence <= self.unsure_through || is_overtaken { Verdict::SendMarked } else { Verdict::Send }
    }

    /// Once every event in doubt was looked up, what was found is not needed any more.
    pub(crate) fn leave_behind(&mut self, through: Sequence) {
        if through >= self.through {
            self.found.clear();
            self.after = self.through;
        }
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.after == self.through
    }
}

/// Whether what an earlier producer had under way has died out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Quiet {
    NotYet,
    Since,
}

/// What may stand in Kafka beyond the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Doubt {
    None,
    Since { through: Sequence, quiet: Quiet },
    NoCursor,
}

/// The ends of the partitions, asked for while events flow: once in a life here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ends {
    NotAsked,
    Told(Vec<u8>),
    TakenOver,
}

/// While a producer lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    pub(crate) producer: Producer,
    pub(crate) standing: Standing,
    pub(crate) ends: Ends,
}

/// The mirror's memory: all of it is lost with a kill.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) window: Window,
    pub(crate) note: Option<Note>,
    pub(crate) doubt: Doubt,
    /// Ends that become the note's places once everything up to the sequence is acknowledged.
    pub(crate) mark: Option<(Sequence, Vec<u8>)>,
    pub(crate) flow: Option<Flow>,
}

impl Worker {
    /// A new process, after a kill or a stop.
    pub(crate) fn new(log: &Log) -> Self {
        let sequence = log.cursor.as_ref().map_or(0, |cursor| cursor.sequence);
        let doubt = match &log.cursor {
            _ if log.durable <= sequence => Doubt::None,
            Some(cursor) if cursor.note.beyond == Beyond::Nothing => Doubt::None,
            None => Doubt::NoCursor,
            Some(_) => Doubt::Since { through: log.durable, quiet: Quiet::NotYet },
        };
        Self { window: Window::new(sequence), note: log.cursor.as_ref().map(|cursor| cursor.note.clone()), doubt, mark: None, flow: None }
    }

    pub(crate) fn note(&mut self, partitions: usize) -> &mut Note {
        self.note.get_or_insert_with(|| Note::new(partitions))
    }

    /// Nothing is in doubt that `standing` does not answer: a producer may start, once the note is kept.
    pub(crate) fn begin(&mut self, life: Life, standing: Standing, ends: Vec<u8>) {
        let partitions = ends.len();
        if standing.through <= self.window.acknowledged {
            self.note(partitions).advance_to(&ends);
            self.mark = None;
        } else {
            self.mark = Some((standing.through, ends));
        }
        self.flow = Some(Flow { producer: Producer::start(life, partitions), standing, ends: Ends::NotAsked });
    }

    /// Moves the acknowledged prefix on, and the places with it; while events in doubt are not passed, they may stand before those sent again.
    pub(crate) fn advance(&mut self) {
        let passed = self.window.advance();
        let is_in_doubt = self.mark.as_ref().is_some_and(|(through, _)| *through > self.window.acknowledged);
        let Some(note) = &mut self.note else { return };
        for (sequence, partition, offset) in passed {
            if !is_in_doubt || sequence <= note.unsure_through {
                note.places[partition] = note.places[partition].max(offset + 1);
            }
        }
    }

    /// A producer's life has ended: what it had under way is in doubt from now on.
    pub(crate) fn begin_doubt(&mut self) {
        let Some(flow) = self.flow.take() else { return };
        let asked_through = if flow.standing.is_forgotten() { 0 } else { flow.standing.through };
        let through = self.window.through().max(asked_through);
        let acknowledged = self.window.acknowledged;
        self.doubt = if through > acknowledged { Doubt::Since { through, quiet: Quiet::NotYet } } else { Doubt::None };
        self.window = Window::new(acknowledged);
    }

    /// Whether nothing of ours can stand beyond the acknowledged prefix.
    pub(crate) fn is_clean(&self) -> bool {
        let asked = self.flow.as_ref().filter(|flow| !flow.standing.is_forgotten()).map_or(0, |flow| flow.standing.through);
        self.window.slots.is_empty() && asked <= self.window.acknowledged
    }

    /// Moves the places on to ends that were told, as soon as nothing in doubt can stand before them.
    pub(crate) fn take_over_ends(&mut self) {
        let acknowledged = self.window.acknowledged;
        if let Some((_, ends)) = self.mark.take_if(|(through, _)| *through <= acknowledged)
            && let Some(note) = &mut self.note
        {
            note.advance_to(&ends);
        } else if let Some(flow) = &mut self.flow
            && let Ends::Told(ends) = std::mem::replace(&mut flow.ends, Ends::TakenOver)
        {
            self.mark = Some((self.window.through(), ends));
        }
    }

    pub(crate) fn has_ends_to_take_over(&self) -> bool {
        match &self.mark {
            Some((through, _)) => *through <= self.window.acknowledged,
            None => self.flow.as_ref().is_some_and(|flow| matches!(flow.ends, Ends::Told(_))),
        }
    }
}
