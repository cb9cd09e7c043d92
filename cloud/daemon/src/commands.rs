//! `openfactory-cloud commands`: the service that brings commands to the edges.

use std::collections::BTreeMap;

use anyhow::Context;
use cloud_commands::front::Cluster;
use cloud_commands::{Commands, GRACE, Running, pages};
use service::notify::{self, Progress};
use service::signals::Signals;
use service::web::Server;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::services::{PAGE, stop_requested, tell_how_it_goes};

/// Copies until it is asked to stop.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("signals cannot be handled")?;
    let server = match config.commands.status_listen {
        Some(address) => Some(Server::open("commands.status_listen", address, config.commands.status_access.as_ref()).await?),
        None => None,
    };
    let kafka = config.kafka.context("the config has no [kafka] section")?;
    let clusters = clusters(&config.nats, &config.commands).await?;
    let mut running = Running::start(kafka, config.commands, clusters)?;
    let (handle, stop) = (running.handle(), CancellationToken::new());
    let helpers = stop.clone().drop_guard();
    let page = server.map(|server| tokio::spawn(server.serve(pages(handle.clone()), stop.clone())));
    let turns = handle.clone();
    let progress = Progress { name: "copier", turns: Box::new(move || turns.progress()) };
    tokio::spawn(notify::watchdog(vec![progress], stop.clone()));
    let told = handle.clone();
    tokio::spawn(tell_how_it_goes(move || told.status().line(), stop.clone()));
    notify::ready();
    info!("ready");
    tokio::select! {
        ended = running.ended() => return Ok(ended?),
        () = stop_requested(&mut signals) => {}
    }
    notify::stopping();
    let in_time = tokio::select! {
        in_time = running.stop(GRACE) => in_time,
        () = signals.stop_again() => false,
    };
    if !in_time {
        warn!("stopped within a transaction; Kafka takes it back, and what it held is copied at the next start");
    }
    info!("stopped: {}", handle.status().line());
    drop(helpers);
    if let Some(page) = page {
        tokio::time::timeout(PAGE, page).await.ok();
    }
    Ok(())
}

/// The clusters from which commands are taken.
async fn clusters(known: &BTreeMap<String, cloud_forwarder::config::Cluster>, commands: &Commands) -> anyhow::Result<Vec<Cluster>> {
    let Some(front) = &commands.nats else { return Ok(Vec::new()) };
    let mut clusters = Vec::new();
    for (name, cluster) in known.iter().filter(|(name, _)| front.clusters.is_empty() || front.clusters.contains(name)) {
        let options = cluster.connect_options().await.map_err(|told| anyhow::anyhow!("nats.{name}: {told}"))?;
        clusters.push(Cluster { name: name.clone(), urls: cluster.urls.clone(), options });
    }
    Ok(clusters)
}
