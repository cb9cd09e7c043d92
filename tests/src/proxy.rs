//! A TCP proxy that breaks connections in the ways in which networks do.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Each piece of bytes waits this long.
    Delay(Duration),
    /// At most this many bytes a second in each direction of each connection.
    Rate(usize),
}

#[derive(Debug, Default)]
struct State {
    fault: Mutex<Fault>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
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
        let ends = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())];
        {
            let mut open = self.open();
            open.push(client);
            open.push(server);
        }
        for (from, to) in ends {
            let (Ok(from), Ok(to)) = (from, to) else { continue };
            let state = self.clone();
            std::thread::spawn(move || state.pump(from, to));
        }
    }

    /// Ends when either side is closed.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        // What lost bytes stays lost, also after the fault: the rest would be garbage to the other side.
        let mut forgotten = false;
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let fault = self.fault();
            forgotten |= fault == Fault::Swallow;
            let passed = match fault {
                Fault::Refuse => false,
                _ if forgotten => true,
                Fault::None | Fault::Swallow => to.write_all(&buffer[..length]).is_ok(),
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
        for stream in [from, to] {
            // The other half may have closed it first.
            drop(stream.shutdown(Shutdown::Both));
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
