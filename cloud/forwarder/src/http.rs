//! The status page: `/status` (JSON), `/metrics` (Prometheus), `/healthz`.

use std::net::SocketAddr;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Error;
use crate::forward::Handle;
use crate::status::Status;

/// Binds early, so that an address in use is told before anything else starts.
pub async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}

/// Serves the forwarder's status until `stop`.
pub async fn serve_status(listener: TcpListener, forwarder: Handle, stop: CancellationToken) {
    let pages = Router::new()
        .route("/status", get(async |State(forwarder): State<Handle>| -> Json<Status> { Json(forwarder.status()) }))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(forwarder);
    serve(listener, pages, stop).await;
}

pub(crate) async fn serve(listener: TcpListener, pages: Router, stop: CancellationToken) {
    if let Err(error) = axum::serve(listener, pages).with_graceful_shutdown(stop.cancelled_owned()).await {
        warn!(%error, "the HTTP server ended");
    }
}

async fn metrics(State(forwarder): State<Handle>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, service::metrics::CONTENT_TYPE)], forwarder.status().metrics())
}

/// 200 while records flow, 503 with the reason while something is waited for.
async fn health(State(forwarder): State<Handle>) -> (StatusCode, String) {
    let status = forwarder.status();
    let code = if status.reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, status.line() + "\n")
}
