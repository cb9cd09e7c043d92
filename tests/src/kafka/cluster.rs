//! A Kafka of several nodes: who leads, who is in sync, and waiting for it.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::MetadataPartition;

use super::Kafka;
use super::node::Node;
use crate::wait::{self, Look};

/// A broker that is gone is noticed after nine seconds (`broker.session.timeout.ms`); then the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

impl Kafka {
    /// Three nodes; what is acknowledged stands on two of them at least.
    pub fn cluster() -> anyhow::Result<Self> {
        Self::start_with(&super::Plan { nodes: 3, ..Default::default() })
    }

    /// The ids of all nodes.
    pub fn ids(&self) -> Vec<i32> {
        self.nodes.iter().map(Node::id).collect()
    }

    /// A node by its id.
    pub fn node(&mut self, id: i32) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.id() == id).with_context(|| format!("there is no node {id}"))
    }

    /// The node that leads a partition, once there is one other than `before`.
    pub fn wait_leader(&self, topic: &str, partition: i32, before: Option<i32>) -> anyhow::Result<i32> {
        let consumer = self.consumer()?;
        wait::until(&format!("partition {partition} of {topic} has a leader other than {before:?}"), PATIENCE, || {
            let metadata = match consumer.fetch_metadata(Some(topic), Duration::from_secs(2)) {
                Ok(metadata) => metadata,
                Err(error) => return Ok(Look::Waiting(error.to_string())),
            };
            let leader = metadata.topics().iter().flat_map(|t| t.partitions()).find(|p| p.id() == partition).map(|p| p.leader());
            Ok(match leader {
                Some(leader) if leader >= 0 && Some(leader) != before => Look::Done(leader),
                other => Look::Waiting(format!("{other:?}")),
            })
        })
    }

    /// Waits until every copy of every partition is in sync.
    pub fn wait_in_sync(&self, topic: &str) -> anyhow::Result<()> {
        self.wait_partitions(&format!("all copies of {topic} are in sync"), topic, |p| p.isr().len() == p.replicas().len())
    }

    /// Waits until the copies on these nodes, and no others, are in sync.
    pub fn wait_in_sync_on(&self, topic: &str, nodes: &[i32]) -> anyhow::Result<()> {
        self.wait_partitions(&format!("the copies of {topic} on {nodes:?} are in sync"), topic, |p| p.isr() == nodes)
    }

    fn wait_partitions(&self, what: &str, topic: &str, holds: impl Fn(&MetadataPartition) -> bool) -> anyhow::Result<()> {
        let consumer = self.consumer()?;
        wait::until(what, PATIENCE, || {
            let metadata = match consumer.fetch_metadata(Some(topic), Duration::from_secs(2)) {
                Ok(metadata) => metadata,
                Err(error) => return Ok(Look::Waiting(error.to_string())),
            };
            let partitions = || metadata.topics().iter().flat_map(|topic| topic.partitions());
            if partitions().count() > 0 && partitions().all(|p| p.leader() >= 0 && holds(p)) {
                return Ok(Look::Done(()));
            }
            let state = partitions().map(|p| format!("{}: {:?} of {:?}", p.id(), p.isr(), p.replicas())).collect::<Vec<_>>();
            Ok(Look::Waiting(state.join(", ")))
        })
    }

    /// The active controller, once there is one other than `before`.
    pub fn wait_controller(&self, before: Option<i32>) -> anyhow::Result<i32> {
        wait::until(&format!("there is a controller other than {before:?}"), PATIENCE, || {
            let status = match self.tool("org.apache.kafka.tools.MetadataQuorumCommand", &["describe", "--status"]) {
                Ok(status) => status,
                Err(error) => return Ok(Look::Waiting(format!("{error:#}"))),
            };
            let leader = status.lines().find_map(|line| line.strip_prefix("LeaderId:")).and_then(|id| id.trim().parse().ok());
            Ok(match leader {
                Some(leader) if Some(leader) != before => Look::Done(leader),
                other => Look::Waiting(format!("{other:?}")),
            })
        })
    }

    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        Ok(ClientConfig::new().set("bootstrap.servers", self.bootstrap()).create()?)
    }
}
