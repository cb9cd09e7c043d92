//! The forwarder as a whole: started, asked how it is, stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::{Config, cluster_problems, override_problems};
use crate::consumer::Consumer;
use crate::dead_letters::DeadLetters;
use crate::member::Member;
use crate::partition::Setup;
use crate::ring::Ring;
use crate::status::{Board, Status};

/// A running forwarder.
pub struct Forwarder {
    handle: Handle,
    stop: CancellationToken,
    ended: oneshot::Receiver<Result<(), Error>>,
}

/// Asks a forwarder how it is.
#[derive(Clone)]
pub struct Handle {
    board: Arc<Board>,
    turns: Arc<AtomicU64>,
}

impl Handle {
    /// Counters and states, now.
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// Turns of the Kafka thread's loop, for the watchdog: it turns also while everything else waits.
    pub fn progress(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

impl Forwarder {
    /// Everything that [`Self::start`] could fail with, found without starting: certificates are read, nothing is connected.
    pub fn try_out(config: &Config) -> Result<(), Error> {
        Self::check(config)?;
        DeadLetters::new(&config.kafka).map(drop)
    }

    fn check(config: &Config) -> Result<(), Error> {
        let problems: Vec<(String, String)> =
            [cluster_problems(&config.clusters), config.forward.problems(), override_problems(&config.kafka)].concat();
        if problems.is_empty() { Ok(()) } else { Err(Error::Config(problems)) }
    }

    /// Starts forwarding on the current runtime. Fails on a bad config only: Kafka and NATS may both be away.
    pub fn start(config: Config) -> Result<Self, Error> {
        Self::check(&config)?;
        let Some(ring) = Ring::new(config.clusters.keys().cloned()) else { return Err(Error::Config(Vec::new())) };
        let board = Arc::new(Board::default());
        let setup = Arc::new(Setup {
            forward: config.forward.clone(),
            clusters: config.clusters.iter().map(|(name, cluster)| (name.clone(), Arc::new(cluster.clone()))).collect(),
            ring,
            dead_letters: DeadLetters::new(&config.kafka)?,
            board: board.clone(),
        });
        let member = Member::new(&config, config.forward.instance.clone().unwrap_or_else(host_name));
        let handle = Handle { board, turns: Arc::default() };
        let (runtime, turns, of_consumer) = (tokio::runtime::Handle::current(), handle.turns.clone(), member.clone());
        let join = move || Consumer::new(&config, &of_consumer, setup.clone(), runtime.clone(), turns.clone());
        let (consumer, board, turns) = (join()?, handle.board.clone(), handle.turns.clone());
        let (stop, (tell, ended)) = (CancellationToken::new(), oneshot::channel());
        let thread_stop = stop.clone();
        std::thread::Builder::new()
            .name("kafka".into())
            .spawn(move || {
                // Nobody listens if the forwarder was dropped.
                tell.send(member.read(consumer, join, &board, &turns, &thread_stop)).ok();
            })
            .map_err(Error::Thread)?;
        Ok(Self { handle, stop, ended })
    }

    /// Asks how it is; stays valid after the end.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until it ends by itself, which it does only with an error. Cancel safe.
    pub async fn ended(&mut self) -> Result<(), Error> {
        (&mut self.ended).await.unwrap_or(Err(Error::Panicked))
    }

    /// Stops in order: no more reading, a wait for answers under way, a last commit. `false` if that took longer than `grace`; then what was
    /// not committed is looked up and skipped at the next start.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.stop.cancel();
        tokio::time::timeout(grace, &mut self.ended).await.is_ok()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// How long a stop may take: answers under way, dead letters, the last commit.
pub const GRACE: Duration = Duration::from_secs(8);

/// The host's name: what tells the forwarders of a group apart unless the config does.
fn host_name() -> String {
    let name = service::host::name();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.to_owned() }
}
