//! The running edge: what is started, in which order, and how it stops.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use asset_stream::Timestamp;
use edge_buffer::{Log, Recovery};
use edge_mirror::{Mirror, Monitor};
use service::logging::Logging;
use service::notify::{self, Progress};
use service::signals::{Request, Signals};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::check::Checked;
use crate::commands::Commands;
use crate::config::Config;
use crate::gateways::Gateways;
use crate::http::Page;
use crate::ingest::{self, Counters};
use crate::mirroring::Mirroring;
use crate::register::{self, Known};
use crate::status::{Parts, Phase, Sources};
use crate::unheard::Unheard;
use crate::{losses, socket};

/// How long ingest may take to say that the edge stops: with a disk that takes nothing, it never does.
const FAREWELL_GRACE: Duration = Duration::from_secs(1);

/// What is at work, and can be exchanged when the config is read again.
pub(crate) struct Edge {
    /// The config's file.
    pub(crate) file: PathBuf,
    pub(crate) config: Config,
    /// Of the files that `[kafka]` names.
    pub(crate) fingerprint: Option<u64>,
    pub(crate) log: Log,
    pub(crate) gateways: Gateways,
    pub(crate) mirroring: Mirroring,
    pub(crate) commands: Commands,
    /// The status over HTTP.
    pub(crate) page: Option<Page>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) logging: Logging,
    /// Ends what only looks on.
    pub(crate) background: CancellationToken,
}

/// Runs the edge until it is told to stop.
pub(crate) fn run(file: &Path, checked: Checked, logging: Logging) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("gateways")
        .build()
        .context("the runtime cannot be started")?;
    let result = runtime.block_on(serve(file, checked, logging));
    // A blocking call into a library that hangs must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(file: &Path, checked: Checked, logging: Logging) -> anyhow::Result<()> {
    let Checked { config, devices, warnings } = checked;
    for warning in warnings {
        warn!("{warning}");
    }
    let mut signals = Signals::install().context("signals cannot be taken over")?;
    let own_asset: Arc<str> = config.asset().into();
    let background = CancellationToken::new();

    // Open and bind first: what fails here fails early, before any device is asked.
    let listener = socket::bind(&config.edge.socket).await?;
    let buffer = config.buffer();
    let largest = buffer.max_entry_bytes();
    let opened = tokio::task::spawn_blocking(move || edge_buffer::open(buffer)).await?.context("the log cannot be opened")?;
    let log = opened.log;
    info!(epoch = log.epoch(), durable = log.durable(), took = ?opened.recovery.took, "the log is open");
    tell_recovery(&opened.recovery);
    let unheard = if opened.recovery.was_closed || opened.recovery.is_new_epoch {
        None
    } else {
        let log = log.clone();
        Some(tokio::task::spawn_blocking(move || Unheard::look(&log)).await?.context("the end of the log cannot be read")?)
    };
    let counters = Arc::new(Counters::default());
    let sources = Arc::new(Sources {
        edge: config.edge.id.clone(),
        asset: own_asset.clone(),
        started: Timestamp::now(),
        max_bytes: config.log.max_size,
        counters: counters.clone(),
        log: log.clone(),
        parts: Mutex::new(Parts::default()),
    });
    let page = Page::open(&config.edge, sources.clone(), &background).await?;
    let mirror = match config.mirror() {
        Some(mirror) => Some(Mirror::start(mirror, log.clone()).context("the mirror cannot be started")?),
        None => {
            warn!("no [kafka] section: the edge collects and keeps, nothing is sent");
            None
        }
    };
    let mirroring = Mirroring::new(mirror, log.clone(), sources.clone());

    // Ingest before gateways: from the first sample on there is somebody to take it.
    let (sender, receiver) = gateway::channel(usize::try_from(config.edge.memory).unwrap_or(usize::MAX));
    // Dropped when ingest ends, however it ends.
    let (ending, mut ingest_ended) = tokio::sync::oneshot::channel::<()>();
    let ingest = {
        let (log, counters, runtime) = (log.clone(), counters.clone(), tokio::runtime::Handle::current());
        let run = move || {
            let _ending = ending;
            ingest::run(receiver, &log, largest, &counters, &runtime)
        };
        std::thread::Builder::new().name("ingest".into()).spawn(run).context("no thread for ingest")?
    };
    let keys = log.keys();
    if unheard.is_some() {
        sender.send(register::unavailable(&own_asset)).await.context("the edge's own facts")?;
    }
    sender.send(register::edge_starts(&own_asset, Known::by(&keys, &own_asset))).await.context("the edge's own facts")?;

    let mut gateways = Gateways::new(&config.edge.state_dir, sender.clone(), own_asset.clone(), log.clone());
    gateways.prepare(&devices).map_err(anyhow::Error::msg)?;
    for device in devices {
        gateways.start(device, &keys, unheard.as_ref()).await?;
    }
    let commands = Commands::start(
        &config.edge.id,
        &config.edge.state_dir,
        log.clone(),
        sender.clone(),
        config.commands.clone(),
        config.mirror(),
        gateways.work(config.commands.untrusted_clock),
    )
    .await?;
    {
        let mut parts = sources.parts();
        parts.devices = gateways.watched();
        parts.commands = Some(commands.counters.clone());
    }

    let mut helpers = JoinSet::new();
    let (reloads, mut wanted) = mpsc::channel(1);
    helpers.spawn(socket::serve(listener, sources.clone(), reloads, background.clone()));
    helpers.spawn(losses::run(log.clone(), own_asset.clone(), background.clone()));
    helpers.spawn(notify::watchdog(loops(&sources), background.clone()));
    helpers.spawn(tell_others(sources.clone(), background.clone()));
    let fingerprint = fingerprint(&config);
    let file = file.to_owned();
    let mut edge = Edge { file, config, fingerprint, log, gateways, mirroring, commands, page, sources, logging, background };
    edge.sources.parts().phase = Phase::Running;
    notify::ready();
    info!(edge = %edge.config.edge.id, "running");

    let failed = loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Reload => drop(edge.reload().await),
                Request::Stop => break false,
            },
            // Whoever asked and went away does without the answer.
            Some(answer) = wanted.recv() => drop(answer.send(edge.reload().await)),
            _ = &mut ingest_ended => break true,
        }
    };

    // Stop by closing inputs in order. A second signal ends the process at once: everything accepted is durable or was never promised.
    info!("stopping");
    notify::stopping();
    edge.sources.parts().phase = Phase::Stopping;
    let Edge { log, gateways, mirroring, commands, background, .. } = edge;
    let in_order = async {
        // First: what a device is being asked needs its gateway, and what came of it the log.
        commands.stop().await;
        gateways.stop().await;
        if tokio::time::timeout(FAREWELL_GRACE, sender.send(register::unavailable(&own_asset))).await.is_err() {
            warn!("the log takes nothing more; what waits for it stays with the devices, or is lost with them");
        }
        drop(sender);
        let end = tokio::task::spawn_blocking(move || ingest.join()).await?;
        background.cancel();
        while helpers.join_next().await.is_some() {}
        mirroring.stop().await;
        tokio::task::spawn_blocking(move || {
            // Left open, the next start tells a gap as after a crash.
            anyhow::ensure!(matches!(end, Ok(ingest::End::Settled)), "what the log refused could not be noted");
            log.close().context("the log could not be closed")
        })
        .await
        .context("the log's closing failed")?
    };
    tokio::select! {
        done = in_order => done?,
        () = signals.stop_again() => warn!("stopping at once"),
    }
    anyhow::ensure!(!failed, "the log or the thread that fills it has ended (see above); a new start may cure it");
    info!("stopped");
    Ok(())
}

/// Of the files that `[kafka]` names: whether a certificate or password is another one.
pub(crate) fn fingerprint(config: &Config) -> Option<u64> {
    config.kafka.as_ref().map(service::kafka::Config::fingerprint)
}

/// What a person should know of how the log was found.
fn tell_recovery(recovery: &Recovery) {
    for note in &recovery.notes {
        warn!("{note}");
    }
    for file in &recovery.quarantined {
        warn!(file = %file.display(), "damaged bytes of the log were put aside; send them to support, or delete them");
    }
    if !recovery.was_closed && !recovery.is_new_epoch {
        info!(
            torn_bytes = recovery.torn_bytes,
            "the log was not closed in order: a crash, a kill or a power cut; what was durable is there"
        );
    }
}

fn loops(sources: &Arc<Sources>) -> Vec<Progress> {
    let (counters, sources) = (sources.counters.clone(), sources.clone());
    // Counts where there is no mirror, which is no standstill.
    let without = AtomicU64::new(0);
    let mirror = move || sources.parts().mirror.as_ref().map_or_else(|| without.fetch_add(1, Ordering::Relaxed), Monitor::progress);
    vec![
        Progress { name: "ingest", turns: Box::new(move || counters.turns.load(Ordering::Relaxed)) },
        Progress { name: "mirror", turns: Box::new(mirror) },
    ]
}

/// Keeps systemd's status line and the fleet's topic up to date.
async fn tell_others(sources: Arc<Sources>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {
                let sources = sources.clone();
                // The log looks at its files for it.
                let told = tokio::task::spawn_blocking(move || {
                    notify::status(&sources.status().line());
                    sources.announce();
                });
                if let Err(error) = told.await {
                    error!(%error, "the status could not be told");
                }
            }
        }
    }
}
