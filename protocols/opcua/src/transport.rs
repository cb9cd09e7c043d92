//! The TCP connection under a session: bounded in time, and cut on our word.
//!
//! The library's own connector waits for ever for a host that swallows packets, and the only way it knows to drop a dead connection is to
//! close the session first: a request into the void, and where it does arrive, the end of the server's subscriptions.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use opcua::client::ConnectionSource;
use opcua::client::transport::{
    Connector, RequestRecv, SecureChannelState, StreamConnection, StreamConnector, StreamTransport, TransportConfiguration,
};
use opcua::core::comms::tcp_codec::TcpCodec;
use opcua::core::comms::url::hostname_port_from_url;
use opcua::types::{DecodingOptions, EndpointDescription, Error, StatusCode};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::codec::FramedRead;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The port of OPC UA where the address names none.
const PORT: u16 = 4840;
/// For one of several addresses of a name.
const EACH: Duration = Duration::from_secs(5);

/// Cuts the connection of a line, as a pulled plug would: the session on the server lives on and can be reactivated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<CutState>);

#[derive(Debug, Default)]
struct CutState {
    current: Mutex<CancellationToken>,
    answered: AtomicBool,
}

impl Cut {
    /// Cuts the connection that is open now.
    pub(crate) fn now(&self) {
        self.current().cancel();
    }

    /// Whether an OPC UA server answered on TCP since the last question: then a failure to connect is a matter of security or session.
    pub(crate) fn server_answered(&self) -> bool {
        self.0.answered.swap(false, Ordering::Relaxed)
    }

    fn arm(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.current() = token.clone();
        token
    }

    fn current(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        // Nothing panics while holding the lock.
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes TCP connections that end by themselves when they take too long, or at once when they are cut.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) cut: Cut,
    /// For name resolution, TCP and the OPC UA hello together.
    pub(crate) within: Duration,
}

impl Dialer {
    /// A connector for one server.
    pub(crate) fn connector(&self, url: impl Into<String>) -> DialedConnector {
        DialedConnector { dialer: self.clone(), url: url.into() }
    }
}

impl ConnectionSource for Dialer {
    type Builder = DialedConnector;

    fn get_connector(&self, endpoint: &EndpointDescription) -> Result<DialedConnector, Error> {
        Ok(self.connector(endpoint.endpoint_url.as_ref()))
    }
}

/// The library's connector for one server.
pub(crate) struct DialedConnector {
    dialer: Dialer,
    url: String,
}

impl Connector for DialedConnector {
    type Transport = StreamTransport<CutReader, OwnedWriteHalf>;

    async fn connect(
        &self,
        channel: Arc<SecureChannelState>,
        requests: RequestRecv,
        config: TransportConfiguration,
    ) -> Result<Self::Transport, Error> {
        let cut = self.dialer.cut.arm();
        let open = |url: String, decoding: DecodingOptions| open(url, decoding, cut.clone());
        let connector = StreamConnector::new(open, self.url.clone());
        let Ok(transport) = timeout(self.dialer.within, connector.connect(channel, requests, config)).await else {
            return Err(Error::new(StatusCode::BadTimeout, format!("{} did not answer within {:?}", self.url, self.dialer.within)));
        };
        self.dialer.cut.0.answered.fetch_or(transport.is_ok(), Ordering::Relaxed);
        transport
    }

    fn default_endpoint(&self) -> EndpointDescription {
        EndpointDescription::from(self.url.as_str())
    }
}

async fn open(
    url: String,
    decoding: DecodingOptions,
    cut: CancellationToken,
) -> Result<StreamConnection<CutReader, OwnedWriteHalf>, Error> {
    let (host, port) = hostname_port_from_url(&url, PORT).map_err(|status| Error::new(status, format!("{url} is no opc.tcp address")))?;
    let unreachable = |e: io::Error| Error::new(StatusCode::BadCommunicationError, e);
    let stream = dial(&host, port).await.map_err(unreachable)?;
    // Small requests (acknowledgements, keep-alives) must not wait for each other.
    stream.set_nodelay(true).map_err(unreachable)?;
    let (reader, writer) = stream.into_split();
    let reader = CutReader { reader, cut: Box::pin(cut.cancelled_owned()) };
    Ok(StreamConnection::new(FramedRead::new(reader, TcpCodec::new(decoding)), writer, url))
}

/// Tries every address of the name, none of them for long: `localhost` is often an IPv6 address first, and the server on IPv4 only.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in lookup_host(format!("{host}:{port}")).await? {
        match timeout(EACH, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} did not answer within {EACH:?}")),
        }
    }
    Err(last)
}

/// The reading half; fails once the connection is cut.
pub(crate) struct CutReader {
    reader: OwnedReadHalf,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for CutReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut, because the server did not answer")));
        }
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}
