//! How many clients a server of pages has at once, and how long one may keep its place without doing anything.
//!
//! Pages are small and asked for seldom, so a client that needs a place for long is broken, or means harm. When there are too many, the
//! oldest goes and not the newest: whoever asks at once gets an answer, however many others just sit there.

use std::collections::VecDeque;
use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What clients may use up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at the same time.
    pub(super) connections: usize,
    /// How long a client may take to send a request's head, and keep an idle connection.
    pub(super) head: Duration,
    /// How long a client may take nothing of an answer.
    pub(super) stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Prometheus asks every 15 s, unless told otherwise, and keeps its connection.
        Self { connections: 64, head: Duration::from_secs(30), stall: Duration::from_secs(10) }
    }
}

/// The connections of one server, oldest first.
#[derive(Clone)]
pub(super) struct Connections {
    places: Arc<Mutex<VecDeque<CancellationToken>>>,
    limits: Limits,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self { places: Arc::default(), limits }
    }

    fn take_place(&self) -> CancellationToken {
        let token = CancellationToken::new();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|place| !place.is_cancelled());
        while places.len() >= self.limits.connections
            && let Some(oldest) = places.pop_front()
        {
            oldest.cancel();
        }
        places.push_back(token.clone());
        token
    }
}

impl<S> Accept<TcpStream, S> for Connections {
    type Stream = Connection;
    type Service = S;
    type Future = Ready<io::Result<(Connection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = self.take_place();
        let ended = Box::pin(place.clone().cancelled_owned());
        ready(Ok((Connection { stream, place, ended, patience: self.limits.stall, stalled: None }, service)))
    }
}

/// A client's connection, which ends when its place is needed, or when the client takes nothing of its answer.
pub(super) struct Connection {
    stream: TcpStream,
    place: CancellationToken,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    patience: Duration,
    /// Since the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    fn check_place(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "its place was needed")),
            Poll::Pending => Ok(()),
        }
    }

    fn check_progress(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Whoever is gone needs no place.
impl Drop for Connection {
    fn drop(&mut self) {
        self.place.cancel();
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_place(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_place(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_progress(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
