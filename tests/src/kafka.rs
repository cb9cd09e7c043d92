//! A real Apache Kafka, started from its jars: one node that is broker and controller, or several.

mod cluster;
mod disk;
mod node;
mod topics;

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail};

pub use disk::SmallDisk;
pub use node::{Node, Release};
pub use topics::{create_topic, create_topic_on, delete_topic, drop_first_third};

use crate::proxy::Proxy;
use crate::tools;
use node::Link;

/// Clusters of one test process run one after the other: a small machine is full of one.
static TURN: Mutex<()> = Mutex::new(());

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

    /// `host:port`, with commas between several.
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

/// What a Kafka of one's own is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Which one.
    pub release: Release,
    /// How many nodes.
    pub nodes: u8,
    /// An address of this machine at which clients reach them.
    pub host: Ipv4Addr,
    /// What is spoken over a second way in (see [`Kafka::link`]): `PLAINTEXT`, `SSL`, `SASL_SSL`.
    pub link_protocol: &'a str,
    /// Settings of every node, as Kafka names them.
    pub settings: &'a [(&'a str, &'a str)],
    /// Further options of every node's Java.
    pub jvm: &'a [&'a str],
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { release: Release::Current, nodes: 1, host: Ipv4Addr::LOCALHOST, link_protocol: "PLAINTEXT", settings: &[], jvm: &[] }
    }
}

/// A Kafka of one's own; dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    link: Option<Link>,
    /// Removed when the nodes are gone.
    _folder: tempfile::TempDir,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Kafka {
    /// Starts one node and waits until it answers.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&Plan::default())
    }

    /// As [`Self::start`], with a second way in that can be broken: see [`Self::link`].
    pub fn start_with_link() -> anyhow::Result<Self> {
        Self::start_linked(&Plan::default())
    }

    /// As [`Self::start_with_link`], made as planned; the link leads to the first node.
    pub fn start_linked(plan: &Plan<'_>) -> anyhow::Result<Self> {
        Self::make(plan, Some(Link::start()?))
    }

    /// Starts one as planned.
    pub fn start_with(plan: &Plan<'_>) -> anyhow::Result<Self> {
        Self::make(plan, None)
    }

    fn make(plan: &Plan<'_>, link: Option<Link>) -> anyhow::Result<Self> {
        let turn = (plan.nodes > 1).then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
        let folder = tempfile::Builder::new().prefix("openfactory-kafka-").tempdir()?;
        let nodes = (1..=i32::from(plan.nodes)).map(|id| Node::new(id, folder.path(), plan)).collect::<anyhow::Result<Vec<_>>>()?;
        let voters: Vec<String> = nodes.iter().map(Node::voter).collect();
        for node in &nodes {
            node.configure(plan, &voters.join(","), link.as_ref().filter(|_| node.id() == 1))?;
        }
        let mut kafka = Self { nodes, link, _folder: folder, _turn: turn };
        kafka.format()?;
        kafka.start_again()?;
        Ok(kafka)
    }

    /// `host:port` of each node, with commas between them.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// The proxy before the second way in. Who starts from its port ([`Self::link_bootstrap`]) is sent back to it by the broker.
    pub fn link(&self) -> anyhow::Result<&Proxy> {
        Ok(&self.link.as_ref().context("this broker was started without a link")?.proxy)
    }

    /// `host:port` of the second way in.
    pub fn link_bootstrap(&self) -> anyhow::Result<String> {
        Ok(format!("127.0.0.1:{}", self.link()?.port()))
    }

    /// Ends it as an operator would (SIGTERM).
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Node::stop)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Node::kill)
    }

    /// Starts it on the same ports with the same data, and waits until it answers.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        // A node answers when most of them run.
        self.nodes.iter_mut().try_for_each(Node::spawn)?;
        self.nodes.iter_mut().try_for_each(Node::wait_answers)
    }

    /// Puts another cluster in its place: same addresses, another id, and no topics.
    pub fn start_anew(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        for node in &self.nodes {
            std::fs::remove_dir_all(node.data())?;
        }
        self.format()?;
        self.start_again()
    }

    /// The process id of the first node, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.nodes.first().and_then(Node::process_id)
    }

    /// Changes rules about who may do what, as `kafka-acls.sh` does.
    pub fn acls(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.tool("org.apache.kafka.tools.AclCommand", arguments).map(drop)
    }

    /// Runs a class of Kafka's to its end; returns what it printed.
    pub fn java(&self, class: &str, arguments: &[&str]) -> anyhow::Result<String> {
        self.nodes.first().context("no nodes")?.java(class, arguments)
    }

    /// Runs one of Kafka's tools, which is told where the brokers are.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let bootstrap = self.bootstrap();
        let words = [&["--bootstrap-server", &bootstrap], arguments].concat();
        self.java(class, &words)
    }

    /// Makes all nodes, whose data folders are empty, those of a new cluster.
    fn format(&self) -> anyhow::Result<()> {
        let first = self.nodes.first().context("a Kafka without nodes")?;
        let id = first.java("kafka.tools.StorageTool", &["random-uuid"])?;
        let id = id.lines().last().context("kafka.tools.StorageTool gave no cluster id")?;
        self.nodes.iter().try_for_each(|node| node.format(id))
    }
}
