//! From a notification message to samples.

use std::time::Instant;

use asset_stream::{Gap, GapReason, Sample, Timestamp};
use opcua::types::{
    DataChangeNotification, DataValue, EventFieldList, EventNotificationList, ExtensionObject, NotificationMessage,
    StatusChangeNotification, StatusCode,
};
use tracing::warn;

use crate::convert::{convert, kind_of_value, overflowed};
use crate::events::{EventReader, Occurrence};
use crate::items::Item;
use crate::subscription::place;

/// What a notification message told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// In the server's order.
    pub(crate) samples: Vec<Sample>,
    /// What the server's own queues lost before these samples.
    pub(crate) gaps: Vec<Gap>,
    /// The subscription itself changed.
    pub(crate) status_change: Option<StatusCode>,
    /// The server asks us to ask for its present alarms.
    pub(crate) needs_refresh: bool,
}

/// Whether a message holds anything; keep-alives do not.
pub(crate) fn has_data(message: &NotificationMessage) -> bool {
    message.notification_data.as_ref().is_some_and(|data| !data.is_empty())
}

/// Reads a message. `ingested`: when it arrived.
pub(crate) fn read(message: NotificationMessage, items: &mut [Item], events: &mut EventReader, ingested: Timestamp) -> Told {
    let mut told = Told::default();
    let now = Instant::now();
    for part in message.notification_data.unwrap_or_default() {
        read_part(part, items, events, ingested, now, &mut told);
    }
    told
}

fn read_part(part: ExtensionObject, items: &mut [Item], events: &mut EventReader, ingested: Timestamp, now: Instant, told: &mut Told) {
    if part.inner_is::<DataChangeNotification>() {
        let changes = part.into_inner_as::<DataChangeNotification>().and_then(|n| n.monitored_items).unwrap_or_default();
        told.samples.reserve(changes.len());
        for change in changes {
            if let Some(item) = place(change.client_handle).and_then(|place| items.get_mut(place)) {
                read_value(&change.value, item, ingested, now, told);
            }
        }
    } else if part.inner_is::<EventNotificationList>() {
        for event in part.into_inner_as::<EventNotificationList>().and_then(|n| n.events).unwrap_or_default() {
            if let Some(item) = place(event.client_handle).and_then(|place| items.get_mut(place)) {
                read_event(&event, item, events, ingested, told);
            }
        }
    } else if let Some(change) = part.inner_as::<StatusChangeNotification>() {
        told.status_change = Some(change.status);
    } else {
        warn!(kind = %part.binary_type_id(), "a notification of an unknown kind was dropped");
    }
}

#[inline]
fn read_value(data: &DataValue, item: &mut Item, ingested: Timestamp, now: Instant, told: &mut Told) {
    let read = convert(data, &item.meaning);
    let timestamp = read.timestamp.unwrap_or(ingested);
    if overflowed(data)
        && let Some((from, to)) = item.overflowed(timestamp, now)
    {
        told.gaps.push(overflow(item, from, to));
    }
    if !matches!(read.quality, asset_stream::Quality::Bad(_)) {
        item.settle_kind(kind_of_value(&read.value));
    }
    item.last = Some(timestamp);
    told.samples.push(Sample {
        item: item.data.clone(),
        value: read.value,
        quality: read.quality,
        timestamp,
        ingested,
        attributes: read.attributes,
    });
}

fn read_event(event: &EventFieldList, item: &mut Item, events: &mut EventReader, ingested: Timestamp, told: &mut Told) {
    match events.read(&item.data.id, event.event_fields.as_deref().unwrap_or_default(), ingested) {
        Occurrence::Event(sample) => {
            item.last = Some(sample.timestamp);
            told.samples.push(sample);
        }
        Occurrence::RefreshRequired => told.needs_refresh = true,
        Occurrence::Overflow => told.gaps.push(overflow(item, item.last.unwrap_or(ingested), ingested)),
        Occurrence::Repeated | Occurrence::RefreshStarted | Occurrence::RefreshEnded => {}
    }
}

/// The gap of an item whose queue on the server overflowed.
pub(crate) fn overflow(item: &Item, from: Timestamp, to: Timestamp) -> Gap {
    Gap {
        asset: item.data.asset.clone(),
        item: Some(item.data.id.clone()),
        reason: GapReason::DeviceQueueOverflow,
        count: None,
        sequences: None,
        asset_sequences: None,
        from,
        to,
        detail: format!(
            "the server's queue of {:?} overflowed: queue_size is smaller than its changes within one publishing interval or outage",
            item.data.id
        ),
    }
}
