//! A bad network: two network namespaces, and between them a link that loses, delays and throttles packets, or is cut.
//!
//! The kernel's own `netem` is not in every kernel. So the link is a TUN device at each end, and a thread that carries packets from one to the
//! other. Namespaces and devices have no names outside: they vanish with the processes in them, however these end. Needs root.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::thread::LinkNameSpaceType;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_tun::Tun;

/// The centre's end, where Kafka listens.
pub const CENTRE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The edge's end.
pub const EDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The device's name, the same at both ends.
const DEVICE: &str = "wire";
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 252);
const MTU: u16 = 1500;
/// What waits before a throttled link; more is dropped, as routers do.
const QUEUE: u64 = 16 << 10;
/// Packets on their way in one direction; more are dropped.
const UNDER_WAY: usize = 16_384;

/// Whether this process may make a link: it has to be root.
pub fn is_allowed() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the link does to packets, in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// Share of packets that vanish: 0 to 1.
    pub loss: f64,
    /// How long a packet takes.
    pub delay: Duration,
    /// Bits a second; absent: as many as come.
    pub rate: Option<u64>,
}

impl Quality {
    /// Every packet vanishes, and nobody is told.
    pub const HALF_OPEN: Self = Self { loss: 1.0, delay: Duration::ZERO, rate: None };
}

/// A TCP connection over the link, by its ports.
type Connection = [u16; 2];

#[derive(Debug, Default)]
struct State {
    quality: Quality,
    /// Connections that were used, and those that were forgotten.
    seen: BTreeSet<Connection>,
    forgotten: BTreeSet<Connection>,
}

/// The link, and the two places that it joins. The thread that starts it is at the centre from then on, with all that it starts.
#[derive(Debug)]
pub struct Link {
    centre: File,
    edge: File,
    state: Arc<Mutex<State>>,
    /// Dropped to end the carrier.
    end: Option<oneshot::Sender<()>>,
    carrier: Option<JoinHandle<()>>,
}

impl Link {
    /// Makes both places and joins them; `seed` chooses which packets a lossy link loses.
    pub fn start(seed: u64) -> anyhow::Result<Self> {
        ensure!(is_allowed(), "only root may make network namespaces");
        let (centre, edge) = (namespace()?, namespace()?);
        let ends = [(edge.try_clone()?, EDGE), (centre.try_clone()?, CENTRE)];
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        let (end, ended) = oneshot::channel();
        let (ready, started) = mpsc::sync_channel(1);
        // A thread of its own: a namespace is a property of a thread.
        let carrier = std::thread::Builder::new().name("link".into()).spawn(move || {
            let outcome = carry(&ends, &shared, seed, ended, &ready);
            if let Err(error) = outcome {
                // Nobody listens any more if it had begun.
                drop(ready.send(Err(error)));
            }
        })?;
        started.recv().context("the link's thread ended")??;
        enter(&centre)?;
        Ok(Self { centre, edge, state, end: Some(end), carrier: Some(carrier) })
    }

    /// From now on; packets on their way arrive as it was.
    pub fn set(&self, quality: Quality) {
        lock(&self.state).quality = quality;
    }

    /// Packets of the connections that were used until now vanish for good, others pass: what a firewall does that lost its memory.
    pub fn forget(&self) {
        let mut state = lock(&self.state);
        let mut seen = std::mem::take(&mut state.seen);
        state.forgotten.append(&mut seen);
    }

    /// Runs `work` at the edge's place: what it starts stays there.
    pub fn at_edge<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        enter(&self.edge)?;
        let outcome = work();
        enter(&self.centre)?;
        outcome
    }

    /// Pulls the plug at the edge's end: its kernel knows.
    pub fn cut(&self) -> anyhow::Result<()> {
        self.at_edge(|| ip(&["link", "set", DEVICE, "down"]))
    }

    /// Plugs it in again.
    pub fn mend(&self) -> anyhow::Result<()> {
        self.at_edge(|| ip(&["link", "set", DEVICE, "up"]))
    }
}

impl State {
    /// How this packet is treated.
    fn passes(&mut self, packet: &[u8]) -> Quality {
        let Some(connection) = connection(packet) else { return self.quality };
        if self.forgotten.contains(&connection) {
            return Quality::HALF_OPEN;
        }
        self.seen.insert(connection);
        self.quality
    }
}

/// The connection of an IPv4 packet with TCP in it; the same for both directions.
fn connection(packet: &[u8]) -> Option<Connection> {
    const TCP: u8 = 6;
    let first = *packet.first()?;
    if first >> 4 != 4 || *packet.get(9)? != TCP {
        return None;
    }
    let [a, b, c, d] = *packet.get(usize::from(first & 0xf) * 4..)?.first_chunk()?;
    let mut ports = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    ports.sort_unstable();
    Some(ports)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.end.take());
        if self.carrier.take().is_some_and(|carrier| carrier.join().is_err()) {
            eprintln!("the link's thread panicked");
        }
    }
}

/// A new namespace with nothing but a loopback device; it lasts as long as the file is open or a process is in it.
fn namespace() -> anyhow::Result<File> {
    let script = "ip link set lo up && echo up && read _";
    let mut holder = Command::new("unshare")
        .args(["--net", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start unshare")?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("no stdout")?).read_line(&mut line)?;
    let file = File::open(format!("/proc/{}/ns/net", holder.id())).context("cannot open the new namespace");
    // It reads the end of its stdin and ends.
    drop(holder.stdin.take());
    holder.wait()?;
    ensure!(line == "up\n", "cannot make a network namespace: is `ip` (iproute2) there?");
    file
}

fn enter(namespace: &File) -> anyhow::Result<()> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).context("cannot enter a namespace")
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot start ip")?;
    ensure!(output.status.success(), "ip {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}

type Ready = mpsc::SyncSender<anyhow::Result<()>>;

/// The carrier's thread: until `ended`.
fn carry(ends: &[(File, Ipv4Addr); 2], state: &Mutex<State>, seed: u64, ended: oneshot::Receiver<()>, ready: &Ready) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let [edge, centre] = ends.each_ref().map(|(namespace, address)| device(namespace, *address));
        let (edge, centre) = (edge?, centre?);
        drop(ready.send(Ok(())));
        tokio::select! {
            outcome = carry_one_way(&edge, &centre, state, StdRng::seed_from_u64(seed)) => outcome,
            outcome = carry_one_way(&centre, &edge, state, StdRng::seed_from_u64(!seed)) => outcome,
            _ = ended => Ok(()),
        }
    })
}

/// A TUN device with its address, up.
fn device(namespace: &File, address: Ipv4Addr) -> anyhow::Result<Tun> {
    enter(namespace)?;
    let builder = Tun::builder().name(DEVICE).mtu(MTU.into()).address(address).netmask(NETMASK).up().close_on_exec();
    builder.build().context("cannot make a TUN device")?.pop().context("no TUN device was made")
}

async fn carry_one_way(from: &Tun, to: &Tun, state: &Mutex<State>, mut random: StdRng) -> anyhow::Result<()> {
    let mut buffer = [0; MTU as usize];
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    // When the last bit of what waits will have left.
    let mut free_at = Instant::now();
    loop {
        let due = under_way.front().map(|(due, _)| *due);
        tokio::select! {
            () = sleep_until(due.unwrap_or(free_at)), if due.is_some() => {
                if let Some((_, packet)) = under_way.pop_front() {
                    // An end that is down takes nothing.
                    drop(to.send(&packet).await);
                }
            }
            length = from.recv(&mut buffer) => {
                let packet = &buffer[..length?];
                let now = Instant::now();
                let Quality { loss, delay, rate } = lock(state).passes(packet);
                if random.random_bool(loss) || under_way.len() >= UNDER_WAY {
                    continue;
                }
                free_at = match rate {
                    None => now,
                    Some(rate) => {
                        let time_of = |bytes: u64| Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
                        if free_at.saturating_duration_since(now) > time_of(QUEUE) {
                            continue;
                        }
                        free_at.max(now) + time_of(packet.len() as u64)
                    }
                };
                under_way.push_back((free_at + delay, packet.to_vec()));
            }
        }
    }
}
