//! Who shares which connection. The task that serves it is in [`crate::serve`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use asset_stream::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Instrument, info_span};

use crate::config::{Config, Endpoint, Sharing, Timing};
use crate::connect::Payload;
use crate::errand::{Ask, Errand, Question, Turn, Unwritten};
use crate::error::Error;
use crate::serve::Bus;
use crate::types::Span;
use crate::write::Write;

/// Devices that can have a question waiting before the next has to wait for a place.
const WAITING: usize = 64;

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
    doors: Mutex<Option<(mpsc::WeakSender<Ask>, mpsc::WeakSender<Ask>)>>,
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
        let lease = Lease::alone(endpoint);
        buses.insert(key, Arc::downgrade(&lease.0));
        Ok(lease)
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
    /// An endpoint that no other device knows of.
    pub(crate) fn alone(endpoint: &Endpoint) -> Self {
        let name = endpoint.to_string().into();
        Self(Arc::new(Shared { endpoint: endpoint.clone(), name, doors: Mutex::default(), members: Arc::default() }))
    }

    /// Joins the task that serves the endpoint, starting it if nobody has. It ends with its last member.
    pub(crate) fn join(&self) -> Member {
        let shared = &self.0;
        let mut doors = lock(&shared.doors);
        let upgrade = |(polls, commands): &(mpsc::WeakSender<Ask>, mpsc::WeakSender<Ask>)| Some((polls.upgrade()?, commands.upgrade()?));
        let running = doors.as_ref().and_then(upgrade).filter(|(polls, _)| !polls.is_closed());
        let (polls, commands) = running.unwrap_or_else(|| {
            let ((polls, waiting), (commands, urgent)) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
            *doors = Some((polls.downgrade(), commands.downgrade()));
            let bus = Bus::new(shared.endpoint.clone(), shared.name.clone(), shared.members.clone());
            let span = info_span!(parent: None, "modbus", endpoint = %shared.name);
            tokio::spawn(bus.run(Waiting { polls: waiting, commands: urgent }).instrument(span));
            (polls, commands)
        });
        let asker = Asker { id: shared.members.enter(), polls, commands, endpoint: shared.name.clone() };
        Member { asker, members: shared.members.clone(), opened: shared.members.opened.subscribe() }
    }
}

/// What waits for its turn on an endpoint.
pub(crate) struct Waiting {
    pub(crate) polls: mpsc::Receiver<Ask>,
    /// Goes before polls: few, and somebody waits for them.
    pub(crate) commands: mpsc::Receiver<Ask>,
}

/// A device at work on its endpoint.
pub(crate) struct Member {
    asker: Asker,
    members: Arc<Members>,
    opened: watch::Receiver<u64>,
}

/// A device's way to ask, also for commands while it is polled.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    id: u64,
    polls: mpsc::Sender<Ask>,
    commands: mpsc::Sender<Ask>,
    endpoint: Arc<str>,
}

/// What a device answered, and when.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) payload: Payload,
    pub(crate) at: Timestamp,
}

impl Asker {
    /// Reads before any poll that waits. Cancel safe.
    pub(crate) async fn read(&self, unit: u8, span: Span, timing: &Timing) -> Result<Answer, Error> {
        self.ask(&self.commands, unit, span, timing).await
    }

    async fn ask(&self, door: &mpsc::Sender<Ask>, unit: u8, span: Span, timing: &Timing) -> Result<Answer, Error> {
        let stopped = || Error::Stopped { endpoint: self.endpoint.clone() };
        let (reply, answer) = oneshot::channel();
        let question = Question { member: self.id, unit, span, timing: *timing };
        door.send(Ask { question, errand: Errand::Read(reply) }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Writes once, when it is its turn; with `turn` it can be taken back until then. Whoever stops waiting does not know what becomes of it.
    pub(crate) async fn write(&self, unit: u8, write: Write, turn: Turn, timing: &Timing) -> Result<(), Unwritten> {
        let stopped = || Error::Stopped { endpoint: self.endpoint.clone() };
        let (reply, written) = oneshot::channel();
        let question = Question { member: self.id, unit, span: write.span(), timing: *timing };
        let ask = Ask { question, errand: Errand::Write(write, turn.clone(), reply) };
        self.commands.send(ask).await.map_err(|_| Unwritten::NotSent(stopped()))?;
        match written.await {
            Ok(written) => written,
            Err(_) if turn.take() => Err(Unwritten::NotSent(stopped())),
            Err(_) => Err(Unwritten::Sent(stopped())),
        }
    }
}

impl Member {
    /// Asks when it is this device's turn. Cancel safe.
    pub(crate) async fn ask(&self, unit: u8, span: Span, timing: &Timing) -> Result<Answer, Error> {
        self.asker.ask(&self.asker.polls, unit, span, timing).await
    }

    /// The way to ask for commands; it goes with this.
    pub(crate) fn asker(&self) -> Asker {
        self.asker.clone()
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
        self.asker.polls.is_closed()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.members.leave(self.asker.id);
    }
}

/// Who shares an endpoint, and whether they answer.
#[derive(Debug, Default)]
pub(crate) struct Members {
    ids: AtomicU64,
    standing: Mutex<HashMap<u64, Standing>>,
    opened: watch::Sender<u64>,
}

/// How a device stands since its last answer.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Questions that it let time out, or garbled.
    unanswered: u32,
    /// So many are bad luck; more are silence.
    bad_luck: u32,
}

impl Standing {
    fn is_silent(self) -> bool {
        self.unanswered > self.bad_luck
    }
}

impl Members {
    fn enter(&self) -> u64 {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        lock(&self.standing).insert(id, Standing::default());
        id
    }

    fn leave(&self, id: u64) {
        lock(&self.standing).remove(&id);
    }

    /// It answered.
    pub(crate) fn note_answer(&self, id: u64) {
        self.note(id, |_| Standing::default());
    }

    /// It did not. Its retries, and asking it for something else, are not held back yet.
    pub(crate) fn note_silence(&self, id: u64, retries: u32) {
        self.note(id, |known| Standing { unanswered: known.unanswered.saturating_add(1), bad_luck: retries + 1 });
    }

    fn note(&self, id: u64, change: impl FnOnce(Standing) -> Standing) {
        // One that left meanwhile stays away.
        if let Some(known) = lock(&self.standing).get_mut(&id) {
            *known = change(*known);
        }
    }

    /// Questions in a row that it did not answer.
    pub(crate) fn unanswered(&self, id: u64) -> u32 {
        lock(&self.standing).get(&id).map_or(0, |standing| standing.unanswered)
    }

    /// Wakes the devices that wait for the endpoint to be opened.
    pub(crate) fn tell_opened(&self) {
        self.opened.send_modify(|count| *count += 1);
    }

    /// Whether waiting for this silent device takes time from one that answers.
    pub(crate) fn harms_others(&self, id: u64) -> bool {
        let standing = lock(&self.standing);
        standing.get(&id).is_some_and(|own| own.is_silent()) && standing.values().any(|other| !other.is_silent())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these locks; if it did, what they guard is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
