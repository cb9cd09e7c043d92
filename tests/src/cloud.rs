//! The services of `openfactory-cloud` as an operator runs them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value as Json;

use crate::process::Process;
use crate::wait::{self, Look};
use crate::{http, ports, tools};

/// What a test decides about a forwarder.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in the consumer group.
    pub instance: String,
    /// Brokers, `host:port`, with commas between them.
    pub kafka: String,
    /// The asset stream; group and dead letters are named after it.
    pub topic: String,
    /// The NATS server.
    pub nats: String,
    /// Further lines of the section `[forward]`.
    pub more: String,
}

/// A forwarder with its config; the process may be stopped, killed and started again.
#[derive(Debug)]
pub struct Forwarder {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    status: u16,
    process: Option<Process>,
}

impl Forwarder {
    /// Writes its config below `folder`; does not start it.
    pub fn new(folder: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let Settings { instance, kafka, topic, nats, more } = settings;
        let config = folder.join(format!("{instance}.toml"));
        let status = ports::free()?;
        let text = format!(
            "[kafka]\nbrokers = {:?}\n\
             [nats.MAIN]\nurls = [\"{nats}\"]\n\
             [forward]\ngroup = \"{topic}-forwarder\"\ninstance = \"{instance}\"\ndead_letter_topic = \"{topic}_dead\"\n\
             status_listen = \"127.0.0.1:{status}\"\n{more}\n\
             [forward.routes.\"{topic}\"]\nstream = {{ max_bytes = \"2 GiB\" }}\n",
            kafka.split(',').collect::<Vec<_>>()
        );
        std::fs::write(&config, text)?;
        Ok(Self { program: tools::built("openfactory-cloud")?, config, log: folder.join(format!("{instance}.log")), status, process: None })
    }

    /// Starts it.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let arguments = ["forward", "--config", &self.config.to_string_lossy()].map(str::to_owned);
        self.process = Some(Process::start("openfactory-cloud", &self.program, &arguments, &[], &self.log)?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// SIGTERM; it must end by itself, with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate(Duration::from_secs(30))?;
            ensure!(status.success(), "openfactory-cloud ended with {status}; the end of its log:\n{}", process.log_tail());
        }
        Ok(())
    }

    /// The running process.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the forwarder does not run")
    }

    /// What its status page says.
    pub fn status(&self) -> anyhow::Result<Json> {
        let (_, body) = http::get(self.status, "/status")?;
        serde_json::from_str(&body).with_context(|| format!("the status page gave no JSON: {body}"))
    }

    /// What it tells Prometheus.
    pub fn metrics(&self) -> anyhow::Result<String> {
        http::get(self.status, "/metrics").map(|(_, page)| page)
    }

    /// Waits until its status page answers.
    pub fn wait_started(&mut self, max: Duration) -> anyhow::Result<()> {
        wait::until("the forwarder's status page answers", max, || {
            self.process()?.expect_alive()?;
            match self.status() {
                Ok(_) => Ok(Look::Done(())),
                Err(error) => Ok(Look::Waiting(format!("{error:#}"))),
            }
        })
    }

    /// The config file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Process::log_tail)
    }
}

/// `openfactory-cloud commands`: copies commands from the asset stream into their own topic.
#[derive(Debug)]
pub struct Copier {
    config: PathBuf,
    process: Option<Process>,
}

impl Copier {
    /// Writes its config below `folder` and starts it; its group is named after the asset stream.
    pub fn start(folder: &Path, kafka: &str, topic: &str, commands_topic: &str) -> anyhow::Result<Self> {
        let config = folder.join("commands.toml");
        let brokers = kafka.split(',').collect::<Vec<_>>();
        let section = format!("group = \"{topic}-commands\"\nassets_topic = \"{topic}\"\ncommands_topic = \"{commands_topic}\"");
        std::fs::write(&config, format!("[kafka]\nbrokers = {brokers:?}\n[commands]\n{section}\n"))?;
        let arguments = ["commands", "--config", &config.to_string_lossy()].map(str::to_owned);
        let program = tools::built("openfactory-cloud")?;
        let process = Process::start("openfactory-cloud commands", &program, &arguments, &[], &folder.join("commands.log"))?;
        Ok(Self { config, process: Some(process) })
    }

    /// SIGTERM; it must end by itself, with success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            let status = process.terminate(Duration::from_secs(30))?;
            ensure!(status.success(), "openfactory-cloud commands ended with {status}; the end of its log:\n{}", process.log_tail());
        }
        Ok(())
    }

    /// The config file, for commands of people.
    pub fn config(&self) -> &Path {
        &self.config
    }
}
