//! Events handed over and not yet acknowledged, in the log's order.

use std::collections::VecDeque;
use std::sync::Arc;

use edge_buffer::Stored;
use rdkafka::error::RDKafkaErrorCode as Code;

/// The number of a hand-over: what librdkafka carries through to the delivery report.
pub(crate) type Handle = usize;

/// What a delivery report says: partition and offset, or why not.
pub(crate) type Outcome = Result<(i32, i64), Code>;

#[derive(Debug)]
enum State {
    /// Handed over.
    Waiting,
    /// Nothing to wait for: it stands already, or the log lost it, or it was refused and told as a gap.
    Settled,
    Acknowledged {
        partition: i32,
        offset: i64,
    },
    Failed,
}

#[derive(Debug)]
struct Slot {
    /// Last sequence that the slot covers; more than one only for a range that the log lost.
    through: u64,
    bytes: usize,
    timestamp: Option<i64>,
    /// Key and number in the key's own count; `None` for what does not stand in Kafka.
    event: Option<(Arc<str>, u64)>,
    state: State,
}

/// An event that left the window because it stands in Kafka.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) sequence: u64,
    pub(crate) key: Arc<str>,
    pub(crate) key_sequence: u64,
    /// Partition and offset, if this producer brought it there.
    pub(crate) place: Option<(i32, i64)>,
}

/// An event that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) sequence: u64,
    /// The event's time, Unix ms.
    pub(crate) timestamp: i64,
    pub(crate) code: Code,
}

/// The window. Its front is the acknowledged prefix's end.
#[derive(Debug)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    /// Handle of the front slot.
    base: Handle,
    acknowledged: u64,
    bytes: usize,
    arrived: u64,
    waiting: usize,
}

impl Window {
    /// An empty window behind the sequence `acknowledged`.
    pub(crate) fn new(acknowledged: u64) -> Self {
        Self { slots: VecDeque::new(), base: 0, acknowledged, bytes: 0, arrived: 0, waiting: 0 }
    }

    /// Every event up to this sequence is acknowledged or settled.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The last sequence in the window; [`Self::acknowledged`] if it is empty.
    pub(crate) fn through(&self) -> u64 {
        self.slots.back().map_or(self.acknowledged, |slot| slot.through)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of events without a report.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of events that have got their report.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Events without a report.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Record time of the oldest event in the window, Unix ms.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.slots.iter().find_map(|slot| slot.timestamp)
    }

    /// Handle for the event that is about to be handed over; [`Self::hand_over`] must follow before anything else.
    pub(crate) fn next_handle(&self) -> Handle {
        self.base.wrapping_add(self.slots.len())
    }

    /// Takes in an event that waits for its report; `bytes` with what surrounds it.
    pub(crate) fn hand_over(&mut self, event: &Stored, bytes: usize) {
        let slot = Slot { through: event.sequence, bytes, timestamp: Some(event.timestamp), event: name(event), state: State::Waiting };
        self.slots.push_back(slot);
        self.bytes += bytes;
        self.waiting += 1;
    }

    /// Takes in an event that stands in Kafka already.
    pub(crate) fn stands(&mut self, event: &Stored) {
        let slot = Slot { through: event.sequence, bytes: 0, timestamp: Some(event.timestamp), event: name(event), state: State::Settled };
        self.slots.push_back(slot);
    }

    /// Takes in what will never stand in Kafka: a range that the log lost, an event that was refused.
    pub(crate) fn pass_over(&mut self, through: u64, timestamp: Option<i64>) {
        self.slots.push_back(Slot { through, bytes: 0, timestamp, event: None, state: State::Settled });
    }

    /// Takes in a report; returns the event if it failed. Unknown handles and second reports are ignored.
    pub(crate) fn report(&mut self, handle: Handle, outcome: Outcome) -> Option<Failed> {
        let slot = self.slots.get_mut(handle.wrapping_sub(self.base))?;
        if !matches!(slot.state, State::Waiting) {
            return None;
        }
        self.bytes -= slot.bytes;
        self.arrived += slot.bytes as u64;
        self.waiting -= 1;
        match outcome {
            Ok((partition, offset)) => {
                slot.state = State::Acknowledged { partition, offset };
                None
            }
            Err(code) => {
                slot.state = State::Failed;
                Some(Failed { sequence: slot.through, timestamp: slot.timestamp.unwrap_or_default(), code })
            }
        }
    }

    /// Settles a failed event after all: it is told as a gap.
    pub(crate) fn give_up(&mut self, sequence: u64) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.through == sequence)
            && matches!(slot.state, State::Failed)
        {
            (slot.state, slot.event) = (State::Settled, None);
        }
    }

    /// Moves the acknowledged prefix on; `passed` gets what stands in Kafka of it.
    pub(crate) fn advance(&mut self, passed: &mut Vec<Passed>) {
        while let Some(slot) = self.slots.front() {
            let place = match slot.state {
                State::Waiting | State::Failed => break,
                State::Settled => None,
                State::Acknowledged { partition, offset } => Some((partition, offset)),
            };
            self.acknowledged = slot.through;
            self.base = self.base.wrapping_add(1);
            if let Some(Slot { through, event: Some((key, key_sequence)), .. }) = self.slots.pop_front() {
                passed.push(Passed { sequence: through, key, key_sequence, place });
            }
        }
    }
}

fn name(event: &Stored) -> Option<(Arc<str>, u64)> {
    Some((event.key.clone(), event.key_sequence))
}

#[cfg(test)]
mod tests {
    use edge_buffer::Stored;

    use super::{Code, Failed, Window};

    fn event(sequence: u64) -> Stored {
        Stored { sequence, key_sequence: sequence * 10, key: "PRESS-1".into(), timestamp: 0, value: Default::default() }
    }

    type Brought = Vec<(u64, u64, Option<(i32, i64)>)>;

    fn acknowledged(window: &mut Window) -> (u64, Brought) {
        let mut passed = Vec::new();
        window.advance(&mut passed);
        (window.acknowledged(), passed.into_iter().map(|event| (event.sequence, event.key_sequence, event.place)).collect())
    }

    #[test]
    fn only_the_contiguous_prefix_is_acknowledged() {
        let mut window = Window::new(10);
        window.stands(&event(11));
        let handles: Vec<_> = (12..=14)
            .map(|sequence| {
                let handle = window.next_handle();
                window.hand_over(&event(sequence), 100);
                handle
            })
            .collect();
        window.pass_over(20, None);
        window.report(handles[1], Ok((0, 5)));
        assert_eq!(acknowledged(&mut window), (11, vec![(11, 110, None)]));
        window.report(handles[0], Ok((1, 7)));
        assert_eq!(acknowledged(&mut window), (13, vec![(12, 120, Some((1, 7))), (13, 130, Some((0, 5)))]));
        let code = Code::MessageSizeTooLarge;
        assert_eq!(window.report(handles[2], Err(code)), Some(Failed { sequence: 14, timestamp: 0, code }));
        assert_eq!(acknowledged(&mut window), (13, vec![]), "what failed is not acknowledged");
        window.give_up(14);
        assert_eq!(acknowledged(&mut window), (20, vec![]), "neither an event that was given up nor a lost range stands in Kafka");
        assert_eq!((window.bytes(), window.waiting(), window.is_empty()), (0, 0, true));
    }

    #[test]
    fn a_report_that_comes_twice_or_too_late_changes_nothing() {
        let mut window = Window::new(0);
        let handle = window.next_handle();
        window.hand_over(&event(1), 10);
        window.report(handle, Ok((0, 0)));
        window.report(handle, Err(Code::Fail));
        assert_eq!(acknowledged(&mut window).0, 1);
        assert_eq!(window.report(handle, Err(Code::Fail)), None);
        assert_eq!(window.bytes(), 0);
    }
}
