//! broker -> forwarder -> stream, for a partition as it was left in Kafka. Partitions share nothing on this way.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::events::{Header, Record, Sequence, are_in_order};
use crate::forwarder::{Forwarder, Offset, Rule, Step};
use crate::stream::{Message, Stream};

/// The forwarder as it is built, or with one thing that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    AsBuilt,
    /// Events of an asset do not wait for each other.
    PipelinedAsset,
    /// Offsets are committed when records are read.
    OffsetsBeforeAcknowledgement,
    /// What is read again is published again.
    WithoutLookUp,
}

/// Two forwarders may be at work for a moment: the one that was served the partition last, and the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    Owner,
    /// The group took the partition from it, and it has not heard of that.
    Former,
}

/// Who hears the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reply {
    To(Who),
    /// The connection is gone.
    Lost,
}

/// What is between a forwarder and the stream. It may stay there for ever, so a loss needs no action of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OnWire {
    Publish { offset: Offset, message: Message, reply: Reply },
    Acknowledgement { offset: Offset, to: Who },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    kafka: Vec<Record>,
    committed: Offset,
    owner: Forwarder,
    former: Option<Forwarder>,
    wire: Vec<OnWire>,
    pub(crate) stream: Stream,
    faults: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    LookUp(Who, Offset),
    Publish(Who, Offset),
    Deliver(OnWire),
    Commit,
    /// The former owner hears that it is none.
    GiveUpPartition,
    /// No answer in time.
    Expire(Who, Offset),
    Refuse(OnWire),
    LoseConnection(Who),
    /// The owner is killed and started again.
    Kill,
    /// Another forwarder gets the partition, while its owner goes on.
    Rebalance,
    /// An outage that is longer than the stream's `duplicate_window`.
    LongOutage,
}

impl Action {
    fn is_fault(&self) -> bool {
        use Action::{Expire, Kill, LongOutage, LoseConnection, Rebalance, Refuse};
        matches!(self, Expire(..) | Refuse(_) | LoseConnection(_) | Kill | Rebalance | LongOutage)
    }
}

pub(crate) struct KafkaToStream {
    pub(crate) forwarding: Forwarding,
    /// The partitions to be read, each for itself.
    pub(crate) left: BTreeSet<Vec<Record>>,
    pub(crate) faults: u8,
}

impl KafkaToStream {
    fn rule(&self) -> Rule {
        if self.forwarding == Forwarding::PipelinedAsset { Rule::Pipelined } else { Rule::OneByOne }
    }

    fn position(&self, state: &State) -> Offset {
        if self.forwarding == Forwarding::OffsetsBeforeAcknowledgement { state.kafka.len() } else { state.owner.position() }
    }

    fn work(&self, state: &State) -> Vec<Action> {
        let mut work: Vec<Action> = state.wire.iter().copied().map(Action::Deliver).collect();
        work.dedup();
        for (who, forwarder) in state.forwarders() {
            work.extend(forwarder.steps(self.rule()).map(|(offset, step)| match step {
                Step::LookUp if self.forwarding != Forwarding::WithoutLookUp => Action::LookUp(who, offset),
                Step::LookUp | Step::Publish => Action::Publish(who, offset),
            }));
        }
        if self.position(state) > state.committed {
            work.push(Action::Commit);
        }
        if state.former.is_some() {
            work.push(Action::GiveUpPartition);
        }
        work
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        for (who, forwarder) in state.forwarders() {
            actions.extend(forwarder.sent().map(|offset| Action::Expire(who, offset)));
            actions.push(Action::LoseConnection(who));
        }
        let publishes = state.wire.iter().filter(|on_wire| matches!(on_wire, OnWire::Publish { .. }));
        actions.extend(publishes.copied().map(Action::Refuse));
        actions.push(Action::Kill);
        if state.former.is_none() {
            actions.push(Action::Rebalance);
            // `duplicate_window` covers all that two forwarders may have under way at once.
            if state.wire.is_empty() && state.stream.remembers() {
                actions.push(Action::LongOutage);
            }
        }
    }
}

impl State {
    fn start(kafka: Vec<Record>, faults: u8) -> Self {
        let owner = Forwarder::start(&kafka, 0);
        Self { kafka, committed: 0, owner, former: None, wire: Vec::new(), stream: Stream::default(), faults }
    }

    fn forwarders(&self) -> impl Iterator<Item = (Who, &Forwarder)> {
        [(Who::Owner, Some(&self.owner)), (Who::Former, self.former.as_ref())].into_iter().filter_map(|(who, f)| Some((who, f?)))
    }

    fn forwarder(&mut self, who: Who) -> Option<&mut Forwarder> {
        match who {
            Who::Owner => Some(&mut self.owner),
            Who::Former => self.former.as_mut(),
        }
    }

    fn put_on_wire(&mut self, on_wire: OnWire) {
        self.wire.push(on_wire);
        self.wire.sort_unstable();
    }

    fn take_from_wire(&mut self, on_wire: OnWire) {
        if let Some(at) = self.wire.iter().position(|other| *other == on_wire) {
            self.wire.remove(at);
        }
    }

    /// Answers to `who` go elsewhere from now on; what it sent may still arrive.
    fn redirect(&mut self, who: Who, elsewhere: Reply) {
        for on_wire in std::mem::take(&mut self.wire) {
            self.wire.extend(match (on_wire, elsewhere) {
                (OnWire::Publish { offset, message, reply }, _) if reply == Reply::To(who) => {
                    Some(OnWire::Publish { offset, message, reply: elsewhere })
                }
                (OnWire::Acknowledgement { offset, to }, Reply::To(other)) if to == who => {
                    Some(OnWire::Acknowledgement { offset, to: other })
                }
                (OnWire::Acknowledgement { to, .. }, Reply::Lost) if to == who => None,
                (on_wire, _) => Some(on_wire),
            });
        }
        self.wire.sort_unstable();
    }

    fn deliver(&mut self, on_wire: OnWire) {
        self.take_from_wire(on_wire);
        match on_wire {
            OnWire::Publish { offset, message, reply } => {
                self.stream.take(message);
                if let Reply::To(to) = reply {
                    self.put_on_wire(OnWire::Acknowledgement { offset, to });
                }
            }
            OnWire::Acknowledgement { offset, to } => {
                if let Some(forwarder) = self.forwarder(to) {
                    forwarder.finished(offset);
                }
            }
        }
    }
}

impl Model for KafkaToStream {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.left.iter().map(|kafka| State::start(kafka.clone(), self.faults)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        *actions = self.work(state);
        if state.faults > 0 {
            self.faults(state, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        state.faults -= u8::from(action.is_fault());
        match action {
            Action::LookUp(who, offset) => {
                let last = state.stream.last_message(state.kafka[offset].sequence);
                state.forwarder(who)?.looked_up(offset, last);
            }
            Action::Publish(who, offset) => {
                let message = state.forwarder(who)?.publish(offset)?;
                state.put_on_wire(OnWire::Publish { offset, message, reply: Reply::To(who) });
            }
            Action::Deliver(on_wire) => state.deliver(on_wire),
            Action::Commit => state.committed = self.position(&state),
            Action::GiveUpPartition => {
                state.redirect(Who::Former, Reply::Lost);
                state.former = None;
            }
            Action::Expire(who, offset) => state.forwarder(who)?.unknown(offset),
            Action::Refuse(on_wire) => {
                state.take_from_wire(on_wire);
                if let OnWire::Publish { offset, reply: Reply::To(who), .. } = on_wire {
                    state.forwarder(who)?.refused(offset);
                }
            }
            Action::LoseConnection(who) => {
                state.redirect(who, Reply::Lost);
                state.forwarder(who)?.connection_lost();
            }
            Action::Kill => {
                state.redirect(Who::Owner, Reply::Lost);
                state.owner = Forwarder::start(&state.kafka, state.committed);
            }
            Action::Rebalance => {
                state.redirect(Who::Owner, Reply::To(Who::Former));
                let next = Forwarder::start(&state.kafka, state.committed);
                state.former = Some(std::mem::replace(&mut state.owner, next));
            }
            Action::LongOutage => {
                state.owner.connection_lost();
                state.stream.forget();
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONCE, is_once),
            Property::always(ORDER, is_in_order),
            Property::always(COMMITTED, is_committed_rightly),
            Property::always(COMPLETE, is_complete),
        ]
    }
}

pub(crate) const ONCE: &str = "the stream shows no event twice";
pub(crate) const ORDER: &str = "in the stream no event of an asset stands before an earlier one";
pub(crate) const COMMITTED: &str = "what is committed stands in the stream";
pub(crate) const COMPLETE: &str = "when nothing is left to do, every event stands in the stream";

impl State {
    /// What its edge wrote late keeps no order, and may be shown again after all that remember it have forgotten.
    fn is_marked(&self, sequence: Sequence) -> bool {
        self.kafka.contains(&Record { sequence, header: Header::Resent })
    }
}

fn is_once(_: &KafkaToStream, state: &State) -> bool {
    let shown = |sequence| state.stream.messages.iter().filter(move |message| message.sequence == sequence).count();
    state.kafka.iter().all(|record| state.is_marked(record.sequence) || shown(record.sequence) <= 1)
}

fn is_in_order(_: &KafkaToStream, state: &State) -> bool {
    are_in_order(state.stream.messages.iter().map(|message| message.sequence))
}

fn is_committed_rightly(_: &KafkaToStream, state: &State) -> bool {
    state.kafka.iter().take(state.committed).all(|record| state.stream.holds(record.sequence))
}

fn is_complete(model: &KafkaToStream, state: &State) -> bool {
    state.kafka.iter().all(|record| state.stream.holds(record.sequence)) || !model.work(state).is_empty()
}
