//! What the daemon knows of protocols beside their device files: how to make their gateways, and how to ask their devices.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway::{Actions, Finding, Gateway};
use gateway_modbus::{Buses, ModbusGateway};
use gateway_opcua::OpcuaGateway;
use service::error::chain;

use crate::devices::{Connector, Device};

/// What gateways of one protocol share: opened when the first of them needs it.
pub(crate) struct Protocols {
    buses: Buses,
    opcua: Option<gateway_opcua::Shared>,
    state_dir: PathBuf,
}

/// A device's gateway, and the way to ask the device to do something.
pub(crate) struct Made {
    pub(crate) gateway: Arc<dyn Gateway>,
    pub(crate) actions: Arc<dyn Actions>,
}

impl Protocols {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { buses: Buses::new(), opcua: None, state_dir: state_dir.to_owned() }
    }

    pub(crate) fn open(&mut self, devices: &[Device]) -> Result<(), String> {
        if self.opcua.is_none() && devices.iter().any(|device| matches!(device.connector, Connector::Opcua(_))) {
            self.opcua = Some(gateway_opcua::Shared::open(&self.state_dir).map_err(|error| chain(&error))?);
        }
        Ok(())
    }

    /// Makes a gateway of a connector, and the way to ask its device to do something. Nothing is connected yet.
    pub(crate) fn make(&self, connector: &Connector) -> Result<Made, String> {
        match connector {
            Connector::Opcua(config) => {
                let shared = self.opcua.clone().ok_or("the OPC UA identity is not open")?;
                let gateway = OpcuaGateway::new(config.clone(), shared);
                let actions = gateway.actions();
                Ok(Made { gateway: Arc::new(gateway), actions })
            }
            Connector::Modbus(config) => {
                let gateway = ModbusGateway::new(config.clone(), &self.buses).map_err(|error| chain(&error))?;
                let actions = gateway.actions();
                Ok(Made { gateway: Arc::new(gateway), actions })
            }
        }
    }

    /// Asks a device, once, whether it has what its connector names. The error says why it does not answer.
    pub(crate) async fn probe(&self, device: &str, connector: &Connector) -> Result<Vec<Finding>, String> {
        match connector {
            Connector::Opcua(config) => {
                let shared = self.opcua.as_ref().ok_or("the OPC UA identity is not open")?;
                gateway_opcua::probe(config, shared, device).await
            }
            Connector::Modbus(config) => gateway_modbus::probe(config, &self.buses).await,
        }
    }
}
