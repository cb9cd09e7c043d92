//! The status over HTTP: `/status` (JSON), `/metrics` (Prometheus), `/healthz`, `/readyz`. Only on request of the config; who may read it, `service::web` knows.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use service::web::{self, Server};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Edge;
use crate::metrics;
use crate::status::{Phase, Sources, Status};

/// The server at work. Dropping it ends it.
pub(crate) struct Page {
    _stop: DropGuard,
}

impl Page {
    /// Binds early, so that an address in use is told, and answers until `background` is cancelled. `None`: nothing is to be served.
    pub(crate) async fn open(edge: &Edge, sources: Arc<Sources>, background: &CancellationToken) -> Result<Option<Self>, web::Error> {
        let Some(address) = edge.status_listen else { return Ok(None) };
        let server = Server::open("edge.status_listen", address, edge.status_access.as_ref()).await?;
        let stop = background.child_token();
        tokio::spawn(server.serve(pages(sources), stop.clone()));
        Ok(Some(Self { _stop: stop.drop_guard() }))
    }
}

fn pages(sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/status", get(async |State(sources): State<Arc<Sources>>| look(sources).await.map(Json)))
        .route("/metrics", get(async |State(sources): State<Arc<Sources>>| look(sources).await.map(page)))
        .route("/healthz", get(async |State(sources): State<Arc<Sources>>| look(sources).await.map(health)))
        .route("/readyz", get(async |State(sources): State<Arc<Sources>>| look(sources).await.map(readiness)))
        .with_state(sources)
}

/// The log looks at its files for it.
async fn look(sources: Arc<Sources>) -> Result<Status, StatusCode> {
    let status = tokio::task::spawn_blocking(move || sources.status()).await;
    status.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn page(status: Status) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, service::metrics::CONTENT_TYPE)], metrics::page(&status))
}

/// 200 while events are taken, 503 with the reason while they are not. That Kafka is away is no fault of the edge.
fn health(status: Status) -> (StatusCode, String) {
    let code = if status.log.failure.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, status.line() + "\n")
}

/// 200 from when all gateways are started until the edge stops, while events are taken.
fn readiness(status: Status) -> (StatusCode, String) {
    match status.phase {
        Phase::Running => health(status),
        phase => (StatusCode::SERVICE_UNAVAILABLE, format!("{phase:?}\n").to_lowercase()),
    }
}
