//! Device files become devices with a connector: with [`crate::protocols`] the one place that knows all protocols.

use std::sync::Arc;

use asset_stream::device_file::{self, DeviceFiles};
use asset_stream::document::{Environment, Problems};
use asset_stream::uns::{Schema, Uns};
use gateway_modbus::{Buses, ModbusGateway};
use service::error::chain;

use crate::commands::Terms;
use crate::config::Config;
use crate::register::Facts;

/// A device as its file describes it, with everything checked. Equal devices need not be touched when the files are read again.
#[derive(PartialEq)]
pub(crate) struct Device {
    /// Its key in the device file.
    pub(crate) name: Arc<str>,
    /// Its asset's UUID.
    pub(crate) asset: Arc<str>,
    /// Its connector.
    pub(crate) connector: Connector,
    /// What is told at registration.
    pub(crate) facts: Facts,
    /// What holds for commands to it.
    pub(crate) terms: Arc<Terms>,
}

/// A connector, parsed by its protocol's crate. A new protocol is one line here and one in each of the matches.
#[derive(PartialEq)]
pub(crate) enum Connector {
    Opcua(gateway_opcua::Config),
    Modbus(gateway_modbus::Config),
}

impl Connector {
    /// The protocol's name as the fact `<PROTOCOL>.Gateway` and tables show it.
    pub(crate) fn protocol(&self) -> &'static str {
        match self {
            Self::Opcua(_) => "OPCUA",
            Self::Modbus(_) => "MODBUS",
        }
    }

    /// Whether it has a variable of this name, that can be read.
    fn has_variable(&self, name: &str) -> bool {
        match self {
            Self::Opcua(config) => config.variables.iter().any(|variable| variable.name == name),
            Self::Modbus(config) => config.variables.iter().any(|variable| &*variable.id == name),
        }
    }
}

/// Reads all device files. Problems and warnings are recorded; what has problems is left out.
pub(crate) fn load(config: &Config, environment: Environment, problems: &Problems) -> Vec<Device> {
    let schema = config.edge.uns_schema.as_deref().and_then(|file| Schema::load(file, &environment, problems));
    let files = DeviceFiles::load([&config.edge.devices], environment);
    let devices = files.devices(problems);
    for device in devices.iter().filter(|device| device.uuid == config.asset()) {
        problems
            .push(device.place.clone().problem("uuid", format!("`{}` is the edge's own asset; see edge.asset in edge.toml", device.uuid)));
    }
    let places = match &schema {
        Some(schema) => schema.resolve_all(&devices),
        None => devices.iter().map(no_schema).collect(),
    };
    let mut shared = Sharing::default();
    let checked = |(device, uns): (device_file::Device<'_>, Option<Uns>)| {
        let place = device.place.clone();
        let device = read(device, uns)?;
        if let Err(problem) = shared.join(&device.connector) {
            problems.push(place.problem("connector", problem));
        }
        Some(device)
    };
    devices.into_iter().zip(places).filter_map(checked).collect()
}

/// Finds devices that contradict each other about what they share.
#[derive(Default)]
struct Sharing {
    buses: Buses,
    /// They hold the buses as long as others are compared with them.
    modbus: Vec<ModbusGateway>,
}

impl Sharing {
    fn join(&mut self, connector: &Connector) -> Result<(), String> {
        if let Connector::Modbus(config) = connector {
            self.modbus.push(ModbusGateway::new(config.clone(), &self.buses).map_err(|error| chain(&error))?);
        }
        Ok(())
    }
}

fn no_schema(device: &device_file::Device<'_>) -> Option<Uns> {
    if let Some(levels) = &device.uns {
        levels.problem("", "there is no UNS schema to check it against; set edge.uns_schema in edge.toml");
    }
    None
}

fn read(device: device_file::Device<'_>, uns: Option<Uns>) -> Option<Device> {
    let device_file::Device { name, uuid, connector_type, connector, commands, place, .. } = device;
    let problems = connector.problems();
    let terms = Terms::read(commands);
    let connector = match connector_type.as_str() {
        "opcua" => gateway_opcua::parse(connector).map(Connector::Opcua),
        "modbus" => gateway_modbus::parse(connector).map(Connector::Modbus),
        other => {
            connector.problem("type", format!("{other:?} is no protocol of this edge; expected opcua or modbus (what else stands here is looked at when that is right)"));
            None
        }
    };
    let connector = connector?;
    let facts = Facts { asset: uuid.as_str().into(), protocol: connector.protocol(), uns };
    for (method, variable) in terms.variables().filter(|(_, variable)| !connector.has_variable(variable)) {
        let told = format!("the terms of {method} name the variable `{variable}`, which this device does not have");
        problems.push(place.clone().problem("commands", told));
    }
    Some(Device { name: name.into(), asset: uuid.into(), connector, facts, terms: Arc::new(terms) })
}

#[cfg(test)]
mod tests {
    use super::load;
    use crate::config::Config;
    use asset_stream::document::{Environment, Problems};
    use std::path::Path;

    fn told(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("temp folder");
        std::fs::create_dir(folder.path().join("devices")).expect("temp folder");
        std::fs::write(folder.path().join("devices/line.yaml"), text).expect("temp file");
        std::fs::write(folder.path().join("edge.toml"), "[edge]\nid = \"a\"\ndevices = \"devices\"\n").expect("temp file");
        let config = Config::load(&folder.path().join("edge.toml")).expect("valid");
        let problems = Problems::new();
        load(&config, Environment::empty(), &problems);
        let folder = format!("{}/devices/", folder.path().display());
        problems.into_vec().iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    }

    #[test]
    fn every_example_of_a_device_file_is_valid_without_a_warning() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/edge.toml");
        let config = Config::load(&file).expect("the example is valid");
        let problems = Problems::new();
        // What the examples take from the environment.
        let devices = load(&config, Environment::from_fn(|name| Some(format!("value-of-{}", name.to_lowercase()))), &problems);
        assert_eq!(problems.warnings(), []);
        assert_eq!(problems.into_vec(), []);
        let mut protocols: Vec<_> = devices.iter().map(|device| device.connector.protocol()).collect();
        protocols.dedup();
        assert_eq!(protocols, ["MODBUS", "OPCUA"], "an example of each protocol");
    }

    #[test]
    fn devices_that_give_one_serial_port_two_speeds_are_told() {
        let device = |name: &str, baud: u32, unit: u8| {
            format!(
                "  {name}:\n    uuid: {}\n    connector:\n      type: modbus\n      serial: {{port: /dev/ttyS0, baud_rate: {baud}, unit_id: {unit}}}\n      variables:\n        v: {{coil: 0, tag: T}}\n",
                name.to_uppercase()
            )
        };
        let told = told(&format!("devices:\n{}{}{}", device("b", 9600, 1), device("c", 9600, 2), device("d", 19200, 3)));
        let [problem] = &told[..] else { panic!("expected one problem, seen {told:#?}") };
        assert!(problem.starts_with("line.yaml:") && problem.contains("9600") && problem.contains("19200"), "{problem}");
    }

    #[test]
    fn an_unknown_protocol_and_a_uns_without_a_schema_are_told_together_with_the_protocols_own_problems() {
        let told = told(
            "devices:\n  a:\n    uuid: A\n    uns: {area: x}\n    connector: {type: profinet}\n  b:\n    uuid: B\n    connector:\n      type: opcua\n      server: {uri: \"opc.tcp://h:4840\"}\n      variables:\n        v: {node_id: \"ns=2;i=1\", browse_path: \"0:Root/0:Objects\", tag: T}\n        w: {node_id: \"ns=2;i=2\", tag: T, sampling: 5}\n",
        );
        for (line, words) in [("4:", "no UNS schema"), ("5:", "profinet"), ("12:", "browse_path"), ("13:", "sampling")] {
            assert!(
                told.iter().any(|problem| problem.starts_with(&format!("line.yaml:{line}")) && problem.contains(words)),
                "nothing about {words:?} at line {line} in {told:#?}"
            );
        }
    }
}
