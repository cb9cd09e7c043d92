//! A whole installation in one folder: devices, edge, Kafka, forwarder, NATS, and the judge at its end.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use asset_stream::Position;

use crate::cloud::{self, Forwarder};
use crate::devices::Devices;
use crate::edge::{self, Edge};
use crate::judge::sources::{Topic, follow_jetstream, follow_kafka};
use crate::judge::{Journal, Judge, Side, Verdict};
use crate::kafka::{self, Broker};
use crate::nats::{self, Nats, Subscriber};
use crate::wait;

/// Partitions of the asset stream in tests: more than one, so that order is per asset and not by accident.
const PARTITIONS: i32 = 4;

/// What a test starts with; it may break every part.
#[derive(Debug)]
pub struct Plant {
    // In the order in which they are to end: dropped from top to bottom.
    /// The edge; starts with [`Plant::start_edge`].
    pub edge: Edge,
    /// The forwarder, where there is one.
    pub forwarder: Option<Forwarder>,
    /// Simulators.
    pub devices: Vec<Devices>,
    /// A plain subscriber, where there is one.
    pub subscriber: Option<Subscriber>,
    /// NATS, where there is one.
    pub nats: Option<Nats>,
    /// Kafka.
    pub kafka: Broker,
    edge_id: String,
    topic: String,
    deaf: Vec<(i64, i64)>,
    folder: tempfile::TempDir,
}

impl Plant {
    /// Kafka with a topic of its own, and an edge that is not started yet. `name` makes the topic readable; `edge_toml` is added to the edge's config.
    pub fn new(name: &str, kafka: Broker, edge_toml: &str) -> anyhow::Result<Self> {
        let bootstrap = kafka.bootstrap();
        Self::over(name, kafka, bootstrap, edge_toml)
    }

    /// As [`Self::new`], with a way of its own (`host:port`) from the edge to Kafka.
    pub fn over(name: &str, kafka: Broker, edge_bootstrap: String, edge_toml: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("openfactory-plant-").tempdir()?;
        let topic = format!("{name}-{}-{}", std::process::id(), wait::now());
        let edge_id = format!("edge-{name}");
        let settings =
            edge::Settings { id: edge_id.clone(), kafka: Some(edge_bootstrap), topic: topic.clone(), more: edge_toml.to_owned() };
        let edge = Edge::new(folder.path(), &settings)?;
        let plant = Self {
            edge,
            forwarder: None,
            devices: Vec::new(),
            subscriber: None,
            nats: None,
            kafka,
            edge_id,
            topic,
            deaf: Vec::new(),
            folder,
        };
        plant.create_topics()?;
        Ok(plant)
    }

    /// Makes its topics in Kafka: for a Kafka that has lost them.
    pub fn create_topics(&self) -> anyhow::Result<()> {
        let (bootstrap, topic) = (self.kafka.bootstrap(), &self.topic);
        kafka::create_topic(&bootstrap, topic, PARTITIONS, &[])?;
        kafka::create_topic(&bootstrap, &format!("{topic}_edges"), 1, &[("cleanup.policy", "compact")])?;
        kafka::create_topic(&bootstrap, &format!("{topic}_dead"), 1, &[])
    }

    /// Adds devices, and their device file.
    pub fn add(&mut self, devices: Devices) -> anyhow::Result<()> {
        let file = devices.device_file(|port| port)?;
        self.add_with_file(devices, &file)
    }

    /// Adds devices with a device file of the test's own, e.g. through a proxy.
    pub fn add_with_file(&mut self, devices: Devices, file: &str) -> anyhow::Result<()> {
        self.edge.device_file(&format!("devices-{}", self.devices.len()), file)?;
        self.devices.push(devices);
        Ok(())
    }

    /// The folder of everything in here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The asset stream's topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// All assets of all devices.
    pub fn assets(&self) -> Vec<String> {
        self.devices.iter().flat_map(Devices::assets).collect()
    }

    /// Starts Debian's NATS, a forwarder and a plain subscriber to all assets; all devices must have been added.
    pub fn start_nats(&mut self) -> anyhow::Result<()> {
        self.start_nats_with(&nats::Plan::default())
    }

    /// The same; the subscriber listens to assets besides those of the plant's devices, too.
    pub fn start_nats_for(&mut self, further: &[String]) -> anyhow::Result<()> {
        self.start_nats_as(&nats::Plan::default(), further)
    }

    /// The same with a NATS of the test's own.
    pub fn start_nats_with(&mut self, plan: &nats::Plan) -> anyhow::Result<()> {
        self.start_nats_as(plan, &[])
    }

    fn start_nats_as(&mut self, plan: &nats::Plan, further: &[String]) -> anyhow::Result<()> {
        let nats = Nats::start_with(plan)?;
        // The edge is an asset too.
        let assets = [self.assets(), vec![self.edge_id.to_uppercase()], further.to_vec()].concat();
        self.subscriber = Some(Subscriber::start(&nats.url(), &assets)?);
        self.nats = Some(nats);
        let mut forwarder = self.new_forwarder("forwarder-1")?;
        forwarder.start()?;
        forwarder.wait_started(Duration::from_secs(60))?;
        self.forwarder = Some(forwarder);
        Ok(())
    }

    /// A further forwarder, not started.
    pub fn new_forwarder(&self, instance: &str) -> anyhow::Result<Forwarder> {
        let nats = self.nats.as_ref().context("there is no NATS")?.url();
        let (kafka, topic) = (self.kafka.bootstrap(), self.topic.clone());
        Forwarder::new(self.folder.path(), &cloud::Settings { instance: instance.into(), kafka, topic, nats, more: String::new() })
    }

    /// Starts the edge and waits until all devices are connected.
    pub fn start_edge(&mut self) -> anyhow::Result<()> {
        self.edge.start()?;
        self.edge.wait_connected(&self.assets(), Duration::from_secs(120))
    }

    /// Waits until the first value of every tag stands in Kafka: from here on, every change must arrive.
    pub fn wait_first_values(&self, max: Duration) -> anyhow::Result<()> {
        let mut judge = Judge::new(self.journal()?, &self.topic);
        follow_kafka(&mut judge, &mut self.open_topic()?, max)?;
        anyhow::ensure!(
            judge.outstanding() == 0,
            "{} tags have no value in Kafka after {max:?}; the edge's log ends:\n{}",
            judge.outstanding(),
            self.edge.log_tail()
        );
        Ok(())
    }

    /// Lets all values change.
    pub fn go(&mut self) -> anyhow::Result<()> {
        self.devices.iter_mut().try_for_each(Devices::go)
    }

    /// Edge, devices connected, first values in Kafka, values changing.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.start_edge()?;
        self.wait_first_values(Duration::from_secs(120))?;
        self.go()
    }

    /// Lets the values change for a while: the load of a test. Fails early if the edge or the forwarder ends.
    pub fn run_for(&mut self, duration: Duration) -> anyhow::Result<()> {
        let end = std::time::Instant::now() + duration;
        while std::time::Instant::now() < end {
            if let Ok(process) = self.edge.process() {
                process.expect_alive()?;
            }
            if let Some(Ok(process)) = self.forwarder.as_mut().map(Forwarder::process) {
                process.expect_alive()?;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// States that nobody listened to the devices from `from` (Unix ms) until now.
    pub fn nobody_listened_since(&mut self, from: i64) {
        self.deaf.push((from, wait::now()));
    }

    /// Stops the values, waits until everything has arrived everywhere (or `max` is over), and judges.
    pub fn judge(&mut self, max: Duration) -> anyhow::Result<Verdict> {
        for devices in &mut self.devices {
            devices.pause()?;
        }
        let mut judge = Judge::new(self.journal()?, &self.topic);
        for (from, to) in &self.deaf {
            judge.nobody_listened(*from, *to);
        }
        let mut topic = self.open_topic()?;
        follow_kafka(&mut judge, &mut topic, max)?;
        let mut durable = self.edge.wait_mirrored(max)?;
        // Partitions end at different moments: what comes meanwhile must not look like a hole.
        let (epoch, n) = loop {
            topic.read_to_end(max, |record| judge.kafka(record))?;
            let before = std::mem::replace(&mut durable, self.edge.wait_mirrored(max)?);
            if before == durable {
                break durable;
            }
        };
        judge.kafka_ends(&self.edge_id, Position { epoch, n });
        for (from, to) in self.subscriber.iter().flat_map(Subscriber::away) {
            judge.plain_was_away(from, to);
        }
        if let Some(nats) = &self.nats {
            follow_jetstream(&mut judge, &nats.url(), max)?;
        }
        if let Some(subscriber) = &self.subscriber {
            judge.listens(Side::Plain);
            // What JetStream holds has been sent to plain subscribers before; it may still be on its way through this machine.
            let all = judge.unserved(Side::Plain);
            drop(wait::until_true("the plain subscriber has everything", max.min(Duration::from_secs(10)), || subscriber.count() >= all));
            anyhow::ensure!(subscriber.dropped() == 0, "the plain subscriber was too slow for this machine; its recording says nothing");
            for message in subscriber.received(0) {
                judge.nats(Side::Plain, &message.into());
            }
        }
        Ok(judge.verdict(&[(self.edge_id.clone(), Position { epoch, n })]))
    }

    /// As [`Self::judge`], and an error unless the verdict is clean and no event had to come late; prints its line.
    pub fn expect_clean(&mut self, max: Duration) -> anyhow::Result<Verdict> {
        let verdict = self.expect_complete(max)?;
        anyhow::ensure!(verdict.late == 0, "events stand behind later ones of their asset, though they say so: {verdict}");
        Ok(verdict)
    }

    /// As [`Self::expect_clean`], where Kafka itself has lost something: what was sent again may stand behind later events, and says so.
    pub fn expect_complete(&mut self, max: Duration) -> anyhow::Result<Verdict> {
        let verdict = self.judge(max)?;
        println!("{verdict}");
        verdict.expect_clean().with_context(|| {
            let forwarder = self.forwarder.as_ref().map_or_else(String::new, Forwarder::log_tail);
            format!("the edge's log ends:\n{}\nthe forwarder's log ends:\n{forwarder}", self.edge.log_tail())
        })?;
        anyhow::ensure!(self.nats.is_none() || verdict.nats() > 0, "NATS served nothing");
        Ok(verdict)
    }

    /// Ends edge and forwarder as an operator would; both must end with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.edge.stop()?;
        self.forwarder.as_mut().map_or(Ok(()), Forwarder::stop)
    }

    fn journal(&self) -> anyhow::Result<Journal> {
        Journal::read(&self.devices.iter().map(Devices::journal).collect::<Vec<_>>())
    }

    fn open_topic(&self) -> anyhow::Result<Topic> {
        Topic::open(&self.kafka.bootstrap(), &self.topic)
    }
}
