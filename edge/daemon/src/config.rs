//! `edge.toml`: what it says, and its defaults. The file is explained by config/edge.toml.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use asset_stream::device_file::validate_asset;
use asset_stream::topics;
use serde::Deserialize;
use service::config::Problem;
use service::units;
use service::web::Access;

use crate::commands;

/// Unix sockets have a place for so many bytes of their path.
const MAX_SOCKET: usize = 107;
/// The channel counts bytes in 32 bits.
const MAX_MEMORY: u64 = 4 << 30;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Who this edge is, and where its files are.
    #[serde(default)]
    pub(crate) edge: Edge,
    /// The durable log.
    #[serde(default)]
    pub(crate) log: Log,
    /// How to reach Kafka. Absent: the edge runs alone, collects and keeps.
    pub(crate) kafka: Option<service::kafka::Config>,
    /// How the log gets into Kafka.
    #[serde(default)]
    pub(crate) mirror: Mirror,
    /// Who may ask devices to do something.
    #[serde(default)]
    pub(crate) commands: commands::Config,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Edge {
    /// Unique among all edges that write into the same topic; absent: the host's name.
    pub(crate) id: String,
    /// The edge's own asset; absent: the id in upper case.
    pub(crate) asset: Option<String>,
    /// Folder of the device files (`*.yaml`, `*.yml`).
    pub(crate) devices: PathBuf,
    /// The UNS schema; needed if a device has `uns`.
    pub(crate) uns_schema: Option<PathBuf>,
    /// What must survive a restart: the log, the OPC UA identity and trust list.
    pub(crate) state_dir: PathBuf,
    /// Where `status` and `tail` find the daemon.
    pub(crate) socket: PathBuf,
    /// Where the status is served over HTTP; absent: nowhere.
    pub(crate) status_listen: Option<SocketAddr>,
    /// How it is protected; needed where other machines can reach it.
    pub(crate) status_access: Option<Access>,
    /// How much memory samples may take between the gateways and the log.
    #[serde(deserialize_with = "units::size")]
    pub(crate) memory: u64,
    /// What to log, e.g. `info` or `debug`.
    #[serde(deserialize_with = "service::logging::filter")]
    pub(crate) log_filter: Option<String>,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            id: service::host::name(),
            asset: None,
            devices: "devices".into(),
            uns_schema: None,
            state_dir: "/var/lib/openfactory-edge".into(),
            socket: "/run/openfactory-edge/edge.sock".into(),
            status_listen: None,
            status_access: None,
            memory: 32 << 20,
            log_filter: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Everything that the log may take on the disk.
    #[serde(deserialize_with = "units::size")]
    pub(crate) max_size: u64,
    /// Free space that the log leaves to the rest of the system.
    #[serde(deserialize_with = "units::size")]
    pub(crate) min_free: u64,
    /// What happens to events when the log is full.
    pub(crate) when_full: WhenFull,
    /// How much of what Kafka has already is kept for repairs of the centre.
    #[serde(deserialize_with = "units::size")]
    pub(crate) retain_size: u64,
    /// For how long it is kept at most.
    #[serde(deserialize_with = "units::duration")]
    pub(crate) retain_age: Duration,
    /// Size of one file.
    #[serde(deserialize_with = "units::size")]
    pub(crate) segment_size: u64,
    /// How long an event may wait for others before it is written.
    #[serde(deserialize_with = "units::duration")]
    pub(crate) linger: Duration,
}

impl Default for Log {
    fn default() -> Self {
        let buffer = edge_buffer::Config::default();
        Self {
            max_size: buffer.max_bytes,
            min_free: buffer.min_free,
            when_full: WhenFull::DropOldest,
            retain_size: buffer.retain_bytes,
            retain_age: buffer.retain_age.unwrap_or(Duration::from_secs(7 * 86_400)),
            segment_size: buffer.segment_bytes,
            linger: buffer.linger,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WhenFull {
    /// The oldest events make room, with a gap event.
    DropOldest,
    /// New events are refused, with a gap event.
    RefuseNew,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mirror {
    /// The asset stream.
    pub(crate) topic: String,
    /// Where edges announce themselves.
    pub(crate) edges_topic: String,
    /// Make missing topics. Absent: a missing topic is a state that waits for a person.
    pub(crate) create_topics: Option<CreateTopics>,
    /// At most this many events each second while catching up. Absent: as fast as Kafka takes them.
    pub(crate) rate: Option<u32>,
    /// At most so many events are handed over and not yet acknowledged …
    pub(crate) window: usize,
    /// … and so many bytes of events.
    #[serde(deserialize_with = "units::size")]
    pub(crate) window_size: u64,
    /// Requests under way to one broker.
    pub(crate) max_in_flight: u8,
    /// How much is read back after a doubt, at most.
    #[serde(deserialize_with = "units::size")]
    pub(crate) doubt_limit: u64,
    /// What to do when the topic is no longer the one that was mirrored into.
    pub(crate) on_changed_topic: OnChangedTopic,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            topic: topics::ASSETS.into(),
            edges_topic: topics::EDGES.into(),
            create_topics: None,
            rate: None,
            window: 50_000,
            window_size: 32 << 20,
            max_in_flight: 1,
            doubt_limit: 512 << 20,
            on_changed_topic: OnChangedTopic::Continue,
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTopics {
    /// Partitions of the asset stream.
    pub(crate) partitions: i32,
    /// Copies of each.
    pub(crate) replication_factor: i32,
    /// Topic configuration, e.g. `"retention.ms" = "-1"`.
    #[serde(default)]
    pub(crate) config: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnChangedTopic {
    /// Go on after the last acknowledged event.
    Continue,
    /// Send everything again that the log still holds.
    ResendRetained,
}

impl Config {
    /// Reads the file and looks whether it can work.
    pub(crate) fn load(file: &Path) -> Result<Self, Vec<Problem>> {
        let config = Self::read(file)?;
        let problems = config.problems(file);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Reads the file; relative paths in it are relative to its folder.
    pub(crate) fn read(file: &Path) -> Result<Self, Vec<Problem>> {
        let mut config: Self = service::config::load(file)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        for path in [&mut config.edge.devices, &mut config.edge.state_dir, &mut config.edge.socket] {
            *path = folder.join(&*path);
        }
        if let Some(path) = &mut config.edge.uns_schema {
            *path = folder.join(&*path);
        }
        config.kafka.iter_mut().for_each(|kafka| kafka.resolve_paths(folder));
        config.commands.locate(folder);
        config.edge.status_access.iter_mut().for_each(|access| access.resolve_paths(folder));
        Ok(config)
    }

    /// The UUID of the edge's own asset.
    pub(crate) fn asset(&self) -> String {
        self.edge.asset.clone().unwrap_or_else(|| self.edge.id.to_uppercase())
    }

    /// What a running edge cannot change to become one of `other`: keys that take effect at a start only.
    pub(crate) fn fixed(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("edge.id", self.edge.id != other.edge.id),
            ("edge.asset", self.asset() != other.asset() && self.edge.id == other.edge.id),
            ("edge.state_dir", self.edge.state_dir != other.edge.state_dir),
            ("edge.socket", self.edge.socket != other.edge.socket),
            // A server with other protection at the same address: the old one has the address.
            (
                "edge.status_access",
                self.edge.status_access != other.edge.status_access && self.edge.status_listen == other.edge.status_listen,
            ),
            ("edge.memory", self.edge.memory != other.edge.memory),
            ("log", self.log != other.log),
        ];
        keys.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key).collect()
    }

    /// The log's own settings.
    pub(crate) fn buffer(&self) -> edge_buffer::Config {
        edge_buffer::Config {
            dir: self.edge.state_dir.join("log"),
            segment_bytes: self.log.segment_size,
            max_bytes: self.log.max_size,
            min_free: self.log.min_free,
            retain_age: Some(self.log.retain_age),
            retain_bytes: self.log.retain_size,
            when_full: match self.log.when_full {
                WhenFull::DropOldest => edge_buffer::WhenFull::DropOldest,
                WhenFull::RefuseNew => edge_buffer::WhenFull::RefuseNew,
            },
            linger: self.log.linger,
            ..edge_buffer::Config::default()
        }
    }

    /// The mirror's settings; `None` without a `[kafka]` section.
    pub(crate) fn mirror(&self) -> Option<edge_mirror::Config> {
        let mut mirror = edge_mirror::Config::new(self.kafka.clone()?, self.edge.id.clone());
        mirror.edge_asset = self.asset();
        mirror.assets_topic.clone_from(&self.mirror.topic);
        mirror.edges_topic.clone_from(&self.mirror.edges_topic);
        mirror.rate = self.mirror.rate;
        mirror.window = self.mirror.window;
        mirror.window_bytes = usize::try_from(self.mirror.window_size).unwrap_or(usize::MAX);
        mirror.max_in_flight = self.mirror.max_in_flight;
        mirror.doubt_limit_bytes = self.mirror.doubt_limit;
        mirror.on_changed_topic = match self.mirror.on_changed_topic {
            OnChangedTopic::Continue => edge_mirror::OnChangedTopic::Continue,
            OnChangedTopic::ResendRetained => edge_mirror::OnChangedTopic::ResendRetained,
        };
        if let Some(CreateTopics { partitions, replication_factor, config }) = &self.mirror.create_topics {
            let (partitions, replication, settings) = (*partitions, *replication_factor, config.clone());
            mirror.create_topics = edge_mirror::CreateTopics::Create { partitions, replication, settings };
        }
        Some(mirror)
    }

    /// What cannot work of a file that could be read.
    pub(crate) fn problems(&self, file: &Path) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |key: &str, message: String| {
            problems.push(Problem::of(file, key, message));
        };
        let id = &self.edge.id;
        if id.is_empty() || id.len() > 128 || !id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            problem("edge.id", format!("{id:?}: expected 1 to 128 letters, digits, '-', '_' or '.'"));
        }
        if let Err(what) = validate_asset(&self.asset()) {
            problem("edge.asset", what);
        }
        if self.edge.socket.as_os_str().len() > MAX_SOCKET {
            problem("edge.socket", format!("the path is too long: at most {MAX_SOCKET} bytes"));
        }
        let (address, access) = (self.edge.status_listen, self.edge.status_access.as_ref());
        for (key, told) in service::web::problems(address, access, "edge.status_access") {
            problem(&if key.is_empty() { "edge.status_listen".to_owned() } else { format!("edge.status_access.{key}") }, told);
        }
        if self.edge.memory > MAX_MEMORY {
            problem("edge.memory", "too large: at most 4 GiB".into());
        }
        if self.mirror.topic == self.mirror.edges_topic {
            problem("mirror.edges_topic", "must be another topic than mirror.topic".into());
        }
        let (is_tiny, is_crowded) = (self.log.segment_size < 1 << 20, self.log.max_size < self.log.segment_size.saturating_mul(4));
        if is_tiny {
            problem("log.segment_size", "too small: at least 1 MiB, or files are opened all the time".into());
        }
        if is_crowded {
            problem("log.max_size", "too small: at least four segments (log.segment_size) must fit".into());
        }
        for error in self.buffer().problems() {
            let edge_buffer::Error::Config { key, problem: what } = error else { continue };
            match key {
                "segment_bytes" if !is_tiny => problem("log.segment_size", what),
                // Said above, in the words of this file.
                "segment_bytes" | "max_bytes" => {}
                _ => problem(&format!("log.{key}"), what),
            }
        }
        if self.edge.memory < 1 << 20 {
            problem("edge.memory", "too small: at least 1 MiB".into());
        }
        if let Some(CreateTopics { partitions, replication_factor, .. }) = &self.mirror.create_topics
            && (*partitions < 1 || !(1..=i32::from(i16::MAX)).contains(replication_factor))
        {
            problem("mirror.create_topics", "partitions and replication_factor must be at least 1".into());
        }
        if let Some(kafka) = &self.kafka
            && let Err(error) = kafka.client()
        {
            let (key, what) = error.at();
            problem(&key, what);
        }
        for error in self.mirror().iter().flat_map(edge_mirror::Config::problems) {
            match error {
                // Said above.
                edge_mirror::Error::Config { key: "edge_id", .. } => {}
                edge_mirror::Error::Config { key: "assets_topic", problem: what } => problem("mirror.topic", what.into()),
                edge_mirror::Error::Config { key: "window_bytes", problem: what } => problem("mirror.window_size", what.into()),
                edge_mirror::Error::Config { key, problem: what } => problem(&format!("mirror.{key}"), what.into()),
                edge_mirror::Error::Kafka(error) => {
                    let (key, what) = error.at();
                    problem(&key, what);
                }
                error => problem("kafka", service::error::chain(&error)),
            }
        }
        for (key, what) in self.commands.problems() {
            problem(&format!("commands.{key}"), what);
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Log, Mirror};
    use std::path::Path;

    fn problems(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("temp folder");
        let file = folder.path().join("edge.toml");
        std::fs::write(&file, text).expect("temp file");
        let problems = Config::load(&file).expect_err("the config is bad");
        let folder = format!("{}/", folder.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    }

    #[test]
    fn the_example_is_valid_and_its_values_are_the_defaults_as_it_says() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/edge.toml");
        let config = Config::load(&file).expect("the example is valid");
        assert_eq!(config.log, Log::default());
        assert_eq!(config.mirror, Mirror::default());
        let edge = super::Edge::default();
        assert_eq!((config.edge.memory, config.edge.state_dir, config.edge.socket), (edge.memory, edge.state_dir, edge.socket));
    }

    #[test]
    fn all_problems_are_told_with_file_line_and_key() {
        let told = problems(
            "[edge]\nid = \"a\"\nmemory = 5\nlog_filter = \"debgu\"\n[log]\nwhen_full = \"panic\"\n[kafka]\nbroker = [\"b:9092\"]\n",
        );
        assert_eq!(
            told,
            [
                "edge.toml:3:10: edge.memory: expected a text in quotes, found 5",
                "edge.toml:4:14: edge.log_filter: the log filter \"debgu\" cannot be read; examples: \"debug\", \"warn,edge_mirror=debug\"",
                "edge.toml:6:13: log.when_full: expected \"drop_oldest\" or \"refuse_new\", found \"panic\"",
                "edge.toml:7:1: kafka.brokers: `brokers` is missing",
                "edge.toml:8:1: kafka.broker: unknown key `broker`; did you mean `brokers`?",
            ]
        );
    }

    #[test]
    fn files_of_the_kafka_section_are_looked_for_beside_the_config() {
        let told = problems("[edge]\nid = \"a\"\n[kafka]\nbrokers = [\"b:9092\"]\ntls = {ca = \"ca.pem\"}\n");
        assert_eq!(told, ["edge.toml:5:13: kafka.tls.ca: ca.pem cannot be read: No such file or directory (os error 2)"]);
    }

    #[test]
    fn what_the_mirror_cannot_work_with_is_told_before_anything_starts() {
        let told = |text: &str| problems(&format!("[edge]\nid = \"a\"\n[kafka]\nbrokers = [\"b:9092\"]\n{text}"));
        let idempotent = "an idempotent producer knows no more";
        assert_eq!(told("[mirror]\nmax_in_flight = 6\n"), [format!("edge.toml:6:17: mirror.max_in_flight: must be 1 to 5: {idempotent}")]);
        assert_eq!(told("[mirror]\nwindow_size = \"2 GiB\"\n"), ["edge.toml:6:15: mirror.window_size: must be 1 KiB to 1 GiB"]);
        let refused =
            "edge.toml:6:19: kafka.overrides.\"max.in.flight\": cannot be changed: set mirror.max_in_flight, which knows its limits";
        assert_eq!(told("[kafka.overrides]\n\"max.in.flight\" = \"5\"\n"), [refused]);
    }

    #[test]
    fn what_the_log_cannot_work_with_is_told_with_its_key_here() {
        let told = |log: &str| problems(&format!("[edge]\nid = \"a\"\n[log]\n{log}\n"));
        let [linger] = &told("linger = \"2 h\"")[..] else { panic!("expected one problem") };
        assert!(linger.starts_with("edge.toml:4:10: log.linger: "), "{linger}");
        let [size] = &told("segment_size = \"5 GiB\"\nmax_size = \"40 GiB\"")[..] else { panic!("expected one problem") };
        assert!(size.starts_with("edge.toml:4:16: log.segment_size: "), "{size}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_told_too() {
        let told = problems("[edge]\nid = \"a b\"\nmemory = \"1 KiB\"\n[log]\nmax_size = \"100 MiB\"\n[kafka]\nbrokers = []\n");
        assert_eq!(
            told,
            [
                "edge.toml:2:6: edge.id: \"a b\": expected 1 to 128 letters, digits, '-', '_' or '.'",
                "edge.toml:3:10: edge.memory: too small: at least 1 MiB",
                "edge.toml:5:12: log.max_size: too small: at least four segments (log.segment_size) must fit",
                "edge.toml:7:11: kafka.brokers: empty: name at least one broker as \"host:port\"",
            ]
        );
    }
}
