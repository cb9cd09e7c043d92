//! What every protocol gateway shares.
//!
//! A gateway speaks one protocol to one device and turns what it reads into [`asset_stream::Sample`]s. It hands them over through a
//! [`DeviceLink`]; what happens behind the link (log, Kafka) is none of its business.
//!
//! Promises:
//! - [`DeviceLink::send`] waits when the edge is behind (back-pressure) and never drops.
//! - Memory between gateways and the log is bounded in bytes ([`channel`]).
//! - What a device is asked to do goes through [`Actions`], and is put to it at most once.
//! - [`supervise`] keeps one device's failure, panics included, to that device, and tells `avail` honestly.
//!
//! Non-goals: a plugin registry, knowledge of any protocol.

mod actions;
mod backoff;
mod error;
mod finding;
mod link;
mod status;
mod supervise;

pub use actions::{Actions, Ending, Pending, Refusal, Request};
pub use backoff::Backoff;
pub use error::chain;
pub use finding::Finding;
pub use link::{Batch, Closed, DeviceLink, Outcome, Receipt, SampleReceiver, SampleSender, channel};
pub use status::{Connection, DeviceStatus};
pub use supervise::{Gateway, RunFuture, supervise};
