//! Where commands arrive: each is recognised, claimed, judged, and given to its device's worker, or refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use asset_stream::command::claim::Claim;
use asset_stream::command::signature::canonical_bytes;
use asset_stream::command::status::{Reason, State, Status};
use asset_stream::command::{self, Command, NotACommand};
use asset_stream::{Event, Timestamp};
use edge_buffer::Log;
use edge_mirror::commands::{Follower, Incoming, Places, Record};
use gateway::{Closed, Refusal, Request};
use service::error::chain;
use service::fail_point::Fuse;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::config::Config;
use super::fail_point;
use super::index::{Entry, Index, Known, Name};
use super::judgement::{self, Verdict};
use super::memory::{self, Memory};
use super::policy::Policy;
use super::teller::{Teller, Told};
use super::worker::{Job, Stage, Step, Work, Worker};
use super::{Counters, Kafka};

/// Records on their way from the topic.
const INCOMING: usize = 256;
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
    claiming: HashMap<Name, Pending>,
    /// Where the records of commands without an end stand.
    records: HashMap<Name, (i32, i64)>,
    /// Commands of an earlier life that were not read again yet.
    earlier: BTreeMap<Name, State>,
    lines: HashMap<Arc<str>, Line>,
    follower: Option<Follower>,
    follows_since: Option<Instant>,
    steps: mpsc::UnboundedSender<Step>,
    heard: mpsc::UnboundedReceiver<Step>,
    stop: CancellationToken,
    /// Something is known that is not kept.
    is_new: bool,
}

/// A command that is to be claimed.
struct Pending {
    record: Record,
    method: String,
    command: Result<Command, NotACommand>,
    asked: Instant,
}

/// A device's worker, from outside.
struct Line {
    work: watch::Sender<Work>,
    jobs: mpsc::Sender<Job>,
    leave: CancellationToken,
    task: tokio::task::JoinHandle<()>,
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
            claiming: HashMap::new(),
            records: HashMap::new(),
            earlier,
            lines: HashMap::new(),
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
        loop {
            let done = tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None => return,
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
                        Ok(())
                    }
                },
                Some(step) = self.heard.recv() => {
                    self.step(step);
                    Ok(())
                }
                Some(incoming) = incoming.recv() => self.take(incoming).await,
                _ = tick.tick() => {
                    let done = self.look().await;
                    if kept.elapsed() >= KEEP && self.is_new {
                        self.keep().await;
                        kept = Instant::now();
                    }
                    done
                }
            };
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
        if config != self.config {
            // Rates begin anew with another config.
            self.policy = Policy::new(&config);
        }
        self.config = config;
        self.lines.retain(|asset, line| match devices.remove(asset) {
            Some(work) => {
                line.work.send_replace(work);
                true
            }
            None => {
                // The worker tells those that wait, and ends when it has.
                line.leave.cancel();
                false
            }
        });
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
                // What was claimed on another way is claimed again on this one.
                self.claiming.values_mut().for_each(|pending| pending.asked = Instant::now());
                match Follower::start(&mirror, &self.config.topic, assets, self.places.kept(), incoming) {
                    Ok(follower) => (self.follower, changed) = (Some(follower), Some(taken)),
                    Err(error) => {
                        warn!(error = chain(&error), "commands cannot be followed; nothing is executed until the next reload or start")
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
        Line { work, jobs, leave, task: tokio::spawn(worker.run()) }
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

    async fn recognise(&mut self, record: Record) -> Result<Open, Closed> {
        if !self.lines.contains_key(&record.key) {
            return Ok(Open::No);
        }
        let Ok(event) = Event::decode(&record.value) else {
            warn!(asset = %record.key, partition = record.partition, offset = record.offset, "a record among the commands is no event; it is passed over");
            return Ok(Open::No);
        };
        if let Some(claim) = Claim::from_event(&event) {
            return match claim {
                Ok(claim) => self.claimed(&record, claim).await.map(|()| Open::No),
                Err(_) => Ok(Open::No),
            };
        }
        let Some(method) = command::method_of(&event.id).map(str::to_owned) else { return Ok(Open::No) };
        let command = match Command::from_event(&event) {
            Err(NotACommand::Announcement) => return Ok(Open::No),
            Ok((_, command)) => Ok(command),
            Err(why) => Err(why),
        };
        let name = self.name(&record, &command);
        let digest = command.as_ref().ok().map(|command| digest(&record.key, &method, command));
        match self.index.get(&name).map(|entry| (entry.known, entry.digest)) {
            Some((Known::Told(state), known)) => {
                if self.earlier.remove(&name).is_some() {
                    self.resume(name, state, Pending { record, method, command, asked: Instant::now() }).await?;
                    return Ok(Open::Yes);
                }
                if known.is_some() && digest.is_some() && known != digest {
                    let detail = "this sender has used the correlation id for another command before";
                    let refusal = Refusal { reason: Reason::IdUsedTwice, detail: detail.into() };
                    self.tell_aside(&name, &method, refusal).await?;
                }
                self.counters.repeats.fetch_add(1, Ordering::Relaxed);
                Ok(Open::No)
            }
            Some((Known::Claimed, _)) => Ok(Open::No),
            None if self.claiming.contains_key(&name) => {
                self.counters.repeats.fetch_add(1, Ordering::Relaxed);
                Ok(Open::No)
            }
            None => {
                let pending = Pending { record, method, command, asked: Instant::now() };
                self.claim(&name, &pending);
                self.records.insert(name.clone(), (pending.record.partition, pending.record.offset));
                self.claiming.insert(name, pending);
                Ok(Open::Yes)
            }
        }
    }

    fn name(&self, record: &Record, command: &Result<Command, NotACommand>) -> Name {
        let (sender, id) = match command {
            Ok(command) => (command.header.sender_uuid.clone(), command.header.correlation_id.clone()),
            Err(_) => (String::new(), format!("{}:{}:{}", self.config.topic, record.partition, record.offset)),
        };
        Name { asset: record.key.clone(), sender, id }
    }

    fn claim(&self, name: &Name, Pending { record, method, .. }: &Pending) {
        let Identity { edge, epoch, since } = &self.identity;
        let claim = Claim {
            correlation_id: name.id.clone(),
            sender_uuid: name.sender.clone(),
            offset: record.offset,
            edge: edge.clone(),
            epoch: *epoch,
            since: *since,
        };
        let mut value = Vec::with_capacity(256);
        claim.to_sample(record.key.clone(), method, Timestamp::now()).encode(&mut value);
        if let Some(follower) = &self.follower {
            follower.claim(record.partition, &record.key, &value);
        }
        self.fuse.reached(fail_point::CLAIMED);
    }

    /// A claim was read. The first of a command counts.
    async fn claimed(&mut self, record: &Record, claim: Claim) -> Result<(), Closed> {
        let name = Name { asset: record.key.clone(), sender: claim.sender_uuid, id: claim.correlation_id };
        let is_ours = claim.edge == self.identity.edge && claim.epoch == self.identity.epoch;
        let Some(pending) = self.claiming.remove(&name) else {
            if self.index.get(&name).is_none() && !is_ours {
                self.remember(name, String::new(), Known::Claimed, None);
            }
            return Ok(());
        };
        if !is_ours {
            info!(asset = %name.asset, id = %name.id, edge = %claim.edge, "another edge, or an earlier log of this one, has the command");
            self.remember(name.clone(), pending.method, Known::Claimed, None);
            self.done(&name);
            return Ok(());
        }
        let is_earlier = claim.since != self.identity.since;
        self.judge(name, pending, is_earlier && self.has_holes).await
    }

    fn remember(&mut self, name: Name, method: String, known: Known, digest: Option<u64>) {
        let until = Timestamp::now().millis() + self.remember_ms();
        self.index.note(name, Entry { known, method, digest, until });
    }

    fn remember_ms(&self) -> i64 {
        i64::try_from(self.config.longest_deadline.as_millis()).unwrap_or(i64::MAX / 4)
    }

    /// The command is this edge's to handle. `may_be_done`: an earlier life has claimed it, and what became of it is lost with a part of the log.
    async fn judge(&mut self, name: Name, pending: Pending, may_be_done: bool) -> Result<(), Closed> {
        let Pending { record, method, command, .. } = pending;
        let digest = command.as_ref().ok().map(|command| digest(&record.key, &method, command));
        let deadline = command.as_ref().map_or(Ok(0), |command| judgement::deadline(command, &self.config));
        let now = Timestamp::now();
        if may_be_done {
            // If it is too late by now, its end was most likely told long ago.
            let refusal = Refusal {
                reason: Reason::EdgeCrashed,
                detail: "an earlier life of the edge claimed it, and what became of it is lost with a part of the log".into(),
            };
            if deadline.as_ref().is_ok_and(|deadline| now.millis() < *deadline) {
                return self.refuse(name, method, digest, State::Unknown, refusal).await;
            }
            self.remember(name.clone(), method, Known::Claimed, digest);
            self.done(&name);
            return Ok(());
        }
        let verdict = match (&command, self.lines.get(&record.key)) {
            (_, None) => Verdict::Refuse(
                State::Rejected,
                Refusal { reason: Reason::UnknownAsset, detail: "the device was taken out of the edge's config".into() },
            ),
            (_, Some(_)) if self.index.is_full() => Verdict::Refuse(
                State::Rejected,
                Refusal { reason: Reason::QueueFull, detail: "the edge can remember no more commands whose time is not over".into() },
            ),
            (Err(why), Some(_)) => Verdict::Refuse(State::Rejected, Refusal { reason: Reason::Malformed, detail: chain(why) }),
            (Ok(command), Some(line)) => {
                let work = line.work.borrow().clone();
                judgement::judge(&record.key, &method, command, deadline, &mut self.policy, &self.config, &work)
            }
        };
        let place = match (&verdict, self.lines.get(&record.key)) {
            (Verdict::Accept { .. }, Some(line)) => line.jobs.clone().try_reserve_owned().ok(),
            _ => None,
        };
        match (verdict, place) {
            (Verdict::Accept { request, deadline }, Some(place)) => {
                self.fresh.insert(name.clone());
                self.remember(name.clone(), method, Known::Told(State::Accepted), digest);
                let status = Status::new(&*name.sender, &*name.id, State::Accepted, now);
                let told = self.teller.tell(&name.asset, &request.method, status.clone()).await?;
                place.send(Job { name, request, deadline, stage: Stage::New(told, status) });
                Ok(())
            }
            (Verdict::Accept { .. }, None) => {
                let detail = format!("{} commands wait for the device already, which is as many as are kept", self.config.queue);
                self.refuse(name, method, digest, State::Rejected, Refusal { reason: Reason::QueueFull, detail }).await
            }
            (Verdict::Refuse(state, refusal), _) => self.refuse(name, method, digest, state, refusal).await,
        }
    }

    async fn refuse(&mut self, name: Name, method: String, digest: Option<u64>, state: State, refusal: Refusal) -> Result<(), Closed> {
        self.fresh.insert(name.clone());
        self.remember(name.clone(), method.clone(), Known::Told(state), digest);
        let status = Status {
            reason: Some(refusal.reason),
            detail: Some(refusal.detail),
            ..Status::new(&*name.sender, &*name.id, state, Timestamp::now())
        };
        warn!(asset = %name.asset, %method, id = %name.id, sender = %name.sender, detail = status.detail.as_deref().unwrap_or_default(), "command {state}");
        let told = self.teller.tell(&name.asset, &method, status.clone()).await?;
        self.wait_aside(name, method, status, told);
        Ok(())
    }

    /// Rejects another command under the name of one that is known, of which that changes nothing.
    async fn tell_aside(&self, name: &Name, method: &str, refusal: Refusal) -> Result<(), Closed> {
        let Refusal { reason, detail } = refusal;
        let status = Status {
            reason: Some(reason),
            detail: Some(detail),
            ..Status::new(&*name.sender, &*name.id, State::Rejected, Timestamp::now())
        };
        let told = self.teller.tell(&name.asset, method, status.clone()).await?;
        let (teller, asset, method) = (self.teller.clone(), name.asset.clone(), method.to_owned());
        tokio::spawn(async move {
            if let Ok(ticket) = teller.durable(told, &asset, &method, &status).await {
                teller.heard(ticket);
            }
        });
        Ok(())
    }

    /// The desk does not wait for the disk: other commands may be urgent.
    fn wait_aside(&self, name: Name, method: String, status: Status, told: Told) {
        let (teller, steps) = (self.teller.clone(), self.steps.clone());
        tokio::spawn(async move {
            if let Ok(ticket) = teller.durable(told, &name.asset, &method, &status).await {
                // Without a reader the edge has stopped, and its next life reads the log.
                steps.send(Step { name, state: status.state, ticket }).ok();
            }
        });
    }

    /// Goes on with a command of an earlier life that was read again.
    async fn resume(&mut self, name: Name, state: State, pending: Pending) -> Result<(), Closed> {
        let Pending { record, method, command, .. } = pending;
        self.records.insert(name.clone(), (record.partition, record.offset));
        let (Ok(command), Some(line)) = (command, self.lines.get(&record.key)) else {
            return self.give_up(name, method, state).await;
        };
        let deadline = judgement::deadline(&command, &self.config).unwrap_or_default();
        let stage = if state == State::Executing { Stage::InDoubt } else { Stage::Accepted };
        let job = Job { name, request: Request { method, arguments: command.arguments }, deadline, stage };
        let jobs = line.jobs.clone();
        // There were never more of them than have a place, but the config may have changed.
        if jobs.send(job).await.is_err() {
            warn!("a worker of commands has ended");
        }
        Ok(())
    }

    /// What is overdue.
    async fn look(&mut self) -> Result<(), Closed> {
        self.counters.follower(self.follower.as_ref().map(Follower::state));
        let again: Vec<Name> =
            self.claiming.iter().filter(|(_, pending)| pending.asked.elapsed() >= CLAIM_AGAIN).map(|(name, _)| name.clone()).collect();
        for name in again {
            if let Some(pending) = self.claiming.get(&name) {
                self.claim(&name, pending);
            }
            if let Some(pending) = self.claiming.get_mut(&name) {
                pending.asked = Instant::now();
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

    /// Ends a command of an earlier life that cannot be gone on with.
    async fn give_up(&mut self, name: Name, method: String, state: State) -> Result<(), Closed> {
        let (state, reason, detail) = if state == State::Executing {
            (State::Unknown, Reason::EdgeCrashed, "the edge ended while the device was asked; nothing tells whether it was done")
        } else {
            (State::Expired, Reason::WaitedTooLong, "the edge ended while it waited, and it cannot be read again")
        };
        self.refuse(name, method, None, state, Refusal { reason, detail: detail.into() }).await
    }

    async fn keep(&mut self) {
        self.is_new = false;
        let covers = self.teller.covered();
        let (chain, places, commands) = (self.teller.chain().await, self.places.kept(), self.index.entries());
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

/// Whether a record may have to be read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Yes,
    No,
}

/// What a command asks for, in a number.
fn digest(asset: &str, method: &str, command: &Command) -> u64 {
    let hash = Sha256::digest(canonical_bytes(asset, method, command));
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
