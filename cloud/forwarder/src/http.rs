//! The status page: `/status` (JSON), `/metrics` (Prometheus), `/healthz`.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::forward::Handle;
use crate::status::Status;

/// The pages of the forwarder's status.
pub fn status_pages(forwarder: Handle) -> Router {
    Router::new()
        .route("/status", get(async |State(forwarder): State<Handle>| -> Json<Status> { Json(forwarder.status()) }))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(forwarder)
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
