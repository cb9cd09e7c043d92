//! A TCP proxy that breaks connections in the ways in which networks do.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the proxy does to the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Open connections are cut, new ones are cut at once.
    Refuse,
    /// Connections stay open, bytes of either direction vanish: what a firewall that forgot the connection does.
    Swallow,
    /// As [`Fault::Swallow`], but only what the server answers vanishes: it took what nobody will know of.
    SwallowAnswers,
    /// Each piece of bytes waits this long.
    Delay(Duration),
    /// At most this many bytes a second in each direction of each connection.
    Rate(usize),
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer { connection: u64 },
    ToClient,
}

#[derive(Debug, Default)]
struct State {
    fault: Mutex<Fault>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
    connections: AtomicU64,
    /// Connections with lower numbers hold back what their clients send.
    held_below: AtomicU64,
    /// Bytes held back so far.
    held: AtomicU64,
    closed: AtomicBool,
}

/// Listens on a port of its own and passes everything on to one target.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    /// Listens on a port that the kernel chooses.
    pub fn start(target: SocketAddr) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, target)
    }

    /// As [`Self::start`], at an address of this machine that others may reach.
    pub fn start_at(host: Ipv4Addr, target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.closed.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(client) = client else { continue };
                // A target that is not there cuts the client off, as it would without us.
                if shared.fault() != Fault::Refuse
                    && let Ok(server) = TcpStream::connect(target)
                {
                    shared.join(client, server);
                }
            }
        });
        Ok(Self { address, state })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on; [`Fault::Refuse`] cuts what is open.
    pub fn set(&self, fault: Fault) {
        *self.state.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
        self.state.changed.notify_all();
        if fault == Fault::Refuse {
            self.cut();
        }
    }

    /// From now on what clients send on the connections open now stays here, even when they have died: a network that delivers late. New
    /// connections are let through.
    pub fn hold(&self) {
        self.state.held_below.store(self.state.connections.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Bytes held back so far.
    pub fn held(&self) -> u64 {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Delivers what was held back of connections whose clients have closed them; of others, with their next bytes.
    pub fn deliver(&self) {
        self.state.held_below.store(0, Ordering::SeqCst);
        drop(self.state.fault.lock().unwrap_or_else(PoisonError::into_inner));
        self.state.changed.notify_all();
    }

    /// Cuts the open connections once; new ones are let through.
    pub fn cut(&self) {
        for stream in self.state.open().drain(..) {
            // Closed by its peer already: that is what we want.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.set(Fault::Refuse);
        // Wakes the accepting thread so that it sees that it is over, and frees the port.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        let ends = [
            (Way::ToServer { connection }, client.try_clone(), server.try_clone()),
            (Way::ToClient, server.try_clone(), client.try_clone()),
        ];
        {
            let mut open = self.open();
            open.push(client);
            open.push(server);
        }
        for (way, from, to) in ends {
            let (Ok(from), Ok(to)) = (from, to) else { continue };
            let state = self.clone();
            std::thread::spawn(move || state.pump(way, from, to));
        }
    }

    /// Ends when either side is closed.
    fn pump(&self, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        let mut late = Vec::new();
        // What lost bytes stays lost, also after the fault: the rest would be garbage to the other side.
        let mut forgotten = false;
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if self.holds(way) {
                late.extend_from_slice(&buffer[..length]);
                self.held.fetch_add(length as u64, Ordering::SeqCst);
                continue;
            }
            if to.write_all(&std::mem::take(&mut late)).is_err() {
                break;
            }
            let fault = self.fault();
            forgotten |= fault == Fault::Swallow || (fault, way) == (Fault::SwallowAnswers, Way::ToClient);
            let passed = match fault {
                Fault::Refuse => false,
                _ if forgotten => true,
                Fault::None | Fault::Swallow | Fault::SwallowAnswers => to.write_all(&buffer[..length]).is_ok(),
                Fault::Delay(delay) => {
                    self.pause(delay);
                    to.write_all(&buffer[..length]).is_ok()
                }
                Fault::Rate(rate) => {
                    self.pause(Duration::from_secs_f64(length as f64 / rate.max(1) as f64));
                    to.write_all(&buffer[..length]).is_ok()
                }
            };
            if !passed {
                break;
            }
        }
        if !late.is_empty() {
            self.wait_delivery(way);
            if to.write_all(&late).is_ok() {
                // The server answers, finds nobody, and closes.
                drop(to.shutdown(Shutdown::Write));
                return;
            }
        }
        for stream in [from, to] {
            // The other half may have closed it first.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn holds(&self, way: Way) -> bool {
        matches!(way, Way::ToServer { connection } if connection < self.held_below.load(Ordering::SeqCst))
    }

    fn wait_delivery(&self, way: Way) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        while self.holds(way) && !self.closed.load(Ordering::SeqCst) {
            fault = self.changed.wait(fault).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits, but not longer than the fault lasts.
    fn pause(&self, duration: Duration) {
        let deadline = Instant::now() + duration;
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = *fault;
        while *fault == begun {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            fault = self.changed.wait_timeout(fault, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
