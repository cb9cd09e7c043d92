//! Alarms and events as `Condition` samples.
//!
//! | field | from |
//! | --- | --- |
//! | `VALUE` | the event's message |
//! | `TAG` of an alarm | `Fault` (active, severity 667 and more), `Warning` (active, less severe), `Normal` (not active, or disabled) |
//! | `TAG` of another event | the name of its type, e.g. `SystemEventType`; the node id where the server does not tell the name |
//! | `timestamp` | the event's `Time` |
//! | attributes | `severity`, `source`, `source_node`, `event_type`, `event_id` (base64), and of conditions `condition`, `condition_id`, `active`, `acked`, `enabled`, `retain`, `branch` |
//!
//! OPC UA's severities go from 1 to 1,000. 667 is where the standard's mapping from the older Alarms & Events begins to say "high".

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use asset_stream::{DataItem, Kind, Sample, Timestamp};
use opcua::client::Session;
use opcua::client::UARequest;
use opcua::client::services::Call;
use opcua::types::{
    AttributeId, BrowseDescription, BrowseDirection, BrowseResultMaskFlags, CallMethodRequest, ContentFilter, ContentFilterBuilder,
    EventFilter, ExtensionObject, MethodId, NodeId, NumericRange, ObjectTypeId, Operand, QualifiedName, ReferenceTypeId,
    SimpleAttributeOperand, StatusCode, Variant,
};

use crate::convert;
use crate::limits::{self, Limits};
use crate::meaning::Meaning;

const FAULT: u64 = 667;
/// Types derived from types; no real server goes deeper.
const LEVELS: usize = 32;
/// Event types and conditions that are remembered: many times what a machine has, and a bound against a server that makes them up.
const REMEMBERED: usize = 10_000;
/// Some servers answer after they have sent every alarm.
const REFRESH: Duration = Duration::from_secs(30);

/// What is asked for, in this order. Servers leave empty what an event does not have.
const FIELDS: [(ObjectTypeId, &[&str]); 15] = [
    (ObjectTypeId::BaseEventType, &["EventId"]),
    (ObjectTypeId::BaseEventType, &["EventType"]),
    (ObjectTypeId::BaseEventType, &["SourceNode"]),
    (ObjectTypeId::BaseEventType, &["SourceName"]),
    (ObjectTypeId::BaseEventType, &["Time"]),
    (ObjectTypeId::BaseEventType, &["ReceiveTime"]),
    (ObjectTypeId::BaseEventType, &["Message"]),
    (ObjectTypeId::BaseEventType, &["Severity"]),
    (ObjectTypeId::ConditionType, &["ConditionName"]),
    (ObjectTypeId::ConditionType, &["BranchId"]),
    (ObjectTypeId::ConditionType, &["Retain"]),
    (ObjectTypeId::ConditionType, &["EnabledState", "Id"]),
    (ObjectTypeId::AcknowledgeableConditionType, &["AckedState", "Id"]),
    (ObjectTypeId::AlarmConditionType, &["ActiveState", "Id"]),
    // No path: the condition itself, whose node id is what an acknowledgement names.
    (ObjectTypeId::ConditionType, &[]),
];

/// The places of [`FIELDS`].
mod place {
    pub(super) const EVENT_ID: usize = 0;
    pub(super) const EVENT_TYPE: usize = 1;
    pub(super) const SOURCE_NODE: usize = 2;
    pub(super) const SOURCE_NAME: usize = 3;
    pub(super) const TIME: usize = 4;
    pub(super) const RECEIVE_TIME: usize = 5;
    pub(super) const MESSAGE: usize = 6;
    pub(super) const SEVERITY: usize = 7;
    pub(super) const CONDITION_NAME: usize = 8;
    pub(super) const BRANCH: usize = 9;
    pub(super) const RETAIN: usize = 10;
    pub(super) const ENABLED: usize = 11;
    pub(super) const ACKED: usize = 12;
    pub(super) const ACTIVE: usize = 13;
    pub(super) const CONDITION_ID: usize = 14;
}

/// The filter of an event item: which fields, and from which severity on (all, if `None`).
pub(crate) fn filter(minimum_severity: Option<u16>) -> ExtensionObject {
    let clause = |(type_id, path): &(ObjectTypeId, &[&str])| SimpleAttributeOperand {
        type_definition_id: NodeId::from(*type_id),
        browse_path: Some(path.iter().map(|name| QualifiedName::new(0, *name)).collect()),
        attribute_id: if path.is_empty() { AttributeId::NodeId } else { AttributeId::Value } as u32,
        index_range: NumericRange::None,
    };
    let where_clause = match minimum_severity {
        Some(severity) => {
            let field = Operand::from(clause(&FIELDS[place::SEVERITY]));
            ContentFilterBuilder::new().gte(field, Operand::literal(Variant::UInt16(severity))).build()
        }
        None => ContentFilter::default(),
    };
    ExtensionObject::from_message(EventFilter { select_clauses: Some(FIELDS.iter().map(clause).collect()), where_clause })
}

/// What an event notification means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Occurrence {
    /// Something happened.
    Event(Sample),
    /// A refresh told again what was told before.
    Repeated,
    /// A refresh begins: what follows are the conditions as they are.
    RefreshStarted,
    /// The refresh is complete.
    RefreshEnded,
    /// The server lost track of what it told: a refresh is to be asked for.
    RefreshRequired,
    /// The server's queue of this item was full: events are missing.
    Overflow,
}

/// Reads one device's events.
#[derive(Debug)]
pub(crate) struct EventReader {
    asset: Arc<str>,
    type_names: HashMap<NodeId, Arc<str>>,
    items: HashMap<(Arc<str>, Arc<str>), Arc<DataItem>>,
    /// The last event of each condition and branch: a refresh tells it again.
    last_events: HashMap<(NodeId, NodeId), Variant>,
    is_refreshing: bool,
}

impl EventReader {
    /// A reader for the events of an asset.
    pub(crate) fn new(asset: Arc<str>) -> Self {
        Self { asset, type_names: HashMap::new(), items: HashMap::new(), last_events: HashMap::new(), is_refreshing: false }
    }

    /// Reads the names of the server's event types. What the server does not tell goes by its node id.
    pub(crate) async fn load_type_names(&mut self, session: &Session, limits: &Limits) -> Result<(), StatusCode> {
        let mut level = vec![NodeId::from(ObjectTypeId::BaseEventType)];
        let mut names = HashMap::from([(level[0].clone(), Arc::from("BaseEventType"))]);
        for _ in 0..LEVELS {
            let down: Vec<_> = level
                .drain(..)
                .map(|node_id| BrowseDescription {
                    node_id,
                    browse_direction: BrowseDirection::Forward,
                    reference_type_id: ReferenceTypeId::HasSubtype.into(),
                    include_subtypes: false,
                    node_class_mask: 0,
                    result_mask: BrowseResultMaskFlags::BrowseName.bits(),
                })
                .collect();
            for reference in limits::browse(session, limits, &down).await?.into_iter().flatten().flatten() {
                let id = reference.node_id.node_id;
                if names.len() < REMEMBERED && !names.contains_key(&id) {
                    names.insert(id.clone(), Arc::from(reference.browse_name.name.as_ref()));
                    level.push(id);
                }
            }
            if level.is_empty() {
                break;
            }
        }
        self.type_names = names;
        Ok(())
    }

    /// Reads an event that came with [`filter`]'s fields. `id`: the data item's name in the device file.
    pub(crate) fn read(&mut self, id: &Arc<str>, fields: &[Variant], ingested: Timestamp) -> Occurrence {
        let field = |place: usize| fields.get(place).unwrap_or(&Variant::Empty);
        let event_type = node_id(field(place::EVENT_TYPE));
        if event_type == ObjectTypeId::RefreshStartEventType {
            self.is_refreshing = true;
            return Occurrence::RefreshStarted;
        } else if event_type == ObjectTypeId::RefreshEndEventType {
            self.is_refreshing = false;
            return Occurrence::RefreshEnded;
        } else if event_type == ObjectTypeId::RefreshRequiredEventType {
            return Occurrence::RefreshRequired;
        } else if event_type == ObjectTypeId::EventQueueOverflowEventType {
            return Occurrence::Overflow;
        }
        if self.was_told(fields) {
            return Occurrence::Repeated;
        }
        let type_name = self.type_names.get(&event_type).cloned().unwrap_or_else(|| Arc::from(event_type.to_string()));
        let severity = number(field(place::SEVERITY));
        let tag = tag(field(place::ACTIVE), field(place::ENABLED), severity).map_or_else(|| type_name.clone(), Arc::from);
        let time = [place::TIME, place::RECEIVE_TIME].into_iter().find_map(|place| match field(place) {
            Variant::DateTime(time) => convert::timestamp(time),
            _ => None,
        });
        let message = match field(place::MESSAGE) {
            Variant::Empty => "".into(),
            message => convert::value(message, &Meaning::default()),
        };
        let mut sample = Sample::good(self.item(id, tag), message, time.unwrap_or(ingested), ingested);
        let told = |place: usize, name: &'static str| told(field(place)).map(|text| (Cow::Borrowed(name), text));
        let before = [told(place::SEVERITY, "severity"), told(place::SOURCE_NAME, "source"), told(place::SOURCE_NODE, "source_node")];
        let after = [
            told(place::EVENT_ID, "event_id"),
            told(place::CONDITION_NAME, "condition"),
            told(place::CONDITION_ID, "condition_id"),
            told(place::ACTIVE, "active"),
            told(place::ACKED, "acked"),
            told(place::ENABLED, "enabled"),
            told(place::RETAIN, "retain"),
            told(place::BRANCH, "branch"),
        ];
        sample.attributes.extend(before.into_iter().flatten());
        sample.attributes.push((Cow::Borrowed("event_type"), type_name.to_string()));
        sample.attributes.extend(after.into_iter().flatten());
        Occurrence::Event(sample)
    }

    /// Whether a refresh tells an event again that was told before.
    fn was_told(&mut self, fields: &[Variant]) -> bool {
        let field = |place: usize| fields.get(place).unwrap_or(&Variant::Empty);
        let (condition, branch) = (node_id(field(place::CONDITION_ID)), node_id(field(place::BRANCH)));
        let event_id = field(place::EVENT_ID);
        if condition.is_null() || convert::is_null(event_id) {
            return false;
        }
        if self.last_events.len() >= REMEMBERED {
            self.last_events.clear();
        }
        let before = self.last_events.insert((condition, branch), event_id.clone());
        self.is_refreshing && before.as_ref() == Some(event_id)
    }

    fn item(&mut self, id: &Arc<str>, tag: Arc<str>) -> Arc<DataItem> {
        if self.items.len() >= REMEMBERED {
            self.items.clear();
        }
        let make = || Arc::new(DataItem::new(self.asset.clone(), id.clone(), tag.clone(), Kind::Condition));
        self.items.entry((id.clone(), tag.clone())).or_insert_with(make).clone()
    }
}

/// The contract's word for an alarm's state; `None` for what is no alarm.
fn tag(active: &Variant, enabled: &Variant, severity: Option<u64>) -> Option<&'static str> {
    let Variant::Boolean(is_active) = active else { return None };
    let is_disabled = matches!(enabled, Variant::Boolean(false));
    Some(match (is_active, severity) {
        (false, _) => "Normal",
        _ if is_disabled => "Normal",
        (true, Some(FAULT..)) => "Fault",
        (true, _) => "Warning",
    })
}

fn node_id(variant: &Variant) -> NodeId {
    match variant {
        Variant::NodeId(id) => (**id).clone(),
        _ => NodeId::null(),
    }
}

fn number(variant: &Variant) -> Option<u64> {
    match *variant {
        Variant::Byte(n) => Some(n.into()),
        Variant::UInt16(n) => Some(n.into()),
        Variant::UInt32(n) => Some(n.into()),
        Variant::Int16(n) => n.try_into().ok(),
        Variant::Int32(n) => n.try_into().ok(),
        Variant::Int64(n) => n.try_into().ok(),
        Variant::UInt64(n) => Some(n),
        _ => None,
    }
}

/// A field as an attribute; `None` where the event does not have it. Numbers and booleans as JSON writes them, texts as they are.
fn told(variant: &Variant) -> Option<String> {
    if convert::is_null(variant) || matches!(variant, Variant::StatusCode(_)) {
        return None;
    }
    Some(match convert::value(variant, &Meaning::default()) {
        asset_stream::Value::Text(text) => text.to_string(),
        other => {
            let mut json = Vec::new();
            other.write(&mut json);
            String::from_utf8(json).unwrap_or_default()
        }
    })
}

/// What a server made of the request for a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// The conditions follow as events, between a start and an end.
    Started,
    /// The server does not do it, or has nothing to tell: servers without alarms answer differently (Good, BadNothingToDo,
    /// BadInternalError, BadMethodInvalid). No reason to give up the connection.
    Declined(StatusCode),
}

/// Asks the server to tell its conditions as they are: after a subscription was made (again), and when it says that this is required.
pub(crate) async fn condition_refresh(session: &Session, subscription_id: u32) -> Refresh {
    let request = CallMethodRequest {
        object_id: ObjectTypeId::ConditionType.into(),
        method_id: MethodId::ConditionType_ConditionRefresh.into(),
        input_arguments: Some(vec![Variant::UInt32(subscription_id)]),
    };
    match Call::new(session).method(request).timeout(REFRESH).send(session.channel()).await {
        Ok(response) => match response.results.unwrap_or_default().first() {
            Some(result) if !result.status_code.is_bad() => Refresh::Started,
            Some(result) => Refresh::Declined(result.status_code),
            None => Refresh::Declined(StatusCode::BadUnknownResponse),
        },
        Err(error) => Refresh::Declined(error.status()),
    }
}

#[cfg(test)]
mod tests {
    use super::{EventReader, FIELDS, Occurrence, place};
    use asset_stream::{Kind, Sample, Timestamp};
    use opcua::types::{ByteString, DateTime, LocalizedText, NodeId, ObjectTypeId, Variant};
    use std::sync::Arc;

    fn alarm(event_id: u8, active: bool, severity: u16) -> Vec<Variant> {
        let mut fields = vec![Variant::Empty; FIELDS.len()];
        fields[place::EVENT_ID] = Variant::ByteString(ByteString::from(vec![event_id]));
        fields[place::EVENT_TYPE] = Variant::from(NodeId::new(2, 99));
        fields[place::SOURCE_NAME] = Variant::from("Furnace");
        fields[place::TIME] = Variant::from(DateTime::from((2026, 1, 27, 15, 37, 3)));
        fields[place::MESSAGE] = Variant::from(LocalizedText::new("en", "too hot"));
        fields[place::SEVERITY] = Variant::UInt16(severity);
        fields[place::CONDITION_NAME] = Variant::from("Overheat");
        fields[place::CONDITION_ID] = Variant::from(NodeId::new(2, 7));
        fields[place::ACTIVE] = Variant::Boolean(active);
        fields[place::ACKED] = Variant::Boolean(false);
        fields
    }

    fn event_of(kind: ObjectTypeId) -> Vec<Variant> {
        let mut fields = vec![Variant::Empty; FIELDS.len()];
        fields[place::EVENT_TYPE] = Variant::from(NodeId::from(kind));
        fields
    }

    fn reader() -> (EventReader, Arc<str>) {
        let mut reader = EventReader::new("FURNACE-1".into());
        reader.type_names.insert(NodeId::new(2, 99), "OverheatAlarmType".into());
        (reader, "alarms".into())
    }

    fn sample(occurrence: Occurrence) -> Sample {
        match occurrence {
            Occurrence::Event(sample) => sample,
            other => panic!("expected an event, got {other:?}"),
        }
    }

    #[test]
    fn an_alarm_says_by_its_tag_how_bad_it_is() {
        let (mut reader, id) = reader();
        for (event, (active, severity, tag)) in
            [(true, 1, "Warning"), (true, 667, "Fault"), (false, 1000, "Normal")].into_iter().enumerate()
        {
            let sample = sample(reader.read(&id, &alarm(event as u8, active, severity), Timestamp::now()));
            assert_eq!((&*sample.item.tag, sample.item.kind), (tag, Kind::Condition));
        }
        let mut disabled = alarm(9, true, 900);
        disabled[place::ENABLED] = Variant::Boolean(false);
        assert_eq!(&*sample(reader.read(&id, &disabled, Timestamp::now())).item.tag, "Normal");
    }

    #[test]
    fn an_event_carries_what_the_server_told_and_nothing_else() {
        let (mut reader, id) = reader();
        let sample = sample(reader.read(&id, &alarm(1, true, 800), Timestamp::now()));
        let mut json = Vec::new();
        sample.encode(&mut json);
        let json = String::from_utf8(json).expect("UTF-8");
        assert!(
            json.starts_with(
                r#"{"ID":"alarms","VALUE":"too hot","TAG":"Fault","TYPE":"Condition","attributes":{"timestamp":"2026-01-27T15:37:03.000Z","#
            ),
            "{json}"
        );
        let attributes: Vec<String> = sample.attributes.iter().map(|(name, text)| format!("{name}={text}")).collect();
        let expected = "severity=800 source=Furnace event_type=OverheatAlarmType event_id=AQ== condition=Overheat condition_id=ns=2;i=7 active=true acked=false";
        assert_eq!(attributes.join(" "), expected);
        let bare = reader.read(&id, &[], Timestamp::from_millis(7));
        assert!(matches!(bare, Occurrence::Event(sample) if sample.timestamp.millis() == 7), "an event without fields");
    }

    #[test]
    fn other_events_go_by_the_name_of_their_type() {
        let (mut reader, id) = reader();
        let known = sample(reader.read(&id, &event_of(ObjectTypeId::SystemEventType), Timestamp::now()));
        assert_eq!(&*known.item.tag, "i=2130", "the name was not loaded");
        reader.type_names.insert(ObjectTypeId::SystemEventType.into(), "SystemEventType".into());
        let known = sample(reader.read(&id, &event_of(ObjectTypeId::SystemEventType), Timestamp::now()));
        assert_eq!(&*known.item.tag, "SystemEventType");
    }

    #[test]
    fn a_refresh_tells_what_is_new_and_nothing_twice() {
        let (mut reader, id) = reader();
        let now = Timestamp::now();
        sample(reader.read(&id, &alarm(1, true, 800), now));
        sample(reader.read(&id, &alarm(1, true, 800), now));
        assert_eq!(reader.read(&id, &event_of(ObjectTypeId::RefreshStartEventType), now), Occurrence::RefreshStarted);
        assert_eq!(reader.read(&id, &alarm(1, true, 800), now), Occurrence::Repeated);
        sample(reader.read(&id, &alarm(2, false, 800), now));
        assert_eq!(reader.read(&id, &event_of(ObjectTypeId::RefreshEndEventType), now), Occurrence::RefreshEnded);
        sample(reader.read(&id, &alarm(2, false, 800), now));
        assert_eq!(reader.read(&id, &event_of(ObjectTypeId::RefreshRequiredEventType), now), Occurrence::RefreshRequired);
        assert_eq!(reader.read(&id, &event_of(ObjectTypeId::EventQueueOverflowEventType), now), Occurrence::Overflow);
    }
}
