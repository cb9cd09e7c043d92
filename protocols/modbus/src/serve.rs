//! One connection, one task, one question at a time, however many devices share it.
//!
//! Invariants:
//! - A question is asked only over a connection on which every earlier question was answered. After a timeout, a broken or a wrong
//!   answer the connection is dropped.
//! - Where answers do not name their question (RTU), a new connection is listened to for the device's settle time, and what comes is
//!   thrown away, before anything is asked: a question of before, or of the process before this one, may still be answered.
//! - There, the first answer of a unit that let a question go unanswered is thrown away too, and asked for again when the line has
//!   settled: it may belong to the older question.
//! - The task owns the question: a gateway that stops waiting leaves the connection in step.
//! - Each device has at most one poll waiting, and they are asked in turn. What commands need goes before them.
//! - A write is sent once. It is sent over a connection that has just answered, to a unit that owes no answer: where that is not so, its
//!   registers are read first. So a connection that the device has closed, or a late answer, costs a read and leaves no doubt.
//! - Waiting for silent devices takes at most their `silent_share` of the time, once a few timeouts are used up, while another device
//!   of the connection answers. A device counts as silent when its retries went unanswered too: a lost frame holds nobody back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use asset_stream::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::bus::{Answer, Members, Waiting};
use crate::config::{Endpoint, Timing};
use crate::connect::{Connection, Opening, Payload};
use crate::errand::{Ask, Errand, Question, Unwritten};
use crate::error::{Error, Remedy};
use crate::write::{Ready, Write};

/// Timeouts that silent devices may use up before their share of the time counts.
const ALLOWANCE: u32 = 3;

/// Settle times after which a unit is not expected to answer an old question any more.
const LONGEST_DEBT: u32 = 4;

/// An endpoint that could not be opened is not tried again for each of its devices in turn.
const REFUSED_FOR: Duration = Duration::from_millis(500);

/// A write is sent over a connection that answered so short a time ago; devices close idle ones much later.
const PROVEN_FOR: Duration = Duration::from_secs(1);

/// The task that serves one endpoint.
pub(crate) struct Bus {
    endpoint: Endpoint,
    name: Arc<str>,
    members: Arc<Members>,
    connection: Option<Connection>,
    /// RTU: until then an answer may come that nobody waits for.
    settle_until: Option<Instant>,
    /// RTU: since when a unit owes an answer, which may still come.
    owed: HashMap<u8, Instant>,
    /// The last question or answer.
    spoken: Instant,
    /// Why the endpoint could not be opened, and how long that counts.
    refused: Option<(Instant, Error)>,
    patience: Patience,
    /// Questions of silent devices that wait for their share of the time; at most one a member.
    parked: VecDeque<Ask>,
}

impl Bus {
    pub(crate) fn new(endpoint: Endpoint, name: Arc<str>, members: Arc<Members>) -> Self {
        let now = Instant::now();
        Self {
            endpoint,
            name,
            members,
            connection: None,
            settle_until: None,
            owed: HashMap::new(),
            spoken: now,
            refused: None,
            patience: Patience { used_up: now, allowance: Duration::ZERO },
            parked: VecDeque::new(),
        }
    }

    pub(crate) async fn run(mut self, mut asks: Waiting) {
        while let Some(ask) = self.next(&mut asks).await {
            // A gateway that was stopped while it waited.
            if ask.is_abandoned() {
                continue;
            }
            // Likewise where an answer is not taken; the connection is in step all the same.
            match ask.errand {
                Errand::Read(reply) => drop(reply.send(self.answer(&ask.question).await)),
                Errand::Write(write, turn, reply) if turn.take() => drop(reply.send(self.write(&ask.question, &write).await)),
                Errand::Write(..) => {}
            }
        }
    }

    /// The next question: a silent device's if its share allows it, else the first that waits. `None`: no device is left.
    async fn next(&mut self, asks: &mut Waiting) -> Option<Ask> {
        loop {
            let now = Instant::now();
            self.parked.retain(|ask| !ask.is_abandoned());
            // The one that has been silent for the fewest questions is the likeliest to be back; as it is asked, others come before it.
            let likeliest = (0..self.parked.len()).min_by_key(|i| self.members.unanswered(self.parked[*i].question.member));
            let first = likeliest.map(|i| match self.members.harms_others(self.parked[i].question.member) {
                true => self.patience.next_try(),
                false => now,
            });
            if let (Some(i), Some(at)) = (likeliest, first)
                && at <= now
            {
                return self.parked.remove(i);
            }
            let ask = tokio::select! {
                biased;
                Some(ask) = asks.commands.recv() => ask,
                ask = asks.polls.recv() => ask?,
                () = sleep_until(first.unwrap_or(now)), if first.is_some() => continue,
            };
            match self.members.harms_others(ask.question.member) && self.patience.next_try() > Instant::now() {
                true => self.parked.push_back(ask),
                false => return Some(ask),
            }
        }
    }

    async fn answer(&mut self, ask: &Question) -> Result<Answer, Error> {
        let began = Instant::now();
        let used = self.connection.as_ref().is_some_and(|connection| connection.answered > 0);
        let mut answer = self.ask_once(ask).await;
        // A device may close a connection that was idle: the first question after that finds out, and is not to blame.
        if used && matches!(answer, Err(Error::Disconnected { .. })) {
            answer = self.ask_once(ask).await;
        }
        if matches!(answer, Ok(_) | Err(Error::Refused { .. }))
            && let Some(since) = self.owed.remove(&ask.unit)
        {
            debug!(unit = ask.unit, "the first answer after a silence may belong to an older question: asked again");
            // If the unit is that slow, what else it owes may take as long; but one that was off for an hour owes nothing.
            let settle = ask.timing.settle_time;
            self.settle(ask, since.elapsed().clamp(settle, settle * LONGEST_DEBT)).await;
            answer = self.ask_once(ask).await;
        }
        self.note(ask, began, answer.as_mut().map(drop)).await;
        answer
    }

    /// Draws the conclusions from an answer, or from none.
    async fn note(&mut self, ask: &Question, began: Instant, answer: Result<(), &mut Error>) {
        match answer {
            Ok(()) | Err(Error::Refused { .. }) => self.members.note_answer(ask.member),
            Err(error @ (Error::Timeout { .. } | Error::Garbled { .. })) => {
                self.members.note_silence(ask.member, ask.timing.retries);
                let late = self.settle(ask, ask.timing.settle_time).await;
                if let Error::Timeout { late_bytes, .. } = error {
                    *late_bytes = late;
                }
                if self.endpoint.is_rtu() {
                    self.owed.entry(ask.unit).or_insert(began);
                }
                self.patience.spend(began.elapsed(), ask.timing.silent_share);
            }
            Err(_) => {}
        }
    }

    /// Writes, once, when the connection and the unit have shown that they are in step.
    async fn write(&mut self, ask: &Question, write: &Write) -> Result<(), Unwritten> {
        let mut read = Vec::new();
        if matches!(write, Write::Modify { .. }) || !self.is_proven(ask.unit) {
            match self.answer(ask).await {
                Ok(Answer { payload: Payload::Registers(registers), .. }) => read = registers,
                Ok(_) => {}
                // It answers, and there may be registers that can only be written.
                Err(Error::Refused { exception, .. }) if matches!(write, Write::Ready(_)) && exception.remedy() != Remedy::Reconnect => {}
                Err(error) => return Err(Unwritten::NotSent(error)),
            }
        }
        let stopped = Unwritten::NotSent(Error::Stopped { endpoint: self.name.clone() });
        let Some(ready) = write.with(Some(&read)) else { return Err(stopped) };
        sleep_until(self.rested(&ask.timing)).await;
        // Taken out, as for a question.
        let Some(mut connection) = self.connection.take() else { return Err(stopped) };
        let began = Instant::now();
        let mut written = self.write_once(&mut connection, ask, &ready).await;
        if matches!(written, Ok(()) | Err(Error::Refused { .. })) {
            self.connection = Some(connection);
        }
        self.note(ask, began, written.as_mut().map(drop)).await;
        written.map_err(Unwritten::Sent)
    }

    async fn write_once(&mut self, connection: &mut Connection, ask: &Question, ready: &Ready) -> Result<(), Error> {
        let (endpoint, unit, limit) = (self.name.clone(), ask.unit, self.limit(&ask.timing, ready.bytes()));
        let written = timeout(limit, connection.write(unit, ready)).await;
        self.spoken = Instant::now();
        written.unwrap_or(Err(Error::Timeout { endpoint, unit, timeout: limit, late_bytes: 0 }))
    }

    /// Whether a request would surely reach the unit now, and the next answer would be its own.
    fn is_proven(&self, unit: u8) -> bool {
        let has_answered = self.connection.as_ref().is_some_and(|connection| connection.answered > 0);
        has_answered && self.spoken.elapsed() < PROVEN_FOR && !self.owed.contains_key(&unit)
    }

    /// How long a device has: its timeout, and what the bytes need on a serial line.
    fn limit(&self, timing: &Timing, bytes: u32) -> Duration {
        match &self.endpoint {
            Endpoint::Serial(line) => timing.timeout + line.transfer_time(bytes),
            Endpoint::Tcp { .. } => timing.timeout,
        }
    }

    /// When the pause between two requests is over.
    fn rested(&self, timing: &Timing) -> Instant {
        let silence = match &self.endpoint {
            Endpoint::Serial(line) => line.silence(),
            Endpoint::Tcp { .. } => Duration::ZERO,
        };
        self.spoken + silence.max(timing.request_delay)
    }

    /// Where a late answer could be mistaken for the next one, waits for it now. Returns how many bytes came.
    async fn settle(&mut self, ask: &Question, time: Duration) -> usize {
        if !self.endpoint.is_rtu() {
            return 0;
        }
        self.settle_until = Some(Instant::now() + time);
        // Should the endpoint not open, the next question settles first.
        self.open(&ask.timing).await.unwrap_or(0)
    }

    async fn ask_once(&mut self, ask: &Question) -> Result<Answer, Error> {
        if self.connection.is_none() {
            self.open(&ask.timing).await?;
        }
        sleep_until(self.rested(&ask.timing)).await;
        // Taken out, so that whatever ends this call early ends the connection too.
        let Some(mut connection) = self.connection.take() else { return Err(Error::Stopped { endpoint: self.name.clone() }) };
        let limit = self.limit(&ask.timing, ask.bytes());
        let payload = timeout(limit, connection.ask(ask.unit, ask.span)).await;
        let at = Timestamp::now();
        self.spoken = Instant::now();
        let (endpoint, unit) = (self.name.clone(), ask.unit);
        let payload = payload.unwrap_or(Err(Error::Timeout { endpoint, unit, timeout: limit, late_bytes: 0 }));
        if matches!(payload, Ok(_) | Err(Error::Refused { .. })) {
            self.connection = Some(connection);
        }
        payload.map(|payload| Answer { payload, at })
    }

    /// Opens the endpoint anew and settles it. Returns how many bytes were thrown away.
    async fn open(&mut self, timing: &Timing) -> Result<usize, Error> {
        match &self.refused {
            Some((until, error)) if *until > Instant::now() => return Err(error.clone()),
            _ => self.refused = None,
        }
        self.connection = None;
        if self.endpoint.is_rtu() {
            self.settle_until.get_or_insert_with(|| Instant::now() + timing.settle_time);
        }
        let (endpoint, name, settle_until) = (&self.endpoint, &self.name, self.settle_until);
        let opening = Opening { endpoint, name, timeout: timing.connect_timeout, settle_until };
        match opening.open().await {
            Ok((connection, thrown)) => {
                debug!(thrown, "opened");
                self.connection = Some(connection);
                self.settle_until = None;
                self.members.tell_opened();
                Ok(thrown)
            }
            Err(error) => {
                self.refused = Some((Instant::now() + REFUSED_FOR, error.clone()));
                Err(error)
            }
        }
    }
}

/// How much of the time went into waiting for silent devices: a leaky bucket whose unit is the time in which a wait is made good.
struct Patience {
    /// When everything spent so far is made good.
    used_up: Instant,
    /// How far ahead of now that may lie.
    allowance: Duration,
}

impl Patience {
    fn spend(&mut self, waited: Duration, share: f64) {
        let made_good = waited.div_f64(share.clamp(0.001, 1.0));
        self.used_up = self.used_up.max(Instant::now()) + made_good;
        self.allowance = made_good * ALLOWANCE;
    }

    /// When the next silent device may be waited for.
    fn next_try(&self) -> Instant {
        self.used_up.checked_sub(self.allowance).unwrap_or(self.used_up)
    }
}
