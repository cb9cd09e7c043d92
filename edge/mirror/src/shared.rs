//! What the mirror's threads and its handle share: the status, when to stop, and mailboxes from one thread to another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use edge_buffer::Log;
use tracing::{info, warn};

use crate::status::{Facts, State, Status};

/// What the journal knows this message by; its catalog explains it.
const MIRROR_STATE: &str = "3d49b412daa64ce4b892e1cbbc15bd8b";

/// An outage this long is worth a warning; and another one after each such step times twelve.
const LONG: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
struct Changing {
    status: Status,
    since: Option<Instant>,
    warned_at: Duration,
    has_said: String,
}

#[derive(Debug, Default)]
struct Stopping {
    deadline: Option<Instant>,
    is_abandoned: bool,
}

/// Log ends on their way to the mirror's own thread.
#[derive(Debug, Default)]
struct Mailbox {
    /// Counts the lives of producers; those before the first one began have number 0.
    life: u64,
    ends: Option<Vec<(i32, i64)>>,
}

/// What the mirror's threads and its handle share.
#[derive(Debug)]
pub(crate) struct Shared {
    log: Log,
    turns: AtomicU64,
    superseded: AtomicBool,
    /// The log is known not to be an older copy.
    current: AtomicBool,
    /// A producer lives, so there are reports to take and a cursor to keep.
    flowing: AtomicBool,
    changing: Mutex<Changing>,
    stopping: Mutex<Stopping>,
    facts: Mutex<Facts>,
    ends: Mutex<Mailbox>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of these locks; if it did, the fields are still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(log: Log) -> Self {
        Self {
            log,
            turns: AtomicU64::default(),
            superseded: AtomicBool::default(),
            current: AtomicBool::default(),
            flowing: AtomicBool::default(),
            changing: Mutex::default(),
            stopping: Mutex::default(),
            facts: Mutex::default(),
            ends: Mutex::default(),
        }
    }

    pub(crate) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(crate) fn status(&self) -> Status {
        let mut status = lock(&self.changing).status.clone();
        // Of this very moment: events that were durable before the question are acknowledged, or in the backlog.
        status.backlog = self.log.durable().saturating_sub(status.acknowledged);
        if status.backlog == 0 {
            (status.oldest_unsent, status.eta) = (None, None);
        }
        status
    }

    /// Changes figures, not the state.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.changing).status);
    }

    /// Enters a state, and says so in the log: once for a change, again when trouble lasts.
    pub(crate) fn enter(&self, state: State, sentence: impl Into<String>) {
        let sentence = sentence.into();
        // Giving way is for good; the other thread may not have noticed yet.
        if self.is_superseded() && state != State::Superseded {
            return;
        }
        let mut changing = lock(&self.changing);
        let before = changing.status.state;
        let lasted = changing.since.map(|since| since.elapsed()).unwrap_or_default();
        if before != state || changing.since.is_none() {
            if state.is_trouble() {
                info!(state = state.as_str(), message_id = MIRROR_STATE, "{sentence}");
            } else if before.is_trouble() {
                info!(state = state.as_str(), after = ?lasted, message_id = MIRROR_STATE, "{sentence}");
            } else {
                tracing::debug!(state = state.as_str(), "{sentence}");
            }
            // Trouble of another kind is still the same outage, and so is the reading back that follows it.
            if !(before.is_trouble() && (state.is_trouble() || state == State::ReadingBack)) {
                (changing.since, changing.warned_at) = (Some(Instant::now()), Duration::ZERO);
            }
            changing.has_said.clone_from(&sentence);
        } else if state.is_trouble() && lasted > LONG && (changing.warned_at.is_zero() || lasted > changing.warned_at * 12) {
            warn!(state = state.as_str(), lasts = ?lasted, message_id = MIRROR_STATE, "{sentence}");
            changing.warned_at = lasted;
        } else if state.is_trouble() && changing.has_said != sentence {
            tracing::debug!(state = state.as_str(), "{sentence}");
            changing.has_said.clone_from(&sentence);
        }
        changing.status.state = state;
        changing.status.sentence = sentence;
    }

    pub(crate) fn failed(&self, text: impl Into<String>) {
        lock(&self.changing).status.last_error = Some((text.into(), Timestamp::now().millis()));
    }

    pub(crate) fn set_superseded(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    pub(crate) fn set_current(&self) {
        self.current.store(true, Ordering::Release);
    }

    pub(crate) fn is_current(&self) -> bool {
        self.current.load(Ordering::Acquire)
    }

    /// Asks all threads to end; the cursor is kept, and reports are waited for until `deadline`.
    pub(crate) fn stop(&self, deadline: Instant) {
        lock(&self.stopping).deadline = Some(deadline);
    }

    /// Asks all threads to end as if the process had been killed: nothing is kept.
    pub(crate) fn abandon(&self) {
        let mut stopping = lock(&self.stopping);
        stopping.is_abandoned = true;
        stopping.deadline = stopping.deadline.or(Some(Instant::now()));
    }

    pub(crate) fn stop_deadline(&self) -> Option<Instant> {
        lock(&self.stopping).deadline
    }

    pub(crate) fn is_stopping(&self) -> bool {
        lock(&self.stopping).deadline.is_some()
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.stopping).is_abandoned
    }

    pub(crate) fn set_facts(&self, facts: Facts) {
        *lock(&self.facts) = facts;
    }

    pub(crate) fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// Another producer begins to live: ends that were asked for before may be those of a topic that is gone.
    pub(crate) fn begin_life(&self) {
        self.flowing.store(true, Ordering::Release);
        let mut mailbox = lock(&self.ends);
        *mailbox = Mailbox { life: mailbox.life + 1, ends: None };
    }

    /// The producer has ended, and what it left is kept.
    pub(crate) fn end_life(&self) {
        self.flowing.store(false, Ordering::Release);
    }

    pub(crate) fn is_flowing(&self) -> bool {
        self.flowing.load(Ordering::Acquire)
    }

    /// To be read before ends are asked for.
    pub(crate) fn life(&self) -> u64 {
        lock(&self.ends).life
    }

    pub(crate) fn put_ends(&self, asked_in: u64, ends: Vec<(i32, i64)>) {
        let mut mailbox = lock(&self.ends);
        if mailbox.life == asked_in {
            mailbox.ends = Some(ends);
        }
    }

    pub(crate) fn take_ends(&self) -> Option<Vec<(i32, i64)>> {
        lock(&self.ends).ends.take()
    }
}
