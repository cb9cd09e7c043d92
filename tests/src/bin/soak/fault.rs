//! What can break, and how it is made whole again.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rustix::io::Errno;
use system_tests::clock::Clock;
use system_tests::cloud::Forwarder;
use system_tests::faults::{Call, Faults};
use system_tests::plant::Plant;
use system_tests::proxy::{Fault as Link, Proxy};
use system_tests::wait;

const MAX: Duration = Duration::from_secs(120);

/// Where faults happen.
pub(crate) struct Site {
    pub(crate) plant: Plant,
    /// Before the first OPC UA server.
    pub(crate) proxy: Proxy,
    /// The edge's.
    pub(crate) clock: Clock,
    /// The edge's, while one of its faults is on.
    pub(crate) disk: Faults,
    /// Times that the edge was killed at a random moment.
    pub(crate) kills: usize,
    /// A forwarder beside the first one.
    pub(crate) second: Option<Forwarder>,
    /// Since when nobody listens to the devices, where an operator stopped the edge.
    pub(crate) deaf_since: Option<i64>,
}

/// One kind of fault. In the order in which they are made whole: a part needs those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KafkaKilled,
    KafkaStopped,
    LinkCut,
    LinkHalfOpen,
    LinkSlow,
    NatsKilled,
    ForwarderKilled,
    SecondForwarder,
    DeviceRestarted,
    DeviceLinkCut,
    DeviceLinkHalfOpen,
    ClockStepped,
    EdgeKilled,
    EdgeDiesInMirror,
    EdgeStopped,
    EdgeFrozen,
    DiskFails,
}

/// What a fault breaks: two faults of one part do not go together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Kafka,
    Nats,
    Forwarder,
    Device,
    Edge,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::KafkaKilled,
        Self::KafkaStopped,
        Self::LinkCut,
        Self::LinkHalfOpen,
        Self::LinkSlow,
        Self::NatsKilled,
        Self::ForwarderKilled,
        Self::SecondForwarder,
        Self::DeviceRestarted,
        Self::DeviceLinkCut,
        Self::DeviceLinkHalfOpen,
        Self::ClockStepped,
        Self::EdgeKilled,
        Self::EdgeDiesInMirror,
        Self::EdgeStopped,
        Self::EdgeFrozen,
        Self::DiskFails,
    ];

    fn part(self) -> Part {
        match self {
            Self::KafkaKilled | Self::KafkaStopped | Self::LinkCut | Self::LinkHalfOpen | Self::LinkSlow => Part::Kafka,
            Self::NatsKilled => Part::Nats,
            Self::ForwarderKilled | Self::SecondForwarder => Part::Forwarder,
            Self::DeviceRestarted | Self::DeviceLinkCut | Self::DeviceLinkHalfOpen => Part::Device,
            Self::ClockStepped | Self::EdgeKilled | Self::EdgeDiesInMirror | Self::EdgeStopped | Self::EdgeFrozen | Self::DiskFails => {
                Part::Edge
            }
        }
    }

    /// Whether both can happen at the same time.
    pub(crate) fn goes_with(self, other: Self) -> bool {
        let parts = [self.part(), other.part()];
        // What a device loses is told by the edge's clock, and by an edge that runs.
        let device_and_edge = parts.contains(&Part::Device) && parts.contains(&Part::Edge);
        // The mirror dies at its work: with Kafka.
        let idle_mirror = parts.contains(&Part::Kafka) && [self, other].contains(&Self::EdgeDiesInMirror);
        parts[0] != parts[1] && !device_and_edge && !idle_mirror
    }

    pub(crate) fn begin(self, site: &mut Site, random: &mut StdRng) -> anyhow::Result<()> {
        let Site { plant, proxy, clock, disk, kills, second, deaf_since } = site;
        match self {
            Self::KafkaKilled => plant.kafka.own()?.kill(),
            Self::KafkaStopped => plant.kafka.own()?.stop(),
            Self::LinkCut => link(plant, Link::Refuse),
            Self::LinkHalfOpen => link(plant, Link::Swallow),
            Self::LinkSlow => link(plant, Link::Delay(Duration::from_millis(random.random_range(20..800)))),
            Self::NatsKilled => plant.nats.as_mut().context("there is no NATS")?.kill(),
            Self::ForwarderKilled => plant.forwarder.as_mut().context("there is no forwarder")?.kill(),
            Self::SecondForwarder => second.insert(plant.new_forwarder("forwarder-2")?).start(),
            Self::DeviceRestarted => plant.devices[0].kill(),
            Self::DeviceLinkCut => set(proxy, Link::Refuse),
            Self::DeviceLinkHalfOpen => set(proxy, Link::Swallow),
            Self::ClockStepped => clock.set(random.random_range(-200_000..20_000)),
            Self::EdgeKilled => {
                // Also while it starts, reads back, or connects.
                for _ in 0..random.random_range(2..18) {
                    *kills += 1;
                    plant.edge.kill()?;
                    plant.edge.start()?;
                    plant.run_for(Duration::from_millis(random.random_range(10..3_000)))?;
                }
                *kills += 1;
                plant.edge.kill()
            }
            Self::EdgeDiesInMirror => {
                let points = ["mirror.sent", "mirror.reported", "mirror.cursor_kept", "mirror.reading_back"];
                let point = points.choose(random).context("there are fail points")?;
                plant.edge.kill()?;
                plant.edge.start_with(&[("OPENFACTORY_FAIL_POINT", (*point).to_owned())])?;
                plant.edge.wait_died(MAX)
            }
            Self::EdgeStopped => {
                *deaf_since = Some(wait::now());
                plant.edge.stop()
            }
            Self::EdgeFrozen => plant.edge.freeze(),
            Self::DiskFails => {
                restart(plant, disk.wrapper())?;
                let call = *[Call::Sync, Call::Write].choose(random).context("there are calls")?;
                let error = *[Errno::IO, Errno::NOSPC].choose(random).context("there are errors")?;
                // The segments only, or also what notes losses.
                disk.set(call, error, [".seg", "/log/"].choose(random).context("there are places")?)
            }
        }
    }

    pub(crate) fn end(self, site: &mut Site) -> anyhow::Result<()> {
        let Site { plant, proxy, clock, disk, second, deaf_since, .. } = site;
        match self {
            Self::KafkaKilled | Self::KafkaStopped => plant.kafka.own()?.start_again(),
            Self::LinkCut | Self::LinkHalfOpen | Self::LinkSlow => link(plant, Link::None),
            Self::NatsKilled => plant.nats.as_mut().context("there is no NATS")?.start_again(),
            Self::ForwarderKilled => {
                let forwarder = plant.forwarder.as_mut().context("there is no forwarder")?;
                forwarder.start()?;
                forwarder.wait_started(MAX)
            }
            // Whichever way it ends.
            Self::SecondForwarder => second.take().map_or(Ok(()), |mut second| second.kill()),
            Self::DeviceRestarted => {
                plant.devices[0].start_again()?;
                plant.edge.wait_connected(&plant.assets(), MAX)?;
                plant.wait_first_values(MAX)?;
                plant.devices[0].go()
            }
            Self::DeviceLinkCut | Self::DeviceLinkHalfOpen => {
                proxy.set(Link::None);
                plant.edge.wait_connected(&plant.assets(), MAX)
            }
            Self::ClockStepped => {
                clock.set(0)?;
                // Events of the other time are over when the next fault needs to tell when it was.
                plant.run_for(Duration::from_secs(2))
            }
            Self::EdgeKilled | Self::EdgeDiesInMirror => plant.start_edge(),
            Self::EdgeStopped => {
                plant.start_edge()?;
                if let Some(since) = deaf_since.take() {
                    plant.nobody_listened_since(since);
                }
                Ok(())
            }
            Self::EdgeFrozen => {
                plant.edge.thaw()?;
                plant.edge.wait_connected(&plant.assets(), MAX)
            }
            Self::DiskFails => {
                for call in [Call::Sync, Call::Write] {
                    disk.clear(call)?;
                }
                plant.edge.wait_status("the log takes events again", MAX, |status| status["log"]["failure"].is_null())?;
                restart(plant, Vec::new())
            }
        }
    }
}

/// Stops the edge and starts it by this program.
fn restart(plant: &mut Plant, wrapper: Vec<String>) -> anyhow::Result<()> {
    let since = wait::now();
    plant.edge.stop()?;
    plant.edge.wrap(wrapper);
    plant.start_edge()?;
    plant.nobody_listened_since(since);
    Ok(())
}

fn link(plant: &mut Plant, fault: Link) -> anyhow::Result<()> {
    set(plant.kafka.own()?.link()?, fault)
}

fn set(proxy: &Proxy, fault: Link) -> anyhow::Result<()> {
    proxy.set(fault);
    Ok(())
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KafkaKilled => "Kafka killed",
            Self::KafkaStopped => "Kafka stopped",
            Self::LinkCut => "link to Kafka cut",
            Self::LinkHalfOpen => "link to Kafka half-open",
            Self::LinkSlow => "link to Kafka slow",
            Self::NatsKilled => "NATS killed",
            Self::ForwarderKilled => "forwarder killed",
            Self::SecondForwarder => "a second forwarder comes and is killed",
            Self::DeviceRestarted => "device restarted",
            Self::DeviceLinkCut => "link to a device cut",
            Self::DeviceLinkHalfOpen => "link to a device half-open",
            Self::ClockStepped => "the edge's clock stepped",
            Self::EdgeKilled => "edge killed several times",
            Self::EdgeDiesInMirror => "edge dies in the mirror's work",
            Self::EdgeStopped => "edge stopped in order",
            Self::EdgeFrozen => "edge frozen",
            Self::DiskFails => "the edge's disk gives errors",
        })
    }
}
