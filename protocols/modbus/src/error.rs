//! What can go wrong between us and a device, in words that help the person in front of it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::types::Span;

/// A failure of the gateway. Cheap to clone: several devices of one connection may share it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The connection cannot be opened.
    #[error("{endpoint} cannot be opened ({hint})")]
    Connect {
        /// Host and port, or the serial port.
        endpoint: Arc<str>,
        /// What to look at.
        hint: Arc<str>,
        /// The system's own words.
        #[source]
        cause: Arc<io::Error>,
    },
    /// The device did not answer in time.
    #[error("unit {unit} at {endpoint} did not answer within {} ms{}", timeout.as_millis(), Late(*late_bytes))]
    Timeout {
        /// Host and port, or the serial port.
        endpoint: Arc<str>,
        /// The unit id that was asked.
        unit: u8,
        /// How long it had.
        timeout: Duration,
        /// Bytes that came when the time was over: the device lives, but is slower than the timeout.
        late_bytes: usize,
    },
    /// The connection ended while an answer was awaited.
    #[error("{endpoint} ended the connection")]
    Disconnected {
        /// Host and port, or the serial port.
        endpoint: Arc<str>,
        /// The system's own words.
        #[source]
        cause: Arc<io::Error>,
    },
    /// An answer came that does not belong to the question.
    #[error("unit {unit} at {endpoint} was asked for {span}, but the answer does not fit: {detail}")]
    Garbled {
        /// Host and port, or the serial port.
        endpoint: Arc<str>,
        /// The unit id that was asked.
        unit: u8,
        /// What it was asked for.
        span: Span,
        /// What was wrong with the answer.
        detail: Arc<str>,
    },
    /// The device answered with an exception.
    #[error("unit {unit} at {endpoint} refuses {span}: {exception}")]
    Refused {
        /// Host and port, or the serial port.
        endpoint: Arc<str>,
        /// The unit id that was asked.
        unit: u8,
        /// What it was asked for.
        span: Span,
        /// Its reason.
        exception: Exception,
    },
    /// Two device files give one line two settings.
    #[error("`{wanted}` contradicts another device's `{known}`: a line has the same settings for all its devices")]
    Contradiction {
        /// What the second device's file says.
        wanted: String,
        /// What the first device's file says.
        known: String,
    },
    /// The task that serves the connection has ended.
    #[error("the connection to {endpoint} was shut down")]
    Stopped {
        /// Host and port, or the serial port.
        endpoint: Arc<str>,
    },
}

struct Late(usize);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            bytes => write!(f, ", but {bytes} bytes came later: raise `timeout`"),
        }
    }
}

/// A device's reason not to answer: the exception code of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exception(pub u8);

/// What is to be done about an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// A part of the request may be answered.
    Split,
    /// Later the same request may be answered.
    Wait,
    /// The device behind the gateway is away.
    Reconnect,
    /// Nothing: this request is not answered.
    None,
}

impl Exception {
    /// The name in the specification.
    pub fn name(self) -> &'static str {
        match self.0 {
            0x01 => "IllegalFunction",
            0x02 => "IllegalDataAddress",
            0x03 => "IllegalDataValue",
            0x04 => "ServerDeviceFailure",
            0x05 => "Acknowledge",
            0x06 => "ServerDeviceBusy",
            0x07 => "NegativeAcknowledge",
            0x08 => "MemoryParityError",
            0x0A => "GatewayPathUnavailable",
            0x0B => "GatewayTargetDeviceFailedToRespond",
            _ => "Exception",
        }
    }

    /// What the person who wrote the device file can do about it.
    pub fn advice(self) -> &'static str {
        match self.0 {
            0x01 => {
                "the device does not know this function: is it another kind of address (holding or input register, coil or discrete input)?"
            }
            0x02 => "the device has no such address: is it counted from 0, and long enough for the type?",
            0x03 => "the device does not give so much at once: is the type right, is `requests.max_registers` too large?",
            0x04 => "the device failed while it answered",
            0x05 | 0x06 => "the device is busy",
            0x08 => "the device reports a defect of its memory",
            0x0A => "the gateway has no line to this unit id: is `unit_id` right?",
            0x0B => "the device behind the gateway does not answer: is it on, is `unit_id` right?",
            _ => "see the device's manual",
        }
    }

    /// Some devices answer "device failure" where others say "illegal address".
    pub(crate) fn remedy(self) -> Remedy {
        match self.0 {
            0x02..=0x04 => Remedy::Split,
            0x05..=0x07 => Remedy::Wait,
            0x0A | 0x0B => Remedy::Reconnect,
            _ => Remedy::None,
        }
    }
}

/// As in the event's attribute `status`, e.g. `IllegalDataAddress (0x02)`.
impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.name(), self.0)
    }
}
