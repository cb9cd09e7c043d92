//! The mirror's own thread: finds Kafka, settles doubt, then lets events flow, again and again.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_buffer::{Arrivals, Cursor, Log};
use service::error::chain;
use service::fail_point::Fuse;
use tracing::info;

use crate::admin::{self, Limits};
use crate::class::{Class, Failure};
use crate::client::drop_aside;
use crate::ends::Mark;
use crate::fail_point;
use crate::note::{Note, Place};
use crate::reading::Ours;
use crate::shared::Shared;
use crate::status::State;
use crate::times::Times;
use crate::topic_client::TopicClient;
use crate::window::Window;
use crate::{Config, CreateTopics};

/// The smallest pause after a failure.
const PAUSE: Duration = Duration::from_millis(250);
/// The largest pause after a failure that may pass by itself.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// The pause after a refusal that somebody has to lift.
const DENIED_PAUSE: Duration = Duration::from_secs(30);
/// How often the figures of the status are renewed.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Waiting is interrupted this often, to see whether it is time to end.
const NAP: Duration = Duration::from_millis(50);
/// The name of the mirror's producer.
pub(crate) const ROLE: &str = "mirror";
/// Under backlog, batches are this large before compression.
pub(crate) const BATCH: usize = 1_000_000;

/// What may stand in Kafka beyond the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing.
    None,
    /// Events up to `through` were handed over, or may have been; what is under way of them has died out at `quiet_at`.
    Since { through: u64, quiet_at: Instant },
    /// The log has events, but no cursor: as a rule nothing was ever sent.
    NoCursor,
}

/// What can stand in Kafka beyond the cursor that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// The next process need not read back.
    Nothing,
    Maybe,
}

/// The topic as it was found before a producer starts.
#[derive(Debug)]
pub(crate) struct TopicFacts {
    pub(crate) cluster: String,
    pub(crate) partitions: Vec<i32>,
    pub(crate) ends: Vec<(i32, i64)>,
    pub(crate) limits: Limits,
}

pub(crate) struct Worker {
    pub(crate) config: Arc<Config>,
    pub(crate) log: Log,
    pub(crate) shared: Arc<Shared>,
    pub(crate) window: Window,
    pub(crate) note: Option<Note>,
    pub(crate) doubt: Doubt,
    pub(crate) mark: Option<Mark>,
    /// What Kafka took after the log had dropped it, and the log does not know yet.
    pub(crate) arrivals: Arrivals,
    /// Events that were in a batch that Kafka refused: each is sent alone, to find the culprit.
    pub(crate) suspects: BTreeSet<u64>,
    pub(crate) times: Times,
    /// Records refused since the last one that was taken.
    pub(crate) refused_in_a_row: u32,
    pub(crate) batch_bytes: usize,
    pub(crate) kept: (u64, Instant),
    pub(crate) fuse: Fuse,
    measured_at: Cell<Instant>,
    client: Option<TopicClient>,
    /// How long the next client waits for an answer.
    answer_limit: Duration,
    pause: Duration,
}

impl Worker {
    pub(crate) fn new(config: Arc<Config>, log: Log, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let cursor = log.cursor(Cursor::MIRROR);
        let sequence = cursor.as_ref().map_or(0, |cursor| cursor.sequence);
        let note = cursor.as_ref().and_then(|cursor| Note::decode(&cursor.note));
        let durable = log.durable();
        let doubt = match &note {
            _ if durable <= sequence => Doubt::None,
            Some(note) if note.clean => Doubt::None,
            None if cursor.is_none() => Doubt::NoCursor,
            // The process before us is dead (it held the log's lock), but what it sent may still be under way.
            _ => Doubt::Since { through: durable, quiet_at: now + config.request_timeout },
        };
        let worker = Self {
            answer_limit: TopicClient::short_limit(&config),
            config,
            log,
            shared,
            window: Window::new(sequence),
            note,
            doubt,
            mark: None,
            arrivals: Arrivals::default(),
            suspects: BTreeSet::new(),
            times: Times::default(),
            refused_in_a_row: 0,
            batch_bytes: BATCH,
            kept: (sequence, now),
            fuse: Fuse::from_environment("mirror", &fail_point::ALL),
            measured_at: Cell::new(now),
            client: None,
            pause: PAUSE,
        };
        worker.measure();
        worker
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self) {
        while self.turn() {
            if let Err(failure) = self.session() {
                self.say(&failure);
                if failure.class != Class::Record {
                    let pause =
                        if matches!(failure.class, Class::Denied | Class::Refusals | Class::Outdated) { DENIED_PAUSE } else { self.pause };
                    self.pause = (self.pause * 2).min(LONG_PAUSE);
                    self.wait(pause);
                }
            }
        }
        if let Some(client) = self.client.take() {
            drop_aside(client, Duration::ZERO);
        }
        // Giving way is for good: only being stopped ends it.
        while !self.shared.is_stopping() {
            self.turn();
            std::thread::sleep(NAP);
        }
        self.shared.enter(State::Stopped, "stopped");
    }

    /// From finding Kafka to the end of a producer's life. `Ok`: told to stop, or superseded.
    fn session(&mut self) -> Result<(), Failure> {
        let client = match self.client.take() {
            Some(client) => client,
            None => TopicClient::new(&self.config, "look", self.answer_limit).map_err(|e| Failure::new(Class::Transient, e.to_string()))?,
        };
        let found = match self.check_copy(&client).and_then(|()| self.find_topic(&client)) {
            Ok(Some(found)) => found,
            // The client goes on connecting meanwhile; a new one would begin from the start.
            Ok(None) => return Ok(()),
            Err(failure) => {
                self.client = Some(client);
                return Err(failure);
            }
        };
        let settled = self.compare(&client, &found).and_then(|()| self.settle(&client, &found));
        self.answer_limit = match &settled {
            Err(failure) if failure.class == Class::Stalled => client.longer_limit(),
            _ => TopicClient::short_limit(&self.config),
        };
        drop_aside(client, Duration::ZERO);
        match settled? {
            Some(standing) => self.flow(standing, &found),
            None => Ok(()),
        }
    }

    /// Finds the topic, creating it if it may.
    fn find_topic(&mut self, client: &TopicClient) -> Result<Option<TopicFacts>, Failure> {
        let topic = self.config.assets_topic.clone();
        if !self.turn() {
            return Ok(None);
        }
        let partitions = match client.partitions(&topic) {
            Err(failure) if failure.class == Class::Topic => {
                self.create_topic(&topic)?;
                client.partitions(&topic)?
            }
            found => found?,
        };
        if !self.turn() {
            return Ok(None);
        }
        let cluster = client.cluster().unwrap_or_default();
        self.shared.turn();
        let ends = client.ends(&topic, &partitions)?;
        self.shared.turn();
        let limits = admin::limits(&self.config, &topic)?;
        self.shared.turn();
        self.shared.update(|status| status.cluster = (!cluster.is_empty()).then(|| cluster.clone()));
        Ok(Some(TopicFacts { cluster, partitions, ends, limits }))
    }

    fn create_topic(&self, topic: &str) -> Result<(), Failure> {
        match &self.config.create_topics {
            CreateTopics::Never => Err(Failure::new(Class::Topic, self.config.missing(topic))),
            CreateTopics::Create { partitions, replication, settings } => {
                let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                admin::create(&self.config, topic, *partitions, *replication, &settings)?;
                info!(topic, partitions, replication, "topic created");
                Ok(())
            }
        }
    }

    /// Ends a producer's life on paper: what it had under way is in doubt from now on.
    pub(crate) fn begin_doubt(&mut self, asked_through: u64) {
        let acknowledged = self.window.acknowledged();
        let through = self.window.through().max(asked_through);
        // A range in the window may be settled or lost, not handed over; reading back a little more does no harm.
        self.doubt = if through > acknowledged {
            Doubt::Since { through, quiet_at: Instant::now() + self.config.request_timeout }
        } else {
            Doubt::None
        };
        self.window = Window::new(acknowledged);
        self.shared.update(|status| (status.outstanding, status.rate, status.eta) = (0, 0.0, None));
    }

    /// Keeps cursor and note in the log.
    pub(crate) fn keep(&mut self, beyond: Beyond) -> Result<(), Failure> {
        let Some(note) = &mut self.note else { return Ok(()) };
        if self.shared.is_abandoned() {
            return Ok(());
        }
        note.clean = beyond == Beyond::Nothing;
        let encoded = note.encode();
        let arrivals = std::mem::take(&mut self.arrivals);
        if let Err(failure) = self.tell_arrived(&arrivals) {
            self.arrivals = arrivals;
            return Err(failure);
        }
        let sequence = self.window.acknowledged();
        let cursor = Cursor { sequence, note: encoded };
        // When it was tried: a disk that fails is not asked at every turn.
        self.kept.1 = Instant::now();
        self.log.keep_cursor(Cursor::MIRROR, cursor).map_err(|e| {
            let text = format!("the cursor cannot be kept in the log: {}", chain(&e));
            Failure::new(Class::Transient, text)
        })?;
        self.kept.0 = sequence;
        Ok(())
    }

    /// Tells the log what stands in Kafka although it was dropped, before the cursor passes it: then the loss is final.
    pub(crate) fn tell_arrived(&self, arrivals: &Arrivals) -> Result<(), Failure> {
        if arrivals.is_empty() {
            return Ok(());
        }
        let failed = |e| Failure::new(Class::Transient, format!("what arrived cannot be noted in the log: {}", chain(&e)));
        self.log.arrived(arrivals).map_err(failed)
    }

    /// The note for this cluster and topic; a new one where there is none.
    pub(crate) fn note_for(&mut self, found: &TopicFacts) -> &mut Note {
        let topic = &self.config.assets_topic;
        self.note.get_or_insert_with(|| Note::new(found.cluster.clone(), topic.clone()))
    }

    pub(crate) fn ours(&self) -> Ours {
        Ours { topic: self.config.assets_topic.clone(), edge_id: self.config.edge_id.clone(), epoch: self.log.epoch() }
    }

    /// Counts a turn of the loop, and measures now and then; false when it is time to end.
    pub(crate) fn turn(&self) -> bool {
        self.shared.turn();
        if self.measured_at.get().elapsed() >= MEASURE_EVERY {
            self.measure();
        }
        !self.shared.is_stopping() && !self.shared.is_superseded()
    }

    /// Waits, turning; ends early when it is time to end.
    pub(crate) fn wait(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while self.turn() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }

    /// A producer took and reported something: the next failure is a new one.
    pub(crate) fn things_went_well(&mut self) {
        self.pause = PAUSE;
        self.refused_in_a_row = 0;
    }

    fn say(&self, failure: &Failure) {
        let (state, text) = match failure.class {
            Class::Topic => (State::NoTopic, failure.text.clone()),
            Class::Denied => (State::Denied, format!("{}; tried again every {} s", failure.text, DENIED_PAUSE.as_secs())),
            Class::Refusals => (State::Refused, format!("{}; tried again every {} s", failure.text, DENIED_PAUSE.as_secs())),
            Class::Time => (State::Refused, failure.text.clone()),
            Class::Outdated => (State::Outdated, failure.text.clone()),
            Class::Record | Class::Neighbour => (State::ReadingBack, failure.text.clone()),
            Class::Transient | Class::Stalled => {
                (State::Unreachable, format!("{}; events are kept on disk and tried for ever", failure.text))
            }
        };
        self.shared.failed(&failure.text);
        self.shared.enter(state, text);
    }

    /// Figures that move even while nothing is sent.
    pub(crate) fn measure(&self) {
        self.measured_at.set(Instant::now());
        let oldest = self.window.oldest().or(self.log.stats().oldest_unacknowledged);
        self.shared.update(|status| {
            status.acknowledged = self.window.acknowledged();
            status.oldest_unsent = oldest;
            status.outstanding = self.window.waiting() as u64;
        });
    }

    /// Where each partition must be read from, as far as it is known.
    pub(crate) fn places(&self) -> BTreeMap<i32, Place> {
        self.note.as_ref().map(|note| note.partitions.clone()).unwrap_or_default()
    }
}
