//! Commands: events of the stream that become actions of devices.
//!
//! ```text
//! Kafka ─follower─▶ desk ──claim──▶ Kafka          the first claim behind a command, in the order of its partition, has it
//!                    │ judged: policy, deadline, device
//!                    ├──▶ rejected | expired
//!                    └──▶ worker (one a device) ─▶ accepted ▶ executing ▶ the device ▶ succeeded | failed | unknown
//! ```
//!
//! Promises:
//! - A device is asked at most once for a command, whatever dies in between. Each step is on disk before it is taken; a command that is found
//!   begun after a crash is never begun again: it ends as `unknown`, or as what a value of the device proves.
//! - Each command that this edge has claimed gets exactly one end.
//! - Nothing is executed after its deadline, or without a rule that allows it to its sender.
//! - Commands of one asset are executed in their order; a device that is slow or away holds up itself alone.

mod claiming;
mod config;
mod desk;
mod fail_point;
mod index;
mod judgement;
mod memory;
mod pattern;
mod policy;
mod teller;
mod terms;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use asset_stream::Timestamp;
use asset_stream::command::status::State;
use edge_buffer::Log;
use edge_mirror::commands as topic;
use gateway::SampleSender;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) use config::{Config, UntrustedClock};
pub(crate) use terms::Terms;
pub(crate) use worker::Work;

use desk::{Desk, Identity, Order};
use teller::Teller;

/// How long the edge waits for devices that are being asked when it stops.
const GRACE: Duration = Duration::from_secs(15);
/// Orders on their way.
const ORDERS: usize = 4;

/// The way to Kafka.
pub(crate) enum Kafka {
    /// That of before.
    Same,
    /// Another one.
    New(Box<edge_mirror::Config>),
}

/// The commands of the edge, from outside.
pub(crate) struct Commands {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
    stop: CancellationToken,
    pub(crate) counters: Arc<Counters>,
}

impl Commands {
    /// Reads what is known of commands, and begins to follow them.
    pub(crate) async fn start(
        edge: &str,
        state_dir: &Path,
        log: Log,
        sender: SampleSender,
        config: Config,
        kafka: Option<edge_mirror::Config>,
        devices: HashMap<Arc<str>, Work>,
    ) -> anyhow::Result<Self> {
        let (file, remember) = (memory::file_in(state_dir), judgement::millis(config.longest_deadline));
        let (orders, taken) = mpsc::channel(ORDERS);
        let (counters, stop) = (Arc::new(Counters::default()), CancellationToken::new());
        let identity = Identity { edge: edge.to_owned(), epoch: log.epoch(), since: Timestamp::now().millis() };
        let kafka = kafka.map(|config| Kafka::New(Box::new(config)));
        orders.send(Order::Exchange { config, kafka, devices }).await.context("commands cannot be begun with")?;
        let task = {
            let (counters, stop) = (counters.clone(), stop.clone());
            // Reading the log takes its time; nothing else waits for it.
            tokio::spawn(async move {
                let memory = {
                    let (file, log) = (file.clone(), log.clone());
                    tokio::task::spawn_blocking(move || memory::recall(&file, &log, remember)).await
                };
                match memory {
                    Ok(Ok(memory)) => {
                        let teller = Arc::new(Teller::new(sender, log.clone(), memory.chain.clone(), stop.clone()));
                        Desk::new(identity, file, log, teller, memory, counters, stop).run(taken).await;
                    }
                    Ok(Err(error)) => warn!(error = service::error::chain(&error), "the log cannot be read for commands; none is executed"),
                    Err(failure) => warn!(%failure, "the log cannot be read for commands; none is executed"),
                }
            })
        };
        Ok(Self { orders, task, stop, counters })
    }

    /// Devices, rules or the way to Kafka have changed.
    ///
    /// Does not wait: while the log takes nothing, commands stand still, and a reload must not.
    ///
    /// # Errors
    /// Why commands go on as before.
    pub(crate) fn exchange(&self, config: Config, kafka: Option<Kafka>, devices: HashMap<Arc<str>, Work>) -> Result<(), String> {
        self.orders.try_send(Order::Exchange { config, kafka, devices }).map_err(|failure| match failure {
            TrySendError::Full(_) => "commands stand still, as the log takes nothing; reload again when it does".to_owned(),
            TrySendError::Closed(_) => "commands are not followed any more; a restart of the edge cures it".to_owned(),
        })
    }

    /// Ends: waits for the devices that are being asked, begins nothing, and keeps what is known.
    pub(crate) async fn stop(self) {
        let Self { orders, task, stop, .. } = self;
        stop.cancel();
        let (done, ended) = oneshot::channel();
        let in_order = async {
            if orders.send(Order::Stop(done)).await.is_ok() {
                ended.await.ok();
            }
        };
        if tokio::time::timeout(GRACE, in_order).await.is_err() {
            warn!("a device was asked and has not answered yet; what came of it will be told as unknown");
            task.abort();
        }
    }
}

/// What is counted of commands, since the start of the process; read by the status page.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    states: [AtomicU64; State::ALL.len()],
    /// Commands without an end.
    pub(crate) waiting: AtomicU64,
    /// Repeats of commands that were known.
    pub(crate) repeats: AtomicU64,
    /// Times that the topic did not have what was to be read next.
    pub(crate) missed: AtomicU64,
    follower: Mutex<Option<topic::State>>,
}

impl Counters {
    fn count(&self, state: State) {
        if let Some(counter) = State::ALL.iter().position(|other| *other == state).and_then(|i| self.states.get(i)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn follower(&self, state: Option<topic::State>) {
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The picture for `status`.
    pub(crate) fn status(&self) -> Status {
        let (state, detail) = match self.follower.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            None => ("off", String::new()),
            Some(topic::State::Starting) => ("starting", String::new()),
            Some(topic::State::Following) => ("following", String::new()),
            Some(topic::State::NoTopic(why)) => ("no_topic", why),
            Some(topic::State::Trouble(why)) => ("trouble", why),
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            state: state.into(),
            detail,
            waiting: load(&self.waiting),
            repeats: load(&self.repeats),
            missed: load(&self.missed),
            steps: State::ALL.iter().zip(&self.states).map(|(state, counter)| (state.to_string(), load(counter))).collect(),
        }
    }
}

/// How commands go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// `off`, `starting`, `following`, `no_topic` or `trouble`.
    pub(crate) state: String,
    /// Why it does not follow, with the remedy.
    pub(crate) detail: String,
    /// Commands without an end.
    pub(crate) waiting: u64,
    /// Repeats, which asked for nothing new.
    pub(crate) repeats: u64,
    /// Times that the topic did not have what was to be read next.
    pub(crate) missed: u64,
    /// Steps told since the start, by state.
    pub(crate) steps: BTreeMap<String, u64>,
}
