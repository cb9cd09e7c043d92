//! Where commands arrive: each is recognised, claimed, judged, and given to its device's worker, or refused.

mod arrivals;
mod endings;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use asset_stream::command::status::State;
use edge_buffer::Log;
use edge_mirror::commands::{Follower, Incoming, Places, Record};
use gateway::Closed;
use service::error::chain;
use service::fail_point::Fuse;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::claiming::Claiming;
use super::config::Config;
use super::fail_point;
use super::index::{Index, Name};
use super::memory::{self, Memory};
use super::policy::Policy;
use super::teller::Teller;
use super::worker::{Job, Step, Work, Worker};
use super::{Counters, Kafka};
use arrivals::Open;

/// Records on their way from the topic.
const INCOMING: usize = 64;
/// How often is looked for what is overdue.
const TICK: Duration = Duration::from_secs(1);
/// A claim that was not seen by then is made again.
const CLAIM_AGAIN: Duration = Duration::from_secs(10);
/// How often what is known is kept in the file.
const KEEP: Duration = Duration::from_secs(60);
/// How long after the topic is followed again a command of an earlier life may take to be read again.
const LOST: Duration = Duration::from_secs(60);

/// Who this edge is to others that serve the same asset.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) edge: String,
    pub(crate) epoch: u64,
    /// When this life began, Unix ms.
    pub(crate) since: i64,
}

/// What the desk is told from outside.
pub(crate) enum Order {
    /// Devices, rules or the way to Kafka have changed.
    Exchange {
        /// The rules.
        config: Config,
        /// `None`: there is no Kafka.
        kafka: Option<Kafka>,
        /// By asset.
        devices: HashMap<Arc<str>, Work>,
    },
    /// Keep what is known and end; answered when that is done.
    Stop(oneshot::Sender<()>),
}

/// The desk's state.
pub(crate) struct Desk {
    identity: Identity,
    file: PathBuf,
    log: Log,
    teller: Arc<Teller>,
    counters: Arc<Counters>,
    fuse: Arc<Fuse>,
    config: Config,
    policy: Policy,
    index: Index,
    /// Commands of the index whose state is not on disk yet: they are not kept.
    fresh: HashSet<Name>,
    places: Places,
    has_holes: bool,
    /// Commands whose claim was not seen yet.
    claiming: Claiming,
    /// Where the records of commands without an end stand.
    records: HashMap<Name, (i32, i64)>,
    /// Commands of an earlier life that were not read again yet.
    earlier: BTreeMap<Name, State>,
    lines: HashMap<Arc<str>, Line>,
    /// Workers of devices that were taken out of the config: they end when they have told so to what waited.
    leaving: Vec<AbortOnDropHandle<()>>,
    /// Steps on their way to the disk that nobody waits for here.
    asides: JoinSet<()>,
    follower: Option<Follower>,
    follows_since: Option<Instant>,
    steps: mpsc::UnboundedSender<Step>,
    heard: mpsc::UnboundedReceiver<Step>,
    stop: CancellationToken,
    /// Something is known that is not kept.
    is_new: bool,
}

/// A device's worker, from outside.
struct Line {
    work: watch::Sender<Work>,
    jobs: mpsc::Sender<Job>,
    leave: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Desk {
    pub(crate) fn new(
        identity: Identity,
        file: PathBuf,
        log: Log,
        teller: Arc<Teller>,
        memory: Memory,
        counters: Arc<Counters>,
        stop: CancellationToken,
    ) -> Self {
        // Each command has a few steps, and there are never more commands at work than have a place.
        let (steps, heard) = mpsc::unbounded_channel();
        let Memory { index, places, has_holes, .. } = memory;
        let earlier = index.open().map(|(name, _, state)| (name.clone(), state)).collect();
        let config = Config::default();
        Self {
            identity,
            file,
            log,
            teller,
            counters,
            fuse: Arc::new(Fuse::from_environment("commands", &fail_point::ALL)),
            policy: Policy::new(&config),
            config,
            index,
            fresh: HashSet::new(),
            places,
            has_holes,
            claiming: Claiming::default(),
            records: HashMap::new(),
            earlier,
            lines: HashMap::new(),
            leaving: Vec::new(),
            asides: JoinSet::new(),
            follower: None,
            follows_since: None,
            steps,
            heard,
            stop,
            is_new: false,
        }
    }

    /// Works until it is told to stop, or the log is closed.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        // One for each way to Kafka: what the one before still says is of no interest. Of the first, the sender is dropped.
        let (_, mut incoming) = mpsc::channel(1);
        let mut tick = tokio::time::interval(TICK);
        let mut kept = Instant::now();
        // Devices and rules come first: without them everything would be passed over.
        let mut order = orders.recv().await;
        loop {
            match order.take() {
                None => {}
                Some(Order::Stop(done)) => {
                    self.end().await;
                    // Whoever waited has given up.
                    done.send(()).ok();
                    return;
                }
                Some(Order::Exchange { config, kafka, devices }) => {
                    if let Some(changed) = self.exchange(config, kafka, devices) {
                        incoming = changed;
                    }
                }
            }
            let done = tokio::select! {
                next = orders.recv() => {
                    if next.is_none() {
                        return;
                    }
                    order = next;
                    Ok(())
                }
                Some(step) = self.heard.recv() => {
                    self.step(step);
                    Ok(())
                }
                Some(incoming) = incoming.recv() => self.take(incoming).await,
                _ = tick.tick() => self.look().await,
            };
            if kept.elapsed() >= KEEP && self.is_new {
                self.keep().await;
                kept = Instant::now();
            }
            self.counters.waiting.store(self.records.len() as u64, Ordering::Relaxed);
            if done.is_err() {
                // The log is closed: the edge stops, or has failed and says so itself.
                return;
            }
        }
    }

    /// Keeps what is known; workers end first.
    async fn end(&mut self) {
        self.follower = None;
        self.stop.cancel();
        for (_, line) in std::mem::take(&mut self.lines) {
            drop(line.jobs);
            if let Err(failure) = line.task.await {
                warn!(%failure, "a worker of commands failed");
            }
        }
        while let Ok(step) = self.heard.try_recv() {
            self.step(step);
        }
        self.keep().await;
    }

    /// Gives the channel of a new way to Kafka.
    fn exchange(&mut self, config: Config, kafka: Option<Kafka>, mut devices: HashMap<Arc<str>, Work>) -> Option<mpsc::Receiver<Incoming>> {
        // Also where it is the same: keys may be others in the same files.
        self.policy.renew(&config);
        self.config = config;
        for (asset, line) in std::mem::take(&mut self.lines) {
            match devices.remove(&asset) {
                Some(work) => {
                    line.work.send_replace(work);
                    self.lines.insert(asset, line);
                }
                None => {
                    // The worker tells those that wait, and ends when it has.
                    line.leave.cancel();
                    self.leaving.push(line.task);
                }
            }
        }
        self.leaving.retain(|task| !task.is_finished());
        for (asset, work) in devices {
            let line = self.line(work);
            self.lines.insert(asset, line);
        }
        let assets = self.lines.keys().cloned().collect();
        let mut changed = None;
        match (kafka, &self.follower) {
            (Some(Kafka::Same), Some(follower)) => follower.serve(assets),
            (Some(Kafka::Same), None) => {}
            (Some(Kafka::New(mirror)), _) => {
                let (incoming, taken) = mpsc::channel(INCOMING);
                self.follower = None;
                self.follows_since = None;
                // They are read again on this way, and if it leads elsewhere, they are not there.
                for name in self.claiming.clear() {
                    self.records.remove(&name);
                }
                match Follower::start(&mirror, &self.config.topic, assets, self.places.kept(), incoming) {
                    Ok(follower) => (self.follower, changed) = (Some(follower), Some(taken)),
                    Err(error) => {
                        warn!(error = chain(&error), "commands cannot be followed; nothing is executed until the next start")
                    }
                }
            }
            (None, _) => self.follower = None,
        }
        self.counters.follower(self.follower.as_ref().map(Follower::state));
        changed
    }

    fn line(&self, work: Work) -> Line {
        let (work, watched) = watch::channel(work);
        let (jobs, taken) = mpsc::channel(self.config.queue);
        let leave = CancellationToken::new();
        let worker = Worker {
            work: watched,
            jobs: taken,
            teller: self.teller.clone(),
            steps: self.steps.clone(),
            stop: self.stop.clone(),
            leave: leave.clone(),
            fuse: self.fuse.clone(),
        };
        Line { work, jobs, leave, task: AbortOnDropHandle::new(tokio::spawn(worker.run())) }
    }

    /// A step of a worker is on disk.
    fn step(&mut self, Step { name, state, ticket }: Step) {
        self.is_new = true;
        self.fresh.remove(&name);
        self.index.note_state(&name, state);
        self.teller.heard(ticket);
        self.counters.count(state);
        if state.is_end() {
            self.done(&name);
        }
    }

    /// Nothing more will come of the command: its record need not be read again.
    fn done(&mut self, name: &Name) {
        if let Some((partition, offset)) = self.records.remove(name) {
            self.places.done(partition, offset);
        }
    }

    async fn take(&mut self, incoming: Incoming) -> Result<(), Closed> {
        self.is_new = true;
        match incoming {
            Incoming::Follows { cluster } => {
                self.places.cluster = cluster.or(self.places.cluster.take());
                self.places.topic.clone_from(&self.config.topic);
                self.follows_since = Some(Instant::now());
                Ok(())
            }
            Incoming::Missed { partition, from, to } => {
                // The follower has said it in the journal.
                debug!(partition, from, to, "commands were missed");
                self.counters.missed.fetch_add(1, Ordering::Relaxed);
                self.places.restart(partition, to);
                Ok(())
            }
            Incoming::Record(record) => self.record(record).await,
        }
    }

    async fn record(&mut self, record: Record) -> Result<(), Closed> {
        let (partition, offset) = (record.partition, record.offset);
        self.places.read(partition, offset);
        let is_open = self.recognise(record).await?;
        if is_open == Open::No {
            self.places.done(partition, offset);
        }
        Ok(())
    }

    /// What is overdue.
    async fn look(&mut self) -> Result<(), Closed> {
        self.counters.follower(self.follower.as_ref().map(Follower::state));
        while self.asides.try_join_next().is_some() {}
        let mut again = Vec::new();
        for (name, pending) in self.claiming.overdue(CLAIM_AGAIN) {
            pending.asked = Instant::now();
            again.push(name.clone());
        }
        for name in again {
            if let Some(pending) = self.claiming.get(&name) {
                self.claim(&name, pending);
            }
        }
        let is_lost = self.follows_since.is_some_and(|since| since.elapsed() >= LOST);
        let given_up: Vec<(Name, State)> = self
            .earlier
            .iter()
            .filter(|(name, state)| is_lost || (**state == State::Executing && !self.can_be_confirmed(name)))
            .map(|(name, state)| (name.clone(), *state))
            .collect();
        for (name, state) in given_up {
            self.earlier.remove(&name);
            let method = self.index.get(&name).map(|entry| entry.method.clone()).unwrap_or_default();
            self.give_up(name, method, state).await?;
        }
        self.index.tidy(Timestamp::now().millis());
        Ok(())
    }

    fn can_be_confirmed(&self, name: &Name) -> bool {
        let Some((line, entry)) = self.lines.get(&name.asset).zip(self.index.get(name)) else { return false };
        line.work.borrow().terms.of(&entry.method).is_some_and(|term| term.confirm.is_some())
    }

    async fn keep(&mut self) {
        self.is_new = false;
        let (covers, chain) = self.teller.covered();
        let (places, commands) = (self.places.kept(), self.index.entries());
        let commands: Vec<_> = commands.into_iter().filter(|(name, _)| !self.fresh.contains(name)).collect();
        let (file, epoch) = (self.file.clone(), self.log.epoch());
        let kept = tokio::task::spawn_blocking(move || memory::keep(&file, epoch, covers, chain, places, commands)).await;
        match kept {
            Ok(Ok(())) => self.fuse.reached(fail_point::KEPT),
            Ok(Err(error)) => {
                warn!(error = format!("{error:#}"), "what is known of commands cannot be kept; the next start reads the log for it")
            }
            Err(failure) => warn!(%failure, "what is known of commands cannot be kept"),
        }
    }
}
