//! log -> mirror -> broker, with kills, stops, lost, doubled and delayed requests, and changes of leaders.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use stateright::{Model, Property};

use crate::broker::{Answer, Life, Partition};
use crate::events::{Header, Record, Sequence, partition_of};
use crate::mirror::{Beyond, Cursor, Doubt, Ends, Log, Note, Quiet, Standing, Verdict, Worker};
use crate::promises;
use crate::wire::{OnWire, Reply, Wire};

/// The protocol as it is built, or one thing that is not as it is built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    AsBuilt,
    /// As built, where reading back comes to `doubt_limit`: events are sent again, marked.
    DoubtLimit,
    /// A network holds back requests of a dead producer for longer than `request_timeout`.
    LateRequest,
    /// A follower lags for longer than `request_timeout`, so records stand that no reader gets yet.
    LaggingFollower,
    /// Whatever is in doubt is sent.
    WithoutReadBack,
    /// The cursor is kept at what was handed over.
    CursorBeforeReports,
    /// Two requests are under way for a partition.
    SeveralInFlight,
    /// A producer lives on for longer than brokers remember it.
    ForgottenProducer,
    /// Ends of partitions become places while events before them are under way.
    EndsAtOnce,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) events: Sequence,
    pub(crate) partitions: usize,
    /// So many of the actions that are faults may happen, in any mixture.
    pub(crate) faults: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) worker: Worker,
    wire: Wire,
    pub(crate) partitions: Vec<Partition>,
    /// Producers so far.
    lives: Life,
    faults: u8,
}

/// Partitions by their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Append,
    ReadBack,
    WaitUntilQuiet,
    ReachDoubtLimit,
    HandOver,
    Send(usize),
    Deliver(OnWire),
    Replicate(usize),
    Report(usize),
    KeepCursor,
    AskForEnds,
    TakeOverEnds,
    /// The mirror is stopped in order and started again.
    Stop,
    /// The edge is killed and started again.
    Kill,
    /// No answer in time, or a broken connection.
    SendAgain(usize),
    Refuse(OnWire),
    ChangeLeader(usize),
    ForgetProducers(usize),
}

impl Action {
    fn is_fault(&self) -> bool {
        use Action::{ChangeLeader, ForgetProducers, Kill, Refuse, SendAgain, Stop};
        matches!(self, Stop | Kill | SendAgain(_) | Refuse(_) | ChangeLeader(_) | ForgetProducers(_))
    }
}

/// What the partitions hold when all is done.
pub(crate) type Left = BTreeSet<Vec<Record>>;

pub(crate) struct LogToKafka {
    pub(crate) protocol: Protocol,
    pub(crate) size: Size,
    /// Filled while the model is checked: what the forwarder gets to read.
    left: Mutex<Left>,
}

impl LogToKafka {
    pub(crate) fn new(protocol: Protocol, size: Size) -> Self {
        Self { protocol, size, left: Mutex::default() }
    }

    pub(crate) fn left(&self) -> Left {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn max_in_flight(&self) -> usize {
        if self.protocol == Protocol::SeveralInFlight { 2 } else { 1 }
    }

    /// What happens without any fault. Each of these brings the end nearer, but for reading back before what is under way has died out.
    pub(crate) fn work(&self, state: &State) -> Vec<Action> {
        let mut work: Vec<Action> = state.wire.arriving().cloned().map(Action::Deliver).collect();
        if state.log.durable < self.size.events {
            work.push(Action::Append);
        }
        let worker = &state.worker;
        for (number, partition) in state.partitions.iter().enumerate() {
            if !partition.is_replicated() {
                work.push(Action::Replicate(number));
            }
            let Some(flow) = &worker.flow else { continue };
            if flow.producer.may_send(number, self.max_in_flight()) {
                work.push(Action::Send(number));
            }
            if flow.producer.under_way(number).first().is_some_and(|attempt| partition.lets_go(attempt)) {
                work.push(Action::Report(number));
            }
        }
        let Some(flow) = &worker.flow else {
            work.push(Action::ReadBack);
            if let Doubt::Since { quiet: Quiet::NotYet, .. } = worker.doubt {
                if self.protocol == Protocol::DoubtLimit {
                    work.push(Action::ReachDoubtLimit);
                }
                if self.protocol == Protocol::LaggingFollower || state.partitions.iter().all(Partition::is_replicated) {
                    work.push(Action::WaitUntilQuiet);
                }
            }
            return work;
        };
        if worker.window.through() < state.log.durable {
            work.push(Action::HandOver);
        }
        if flow.ends == Ends::NotAsked {
            work.push(Action::AskForEnds);
        }
        if worker.has_ends_to_take_over() {
            work.push(Action::TakeOverEnds);
        }
        if state.log.cursor != self.cursor(worker, Beyond::Maybe) {
            work.push(Action::KeepCursor);
        }
        work
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Kill);
        let awaited = state.wire.arriving().filter(|on_wire| on_wire.reply == Reply::Awaited);
        actions.extend(awaited.cloned().map(Action::Refuse));
        if state.worker.flow.is_some() {
            actions.push(Action::Stop);
        }
        for (number, partition) in state.partitions.iter().enumerate() {
            let is_under_way = state.worker.flow.as_ref().is_some_and(|flow| !flow.producer.under_way(number).is_empty());
            if is_under_way {
                actions.push(Action::SendAgain(number));
            }
            if !partition.is_replicated() {
                actions.push(Action::ChangeLeader(number));
            }
            // A request that is a day old ends its producer's life (`producer_memory`), before brokers forget the producer.
            let is_at_rest = !is_under_way && state.wire.is_empty_for(number);
            if partition.remembers_a_producer() && (is_at_rest || self.protocol == Protocol::ForgottenProducer) {
                actions.push(Action::ForgetProducers(number));
            }
        }
    }

    /// The cursor that would be kept now.
    fn cursor(&self, worker: &Worker, beyond: Beyond) -> Option<Cursor> {
        let note = worker.note.clone()?;
        let sequence = if self.protocol == Protocol::CursorBeforeReports { worker.window.through() } else { worker.window.acknowledged };
        Some(Cursor { sequence, note: Note { beyond, ..note } })
    }

    fn keep(&self, state: &mut State, beyond: Beyond) {
        state.log.cursor = self.cursor(&state.worker, beyond).or(state.log.cursor.take());
    }

    /// What is known of what stands decides what is sent; the next producer starts, unless there is something to wait for.
    fn read_back(&self, state: &mut State) {
        let worker = &mut state.worker;
        let after = worker.window.acknowledged;
        let (through, quiet) = match worker.doubt {
            Doubt::None => (after, Quiet::Since),
            Doubt::Since { through, quiet } => (through.max(after), quiet),
            Doubt::NoCursor => (state.log.durable, Quiet::Since),
        };
        let standing = Standing::read(after, through, worker.note(self.size.partitions), &state.partitions);
        if quiet == Quiet::NotYet && !standing.is_settled() && self.protocol != Protocol::WithoutReadBack {
            return;
        }
        let is_clear = self.protocol == Protocol::WithoutReadBack || (worker.doubt == Doubt::NoCursor && standing.count() == 0);
        self.begin(state, if is_clear { Standing::clear(after) } else { standing });
    }

    fn begin(&self, state: &mut State, standing: Standing) {
        state.lives += 1;
        let ends = state.ends();
        state.worker.begin(state.lives, standing, ends);
        self.keep(state, Beyond::Maybe);
    }

    /// The next event of the log goes to the producer, or is known to stand.
    fn hand_over(&self, worker: &mut Worker) -> Option<()> {
        let sequence = worker.window.through() + 1;
        let (flow, note) = (worker.flow.as_mut()?, worker.note.as_mut()?);
        let header = match flow.standing.verdict(sequence) {
            Verdict::Stands => None,
            Verdict::Send => Some(Header::None),
            Verdict::SendMarked => Some(Header::Resent),
        };
        match header {
            None => worker.window.stands(),
            Some(header) => {
                if header == Header::Resent {
                    note.unsure_through = note.unsure_through.max(flow.standing.through);
                }
                flow.producer.hand_over(partition_of(sequence, self.size.partitions), Record { sequence, header });
                worker.window.hand_over();
            }
        }
        flow.standing.leave_behind(worker.window.through());
        worker.advance();
        Some(())
    }

    fn report(&self, state: &mut State, partition: usize) -> Option<()> {
        let worker = &mut state.worker;
        let flow = worker.flow.as_mut()?;
        let attempt = flow.producer.report(partition);
        match attempt.answer? {
            Answer::Taken { offset } => {
                for (offset, record) in (offset..).zip(&attempt.request.records) {
                    worker.window.report(record.sequence, partition, offset);
                }
                worker.advance();
            }
            Answer::Refused => {
                worker.begin_doubt();
                state.wire.lose_replies(|_| true);
                self.keep(state, Beyond::Maybe);
            }
        }
        Some(())
    }
}

impl State {
    fn ends(&self) -> Vec<u8> {
        self.partitions.iter().map(Partition::high_watermark).collect()
    }

    /// The request arrives; its answer is known to the producer, if that still listens.
    fn arrive(&mut self, on_wire: &OnWire, answer: impl FnOnce(&mut Partition) -> Answer) {
        self.wire.take(on_wire);
        let answer = answer(&mut self.partitions[on_wire.request.partition]);
        if on_wire.reply == Reply::Awaited
            && let Some(flow) = &mut self.worker.flow
        {
            flow.producer.answer(&on_wire.request, answer);
        }
    }

    fn send_again(&mut self, partition: usize) {
        self.wire.lose_replies(|request| request.partition == partition);
        if let Some(flow) = &mut self.worker.flow {
            let again = flow.producer.send_again(partition);
            let connection = flow.producer.connection(partition);
            self.wire.put(again, connection);
        }
    }

    /// A new process, with what the log keeps.
    fn start_again(&mut self) {
        self.wire.lose_replies(|_| true);
        self.worker = Worker::new(&self.log);
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        self.partitions.iter().flat_map(Partition::records)
    }

    pub(crate) fn stands(&self, sequence: Sequence) -> bool {
        self.partitions.iter().any(|partition| partition.holds(sequence))
    }
}

impl Model for LogToKafka {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let log = Log::default();
        let worker = Worker::new(&log);
        let partitions = vec![Partition::default(); self.size.partitions];
        vec![State { log, worker, wire: Wire::default(), partitions, lives: 0, faults: self.size.faults }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        *actions = self.work(state);
        if actions.is_empty() {
            let left = state.partitions.iter().map(|partition| partition.records().collect());
            self.left.lock().unwrap_or_else(PoisonError::into_inner).extend(left);
        }
        if state.faults > 0 {
            self.faults(state, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        state.faults -= u8::from(action.is_fault());
        let worker = &mut state.worker;
        match action {
            Action::Append => state.log.durable += 1,
            Action::ReadBack => self.read_back(&mut state),
            Action::WaitUntilQuiet => {
                if let Doubt::Since { quiet, .. } = &mut worker.doubt {
                    *quiet = Quiet::Since;
                }
                if self.protocol != Protocol::LateRequest {
                    state.wire.die_out();
                }
            }
            Action::ReachDoubtLimit => {
                if let Doubt::Since { through, .. } = worker.doubt {
                    let standing = Standing::give_up(worker.window.acknowledged, through);
                    self.begin(&mut state, standing);
                }
            }
            Action::HandOver => self.hand_over(worker)?,
            Action::Send(partition) => {
                let producer = &mut worker.flow.as_mut()?.producer;
                let (request, connection) = (producer.send(partition), producer.connection(partition));
                state.wire.put(vec![request], connection);
            }
            Action::Deliver(on_wire) => state.arrive(&on_wire, |partition| partition.take(&on_wire.request)),
            Action::Replicate(partition) => state.partitions[partition].replicate(),
            Action::Report(partition) => self.report(&mut state, partition)?,
            Action::KeepCursor => self.keep(&mut state, Beyond::Maybe),
            Action::AskForEnds => {
                let ends = state.ends();
                let flow = state.worker.flow.as_mut()?;
                flow.ends = Ends::Told(ends);
            }
            Action::TakeOverEnds => {
                worker.take_over_ends();
                if let (Protocol::EndsAtOnce, Some((through, _))) = (self.protocol, &mut worker.mark) {
                    *through = worker.window.acknowledged;
                }
            }
            Action::Stop => {
                let beyond = if worker.is_clean() { Beyond::Nothing } else { Beyond::Maybe };
                self.keep(&mut state, beyond);
                state.start_again();
            }
            Action::Kill => state.start_again(),
            Action::SendAgain(partition) => state.send_again(partition),
            Action::Refuse(on_wire) => state.arrive(&on_wire, |_| Answer::Refused),
            Action::ChangeLeader(partition) => {
                state.partitions[partition].change_leader();
                state.send_again(partition);
            }
            Action::ForgetProducers(partition) => state.partitions[partition].forget_producers(),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}
