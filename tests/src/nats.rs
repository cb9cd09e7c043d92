//! A real NATS server with JetStream, and a plain subscriber as existing installations have them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use tokio::runtime::Runtime;

use crate::mounts::Mount;
use crate::process::Process;
use crate::wait::{self, Look};
use crate::{ports, tools};

/// Milliseconds before a lost connection is noticed and after it is there again, in which messages may still go to nobody.
const AROUND: i64 = 1_000;

/// What a server is made of.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Its program; `None`: Debian's.
    pub program: Option<PathBuf>,
    /// Bytes of a disk of its own; `None`: it shares everybody's.
    pub disk: Option<u64>,
    /// Further settings, e.g. of TLS and logins.
    pub settings: String,
}

/// A server; dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Nats {
    // In the order in which they are to end.
    process: Option<Process>,
    disk: Option<Mount>,
    folder: tempfile::TempDir,
    program: PathBuf,
    port: u16,
}

impl Nats {
    /// Starts Debian's and waits until it greets.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&Plan::default())
    }

    /// Starts one and waits until it greets.
    pub fn start_with(plan: &Plan) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("openfactory-nats-").tempdir()?;
        let store = folder.path().join("jetstream");
        let disk = plan.disk.map(|bytes| Mount::tmpfs(&store, bytes)).transpose()?;
        let program = plan.program.clone().map_or_else(tools::nats_server, Ok)?;
        let mut nats = Self { process: None, disk, folder, program, port: ports::free()? };
        let settings = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {store:?}, max_file_store: 8GB, max_memory_store: 256MB }}\n{}\n",
            nats.port, plan.settings
        );
        std::fs::write(nats.folder.path().join("nats.conf"), settings)?;
        nats.start_again()?;
        Ok(nats)
    }

    /// For clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its own disk.
    pub fn disk(&self) -> anyhow::Result<&Mount> {
        self.disk.as_ref().context("this server was started without a disk of its own")
    }

    /// Ends it as an operator would (SIGTERM).
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(30))?;
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Starts it on the same port with the same data.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let arguments = ["-c".to_owned(), self.folder.path().join("nats.conf").to_string_lossy().into_owned()];
        let log = self.folder.path().join("nats.log");
        let process = self.process.insert(Process::start("NATS", &self.program, &arguments, &[], &log)?);
        let port = self.port;
        wait::until("NATS greets", Duration::from_secs(30), || {
            process.expect_alive()?;
            match greeting(port) {
                Ok(()) => Ok(Look::Done(())),
                Err(error) => Ok(Look::Waiting(error.to_string())),
            }
        })
    }
}

fn greeting(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut info = [0; 5];
    stream.read_exact(&mut info)?;
    if &info == b"INFO " { Ok(()) } else { Err(std::io::Error::other("something else than NATS answers")) }
}

/// A message as a subscriber got it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Without the prefix of a JetStream stream: `<asset>.<ID>`.
    pub subject: String,
    /// Header names and values.
    pub headers: BTreeMap<String, String>,
    /// The JSON.
    pub payload: Vec<u8>,
    /// When it arrived, in Unix milliseconds.
    pub at: i64,
}

impl Received {
    pub(crate) fn of(message: &async_nats::Message, prefix: &str) -> Self {
        let mut headers = BTreeMap::new();
        for (name, values) in message.headers.iter().flat_map(async_nats::HeaderMap::iter) {
            if let Some(value) = values.first() {
                headers.insert(name.to_string(), value.to_string());
            }
        }
        let subject = message.subject.strip_prefix(prefix).unwrap_or(&message.subject).to_owned();
        Self { subject, headers, payload: message.payload.to_vec(), at: crate::wait::now() }
    }
}

/// A plain subscriber that knows nothing of JetStream, and keeps what it gets.
#[derive(Debug)]
pub struct Subscriber {
    received: Arc<Mutex<Vec<Received>>>,
    dropped: Arc<AtomicU64>,
    connection: Arc<Mutex<Vec<(i64, async_nats::Event)>>>,
    // Dropping it ends the subscription.
    _runtime: Runtime,
}

impl Subscriber {
    /// Subscribes to `<asset>.*` for each asset; returns when the server has taken the subscriptions.
    pub fn start(url: &str, assets: &[String]) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let dropped = Arc::<AtomicU64>::default();
        let connection = Arc::<Mutex<Vec<_>>>::default();
        let (count, events) = (dropped.clone(), connection.clone());
        let options = async_nats::ConnectOptions::new()
            // A burst waits here; what does not fit is counted below and ends the test.
            .subscription_capacity(1 << 20)
            .event_callback(move |event| {
                let (count, events) = (count.clone(), events.clone());
                async move {
                    match event {
                        async_nats::Event::SlowConsumer(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                        async_nats::Event::Connected | async_nats::Event::Disconnected => lock(&events).push((wait::now(), event)),
                        _ => {}
                    }
                }
            });
        runtime.block_on(async {
            let client = options.connect(url).await.with_context(|| format!("cannot connect to {url}"))?;
            for asset in assets {
                let mut subscription = client.subscribe(format!("{asset}.*")).await?;
                let (received, client) = (received.clone(), client.clone());
                tokio::spawn(async move {
                    // The client lives as long as its subscriptions.
                    let _client = client;
                    while let Some(message) = subscription.next().await {
                        lock(&received).push(Received::of(&message, ""));
                    }
                });
            }
            // Answered by the server after it has taken the subscriptions before.
            client.flush().await?;
            client.request("openfactory.nobody", "".into()).await.map_or_else(
                |error| match error.kind() {
                    async_nats::RequestErrorKind::NoResponders => Ok(()),
                    _ => Err(anyhow::Error::from(error)),
                },
                |_| Ok(()),
            )
        })?;
        Ok(Self { received, dropped, connection, _runtime: runtime })
    }

    /// How many messages have come.
    pub fn count(&self) -> usize {
        lock(&self.received).len()
    }

    /// How many the client had to drop because this machine was too slow: the recording is worthless then.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// What has come from number `first` on.
    pub fn received(&self, first: usize) -> Vec<Received> {
        lock(&self.received).get(first..).unwrap_or_default().to_vec()
    }

    /// When it had no connection, from and to in Unix milliseconds: what NATS served then went to nobody. It includes what the server had sent
    /// and the kernel or a buffer still held, and the moment until the server knows the subscriptions again.
    pub fn away(&self) -> Vec<(i64, i64)> {
        let mut away: Vec<(i64, i64)> = Vec::new();
        for (at, event) in lock(&self.connection).iter() {
            match (event, away.last_mut()) {
                (async_nats::Event::Disconnected, _) => away.push((at - AROUND, i64::MAX)),
                (_, Some((_, to))) => *to = (*to).min(at + AROUND),
                // Its first connection.
                (_, None) => {}
            }
        }
        away
    }
}

fn lock<T>(list: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
