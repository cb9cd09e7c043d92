//! The service as a whole: started, asked how it is, stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::{Commands, override_problems};
use crate::copier::Copier;
use crate::front::{Cluster, Listener};
use crate::given::Commander;
use crate::status::{Board, Status};

/// How long a stop may take: a transaction that is under way.
pub const GRACE: Duration = Duration::from_secs(8);

/// A running service.
pub struct Running {
    handle: Handle,
    stop: CancellationToken,
    ended: oneshot::Receiver<Result<(), Error>>,
}

/// Asks a service how it is.
#[derive(Clone)]
pub struct Handle {
    board: Arc<Board>,
}

impl Handle {
    /// Counters and states, now.
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// Turns of the copier's loop, for the watchdog: it turns also while everything else waits.
    pub fn progress(&self) -> u64 {
        self.board.turns.load(Ordering::Relaxed)
    }
}

impl Running {
    /// Starts on the current runtime. Fails on a bad config only: Kafka and NATS may be away. `clusters`: those that [`Commands::nats`] names.
    pub fn start(kafka: service::kafka::Config, commands: Commands, clusters: Vec<Cluster>) -> Result<Self, Error> {
        let problems = override_problems(&kafka);
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let board = Arc::new(Board::default());
        let listening = match &commands.nats {
            Some(front) => Some((front.clone(), Arc::new(Commander::new(&kafka, &commands.assets_topic, front.max_waiting)?))),
            None => None,
        };
        let copier = Copier::new(kafka, commands, board.clone())?;
        let (stop, (tell, ended)) = (CancellationToken::new(), oneshot::channel());
        let thread_stop = stop.clone();
        std::thread::Builder::new()
            .name("copier".into())
            .spawn(move || {
                // Nobody listens if the service was dropped.
                tell.send(copier.run(&thread_stop)).ok();
            })
            .map_err(Error::Thread)?;
        for cluster in clusters {
            let Some((front, commander)) = &listening else { break };
            let listener = Listener { front: front.clone(), commander: commander.clone(), board: board.clone() };
            tokio::spawn(listener.run(cluster, stop.clone()));
        }
        Ok(Self { handle: Handle { board }, stop, ended })
    }

    /// Asks how it is; stays valid after the end.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until it ends by itself, which it does only with an error. Cancel safe.
    pub async fn ended(&mut self) -> Result<(), Error> {
        (&mut self.ended).await.unwrap_or(Err(Error::Panicked))
    }

    /// Stops in order: the transaction that is under way is finished. `false` if that took longer than `grace`; then Kafka takes it back.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.stop.cancel();
        tokio::time::timeout(grace, &mut self.ended).await.is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
