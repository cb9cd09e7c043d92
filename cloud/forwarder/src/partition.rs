//! One partition at work: records in, messages out to the lanes, and the prefix of what is done.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rdkafka::error::RDKafkaErrorCode;
use service::error::chain;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::budget::{Bell, Budget, Held};
use crate::config::{Cluster, Forward, Route};
use crate::consumer::BATCH;
use crate::dead_letters::{DeadLetters, Form};
use crate::lane::{Lane, Memory, Outcome};
use crate::message::{self, Outgoing};
use crate::prefix::Prefix;
use crate::record::{Batch, Record};
use crate::repeats::Repeats;
use crate::ring::Ring;
use crate::status::{Board, Counters, LaneName, Trouble};

/// Assets in one generation of the memory of repeats.
const REMEMBERED: usize = 50_000;
/// Between two tries to write a dead letter.
const RETRY: Duration = Duration::from_millis(500);
/// Dead letters are logged at this pace; each of them says why in its headers.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// How long a stopping partition waits for dead letters under way.
const LAST_BURIALS: Duration = Duration::from_secs(1);

/// What all partitions share.
pub(crate) struct Setup {
    pub(crate) forward: Forward,
    pub(crate) clusters: BTreeMap<String, Arc<Cluster>>,
    pub(crate) ring: Ring,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) board: Arc<Board>,
}

/// What a partition's task and the Kafka thread both see.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Next offset to be committed; negative until the first record is done.
    position: AtomicI64,
    pub(crate) budget: Budget,
    ended: AtomicBool,
}

impl Shared {
    pub(crate) fn new(forward: &Forward, bell: Arc<Bell>) -> Self {
        let bytes = usize::try_from(forward.in_flight_bytes).unwrap_or(usize::MAX);
        Self {
            position: AtomicI64::new(-1),
            budget: Budget::new(Held { records: forward.in_flight, bytes }, bell),
            ended: AtomicBool::new(false),
        }
    }

    /// The offset to be committed.
    pub(crate) fn position(&self) -> Option<i64> {
        Some(self.position.load(Ordering::Acquire)).filter(|position| *position >= 0)
    }

    /// `true` when the task is gone and [`Self::position`] is final.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

type Burial = BoxFuture<'static, i64>;

/// The task of one partition.
pub(crate) struct Partition {
    topic: Arc<str>,
    route: Arc<Route>,
    setup: Arc<Setup>,
    shared: Arc<Shared>,
    prefix: Prefix,
    repeats: Repeats,
    /// What a record costs of the budget, until it is done.
    costs: HashMap<i64, usize>,
    /// By the cluster's index on the ring.
    lanes: Vec<mpsc::Sender<Vec<Outgoing>>>,
    burials: FuturesUnordered<Burial>,
    /// When the log was told of a dead letter, and how many it was not told of since.
    told: Option<Instant>,
    untold: u64,
}

impl Partition {
    /// Starts the task. It ends when `batches` is closed or `stop` is cancelled, after a last wait for answers under way.
    pub(crate) fn start(
        setup: Arc<Setup>,
        topic: Arc<str>,
        number: i32,
        route: Arc<Route>,
        batches: mpsc::Receiver<Batch>,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Every record of the budget fits into these channels, so neither side ever waits for the other in a circle.
        let capacity = setup.forward.in_flight + BATCH;
        let (outcomes, done) = mpsc::channel(capacity);
        let (mut lanes, mut tasks) = (Vec::new(), JoinSet::new());
        for name in setup.ring.clusters() {
            let (sender, input) = mpsc::channel(capacity);
            lanes.push(sender);
            let lane = Lane {
                name: LaneName { cluster: name.clone(), topic: topic.to_string(), partition: number },
                cluster: setup.clusters.get(name).cloned().unwrap_or_default(),
                route: route.clone(),
                in_flight: setup.forward.in_flight,
                ack_timeout: setup.forward.ack_timeout,
                board: setup.board.clone(),
                input,
                outcomes: outcomes.clone(),
                stop: stop.clone(),
                memory: Memory::default(),
            };
            tasks.spawn(lane.run());
        }
        let partition = Self {
            topic,
            route,
            setup,
            shared,
            prefix: Prefix::default(),
            repeats: Repeats::new(REMEMBERED),
            costs: HashMap::new(),
            lanes,
            burials: FuturesUnordered::new(),
            told: None,
            untold: 0,
        };
        partition.run(batches, done, tasks, stop)
    }

    async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut done: mpsc::Receiver<Vec<Outcome>>,
        mut tasks: JoinSet<()>,
        stop: CancellationToken,
    ) {
        let (mut arrived, mut finished) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // What is done goes first, so that memory is given back before more is taken.
                count = done.recv_many(&mut finished, 64) => {
                    if count == 0 {
                        break;
                    }
                    finished.drain(..).flatten().for_each(|outcome| self.outcome(outcome));
                }
                // A lane ends before it is asked to by a bug alone. This task then ends early, too, and the Kafka thread sees it.
                Some(_) = tasks.join_next() => return,
                Some(offset) = self.burials.next(), if !self.burials.is_empty() => self.buried(offset),
                count = batches.recv_many(&mut arrived, 8) => {
                    if count == 0 {
                        break;
                    }
                    for batch in arrived.drain(..) {
                        self.dispatch(batch).await;
                    }
                }
            }
        }
        stop.cancel();
        self.lanes.clear();
        // The lanes end within their own deadline; what they still hear of counts.
        while tasks.join_next().await.is_some() {}
        while let Ok(outcomes) = done.try_recv() {
            outcomes.into_iter().for_each(|outcome| self.outcome(outcome));
        }
        let last_burials = async {
            while let Some(offset) = self.burials.next().await {
                self.buried(offset);
            }
        };
        tokio::time::timeout(LAST_BURIALS, last_burials).await.ok();
        self.shared.ended.store(true, Ordering::Release);
    }

    async fn dispatch(&mut self, Batch { life, records }: Batch) {
        let now = Timestamp::now();
        let mut bundles: Vec<Vec<Outgoing>> = self.lanes.iter().map(|_| Vec::new()).collect();
        let count = records.len();
        for record in records {
            self.prefix.begin(record.offset);
            self.costs.insert(record.offset, record.cost());
            let record = Arc::new(record);
            match message::outgoing(&record, &self.route, life.as_ref(), now) {
                Err(reason) => self.bury(record, reason),
                Ok(outgoing) if self.is_repeat(&outgoing) => {
                    Counters::add(&self.setup.board.counters.duplicates, 1);
                    self.done(record.offset);
                }
                Ok(outgoing) => bundles[self.setup.ring.index(&outgoing.asset)].push(outgoing),
            }
        }
        Counters::add(&self.setup.board.counters.read, count);
        for (lane, bundle) in self.lanes.iter().zip(bundles) {
            if !bundle.is_empty() {
                // A lane ends only after this task asked it to.
                lane.send(bundle).await.ok();
            }
        }
    }

    fn is_repeat(&mut self, outgoing: &Outgoing) -> bool {
        outgoing.origin.as_ref().is_some_and(|origin| self.repeats.is_repeat(&outgoing.asset, origin))
    }

    fn outcome(&mut self, outcome: Outcome) {
        let counters = &self.setup.board.counters;
        match outcome {
            Outcome::Forwarded(outgoing) => {
                Counters::add(&counters.forwarded, 1);
                self.done(outgoing.record.offset);
            }
            Outcome::Duplicate(outgoing) => {
                Counters::add(&counters.duplicates, 1);
                self.done(outgoing.record.offset);
            }
            Outcome::Impossible(outgoing, reason) => self.bury(outgoing.record, reason),
        }
    }

    /// Puts a record among the dead letters; it is done when Kafka holds it there.
    fn bury(&mut self, record: Arc<Record>, reason: String) {
        let topic = self.route.dead_letter_topic.as_ref().unwrap_or(&self.setup.forward.dead_letter_topic).clone();
        if self.told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            let (partition, offset, others) = (record.partition, record.offset, std::mem::take(&mut self.untold));
            warn!(topic = %self.topic, partition, offset, %reason, others, dead_letters = %topic, "a record cannot be forwarded");
            self.told = Some(Instant::now());
        } else {
            self.untold += 1;
        }
        let (letters, board) = (self.setup.dead_letters.clone(), self.setup.board.clone());
        self.burials.push(Box::pin(async move {
            let (mut form, mut reason) = (Form::Whole, reason);
            while let Err(error) = letters.write(&topic, &record, form, &reason).await {
                if form == Form::Whole && error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
                    let size = record.value.as_ref().map_or(0, Bytes::len);
                    reason += &format!("; key and value ({size} bytes) are left out, as {topic} does not take a record of this size");
                    form = Form::Note;
                    continue;
                }
                let trouble = format!("Kafka: the dead-letter topic {topic} does not take a record: {}", chain(&error));
                if board.trouble(Trouble::DeadLetters, trouble.clone()) {
                    warn!(reason = %trouble, "Kafka is waited for");
                }
                tokio::time::sleep(RETRY).await;
            }
            board.settled(Trouble::DeadLetters);
            record.offset
        }));
    }

    fn buried(&mut self, offset: i64) {
        Counters::add(&self.setup.board.counters.dead_letters, 1);
        self.done(offset);
    }

    fn done(&mut self, offset: i64) {
        if !self.prefix.done(offset) {
            return;
        }
        if let Some(position) = self.prefix.position() {
            self.shared.position.store(position, Ordering::Release);
        }
        let bytes = self.costs.remove(&offset).unwrap_or(0);
        self.shared.budget.give(Held { records: 1, bytes });
    }
}
