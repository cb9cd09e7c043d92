//! One node of a Kafka: a process that is broker and controller, with its settings and its data.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rustix::process::Signal;

use super::Plan;
use super::disk::SmallDisk;
use crate::process::{self, Process};
use crate::proxy::Proxy;
use crate::wait::{self, Look};
use crate::{ports, tools};

/// A first start on a busy machine.
const START: Duration = Duration::from_secs(180);

/// For processes that end soon, or share a small machine: they start with half the work.
const FRUGAL: &[&str] = &["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
/// For a broker that has to keep up with the fastest test.
const FAST: &[&str] = &["-Xmx512m"];

/// A release of Apache Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// The one that tests run against unless they say otherwise.
    #[default]
    Current,
    /// 3.7.1, which existing installations run.
    V3_7,
}

impl Release {
    /// Folder of its jars.
    pub(super) fn lib(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Current => tools::kafka_lib(),
            Self::V3_7 => tools::kafka_lib_3_7(),
        }
    }
}

/// A node; dropping it kills the process.
#[derive(Debug)]
pub struct Node {
    id: i32,
    folder: PathBuf,
    lib: PathBuf,
    jvm: Vec<String>,
    host: Ipv4Addr,
    port: u16,
    controller: u16,
    // In this order dropped: a disk can be taken away when nobody uses it.
    process: Option<Process>,
    disk: Option<SmallDisk>,
}

impl Node {
    /// A node that is not started yet, and has neither settings nor data.
    pub(super) fn new(id: i32, folder: &Path, plan: &Plan<'_>) -> anyhow::Result<Self> {
        let folder = folder.join(format!("node-{id}"));
        std::fs::create_dir_all(folder.join("data"))?;
        let jvm = if plan.nodes == 1 { FAST } else { FRUGAL };
        Ok(Self {
            id,
            folder,
            lib: plan.release.lib()?,
            jvm: [jvm, plan.jvm].concat().into_iter().map(str::to_owned).collect(),
            host: plan.host,
            port: ports::free()?,
            controller: ports::free()?,
            process: None,
            disk: None,
        })
    }

    /// `node.id`.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// `host:port` of clients.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Where its data stands.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Its entry in `controller.quorum.voters`.
    pub(super) fn voter(&self) -> String {
        format!("{}@127.0.0.1:{}", self.id, self.controller)
    }

    /// Writes `server.properties`; `voters` are all nodes, `link` is a second way in.
    pub(super) fn configure(&self, plan: &Plan<'_>, voters: &str, link: Option<&Link>) -> anyhow::Result<()> {
        let (host, port, controller) = (self.host, self.port, self.controller);
        let (listener, advertised, protocol) = link.map(|link| link.settings(plan.link_protocol)).unwrap_or_default();
        // What is acknowledged outlives one node, if there is more than one.
        let (copies, in_sync) = if plan.nodes == 1 { (1, 1) } else { (plan.nodes, plan.nodes - 1) };
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={}\n\
             controller.quorum.voters={voters}\n\
             listeners=PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller}{listener}\n\
             advertised.listeners=PLAINTEXT://{host}:{port}{advertised}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocol}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={}\n\
             default.replication.factor={copies}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={copies}\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor={copies}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=4\n\
             share.coordinator.state.topic.replication.factor={copies}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n\
             log.retention.check.interval.ms=1000\n\
             log.initial.task.delay.ms=1000\n\
             producer.id.expiration.check.interval.ms=500\n\
             group.initial.rebalance.delay.ms=0\n\
             auto.create.topics.enable=false\n",
            self.id,
            self.data().display()
        );
        // The last line about a property counts.
        for (name, value) in plan.settings {
            writeln!(text, "{name}={value}")?;
        }
        Ok(std::fs::write(self.properties(), text)?)
    }

    /// Makes its empty data folder one of the cluster with that id.
    pub(super) fn format(&self, cluster: &str) -> anyhow::Result<()> {
        let properties = self.properties().to_string_lossy().into_owned();
        self.java("kafka.tools.StorageTool", &["format", "-t", cluster, "-c", &properties]).map(drop)
    }

    /// Runs a class of Kafka's to its end; returns what it printed.
    pub(super) fn java(&self, class: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let jvm = self.command(FRUGAL, class, arguments);
        let words: Vec<&str> = jvm.iter().map(String::as_str).collect();
        let (code, out, err) = process::run(Path::new("java"), &words, Duration::from_secs(60))?;
        ensure!(code == Some(0), "{class} {arguments:?} failed: {out}{err}");
        Ok(out)
    }

    /// Starts it on the same ports with the same data; does not wait.
    pub(super) fn spawn(&mut self) -> anyhow::Result<()> {
        let jvm: Vec<&str> = self.jvm.iter().map(String::as_str).collect();
        let arguments = self.command(&jvm, "kafka.Kafka", &[&self.properties().to_string_lossy()]);
        let name = format!("Kafka {}", self.id);
        self.process = Some(Process::start(&name, Path::new("java"), &arguments, &[], &self.folder.join("kafka.log"))?);
        Ok(())
    }

    /// Waits until it takes part in its cluster.
    pub(super) fn wait_answers(&mut self) -> anyhow::Result<()> {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", self.address()).create()?;
        let id = self.id;
        wait::until(&format!("node {id} of Kafka answers"), START, || {
            self.expect_alive()?;
            match consumer.fetch_metadata(None, Duration::from_secs(1)) {
                Ok(metadata) if metadata.brokers().iter().any(|broker| broker.id() == id) => Ok(Look::Done(())),
                Ok(metadata) => Ok(Look::Waiting(format!("{} other brokers in its metadata", metadata.brokers().len()))),
                Err(error) => Ok(Look::Waiting(error.to_string())),
            }
        })
    }

    /// Starts it on the same ports with the same data, and waits until it takes part in its cluster.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.wait_answers()
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

    /// SIGSTOP: its connections stay open, and nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(Signal::STOP))
    }

    /// SIGCONT.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(Signal::CONT))
    }

    /// Moves its data, while it is stopped, onto a disk of that size; needs root.
    pub fn move_to_small_disk(&mut self, bytes: u64) -> anyhow::Result<&SmallDisk> {
        let (data, old) = (self.data(), self.folder.join("moved"));
        std::fs::rename(&data, &old)?;
        std::fs::create_dir(&data)?;
        let disk = self.disk.insert(SmallDisk::mount(&data, bytes)?);
        let copy = ["-a", &format!("{}/.", old.display()), &data.to_string_lossy()];
        let (code, _, err) = process::run(Path::new("cp"), &copy, Duration::from_secs(60))?;
        ensure!(code == Some(0), "cannot copy the data of a node: {err}");
        Ok(disk)
    }

    /// The disk that it was moved to.
    pub fn disk(&self) -> anyhow::Result<&SmallDisk> {
        self.disk.as_ref().context("this node has no disk of its own")
    }

    /// Waits until it has ended by itself.
    pub fn wait_ended(&mut self, max: Duration) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.wait_ended(max).map(drop))
    }

    fn expect_alive(&mut self) -> anyhow::Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::expect_alive)
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn command(&self, jvm: &[&str], class: &str, arguments: &[&str]) -> Vec<String> {
        let classes = format!("{}/*", self.lib.display());
        let common = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", &classes, class];
        [jvm, &common, arguments].concat().into_iter().map(str::to_owned).collect()
    }
}

/// A second way in, which leads through a proxy.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) proxy: Proxy,
    port: u16,
}

impl Link {
    pub(super) fn start() -> anyhow::Result<Self> {
        let port = ports::free()?;
        Ok(Self { proxy: Proxy::start(([127, 0, 0, 1], port).into())?, port })
    }

    /// What it adds to listeners, advertised listeners and their protocols.
    fn settings(&self, protocol: &str) -> (String, String, String) {
        let (listener, advertised) = (self.port, self.proxy.port());
        (format!(",LINK://127.0.0.1:{listener}"), format!(",LINK://127.0.0.1:{advertised}"), format!(",LINK:{protocol}"))
    }
}
