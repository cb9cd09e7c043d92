//! The gateways at work, a task each: started, exchanged and ended one by one, so that a changed device file touches nothing else.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use asset_stream::{GapReason, Timestamp};
use edge_buffer::Log;
use gateway::{Actions, DeviceLink, DeviceStatus, SampleSender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::commands::{UntrustedClock, Work};
use crate::devices::Device;
use crate::protocols::{Made, Protocols};
use crate::register::{self, Known};
use crate::status::Watched;
use crate::unheard::{self, Unheard};

/// How long gateways may take to say goodbye to their devices, and the log to take what is known of a new one.
const GRACE: Duration = Duration::from_secs(10);

/// All gateways of the edge.
pub(crate) struct Gateways {
    protocols: Protocols,
    sender: SampleSender,
    own_asset: Arc<str>,
    log: Log,
    running: Vec<Running>,
}

struct Running {
    device: Device,
    status: Arc<DeviceStatus>,
    actions: Arc<dyn Actions>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What became of the devices when their list changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchanged {
    pub(crate) added: Vec<Arc<str>>,
    pub(crate) changed: Vec<Arc<str>>,
    pub(crate) removed: Vec<Arc<str>>,
    pub(crate) untouched: usize,
}

impl Gateways {
    /// None yet.
    pub(crate) fn new(state_dir: &Path, sender: SampleSender, own_asset: Arc<str>, log: Log) -> Self {
        Self { protocols: Protocols::new(state_dir), sender, own_asset, log, running: Vec::new() }
    }

    /// Opens what gateways of these devices share, so that nothing is left that could fail when they are started.
    pub(crate) fn prepare(&mut self, devices: &[Device]) -> Result<(), String> {
        self.protocols.open(devices)
    }

    /// Tells what is known of a device and starts its gateway. `keys`: those of the log. `unheard`: the edge crashed before, and nobody could say so.
    pub(crate) async fn start(&mut self, device: Device, keys: &HashMap<Arc<str>, u64>, unheard: Option<&Unheard>) -> anyhow::Result<()> {
        let Device { name, asset, connector, facts, .. } = &device;
        let Made { gateway, actions } = self.protocols.make(connector).map_err(|reason| anyhow::anyhow!("device {name}: {reason}"))?;
        let link = DeviceLink::new(name.clone(), asset.clone(), self.sender.clone());
        let known = Known::by(keys, asset);
        if let Some(unheard) = unheard
            && known == Known::Before
        {
            let now = Timestamp::now();
            let told = unheard.gap(asset, now).into_iter().chain(register::unavailable(asset)).collect();
            self.sender.send(told).await.context("a device's facts")?;
            link.nobody_listens(now, GapReason::EdgeCrashed, unheard::WHY);
        }
        self.sender.send(facts.samples(&self.own_asset, known)).await.context("a device's facts")?;
        let (status, stop) = (link.status().clone(), CancellationToken::new());
        let task = tokio::spawn(gateway::supervise(gateway, link, stop.clone()));
        self.running.push(Running { device, status, actions, stop, task });
        Ok(())
    }

    /// Whether exchanging the devices for these would begin or end any.
    pub(crate) fn are_others(&self, devices: &[Device]) -> bool {
        self.running.len() != devices.len() || self.running.iter().any(|running| !devices.contains(&running.device))
    }

    /// Makes these the devices: ends the gateways of those that are gone or changed, starts those that are new or changed, and leaves the
    /// others alone. What a changed device says between its two gateways is told like what it says while the edge is stopped.
    pub(crate) async fn exchange(&mut self, devices: Vec<Device>) -> anyhow::Result<Exchanged> {
        let before = std::mem::take(&mut self.running);
        let (kept, leaving): (Vec<_>, Vec<_>) = before.into_iter().partition(|running| devices.contains(&running.device));
        let names = |leaving: &[Running]| leaving.iter().map(|running| running.device.name.clone()).collect::<Vec<_>>();
        let (changed, removed) = names(&leaving).into_iter().partition(|name| devices.iter().any(|device| device.name == *name));
        let had = [names(&kept), names(&leaving)].concat();
        let added = devices.iter().map(|device| device.name.clone()).filter(|name| !had.contains(name)).collect();
        let exchanged = Exchanged { added, changed, removed, untouched: kept.len() };
        // First: a new gateway may need the port of an old one.
        end(leaving).await;
        let mut kept: Vec<_> = kept.into_iter().map(Some).collect();
        let (keys, mut failures) = (self.log.keys(), Vec::new());
        // While the log takes nothing, nobody takes a device's facts; the edge must not wait for that.
        let until = tokio::time::Instant::now() + GRACE;
        for device in devices {
            let same = kept.iter_mut().find(|kept| kept.as_ref().is_some_and(|running| running.device == device));
            match same.and_then(Option::take) {
                Some(running) => self.running.push(running),
                None => {
                    let name = device.name.clone();
                    let started = tokio::time::timeout_at(until, self.start(device, &keys, None)).await;
                    let failure = match started {
                        Ok(started) => started.err().map(|error| format!("{error:#}")),
                        Err(_) => Some("the log takes nothing now".to_owned()),
                    };
                    failures.extend(failure.map(|why| format!("device {name} is not at work: {why}")));
                }
            }
        }
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(exchanged)
    }

    /// The devices as the status shows them.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let watched = |Running { device, status, .. }: &Running| Watched {
            name: device.name.clone(),
            asset: device.asset.clone(),
            protocol: device.connector.protocol(),
            status: status.clone(),
        };
        self.running.iter().map(watched).collect()
    }

    /// The devices as commands see them, by asset.
    pub(crate) fn work(&self, untrusted_clock: UntrustedClock) -> HashMap<Arc<str>, Work> {
        let work = |Running { device, actions, .. }: &Running| {
            (device.asset.clone(), Work { actions: actions.clone(), terms: device.terms.clone(), untrusted_clock })
        };
        self.running.iter().map(work).collect()
    }

    /// Ends all of them; no sample comes after that.
    pub(crate) async fn stop(self) {
        end(self.running).await;
    }
}

async fn end(leaving: Vec<Running>) {
    leaving.iter().for_each(|running| running.stop.cancel());
    let until = tokio::time::Instant::now() + GRACE;
    for Running { device, mut task, .. } in leaving {
        if tokio::time::timeout_at(until, &mut task).await.is_err() {
            warn!(device = %device.name, "the gateway did not end in time and is dropped");
            task.abort();
            // Whether it was aborted or ended just now: it is gone.
            task.await.ok();
        }
    }
}
