//! The baseline: the same gateways, whose samples are published at once and kept nowhere.

use std::sync::Arc;

use anyhow::Context as _;
use asset_stream::device_file::DeviceFiles;
use asset_stream::document::{Environment, Problems};
use gateway::{DeviceLink, Outcome};
use gateway_opcua::{OpcuaGateway, Shared};
use system_tests::plant::Plant;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Runs until it is dropped.
pub(crate) struct Gateway {
    stop: CancellationToken,
    runtime: Option<Runtime>,
}

impl Gateway {
    /// Follows the devices of the file.
    pub(crate) fn start(file: &str, plant: &Plant) -> anyhow::Result<Self> {
        let folder = plant.folder().join("straight");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("devices.yaml");
        std::fs::write(&path, file)?;
        let (files, problems) = (DeviceFiles::load([&path], Environment::process()), Problems::new());
        let devices = files.devices(&problems);
        let shared = Shared::open(&folder).context("no OPC UA identity")?;
        let (sender, mut samples) = gateway::channel(32 << 20);
        let (stop, runtime) = (CancellationToken::new(), tokio::runtime::Builder::new_multi_thread().enable_all().build()?);
        for device in devices {
            let config = gateway_opcua::parse(device.connector).context("the device file is good")?;
            let link = DeviceLink::new(device.name, device.uuid, sender.clone());
            runtime.spawn(gateway::supervise(Arc::new(OpcuaGateway::new(config, shared.clone())), link, stop.clone()));
        }
        let url = plant.nats.as_ref().context("there is no NATS")?.url();
        let client = runtime.block_on(async_nats::connect(url))?;
        runtime.spawn(async move {
            while let Some(mut batch) = samples.recv().await {
                for sample in batch.take_samples() {
                    let (mut json, subject) = (Vec::with_capacity(256), format!("{}.{}", sample.item.asset, sample.item.id));
                    sample.encode(&mut json);
                    client.publish(subject, json.into()).await.ok();
                }
                client.flush().await.ok();
                batch.finish(Outcome::Durable);
            }
        });
        Ok(Self { stop, runtime: Some(runtime) })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        self.runtime.take().into_iter().for_each(|runtime| runtime.shutdown_timeout(std::time::Duration::from_secs(2)));
    }
}
