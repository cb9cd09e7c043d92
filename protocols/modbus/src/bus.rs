//! One connection, one task, one question at a time, however many devices share it.
//!
//! Invariants:
//! - A question is asked only over a connection on which every earlier question was answered. After a timeout, a broken or a wrong
//!   answer the connection is dropped. Where answers do not name their question (RTU), the new connection is listened to until the
//!   device's settle time is over, and what comes is thrown away, before anything is asked.
//! - The task owns the question: a gateway that stops waiting leaves the connection in step.
//! - Each device has at most one question waiting, and they are asked in turn.
//! - Waiting for silent devices takes at most their `silent_share` of the time, once a few timeouts are used up, while another device
//!   of the connection answers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use asset_stream::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, debug, info_span};

use crate::config::{Config, Endpoint, Sharing, Timing};
use crate::connect::{Connection, Opening, Payload};
use crate::error::Error;
use crate::types::Span;

/// Devices that can have a question waiting before the next has to wait for a place.
const WAITING: usize = 64;

/// Timeouts in a row that silent devices may use up before their share of the time counts.
const ALLOWANCE: u32 = 3;

/// An endpoint that could not be opened is not tried again for each of its devices in turn.
const REFUSED_FOR: Duration = Duration::from_millis(500);

/// The connections of an edge: create it once, and clone it for each gateway. Devices with the same endpoint share its connection.
#[derive(Clone, Debug, Default)]
pub struct Buses(Arc<Mutex<HashMap<Key, Weak<Shared>>>>);

/// What makes two endpoints the same connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Tcp(String, u16, Sharing),
    Serial(String),
}

/// What the devices of one endpoint share.
#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    name: Arc<str>,
    asks: Mutex<Option<mpsc::WeakSender<Ask>>>,
    members: Arc<Members>,
}

impl Buses {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The endpoint of a device, shared with all devices that name the same one.
    pub(crate) fn lease(&self, config: &Config) -> Result<Lease, Error> {
        let endpoint = &config.endpoint;
        let key = match endpoint {
            Endpoint::Tcp { host, port, sharing, .. } => Key::Tcp(host.to_lowercase(), *port, sharing.clone()),
            Endpoint::Serial(line) => Key::Serial(line.port.clone()),
        };
        let mut buses = lock(&self.0);
        buses.retain(|_, shared| shared.strong_count() > 0);
        if let Some(shared) = buses.get(&key).and_then(Weak::upgrade) {
            return match contradiction(&shared.endpoint, endpoint) {
                Some(error) => Err(error),
                None => Ok(Lease(shared)),
            };
        }
        let name = endpoint.to_string().into();
        let shared = Arc::new(Shared { endpoint: endpoint.clone(), name, asks: Mutex::default(), members: Arc::default() });
        buses.insert(key, Arc::downgrade(&shared));
        Ok(Lease(shared))
    }
}

fn contradiction(known: &Endpoint, wanted: &Endpoint) -> Option<Error> {
    match (known, wanted) {
        (Endpoint::Serial(known), Endpoint::Serial(wanted)) if known != wanted => {
            Some(Error::Contradiction { wanted: wanted.to_string(), known: known.to_string() })
        }
        (Endpoint::Tcp { framing: known, .. }, Endpoint::Tcp { framing, .. }) if known != framing => {
            Some(Error::Contradiction { wanted: format!("{wanted} (framing {framing:?})"), known: format!("framing {known:?}") })
        }
        _ => None,
    }
}

/// A device's right to its endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Lease(Arc<Shared>);

impl Lease {
    /// Joins the task that serves the endpoint, starting it if nobody has. It ends with its last member.
    pub(crate) fn join(&self) -> Member {
        let shared = &self.0;
        let mut asks = lock(&shared.asks);
        let running = asks.as_ref().and_then(mpsc::WeakSender::upgrade).filter(|sender| !sender.is_closed());
        let sender = running.unwrap_or_else(|| {
            let (sender, receiver) = mpsc::channel(WAITING);
            *asks = Some(sender.downgrade());
            let bus = Bus::new(shared.endpoint.clone(), shared.name.clone(), shared.members.clone());
            let span = info_span!(parent: None, "modbus", endpoint = %shared.name);
            tokio::spawn(bus.run(receiver).instrument(span));
            sender
        });
        let id = shared.members.enter();
        Member { id, sender, members: shared.members.clone(), endpoint: shared.name.clone(), opened: shared.members.opened.subscribe() }
    }
}

/// A device at work on its endpoint.
pub(crate) struct Member {
    id: u64,
    sender: mpsc::Sender<Ask>,
    members: Arc<Members>,
    endpoint: Arc<str>,
    opened: watch::Receiver<u64>,
}

/// What a device answered, and when.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) payload: Payload,
    pub(crate) at: Timestamp,
}

impl Member {
    /// Asks when it is this device's turn. Cancel safe.
    pub(crate) async fn ask(&self, unit: u8, span: Span, timing: &Timing) -> Result<Answer, Error> {
        let stopped = || Error::Stopped { endpoint: self.endpoint.clone() };
        let (reply, answer) = oneshot::channel();
        let ask = Ask { member: self.id, unit, span, timing: *timing, reply };
        self.sender.send(ask).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Waits until the endpoint is opened anew, by whichever device. Cancel safe.
    pub(crate) async fn reopened(&mut self) {
        if self.opened.changed().await.is_err() {
            // The members outlive this one; should they not, nothing will ever be opened.
            std::future::pending::<()>().await;
        }
    }

    /// Forgets earlier openings.
    pub(crate) fn forget_openings(&mut self) {
        self.opened.mark_unchanged();
    }

    /// Whether the task that serves the endpoint has ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.members.leave(self.id);
    }
}

/// Who shares an endpoint, and whether they answer.
#[derive(Debug, Default)]
struct Members {
    ids: AtomicU64,
    standing: Mutex<HashMap<u64, Standing>>,
    opened: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It answered last time, or was not asked yet.
    Answers,
    /// It let the last question time out.
    Silent,
}

impl Members {
    fn enter(&self) -> u64 {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        lock(&self.standing).insert(id, Standing::Answers);
        id
    }

    fn leave(&self, id: u64) {
        lock(&self.standing).remove(&id);
    }

    fn note(&self, id: u64, standing: Standing) {
        // One that left meanwhile stays away.
        if let Some(known) = lock(&self.standing).get_mut(&id) {
            *known = standing;
        }
    }

    /// Whether waiting for this silent device takes time from one that answers.
    fn harms_others(&self, id: u64) -> bool {
        let standing = lock(&self.standing);
        standing.get(&id) == Some(&Standing::Silent) && standing.values().any(|other| *other == Standing::Answers)
    }
}

/// A question and where its answer goes.
struct Ask {
    member: u64,
    unit: u8,
    span: Span,
    timing: Timing,
    reply: oneshot::Sender<Result<Answer, Error>>,
}

impl Ask {
    /// How long the device has: its timeout, and what the bytes need on a serial line.
    fn limit(&self, endpoint: &Endpoint) -> Duration {
        let Endpoint::Serial(line) = endpoint else { return self.timing.timeout };
        let count = u32::from(self.span.count());
        let answer = if self.span.table().holds_bits() { count.div_ceil(8) } else { count * 2 };
        self.timing.timeout + line.transfer_time(8 + 5 + answer)
    }
}

/// The task that serves one endpoint.
struct Bus {
    endpoint: Endpoint,
    name: Arc<str>,
    members: Arc<Members>,
    connection: Option<Connection>,
    /// RTU: until then an answer may come that nobody waits for.
    settle_until: Option<Instant>,
    /// The last question or answer.
    spoken: Instant,
    /// Why the endpoint could not be opened, and how long that counts.
    refused: Option<(Instant, Error)>,
    patience: Patience,
    /// Questions of silent devices that wait for their share of the time; at most one a member.
    parked: VecDeque<Ask>,
}

impl Bus {
    fn new(endpoint: Endpoint, name: Arc<str>, members: Arc<Members>) -> Self {
        let now = Instant::now();
        let (patience, parked) = (Patience { used_up: now, allowance: Duration::ZERO }, VecDeque::new());
        Self { endpoint, name, members, connection: None, settle_until: None, spoken: now, refused: None, patience, parked }
    }

    async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        while let Some(ask) = self.next(&mut asks).await {
            // A gateway that was stopped while it waited.
            if ask.reply.is_closed() {
                continue;
            }
            let answer = self.answer(&ask).await;
            // Likewise; the connection is in step all the same.
            drop(ask.reply.send(answer));
        }
    }

    /// The next question: a silent device's if its share allows it, else the first that waits. `None`: no device is left.
    async fn next(&mut self, asks: &mut mpsc::Receiver<Ask>) -> Option<Ask> {
        loop {
            let now = Instant::now();
            self.parked.retain(|ask| !ask.reply.is_closed());
            let first = self.parked.front().map(|ask| match self.members.harms_others(ask.member) {
                true => self.patience.next_try(),
                false => now,
            });
            if first.is_some_and(|at| at <= now) {
                return self.parked.pop_front();
            }
            let ask = tokio::select! {
                ask = asks.recv() => ask?,
                () = sleep_until(first.unwrap_or(now)), if first.is_some() => continue,
            };
            match self.members.harms_others(ask.member) && self.patience.next_try() > Instant::now() {
                true => self.parked.push_back(ask),
                false => return Some(ask),
            }
        }
    }

    async fn answer(&mut self, ask: &Ask) -> Result<Answer, Error> {
        let began = Instant::now();
        let used = self.connection.as_ref().is_some_and(|connection| connection.answered > 0);
        let mut answer = self.ask_once(ask).await;
        // A device may close a connection that was idle: the first question after that finds out, and is not to blame.
        if used && matches!(answer, Err(Error::Disconnected { .. })) {
            answer = self.ask_once(ask).await;
        }
        match &mut answer {
            Ok(_) | Err(Error::Refused { .. }) => self.members.note(ask.member, Standing::Answers),
            Err(Error::Timeout { late_bytes, .. }) => {
                self.members.note(ask.member, Standing::Silent);
                *late_bytes = self.settle(ask).await;
                self.patience.spend(began.elapsed(), ask.timing.silent_share);
            }
            Err(Error::Garbled { .. }) => {
                self.settle(ask).await;
            }
            Err(_) => {}
        }
        answer
    }

    /// Where a late answer could be mistaken for the next one, waits for it now. Returns how many bytes came.
    async fn settle(&mut self, ask: &Ask) -> usize {
        if !self.endpoint.is_rtu() {
            return 0;
        }
        self.settle_until = Some(Instant::now() + ask.timing.settle_time);
        // Should the endpoint not open, the next question settles first.
        self.open(ask.timing.connect_timeout).await.unwrap_or(0)
    }

    async fn ask_once(&mut self, ask: &Ask) -> Result<Answer, Error> {
        if self.connection.is_none() {
            self.open(ask.timing.connect_timeout).await?;
        }
        let silence = match &self.endpoint {
            Endpoint::Serial(line) => line.silence(),
            Endpoint::Tcp { .. } => Duration::ZERO,
        };
        sleep_until(self.spoken + silence.max(ask.timing.request_delay)).await;
        // Taken out, so that whatever ends this call early ends the connection too.
        let Some(mut connection) = self.connection.take() else { return Err(Error::Stopped { endpoint: self.name.clone() }) };
        let limit = ask.limit(&self.endpoint);
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
    async fn open(&mut self, timeout: Duration) -> Result<usize, Error> {
        match &self.refused {
            Some((until, error)) if *until > Instant::now() => return Err(error.clone()),
            _ => self.refused = None,
        }
        self.connection = None;
        let opening = Opening { endpoint: &self.endpoint, name: &self.name, timeout, settle_until: self.settle_until };
        match opening.open().await {
            Ok((connection, thrown)) => {
                debug!(thrown, "opened");
                self.connection = Some(connection);
                self.settle_until = None;
                self.members.opened.send_modify(|count| *count += 1);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these locks; if it did, what they guard is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
