//! The mirror at work, and its exchange for one with another config: never two of them at one log.

use std::sync::Arc;
use std::time::Duration;

use edge_buffer::Log;
use edge_mirror::{Config, Mirror};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::status::Sources;

/// How long the mirror waits for reports of what is under way.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks whether a mirror that waits for an answer of Kafka has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The mirror of the log, if there is one, behind a task that may exchange it.
pub(crate) struct Mirroring {
    wanted: watch::Sender<Option<Config>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Mirroring {
    /// Takes over the mirror that was started first.
    pub(crate) fn new(first: Option<Mirror>, log: Log, sources: Arc<Sources>) -> Self {
        let (wanted, changed) = watch::channel(None);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(first, changed, log, sources, stop.clone()));
        Self { wanted, stop, task }
    }

    /// Another config takes the place of the present one as soon as the present mirror has ended. The config can work: it was
    /// [tried](Config::try_out).
    pub(crate) fn exchange(&self, config: Option<Config>) {
        self.wanted.send_replace(config);
    }

    /// Stops in order; never waits for a network.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(failure) = self.task.await {
            error!(%failure, "the mirror's keeper failed");
        }
    }
}

async fn run(
    mut mirror: Option<Mirror>,
    mut wanted: watch::Receiver<Option<Config>>,
    log: Log,
    sources: Arc<Sources>,
    stop: CancellationToken,
) {
    loop {
        sources.parts().mirror = mirror.as_ref().map(Mirror::monitor);
        let is_stopping = tokio::select! {
            () = stop.cancelled() => true,
            changed = wanted.changed() => changed.is_err(),
        };
        if let Some(present) = mirror.take() {
            let ended = tokio::task::spawn_blocking(move || (present.stop(GRACE), present));
            let Ok((mut is_ended, present)) = ended.await else { return error!("the mirror failed while it stopped") };
            if !is_ended && !is_stopping {
                info!("the mirror waits for an answer of Kafka before it ends");
            }
            // Its questions have time limits, so it ends.
            while !is_ended && !is_stopping {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LOOK_AGAIN) => is_ended = present.has_ended(),
                }
            }
        }
        if is_stopping {
            return;
        }
        let config = wanted.borrow_and_update().clone();
        mirror = match config.map(|config| Mirror::start(config, log.clone())).transpose() {
            Ok(started) => started,
            Err(error) => {
                error!(
                    error = service::error::chain(&error),
                    "the mirror cannot be started; nothing is sent until the next reload or start"
                );
                None
            }
        };
        if mirror.is_none() {
            warn!("no mirror: the edge collects and keeps, nothing is sent");
        }
    }
}
