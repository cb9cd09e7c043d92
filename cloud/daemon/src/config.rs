//! `cloud.toml`: what it says. The file is explained by config/cloud.toml.

use std::collections::BTreeMap;
use std::path::Path;

use cloud_commands::Commands;
use cloud_forwarder::config::{
    Cluster, Forward, SubjectForm, add_clusters_from_environment, cluster_problems, override_problems, without_login,
};
use cloud_forwarder::router;
use serde::Deserialize;
use service::config::Problem;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What to log, e.g. `info` or `debug`.
    #[serde(default, deserialize_with = "service::logging::filter")]
    pub(crate) log_filter: Option<String>,
    /// How to reach Kafka; the router does without.
    pub(crate) kafka: Option<service::kafka::Config>,
    /// The NATS clusters by name.
    #[serde(default)]
    pub(crate) nats: BTreeMap<String, Cluster>,
    /// The forwarder.
    #[serde(default)]
    pub(crate) forward: Forward,
    /// The copier of commands, and who takes commands from NATS.
    #[serde(default)]
    pub(crate) commands: Commands,
    /// The router.
    #[serde(default)]
    pub(crate) route: router::Config,
}

/// What a config is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The forwarder.
    Forward,
    /// The router.
    Route,
    /// The copier of commands.
    Commands,
}

impl Config {
    /// Reads the file and the environment; all that is wrong for these services is told.
    pub(crate) fn load(file: &Path, services: &[Service]) -> Result<Self, Vec<Problem>> {
        Self::load_with(file, services, std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
    }

    /// Reads the `[kafka]` section, for what needs nothing else.
    pub(crate) fn load_kafka(file: &Path) -> Result<service::kafka::Config, Vec<Problem>> {
        let config: Self = service::config::load(file)?;
        let missing = || Problem::of(file, "kafka", "missing: add [kafka] with brokers");
        let mut kafka = config.kafka.ok_or_else(|| vec![missing()])?;
        kafka.resolve_paths(file.parent().unwrap_or(Path::new(".")));
        Ok(kafka)
    }

    /// Reads the `[kafka]` and `[commands]` sections.
    pub(crate) fn load_commands(file: &Path) -> Result<(service::kafka::Config, Commands), Vec<Problem>> {
        let kafka = Self::load_kafka(file)?;
        let Self { mut commands, .. } = service::config::load(file)?;
        // Whether NATS is listened to is for the service.
        commands.nats = None;
        commands.status_listen = None;
        let mut problems = commands.problems(std::iter::empty());
        problems.extend(cloud_commands::config::override_problems(&kafka));
        if problems.is_empty() {
            return Ok((kafka, commands));
        }
        Err(problems.into_iter().map(|(key, message)| Problem::of(file, key, message)).collect())
    }

    fn load_with(file: &Path, services: &[Service], environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<Problem>> {
        let mut config: Self = service::config::load(file)?;
        add_clusters_from_environment(&mut config.nats, environment);
        let folder = file.parent().unwrap_or(Path::new("."));
        config.kafka.iter_mut().for_each(|kafka| kafka.resolve_paths(folder));
        config.nats.values_mut().for_each(|cluster| cluster.resolve_paths(folder));
        config.forward.status_access.iter_mut().for_each(|access| access.resolve_paths(folder));
        config.commands.status_access.iter_mut().for_each(|access| access.resolve_paths(folder));
        // Commands come without NATS, too; what is said of clusters that are not there comes with [commands.nats].
        let are_clusters_needed = services.iter().any(|service| *service != Service::Commands);
        let mut problems = if are_clusters_needed || !config.nats.is_empty() { cluster_problems(&config.nats) } else { Vec::new() };
        if services.contains(&Service::Forward) {
            problems.extend(config.forward.problems());
            problems.extend(config.kafka.iter().flat_map(override_problems));
        }
        if services.contains(&Service::Commands) {
            problems.extend(config.commands.problems(config.nats.keys().map(String::as_str)));
            let of_overrides = config.kafka.iter().flat_map(cloud_commands::config::override_problems);
            // One that breaks promises of both is told once.
            let news: Vec<_> = of_overrides.filter(|(key, _)| problems.iter().all(|(told, _)| told != key)).collect();
            problems.extend(news);
        }
        if services.iter().any(|service| *service != Service::Route) {
            match config.kafka.as_ref().map(service::kafka::Config::client) {
                None if services.contains(&Service::Forward) => {
                    problems.push(("kafka".into(), "missing: the forwarder needs [kafka] with brokers".into()));
                }
                None => problems.push(("kafka".into(), "missing: commands need [kafka] with brokers".into())),
                Some(Err(error)) => problems.push(error.at()),
                Some(Ok(_)) => {}
            }
        }
        if problems.is_empty() {
            return Ok(config);
        }
        Err(problems.into_iter().map(|(key, message)| Problem::of(file, key, message)).collect())
    }

    /// What a valid config means, for the person who wrote it.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        for (name, cluster) in &self.nats {
            text += &format!("NATS cluster {name}: {}\n", cluster.urls.iter().map(|url| without_login(url)).collect::<Vec<_>>().join(", "));
        }
        for (topic, route) in &self.forward.routes {
            let subject = match (route.subject, route.jetstream) {
                (SubjectForm::AssetItem, true) => format!("{}.<key>.<ID>, republished as <key>.<ID>", route.prefix),
                (SubjectForm::AssetItem, false) => "<key>.<ID>".into(),
                (SubjectForm::Key, _) => format!("{}.<key>", route.prefix),
            };
            let how = if route.jetstream { format!("JetStream stream {}", route.stream.name) } else { "plain NATS".into() };
            let dead = route.dead_letter_topic.as_ref().unwrap_or(&self.forward.dead_letter_topic);
            text += &format!("topic {topic} -> {how}: {subject}; dead letters to {dead}\n");
        }
        let Commands { assets_topic, commands_topic, nats, .. } = &self.commands;
        text += &format!("commands of {assets_topic} -> {commands_topic}\n");
        if let Some(front) = nats {
            text += &format!("NATS {}.<asset>.<method> -> commands in {assets_topic}\n", front.prefix);
        }
        text + &format!("router on {}\nthe config is good\n", self.route.listen)
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Service};
    use std::path::Path;

    const BOTH: [Service; 2] = [Service::Forward, Service::Route];
    const ALL: [Service; 3] = [Service::Forward, Service::Route, Service::Commands];

    #[test]
    fn the_example_config_is_valid_and_states_the_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/cloud.toml");
        let config = Config::load_with(&file, &ALL, []).expect("the example is valid");
        let defaults = cloud_forwarder::config::Forward::default();
        assert_eq!(config.forward.routes, defaults.routes);
        assert_eq!(
            (config.forward.in_flight, config.forward.in_flight_bytes, config.forward.ack_timeout, config.forward.session_timeout),
            (defaults.in_flight, defaults.in_flight_bytes, defaults.ack_timeout, defaults.session_timeout)
        );
        assert_eq!((config.forward.group, config.forward.dead_letter_topic), (defaults.group, defaults.dead_letter_topic));
        assert_eq!(config.route, cloud_forwarder::router::Config::default());
        assert_eq!(config.commands, cloud_commands::Commands::default());
    }

    #[test]
    fn bad_input_is_told_with_file_line_and_key() {
        let folder = tempfile::tempdir().expect("temp folder");
        let file = folder.path().join("cloud.toml");
        let told = |text: &str| -> Vec<String> {
            std::fs::write(&file, text).expect("temp file");
            let problems = Config::load_with(&file, &BOTH, []).expect_err("the config is bad");
            problems.iter().map(|p| p.to_string().replace(&file.display().to_string(), "cloud.toml")).collect()
        };
        assert_eq!(
            told("log_filter = \"inof\"\n[forward]\nin_flight = \"many\"\nack_timeout = \"5\"\nin_fligth = 3\n[nats.A]\nurl = \"a\"\n")
                .iter()
                .map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": "))
                .collect::<Vec<_>>(),
            [
                "cloud.toml:1:14: log_filter",
                "cloud.toml:3:13: forward.in_flight",
                "cloud.toml:4:15: forward.ack_timeout",
                "cloud.toml:5:1: forward.in_fligth",
                "cloud.toml:6:1: nats.A.urls",
                "cloud.toml:7:1: nats.A.url",
            ]
        );
        assert_eq!(
            told("[forward]\nin_flight = 0\n"),
            [
                "cloud.toml: nats: no NATS cluster is named: add [nats.NAME] with urls, or set NATS_CLUSTER_NAME",
                "cloud.toml:2:13: forward.in_flight: 0 is not between 1 and 60000",
                "cloud.toml: kafka: missing: the forwarder needs [kafka] with brokers",
            ]
        );
        let nats = "[nats.A]\nurls = [\"a\"]\n";
        assert_eq!(
            told(&format!(
                "{nats}[kafka]\nbrokers = [\"b:9092\"]\nsasl = {{mechanism = \"PLAIN\", username = \"a\", password_file = \"password\"}}\n"
            )),
            [format!(
                "cloud.toml:5:62: kafka.sasl.password_file: there is no such file in {}; write the secret into a file of its own, and the file's name here",
                folder.path().display()
            )]
        );
    }

    #[test]
    fn clusters_of_the_environment_are_enough() {
        let folder = tempfile::tempdir().expect("temp folder");
        let file = folder.path().join("cloud.toml");
        std::fs::write(&file, "").expect("temp file");
        let environment = [("NATS_CLUSTER_C1".to_owned(), "nats://a:4222,nats://b:4222".to_owned())];
        let config = Config::load_with(&file, &[Service::Route], environment).expect("valid for the router");
        assert!(config.summary().starts_with("NATS cluster C1: nats://a:4222, nats://b:4222\n"));
    }
}
