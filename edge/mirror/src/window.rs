//! Events handed over and not yet acknowledged, in the log's order.

use std::collections::VecDeque;

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
    timestamp: i64,
    state: State,
}

/// The window. Its front is the acknowledged prefix's end.
#[derive(Debug)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    /// Handle of the front slot.
    base: Handle,
    acknowledged: u64,
    bytes: usize,
    waiting: usize,
}

impl Window {
    /// An empty window behind the sequence `acknowledged`.
    pub(crate) fn new(acknowledged: u64) -> Self {
        Self { slots: VecDeque::new(), base: 0, acknowledged, bytes: 0, waiting: 0 }
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

    /// Events without a report.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Record time of the oldest event in the window, Unix ms.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.slots.front().map(|slot| slot.timestamp)
    }

    /// Handle for the event that is about to be handed over; [`Self::hand_over`] must follow before anything else.
    pub(crate) fn next_handle(&self) -> Handle {
        self.base.wrapping_add(self.slots.len())
    }

    pub(crate) fn hand_over(&mut self, sequence: u64, bytes: usize, timestamp: i64) {
        self.slots.push_back(Slot { through: sequence, bytes, timestamp, state: State::Waiting });
        self.bytes += bytes;
        self.waiting += 1;
    }

    /// Takes in what needs no report.
    pub(crate) fn settle(&mut self, through: u64, timestamp: i64) {
        self.slots.push_back(Slot { through, bytes: 0, timestamp, state: State::Settled });
    }

    /// Takes in a report; returns the event's sequence if it failed. Unknown handles and second reports are ignored.
    pub(crate) fn report(&mut self, handle: Handle, outcome: Outcome) -> Option<(u64, Code)> {
        let slot = self.slots.get_mut(handle.wrapping_sub(self.base))?;
        if !matches!(slot.state, State::Waiting) {
            return None;
        }
        self.bytes -= slot.bytes;
        self.waiting -= 1;
        match outcome {
            Ok((partition, offset)) => {
                slot.state = State::Acknowledged { partition, offset };
                None
            }
            Err(code) => {
                slot.state = State::Failed;
                Some((slot.through, code))
            }
        }
    }

    /// Settles a failed event after all: it is told as a gap.
    pub(crate) fn give_up(&mut self, sequence: u64) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.through == sequence)
            && matches!(slot.state, State::Failed)
        {
            slot.state = State::Settled;
        }
    }

    /// Moves the acknowledged prefix on; tells partition, offset and sequence of each event that Kafka took. Returns how many those were.
    pub(crate) fn advance(&mut self, mut taken: impl FnMut(i32, i64, u64)) -> u64 {
        let mut count = 0;
        while let Some(slot) = self.slots.front() {
            match slot.state {
                State::Waiting | State::Failed => break,
                State::Settled => {}
                State::Acknowledged { partition, offset } => {
                    taken(partition, offset, slot.through);
                    count += 1;
                }
            }
            self.acknowledged = slot.through;
            self.slots.pop_front();
            self.base = self.base.wrapping_add(1);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Window};

    fn acknowledged(window: &mut Window) -> (u64, Vec<(i32, i64, u64)>) {
        let mut taken = Vec::new();
        window.advance(|partition, offset, sequence| taken.push((partition, offset, sequence)));
        (window.acknowledged(), taken)
    }

    #[test]
    fn only_the_contiguous_prefix_is_acknowledged() {
        let mut window = Window::new(10);
        let handles: Vec<_> = (11..=13)
            .map(|sequence| {
                let handle = window.next_handle();
                window.hand_over(sequence, 100, 0);
                handle
            })
            .collect();
        window.settle(20, 0);
        window.report(handles[1], Ok((0, 5)));
        assert_eq!(acknowledged(&mut window), (10, vec![]));
        window.report(handles[0], Ok((1, 7)));
        assert_eq!(acknowledged(&mut window), (12, vec![(1, 7, 11), (0, 5, 12)]));
        assert_eq!(window.report(handles[2], Err(Code::MessageSizeTooLarge)), Some((13, Code::MessageSizeTooLarge)));
        assert_eq!(acknowledged(&mut window), (12, vec![]), "what failed is not acknowledged");
        window.give_up(13);
        assert_eq!(acknowledged(&mut window), (20, vec![]), "a lost range behind it is covered as a whole");
        assert_eq!((window.bytes(), window.waiting(), window.is_empty()), (0, 0, true));
    }

    #[test]
    fn a_report_that_comes_twice_or_too_late_changes_nothing() {
        let mut window = Window::new(0);
        let handle = window.next_handle();
        window.hand_over(1, 10, 0);
        window.report(handle, Ok((0, 0)));
        window.report(handle, Err(Code::Fail));
        assert_eq!(acknowledged(&mut window).0, 1);
        assert_eq!(window.report(handle, Err(Code::Fail)), None);
        assert_eq!(window.bytes(), 0);
    }
}
