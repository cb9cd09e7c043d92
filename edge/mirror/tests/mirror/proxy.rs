//! A broker's front door that can hold back its answers to what is produced. It writes itself into the broker's metadata, so that clients stay with it.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Numbers of the requests of one connection that produce.
type Produced = Mutex<HashSet<[u8; 4]>>;

#[derive(Debug, Default)]
struct State {
    holds_answers: AtomicBool,
    held: AtomicU64,
    cuts: AtomicU64,
    is_over: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

/// A running proxy; its drop ends it.
pub(crate) struct Proxy {
    pub(crate) address: String,
    port: u16,
    state: Arc<State>,
}

impl Proxy {
    /// In front of the broker `host:port`.
    pub(crate) fn before(broker: &str) -> Self {
        let (host, port) = broker.rsplit_once(':').expect("host:port");
        let real = pattern(host, port.parse().expect("a port"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let own = pattern(host, port);
        let state = Arc::new(State::default());
        let (broker, shared) = (broker.to_owned(), state.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&broker) else { continue };
                let pair = [client.try_clone(), server.try_clone()];
                shared.sockets.lock().expect("unpoisoned").extend(pair.into_iter().flatten());
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                let produced = Arc::new(Produced::default());
                let noted = produced.clone();
                thread::spawn(move || requests(from, to, &noted));
                let (shared, real, own) = (shared.clone(), real.clone(), own.clone());
                thread::spawn(move || answers(server, client, &shared, &produced, &real, &own));
            }
        });
        Self { address: format!("{host}:{port}"), port, state }
    }

    /// From now on what is produced reaches the broker, and no answer to it comes back.
    pub(crate) fn hold_answers(&self) {
        self.state.holds_answers.store(true, Ordering::SeqCst);
    }

    /// Answers held back so far.
    pub(crate) fn held(&self) -> u64 {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Lets answers through again; those held back are lost with their connections.
    pub(crate) fn release(&self) {
        self.cut();
        self.state.holds_answers.store(false, Ordering::SeqCst);
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
        for socket in self.state.sockets.lock().expect("unpoisoned").drain(..) {
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.cut();
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// How a broker stands in a metadata answer: its host, then its port in four bytes.
fn pattern(host: &str, port: u16) -> Vec<u8> {
    [host.as_bytes(), &u32::from(port).to_be_bytes()].concat()
}

/// One request or answer: its length in four bytes, then as many.
fn frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let len = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + len, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// A request begins with its kind (0: produce) and version in two bytes each, then the number that its answer begins with.
fn requests(mut from: TcpStream, mut to: TcpStream, produced: &Produced) {
    while let Ok(frame) = frame(&mut from) {
        if let [_, _, _, _, 0, 0, _, _, a, b, c, d, ..] = frame[..] {
            produced.lock().expect("unpoisoned").insert([a, b, c, d]);
        }
        if to.write_all(&frame).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

fn answers(mut from: TcpStream, mut to: TcpStream, state: &State, produced: &Produced, real: &[u8], own: &[u8]) {
    while let Ok(mut frame) = frame(&mut from) {
        let is_to_produced =
            matches!(frame[..], [_, _, _, _, a, b, c, d, ..] if produced.lock().expect("unpoisoned").remove(&[a, b, c, d]));
        if is_to_produced && state.holds_answers.load(Ordering::SeqCst) {
            state.held.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        while let Some(at) = frame.windows(real.len()).position(|window| window == real) {
            frame[at..at + own.len()].copy_from_slice(own);
        }
        if to.write_all(&frame).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
