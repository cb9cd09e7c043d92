//! A sample: what a gateway read, before it has a sequence.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::value::{UNAVAILABLE, write_string};
use crate::{Timestamp, Value};

/// Attributes that [`Sample::encode`] writes itself.
const OWN_ATTRIBUTES: [&str; 4] = ["timestamp", "ingestion_timestamp", "quality", "status"];

/// Kafka refuses records that are more than an hour ahead of its clock (`message.timestamp.after.max.ms`); half of that leaves room for
/// the difference between the edge's clock and the broker's.
const MAX_AHEAD_MS: i64 = 30 * 60 * 1000;
/// Nothing that a device gives again is older; a clock that says so is wrong. Kafka deletes by the record's time.
const MAX_BEHIND_MS: i64 = 24 * 60 * 60 * 1000;

/// The record's `TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Numbers.
    Samples,
    /// Strings, booleans, enumerations.
    Events,
    /// Alarms.
    Condition,
    /// An operation that the asset offers.
    Method,
    /// Platform facts and commands.
    OpenFactory,
}

impl Kind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Samples => "Samples",
            Self::Events => "Events",
            Self::Condition => "Condition",
            Self::Method => "Method",
            Self::OpenFactory => "OpenFactory",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Samples, Self::Events, Self::Condition, Self::Method, Self::OpenFactory].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that an asset tells: shared by all samples of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataItem {
    /// UUID of the asset, the record's key.
    pub asset: Arc<str>,
    /// The local name in the device file, the record's `ID`.
    pub id: Arc<str>,
    /// Semantic label, the record's `TAG`.
    pub tag: Arc<str>,
    /// The record's `TYPE`.
    pub kind: Kind,
}

impl DataItem {
    /// A data item of an asset.
    pub fn new(asset: impl Into<Arc<str>>, id: impl Into<Arc<str>>, tag: impl Into<Arc<str>>, kind: Kind) -> Self {
        Self { asset: asset.into(), id: id.into(), tag: tag.into(), kind }
    }
}

/// How far a value can be trusted. The text is the protocol's own status, e.g. `BadSensorFailure (0x808C0000)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quality {
    /// As good as the device can tell.
    Good,
    /// Usable with care.
    Uncertain(Cow<'static, str>),
    /// No value: [`Sample::encode`] writes `"UNAVAILABLE"`, whatever the value field holds.
    Bad(Cow<'static, str>),
}

/// One reading of one data item.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What was read.
    pub item: Arc<DataItem>,
    /// The value; ignored when the quality is bad.
    pub value: Value,
    /// How far the value can be trusted.
    pub quality: Quality,
    /// When it was observed, by the device's clock; by the edge's clock where the device has none.
    pub timestamp: Timestamp,
    /// When it reached the edge, by the edge's clock.
    pub ingested: Timestamp,
    /// Further `attributes`, e.g. an alarm's severity; those that a sample has anyway are left out, as no reader could tell them apart.
    pub attributes: Vec<(Cow<'static, str>, String)>,
}

impl Sample {
    /// A sample of good quality.
    pub fn good(item: Arc<DataItem>, value: impl Into<Value>, timestamp: Timestamp, ingested: Timestamp) -> Self {
        Self { item, value: value.into(), quality: Quality::Good, timestamp, ingested, attributes: Vec::new() }
    }

    /// A sample that says: there is no value, and why.
    pub fn bad(item: Arc<DataItem>, status: impl Into<Cow<'static, str>>, timestamp: Timestamp, ingested: Timestamp) -> Self {
        Self { item, value: Value::unavailable(), quality: Quality::Bad(status.into()), timestamp, ingested, attributes: Vec::new() }
    }

    /// About how many bytes the sample holds in memory, for limits in bytes.
    pub fn size_hint(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(name, text)| name.len() + text.len() + 48).sum();
        size_of::<Self>() + self.value.size_hint() + attributes
    }

    /// The record's time, Unix milliseconds: the device's, unless its clock is so wrong that a broker refuses the record, or deletes it for its
    /// age before anybody has read it. `attributes.timestamp` has the device's in any case.
    pub fn record_time(&self) -> i64 {
        let (device, ingested) = (self.timestamp.millis(), self.ingested.millis().max(1));
        let plausible = ingested.saturating_sub(MAX_BEHIND_MS).max(1)..=ingested.saturating_add(MAX_AHEAD_MS);
        if plausible.contains(&device) { device } else { ingested }
    }

    /// Appends the record's value: the JSON object as Kafka gets it. About 200 bytes for a number.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ID\":");
        write_string(&self.item.id, out);
        out.extend_from_slice(b",\"VALUE\":");
        match self.quality {
            Quality::Bad(_) => write_string(UNAVAILABLE, out),
            Quality::Good | Quality::Uncertain(_) => self.value.write(out),
        }
        out.extend_from_slice(b",\"TAG\":");
        write_string(&self.item.tag, out);
        out.extend_from_slice(b",\"TYPE\":\"");
        out.extend_from_slice(self.item.kind.as_str().as_bytes());
        out.extend_from_slice(b"\",\"attributes\":{\"timestamp\":\"");
        self.timestamp.write(out);
        out.extend_from_slice(b"\",\"ingestion_timestamp\":\"");
        self.ingested.write(out);
        out.extend_from_slice(b"\",\"quality\":");
        match &self.quality {
            Quality::Good => out.extend_from_slice(b"\"Good\""),
            Quality::Uncertain(status) => write_status("Uncertain", status, out),
            Quality::Bad(status) => write_status("Bad", status, out),
        }
        for (name, text) in self.attributes.iter().filter(|(name, _)| !OWN_ATTRIBUTES.contains(&&**name)) {
            out.push(b',');
            write_string(name, out);
            out.push(b':');
            write_string(text, out);
        }
        out.extend_from_slice(b"}}");
    }
}

fn write_status(quality: &str, status: &str, out: &mut Vec<u8>) {
    write_string(quality, out);
    out.extend_from_slice(b",\"status\":");
    write_string(status, out);
}

#[cfg(test)]
mod tests {
    use super::{DataItem, Kind, Sample};
    use crate::Timestamp;

    #[test]
    fn a_device_clock_that_is_far_off_does_not_decide_the_records_time() {
        let now = 1_769_528_223_871;
        let record_time = |device, ingested| {
            let item = DataItem::new("PRESS-1", "temp", "Temperature", Kind::Samples);
            Sample::good(item.into(), 1.0, Timestamp::from_millis(device), Timestamp::from_millis(ingested)).record_time()
        };
        assert_eq!(record_time(now - 82_800_000, now), now - 82_800_000, "what a device gives again may be hours old");
        assert_eq!(record_time(1_000, now), now, "1970: retention would delete the record at once");
        assert_eq!(record_time(now + 60_000, now), now + 60_000, "a minute ahead is ordinary");
        assert_eq!(record_time(now + 7_200_000, now), now, "two hours ahead would be refused");
        for broken in [0, -1] {
            assert_eq!(record_time(broken, now), now, "Kafka has no such time: {broken}");
            assert_eq!(record_time(broken, broken), 1, "not even if the edge's own clock says so: {broken}");
        }
    }
}
