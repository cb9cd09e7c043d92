//! A TCP proxy that breaks connections in the ways that networks do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Ends connections, and new ones at once.
    Cut,
    /// Keeps connections open and swallows what they send, both ways.
    Swallow,
    /// Passes so many more bytes of the server, then ends the connection: in the middle of a message. Goes on with the next one.
    CutAfter(usize),
}

/// A proxy to one server; everything ends when it is dropped.
pub struct Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.set(Mode::Cut);
    }
}

impl Proxy {
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (mode, watched) = watch::channel(Mode::Pass);
        let accepted = Arc::new(AtomicU64::new(0));
        let (count, tell) = (accepted.clone(), mode.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(client, server, watched.clone(), tell.clone()));
            }
        });
        Self { port, mode, accepted, task }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Connections so far, those that were cut at once too.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn serve(client: TcpStream, server: u16, mode: watch::Receiver<Mode>, tell: watch::Sender<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    // Either end ends both.
    tokio::select! {
        () = pass(client_reads, server_writes, mode.clone(), None) => {}
        () = pass(server_reads, client_writes, mode, Some(tell)) => {}
    }
}

/// Passes bytes on as long as the mode allows. `tell`: for the direction that `CutAfter` counts.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>, tell: Option<watch::Sender<Mode>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let now = *mode.borrow_and_update();
        let read = tokio::select! {
            changed = mode.changed() => if changed.is_ok() { continue } else { return },
            read = from.read(&mut buffer), if now != Mode::Cut => read,
            () = std::future::ready(()), if now == Mode::Cut => return,
        };
        let Ok(count @ 1..) = read else { return };
        let now = *mode.borrow();
        match (now, &tell) {
            (Mode::Cut, _) => return,
            (Mode::Swallow, _) => continue,
            (Mode::CutAfter(left), Some(tell)) if left <= count => {
                // Whatever the peer makes of it, the connection is over.
                drop(to.write_all(&buffer[..left]).await);
                drop(to.shutdown().await);
                tell.send_replace(Mode::Pass);
                return;
            }
            (Mode::CutAfter(left), Some(tell)) => {
                tell.send_replace(Mode::CutAfter(left - count));
            }
            (Mode::CutAfter(_) | Mode::Pass, _) => {}
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
