//! A device's connector, valid by construction of [`crate::parse`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use asset_stream::Kind;
use asset_stream::device_file::Access;

use crate::decode::Decoder;
use crate::plan::Limits;
use crate::types::{Report, Span};
use crate::write::Functions;

/// One device: one unit id on one connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The connection; devices with equal endpoints share it.
    pub endpoint: Endpoint,
    /// The unit id (slave address).
    pub unit: u8,
    /// How long to wait for what.
    pub timing: Timing,
    /// What fits into a request.
    pub limits: Limits,
    /// The functions that it is written with.
    pub functions: Functions,
    /// How often variables are read.
    pub groups: Vec<Group>,
    /// What is read.
    pub variables: Vec<Variable>,
}

/// What is opened to reach a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A socket.
    Tcp {
        /// Name or address.
        host: String,
        /// Usually 502.
        port: u16,
        /// What is spoken over it.
        framing: Framing,
        /// Who may use it.
        sharing: Sharing,
    },
    /// A serial line.
    Serial(SerialLine),
}

/// What is spoken over a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Modbus TCP: each answer names its question.
    Tcp,
    /// RTU frames through a serial device server: answers do not name their question.
    Rtu,
}

/// Who may use a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Every device at the same host and port: many gateways take few connections.
    Shared,
    /// One device, named by its place in the device files.
    Own(String),
}

/// A serial line and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SerialLine {
    /// The device node, e.g. `/dev/ttyUSB0`.
    pub port: String,
    /// Bits a second.
    pub baud_rate: u32,
    /// The check bit.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

/// A serial line's check bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parity {
    /// None.
    None,
    /// Even: what the specification asks for.
    Even,
    /// Odd.
    Odd,
}

impl SerialLine {
    /// Bits that a byte takes on the line.
    fn bits_a_byte(&self) -> u32 {
        1 + 8 + u32::from(self.parity != Parity::None) + u32::from(self.stop_bits)
    }

    /// How long `bytes` are under way.
    pub fn transfer_time(&self, bytes: u32) -> Duration {
        Duration::from_secs(1) * (bytes * self.bits_a_byte()) / self.baud_rate.max(1)
    }

    /// The silence that separates two frames: 3.5 characters, and at least 1.75 ms.
    pub fn silence(&self) -> Duration {
        (self.transfer_time(7) / 2).max(Duration::from_micros(1750))
    }
}

impl Endpoint {
    /// Whether answers do not name their question, so that a late one could be taken for the next.
    pub fn is_rtu(&self) -> bool {
        matches!(self, Self::Serial(_) | Self::Tcp { framing: Framing::Rtu, .. })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Serial(line) => f.write_str(&line.port),
        }
    }
}

impl fmt::Display for SerialLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(f, "{} {} 8{parity}{}", self.port, self.baud_rate, self.stop_bits)
    }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// For the connection.
    pub connect_timeout: Duration,
    /// For an answer; on a serial line the time that the bytes are under way comes on top.
    pub timeout: Duration,
    /// How often a question without an answer is asked again before the device counts as silent.
    pub retries: u32,
    /// Between the last answer and the next question, for devices that need a rest.
    pub request_delay: Duration,
    /// RTU only: after a timeout the line is left alone this long, so that a late answer is not taken for the next one.
    pub settle_time: Duration,
    /// The share of a shared connection's time that waiting for silent devices may take: above 0, up to 1.
    pub silent_share: f64,
    /// The longest wait between attempts to reach a device.
    pub max_reconnect_delay: Duration,
    /// The first wait before what a device refused is asked for again; it doubles up to an hour.
    pub retry_refused: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(1),
            retries: 1,
            request_delay: Duration::ZERO,
            settle_time: Duration::from_secs(1),
            silent_share: 0.1,
            max_reconnect_delay: Duration::from_secs(30),
            retry_refused: Duration::from_secs(60),
        }
    }
}

/// Variables that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// For people.
    pub name: Arc<str>,
    /// When.
    pub interval: Interval,
}

/// When a group is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Once for each connection.
    Once,
    /// Again and again; never zero.
    Every(Duration),
}

/// One variable or constant of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name in the device file, the event's `ID`.
    pub id: Arc<str>,
    /// Its semantic label, the event's `TAG`.
    pub tag: Arc<str>,
    /// The event's `TYPE`.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
    /// How it is to be understood.
    pub decoder: Decoder,
    /// The unit of measurement, the event's attribute `unit`.
    pub unit: Option<Arc<str>>,
    /// A change up to this much is not told; 0 tells every change.
    pub deadband: f64,
    /// When a reading is told.
    pub report: Report,
    /// Whether commands may write it.
    pub access: Access,
    /// Its group, an index into [`Config::groups`].
    pub group: usize,
}
