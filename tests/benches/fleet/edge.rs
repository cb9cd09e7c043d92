//! An edge without its daemon: a log and a mirror, as hundreds of them fit into one process.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use edge_buffer::{Entry, Log};
use edge_mirror::{Config, Mirror};

use crate::TOPIC;

/// How often each edge's machines tell what is due.
const TICK: Duration = Duration::from_millis(10);
/// Events handed to a log at a time when a backlog is made.
const STRIDE: u64 = 5000;

/// What makes one edge different from another.
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) assets: Vec<Arc<str>>,
    pub(crate) bootstrap: String,
    /// Events a second that its mirror sends at most.
    pub(crate) rate: Option<u32>,
}

pub(crate) struct Edge {
    plan: Plan,
    log: Log,
    mirror: Option<Mirror>,
}

impl Edge {
    /// Opens its log below `folder`; its mirror does not run yet.
    pub(crate) fn new(folder: &Path, plan: Plan) -> anyhow::Result<Self> {
        let config = edge_buffer::Config {
            dir: folder.join(&plan.id),
            segment_bytes: 4 << 20,
            max_bytes: 1 << 30,
            retain_bytes: 0,
            min_free: 0,
            queue_bytes: 1 << 20,
            ..edge_buffer::Config::default()
        };
        Ok(Self { log: edge_buffer::open(config)?.log, plan, mirror: None })
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let Plan { id, bootstrap, rate, .. } = &self.plan;
        let mut config = Config::new(service::kafka::Config::plain(bootstrap), id.clone());
        config.assets_topic = TOPIC.into();
        config.edges_topic = format!("{TOPIC}_edges");
        // A fleet in one process has to be frugal.
        (config.window, config.window_bytes) = (10_000, 4 << 20);
        config.rate = *rate;
        self.mirror = Some(Mirror::start(config, self.log.clone())?);
        Ok(())
    }

    /// Ends the mirror as a kill would: the next one has to read back.
    pub(crate) fn kill(&mut self) {
        self.mirror = None;
    }

    pub(crate) fn status(&self) -> edge_mirror::Status {
        self.mirror.as_ref().map(Mirror::status).unwrap_or_default()
    }

    /// Fills the log with what it could not send.
    pub(crate) fn fill(&self, events: u64) -> anyhow::Result<()> {
        for start in (0..events).step_by(STRIDE as usize) {
            self.log.append_durable((start..events.min(start + STRIDE)).map(|n| self.entry(n)).collect())?;
        }
        Ok(())
    }

    fn entry(&self, n: u64) -> Entry {
        let key = self.plan.assets[(n % self.plan.assets.len() as u64) as usize].clone();
        let now = Timestamp::now();
        let value = format!(
            r#"{{"ID":"axis_{}_load","VALUE":{},"TAG":"Load","TYPE":"Samples","attributes":{{"timestamp":"{now}","ingestion_timestamp":"{now}","quality":"Good"}}}}"#,
            n / 10 % 20,
            now.millis(),
        );
        Entry { key: key.as_ref().into(), timestamp: now.millis(), value: value.into_bytes() }
    }
}

/// Edges and the machines that feed them; every event's value is the time at which it was handed over.
pub(crate) struct Fleet {
    pub(crate) edges: Mutex<Vec<Edge>>,
    /// How many edges are fed from now on, and each one's events a second.
    load: Mutex<(usize, f64)>,
    fed: AtomicU64,
}

impl Fleet {
    /// Starts all of them, and the thread that feeds them.
    pub(crate) fn start(edges: Vec<Edge>) -> anyhow::Result<Arc<Self>> {
        let fleet = Arc::new(Self { edges: Mutex::new(edges), load: Mutex::new((0, 0.0)), fed: AtomicU64::new(0) });
        for edge in fleet.lock().iter_mut() {
            edge.start()?;
        }
        let machines = Arc::downgrade(&fleet);
        std::thread::Builder::new().name("machines".into()).spawn(move || {
            let (mut counts, mut last, mut due) = (Vec::new(), Instant::now(), 0.0);
            while let Some(fleet) = machines.upgrade() {
                let (fed, rate) = *fleet.load.lock().unwrap_or_else(PoisonError::into_inner);
                due += rate * last.elapsed().as_secs_f64();
                last = Instant::now();
                fleet.feed(fed, due, &mut counts);
                drop(fleet);
                std::thread::sleep(TICK.saturating_sub(last.elapsed()));
            }
        })?;
        Ok(fleet)
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Edge>> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn load(&self, edges: usize, rate: f64) {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = (edges, rate);
    }

    /// Events handed over so far.
    pub(crate) fn fed(&self) -> u64 {
        self.fed.load(Ordering::SeqCst)
    }

    /// Events that Kafka acknowledged so far.
    pub(crate) fn mirrored(&self) -> u64 {
        self.lock().iter().map(|edge| edge.status().mirrored).sum()
    }

    fn feed(&self, fed: usize, due: f64, counts: &mut Vec<(f64, u64)>) {
        let edges = self.lock();
        // Spread over the second, as machines are that know nothing of each other.
        counts.resize_with(edges.len(), || (0.0, 0));
        let total = edges.len() as f64;
        for (place, (edge, (from, count))) in edges.iter().zip(counts.iter_mut()).enumerate() {
            let events = if place < fed { (due + place as f64 / total).floor() - *from } else { 0.0 };
            *from = (due + place as f64 / total).floor();
            if events < 1.0 {
                continue;
            }
            let entries: Vec<Entry> = (*count..*count + events as u64).map(|n| edge.entry(n)).collect();
            *count += entries.len() as u64;
            self.fed.fetch_add(entries.len() as u64, Ordering::SeqCst);
            // A full queue makes this wait, and with it all machines: the rate that was reached tells.
            drop(edge.log.append(entries, |_| ()));
        }
    }
}
