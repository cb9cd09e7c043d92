//! A record of the asset stream as NATS serves it.
//!
//! [`serve`] takes `ID` out of the record's JSON and puts the times of its way into `attributes`; every other byte stays as the writer
//! wrote it: order, white space, the spelling of numbers. It checks that the JSON is sound and copies it once.
//!
//! ```
//! use asset_stream::Timestamp;
//! use asset_stream::serving::{Facts, RecordTime, serve};
//!
//! let at = Timestamp::from_millis(1_769_528_223_882);
//! let facts = Facts { kafka: RecordTime::Producer(at), forwarded: at };
//! let served = serve(br#"{"ID": "temp", "VALUE": 24.30, "attributes": {}}"#, &facts)?;
//! assert_eq!(served.id, "temp");
//! assert_eq!(
//!     String::from_utf8_lossy(&served.payload),
//!     r#"{"VALUE": 24.30, "attributes": {"kafka_timestamp":"2026-01-27T15:37:03.882Z","kafka_timestamp_type":"producer","#.to_owned()
//!         + r#""asset_forwarder_timestamp":"2026-01-27T15:37:03.882Z"}}"#
//! );
//! # Ok::<(), asset_stream::Malformed>(())
//! ```

mod not_finite;
mod rewrite;

use std::borrow::Cow;

use crate::subject::escape;
use crate::{Malformed, Position, Timestamp};

/// The times that are added, in this order.
const ADDED: [&str; 3] = ["kafka_timestamp", "kafka_timestamp_type", "asset_forwarder_timestamp"];
/// How many bytes they take at most, with an `attributes` around them.
const ADDED_BYTES: usize = 192;

/// The time of a Kafka record, and who set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordTime {
    /// `CreateTime`: the producer, from the time of observation.
    Producer(Timestamp),
    /// `LogAppendTime`: the broker.
    Broker(Timestamp),
    /// The record has none: nothing is added about it.
    Unknown,
}

/// What the forwarder knows of a record and adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The record's time.
    pub kafka: RecordTime,
    /// When it is forwarded.
    pub forwarded: Timestamp,
}

/// What is published for a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served<'v> {
    /// The record's `ID`, for the subject.
    pub id: Cow<'v, str>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Makes the payload of a record's value.
///
/// `ID` and `attributes` are found in any case. Times that are there already, because the record was forwarded before, are replaced.
/// A bare `NaN` or `Infinity` is no JSON, but writers in Python write it: it is served as a string, as our edges write it.
pub fn serve<'v>(value: &'v [u8], facts: &Facts) -> Result<Served<'v>, Malformed> {
    let text = std::str::from_utf8(value).map_err(|_| Malformed::NotAnObject(None))?;
    rewrite::rewrite(text, facts).or_else(|malformed| match not_finite::quoted(text) {
        Some(text) => rewrite::rewrite(&text, facts).map(Served::into_owned),
        None => Err(malformed),
    })
}

/// Appends the added members.
fn write_facts(facts: &Facts, out: &mut Vec<u8>) {
    let (at, who): (Timestamp, &[u8]) = match facts.kafka {
        RecordTime::Producer(at) => (at, b"producer"),
        RecordTime::Broker(at) => (at, b"broker"),
        RecordTime::Unknown => return write_forwarded(facts, out),
    };
    out.extend_from_slice(b"\"kafka_timestamp\":\"");
    at.write(out);
    out.extend_from_slice(b"\",\"kafka_timestamp_type\":\"");
    out.extend_from_slice(who);
    out.extend_from_slice(b"\",");
    write_forwarded(facts, out);
}

fn write_forwarded(facts: &Facts, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"asset_forwarder_timestamp\":\"");
    facts.forwarded.write(out);
    out.push(b'"');
}

/// `Nats-Msg-Id` of an event that an edge of ours wrote: `<edge>:<epoch>:<n>`, the same however often it is forwarded.
pub fn event_message_id(edge: &str, sequence: Position) -> String {
    // Whatever stands in a header of Kafka, the id has to be one word of a header of NATS.
    format!("{}:{sequence}", escape(edge.as_bytes()))
}

/// `Nats-Msg-Id` of any other record: `<topic>:<partition>:<offset>`.
pub fn record_message_id(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}:{partition}:{offset}")
}

#[cfg(test)]
mod tests;
