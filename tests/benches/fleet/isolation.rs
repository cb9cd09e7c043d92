//! Whether one edge's worst moment is felt by the others: their latency to a plain NATS subscriber, quiet and meanwhile, in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use system_tests::cloud::{Forwarder, Settings};
use system_tests::figures::{Figure, Format, Percentiles, Reach};
use system_tests::kafka::Kafka;
use system_tests::nats::{Nats, Subscriber};
use system_tests::proxy::Fault;
use system_tests::wait;

use crate::broker;
use crate::edges::{Edge, Load};

const TOPIC: &str = "isolation";
/// Events a second of each of the others.
const RATE: u64 = 10;
/// Of the one.
const ITS_RATE: u64 = 1_000;
/// How long a look takes.
const LOOK: Duration = Duration::from_secs(10);
/// A drain that leaves the broker room.
const DRAIN_RATE: u32 = 20_000;

/// What happens to the one.
#[derive(Clone, Copy, Debug)]
enum Moment {
    LinkCut,
    ReadBack,
    Drain { rate: Option<u32> },
}

impl Moment {
    fn name(self) -> String {
        match self {
            Self::LinkCut => "link cut in mid-batch".into(),
            Self::ReadBack => "killed, and reads back".into(),
            Self::Drain { rate: None } => "drains a day's backlog as fast as it can".into(),
            Self::Drain { rate: Some(rate) } => format!("drains a day's backlog at {rate} events/s"),
        }
    }
}

/// Prints a line for each moment.
pub(crate) fn measure(edges: usize, rounds: usize, backlog: u64, format: Format) -> anyhow::Result<()> {
    let kafka = broker::start(TOPIC)?;
    let folder = tempfile::Builder::new().prefix("openfactory-fleet-").tempdir_in("/dev/shm")?;
    let bootstrap = kafka.bootstrap();
    let mut fleet = (0..edges).map(|number| Edge::new(folder.path(), number, &bootstrap, TOPIC)).collect::<anyhow::Result<Vec<_>>>()?;
    fleet.iter_mut().try_for_each(|edge| edge.start(None))?;
    let nats = Nats::start()?;
    let settings =
        Settings { instance: "forwarder-1".into(), kafka: bootstrap, topic: TOPIC.into(), nats: nats.url(), more: String::new() };
    let mut forwarder = Forwarder::new(folder.path(), &settings)?;
    forwarder.start()?;
    forwarder.wait_started(Duration::from_secs(60))?;
    let load = Load::start(&fleet, RATE)?;
    wait::until_true("every edge mirrors", Duration::from_secs(300), || fleet.iter().all(|edge| edge.acknowledged() > 0))?;
    let assets: Vec<String> = fleet.iter().flat_map(|edge| edge.devices.assets()).collect();
    let moments = [Moment::LinkCut, Moment::ReadBack, Moment::Drain { rate: Some(DRAIN_RATE) }, Moment::Drain { rate: None }];
    for (number, moment) in (1..).zip(moments) {
        let (mut quiet, mut meanwhile) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let mut one = One::new(folder.path(), edges + 100 * number + round, &kafka, moment, backlog)?;
            quiet.push(listen(&nats, &assets, || Ok(()))?.p99);
            meanwhile.push(listen(&nats, &assets, || one.suffer(&kafka))?.p99);
            one.end()?;
        }
        let name = format!("latency of {edges} edges (p99) while another one: {}", moment.name());
        Figure { name, unit: "ms", measured: meanwhile, baseline: quiet, reach: Reach::More(20.0) }.print(format);
    }
    load.stop()?;
    forwarder.stop()
}

/// Latencies of the others while something happens.
fn listen(nats: &Nats, assets: &[String], happens: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Percentiles> {
    let subscriber = Subscriber::start(&nats.url(), assets)?;
    let end = Instant::now() + LOOK;
    happens()?;
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    Percentiles::of(&subscriber.received(0))
}

/// The edge to which it happens.
struct One {
    moment: Moment,
    edge: Edge,
}

impl One {
    fn new(folder: &Path, number: usize, kafka: &Kafka, moment: Moment, backlog: u64) -> anyhow::Result<Self> {
        let mut edge = Edge::new(folder, number, &kafka.link_bootstrap()?, TOPIC)?;
        if let Moment::Drain { .. } = moment {
            for first in (0..backlog).step_by(5_000) {
                edge.devices.say(first..backlog.min(first + 5_000))?;
            }
        } else {
            edge.start(None)?;
            edge.devices.say(0..ITS_RATE)?;
            wait::until_true("it mirrors", Duration::from_secs(60), || edge.acknowledged() >= ITS_RATE)?;
        }
        Ok(Self { moment, edge })
    }

    /// Its worst moment; returns within [`LOOK`].
    fn suffer(&mut self, kafka: &Kafka) -> anyhow::Result<()> {
        match self.moment {
            Moment::LinkCut => {
                self.work(Duration::from_secs(2))?;
                kafka.link()?.set(Fault::Refuse);
                self.work(Duration::from_secs(3))?;
                kafka.link()?.set(Fault::None);
                self.work(Duration::from_secs(4))
            }
            Moment::ReadBack => {
                for _ in 0..2 {
                    self.work(Duration::from_secs(2))?;
                    self.edge.kill();
                    self.edge.start(None)?;
                    self.work(Duration::from_secs(2))?;
                }
                Ok(())
            }
            Moment::Drain { rate } => self.edge.start(rate),
        }
    }

    /// Its devices say something for a while.
    fn work(&self, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let next = self.edge.durable();
            self.edge.devices.say(next..next + ITS_RATE / 100)?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<()> {
        self.edge.kill();
        Ok(())
    }
}
