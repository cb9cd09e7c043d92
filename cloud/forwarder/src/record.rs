//! A record of Kafka, owned: what the partition's task and the dead letters need of it.

use std::borrow::Cow;
use std::sync::Arc;

use asset_stream::headers;
use bytes::Bytes;
use rdkafka::Timestamp as KafkaTimestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// What a record costs in memory beside its own bytes, about.
const OVERHEAD: usize = 400;

/// Records of a partition that travel together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The life of the topic in which they stand, where Kafka tells that.
    pub(crate) life: Option<Arc<str>>,
    pub(crate) records: Vec<Record>,
}

/// One record.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Bytes>,
    pub(crate) time: Time,
    pub(crate) headers: Vec<(Cow<'static, str>, Option<Vec<u8>>)>,
}

/// The record's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// The topic has none.
    None,
    /// Set by the producer (CreateTime), in Unix milliseconds.
    Producer(i64),
    /// Set by the broker (LogAppendTime), in Unix milliseconds.
    Broker(i64),
}

impl Record {
    pub(crate) fn copy_of(message: &BorrowedMessage<'_>, topic: Arc<str>) -> Self {
        let headers = message.headers().map(|all| all.iter().map(|h| (name(h.key), h.value.map(<[u8]>::to_vec))).collect());
        Self {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(Bytes::copy_from_slice),
            time: match message.timestamp() {
                KafkaTimestamp::NotAvailable => Time::None,
                KafkaTimestamp::CreateTime(millis) => Time::Producer(millis),
                KafkaTimestamp::LogAppendTime(millis) => Time::Broker(millis),
            },
            headers: headers.unwrap_or_default(),
        }
    }

    /// The value of a header, if it is there and text without control characters (which NATS headers cannot carry).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        std::str::from_utf8(value.as_deref()?).ok().filter(|text| !text.contains(char::is_control))
    }

    /// What it costs in memory, about: its bytes and those of the message made of it.
    pub(crate) fn cost(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        OVERHEAD + self.key.as_ref().map_or(0, Vec::len) + 2 * value + headers
    }
}

/// Our own headers are on nearly every record: no allocation for their names.
fn name(key: &str) -> Cow<'static, str> {
    let known = [headers::EDGE, headers::SEQUENCE, headers::ASSET_SEQUENCE, headers::RESENT, headers::REPLAY];
    known.into_iter().find(|known| *known == key).map_or_else(|| Cow::Owned(key.to_owned()), Cow::Borrowed)
}
