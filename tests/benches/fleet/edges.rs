//! Edges without devices: a log, its mirror, and events at a steady rate.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use edge_buffer::{Entry, Log};
use edge_mirror::{Config, CreateTopics, Mirror};

/// Assets of each edge.
const ASSETS: u64 = 10;
/// How often a gateway hands over what it has.
const TICK: Duration = Duration::from_millis(10);

/// What an edge hears.
#[derive(Clone)]
pub(crate) struct Devices {
    edge: usize,
    log: Log,
}

impl Devices {
    /// The assets' names.
    pub(crate) fn assets(&self) -> Vec<String> {
        (0..ASSETS).map(|n| self.asset(n)).collect()
    }

    fn asset(&self, n: u64) -> String {
        format!("E{:04}-A{n}", self.edge)
    }

    /// Hands the next events to the log; does not wait for the disk.
    pub(crate) fn say(&self, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let entry = |n: u64| {
            let value = format!(
                r#"{{"ID":"load_{}","VALUE":{}.{},"TAG":"Load","TYPE":"Samples","attributes":{{"timestamp":"{now}","ingestion_timestamp":"{now}","quality":"Good"}}}}"#,
                n / ASSETS % 20,
                n * 7_919 % 1_000,
                n % 100
            );
            Entry { key: self.asset(n % ASSETS).into(), timestamp: now.millis(), value: value.into_bytes() }
        };
        Ok(self.log.append(numbers.map(entry).collect(), drop)?)
    }
}

/// One edge.
pub(crate) struct Edge {
    pub(crate) devices: Devices,
    config: Config,
    mirror: Option<Mirror>,
}

impl Edge {
    /// An edge with an empty log, whose mirror does not run.
    pub(crate) fn new(folder: &Path, number: usize, bootstrap: &str, topic: &str) -> anyhow::Result<Self> {
        let settings = edge_buffer::Config {
            dir: folder.join(format!("edge-{number}")),
            // Memory is reserved for each of them.
            segment_bytes: 2 << 20,
            max_bytes: 2 << 30,
            retain_bytes: 0,
            min_free: 0,
            ..edge_buffer::Config::default()
        };
        let log = edge_buffer::open(settings)?.log;
        let mut config = Config::new(service::kafka::Config::plain(bootstrap), format!("edge-{number}"));
        config.assets_topic = topic.to_owned();
        config.edges_topic = format!("{topic}_edges");
        config.create_topics = CreateTopics::Never;
        Ok(Self { devices: Devices { edge: number, log }, config, mirror: None })
    }

    /// Starts its mirror, at most so many events a second.
    pub(crate) fn start(&mut self, rate: Option<u32>) -> anyhow::Result<()> {
        let config = Config { rate, ..self.config.clone() };
        self.mirror = Some(Mirror::start(config, self.devices.log.clone())?);
        Ok(())
    }

    /// Its mirror ends as by a kill: the next one reads back.
    pub(crate) fn kill(&mut self) {
        self.mirror = None;
    }

    /// Events that Kafka has acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.mirror.as_ref().map_or(0, |mirror| mirror.status().acknowledged)
    }

    /// Events in its log.
    pub(crate) fn durable(&self) -> u64 {
        self.devices.log.durable()
    }
}

/// All edges' devices: a thread that hands over what is due.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// So many events a second of each edge.
    pub(crate) fn start(edges: &[Edge], rate: u64) -> anyhow::Result<Self> {
        let edges: Vec<Devices> = edges.iter().map(|edge| edge.devices.clone()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = stop.clone();
        let run = move || {
            let began = Instant::now();
            let mut appended = vec![0; edges.len()];
            while !is_over.load(Ordering::Relaxed) {
                for (place, edge) in edges.iter().enumerate() {
                    // Not all in the same moment.
                    let shift = 1000 * place as u64 / edges.len() as u64;
                    let due = (began.elapsed().as_millis() as u64 * rate + shift) / 1000;
                    if due > appended[place] {
                        edge.say(appended[place]..due)?;
                        appended[place] = due;
                    }
                }
                std::thread::sleep(TICK);
            }
            Ok(())
        };
        Ok(Self { stop, thread: Some(std::thread::Builder::new().name("devices".into()).spawn(run)?) })
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).map_err(|_| anyhow::anyhow!("the devices' thread panicked"))?
    }
}
