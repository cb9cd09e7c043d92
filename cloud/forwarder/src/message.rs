//! A record as a NATS message.

use std::sync::Arc;

use asset_stream::serving::{Facts, RecordTime, event_message_id, record_message_id, serve};
use asset_stream::{Position, Timestamp, headers, subject};
use async_nats::{HeaderMap, HeaderName};
use bytes::Bytes;

use crate::config::{Route, SubjectForm};
use crate::record::{Record, Time};
use crate::stream;
use crate::window::Entry;
use service::error::chain;

const EDGE: HeaderName = HeaderName::from_static(headers::EDGE);
const SEQUENCE: HeaderName = HeaderName::from_static(headers::SEQUENCE);
const ASSET_SEQUENCE: HeaderName = HeaderName::from_static(headers::ASSET_SEQUENCE);
const RESENT: HeaderName = HeaderName::from_static(headers::RESENT);
const REPLAY: HeaderName = HeaderName::from_static(headers::REPLAY);

/// A message on its way, with the record that it was made of.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) record: Arc<Record>,
    /// The record's key: what must stay in order, and what the ring looks at.
    pub(crate) asset: Arc<str>,
    pub(crate) subject: String,
    /// `Nats-Msg-Id`.
    pub(crate) id: String,
    pub(crate) payload: Bytes,
    /// Which edge of ours wrote it; `None` for other writers.
    pub(crate) origin: Option<Origin>,
    /// The id of the topic's life, for other writers: offsets begin anew with each.
    pub(crate) life: Option<Arc<str>>,
    /// The stream dropped it as a repeat, though nothing on its subject proves that it is one.
    pub(crate) is_doubted: bool,
    /// The highest id on the subject, if it is higher than this one: see [`stream::Last`](crate::stream::Last).
    pub(crate) newest: Option<String>,
}

/// An event as an edge of ours numbers it.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) edge: Arc<str>,
    pub(crate) sequence: Position,
    pub(crate) asset_sequence: Position,
    /// Written late: it may stand twice, or after later ones of its asset.
    pub(crate) is_resent: bool,
    /// The replay that wrote it, if one did; then it is late, too.
    pub(crate) replay: Option<Arc<str>>,
}

/// Which ids the records of other writers get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ids {
    /// `<topic>:<partition>:<offset>`.
    #[default]
    Plain,
    /// The stream holds records of another life of the topic: `<topic>:<partition>:<life>:<offset>`.
    OfALaterLife,
}

impl Entry for Outgoing {
    fn offset(&self) -> i64 {
        self.record.offset
    }

    fn asset(&self) -> &Arc<str> {
        &self.asset
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn is_resent(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.is_resent)
    }

    fn life(&self) -> Option<&str> {
        self.life.as_deref()
    }
}

impl Outgoing {
    /// The message's headers. In a later life of the topic the plain ids were used before.
    pub(crate) fn headers(&self, ids: Ids) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match (ids, &self.life, self.id.rsplit_once(':')) {
            (Ids::OfALaterLife, Some(life), Some((line, offset))) => {
                headers.insert(async_nats::header::NATS_MESSAGE_ID, format!("{line}:{life}:{offset}"));
            }
            _ => headers.insert(async_nats::header::NATS_MESSAGE_ID, self.id.as_str()),
        }
        if let Some(life) = &self.life {
            headers.insert(stream::LIFE, &**life);
        }
        if let Some(origin) = &self.origin {
            headers.insert(EDGE, &*origin.edge);
            headers.insert(SEQUENCE, origin.sequence.to_string());
            headers.insert(ASSET_SEQUENCE, origin.asset_sequence.to_string());
            match &origin.replay {
                Some(replay) => headers.insert(REPLAY, &**replay),
                None if origin.is_resent => headers.insert(RESENT, "true"),
                None => {}
            }
        }
        if let Some(newest) = &self.newest {
            headers.insert(stream::NEWEST, newest.as_str());
        }
        headers
    }
}

/// Makes the message of a record. The error is the reason why it cannot be forwarded, in plain words.
pub(crate) fn outgoing(record: &Arc<Record>, route: &Route, life: Option<&Arc<str>>, now: Timestamp) -> Result<Outgoing, String> {
    let key = record.key.as_deref().filter(|key| !key.is_empty()).ok_or("the record has no key: nobody knows which asset it belongs to")?;
    let asset: Arc<str> = std::str::from_utf8(key).map_err(|_| "the record's key is not UTF-8")?.into();
    match route.subject {
        SubjectForm::AssetItem => {
            let value = record.value.as_deref().ok_or("the record has no value")?;
            let kafka = match record.time {
                Time::None => RecordTime::Unknown,
                Time::Producer(millis) => RecordTime::Producer(Timestamp::from_millis(millis)),
                Time::Broker(millis) => RecordTime::Broker(Timestamp::from_millis(millis)),
            };
            let served = serve(value, &Facts { kafka, forwarded: now }).map_err(|error| chain(&error))?;
            let subject = if route.jetstream {
                subject::join(&[&route.prefix, &subject::escape(key), &subject::escape(served.id.as_bytes())])
            } else {
                subject::plain(key, &served.id)
            };
            let subject = subject.map_err(|error| error.to_string())?;
            let origin = origin(record);
            let id = match &origin {
                Some(origin) => event_message_id(&origin.edge, origin.sequence),
                None => record_message_id(&record.topic, record.partition, record.offset),
            };
            let life = life.filter(|_| origin.is_none()).cloned();
            let payload = served.payload.into();
            Ok(Outgoing { record: record.clone(), asset, subject, id, payload, origin, life, is_doubted: false, newest: None })
        }
        SubjectForm::Key => Ok(Outgoing {
            subject: subject::join(&[&route.prefix, &subject::escape(key)]).map_err(|error| error.to_string())?,
            id: record_message_id(&record.topic, record.partition, record.offset),
            payload: record.value.clone().unwrap_or_default(),
            origin: None,
            life: life.cloned(),
            is_doubted: false,
            newest: None,
            record: record.clone(),
            asset,
        }),
    }
}

/// What our own headers say; `None` if one is missing or unreadable, and then the record counts as another writer's.
fn origin(record: &Record) -> Option<Origin> {
    let has = |name: &str| record.headers.iter().any(|(key, _)| key == name);
    Some(Origin {
        edge: record.header(headers::EDGE).filter(|edge| !edge.is_empty())?.into(),
        sequence: record.header(headers::SEQUENCE)?.parse().ok()?,
        asset_sequence: record.header(headers::ASSET_SEQUENCE)?.parse().ok()?,
        is_resent: has(headers::RESENT) || has(headers::REPLAY),
        replay: record.header(headers::REPLAY).map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use super::{Ids, Outgoing, outgoing};
    use crate::config::{Route, SubjectForm};
    use crate::record::{Record, Time};
    use crate::window::Entry;
    use asset_stream::Timestamp;
    use std::borrow::Cow;
    use std::sync::Arc;

    fn record(key: Option<&str>, value: Option<&str>, headers: &[(&'static str, &str)]) -> Arc<Record> {
        Arc::new(Record {
            topic: "ofa_assets".into(),
            partition: 3,
            offset: 17,
            key: key.map(Into::into),
            value: value.map(|text| text.to_owned().into()),
            time: Time::Producer(1_769_528_223_871),
            headers: headers.iter().map(|(key, value)| (Cow::Borrowed(*key), Some(value.as_bytes().to_vec()))).collect(),
        })
    }

    fn forward(record: &Arc<Record>, route: &Route) -> Result<Outgoing, String> {
        outgoing(record, route, Some(&"2lGzoWtoTgyBPGtVUnvIaw".into()), Timestamp::from_millis(1_769_528_223_886))
    }

    const EVENT: &str =
        r#"{"ID":"temp","VALUE":24.3,"TAG":"Temperature","TYPE":"Samples","attributes":{"timestamp":"2026-01-27T15:37:03.871Z"}}"#;
    const OURS: [(&str, &str); 3] = [("of-edge", "edge-01"), ("of-seq", "1769528223000:42"), ("of-asset-seq", "1769528223000:7")];

    #[test]
    fn an_event_of_an_edge_is_served_as_the_contract_says() {
        let message = forward(&record(Some("OPCUA-SENSOR-001"), Some(EVENT), &OURS), &Route::default()).expect("an event");
        assert_eq!(message.subject, "ofa.OPCUA-SENSOR-001.temp");
        assert_eq!(
            String::from_utf8_lossy(&message.payload),
            concat!(
                r#"{"VALUE":24.3,"TAG":"Temperature","TYPE":"Samples","attributes":{"timestamp":"2026-01-27T15:37:03.871Z","#,
                r#""kafka_timestamp":"2026-01-27T15:37:03.871Z","kafka_timestamp_type":"producer","#,
                r#""asset_forwarder_timestamp":"2026-01-27T15:37:03.886Z"}}"#
            )
        );
        let headers = message.headers(Ids::OfALaterLife);
        for (name, value) in [("Nats-Msg-Id", "edge-01:1769528223000:42"), OURS[0], OURS[1], OURS[2]] {
            assert_eq!(headers.get(name).map(|value| value.as_str()), Some(value), "{name}");
        }
    }

    #[test]
    fn a_record_of_another_writer_is_named_by_its_place_in_kafka() {
        for headers in [&[][..], &OURS[..2], &[OURS[0], OURS[1], ("of-asset-seq", "7")], &[("of-edge", "a\r\nb"), OURS[1], OURS[2]]] {
            let message = forward(&record(Some("CNC-1"), Some(EVENT), headers), &Route::default()).expect("an event");
            for (ids, id) in [(Ids::Plain, "ofa_assets:3:17"), (Ids::OfALaterLife, "ofa_assets:3:2lGzoWtoTgyBPGtVUnvIaw:17")] {
                let told = message.headers(ids);
                let header = |name: &str| told.get(name).map(|value| value.as_str());
                let expected = (Some(id), Some("2lGzoWtoTgyBPGtVUnvIaw"), 2);
                assert_eq!((header("Nats-Msg-Id"), header("of-topic-id"), told.len()), expected, "{headers:?}");
            }
        }
    }

    #[test]
    fn routes_decide_about_the_subject() {
        let record = record(Some("PRESS 1"), Some(EVENT), &OURS);
        let plain = Route { jetstream: false, ..Route::default() };
        assert_eq!(forward(&record, &plain).expect("an event").subject, "PRESS%201.temp");
        let table = Route { subject: SubjectForm::Key, prefix: "tables".into(), ..Route::default() };
        let message = forward(&record, &table).expect("any value");
        assert_eq!((message.subject.as_str(), &message.payload[..]), ("tables.PRESS%201", EVENT.as_bytes()));
    }

    #[test]
    fn what_cannot_be_forwarded_says_why() {
        let reason = |record: &Arc<Record>| forward(record, &Route::default()).expect_err("cannot be forwarded");
        assert!(reason(&record(None, Some(EVENT), &[])).contains("no key"));
        assert!(reason(&record(Some(""), Some(EVENT), &[])).contains("no key"));
        assert!(reason(&record(Some("CNC-1"), None, &[])).contains("no value"));
        assert!(reason(&record(Some("CNC-1"), Some("24.3 C"), &[])).contains("not a JSON object"));
        assert!(reason(&record(Some("CNC-1"), Some("{}"), &[])).contains("ID"));
    }

    #[test]
    fn a_subject_that_a_server_does_not_take_is_refused_whatever_it_is_made_of() {
        let long = "x".repeat(3000);
        let routes = [
            (Route::default(), ".temp"),
            (Route { jetstream: false, ..Route::default() }, ".temp"),
            (Route { subject: SubjectForm::Key, ..Route::default() }, ""),
            (Route { subject: SubjectForm::Key, jetstream: false, prefix: "t".repeat(30), ..Route::default() }, ""),
        ];
        for (route, id) in routes {
            let prefix = if route.jetstream || route.subject == SubjectForm::Key { route.prefix.len() + 1 } else { 0 };
            let fits = 2048 - prefix - id.len();
            let of_length = |length: usize| forward(&record(Some(&long[..length]), Some(EVENT), &[]), &route);
            assert_eq!(of_length(fits).map(|message| message.subject.len()), Ok(2048), "{route:?}");
            assert!(of_length(fits + 1).expect_err("too long").contains("2049 bytes"), "{route:?}");
        }
    }

    #[test]
    fn what_an_edge_marked_as_late_keeps_its_mark() {
        for (name, value) in [("of-resent", "true"), ("of-replay", "1795669022304")] {
            let marked = [&OURS[..], &[(name, value)]].concat();
            let message = forward(&record(Some("CNC-1"), Some(EVENT), &marked), &Route::default()).expect("an event");
            assert_eq!(message.headers(Ids::Plain).get(name).map(|value| value.as_str()), Some(value));
            assert!(message.is_resent());
        }
    }
}
