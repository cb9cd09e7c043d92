//! What the daemon runs: one Modbus device.

use std::sync::Arc;

use gateway::{Actions, DeviceLink, Gateway, RunFuture};
use tokio_util::sync::CancellationToken;

use crate::actions::{ModbusActions, Presence};
use crate::bus::{Buses, Lease};
use crate::config::Config;
use crate::error::Error;
use crate::poll::Device;

/// One Modbus device, ready to be run, and run again.
#[derive(Debug)]
pub struct ModbusGateway {
    config: Arc<Config>,
    lease: Lease,
    presence: Presence,
}

impl ModbusGateway {
    /// A gateway for the device. Nothing is opened yet.
    ///
    /// # Errors
    /// [`Error::Contradiction`]: another device gives the same serial port or socket other settings.
    pub fn new(config: Config, buses: &Buses) -> Result<Self, Error> {
        let lease = buses.lease(&config)?;
        Ok(Self { config: Arc::new(config), lease, presence: Presence::default() })
    }

    /// The way to ask the device to do something; the same through all runs.
    pub fn actions(&self) -> Arc<dyn Actions> {
        Arc::new(ModbusActions::new(self.config.clone(), &self.presence))
    }
}

impl Gateway for ModbusGateway {
    fn run(&self, link: DeviceLink, stop: CancellationToken) -> RunFuture {
        let (config, lease, presence) = (self.config.clone(), self.lease.clone(), self.presence.clone());
        Box::pin(async move {
            let device = Device::new(config, link, lease.join(), presence);
            // Dropping the device leaves the connection in step: its task owns every question. A closed link means that the edge stops.
            let _ = stop.run_until_cancelled(device.run()).await;
        })
    }
}
