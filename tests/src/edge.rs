//! `openfactory-edge` as an operator runs it: a config file, a folder of device files, a process.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value as Json;

use crate::process::{self, Process};
use crate::tools;
use crate::wait::{self, Look};

/// What a test decides about the edge.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Unique among the edges of a topic.
    pub id: String,
    /// Brokers, `host:port`, with commas between them; absent: it runs alone.
    pub kafka: Option<String>,
    /// The asset stream.
    pub topic: String,
    /// Further lines of edge.toml, e.g. a `[log]` section.
    pub more: String,
}

/// An edge with its folder; the process may be stopped, killed and started again.
#[derive(Debug)]
pub struct Edge {
    program: PathBuf,
    config: PathBuf,
    devices: PathBuf,
    log: PathBuf,
    environment: Vec<(&'static str, String)>,
    wrapper: Vec<String>,
    process: Option<Process>,
}

impl Edge {
    /// Writes its config below `folder`; does not start it.
    pub fn new(folder: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let folder = folder.join(&settings.id);
        let devices = folder.join("devices");
        std::fs::create_dir_all(&devices)?;
        let config = folder.join("edge.toml");
        let Settings { id, kafka, topic, more } = settings;
        let mut text = format!("[edge]\nid = \"{id}\"\ndevices = \"devices\"\nstate_dir = \"state\"\nsocket = \"edge.sock\"\n");
        if let Some(bootstrap) = kafka {
            text.push_str(&format!(
                "[kafka]\nbrokers = {:?}\n[mirror]\ntopic = \"{topic}\"\nedges_topic = \"{topic}_edges\"\n",
                bootstrap.split(',').collect::<Vec<_>>()
            ));
        }
        text.push_str(more);
        std::fs::write(&config, text)?;
        Ok(Self {
            program: tools::built("openfactory-edge")?,
            config,
            devices,
            log: folder.join("edge.log"),
            environment: Vec::new(),
            wrapper: Vec::new(),
            process: None,
        })
    }

    /// An edge that runs elsewhere, e.g. as a service of a box: `config` names its socket. It can be asked, not started or stopped.
    pub fn elsewhere(config: PathBuf) -> anyhow::Result<Self> {
        let (devices, log) = (config.with_file_name("devices"), config.with_file_name("edge.log"));
        let program = tools::built("openfactory-edge")?;
        Ok(Self { program, config, devices, log, environment: Vec::new(), wrapper: Vec::new(), process: None })
    }

    /// Adds or replaces a device file; the edge reads it at its next start.
    pub fn device_file(&self, name: &str, yaml: &str) -> anyhow::Result<()> {
        std::fs::write(self.devices.join(format!("{name}.yaml")), yaml).context("cannot write the device file")
    }

    /// Starts it by another program from now on, whose words stand before its own.
    pub fn wrap(&mut self, wrapper: Vec<String>) {
        self.wrapper = wrapper;
    }

    /// Starts it.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.start_with(&[])
    }

    /// Variables in its environment from its next start on, e.g. another clock.
    pub fn set_environment(&mut self, environment: Vec<(&'static str, String)>) {
        self.environment = environment;
    }

    /// Starts it this once with further variables in its environment, e.g. a fail point.
    pub fn start_with(&mut self, further: &[(&'static str, String)]) -> anyhow::Result<()> {
        let own = [&self.program.to_string_lossy(), "run", "--config", &self.config.to_string_lossy()].map(str::to_owned);
        let words = [&self.wrapper[..], &own].concat();
        let environment = [&self.environment[..], further].concat();
        self.process = Some(Process::start("openfactory-edge", Path::new(&words[0]), &words[1..], &environment, &self.log)?);
        Ok(())
    }

    /// Waits until it dies by itself, as it was told with a fail point.
    pub fn wait_died(&mut self, max: Duration) -> anyhow::Result<()> {
        let mut process = self.process.take().context("the edge does not run")?;
        let status = process.wait_ended(max)?;
        ensure!(
            status.signal().is_some(),
            "openfactory-edge ended with {status} instead of dying; the end of its log:\n{}",
            process.log_tail()
        );
        Ok(())
    }

    /// SIGSTOP: it stands still, its connections stay open.
    pub fn freeze(&mut self) -> anyhow::Result<()> {
        self.process()?.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        self.process()?.signal(Signal::CONT)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// SIGTERM; it must end by itself, with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate(Duration::from_secs(30))?;
            ensure!(status.success(), "openfactory-edge ended with {status}; the end of its log:\n{}", process.log_tail());
        }
        Ok(())
    }

    /// The running process.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the edge does not run")
    }

    /// Runs one of its commands to the end; its exit code and what it printed (stdout, stderr).
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        let config = self.config.to_string_lossy();
        process::run(&self.program, &[arguments, &["--config", &config]].concat(), Duration::from_secs(20))
    }

    /// What `openfactory-edge status --json` says.
    pub fn status(&self) -> anyhow::Result<Json> {
        let (code, out, err) = self.command(&["status", "--json"])?;
        ensure!(code == Some(0), "openfactory-edge status failed: {err}");
        serde_json::from_str(&out).with_context(|| format!("status --json printed no JSON: {out}"))
    }

    /// Waits until `holds` says so of the status; `what` names it.
    pub fn wait_status(&mut self, what: &str, max: Duration, mut holds: impl FnMut(&Json) -> bool) -> anyhow::Result<Json> {
        wait::until(what, max, || {
            self.process.as_mut().map_or(Ok(()), Process::expect_alive)?;
            match self.status() {
                Ok(status) if holds(&status) => Ok(Look::Done(status)),
                Ok(status) => Ok(Look::Waiting(status.to_string())),
                Err(error) => Ok(Look::Waiting(format!("{error:#}"))),
            }
        })
        .with_context(|| format!("the edge's log is {}:\n{}", self.log.display(), self.log_tail()))
    }

    /// Waits until each of these assets' devices is connected.
    pub fn wait_connected(&mut self, assets: &[String], max: Duration) -> anyhow::Result<()> {
        self.wait_status("the devices are connected", max, |status| {
            let devices = status["devices"].as_array().map_or(&[][..], Vec::as_slice);
            assets.iter().all(|asset| devices.iter().any(|d| d["asset"] == asset.as_str() && d["state"] == "connected"))
        })
        .map(drop)
    }

    /// Waits until every loss is told and everything that is durable stands in Kafka; returns the log's epoch and its last sequence.
    pub fn wait_mirrored(&mut self, max: Duration) -> anyhow::Result<(u64, u64)> {
        let status = self.wait_status("the edge has no backlog and nothing to tell", max, |status| {
            status["mirror"]["backlog"] == 0 && status["log"]["losses"] == 0
        })?;
        let number = |name: &str| status["log"][name].as_u64().with_context(|| format!("the status has no log.{name}: {status}"));
        Ok((number("epoch")?, number("durable")?))
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Process::log_tail)
    }

    /// The folder of its state.
    pub fn state(&self) -> PathBuf {
        self.config.with_file_name("state")
    }

    /// The config file.
    pub fn config(&self) -> &Path {
        &self.config
    }
}
