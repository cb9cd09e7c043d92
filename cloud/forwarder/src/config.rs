//! What can be configured, and what is wrong with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
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

/// A NATS cluster: `[nats.<NAME>]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its servers; the router gives clients the first.
    pub urls: Vec<String>,
    /// A credentials file (JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// A user name; with `password_file`.
    pub user: Option<String>,
    /// File that holds the password alone.
    pub password_file: Option<PathBuf>,
    /// File that holds a token alone.
    pub token_file: Option<PathBuf>,
    /// TLS: certificates of the authorities that may have signed the servers' certificates; absent: the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate, for servers that ask for one.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// A server address without the login that may stand in it: for logs, the status page, and clients of the router.
pub fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

impl Cluster {
    /// Makes relative paths relative to the config file's folder.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let files =
            [&mut self.credentials_file, &mut self.password_file, &mut self.token_file, &mut self.ca, &mut self.certificate, &mut self.key];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

/// The environment variables that name clusters: `NATS_CLUSTER_<NAME>` = comma-separated URLs.
pub const CLUSTER_VARIABLE: &str = "NATS_CLUSTER_";

/// Adds the clusters that the environment names; one that the file names too keeps the file's login and takes the environment's URLs.
pub fn add_clusters_from_environment(clusters: &mut BTreeMap<String, Cluster>, environment: impl IntoIterator<Item = (String, String)>) {
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(CLUSTER_VARIABLE).filter(|name| !name.is_empty()) else { continue };
        let urls: Vec<String> = value.split(',').map(str::trim).filter(|url| !url.is_empty()).map(Into::into).collect();
        if !urls.is_empty() {
            clusters.entry(name.to_owned()).or_default().urls = urls;
        }
    }
}

/// What is wrong with the clusters, as (key, message).
pub fn cluster_problems(clusters: &BTreeMap<String, Cluster>) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    if clusters.is_empty() {
        let message = format!("no NATS cluster is named: add [nats.NAME] with urls, or set {CLUSTER_VARIABLE}NAME");
        problems.push(("nats".into(), message));
    }
    for (name, cluster) in clusters {
        let key = |field: &str| format!("nats.{name}.{field}");
        if cluster.urls.is_empty() {
            problems.push((key("urls"), "empty: name at least one server, e.g. \"nats://nats-1:4222\"".into()));
        }
        for url in &cluster.urls {
            if let Err(error) = url.parse::<async_nats::ServerAddr>() {
                let url = without_login(url);
                problems.push((key("urls"), format!("{url:?} is no server address ({error}); example: \"nats://nats-1:4222\"")));
            }
        }
        if cluster.user.is_some() != cluster.password_file.is_some() {
            problems.push((key("user"), "user and password_file go together".into()));
        }
        if cluster.certificate.is_some() != cluster.key.is_some() {
            problems.push((key("certificate"), "certificate and key go together".into()));
        }
        let logins = [cluster.credentials_file.is_some(), cluster.user.is_some(), cluster.token_file.is_some()];
        if logins.into_iter().filter(|login| *login).count() > 1 {
            problems.push((key("credentials_file"), "choose one of credentials_file, user and token_file".into()));
        }
        let files = [
            ("credentials_file", &cluster.credentials_file),
            ("password_file", &cluster.password_file),
            ("token_file", &cluster.token_file),
            ("ca", &cluster.ca),
            ("certificate", &cluster.certificate),
            ("key", &cluster.key),
        ];
        for (field, file) in files {
            if let Some(file) = file
                && let Err(error) = std::fs::File::open(file)
            {
                problems.push((key(field), format!("{} cannot be read: {error}", file.display())));
            }
        }
    }
    problems
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
        if self.routes.is_empty() {
            problem("routes", format!("no topic is forwarded: add [forward.routes.{}]", topics::ASSETS));
        }
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (topic, route) in &self.routes {
            let key = |field: &str| format!("routes.{topic}.{field}");
            let dead = route.dead_letter_topic.as_ref().unwrap_or(&self.dead_letter_topic);
            if dead == topic {
                problem(&key("dead_letter_topic"), "a topic cannot take its own dead letters".into());
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
            if let Some(other) = owners.insert(&route.stream.name, topic) {
                problem(&key("stream.name"), format!("the route of {other} uses this stream: each needs its own, with its own prefix"));
            }
        }
        problems
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>'))
}

#[cfg(test)]
mod tests {
    use super::{Cluster, Forward, Route, add_clusters_from_environment, cluster_problems, without_login};
    use std::collections::BTreeMap;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Forward::default().problems(), []);
    }

    #[test]
    fn clusters_come_from_file_and_environment() {
        let file = Cluster { urls: vec!["nats://old:4222".into()], user: Some("forwarder".into()), ..Cluster::default() };
        let mut clusters = BTreeMap::from([("C1".to_owned(), file)]);
        let environment =
            [("NATS_CLUSTER_C1", "nats://a:4222, nats://b:4222"), ("NATS_CLUSTER_C2", "c:4222"), ("NATS_CLUSTER_", "d"), ("PATH", "/")];
        add_clusters_from_environment(&mut clusters, environment.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(clusters.keys().collect::<Vec<_>>(), ["C1", "C2"]);
        assert_eq!(clusters["C1"].urls, ["nats://a:4222", "nats://b:4222"]);
        assert_eq!(clusters["C1"].user.as_deref(), Some("forwarder"));
    }

    #[test]
    fn a_login_in_an_address_is_not_shown() {
        for (url, shown) in [
            ("nats://user:p@ss@nats-1:4222", "nats://nats-1:4222"),
            ("token@nats-1:4222", "nats-1:4222"),
            ("tls://nats-1", "tls://nats-1"),
            ("nats-1:4222", "nats-1:4222"),
        ] {
            assert_eq!(without_login(url), shown);
        }
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        let clusters = BTreeMap::from([
            ("A".to_owned(), Cluster::default()),
            ("B".to_owned(), Cluster { urls: vec!["http://a b".into()], ca: Some("/nowhere/ca.pem".into()), ..Cluster::default() }),
        ]);
        let keys: Vec<String> = cluster_problems(&clusters).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["nats.A.urls", "nats.B.urls", "nats.B.ca"]);

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
}
