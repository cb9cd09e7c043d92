//! `cloud.toml`: what it says. The file is explained by config/cloud.toml.

use std::collections::BTreeMap;
use std::path::Path;

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

    fn load_with(file: &Path, services: &[Service], environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<Problem>> {
        let mut config: Self = service::config::load(file)?;
        add_clusters_from_environment(&mut config.nats, environment);
        let folder = file.parent().unwrap_or(Path::new("."));
        config.kafka.iter_mut().for_each(|kafka| kafka.resolve_paths(folder));
        config.nats.values_mut().for_each(|cluster| cluster.resolve_paths(folder));
        config.forward.status_access.iter_mut().for_each(|access| access.resolve_paths(folder));
        let mut problems = cluster_problems(&config.nats);
        if services.contains(&Service::Forward) {
            problems.extend(config.forward.problems());
            problems.extend(config.kafka.iter().flat_map(override_problems));
            match config.kafka.as_ref().map(service::kafka::Config::client) {
                None => problems.push(("kafka".into(), "missing: the forwarder needs [kafka] with brokers".into())),
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
        text + &format!("router on {}\nthe config is good\n", self.route.listen)
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Service};
    use std::path::Path;

    const BOTH: [Service; 2] = [Service::Forward, Service::Route];

    #[test]
    fn the_example_config_is_valid_and_states_the_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/cloud.toml");
        let config = Config::load_with(&file, &BOTH, []).expect("the example is valid");
        let defaults = cloud_forwarder::config::Forward::default();
        assert_eq!(config.forward.routes, defaults.routes);
        assert_eq!(
            (config.forward.in_flight, config.forward.in_flight_bytes, config.forward.ack_timeout, config.forward.session_timeout),
            (defaults.in_flight, defaults.in_flight_bytes, defaults.ack_timeout, defaults.session_timeout)
        );
        assert_eq!((config.forward.group, config.forward.dead_letter_topic), (defaults.group, defaults.dead_letter_topic));
        assert_eq!(config.route, cloud_forwarder::router::Config::default());
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
