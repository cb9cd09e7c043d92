//! What a broker has to do, seen from outside and by its own metrics.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context as _;
use procfs::net::TcpState;
use procfs::process::Process;
use system_tests::kafka::Kafka;

const REQUESTS: &str = "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=*,version=*";
const PRODUCERS: &str = "kafka.server:type=ReplicaManager,name=ProducerIdCount";

/// The counters of a moment.
pub(crate) struct Sight {
    at: Instant,
    cpu: f64,
    requests: BTreeMap<String, f64>,
    pub(crate) connections: usize,
    pub(crate) memory: u64,
    /// What it keeps of producers: one entry for each producer and partition.
    pub(crate) producers: f64,
}

impl Sight {
    pub(crate) fn take(kafka: &Kafka, jmx: u16) -> anyhow::Result<Self> {
        let url = format!("service:jmx:rmi:///jndi/rmi://127.0.0.1:{jmx}/jmxrmi");
        let words =
            ["--jmx-url", &url, "--object-name", REQUESTS, "--object-name", PRODUCERS, "--one-time", "--report-format", "properties"];
        let text = kafka.java("org.apache.kafka.tools.JmxTool", &words)?;
        let at = Instant::now();
        let (mut requests, mut producers) = (BTreeMap::new(), 0.0);
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once('=') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            if name.starts_with(PRODUCERS) {
                producers = value;
            } else if let Some((_, request)) = name.split_once(",request=")
                && name.ends_with(":Count")
                // Counted as Fetch already.
                && !request.starts_with("FetchConsumer")
            {
                *requests.entry(request.split(',').next().unwrap_or_default().to_owned()).or_default() += value;
            }
        }
        let process = Process::new(i32::try_from(kafka.id().context("the broker does not run")?)?)?;
        let stat = process.stat()?;
        let port: u16 = kafka.bootstrap().rsplit(':').next().context("a port")?.parse()?;
        let connections = procfs::net::tcp()?
            .into_iter()
            .chain(procfs::net::tcp6().unwrap_or_default())
            .filter(|entry| entry.local_address.port() == port && entry.state == TcpState::Established)
            .count();
        Ok(Self {
            at,
            cpu: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            requests,
            connections,
            memory: stat.rss * procfs::page_size(),
            producers,
        })
    }

    /// Processors that it had since an earlier sight.
    pub(crate) fn processors_since(&self, earlier: &Self) -> f64 {
        (self.cpu - earlier.cpu) / self.seconds_since(earlier)
    }

    /// Requests a second since an earlier sight, by kind, the most frequent first.
    pub(crate) fn requests_since(&self, earlier: &Self) -> Vec<(String, f64)> {
        let of_kind = |(kind, count): (&String, &f64)| {
            let before = earlier.requests.get(kind).copied().unwrap_or_default();
            (kind.clone(), (count - before) / self.seconds_since(earlier))
        };
        let mut rates: Vec<(String, f64)> = self.requests.iter().map(of_kind).filter(|(_, rate)| *rate > 0.05).collect();
        rates.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        rates
    }

    fn seconds_since(&self, earlier: &Self) -> f64 {
        (self.at - earlier.at).as_secs_f64()
    }
}
