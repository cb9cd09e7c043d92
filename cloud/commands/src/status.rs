//! How the service is doing: one set of counters behind the status page, the metrics and the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use service::metrics::Metrics;

use crate::running::Handle;

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// No broker answers.
    Brokers,
    /// Nothing is copied, for another reason.
    Copying,
    /// A NATS cluster, by its name, does not answer.
    Nats(String),
}

/// Where every part writes how it is.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) turns: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) copied: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) waiting: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    troubles: BTreeMap<Trouble, String>,
    partitions: BTreeMap<i32, Facts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    position: Option<i64>,
    end: Option<i64>,
}

/// What `/status` serves.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// `copying`, or `waiting` with the reasons beside it.
    pub state: &'static str,
    /// What is waited for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Records of the asset stream that were looked at.
    pub read: u64,
    /// Commands that stand in their topic.
    pub copied: u64,
    /// Commands that Kafka does not take there: they reach no edge.
    pub failed: u64,
    /// Records of the asset stream that were not looked at yet, in the partitions of this copier.
    pub lag: u64,
    /// Requests that came over NATS.
    pub requests: u64,
    /// Those of them that became no command.
    pub refused: u64,
    /// Those that wait for what becomes of their command.
    pub waiting: u64,
    /// Partitions of the asset stream that this copier reads.
    pub partitions: Vec<PartitionStatus>,
}

/// One partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: i32,
    /// Everything before this offset is done; absent until something was committed.
    pub position: Option<i64>,
    /// Records behind the end; absent until both ends are known.
    pub lag: Option<u64>,
}

impl Board {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    /// Something is wrong; `true` if it is news.
    pub(crate) fn trouble(&self, trouble: Trouble, reason: String) -> bool {
        self.lock().troubles.insert(trouble, reason.clone()).is_none_or(|before| before != reason)
    }

    /// It is no longer; `true` if it was.
    pub(crate) fn settled(&self, trouble: &Trouble) -> bool {
        self.lock().troubles.remove(trouble).is_some()
    }

    /// These partitions are ours from now on, and no others.
    pub(crate) fn assigned(&self, partitions: impl Iterator<Item = i32>) {
        self.lock().partitions = partitions.map(|partition| (partition, Facts::default())).collect();
    }

    pub(crate) fn at(&self, partition: i32, position: i64) {
        if let Some(facts) = self.lock().partitions.get_mut(&partition) {
            facts.position = Some(position);
        }
    }

    pub(crate) fn ends_at(&self, partition: i32, end: i64, committed: Option<i64>) {
        if let Some(facts) = self.lock().partitions.get_mut(&partition) {
            facts.end = Some(end);
            facts.position = facts.position.max(committed);
        }
    }

    pub(crate) fn status(&self) -> Status {
        let inner = self.lock();
        let lag = |facts: &Facts| Some(u64::try_from(facts.end? - facts.position?).unwrap_or(0));
        let of = |(partition, facts): (&i32, &Facts)| PartitionStatus { partition: *partition, position: facts.position, lag: lag(facts) };
        let partitions: Vec<PartitionStatus> = inner.partitions.iter().map(of).collect();
        let reasons: Vec<String> = inner.troubles.values().cloned().collect();
        Status {
            state: if reasons.is_empty() { "copying" } else { "waiting" },
            reasons,
            read: self.read.load(Relaxed),
            copied: self.copied.load(Relaxed),
            failed: self.failed.load(Relaxed),
            lag: partitions.iter().filter_map(|partition| partition.lag).sum(),
            requests: self.requests.load(Relaxed),
            refused: self.refused.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            partitions,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    /// The same in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let mut metrics = Metrics::new("openfactory_commands");
        let count = |value: u64| value as f64;
        metrics.counter("read_total", "Records of the asset stream that were looked at.").is(count(self.read));
        metrics.counter("copied_total", "Commands that stand in their topic.").is(count(self.copied));
        metrics.counter("failed_total", "Commands that Kafka does not take there.").is(count(self.failed));
        metrics.counter("requests_total", "Requests that came over NATS.").is(count(self.requests));
        metrics.counter("refused_total", "Requests that became no command.").is(count(self.refused));
        metrics.gauge("waiting", "Requests that wait for what becomes of their command.").is(count(self.waiting));
        metrics.gauge("up", "1 while nothing is waited for.").is(f64::from(u8::from(self.reasons.is_empty())));
        let mut lag = metrics.gauge("lag", "Records of the asset stream behind the end of the partition.");
        for partition in &self.partitions {
            if let Some(behind) = partition.lag {
                lag = lag.of(&[("partition", partition.partition.to_string().as_str())], count(behind));
            }
        }
        metrics.into_text()
    }

    /// One line for people and the log.
    pub fn line(&self) -> String {
        let mut line = format!("{} commands copied, {} failed, lag {}", self.copied, self.failed, self.lag);
        if self.requests > 0 {
            line += &format!(", {} requests from NATS, {} of them refused", self.requests, self.refused);
        }
        if !self.reasons.is_empty() {
            line += &format!("; waiting: {}", self.reasons.join("; "));
        }
        line
    }
}

/// The pages `/status` (JSON), `/metrics` (Prometheus) and `/healthz`.
pub fn pages(service: Handle) -> Router {
    Router::new()
        .route("/status", get(async |State(service): State<Handle>| -> Json<Status> { Json(service.status()) }))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(service)
}

async fn metrics(State(service): State<Handle>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, service::metrics::CONTENT_TYPE)], service.status().metrics())
}

/// 200 while commands flow, 503 with the reason while something is waited for.
async fn health(State(service): State<Handle>) -> (StatusCode, String) {
    let status = service.status();
    let code = if status.reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, status.line() + "\n")
}

#[cfg(test)]
mod tests {
    use super::{Board, Trouble};

    #[test]
    fn the_status_tells_what_is_waited_for_and_the_metrics_agree() {
        let board = Board::default();
        Board::add(&board.copied, 7);
        board.assigned([3].into_iter());
        board.at(3, 90);
        board.ends_at(3, 100, Some(80));
        board.ends_at(4, 100, None);
        assert!(board.trouble(Trouble::Brokers, "Kafka: no broker answers".into()));
        assert!(!board.trouble(Trouble::Brokers, "Kafka: no broker answers".into()), "no news");
        let status = board.status();
        assert_eq!((status.state, status.copied, status.lag), ("waiting", 7, 10));
        assert_eq!(status.line(), "7 commands copied, 0 failed, lag 10; waiting: Kafka: no broker answers");
        let metrics = status.metrics();
        for line in ["openfactory_commands_copied_total 7", "openfactory_commands_lag{partition=\"3\"} 10", "openfactory_commands_up 0"] {
            assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
        }
    }
}
