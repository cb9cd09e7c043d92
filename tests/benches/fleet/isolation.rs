//! What one edge's worst moments do to the others, from append to a plain NATS subscriber.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use asset_stream::partition;
use serde_json::Value as Json;
use system_tests::cloud::{Forwarder, Settings};
use system_tests::kafka::Kafka;
use system_tests::nats::{Nats, Subscriber};
use system_tests::wait::{self, Look};

use crate::edge::{Edge, Fleet, Plan};
use crate::{PARTITIONS, TOPIC, edges};

/// Between two misfortunes of one kind.
const PERIOD: Duration = Duration::from_secs(2);
const START: Duration = Duration::from_secs(240);
/// Assets of the edge that has the misfortunes. All lie in the lower half of the partitions.
const ASSETS: usize = 40;
/// A paced drain, in events a second.
const PACE: u32 = 5000;

/// What happens to one edge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Misfortune {
    None,
    /// Its link is cut in mid-batch, again and again.
    Cut,
    /// It is killed and reads back, again and again.
    Killed,
    /// It drains a backlog: as fast as it can, or at a set rate.
    Drain(Option<u32>),
}

const ALL: [Misfortune; 4] = [Misfortune::Cut, Misfortune::Killed, Misfortune::Drain(Some(PACE)), Misfortune::Drain(None)];

pub(crate) struct Setting {
    pub(crate) quiet: usize,
    pub(crate) rate: f64,
    pub(crate) backlog: u64,
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
}

/// Milliseconds, sorted.
struct Latencies(Vec<i64>);

impl Latencies {
    fn at(&self, share: f64) -> i64 {
        self.0.get(((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.at(0.5), self.at(0.99), self.at(1.0))
    }
}

struct Scene<'k> {
    folder: &'k Path,
    kafka: &'k Kafka,
    fleet: Arc<Fleet>,
    subscriber: Subscriber,
    forwarder: Forwarder,
    setting: Setting,
    drains: usize,
}

pub(crate) fn measure(folder: &Path, kafka: &Kafka, setting: Setting) -> anyhow::Result<()> {
    let nats = Nats::start()?;
    let settings =
        Settings { instance: "fleet".into(), kafka: kafka.bootstrap(), topic: TOPIC.into(), nats: nats.url(), more: String::new() };
    let mut forwarder = Forwarder::new(folder, &settings)?;
    forwarder.start()?;
    forwarder.wait_started(START)?;
    let quiet = edges(folder, &kafka.bootstrap(), "quiet", setting.quiet)?;
    let assets: Vec<String> = (0..setting.quiet).flat_map(|edge| crate::assets("quiet", edge)).map(|asset| asset.to_string()).collect();
    let subscriber = Subscriber::start(&nats.url(), &assets)?;
    let fleet = Fleet::start(quiet)?;
    fleet.load(setting.quiet, setting.rate);
    let mut scene = Scene { folder, kafka, fleet, subscriber, forwarder, setting, drains: 0 };
    // Everybody has met everybody.
    wait::until_true("each quiet edge has reached Kafka", START, || scene.fleet.lock().iter().all(|edge| edge.status().mirrored > 0))?;
    scene.wait_told(scene.fleet.fed())?;
    println!("p50/p99/highest in ms: in partitions that share nothing with the unlucky edge, and in those that hold its assets");
    for misfortune in ALL {
        let (mut apart, mut together) = (Vec::new(), Vec::new());
        for round in 1..=scene.setting.rounds {
            let before = scene.play(Misfortune::None)?;
            let after = scene.play(misfortune)?;
            println!("{misfortune:?}, round {round}: quiet {} and {}, then {} and {}", before[0], before[1], after[0], after[1]);
            apart.push(after[0].at(0.99) - before[0].at(0.99));
            together.push(after[1].at(0.99) - before[1].at(0.99));
        }
        println!("{misfortune:?}: p99 changes by {} ms apart, {} ms together (medians)", median(apart), median(together));
    }
    scene.forwarder.stop()
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}

impl Scene<'_> {
    /// The quiet edges' latencies while that happens to another one: apart, and together with it in a partition.
    fn play(&mut self, misfortune: Misfortune) -> anyhow::Result<[Latencies; 2]> {
        let mut unlucky = self.unlucky(misfortune)?;
        if let Some(edge) = &mut unlucky {
            edge.start()?;
            wait::until_true("the unlucky edge has reached Kafka", START, || edge.status().mirrored > 0)?;
        }
        let first = self.subscriber.count();
        let (begin, deadline) = (wait::now(), Instant::now() + self.setting.window);
        while Instant::now() < deadline {
            match (misfortune, &mut unlucky) {
                (Misfortune::Cut, _) => self.kafka.link()?.cut(),
                // Not before it is done with the reading back.
                (Misfortune::Killed, Some(edge)) if edge.status().mirrored > 0 => {
                    edge.kill();
                    edge.start()?;
                }
                _ => (),
            }
            std::thread::sleep(PERIOD.min(deadline.saturating_duration_since(Instant::now())));
        }
        let (end, fed) = (wait::now(), self.fleet.fed());
        if let Some(edge) = unlucky {
            let status = edge.status();
            println!(
                "  the unlucky edge: {} mirrored, {} left, {} doubts, {} producers",
                status.mirrored, status.backlog, status.doubts, status.producers
            );
        }
        self.wait_told(fed)?;
        // What is made only now stands behind everything that the unlucky edge brought into Kafka: the next round begins without it.
        self.wait_told(self.fleet.fed())?;
        ensure!(self.subscriber.dropped() == 0, "the subscriber was too slow");
        let (mut apart, mut together) = (Vec::new(), Vec::new());
        for message in self.subscriber.received(first) {
            let json: Json = serde_json::from_slice(&message.payload)?;
            let made = json["VALUE"].as_i64().context("a value that is no time")?;
            if (begin..end).contains(&made) {
                let asset = message.subject.split('.').next().unwrap_or_default();
                let is_together = partition::of_key(asset.as_bytes(), PARTITIONS) < PARTITIONS / 2;
                if is_together { &mut together } else { &mut apart }.push(message.at - made);
            }
        }
        apart.sort_unstable();
        together.sort_unstable();
        Ok([Latencies(apart), Latencies(together)])
    }

    /// The edge to which it happens, with enough to do for the whole window.
    fn unlucky(&mut self, misfortune: Misfortune) -> anyhow::Result<Option<Edge>> {
        self.drains += 1;
        let (rate, bootstrap, events) = match misfortune {
            Misfortune::None => return Ok(None),
            Misfortune::Cut => (Some(1000), self.kafka.link_bootstrap()?, 1000 * 2 * self.setting.window.as_secs()),
            Misfortune::Killed => (Some(1000), self.kafka.bootstrap(), 1000 * 2 * self.setting.window.as_secs()),
            Misfortune::Drain(rate) => (rate, self.kafka.bootstrap(), self.setting.backlog),
        };
        let all = (0..).map(|n| Arc::from(format!("UNLUCKY-{}-{n}", self.drains)));
        let assets = all.filter(|asset: &Arc<str>| partition::of_key(asset.as_bytes(), PARTITIONS) < PARTITIONS / 2).take(ASSETS).collect();
        let edge = Edge::new(self.folder, Plan { id: format!("unlucky-{}", self.drains), assets, bootstrap, rate })?;
        edge.fill(events)?;
        Ok(Some(edge))
    }

    /// Waits until the subscriber has as many events as the quiet edges had made.
    fn wait_told(&self, fed: u64) -> anyhow::Result<()> {
        wait::until("the subscriber has all quiet edges' events", START, || {
            let count = self.subscriber.count() as u64;
            Ok(if count >= fed { Look::Done(()) } else { Look::Waiting(format!("{count} of {fed}")) })
        })
    }
}
