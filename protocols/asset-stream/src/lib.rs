//! The asset stream's wire format as types.
//!
//! What stands in Kafka, what NATS serves and what a device file says is defined here and nowhere else. No network, no tokio; the only
//! files read are device files and UNS schemas.
//!
//! | for | see |
//! | --- | --- |
//! | writing events | [`Sample`], [`Gap`], [`facts`], [`command`] |
//! | reading events | [`Event`], [`headers`], [`topics`] |
//! | serving events | [`serving`], [`subject`] |
//! | what people write | [`device_file`], [`uns`], and [`document`] below both |
//!
//! Promises:
//! - What [`Sample::encode`] writes, [`Event::decode`] reads back unchanged, and existing installations understand it.
//! - Nothing in here panics on input: bad records and bad device files are errors that name place and remedy.
//!
//! Non-goals: talking to Kafka, NATS or devices; deciding what to do about a bad record.
//!
//! ```
//! use asset_stream::{DataItem, Kind, Quality, Sample, Timestamp};
//! use std::sync::Arc;
//!
//! let item = Arc::new(DataItem::new("OPCUA-SENSOR-001", "temp", "Temperature", Kind::Samples));
//! let at = Timestamp::from_millis(1_769_528_223_871);
//! let sample = Sample::good(item, 24.3, at, at);
//! let mut json = Vec::new();
//! sample.encode(&mut json);
//! assert!(json.starts_with(br#"{"ID":"temp","VALUE":24.3,"TAG":"Temperature","TYPE":"Samples","#));
//! # assert_eq!(sample.quality, Quality::Good);
//! ```

pub mod command;
pub mod device_file;
pub mod document;
mod event;
pub mod facts;
mod gap;
pub mod headers;
pub mod partition;
mod sample;
pub mod serving;
pub mod subject;
mod timestamp;
pub mod topics;
pub mod uns;
mod value;

pub use event::{Event, Malformed};
pub use gap::{Gap, GapReason};
pub use headers::Position;
pub use sample::{DataItem, Kind, Quality, Sample};
pub use timestamp::Timestamp;
pub use value::{UNAVAILABLE, Value};
