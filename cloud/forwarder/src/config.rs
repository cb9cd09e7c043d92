//! What can be configured, and what is wrong with it.

mod clusters;
mod protected;

pub use clusters::{CLUSTER_VARIABLE, Cluster, add_clusters_from_environment, cluster_problems, without_login};
pub use protected::override_problems;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use asset_stream::topics;
use serde::Deserialize;
use service::units;

/// Everything that a forwarder needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The brokers.
    pub kafka: service::kafka::Config,
    /// The NATS clusters by name. The names decide which asset goes where, so renaming a cluster moves assets.
    pub clusters: BTreeMap<String, Cluster>,
    /// What is forwarded, and how.
    pub forward: Forward,
}

/// The `[forward]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forward {
    /// The consumer group: all forwarders of one installation share it.
    pub group: String,
    /// This forwarder's name in the group, the same after a restart and different from all others'; absent: the host's name.
    pub instance: Option<String>,
    /// How long the group waits for a forwarder that vanished. Brokers refuse less than their `group.min.session.timeout.ms`, 6 s unless
    /// changed.
    #[serde(deserialize_with = "units::duration")]
    pub session_timeout: Duration,
    /// Records of one partition that may be on their way; beyond it the partition waits.
    pub in_flight: usize,
    /// The same in bytes.
    #[serde(deserialize_with = "units::size")]
    pub in_flight_bytes: u64,
    /// How long an answer of JetStream may take before the event is looked up and sent again.
    #[serde(deserialize_with = "units::duration")]
    pub ack_timeout: Duration,
    /// Where records go that cannot be forwarded.
    pub dead_letter_topic: String,
    /// Where `/status`, `/metrics` and `/healthz` are served; absent: nowhere.
    pub status_listen: Option<SocketAddr>,
    /// How these are protected; needed where other machines can reach them.
    pub status_access: Option<service::web::Access>,
    /// What is forwarded, by topic.
    pub routes: BTreeMap<String, Route>,
}

impl Default for Forward {
    fn default() -> Self {
        Self {
            group: "openfactory-forwarder".into(),
            instance: None,
            session_timeout: Duration::from_secs(6),
            in_flight: 10_000,
            in_flight_bytes: 16 << 20,
            ack_timeout: Duration::from_secs(5),
            dead_letter_topic: topics::DEAD_LETTERS.into(),
            status_listen: None,
            status_access: None,
            routes: BTreeMap::from([(topics::ASSETS.into(), Route::default())]),
        }
    }
}

/// How the records of a topic become NATS messages.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// What the subject is made of.
    pub subject: SubjectForm,
    /// `true`: a JetStream stream takes the message and acknowledges it. `false`: plain NATS, confirmed by a round trip through the server.
    pub jetstream: bool,
    /// First token of the subject that is published: always with JetStream (its stream must not take the plain subjects), and with
    /// subjects made of the key alone.
    pub prefix: String,
    /// The stream; only with `jetstream = true`.
    pub stream: Stream,
    /// Where this topic's records go that cannot be forwarded; absent: `forward.dead_letter_topic`.
    pub dead_letter_topic: Option<String>,
}

impl Default for Route {
    fn default() -> Self {
        Self { subject: SubjectForm::AssetItem, jetstream: true, prefix: "ofa".into(), stream: Stream::default(), dead_letter_topic: None }
    }
}

/// What a subject is made of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum SubjectForm {
    /// `<key>.<ID>` with the ID taken out of the JSON value: events of assets, as the contract serves them.
    AssetItem,
    /// `<prefix>.<key>` with the value as it is: any other topic, e.g. a table.
    Key,
}

/// A JetStream stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Whether we make it. An existing stream is never changed.
    pub create: Create,
    /// How long it keeps messages.
    #[serde(deserialize_with = "units::duration")]
    pub max_age: Duration,
    /// How much it keeps.
    #[serde(deserialize_with = "units::size")]
    pub max_bytes: u64,
    /// How long it remembers message ids. The server keeps each of them in memory for that time.
    #[serde(deserialize_with = "units::duration")]
    pub duplicate_window: Duration,
    /// Servers that hold it.
    pub replicas: usize,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            name: "OFA_ASSETS".into(),
            create: Create::IfMissing,
            max_age: Duration::from_secs(24 * 3600),
            max_bytes: 10 << 30,
            duplicate_window: Duration::from_secs(120),
            replicas: 1,
        }
    }
}

/// Whether a stream is made by us.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Create {
    /// If it is not there.
    IfMissing,
    /// Its absence is an error, and forwarding waits for it.
    Never,
}

impl Forward {
    /// What is wrong with the section beyond its types, as (key, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems: Vec<(String, String)> = Vec::new();
        let mut problem = |key: &str, message: String| problems.push((format!("forward.{key}"), message));
        if self.group.is_empty() {
            problem("group", "empty: all forwarders of one installation share a group name".into());
        }
        if self.in_flight == 0 || self.in_flight > 60_000 {
            problem("in_flight", format!("{} is not between 1 and 60000", self.in_flight));
        }
        if self.in_flight_bytes < 1 << 20 {
            problem("in_flight_bytes", "less than \"1 MiB\": the largest record must fit".into());
        }
        if self.session_timeout < Duration::from_secs(1) {
            problem("session_timeout", "less than \"1 s\"".into());
        }
        if self.ack_timeout < Duration::from_millis(100) {
            problem("ack_timeout", "less than \"100ms\"".into());
        }
        for (key, told) in service::web::problems(self.status_listen, self.status_access.as_ref(), "forward.status_access") {
            problem(&if key.is_empty() { "status_listen".to_owned() } else { format!("status_access.{key}") }, told);
        }
        if !is_topic(&self.dead_letter_topic) {
            problem("dead_letter_topic", format!("{:?} {NO_TOPIC}", self.dead_letter_topic));
        }
        if self.routes.is_empty() {
            problem("routes", format!("no topic is forwarded: add [forward.routes.{}]", topics::ASSETS));
        }
        let (mut streams, mut subjects) = (BTreeMap::new(), BTreeMap::new());
        for (topic, route) in &self.routes {
            let key = |field: &str| format!("routes.{topic}.{field}");
            let dead = route.dead_letter_topic.as_ref().unwrap_or(&self.dead_letter_topic);
            if !is_topic(topic) {
                problem(&format!("routes.{topic}"), format!("{topic:?} {NO_TOPIC}"));
            }
            if dead == topic {
                problem(&key("dead_letter_topic"), "a topic cannot take its own dead letters".into());
            }
            if route.dead_letter_topic.as_deref().is_some_and(|dead| !is_topic(dead)) {
                problem(&key("dead_letter_topic"), format!("{dead:?} {NO_TOPIC}"));
            }
            if !is_token(&route.prefix) {
                problem(&key("prefix"), format!("{:?} is no subject token: no dots, spaces, * or >", route.prefix));
            }
            if !route.jetstream {
                continue;
            }
            if !is_token(&route.stream.name) || route.stream.name.contains(['/', '\\']) {
                problem(&key("stream.name"), format!("{:?} is no stream name: no dots, spaces, slashes, * or >", route.stream.name));
            }
            if !(1..=5).contains(&route.stream.replicas) {
                problem(&key("stream.replicas"), format!("{} is not between 1 and 5", route.stream.replicas));
            }
            if route.stream.duplicate_window > route.stream.max_age {
                problem(&key("stream.duplicate_window"), "longer than max_age, which JetStream refuses".into());
            }
            if let Some(other) = streams.insert(&route.stream.name, topic) {
                problem(&key("stream.name"), format!("the route of {other} uses this stream: each needs its own"));
            }
            // Subjects of different forms have different numbers of tokens.
            if let Some(other) = subjects.insert((route.subject, &route.prefix), topic) {
                problem(&key("prefix"), format!("the route of {other} uses this prefix: their streams would claim the same subjects"));
            }
        }
        problems
    }
}

const NO_TOPIC: &str = "is no name of a Kafka topic: 1 to 249 letters, digits, dots, '_' or '-'";

fn is_topic(name: &str) -> bool {
    // librdkafka would take a name that begins with ^ for a pattern.
    (1..=249).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'))
}

#[cfg(test)]
mod tests {
    use super::{Forward, Route, Stream, SubjectForm};

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Forward::default().problems(), []);
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        let mut forward = Forward { in_flight: 0, ..Forward::default() };
        forward.routes.insert("ofa_dead_letters".into(), Route { prefix: "a.b".into(), ..Route::default() });
        let keys: Vec<String> = forward.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "forward.in_flight",
                "forward.routes.ofa_dead_letters.dead_letter_topic",
                "forward.routes.ofa_dead_letters.prefix",
                "forward.routes.ofa_dead_letters.stream.name"
            ]
        );
    }

    #[test]
    fn streams_that_would_claim_the_same_subjects_are_refused() {
        let route = |form, prefix: &str, stream: &str| Route {
            subject: form,
            prefix: prefix.into(),
            stream: Stream { name: stream.into(), ..Stream::default() },
            ..Route::default()
        };
        let mut forward = Forward::default();
        // ofa.<key> is none of ofa.<key>.<ID>.
        forward.routes.insert("tables".into(), route(SubjectForm::Key, "ofa", "TABLES"));
        assert_eq!(forward.problems(), []);
        forward.routes.insert("others".into(), route(SubjectForm::AssetItem, "ofa", "OTHERS"));
        let told = forward.problems();
        assert!(matches!(&*told, [(key, message)] if key == "forward.routes.others.prefix" && message.contains("ofa_assets")), "{told:?}");
    }

    #[test]
    fn a_name_that_no_topic_can_have_is_refused() {
        let mut forward = Forward { dead_letter_topic: String::new(), ..Forward::default() };
        forward.routes.insert("^ofa.*".into(), Route { jetstream: false, ..Route::default() });
        let keys: Vec<String> = forward.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["forward.dead_letter_topic", "forward.routes.^ofa.*"]);
    }
}
