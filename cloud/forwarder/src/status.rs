//! How the forwarder is doing: one set of counters behind the status page, the metrics and the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use service::metrics::Metrics;

/// What happened since the start. Every record that was read ends in exactly one of the first three.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) forwarded: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) read: AtomicU64,
    pub(crate) retries: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }
}

/// How a lane or the Kafka side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// At work, or nothing to do.
    Up,
    /// Waiting for something, told in plain words.
    Waiting(String),
}

/// A partition's lane to a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneName {
    pub(crate) cluster: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

/// What can be wrong with Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// No broker answers, or none lets us in.
    Brokers,
    /// A topic is missing or closed to us.
    Topics,
    /// The dead-letter topic does.
    DeadLetters,
    /// The group does not let us in, or has shut us out.
    Group,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PartitionFacts {
    /// Next offset to be committed.
    pub(crate) position: Option<i64>,
    /// End of the partition, as the broker told it last.
    pub(crate) end: Option<i64>,
    pub(crate) in_flight: usize,
    pub(crate) paused: bool,
}

/// Where every part writes how it is.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) counters: Counters,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kafka: BTreeMap<Trouble, String>,
    lanes: BTreeMap<LaneName, State>,
    partitions: BTreeMap<(String, i32), PartitionFacts>,
}

/// What `/status` serves.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// `forwarding`, or `waiting` with the reason beside it.
    pub state: &'static str,
    /// What is waited for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Records that NATS acknowledged.
    pub forwarded: u64,
    /// Repeats that were dropped.
    pub duplicates: u64,
    /// Records that went to a dead-letter topic.
    pub dead_letters: u64,
    /// Publishes that had to be tried again.
    pub retries: u64,
    /// Records that wait in Kafka, over all partitions.
    pub lag: u64,
    /// Records that were read and are not done.
    pub in_flight: u64,
    /// Each partition that this forwarder serves.
    pub partitions: Vec<PartitionStatus>,
    /// Each cluster that this forwarder talks to.
    pub clusters: Vec<ClusterStatus>,
}

/// One partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Everything before this offset is done; absent until something was read.
    pub position: Option<i64>,
    /// Records behind the end; absent until both ends are known.
    pub lag: Option<u64>,
    /// Records on their way.
    pub in_flight: usize,
    /// `true` while the partition's budget is full, so that it is not read: NATS is behind or away.
    pub paused: bool,
}

/// One NATS cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// `up` or `waiting`.
    pub state: &'static str,
    /// What is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Board {
    /// Notes a lane's state; `true` if it is another than before.
    pub(crate) fn lane(&self, name: &LaneName, state: State) -> bool {
        let mut inner = self.lock();
        match inner.lanes.get_mut(name) {
            Some(before) if *before == state => false,
            Some(before) => {
                *before = state;
                true
            }
            None => {
                inner.lanes.insert(name.clone(), state);
                true
            }
        }
    }

    pub(crate) fn lane_ended(&self, name: &LaneName) {
        self.lock().lanes.remove(name);
    }

    /// Something is wrong with Kafka; `true` if it is news.
    pub(crate) fn trouble(&self, trouble: Trouble, reason: String) -> bool {
        self.lock().kafka.insert(trouble, reason.clone()).is_none_or(|before| before != reason)
    }

    /// It is no longer; `true` if it was.
    pub(crate) fn settled(&self, trouble: Trouble) -> bool {
        self.lock().kafka.remove(&trouble).is_some()
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32, change: impl FnOnce(&mut PartitionFacts)) {
        change(self.lock().partitions.entry((topic.to_owned(), partition)).or_default());
    }

    /// As [`Self::partition`], for partitions that are served already.
    pub(crate) fn known_partition(&self, topic: &str, partition: i32, change: impl FnOnce(&mut PartitionFacts)) {
        if let Some(facts) = self.lock().partitions.get_mut(&(topic.to_owned(), partition)) {
            change(facts);
        }
    }

    pub(crate) fn partition_ended(&self, topic: &str, partition: i32) {
        self.lock().partitions.remove(&(topic.to_owned(), partition));
    }

    pub(crate) fn status(&self) -> Status {
        let inner = self.lock();
        let mut clusters: BTreeMap<&str, ClusterStatus> = BTreeMap::new();
        for (lane, state) in &inner.lanes {
            let entry =
                clusters.entry(&lane.cluster).or_insert_with(|| ClusterStatus { name: lane.cluster.clone(), state: "up", reason: None });
            if let State::Waiting(reason) = state {
                entry.state = "waiting";
                entry.reason = Some(reason.clone());
            }
        }
        let partitions: Vec<PartitionStatus> = inner
            .partitions
            .iter()
            .map(|((topic, partition), facts)| PartitionStatus {
                topic: topic.clone(),
                partition: *partition,
                position: facts.position,
                lag: facts.lag(),
                in_flight: facts.in_flight,
                paused: facts.paused,
            })
            .collect();
        let mut reasons: Vec<String> = inner.kafka.values().cloned().collect();
        reasons.extend(clusters.values().filter_map(|c| c.reason.as_ref().map(|reason| format!("NATS cluster {}: {reason}", c.name))));
        let counters = &self.counters;
        Status {
            state: if reasons.is_empty() { "forwarding" } else { "waiting" },
            reasons,
            forwarded: counters.forwarded.load(Relaxed),
            duplicates: counters.duplicates.load(Relaxed),
            dead_letters: counters.dead_letters.load(Relaxed),
            retries: counters.retries.load(Relaxed),
            lag: partitions.iter().filter_map(|p| p.lag).sum(),
            in_flight: partitions.iter().map(|p| p.in_flight as u64).sum(),
            clusters: clusters.into_values().collect(),
            partitions,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartitionFacts {
    fn lag(&self) -> Option<u64> {
        Some(u64::try_from(self.end? - self.position?).unwrap_or(0))
    }
}

impl Status {
    /// The same in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let mut metrics = Metrics::new("openfactory_forwarder");
        let count = |value: u64| value as f64;
        metrics.counter("forwarded_total", "Records that NATS acknowledged.").is(count(self.forwarded));
        metrics.counter("duplicates_total", "Repeats that were dropped.").is(count(self.duplicates));
        metrics.counter("dead_letters_total", "Records that went to a dead-letter topic.").is(count(self.dead_letters));
        metrics.counter("retries_total", "Publishes that had to be tried again.").is(count(self.retries));
        let mut lag = metrics.gauge("lag", "Records behind the end of the partition.");
        for partition in &self.partitions {
            let number = partition.partition.to_string();
            if let Some(behind) = partition.lag {
                lag = lag.of(&[("topic", partition.topic.as_str()), ("partition", number.as_str())], count(behind));
            }
        }
        let mut in_flight = metrics.gauge("in_flight", "Records read and not done.");
        for partition in &self.partitions {
            let number = partition.partition.to_string();
            let labels = [("topic", partition.topic.as_str()), ("partition", number.as_str())];
            in_flight = in_flight.of(&labels, partition.in_flight as f64);
        }
        let mut up = metrics.gauge("cluster_up", "1 while the cluster takes messages.");
        for cluster in &self.clusters {
            up = up.of(&[("cluster", cluster.name.as_str())], f64::from(u8::from(cluster.reason.is_none())));
        }
        metrics.into_text()
    }

    /// One line for people and the log.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} forwarded, {} repeats dropped, {} dead letters, lag {}",
            self.forwarded, self.duplicates, self.dead_letters, self.lag
        );
        if !self.reasons.is_empty() {
            line += &format!("; waiting: {}", self.reasons.join("; "));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::{Board, Counters, LaneName, State};

    #[test]
    fn the_status_tells_what_is_waited_for_and_the_metrics_agree() {
        let board = Board::default();
        Counters::add(&board.counters.forwarded, 7);
        board.partition("ofa_assets", 3, |facts| (facts.position, facts.end) = (Some(90), Some(100)));
        let lane = |partition| LaneName { cluster: "C\"1".into(), topic: "ofa_assets".into(), partition };
        assert!(board.lane(&lane(3), State::Waiting("no server answers".into())));
        assert!(!board.lane(&lane(3), State::Waiting("no server answers".into())), "no news");
        board.lane(&lane(4), State::Up);
        let status = board.status();
        assert_eq!((status.state, status.forwarded, status.lag), ("waiting", 7, 10));
        assert_eq!(status.line(), "7 forwarded, 0 repeats dropped, 0 dead letters, lag 10; waiting: NATS cluster C\"1: no server answers");
        let metrics = status.metrics();
        for line in [
            "openfactory_forwarder_forwarded_total 7",
            "openfactory_forwarder_lag{topic=\"ofa_assets\",partition=\"3\"} 10",
            "openfactory_forwarder_cluster_up{cluster=\"C\\\"1\"} 0",
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
        }
    }
}
