//! Forwards the asset stream from Kafka to NATS, and says which NATS cluster serves an asset.
//!
//! ```text
//! Kafka ── consumer (a thread) ──► partition (a task each) ──► lane (a task for each NATS cluster) ──► JetStream or plain NATS
//!              ▲ offsets                 │ done, in order             │ acknowledged
//!              └─────────────────────────┴────────────────────────────┘        what cannot be forwarded ──► dead-letter topic
//! ```
//!
//! Promises:
//! - An offset is committed only when everything before it was acknowledged by NATS, or is a known repeat, or stands in the dead-letter topic.
//! - Into JetStream each event goes once, and the events of an asset in their order, whatever breaks: see `window.rs` for the rule and
//!   `docs/decisions/0005-order-under-pipelining.md` for why it is this one.
//! - While NATS or Kafka is away the forwarder waits, keeps its place in the consumer group, and goes on by itself.
//! - Memory is bounded for each partition, in records and bytes.
//! - One record that nobody can take stops nothing.
//!
//! Non-goals: plain NATS (`jetstream = false`) cannot keep a subscriber from seeing a stretch twice after a broken connection; a cluster that
//! is away for so long that a partition's budget is full of its events holds that partition's other events up, too. A topic that gets
//! more partitions moves assets between them, and what stands in two partitions has no order. No state is kept here.

mod budget;
pub mod config;
mod consumer;
pub mod dead_letters;
mod error;
pub mod forward;
pub mod http;
mod jetstream;
mod lane;
mod link;
mod lives;
mod member;
mod message;
mod partition;
mod plain;
mod prefix;
mod record;
mod repeats;
pub mod ring;
pub mod router;
mod search;
mod status;
mod stream;
mod window;

pub use config::Config;
pub use error::Error;
pub use forward::{Forwarder, Handle};
pub use status::{ClusterStatus, PartitionStatus, Status};
