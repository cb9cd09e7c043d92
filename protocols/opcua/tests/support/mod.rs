//! What the tests share: the server, a proxy that breaks connections, and an edge that keeps what it gets.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod proxy;
pub mod server;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use asset_stream::document::{Document, Environment, Problems};
use asset_stream::{Quality, Sample, Value};
use gateway::{Actions, DeviceLink, DeviceStatus, Outcome, channel, supervise};
use gateway_opcua::{Config, OpcuaGateway, Shared, parse};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The Python that has asyncua. `None`: tests with servers are to be skipped, by the wish of whoever runs them.
pub fn python() -> Option<PathBuf> {
    if std::env::var_os("OPENFACTORY_SKIP_SERVERS").is_some_and(|wish| wish == "1") {
        println!("skipped: OPENFACTORY_SKIP_SERVERS=1");
        return None;
    }
    let python = std::env::var_os("OPENFACTORY_PYTHON").map(PathBuf::from);
    assert!(
        python.is_some(),
        "OPENFACTORY_PYTHON is not set to a Python that has asyncua: type `eval \"$(./dev env)\"`, or set OPENFACTORY_SKIP_SERVERS=1 to go without these tests"
    );
    python
}

/// Waits until `look` gives something; fails with what was seen last.
pub async fn wait_until<T, S: Debug>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, S>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{what}: not within {within:?}; seen last: {seen:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads a `connector` section; panics with all its problems.
pub fn connector(yaml: &str) -> Config {
    let (problems, environment) = (Problems::new(), Environment::empty());
    let document = Document::parse("device.yaml", yaml.as_bytes(), &problems);
    let config = document.as_ref().and_then(|d| parse(d.root(&environment, &problems)));
    let problems: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{}\nin\n{yaml}", problems.join("\n"));
    config.expect("no problems, so a config")
}

/// Samples by `ID`, in the order in which they came.
#[derive(Debug, Default)]
pub struct Kept {
    pub samples: BTreeMap<String, Vec<Sample>>,
}

impl Kept {
    pub fn of(&self, id: &str) -> &[Sample] {
        self.samples.get(id).map_or(&[], Vec::as_slice)
    }

    /// The good whole numbers of an item.
    pub fn numbers(&self, id: &str) -> Vec<i64> {
        let number = |sample: &Sample| match (&sample.quality, &sample.value) {
            (Quality::Good, Value::Int(n)) => Some(*n),
            _ => None,
        };
        self.of(id).iter().filter_map(number).collect()
    }

    pub fn last_number(&self, id: &str) -> i64 {
        self.numbers(id).last().copied().unwrap_or(-1)
    }

    pub fn texts(&self, id: &str) -> Vec<String> {
        let text = |sample: &Sample| match &sample.value {
            Value::Text(text) => text.to_string(),
            other => format!("{other:?}"),
        };
        self.of(id).iter().map(text).collect()
    }
}

/// An edge with one device. Everything stops when it is dropped.
pub struct Edge {
    kept: Arc<Mutex<Kept>>,
    /// While it is `true`, the log takes nothing.
    blocked: Arc<Mutex<bool>>,
    pub status: Arc<DeviceStatus>,
    pub actions: Arc<dyn Actions>,
    stop: CancellationToken,
    supervisor: Option<JoinHandle<()>>,
    _state: tempfile::TempDir,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.abort();
        }
    }
}

impl Edge {
    /// Starts to follow a device.
    pub fn start(yaml: &str) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let shared = shared();
        Self::start_with(yaml, shared, state)
    }

    /// As [`Self::start`], for many values: only `status` counts them.
    pub fn start_counting(yaml: &str) -> Self {
        let state = tempfile::tempdir().expect("a folder");
        let shared = shared();
        Self::start_keeping(yaml, shared, state, |_| false)
    }

    /// As [`Self::start`], with an identity that was made before.
    pub fn start_with(yaml: &str, shared: Shared, state: tempfile::TempDir) -> Self {
        Self::start_keeping(yaml, shared, state, |_| true)
    }

    fn start_keeping(yaml: &str, shared: Shared, state: tempfile::TempDir, keeps: fn(&Sample) -> bool) -> Self {
        // With RUST_LOG set, and `--nocapture`, the log is shown. A second test finds it set up already.
        drop(tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_test_writer().try_init());
        let gateway = Arc::new(OpcuaGateway::new(connector(yaml), shared));
        let actions = gateway.actions();
        let (sender, mut receiver) = channel(64 << 20);
        let link = DeviceLink::new("plc", "PLC-1", sender);
        let (status, stop) = (link.status().clone(), CancellationToken::new());
        let (kept, blocked) = (Arc::new(Mutex::new(Kept::default())), Arc::new(Mutex::new(false)));
        let (keep, is_blocked) = (kept.clone(), blocked.clone());
        tokio::spawn(async move {
            while let Some(mut batch) = receiver.recv().await {
                while *lock(&is_blocked) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let samples = batch.take_samples();
                let mut kept = lock(&keep);
                for sample in samples.into_iter().filter(keeps) {
                    kept.samples.entry(sample.item.id.to_string()).or_default().push(sample);
                }
                drop(kept);
                batch.finish(Outcome::Durable);
            }
        });
        let supervisor = Some(tokio::spawn(supervise(gateway, link, stop.clone())));
        Self { kept, blocked, status, actions, stop, supervisor, _state: state }
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    /// Has the log take nothing, or go on.
    pub fn block(&self, blocked: bool) {
        *lock(&self.blocked) = blocked;
    }

    /// Stops as the daemon does, and waits for it.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.await.expect("the supervisor never fails");
        }
    }

    /// Waits until an item has a number of at least `least`.
    pub async fn wait_for_number(&self, id: &str, least: i64, within: Duration) {
        let look = || match self.kept().last_number(id) {
            n if n >= least => Ok(()),
            n => Err((n, self.status.last_error().map(|(words, _)| words))),
        };
        wait_until(&format!("{id} reaches {least}"), within, look).await;
    }

    /// Waits until an item has so many samples.
    pub async fn wait_for_samples(&self, id: &str, least: usize, within: Duration) {
        let look = || match self.kept().of(id).len() {
            n if n >= least => Ok(()),
            n => Err((n, self.status.last_error().map(|(words, _)| words))),
        };
        wait_until(&format!("{id} has {least} samples"), within, look).await;
    }
}

/// An identity for all tests: making one takes a while. It stays in the target folder.
pub fn shared() -> Shared {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = lock(&ONE_AT_A_TIME);
    Shared::open(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("opcua-edge")).expect("an identity")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every number follows the one before: nothing missing, twice or out of order.
#[track_caller]
pub fn assert_gapless(id: &str, numbers: &[i64]) {
    for (at, pair) in numbers.windows(2).enumerate() {
        assert_eq!(pair[1], pair[0] + 1, "{id}: after {} came {} (place {at} of {})", pair[0], pair[1], numbers.len());
    }
}

/// `count` counters with a queue for `queue` values.
pub fn counters(port: u16, count: usize, queue: usize) -> String {
    let mut yaml = format!(
        "server:\n  uri: opc.tcp://127.0.0.1:{port}/test\n  subscription: {{queue_size: {queue}}}\n  \
         session: {{keep_alive_interval: 1000, request_timeout: 2000, connect_timeout: 3000}}\nvariables:\n"
    );
    for i in 0..count {
        yaml += &format!("  counter{i}: {{node_id: \"ns=2;s=counter{i}\"}}\n");
    }
    yaml
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
