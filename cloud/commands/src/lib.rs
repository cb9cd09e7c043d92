//! Commands on the cloud's side: they come down to the edges, are given by people and by NATS clients, and what becomes of them is told.
//!
//! ```text
//! senders ──► asset stream ── copier (a thread) ──► topic of commands ──► edges
//!                 ▲   │
//!     producer ───┘   └── statuses ── follower (a thread) ──► whoever waits: `command send`, NATS clients
//! ```
//!
//! Promises:
//! - Each command of the asset stream stands once in the topic of commands, for readers of what is committed, and those of a partition in their
//!   order: records and offsets are one transaction of Kafka's, whatever is killed and whoever takes over.
//! - What is no command is not copied. What is one and cannot be read is copied: the edge says what is wrong with it.
//! - A command is written to the asset stream, and so reaches the edges in one way alone, whoever gives it.
//! - Whoever waits for a command's life hears all of it: the partition is read from where it ended before the command was written.
//! - While Kafka or NATS is away this waits, says so, and goes on by itself.
//!
//! Non-goals: judging commands. Whether an asset exists, who may do what and when a command is too late is for the edge to say.

pub mod config;
mod copier;
mod error;
mod follower;
pub mod front;
mod given;
mod kafka;
mod record;
mod running;
mod seen;
mod status;
mod topics;

pub use config::Commands;
pub use error::Error;
pub use given::{Commander, Life, command};
pub use running::{GRACE, Handle, Running};
pub use seen::NEWEST;
pub use status::{PartitionStatus, Status, pages};
