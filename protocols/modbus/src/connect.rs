//! Opening a connection and asking one question over it. A [`Connection`] that failed is dropped, never asked again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::{Error as LibraryError, ExceptionCode, ProtocolError, Request, Response, Slave, prelude::SlaveContext};
use tokio_serial::{ClearBuffer, DataBits, FlowControl, SerialPort, SerialPortBuilderExt, SerialStream, StopBits};

use crate::config::{Endpoint, Framing, Parity, SerialLine};
use crate::error::{Error, Exception};
use crate::types::{Span, Table};
use crate::write::Ready;

/// What a device answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// One for each register of the span.
    Registers(Vec<u16>),
    /// One for each coil or discrete input of the span.
    Bits(Vec<bool>),
}

/// An open connection that is in step: no question is unanswered.
pub(crate) struct Connection {
    context: Context,
    endpoint: Arc<str>,
    /// Questions that it has answered.
    pub(crate) answered: u64,
}

/// How to open an endpoint.
pub(crate) struct Opening<'e> {
    pub(crate) endpoint: &'e Endpoint,
    pub(crate) name: &'e Arc<str>,
    pub(crate) timeout: Duration,
    /// RTU only: until then a late answer may come, which is thrown away.
    pub(crate) settle_until: Option<Instant>,
}

impl Opening<'_> {
    /// Opens the endpoint; also tells how many bytes were thrown away.
    pub(crate) async fn open(&self) -> Result<(Connection, usize), Error> {
        let opened = match self.endpoint {
            Endpoint::Tcp { host, port, framing, .. } => self.tcp(host, *port, *framing).await,
            Endpoint::Serial(line) => self.serial(line).await,
        };
        let (context, late) = opened.map_err(|cause| {
            let hint = hint(self.endpoint, &cause, self.timeout).into();
            Error::Connect { endpoint: self.name.clone(), hint, cause: Arc::new(cause) }
        })?;
        Ok((Connection { context, endpoint: self.name.clone(), answered: 0 }, late))
    }

    async fn tcp(&self, host: &str, port: u16, framing: Framing) -> io::Result<(Context, usize)> {
        let mut stream = timeout(self.timeout, TcpStream::connect((host, port))).await??;
        // A question is one small packet, and the next waits for its answer.
        stream.set_nodelay(true)?;
        match framing {
            Framing::Tcp => Ok((tcp::attach(stream), 0)),
            Framing::Rtu => {
                let late = drain(&mut stream, self.settle_until).await?;
                Ok((rtu::attach(stream), late))
            }
        }
    }

    async fn serial(&self, line: &SerialLine) -> io::Result<(Context, usize)> {
        let line = line.clone();
        // Opening a port talks to its driver, which may take its time.
        let opened = timeout(self.timeout, tokio::task::spawn_blocking(move || open_port(&line))).await?;
        let mut stream = opened.map_err(io::Error::other)??;
        let late = drain(&mut stream, self.settle_until).await?;
        stream.clear(ClearBuffer::Input)?;
        Ok((rtu::attach(stream), late))
    }
}

fn open_port(line: &SerialLine) -> io::Result<SerialStream> {
    let parity = match line.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    };
    let stop_bits = if line.stop_bits == 2 { StopBits::Two } else { StopBits::One };
    let builder = tokio_serial::new(&line.port, line.baud_rate)
        .data_bits(DataBits::Eight)
        .flow_control(FlowControl::None)
        .parity(parity)
        .stop_bits(stop_bits);
    Ok(builder.open_native_async()?)
}

/// Throws away what comes until the time, and a little longer while bytes keep coming: half an answer would spoil the next.
async fn drain(stream: &mut (impl AsyncRead + Unpin), until: Option<Instant>) -> io::Result<usize> {
    const BETWEEN_BYTES: Duration = Duration::from_millis(50);
    const LONGEST_ANSWER: Duration = Duration::from_secs(2);
    let Some(until) = until.filter(|until| *until > Instant::now()) else { return Ok(0) };
    let (mut end, mut thrown, mut bytes) = (until, 0, [0; 256]);
    while let Ok(read) = timeout_at(end, stream.read(&mut bytes)).await {
        match read? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => thrown += count,
        }
        end = end.max(Instant::now() + BETWEEN_BYTES).min(until + LONGEST_ANSWER);
    }
    Ok(thrown)
}

impl Connection {
    /// Asks for a span. After any error but [`Error::Refused`], and when the future is dropped, the connection is out of step: drop it.
    pub(crate) async fn ask(&mut self, unit: u8, span: Span) -> Result<Payload, Error> {
        let (start, count) = (span.start(), span.count());
        let request = match span.table() {
            Table::Coils => Request::ReadCoils(start, count),
            Table::DiscreteInputs => Request::ReadDiscreteInputs(start, count),
            Table::InputRegisters => Request::ReadInputRegisters(start, count),
            Table::HoldingRegisters => Request::ReadHoldingRegisters(start, count),
        };
        let response = self.call(unit, span, request).await?;
        let payload = payload(response, span).map_err(|detail| self.garbled(unit, span, detail))?;
        self.answered += 1;
        Ok(payload)
    }

    /// Writes, once. An error says nothing about whether it was done, but for [`Error::Refused`]; and it is the same with the connection as after [`Self::ask`].
    pub(crate) async fn write(&mut self, unit: u8, ready: &Ready) -> Result<(), Error> {
        let response = self.call(unit, ready.span, ready.request()).await?;
        if !ready.is_confirmed_by(&response) {
            return Err(self.garbled(unit, ready.span, "it does not say back what was to be written".to_owned()));
        }
        self.answered += 1;
        Ok(())
    }

    async fn call(&mut self, unit: u8, span: Span, request: Request<'_>) -> Result<Response, Error> {
        self.context.set_slave(Slave(unit));
        // `call`, not the library's reading functions: those do not check how much came.
        match self.context.call(request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(exception)) => {
                self.answered += 1;
                Err(Error::Refused { endpoint: self.endpoint.clone(), unit, span, exception: code(exception) })
            }
            Err(LibraryError::Protocol(mismatch)) => Err(self.garbled(unit, span, describe(&mismatch))),
            Err(LibraryError::Transport(cause)) if cause.kind() == io::ErrorKind::InvalidData => {
                Err(self.garbled(unit, span, cause.to_string()))
            }
            Err(LibraryError::Transport(cause)) => {
                Err(Error::Disconnected { endpoint: self.endpoint.clone(), cause: Arc::new(plain(cause)) })
            }
        }
    }

    fn garbled(&self, unit: u8, span: Span, detail: String) -> Error {
        Error::Garbled { endpoint: self.endpoint.clone(), unit, span, detail: detail.into() }
    }
}

fn code(exception: ExceptionCode) -> Exception {
    Exception(exception.into())
}

fn payload(response: Response, span: Span) -> Result<Payload, String> {
    let wanted = usize::from(span.count());
    match response {
        Response::ReadHoldingRegisters(registers) | Response::ReadInputRegisters(registers) if registers.len() == wanted => {
            Ok(Payload::Registers(registers))
        }
        Response::ReadHoldingRegisters(registers) | Response::ReadInputRegisters(registers) => {
            Err(format!("{} registers instead of {wanted}", registers.len()))
        }
        // Bits come in whole bytes.
        Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits) if bits.len() == wanted.next_multiple_of(8) => {
            bits.truncate(wanted);
            Ok(Payload::Bits(bits))
        }
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            Err(format!("{} bytes of bits instead of {}", bits.len() / 8, wanted.div_ceil(8)))
        }
        _ => Err("it answers another function".to_owned()),
    }
}

fn describe(mismatch: &ProtocolError) -> String {
    match mismatch {
        ProtocolError::HeaderMismatch { .. } => "it belongs to another question or comes from another unit".to_owned(),
        ProtocolError::FunctionCodeMismatch { .. } => "it answers another function".to_owned(),
    }
}

/// The library makes an end of file an error with whatever the system's last error was.
fn plain(cause: io::Error) -> io::Error {
    match cause.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted | io::ErrorKind::TimedOut => cause,
        _ => io::Error::new(io::ErrorKind::UnexpectedEof, "end of stream"),
    }
}

fn hint(endpoint: &Endpoint, cause: &io::Error, timeout: Duration) -> String {
    use io::ErrorKind as Kind;
    let hint = match (endpoint, cause.kind()) {
        (Endpoint::Tcp { .. }, Kind::ConnectionRefused) => "is the device on, is the port right?",
        (Endpoint::Tcp { .. }, Kind::TimedOut) => {
            return format!("nobody answers within {} ms: is the device on, is the address right?", timeout.as_millis());
        }
        (Endpoint::Tcp { .. }, Kind::HostUnreachable | Kind::NetworkUnreachable) => "is the cable in, is the route right?",
        (Endpoint::Tcp { .. }, Kind::ConnectionReset | Kind::UnexpectedEof) => {
            "the device ended the connection at once: does it take so many connections?"
        }
        (Endpoint::Tcp { host, .. }, _) if host.parse::<std::net::IpAddr>().is_err() => {
            "is the host name right, does the name server know it?"
        }
        (Endpoint::Tcp { .. }, _) => "is the address right?",
        (Endpoint::Serial(_), Kind::PermissionDenied) => "is the service's user in the group that owns the port (dialout)?",
        (Endpoint::Serial(line), _) if !std::path::Path::new(&line.port).exists() => {
            "there is no such port: is the adapter plugged in, is the path right?"
        }
        (Endpoint::Serial(_), Kind::NotFound) => "the port is busy: does another program use it?",
        (Endpoint::Serial(_), _) => "is it a serial port, does it know these settings?",
    };
    hint.to_owned()
}
