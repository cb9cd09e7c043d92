//! The JetStream stream of a route: made if it is missing, looked at if it is there.

use async_nats::HeaderName;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, LastRawMessageErrorKind, Republish, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use service::error::chain;
use tracing::{info, warn};

use crate::config::{Create, Route, SubjectForm};
use crate::window::Entry;

/// The subjects of a route's stream.
fn subjects(route: &Route) -> String {
    match route.subject {
        SubjectForm::AssetItem => format!("{}.*.*", route.prefix),
        SubjectForm::Key => format!("{}.*", route.prefix),
    }
}

/// What plain subscribers see: the contract's subjects. Only what carries an asset and an ID has such a subject.
fn republish(route: &Route) -> Option<Republish> {
    (route.subject == SubjectForm::AssetItem).then(|| Republish {
        source: subjects(route),
        destination: "{{wildcard(1)}}.{{wildcard(2)}}".into(),
        headers_only: false,
    })
}

fn config(route: &Route) -> Config {
    let stream = &route.stream;
    Config {
        name: stream.name.clone(),
        description: Some("Events forwarded from Kafka".into()),
        subjects: vec![subjects(route)],
        republish: republish(route),
        retention: RetentionPolicy::Limits,
        // What is old goes; what is new is never refused because of a limit.
        discard: DiscardPolicy::Old,
        max_age: stream.max_age,
        max_bytes: i64::try_from(stream.max_bytes).unwrap_or(i64::MAX),
        duplicate_window: stream.duplicate_window,
        storage: StorageType::File,
        num_replicas: stream.replicas,
        allow_direct: true,
        ..Config::default()
    }
}

/// Makes sure that the stream is there. The error is a sentence for people, and all of them are worth another try.
pub(crate) async fn ensure(context: &Context, route: &Route) -> Result<(), String> {
    let name = &route.stream.name;
    let stream = match context.get_stream(name).await {
        Ok(stream) => stream,
        Err(error) => {
            let missing = matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND);
            if !missing {
                return Err(format!("JetStream does not tell about the stream {name}: {}", chain(&error)));
            }
            if route.stream.create == Create::Never {
                return Err(format!("the stream {name} does not exist: create it, or set create = \"if_missing\""));
            }
            match context.create_stream(config(route)).await {
                Ok(_) => info!(stream = %name, subjects = %subjects(route), "stream created"),
                Err(error) => {
                    let why = chain(&error);
                    // JetStream reserves what a stream may take.
                    if why.contains("insufficient storage") {
                        let mib = route.stream.max_bytes >> 20;
                        return Err(format!(
                            "the stream {name} may take {mib} MiB, which the server has not: lower stream.max_bytes ({why})"
                        ));
                    }
                    return Err(format!("the stream {name} cannot be created: {why}"));
                }
            }
            return Ok(());
        }
    };
    let there = &stream.cached_info().config;
    if there.no_ack {
        return Err(format!("the stream {name} has no_ack set, so nothing could be known to stand in it: unset it"));
    }
    if let Some(wanted) = republish(route)
        && there.republish.as_ref().is_none_or(|r| (&r.source, &r.destination) != (&wanted.source, &wanted.destination))
    {
        warn!(
            stream = %name, source = %wanted.source, destination = %wanted.destination,
            "the stream does not republish: subscribers to <asset>.<ID> get nothing until its RePublish is set"
        );
    }
    Ok(())
}

/// Header of a message that came after later ones of its subject: the highest id that stood there before it.
pub(crate) const NEWEST: HeaderName = HeaderName::from_static("of-newest");

/// Header of a record that no edge wrote: the id of its topic's life, in which its offset counts.
pub(crate) const LIFE: HeaderName = HeaderName::from_static("of-topic-id");

/// The last message on a subject, and what it tells about those before it. Ids grow along a subject, but for events that an edge wrote
/// late (`of-resent`, `of-replay`): these carry the highest id in [`NEWEST`], so that the last message always tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    /// Its id.
    id: String,
    /// The highest id on the subject.
    newest: String,
    /// Its topic's life.
    life: Option<String>,
}

impl Last {
    pub(crate) fn new(id: String, newest: Option<String>) -> Self {
        Self { newest: newest.unwrap_or_else(|| id.clone()), id, life: None }
    }

    pub(crate) fn of_life(self, life: Option<String>) -> Self {
        Self { life, ..self }
    }

    /// Whether it stood in another life of the event's topic, and its id says nothing about the event's. Where nothing is known, there was but one.
    pub(crate) fn is_of_another_life(&self, event: &impl Entry) -> bool {
        matches!((self.life.as_deref(), event.life()), (Some(there), Some(here)) if there != here)
    }

    /// Whether its id has the form of a later life.
    pub(crate) fn is_of_a_later_life(&self) -> bool {
        self.life.as_ref().is_some_and(|life| self.id.contains(&format!(":{life}:")))
    }

    /// Whether it proves that the event stands in the stream: it is that event, or a later one of an order that the event keeps, too.
    pub(crate) fn proves(&self, event: &impl Entry) -> bool {
        if event.is_resent() {
            return self.id == event.id();
        }
        let plain = self.life.as_ref().map(|life| self.newest.replacen(&format!(":{life}:"), ":", 1));
        !self.is_of_another_life(event) && covers(plain.as_ref().unwrap_or(&self.newest), event.id())
    }

    /// What the event has to carry in [`NEWEST`] if it is published behind this message.
    pub(crate) fn newest_behind(self, event: &impl Entry) -> Option<String> {
        Some(self.newest).filter(|newest| event.is_resent() && !covers(event.id(), newest))
    }
}

/// The last message on a subject; `None` if there is none.
pub(crate) async fn last_message(context: Context, stream: String, subject: String) -> Result<Option<Last>, String> {
    let stream = context.get_stream_no_info(&stream).await.map_err(|error| chain(&error))?;
    match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => {
            let header = |name: HeaderName| message.headers.get(name).map(|value| value.as_str().to_owned());
            Ok(header(NATS_MESSAGE_ID).map(|id| Last::new(id, header(NEWEST)).of_life(header(LIFE))))
        }
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => Err(chain(&error)),
    }
}

/// Whether the first id is the second, or a later one of its line. Both forms of an id, `<edge>:<epoch>:<n>` and
/// `<topic>:<partition>:<offset>`, end with a number.
fn covers(last: &str, id: &str) -> bool {
    let split = |id: &str| id.rsplit_once(':').and_then(|(line, n)| Some((line.to_owned(), n.parse::<u64>().ok()?)));
    match (split(last), split(id)) {
        (Some((line, last)), Some((other, n))) => line == other && last >= n,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Last, covers};
    use crate::window::Entry;
    use std::sync::Arc;

    struct Event(&'static str, bool);

    impl Entry for Event {
        fn offset(&self) -> i64 {
            0
        }

        fn asset(&self) -> &Arc<str> {
            unreachable!("a subject belongs to one asset")
        }

        fn id(&self) -> &str {
            self.0
        }

        fn is_resent(&self) -> bool {
            self.1
        }
    }

    struct Foreign(&'static str);

    impl Entry for Foreign {
        fn offset(&self) -> i64 {
            0
        }

        fn asset(&self) -> &Arc<str> {
            unreachable!("a subject belongs to one asset")
        }

        fn id(&self) -> &str {
            self.0
        }

        fn is_resent(&self) -> bool {
            false
        }

        fn life(&self) -> Option<&str> {
            Some("second")
        }
    }

    #[test]
    fn an_offset_proves_nothing_in_another_life_of_the_topic() {
        let fifth = Foreign("topic:0:5");
        let last = |id: &str, life: Option<&str>| Last::new(id.into(), None).of_life(life.map(Into::into));
        for (id, life, proves) in [
            ("topic:0:7", Some("first"), false),
            ("topic:0:5", Some("first"), false),
            ("topic:0:7", Some("second"), true),
            ("topic:0:second:7", Some("second"), true),
            ("topic:0:second:4", Some("second"), false),
            ("topic:0:second:7", Some("third"), false),
            ("topic:0:7", None, true),
        ] {
            assert_eq!(last(id, life).proves(&fifth), proves, "{id} in {life:?}");
        }
    }

    #[test]
    fn the_last_message_proves_what_came_in_order_and_of_what_came_late_itself_alone() {
        let (in_order, late) = (|id| Event(id, false), |id| Event(id, true));
        let third = Last::new("edge:7:3".into(), None);
        assert!(third.proves(&in_order("edge:7:2")) && third.proves(&late("edge:7:3")));
        assert!(!third.proves(&in_order("edge:7:4")) && !third.proves(&late("edge:7:2")));

        let newest = third.newest_behind(&late("edge:7:2"));
        assert_eq!(newest.as_deref(), Some("edge:7:3"));
        let second = Last::new("edge:7:2".into(), newest);
        assert!(second.proves(&in_order("edge:7:3")) && second.proves(&late("edge:7:2")));
        assert!(!second.proves(&in_order("edge:7:4")) && !second.proves(&late("edge:7:3")));

        assert_eq!(second.clone().newest_behind(&late("edge:7:1")).as_deref(), Some("edge:7:3"), "told on");
        assert_eq!(second.clone().newest_behind(&late("edge:6:9")).as_deref(), Some("edge:7:3"), "an older epoch");
        assert_eq!(second.clone().newest_behind(&late("edge:7:5")), None, "it is the newest itself");
        assert_eq!(second.newest_behind(&in_order("edge:8:1")), None);
    }

    #[test]
    fn an_id_is_covered_by_itself_and_by_later_ones_of_its_line() {
        assert!(covers("edge:7:5", "edge:7:5") && covers("edge:7:10", "edge:7:9"));
        for last in ["edge:7:4", "edge:8:9", "other:7:9", "edge", "", "edge:7:x"] {
            assert!(!covers(last, "edge:7:5"), "{last}");
        }
    }
}
