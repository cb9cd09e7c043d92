//! What can be configured, and what is wrong with it.

use std::net::SocketAddr;
use std::time::Duration;

use asset_stream::topics;
use serde::Deserialize;
use service::units;

/// The `[commands]` section.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Commands {
    /// The consumer group: all copiers of one installation share it. Their transactions are named after it.
    pub group: String,
    /// This copier's name in the group, the same after a restart and different from all others'; absent: the host's name.
    pub instance: Option<String>,
    /// The asset stream: where commands are written, and what becomes of them.
    pub assets_topic: String,
    /// Where edges read commands.
    pub commands_topic: String,
    /// Where a copier begins whose group has read nothing yet.
    pub start: Start,
    /// Makes the topic of commands if it is missing. Absent: its absence is a state that waits for a person.
    pub create_topic: Option<CreateTopic>,
    /// Where `/status`, `/metrics` and `/healthz` are served; absent: nowhere.
    pub status_listen: Option<SocketAddr>,
    /// How these are protected; needed where other machines can reach them.
    pub status_access: Option<service::web::Access>,
    /// Takes commands from NATS. Absent: it does not.
    pub nats: Option<Front>,
}

/// Where a copier begins whose group has read nothing yet.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest record: no command is passed over, and edges let those expire whose deadline is past.
    Earliest,
    /// With what is written from now on.
    Latest,
}

/// How the topic of commands is made.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CreateTopic {
    /// Copies of each partition. Its partitions are as many as the asset stream's.
    pub replication_factor: i32,
}

/// Commands from NATS.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Front {
    /// Clusters of `[nats]` that are listened to; empty: all.
    pub clusters: Vec<String>,
    /// First token of the subject.
    pub prefix: String,
    /// The queue group: each request goes to one of several services.
    pub queue_group: String,
    /// How many requests may wait for what becomes of their commands.
    pub max_waiting: usize,
    /// The deadline of commands whose sender gave none.
    #[serde(deserialize_with = "units::duration")]
    pub expires_in: Duration,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            group: "openfactory-commands".into(),
            instance: None,
            assets_topic: topics::ASSETS.into(),
            commands_topic: topics::COMMANDS.into(),
            start: Start::Earliest,
            create_topic: None,
            status_listen: None,
            status_access: None,
            nats: None,
        }
    }
}

impl Default for Front {
    fn default() -> Self {
        Self {
            clusters: Vec::new(),
            prefix: "cmd".into(),
            queue_group: "openfactory-commands".into(),
            max_waiting: 1000,
            expires_in: Duration::from_secs(30),
        }
    }
}

/// Properties of librdkafka on which promises rest.
const PROTECTED: &[(&str, &str)] = &[
    ("enable.auto.commit", "offsets are committed with the commands that they cover, in one transaction"),
    ("enable.auto.offset.store", "offsets are committed with the commands that they cover, in one transaction"),
    ("isolation.level", "a command that its sender took back must not reach an edge"),
    ("partition.assignment.strategy", "what was read and not copied is dropped when partitions move, which needs all of them to move"),
    ("group.protocol", "sessions and assignments are those of the classic protocol"),
    ("group.id", "set commands.group instead"),
    ("group.instance.id", "set commands.instance instead"),
    ("auto.offset.reset", "set commands.start instead"),
    ("enable.partition.eof", "the end of a partition would be taken for trouble"),
    ("transactional.id", "it is made of commands.group and commands.instance"),
    ("transaction.timeout.ms", "it bounds how long a copier that was killed holds up the readers of the topic"),
    ("enable.idempotence", "transactions rest on it"),
    ("acks", "a command is written when it stands on all replicas in sync"),
    ("request.required.acks", "a command is written when it stands on all replicas in sync"),
    ("partitioner", "edges read only the partitions where Kafka's own partitioner puts their assets"),
    ("batch.num.messages", "a command that is too large must not take its neighbours with it"),
    ("allow.auto.create.topics", "a missing topic is made by commands.create_topic, or by a person"),
    ("statistics.interval.ms", "lag and the return of the brokers are known from the statistics"),
];

/// What is wrong with the overrides of the `[kafka]` section for commands, as (key, message).
pub fn override_problems(kafka: &service::kafka::Config) -> Vec<(String, String)> {
    let problem = |(property, reason)| (format!("kafka.overrides.{property:?}"), format!("cannot be changed: {reason}"));
    kafka.overridden(PROTECTED).map(problem).collect()
}

impl Commands {
    /// What is wrong with the section beyond its types, as (key, message). `clusters`: the names in `[nats]`.
    pub fn problems<'c>(&self, clusters: impl Iterator<Item = &'c str> + Clone) -> Vec<(String, String)> {
        let mut problems: Vec<(String, String)> = Vec::new();
        let mut problem = |key: &str, message: String| problems.push((format!("commands.{key}"), message));
        if self.group.is_empty() {
            problem("group", "empty: all copiers of one installation share a group name".into());
        }
        for (key, topic) in [("assets_topic", &self.assets_topic), ("commands_topic", &self.commands_topic)] {
            if !is_topic(topic) {
                problem(key, format!("{topic:?} is no name of a Kafka topic: 1 to 249 letters, digits, dots, '_' or '-'"));
            }
        }
        if self.assets_topic == self.commands_topic {
            problem("commands_topic", "the same as assets_topic: each command would be copied again and again".into());
        }
        if self.create_topic.as_ref().is_some_and(|create| create.replication_factor < 1) {
            problem("create_topic.replication_factor", "must be at least 1".into());
        }
        for (key, told) in service::web::problems(self.status_listen, self.status_access.as_ref(), "commands.status_access") {
            problem(&if key.is_empty() { "status_listen".to_owned() } else { format!("status_access.{key}") }, told);
        }
        let Some(front) = &self.nats else { return problems };
        if clusters.clone().next().is_none() {
            problem("nats", "no NATS cluster is named: add [nats.NAME] with urls, or take [commands.nats] out".into());
        }
        for name in front.clusters.iter().filter(|name| clusters.clone().all(|known| known != name.as_str())) {
            problem("nats.clusters", format!("there is no [nats.{name}]"));
        }
        for (key, token) in [("nats.prefix", &front.prefix), ("nats.queue_group", &front.queue_group)] {
            if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>')) {
                problem(key, format!("{token:?} is no subject token: no dots, spaces, * or >"));
            }
        }
        if front.max_waiting == 0 {
            problem("nats.max_waiting", "0: nobody would get an answer".into());
        }
        if front.expires_in < Duration::from_millis(100) {
            problem("nats.expires_in", "less than \"100ms\": no command would get to its device in time".into());
        }
        problems
    }

    /// This copier's name in its group.
    pub(crate) fn instance(&self) -> String {
        let name = self.instance.clone().unwrap_or_else(service::host::name);
        let name = name.trim();
        if name.is_empty() { "localhost".into() } else { name.to_owned() }
    }
}

fn is_topic(name: &str) -> bool {
    // librdkafka would take a name that begins with ^ for a pattern.
    (1..=249).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::{Commands, CreateTopic, Front, override_problems};

    #[test]
    fn the_defaults_are_valid_and_need_no_nats() {
        assert_eq!(Commands::default().problems([].into_iter()), []);
        let with_nats = Commands { nats: Some(Front::default()), ..Commands::default() };
        assert_eq!(with_nats.problems(["C1"].into_iter()), []);
    }

    #[test]
    fn every_problem_is_told_with_its_key() {
        let front = Front { clusters: vec!["C2".into()], prefix: "a.b".into(), max_waiting: 0, ..Front::default() };
        let commands = Commands {
            commands_topic: "ofa_assets".into(),
            create_topic: Some(CreateTopic { replication_factor: 0 }),
            nats: Some(front),
            ..Commands::default()
        };
        let keys: Vec<String> = commands.problems(["C1"].into_iter()).into_iter().map(|(key, _)| key).collect();
        let expected = ["commands_topic", "create_topic.replication_factor", "nats.clusters", "nats.prefix", "nats.max_waiting"];
        assert_eq!(keys, expected.map(|key| format!("commands.{key}")));
    }

    #[test]
    fn what_promises_rest_on_cannot_be_overridden() {
        let mut kafka = service::kafka::Config::plain("kafka:9092");
        for property in ["fetch.max.bytes", "transactional.id", "partitioner"] {
            kafka.overrides.insert(property.into(), "x".into());
        }
        let keys: Vec<String> = override_problems(&kafka).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [r#"kafka.overrides."transactional.id""#, r#"kafka.overrides."partitioner""#]);
    }
}
