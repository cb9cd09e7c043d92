//! The edge's durable log: append, read, acknowledge, retain, recover. Knows keys and bytes, not events.

mod config;
mod entry;
mod error;
mod log;
mod loss;
mod reader;
mod recovery;
mod stats;

pub use config::{Config, WhenFull};
pub use entry::{Appended, Cursor, Entry, Read, Refusal, Stored};
pub use error::Error;
pub use log::{Log, Opened, open};
pub use loss::{KeyLoss, Loss, LossReason};
pub use reader::Reader;
pub use recovery::Recovery;
pub use stats::{Health, Stats};
