//! A furnace whose cooling valve can be commanded: the smallest machine for a closed loop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::process::Talking;
use crate::{ports, tools};

/// Its asset.
pub const FURNACE: &str = "FURNACE-1";
/// pymodbus starts in a moment.
const START: Duration = Duration::from_secs(60);

/// A running furnace.
#[derive(Debug)]
pub struct Furnace {
    port: u16,
    journal: PathBuf,
    /// Ends it when dropped.
    _talking: Talking,
}

impl Furnace {
    /// Lights it; its files are in `folder`.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let (port, journal) = (ports::free()?, folder.join("furnace.journal"));
        let script = tools::tests_folder().join("simulators").join("furnace.py");
        let words = [script.to_string_lossy().into_owned(), format!("--port={port}"), format!("--journal={}", journal.display())];
        let (talking, _) = Talking::start("the furnace", &tools::python()?, &words, &[], &folder.join("furnace.log"), START)?;
        Ok(Self { port, journal, _talking: talking })
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its device file.
    pub fn device_file(&self) -> String {
        format!(
            "devices:
  furnace-1:
    uuid: {FURNACE}
    commands: {{valve: {{confirm: {{variable: valve, equals_argument: value}}}}}}
    connector:
      type: modbus
      server: {{host: 127.0.0.1, port: {}, unit_id: 1}}
      defaults: {{interval: 200}}
      variables:
        temperature: {{holding_register: 0, type: uint16, scale: 0.1, tag: Temperature, unit: °C}}
        valve: {{holding_register: 1, type: uint16, tag: Valve, access_level: rw}}
",
            self.port
        )
    }

    /// What was written into the valve, in order.
    pub fn written(&self) -> anyhow::Result<Vec<String>> {
        match std::fs::read_to_string(&self.journal) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).context("the furnace's journal cannot be read"),
        }
    }
}
