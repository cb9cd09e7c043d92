//! What a broker is busy with, as the kernel and its own metrics tell.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use procfs::process::Process;
use system_tests::kafka::{Kafka, Metrics, Plan, create_topic};

/// Of the asset stream.
const PARTITIONS: i32 = 12;

/// A broker whose metrics can be read, with the topics of a fleet.
pub(crate) fn start(topic: &str) -> anyhow::Result<Kafka> {
    let kafka = Kafka::start_linked(&Plan { metrics: Metrics::Open, ..Plan::default() })?;
    create_topic(&kafka.bootstrap(), topic, PARTITIONS, &[])?;
    create_topic(&kafka.bootstrap(), &format!("{topic}_edges"), 1, &[("cleanup.policy", "compact")])?;
    create_topic(&kafka.bootstrap(), &format!("{topic}_dead"), 1, &[])?;
    Ok(kafka)
}

/// What was seen at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    at: Instant,
    cpu: f64,
    memory: u64,
    connections: f64,
    /// By their names.
    requests: BTreeMap<String, f64>,
    bytes: f64,
    producers: f64,
}

impl Sight {
    pub(crate) fn of(kafka: &mut Kafka) -> anyhow::Result<Self> {
        let node = kafka.node(1)?;
        let id = i32::try_from(node.process_id().context("the broker does not run")?)?;
        // The tool that reads the metrics takes a second of a core: before the CPU is looked at.
        let mut requests = BTreeMap::new();
        for (name, count) in node.metrics("kafka.network:type=RequestMetrics,name=RequestsPerSec,request=*,version=*", "Count")? {
            let kind = name.split("request=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
            // Counted by its two kinds, too.
            if kind == "Fetch" {
                continue;
            }
            *requests.entry(kind.to_owned()).or_default() += count;
        }
        let sum =
            |name: &str, attribute: &str| Ok::<f64, anyhow::Error>(node.metrics(name, attribute)?.iter().map(|(_, value)| value).sum());
        let bytes = sum("kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec", "Count")?;
        let producers = sum("kafka.server:type=ReplicaManager,name=ProducerIdCount", "Value")?;
        let connections = sum("kafka.server:type=socket-server-metrics,listener=*,networkProcessor=*", "connection-count")?;
        let process = Process::new(id)?;
        let stat = process.stat()?;
        let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        let memory = stat.rss * procfs::page_size();
        Ok(Self { at: Instant::now(), cpu, memory, connections, requests, bytes, producers })
    }
}

/// A second's share of what happened between two sights.
#[derive(Clone, Debug)]
pub(crate) struct Busy {
    /// Of a core.
    pub(crate) cpu: f64,
    /// By their names, the most frequent first.
    pub(crate) requests: Vec<(String, f64)>,
    /// Compressed, as they stand in the topic.
    pub(crate) bytes: f64,
    /// At the end.
    pub(crate) connections: f64,
    /// Producer ids that it remembers, once for each partition, at the end.
    pub(crate) producers: f64,
    /// Bytes, at the end.
    pub(crate) memory: u64,
}

impl Busy {
    pub(crate) fn between(before: &Sight, after: &Sight) -> Self {
        let seconds = (after.at - before.at).max(Duration::from_millis(1)).as_secs_f64();
        let since = |(kind, count): (&String, &f64)| (kind.clone(), (count - before.requests.get(kind).unwrap_or(&0.0)) / seconds);
        let mut requests: Vec<(String, f64)> = after.requests.iter().map(since).filter(|(_, rate)| *rate >= 0.1).collect();
        requests.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        Self {
            cpu: (after.cpu - before.cpu) / seconds,
            requests,
            bytes: (after.bytes - before.bytes) / seconds,
            connections: after.connections,
            producers: after.producers,
            memory: after.memory,
        }
    }
}
