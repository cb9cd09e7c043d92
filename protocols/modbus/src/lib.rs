//! The Modbus gateway: registers and bits of a device become samples.
//!
//! Modbus has no subscriptions, no timestamps and no qualities. This crate polls, in as few requests as the device allows, and tells
//! what changed; the time is that of the answer, by the edge's clock.
//!
//! Promises:
//! - An answer is never taken for the answer to another question, not even a late one: see `serve`.
//! - A device that is slow or silent costs others nothing, or, on a shared line, its `silent_share`.
//! - A variable that the device refuses harms no other: requests are split until it stands alone, and it is told as bad once.
//! - After an outage every value is told anew.
//! - Polls that a device has no time for are skipped, not queued, and that is said.
//! - Reads may be repeated. Writes are sent once, by commands alone ([`gateway::Actions`]), and what became of one is told as it is known: where
//!   no answer came, or a strange one, that is `Unknown`.
//!
//! Non-goals: Modbus ASCII, Modbus UDP, TLS; being a server.
//!
//! ```
//! use asset_stream::document::{Document, Environment, Problems};
//! use gateway_modbus::{Buses, ModbusGateway, parse};
//!
//! let file = b"server: {host: 10.0.0.17}\nvariables: {temp: {holding_register: 0, type: int16, scale: 0.1}}\n";
//! let (problems, environment) = (Problems::new(), Environment::empty());
//! let document = Document::parse("press.yaml", file, &problems).expect("valid YAML");
//! let config = parse(document.root(&environment, &problems)).expect("a valid connector");
//! let buses = Buses::new(); // one for all gateways
//! let gateway = ModbusGateway::new(config, &buses).expect("no contradiction");
//! ```

mod actions;
mod bus;
mod config;
mod connect;
mod cycle;
mod decode;
mod encode;
mod errand;
mod error;
mod gateway;
mod guess;
mod parse;
mod plan;
mod poll;
mod probe;
mod scan;
mod schedule;
mod serve;
mod told;
mod types;
mod write;

pub use bus::Buses;
pub use config::{Config, Endpoint, Framing, Group, Interval, Parity, SerialLine, Sharing, Timing, Variable};
pub use connect::Payload;
pub use decode::Decoder;
pub use error::{Error, Exception};
pub use gateway::ModbusGateway;
pub use guess::Guess;
pub use parse::parse;
pub use plan::{Block, Join, Limits, plan};
pub use probe::probe;
pub use scan::{Left, Mapped, Most, Pace, Presence, Progress, Scanner, Why};
pub use types::{Bits, DataType, Encoding, Report, Scaling, Span, Table, Trim, WordOrder, parse_reference};
pub use write::{Functions, One, SomeBits};
