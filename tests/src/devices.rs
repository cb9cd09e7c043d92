//! Devices that we did not write, the journals of what they said, and the device files that describe them to the edge.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::process::Talking;
use crate::{ports, tools};

/// A simulator's start: asyncua builds its address space in Python.
const START: Duration = Duration::from_secs(120);

/// A simulator's answer.
const ANSWER: Duration = Duration::from_secs(60);

/// What a simulator is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// asyncua, an OPC UA server in Python.
    Asyncua,
    /// pymodbus over TCP, a port for each device.
    PymodbusTcp,
    /// pymodbus on one serial line, a unit for each device.
    PymodbusRtu,
    /// Our own on async-opcua's server, for rates that Python cannot reach.
    Fast,
}

/// How many devices, and how fast they change.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is made of.
    pub make: Make,
    /// Number of the first asset: names must be unique in a test.
    pub first_device: usize,
    /// How many devices.
    pub devices: usize,
    /// How many OPC UA servers they are spread over.
    pub servers: usize,
    /// Tags of each device.
    pub tags: usize,
    /// OPC UA: changes a second of all tags together.
    pub rate: usize,
    /// Modbus: how long the edge waits between two polls, in milliseconds.
    pub poll: usize,
}

impl Plan {
    /// `devices` devices with `tags` tags each.
    pub fn new(make: Make, devices: usize, tags: usize) -> Self {
        Self { make, first_device: 1, devices, servers: 1, tags, rate: 200, poll: 200 }
    }

    /// The asset names, in the order of their numbers.
    pub fn assets(&self) -> Vec<String> {
        let family = match self.make {
            Make::Asyncua | Make::Fast => "OPCUA",
            Make::PymodbusTcp | Make::PymodbusRtu => "MODBUS",
        };
        (self.first_device..self.first_device + self.devices).map(|number| format!("{family}-{number:03}")).collect()
    }
}

/// A running simulator.
#[derive(Debug)]
pub struct Devices {
    plan: Plan,
    ports: Vec<u16>,
    line: Option<String>,
    journal: PathBuf,
    log: PathBuf,
    /// Value at which the counters begin: goes up with each restart.
    first: u64,
    environment: Vec<(&'static str, String)>,
    talking: Option<Talking>,
}

impl Devices {
    /// Starts it; the values stand still until [`Self::go`].
    pub fn start(plan: Plan, folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(plan, folder, Vec::new())
    }

    /// As [`Self::start`], with variables in its environment, e.g. another clock.
    pub fn start_with(plan: Plan, folder: &Path, environment: Vec<(&'static str, String)>) -> anyhow::Result<Self> {
        let name = format!("{:?}-{}", plan.make, plan.first_device).to_lowercase();
        let wanted = match plan.make {
            Make::Asyncua => plan.servers,
            Make::Fast => 1,
            Make::PymodbusTcp => plan.devices,
            Make::PymodbusRtu => 0,
        };
        let ports = (0..wanted).map(|_| ports::free()).collect::<anyhow::Result<_>>()?;
        let (journal, log) = (folder.join(format!("{name}.journal")), folder.join(format!("{name}.log")));
        let mut devices = Self { plan, ports, line: None, journal, log, first: 0, environment, talking: None };
        devices.start_again()?;
        Ok(devices)
    }

    /// The asset names.
    pub fn assets(&self) -> Vec<String> {
        self.plan.assets()
    }

    /// The file that tells what was said.
    pub fn journal(&self) -> &Path {
        &self.journal
    }

    /// Ports of the servers.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Lets the values change.
    pub fn go(&mut self) -> anyhow::Result<()> {
        self.say("go").map(drop)
    }

    /// Stops the values; the journal is complete then. Returns how many values were said.
    pub fn pause(&mut self) -> anyhow::Result<u64> {
        self.say("pause")?["said"].as_u64().context("the simulator does not tell how many values it said")
    }

    /// Power off.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.talking.take() {
            Some(mut talking) => talking.process().kill(),
            None => Ok(()),
        }
    }

    /// Power on: same ports, values above all those before, standing still until [`Self::go`].
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let plan = &self.plan;
        let ports = self.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let mut words: Vec<String> = Vec::new();
        let mut option = |name: &str, value: &dyn std::fmt::Display| words.extend([format!("--{name}"), value.to_string()]);
        let program = match plan.make {
            Make::Fast => {
                option("port", &ports);
                option("devices", &plan.devices);
                option("variables", &plan.tags);
                option("rate", &plan.rate);
                tools::built("opcua-simulator")?
            }
            Make::Asyncua => {
                option("ports", &ports);
                option("devices", &plan.devices);
                option("variables", &plan.tags);
                option("rate", &plan.rate);
                tools::python()?
            }
            Make::PymodbusTcp => {
                option("ports", &ports);
                option("registers", &plan.tags);
                tools::python()?
            }
            Make::PymodbusRtu => {
                option("rtu", &plan.devices);
                option("registers", &plan.tags);
                tools::python()?
            }
        };
        if plan.make != Make::Fast {
            option("first", &self.first);
            option("first-device", &plan.first_device);
        }
        option("journal", &self.journal.display());
        let script = match plan.make {
            Make::Fast => None,
            Make::Asyncua => Some("opcua_device.py"),
            Make::PymodbusTcp | Make::PymodbusRtu => Some("modbus_device.py"),
        };
        if let Some(script) = script {
            words.insert(0, tools::tests_folder().join("simulators").join(script).to_string_lossy().into_owned());
        }
        let (talking, ready) = Talking::start(&format!("{:?}", plan.make), &program, &words, &self.environment, &self.log, START)?;
        self.line = ready["line"].as_str().map(str::to_owned);
        self.talking = Some(talking);
        self.first += 1_000_000;
        Ok(())
    }

    /// The device file for the edge; `port_of` may send it through a proxy: it gets the server's port and gives the one to connect to.
    pub fn device_file(&self, port_of: impl Fn(u16) -> u16) -> anyhow::Result<String> {
        let mut yaml = String::from("devices:\n");
        for (index, asset) in self.assets().iter().enumerate() {
            writeln!(yaml, "  {}:\n    uuid: {asset}\n    connector:", asset.to_lowercase())?;
            match self.plan.make {
                Make::Asyncua | Make::Fast => {
                    let port = port_of(self.ports[index % self.ports.len()]);
                    writeln!(yaml, "      type: opcua\n      server:\n        uri: opc.tcp://127.0.0.1:{port}/")?;
                    writeln!(yaml, "        subscription: {{publishing_interval: 100, queue_size: 500, sampling_interval: 0}}")?;
                    writeln!(yaml, "      variables:")?;
                    for tag in 0..self.plan.tags {
                        // Both ways to name a node.
                        let node = match tag % 10 {
                            9 => format!("browse_path: \"0:Root/0:Objects/2:{asset}/2:t{tag}\""),
                            _ => format!("node_id: \"ns=2;s={asset}.t{tag}\""),
                        };
                        writeln!(yaml, "        t{tag}: {{{node}, tag: Counter}}")?;
                    }
                }
                Make::PymodbusTcp | Make::PymodbusRtu => {
                    writeln!(yaml, "      type: modbus")?;
                    match &self.line {
                        Some(line) => {
                            writeln!(yaml, "      serial: {{port: {line}, baud_rate: 115200, parity: none, unit_id: {}}}", index + 1)?
                        }
                        None => writeln!(yaml, "      server: {{host: 127.0.0.1, port: {}, unit_id: 1}}", port_of(self.ports[index]))?,
                    }
                    writeln!(yaml, "      defaults: {{interval: {}}}\n      variables:", self.plan.poll)?;
                    for tag in 0..self.plan.tags {
                        writeln!(yaml, "        t{tag}: {{holding_register: {}, type: uint32, tag: Counter}}", 2 * tag)?;
                    }
                }
            }
        }
        Ok(yaml)
    }

    fn say(&mut self, word: &str) -> anyhow::Result<serde_json::Value> {
        self.talking.as_mut().context("the simulator is off")?.say(word, ANSWER)
    }
}
