//! Loss as data: the event that says what is missing.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DataItem, Event, Kind, Sample, Timestamp};

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The log was full and dropped its oldest events, as configured (`drop_oldest`).
    DroppedOldest,
    /// The log was full and refused new events, as configured (`refuse_new`).
    RefusedNew,
    /// The event is larger than the log takes.
    TooLarge,
    /// A part of the log cannot be read any more.
    Damaged,
    /// Kafka refuses the record for good, e.g. because it is too large.
    RefusedByKafka,
    /// The device's own queue overflowed before the gateway could read it.
    DeviceQueueOverflow,
    /// The device could not give again what it sent while the connection was away.
    ConnectionLost,
    /// The edge ended without stopping in order, and heard nothing until it ran again.
    EdgeCrashed,
    /// The edge stopped in order, and what the device had to tell by then was not all on its way.
    EdgeStopped,
    /// The device's gateway failed, and heard nothing until it had been started anew.
    GatewayFailed,
    /// The gateway did not poll the device for many intervals, because it did not run or had to wait for other devices of the same line.
    NotPolled,
}

impl GapReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DroppedOldest => "dropped_oldest",
            Self::RefusedNew => "refused_new",
            Self::TooLarge => "too_large",
            Self::Damaged => "damaged",
            Self::RefusedByKafka => "refused_by_kafka",
            Self::DeviceQueueOverflow => "device_queue_overflow",
            Self::ConnectionLost => "connection_lost",
            Self::EdgeCrashed => "edge_crashed",
            Self::EdgeStopped => "edge_stopped",
            Self::GatewayFailed => "gateway_failed",
            Self::NotPolled => "not_polled",
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was lost, where, why, how many, from when to when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Whose events are missing; the edge's own asset where it cannot be known.
    pub asset: Arc<str>,
    /// The data item, where only one is concerned.
    pub item: Option<Arc<str>>,
    /// Why.
    pub reason: GapReason,
    /// How many events; `None` where nobody can know (a device's own queue).
    pub count: Option<u64>,
    /// First and last missing number of the log's (`of-seq`) count, for losses behind the log.
    pub sequences: Option<(u64, u64)>,
    /// First and last missing number of the asset's (`of-asset-seq`) count, for losses behind the log.
    pub asset_sequences: Option<(u64, u64)>,
    /// The epoch of both, where it is another than that of the gap event's own headers: the log was made anew meanwhile. 0: an earlier
    /// one that nobody knows any more.
    pub epoch: Option<u64>,
    /// When the loss began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// For people: what happened, in a sentence.
    pub detail: String,
}

impl Gap {
    /// A loss before the log: it never had numbers, and nobody knows how many events it was.
    pub fn before_log(asset: Arc<str>, reason: GapReason, from: Timestamp, to: Timestamp, detail: String) -> Self {
        Self { asset, item: None, reason, count: None, sequences: None, asset_sequences: None, epoch: None, from, to, detail }
    }

    /// Whether the event is a gap's, for this reason.
    pub fn is_told_by(event: &Event, reason: GapReason) -> bool {
        #[derive(Deserialize)]
        struct Value<'v> {
            reason: &'v str,
        }
        let value = event.value.as_str().filter(|_| event.id == "gap" && event.kind == Kind::OpenFactory);
        value.and_then(|text| serde_json::from_str(text).ok()).is_some_and(|Value { reason: told }| told == reason.as_str())
    }

    /// The gap as an event: `ID` = `gap`, `TAG` = `Gap`, `TYPE` = `OpenFactory`, `VALUE` = JSON text.
    pub fn to_sample(&self, now: Timestamp) -> Sample {
        let value = Wire {
            reason: self.reason.as_str(),
            item: self.item.as_deref(),
            count: self.count,
            sequences: self.sequences,
            asset_sequences: self.asset_sequences,
            epoch: self.epoch,
            from: self.from.to_string(),
            to: self.to.to_string(),
            detail: &self.detail,
        };
        // Texts and numbers always become JSON.
        let value = serde_json::to_string(&value).unwrap_or_default();
        let item = Arc::new(DataItem::new(self.asset.clone(), "gap", "Gap", Kind::OpenFactory));
        Sample::good(item, value, self.to, now)
    }
}

/// The JSON text in the event's `VALUE`; the order of its fields is part of the format.
#[derive(Serialize)]
struct Wire<'g> {
    reason: &'static str,
    item: Option<&'g str>,
    count: Option<u64>,
    sequences: Option<(u64, u64)>,
    asset_sequences: Option<(u64, u64)>,
    /// Left out in the usual case, that of the event's own epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    from: String,
    to: String,
    detail: &'g str,
}
