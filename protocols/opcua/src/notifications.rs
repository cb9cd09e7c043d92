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

/// Reads a message. `ingested`: when it arrived; `publishing`: the first message of those that belong together.
pub(crate) fn read(
    message: NotificationMessage,
    publishing: u32,
    items: &mut [Item],
    events: &mut EventReader,
    ingested: Timestamp,
) -> Told {
    let mut told = Told::default();
    let now = Instant::now();
    for part in message.notification_data.unwrap_or_default() {
        read_part(part, items, events, At { publishing, ingested, now }, &mut told);
    }
    told
}

/// What a message belongs to, and when it arrived, by both clocks.
#[derive(Clone, Copy)]
struct At {
    publishing: u32,
    ingested: Timestamp,
    now: Instant,
}

fn read_part(part: ExtensionObject, items: &mut [Item], events: &mut EventReader, at: At, told: &mut Told) {
    if part.inner_is::<DataChangeNotification>() {
        let changes = part.into_inner_as::<DataChangeNotification>().and_then(|n| n.monitored_items).unwrap_or_default();
        told.samples.reserve(changes.len());
        for change in changes {
            if let Some(item) = place(change.client_handle).and_then(|place| items.get_mut(place)) {
                read_value(&change.value, item, at, told);
            }
        }
    } else if part.inner_is::<EventNotificationList>() {
        for event in part.into_inner_as::<EventNotificationList>().and_then(|n| n.events).unwrap_or_default() {
            if let Some(item) = place(event.client_handle).and_then(|place| items.get_mut(place)) {
                read_event(&event, item, events, at, told);
            }
        }
    } else if let Some(change) = part.inner_as::<StatusChangeNotification>() {
        told.status_change = Some(change.status);
    } else {
        warn!(kind = %part.binary_type_id(), "a notification of an unknown kind was dropped");
    }
}

#[inline]
fn read_value(data: &DataValue, item: &mut Item, at: At, told: &mut Told) {
    let read = convert(data, &item.meaning);
    let timestamp = read.timestamp.unwrap_or(at.ingested);
    if let Some((from, to)) = item.received(at.publishing, timestamp, overflowed(data), at.now) {
        told.gaps.push(overflow(item, from, to));
    }
    if !matches!(read.quality, asset_stream::Quality::Bad(_)) {
        item.settle_kind(kind_of_value(&read.value));
    }
    told.samples.push(Sample {
        item: item.data.clone(),
        value: read.value,
        quality: read.quality,
        timestamp,
        ingested: at.ingested,
        attributes: read.attributes,
    });
}

fn read_event(event: &EventFieldList, item: &mut Item, events: &mut EventReader, at: At, told: &mut Told) {
    let ingested = at.ingested;
    match events.read(&item.data.id, event.event_fields.as_deref().unwrap_or_default(), ingested) {
        Occurrence::Event(sample) => {
            if let Some((from, to)) = item.received(at.publishing, sample.timestamp, false, at.now) {
                told.gaps.push(overflow(item, from, to));
            }
            told.samples.push(sample);
        }
        Occurrence::RefreshRequired => told.needs_refresh = true,
        Occurrence::Overflow => told.gaps.push(overflow(item, item.last.unwrap_or(ingested), ingested)),
        Occurrence::Repeated | Occurrence::RefreshStarted | Occurrence::RefreshEnded => {}
    }
}

/// The gap of an item whose queue on the server overflowed.
pub(crate) fn overflow(item: &Item, from: Timestamp, to: Timestamp) -> Gap {
    let detail = format!(
        "the server's queue of {:?} was full: queue_size is smaller than its changes within one publishing interval or outage",
        item.data.id
    );
    let asset = item.data.asset.clone();
    Gap { item: Some(item.data.id.clone()), ..Gap::before_log(asset, GapReason::DeviceQueueOverflow, from, to, detail) }
}

#[cfg(test)]
mod tests {
    use super::{Told, has_data, read};
    use crate::config::{Config, SessionConfig, SubscriptionConfig, Variable};
    use crate::events::EventReader;
    use crate::items::Item;
    use crate::nodes::Address;
    use crate::security::Security;
    use asset_stream::device_file::Access;
    use asset_stream::{Kind, Quality, Timestamp, Value};
    use gateway::{DeviceLink, channel};
    use opcua::types::{DataValue, DateTime, MonitoredItemNotification, NotificationMessage, StatusCode};

    fn items(count: usize) -> Vec<Item> {
        let variable = |i: usize| Variable {
            name: format!("v{i}"),
            tag: format!("V{i}"),
            address: Address::node_id("ns=2;i=1").expect("valid"),
            kind: None,
            deadband: None,
            queue_size: 1,
            sampling_interval: 0.0,
            access: Access::ReadOnly,
        };
        let config = Config {
            uri: "opc.tcp://plc".into(),
            security: Security::default(),
            session: SessionConfig::default(),
            subscription: SubscriptionConfig::default(),
            constants: Vec::new(),
            variables: (0..count).map(variable).collect(),
            events: Vec::new(),
            methods: Vec::new(),
        };
        Item::all(&config, &DeviceLink::new("plc", "PLC-1", channel(1 << 20).0))
    }

    fn tell(items: &mut [Item], number: u32, changes: Vec<(u32, DataValue)>) -> Told {
        let changes = changes.into_iter().map(|(client_handle, value)| MonitoredItemNotification { client_handle, value }).collect();
        let message = NotificationMessage::data_change(number, DateTime::now(), changes, Vec::new());
        read(message, number, items, &mut EventReader::new("PLC-1".into()), Timestamp::from_millis(0))
    }

    fn good(second: u16) -> DataValue {
        DataValue::new_at_status(i32::from(second), DateTime::ymd_hms(2026, 1, 1, 0, 0, second), StatusCode::Good)
    }

    fn marked(second: u16) -> DataValue {
        DataValue { status: Some(StatusCode::Good.set_overflow(true)), ..good(second) }
    }

    /// From and to of the gaps, in seconds.
    fn seconds(told: &Told) -> Vec<(i64, i64)> {
        let second = |at: Timestamp| at.millis() / 1_000 % 60;
        told.gaps.iter().map(|gap| (second(gap.from), second(gap.to))).collect()
    }

    #[test]
    fn an_overflow_is_told_as_a_gap_of_the_item_once_in_a_while() {
        let mut items = items(2);
        tell(&mut items, 1, vec![(2, good(1))]);
        let told = tell(&mut items, 2, vec![(1, good(1)), (2, good(5)), (2, good(6)), (2, marked(7)), (2, marked(8))]);
        assert_eq!(told.samples.len(), 5);
        let [gap] = &told.gaps[..] else { panic!("one gap: {:?}", told.gaps) };
        assert_eq!((gap.item.as_deref(), gap.count, gap.reason.as_str()), (Some("v1"), None, "device_queue_overflow"));
        assert_eq!(seconds(&told), [(1, 7)], "whichever end of the queue a server marks, what is missing is older than all of it");
        assert!(told.samples.iter().all(|sample| sample.quality == Quality::Good));
    }

    #[test]
    fn a_queue_that_comes_full_counts_as_overflowed_unless_the_server_marks_overflows() {
        let mut items = items(3);
        items[0].accept(Some(1), 3);
        items[1].accept(Some(1), 3);
        items[2].accept(Some(1), 1);
        let full = |handle: u32, from: u16| (from..from + 3).map(move |second| (handle, good(second)));
        tell(&mut items, 1, vec![(1, good(1)), (2, marked(1)), (3, good(1))]);
        let told = tell(&mut items, 2, full(1, 5).chain(full(2, 5)).chain([(3, good(5))]).collect());
        assert_eq!(seconds(&told), [(1, 5)], "of the first item alone: {:?}", told.gaps);
        let told = tell(&mut items, 3, full(1, 8).take(2).collect());
        assert_eq!(seconds(&told), [], "a queue with room left");
    }

    #[test]
    fn a_full_queue_that_comes_in_two_messages_is_seen_as_full() {
        let mut items = items(1);
        items[0].accept(Some(1), 3);
        tell(&mut items, 1, vec![(1, good(1))]);
        let first = tell(&mut items, 2, vec![(1, good(5)), (1, good(6))]);
        // The message 3, of the same publishing.
        let second = tell(&mut items, 2, vec![(1, good(7))]);
        assert_eq!((seconds(&first), seconds(&second)), (vec![], vec![(1, 5)]));
    }

    #[test]
    fn the_first_good_value_settles_the_kind_and_unknown_handles_are_left_out() {
        let mut items = items(2);
        let bad = DataValue { status: Some(StatusCode::BadSensorFailure), ..DataValue::null() };
        let told =
            tell(&mut items, 1, vec![(0, DataValue::new_now(1)), (9, DataValue::new_now(1)), (1, bad), (1, DataValue::new_now(2.5_f64))]);
        let seen: Vec<_> = told.samples.iter().map(|s| (&*s.item.id, s.item.kind, s.value == Value::Float64(2.5))).collect();
        assert_eq!(seen, [("v0", Kind::Events, false), ("v0", Kind::Samples, true)]);
    }

    #[test]
    fn a_keep_alive_has_no_data_and_a_status_change_has() {
        assert!(!has_data(&NotificationMessage::keep_alive(5, DateTime::now())));
        let ended = NotificationMessage::status_change(5, DateTime::now(), StatusCode::BadTimeout);
        assert!(has_data(&ended));
        let told = read(ended, 5, &mut items(1), &mut EventReader::new("PLC-1".into()), Timestamp::from_millis(0));
        assert_eq!(told.status_change, Some(StatusCode::BadTimeout));
    }
}
