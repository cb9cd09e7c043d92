//! OPC UA gateway: subscriptions that lose nothing on reconnect.
//!
//! One gateway serves one device file's connector: it subscribes to the variables and events, reads the constants, discovers the methods,
//! and hands all of it over as samples. Beside it, for people: what a server has ([`browse`], [`propose`]), whether it has what a connector
//! names ([`probe`]), and whom the edge trusts ([`TrustStore`]).
//!
//! Promises:
//! - What the server can give again after a lost connection is fetched again, in order; what it cannot becomes a gap event.
//! - A notification is acknowledged to the server only after its samples are durable (or refused with a gap event of the log's own).
//! - One bad node, one item that does not decode, one wrong filter harms itself alone.
//! - No server is hammered: pauses grow, and grow long after refused logins and certificates.
//! - Nothing blocks keep-alives: when the log is behind, only the fetching of notifications waits.
//! - What commands ask for ([`gateway::Actions`]) is put to the server once, and what became of it is told as it is known: a refusal that
//!   came before anything was done, or `Unknown`.
//!
//! Non-goals: history, giving structures to methods, reverse connect.
//!
//! How: the library's own subscription handling is not used, because it loses data at each reconnect; the services themselves are called
//! here. Where to look: `line` keeps the connection, `recovery` takes subscriptions up after it was lost, `publish` receives,
//! `notifications` turns messages into samples, `device` knows what is followed; `offer` is what commands know of it, `arguments` makes values
//! of their texts, `request` puts them to the server. docs/opcua.md tells what an engineer has to know.

mod acks;
mod actions;
mod arguments;
mod browse;
mod certificate;
mod config;
mod connect;
mod convert;
mod device;
mod diagnose;
mod discover;
mod durable_file;
mod error;
mod events;
mod heard;
mod identity;
mod items;
mod learn;
mod limits;
mod line;
mod meaning;
mod methods;
mod names;
mod nodes;
mod notifications;
mod offer;
mod probe;
mod propose;
mod publish;
mod recovery;
mod request;
mod run;
mod security;
mod sequence;
mod structure;
mod subscription;
mod transport;
mod trust;
mod trust_list;
mod visit;
mod walk;

pub use browse::{Browsed, Extent, Node, browse};
pub use config::{Config, Constant, EventSource, MethodRoot, SessionConfig, SubscriptionConfig, Variable, parse};
pub use error::Error;
pub use identity::{Identity, KeyChange};
pub use nodes::Address;
pub use probe::probe;
pub use propose::{propose, quoted};
pub use run::{OpcuaGateway, Shared};
pub use security::Security;
pub use trust::TrustStore;
pub use trust_list::{ListError, Listed};
