//! Each service as an operator's check list: build, ready, wait, stop.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use cloud_forwarder::{Forwarder, http, router};
use service::config::Problem;
use service::notify::{self, Progress};
use service::signals::{Request, Signals};
use service::web::Server;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Config, Service};

/// For whoever reads the status page when it ends.
pub(crate) const PAGE: Duration = Duration::from_secs(1);
/// Between two lines in the log that say how it goes.
const STATUS_LINE: Duration = Duration::from_secs(60);

/// Reads the config again, as it was read at the start.
pub(crate) type Read<'r> = &'r dyn Fn() -> Result<Config, Vec<Problem>>;

/// Runs a service until it is asked to stop.
pub(crate) fn run(config: Config, wanted: Service, read: Read<'_>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the async runtime cannot be started")?;
    let result = runtime.block_on(async {
        match wanted {
            Service::Forward => forward(config, read).await,
            Service::Route => route(config).await,
            Service::Commands => crate::commands::serve(config).await,
        }
    });
    // What is still running waits for a network that may be away.
    runtime.shutdown_background();
    result
}

/// Why a forwarder's life ended.
enum End {
    Stopped,
    /// Another config is to be used, which was tried out; with the server of its pages, if they get another address.
    Reloaded(Box<Config>, Option<Server>),
}

async fn forward(mut config: Config, read: Read<'_>) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("signals cannot be handled")?;
    let mut server = None;
    loop {
        match live(config, server, read, &mut signals).await? {
            End::Stopped => return Ok(()),
            End::Reloaded(changed, bound) => (config, server) = (*changed, bound),
        }
    }
}

/// A forwarder, from its start to its end; with another config it is another one, in the same process and with the same place in its group.
async fn live(config: Config, server: Option<Server>, read: Read<'_>, signals: &mut Signals) -> anyhow::Result<End> {
    let server = match server {
        Some(bound) => Some(bound),
        None => pages(&config).await?,
    };
    let listens = config.forward.status_listen;
    let mut forwarder = Forwarder::start(of_forwarder(config)?)?;
    let (handle, stop) = (forwarder.handle(), CancellationToken::new());
    let helpers = stop.clone().drop_guard();
    let page = server.map(|server| tokio::spawn(server.serve(http::status_pages(handle.clone()), stop.clone())));
    let turns = handle.clone();
    let progress = Progress { name: "Kafka consumer", turns: Box::new(move || turns.progress()) };
    tokio::spawn(notify::watchdog(vec![progress], stop.clone()));
    let told = handle.clone();
    tokio::spawn(tell_how_it_goes(move || told.status().line(), stop.clone()));
    notify::ready();
    info!("ready");

    let end = loop {
        let request = tokio::select! {
            ended = forwarder.ended() => return ended.map(|()| End::Stopped).map_err(Into::into),
            request = signals.next() => request,
        };
        match request {
            Request::Stop => {
                notify::stopping();
                break End::Stopped;
            }
            Request::Reload => {
                notify::reloading();
                match read_again(read, listens).await {
                    Ok((changed, server)) => break End::Reloaded(Box::new(changed), server),
                    Err(problems) => problems.iter().for_each(|told| error!("the new config is refused, nothing was changed: {told}")),
                }
                notify::ready();
            }
        }
    };
    info!("stopping: waiting for answers that are under way");
    let in_time = tokio::select! {
        in_time = forwarder.stop(cloud_forwarder::forward::GRACE) => in_time,
        () = signals.stop_again() => false,
    };
    if !in_time {
        warn!("stopped without a last commit; what it would have covered is looked up and skipped at the next start");
    }
    info!("stopped: {}", handle.status().line());
    drop(helpers);
    if let Some(page) = page {
        // Its port is needed again; a client that reads slowly does not hold it.
        tokio::time::timeout(PAGE, page).await.ok();
    }
    Ok(end)
}

/// The config anew, if a forwarder can be started with it. Pages at another address than now get theirs at once: it may be in use.
async fn read_again(read: Read<'_>, listens: Option<SocketAddr>) -> Result<(Config, Option<Server>), Vec<String>> {
    let config = read().map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let tried = of_forwarder(config.clone()).and_then(|config| Ok(Forwarder::try_out(&config)?));
    tried.map_err(|error| vec![format!("{error:#}")])?;
    let server = match config.forward.status_listen == listens {
        true => None,
        false => pages(&config).await.map_err(|error| vec![service::error::chain(&error)])?,
    };
    Ok((config, server))
}

/// The server of the status pages, bound.
async fn pages(config: &Config) -> Result<Option<Server>, service::web::Error> {
    let Some(address) = config.forward.status_listen else { return Ok(None) };
    Server::open("forward.status_listen", address, config.forward.status_access.as_ref()).await.map(Some)
}

fn of_forwarder(config: Config) -> anyhow::Result<cloud_forwarder::Config> {
    let kafka = config.kafka.context("the config has no [kafka] section")?;
    Ok(cloud_forwarder::Config { kafka, clusters: config.nats, forward: config.forward })
}

async fn route(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("signals cannot be handled")?;
    let server = Server::open("route.listen", config.route.listen, None).await?;
    let address = server.address().context("the router's address is unknown")?;
    let stop = CancellationToken::new();
    // There is no loop that could hang without the whole runtime hanging: the watchdog's own turn is the proof.
    let turns = std::sync::atomic::AtomicU64::new(0);
    let progress = Progress { name: "runtime", turns: Box::new(move || turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) };
    tokio::spawn(notify::watchdog(vec![progress], stop.clone()));
    let server = router::run(server, &config.nats, stop.clone());
    notify::ready();
    info!(%address, "ready");
    tokio::select! {
        ended = server => return Ok(ended?),
        () = stop_requested(&mut signals) => {}
    }
    notify::stopping();
    stop.cancel();
    info!("stopped");
    Ok(())
}

/// Returns on SIGTERM or SIGINT. What a SIGHUP would read again changes with a restart.
pub(crate) async fn stop_requested(signals: &mut Signals) {
    while signals.next().await == Request::Reload {
        info!("SIGHUP: the config is read at the start only; restart the service to change it");
    }
}

/// A line in the log each minute, and the line that `systemctl status` shows, each few seconds.
pub(crate) async fn tell_how_it_goes(line: impl Fn() -> String, stop: CancellationToken) {
    let mut log = tokio::time::interval(STATUS_LINE);
    log.tick().await;
    let mut notify = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = notify.tick() => notify::status(&line()),
            _ = log.tick() => info!("{}", line()),
        }
    }
}
