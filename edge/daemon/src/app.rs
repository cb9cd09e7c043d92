//! The running edge: what is started, in which order, and how it stops.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use asset_stream::{GapReason, Timestamp};
use edge_buffer::Recovery;
use edge_mirror::{Mirror, Monitor};
use gateway::DeviceLink;
use service::notify::{self, Progress};
use service::signals::{Request, Signals};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::check::Checked;
use crate::devices::{Device, Gateways};
use crate::ingest::{self, Counters};
use crate::register::Known;
use crate::status::{Sources, Watched};
use crate::unheard::Unheard;
use crate::{http, losses, register, socket, unheard};

/// How long gateways may take to say goodbye to their devices.
const GATEWAYS_GRACE: Duration = Duration::from_secs(10);
/// How long ingest may take to say that the edge stops: with a disk that takes nothing, it never does.
const FAREWELL_GRACE: Duration = Duration::from_secs(1);
/// How long the mirror waits for reports of what is under way.
const MIRROR_GRACE: Duration = Duration::from_secs(5);

/// Runs the edge until it is told to stop.
pub(crate) fn run(checked: Checked) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("gateways")
        .build()
        .context("the runtime cannot be started")?;
    let result = runtime.block_on(serve(checked));
    // A blocking call into a library that hangs must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(checked: Checked) -> anyhow::Result<()> {
    let Checked { config, devices, warnings } = checked;
    for warning in warnings {
        warn!("{warning}");
    }
    let mut signals = Signals::install().context("signals cannot be taken over")?;
    let own_asset: Arc<str> = config.asset().into();
    let background = CancellationToken::new();

    // Open and bind first: what fails here fails early, before any device is asked.
    let listener = socket::bind(&config.edge.socket).await?;
    let status_listener = match config.edge.status_listen {
        Some(address) => Some(http::listen(address).await?),
        None => None,
    };
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
    let mirror = match config.mirror() {
        Some(mirror) => Some(Mirror::start(mirror, log.clone()).context("the mirror cannot be started")?),
        None => {
            warn!("no [kafka] section: the edge collects and keeps, nothing is sent");
            None
        }
    };

    // Ingest before gateways: from the first sample on there is somebody to take it.
    let (sender, receiver) = gateway::channel(usize::try_from(config.edge.memory).unwrap_or(usize::MAX));
    let counters = Arc::new(Counters::default());
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
    let known = |asset: &Arc<str>| if keys.contains_key(asset) { Known::Before } else { Known::New };
    if unheard.is_some() {
        sender.send(register::unavailable(&own_asset)).await.context("the edge's own facts")?;
    }
    sender.send(register::edge_starts(&own_asset, known(&own_asset))).await.context("the edge's own facts")?;

    let stop_gateways = CancellationToken::new();
    let mut gateways = JoinSet::new();
    let mut made = Gateways::new(&config.edge.state_dir);
    let mut watched = Vec::new();
    for device in devices {
        let Device { name, asset, connector, facts } = device;
        let protocol = connector.protocol();
        let gateway = made.make(connector).map_err(|reason| anyhow::anyhow!("device {name}: {reason}"))?;
        let link = DeviceLink::new(name.clone(), asset.clone(), sender.clone());
        if let Some(unheard) = &unheard
            && known(&asset) == Known::Before
        {
            // Nobody could say so when the edge crashed.
            let now = Timestamp::now();
            let told = unheard.gap(&asset, now).into_iter().chain(register::unavailable(&asset)).collect();
            sender.send(told).await.context("a device's facts")?;
            link.nobody_listens(now, GapReason::EdgeCrashed, unheard::WHY);
        }
        sender.send(facts.samples(&own_asset, known(&asset))).await.context("a device's facts")?;
        watched.push(Watched { name, asset, protocol, status: link.status().clone() });
        gateways.spawn(gateway::supervise(gateway, link, stop_gateways.clone()));
    }

    let sources = Arc::new(Sources {
        edge: config.edge.id.clone(),
        asset: own_asset.clone(),
        started: Timestamp::now(),
        max_bytes: config.log.max_size,
        counters: counters.clone(),
        devices: watched,
        log: log.clone(),
        mirror: mirror.as_ref().map(Mirror::monitor),
    });
    let mut helpers = JoinSet::new();
    helpers.spawn(socket::serve(listener, sources.clone(), background.clone()));
    if let Some(listener) = status_listener {
        helpers.spawn(http::serve(listener, sources.clone(), background.clone()));
    }
    helpers.spawn(losses::run(log.clone(), own_asset.clone(), background.clone()));
    helpers.spawn(notify::watchdog(loops(&counters, mirror.as_ref().map(Mirror::monitor)), background.clone()));
    helpers.spawn(tell_others(sources, background.clone()));
    notify::ready();
    info!(edge = %config.edge.id, "running");

    let failed = loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Reload => warn!("a changed config is read at the next start: systemctl restart openfactory-edge"),
                Request::Stop => break false,
            },
            _ = &mut ingest_ended => break true,
        }
    };

    // Stop by closing inputs in order. A second signal ends the process at once: everything accepted is durable or was never promised.
    info!("stopping");
    notify::stopping();
    let in_order = async {
        stop_gateways.cancel();
        if tokio::time::timeout(GATEWAYS_GRACE, async { while gateways.join_next().await.is_some() {} }).await.is_err() {
            warn!("some gateways did not end in time and are dropped");
            gateways.shutdown().await;
        }
        if tokio::time::timeout(FAREWELL_GRACE, sender.send(register::unavailable(&own_asset))).await.is_err() {
            warn!("the log takes nothing more; what waits for it stays with the devices, or is lost with them");
        }
        drop(sender);
        let end = tokio::task::spawn_blocking(move || ingest.join()).await?;
        background.cancel();
        while helpers.join_next().await.is_some() {}
        tokio::task::spawn_blocking(move || {
            if let Some(mirror) = mirror {
                mirror.stop(MIRROR_GRACE);
            }
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

fn loops(counters: &Arc<Counters>, mirror: Option<Monitor>) -> Vec<Progress> {
    let counters = counters.clone();
    let mut loops = vec![Progress { name: "ingest", turns: Box::new(move || counters.turns.load(std::sync::atomic::Ordering::Relaxed)) }];
    if let Some(mirror) = mirror {
        loops.push(Progress { name: "mirror", turns: Box::new(move || mirror.progress()) });
    }
    loops
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
