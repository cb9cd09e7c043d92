//! A real Apache Kafka: one broker that is its own controller, started from its jars.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::process::{self, Process};
use crate::proxy::Proxy;
use crate::wait::{self, Look};
use crate::{ports, tools};

/// A first start on a busy machine.
const START: Duration = Duration::from_secs(90);

/// The broker that a test talks to.
#[derive(Debug)]
pub enum Broker {
    /// Runs for the whole test run: use own topics, and do not disturb it.
    Shared(String),
    /// Belongs to the test.
    Own(Kafka),
}

impl Broker {
    /// The one of this test run if there is one, else an own one.
    pub fn shared() -> anyhow::Result<Self> {
        tools::shared_kafka().map_or_else(|| Kafka::start().map(Self::Own), |bootstrap| Ok(Self::Shared(bootstrap)))
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Shared(bootstrap) => bootstrap.clone(),
            Self::Own(kafka) => kafka.bootstrap(),
        }
    }

    /// The broker as something that can be stopped.
    pub fn own(&mut self) -> anyhow::Result<&mut Kafka> {
        match self {
            Self::Own(kafka) => Ok(kafka),
            Self::Shared(_) => bail!("the shared broker must not be disturbed"),
        }
    }
}

/// A broker of one's own; dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Kafka {
    folder: tempfile::TempDir,
    lib: PathBuf,
    port: u16,
    /// A second way in that leads through a proxy.
    link: Option<Proxy>,
    process: Option<Process>,
}

impl Kafka {
    /// Starts one and waits until it answers.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(None)
    }

    /// As [`Self::start`], with a second way in that can be broken: see [`Self::link`].
    pub fn start_with_link() -> anyhow::Result<Self> {
        let port = ports::free()?;
        Self::start_with(Some((Proxy::start(([127, 0, 0, 1], port).into())?, port)))
    }

    fn start_with(link: Option<(Proxy, u16)>) -> anyhow::Result<Self> {
        let lib = tools::kafka_lib()?;
        let folder = tempfile::Builder::new().prefix("openfactory-kafka-").tempdir()?;
        let (port, controller) = (ports::free()?, ports::free()?);
        let properties = folder.path().join("server.properties");
        std::fs::write(&properties, settings(folder.path(), port, controller, link.as_ref()))?;
        let properties = properties.to_string_lossy().into_owned();
        let (_, id, _) = java(&lib, &["kafka.tools.StorageTool", "random-uuid"])?;
        let id = id.lines().last().context("kafka.tools.StorageTool gave no cluster id")?;
        let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", id, "-c", &properties];
        let (code, out, err) = java(&lib, &format)?;
        ensure!(code == Some(0), "kafka.tools.StorageTool cannot format the broker's folder: {out}{err}");
        let mut kafka = Self { folder, lib, port, link: link.map(|(proxy, _)| proxy), process: None };
        kafka.start_again()?;
        Ok(kafka)
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The proxy before the second way in. Who starts from its port ([`Self::link_bootstrap`]) is sent back to it by the broker.
    pub fn link(&self) -> anyhow::Result<&Proxy> {
        self.link.as_ref().context("this broker was started without a link")
    }

    /// `host:port` of the second way in.
    pub fn link_bootstrap(&self) -> anyhow::Result<String> {
        Ok(format!("127.0.0.1:{}", self.link()?.port()))
    }

    /// Ends it as an operator would (SIGTERM).
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(60))?;
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Starts it on the same port with the same data, and waits until it answers.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let properties = self.folder.path().join("server.properties");
        let arguments = [&jvm(&self.lib)[..], &["kafka.Kafka".to_owned(), properties.to_string_lossy().into_owned()]].concat();
        let log = self.folder.path().join("kafka.log");
        let process = self.process.insert(Process::start("Kafka", Path::new("java"), &arguments, &[], &log)?);
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", format!("127.0.0.1:{}", self.port)).create()?;
        wait::until("Kafka answers", START, || {
            process.expect_alive()?;
            match consumer.fetch_metadata(None, Duration::from_secs(1)) {
                Ok(metadata) if !metadata.brokers().is_empty() => Ok(Look::Done(())),
                Ok(_) => Ok(Look::Waiting("no broker in its metadata".into())),
                Err(error) => Ok(Look::Waiting(error.to_string())),
            }
        })
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

/// Makes a topic on `bootstrap`; `config` as Kafka names it.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) -> anyhow::Result<()> {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in config {
        new = new.set(name, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(admin.create_topics([&new], &AdminOptions::new()))?;
    for result in results {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot make the topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Lets Kafka drop the first third of each partition's records, as its retention does.
pub fn drop_first_third(bootstrap: &str, topic: &str) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut dropped = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (first, end) = consumer.fetch_watermarks(topic, partition.id(), Duration::from_secs(10))?;
        dropped.add_partition_offset(topic, partition.id(), Offset::Offset(first + (end - first) / 3))?;
    }
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(admin.delete_records(&dropped, &AdminOptions::new()))?;
    Ok(())
}

fn jvm(lib: &Path) -> Vec<String> {
    let classes = format!("{}/*", lib.display());
    ["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", &classes].map(str::to_owned).to_vec()
}

fn java(lib: &Path, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
    let jvm = jvm(lib);
    let arguments: Vec<&str> = jvm.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    process::run(Path::new("java"), &arguments, Duration::from_secs(60))
}

fn settings(folder: &Path, port: u16, controller: u16, link: Option<&(Proxy, u16)>) -> String {
    let (listener, advertised, protocol) = match link {
        None => Default::default(),
        Some((proxy, port)) => {
            (format!(",LINK://127.0.0.1:{port}"), format!(",LINK://127.0.0.1:{}", proxy.port()), ",LINK:PLAINTEXT".to_owned())
        }
    };
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listener}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocol}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         log.dirs={}/data\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         auto.create.topics.enable=false\n",
        folder.display()
    )
}
