//! The router: tells clients which NATS cluster serves an asset.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use service::web::Server;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::config::{Cluster, cluster_problems, without_login};
use crate::ring::Ring;

/// The `[route]` section.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens; the loopback address unless configured otherwise.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8002)) }
    }
}

/// The answer to `GET /asset/{asset_uuid}`.
#[derive(Debug, Serialize)]
struct Answer {
    asset_id: String,
    cluster_name: String,
    nats_url: String,
}

struct Clusters {
    ring: Ring,
    urls: BTreeMap<String, String>,
}

/// Serves until `stop`.
pub async fn run(server: Server, clusters: &BTreeMap<String, Cluster>, stop: CancellationToken) -> Result<(), Error> {
    let problems = cluster_problems(clusters);
    let Some(ring) = Ring::new(clusters.keys().cloned()).filter(|_| problems.is_empty()) else { return Err(Error::Config(problems)) };
    let urls = clusters.iter().filter_map(|(name, cluster)| Some((name.clone(), without_login(cluster.urls.first()?)))).collect();
    let pages = Router::new()
        .route("/asset/{asset_uuid}", get(route))
        .route("/healthz", get(async || "ok\n"))
        .with_state(Arc::new(Clusters { ring, urls }));
    server.serve(pages, stop).await;
    Ok(())
}

async fn route(State(clusters): State<Arc<Clusters>>, Path(asset_id): Path<String>) -> Json<Answer> {
    let cluster_name = clusters.ring.cluster(&asset_id).to_owned();
    let nats_url = clusters.urls.get(&cluster_name).cloned().unwrap_or_default();
    Json(Answer { asset_id, cluster_name, nats_url })
}
