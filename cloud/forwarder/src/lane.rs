//! The way of one partition's events to one NATS cluster.
//!
//! A lane has a connection of its own. While its cluster is away it waits and tries again; the other lanes of the partition go on until
//! the partition's budget is full of what waits here. JetStream and plain NATS differ in how they confirm: `jetstream.rs`, `plain.rs`.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Cluster, Route};
use crate::link::Link;
use crate::message::Outgoing;
use crate::status::{Board, LaneName, State};
use crate::{jetstream as acknowledged, plain, stream};

/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_millis(200);
/// A reason that changes while a lane waits is logged at this pace; the status page has it at once.
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// How long a stopping lane waits for answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// NATS has it.
    Forwarded(Outgoing),
    /// NATS had it already.
    Duplicate(Outgoing),
    /// NATS will never take it, and why.
    Impossible(Outgoing, String),
}

/// What a lane is made of.
pub(crate) struct Lane {
    pub(crate) name: LaneName,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) route: Arc<Route>,
    pub(crate) in_flight: usize,
    pub(crate) ack_timeout: Duration,
    pub(crate) board: Arc<Board>,
    /// Closed by the partition when nothing more comes.
    pub(crate) input: mpsc::Receiver<Vec<Outgoing>>,
    pub(crate) outcomes: mpsc::Sender<Vec<Outcome>>,
    /// From then on nothing new is published; answers under way are awaited for a moment.
    pub(crate) stop: CancellationToken,
    pub(crate) memory: Memory,
}

/// What a lane remembers of its connections.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Connections that failed or broke: the next one goes to the next server.
    failures: usize,
    /// When the log was told that NATS is waited for; `None` when it was told that all is well, or nothing yet.
    told: Option<Instant>,
}

/// Why a connection was left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It broke, or the stream has to be looked at again; a sentence for people.
    Broken(String),
    /// The lane was asked to stop.
    Stopped,
}

impl Lane {
    /// Works until stopped; waits out every outage.
    pub(crate) async fn run(mut self) {
        if self.route.jetstream {
            let mut work = acknowledged::Work::new(&self);
            while let Some(mut link) = self.connect().await {
                match work.run(&mut self, &mut link).await {
                    Left::Broken(reason) => self.failed(reason).await,
                    Left::Stopped => break,
                }
            }
        } else {
            let mut work = plain::Work::new(&self);
            while let Some(mut link) = self.connect().await {
                match work.run(&mut self, &mut link).await {
                    Left::Broken(reason) => self.failed(reason).await,
                    Left::Stopped => break,
                }
            }
        }
        self.board.lane_ended(&self.name);
    }

    /// A connection, and the stream behind it; `None` when stopped.
    async fn connect(&mut self) -> Option<Link> {
        let name = format!("openfactory-forwarder {}/{}", self.name.topic, self.name.partition);
        while !self.stop.is_cancelled() {
            let url = &self.cluster.urls[self.memory.failures % self.cluster.urls.len()];
            let made = async {
                let link = Link::connect(url, &self.cluster, &name).await?;
                if self.route.jetstream {
                    stream::ensure(&jetstream::new(link.client().clone()), &self.route).await?;
                }
                Ok::<Link, String>(link)
            };
            let made = tokio::select! {
                () = self.stop.cancelled() => return None,
                made = made => made,
            };
            match made {
                Ok(link) => {
                    self.up();
                    return Some(link);
                }
                Err(reason) => self.failed(reason).await,
            }
        }
        None
    }

    /// Waits a moment after a connection that could not be made or broke.
    async fn failed(&mut self, reason: String) {
        self.memory.failures += 1;
        self.waiting(reason);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }

    /// The cluster takes messages.
    pub(crate) fn up(&mut self) {
        if self.board.lane(&self.name, State::Up) && self.memory.told.take().is_some() {
            info!(cluster = %self.name.cluster, topic = %self.name.topic, partition = self.name.partition, "forwarding again");
        }
    }

    /// The cluster does not take messages, and why.
    pub(crate) fn waiting(&mut self, reason: String) {
        let is_news = self.board.lane(&self.name, State::Waiting(reason.clone()));
        if is_news && self.memory.told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            self.memory.told = Some(Instant::now());
            warn!(cluster = %self.name.cluster, topic = %self.name.topic, partition = self.name.partition, %reason, "NATS is waited for");
        }
    }

    /// Hands outcomes to the partition; emptied. When the partition is gone nobody needs them.
    pub(crate) async fn report(&self, outcomes: &mut Vec<Outcome>) {
        if !outcomes.is_empty() {
            self.outcomes.send(std::mem::take(outcomes)).await.ok();
        }
    }

    /// When a lane that stops now gives up on answers.
    pub(crate) fn deadline() -> Instant {
        Instant::now() + LAST_ANSWERS
    }
}
