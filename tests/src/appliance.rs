//! A box as a customer has it: Debian 12 that boots with its own systemd, apt and dpkg, in a container that shares this machine's network.
//!
//! Its disk is an overlay over a Debian that `./dev` has unpacked, so each box is new; a reboot keeps what is on the disk.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal};

use crate::control_group::ControlGroup;
use crate::mounts::{self, Mount};
use crate::process::{self, Process};
use crate::tools;
use crate::wait::{self, Look};

/// How long a box may take to boot, or to shut down.
const BOOT: Duration = Duration::from_secs(120);
/// How long a command in it may take.
const COMMAND: Duration = Duration::from_secs(120);

/// A running box.
#[derive(Debug)]
pub struct Appliance {
    // In the order in which they must be dropped.
    container: Option<Process>,
    disk: Mount,
    folder: PathBuf,
    packages: PathBuf,
    group: ControlGroup,
}

impl Appliance {
    /// Boots a new box below `folder`, with the apt repository that `./dev package --repo` has made at /srv/openfactory. `None`, and a word that
    /// the test is skipped, where containers cannot be started.
    pub fn boot(folder: &Path) -> anyhow::Result<Option<Self>> {
        let Some((debian, packages)) = tools::debian_and_packages()? else { return Ok(None) };
        if !mounts::are_allowed() {
            return Ok(None);
        }
        let disk = Mount::overlay(&folder.join("box"), &debian, &folder.join("disk"))?;
        let mut appliance = Self { container: None, disk, folder: folder.to_owned(), packages, group: ControlGroup::for_container()? };
        appliance.power_on()?;
        Ok(Some(appliance))
    }

    /// Boots it, again or for the first time.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        let start = [
            // Told to end when this process is gone: killed, it would leave the container behind.
            "setpriv".into(),
            "--pdeathsig".into(),
            "TERM".into(),
            "--".into(),
            "systemd-nspawn".into(),
            format!("--directory={}", self.disk.path().display()),
            "--boot".into(),
            "--register=no".into(),
            "--keep-unit".into(),
            "--quiet".into(),
            "--machine=edge-box".into(),
            "--console=pipe".into(),
            format!("--bind-ro={}:/srv/openfactory", self.packages.display()),
        ];
        // Control groups as Debian 12 has them, whatever this machine has.
        let unified = [("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1".to_owned())];
        let words = [self.group.starting(), start.into()].concat();
        self.container = Some(Process::start("the box", Path::new("env"), &words, &unified, &self.folder.join("box.log"))?);
        wait::until("the box has booted", BOOT, || {
            self.container()?.expect_alive()?;
            match self.run("systemctl is-system-running") {
                // Degraded: a unit of Debian's own may fail in a container.
                Ok((_, said)) if ["running", "degraded"].contains(&said.trim()) => Ok(Look::Done(())),
                Ok((_, said)) => Ok(Look::Waiting(said)),
                Err(error) => Ok(Look::Waiting(format!("{error:#}"))),
            }
        })
    }

    /// Shuts it down in order.
    pub fn power_off(&mut self) -> anyhow::Result<()> {
        // The shutdown ends the command that asked for it.
        self.run("systemctl --no-block poweroff")?;
        let mut container = self.container.take().context("the box does not run")?;
        container.wait_ended(BOOT).map(drop)
    }

    /// Pulls the plug.
    pub fn pull_the_plug(&mut self) -> anyhow::Result<()> {
        // Without its process 1 the kernel ends everything in the container; without systemd-nspawn alone nothing ends.
        let leader = self.leader().ok().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            rustix::process::kill_process(leader, Signal::KILL).context("the box cannot be killed")?;
        }
        self.container.take().map_or(Ok(()), |mut container| container.wait_ended(BOOT).map(drop))
    }

    /// A file of the box's disk, as this machine sees it.
    pub fn file(&self, path: &str) -> PathBuf {
        self.disk.path().join(path.trim_start_matches('/'))
    }

    /// A file as the running box sees it: with what it has mounted, e.g. /run.
    pub fn live(&self, path: &str) -> anyhow::Result<PathBuf> {
        Ok(Path::new("/proc").join(self.leader()?.to_string()).join("root").join(path.trim_start_matches('/')))
    }

    /// Runs a shell command as root; its exit code and what it said.
    pub fn run(&self, command: &str) -> anyhow::Result<(Option<i32>, String)> {
        let leader = self.leader()?.to_string();
        let inside = ["-t", &leader, "-m", "-u", "-i", "-p", "--root", "--wd", "--"];
        let clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"];
        let (code, out, err) = process::run(Path::new("nsenter"), &[&inside[..], &clean, &["sh", "-c", command]].concat(), COMMAND)?;
        Ok((code, out + &err))
    }

    /// As [`Self::run`]; an error if it fails.
    pub fn expect(&self, command: &str) -> anyhow::Result<String> {
        let (code, said) = self.run(command)?;
        ensure!(code == Some(0), "in the box, `{command}` ended with {code:?} and said:\n{said}\nthe journal's end:\n{}", self.journal());
        Ok(said)
    }

    /// The end of its journal, for error messages.
    pub fn journal(&self) -> String {
        self.run("journalctl --no-pager -n 40 -o cat").map_or_else(|error| format!("{error:#}"), |(_, said)| said)
    }

    /// This machine's number for a process that has the number `inside` in the box.
    pub fn process(&self, inside: u32) -> anyhow::Result<u32> {
        let namespace = |process: &procfs::process::Process| Some(process.namespaces().ok()?.0.get(OsStr::new("pid"))?.identifier);
        let box_s = namespace(&procfs::process::Process::new(self.leader()?.cast_signed())?);
        for process in procfs::process::all_processes()?.flatten() {
            let Some(numbers) = process.status().ok().and_then(|status| status.nspid) else { continue };
            if numbers.last() == Some(&inside.cast_signed()) && namespace(&process) == box_s {
                return Ok(process.pid.cast_unsigned());
            }
        }
        anyhow::bail!("the box has no process {inside}; the journal's end:\n{}", self.journal())
    }

    /// Process 1 of the box.
    fn leader(&self) -> anyhow::Result<u32> {
        let container = self.container.as_ref().context("the box does not run")?.id();
        let children = std::fs::read_to_string(format!("/proc/{container}/task/{container}/children"))?;
        children.split_whitespace().next().and_then(|id| id.parse().ok()).context("the box has not begun to boot")
    }

    fn container(&mut self) -> anyhow::Result<&mut Process> {
        self.container.as_mut().context("the box does not run")
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Err(error) = self.pull_the_plug() {
            eprintln!("the box may still run: {error:#}");
        }
    }
}
