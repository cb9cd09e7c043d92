//! Control groups of our own, below the one that we are in: one for each container, and one that limits memory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use procfs::ProcessCGroup;
use procfs::process::MountInfo;

/// A control group, in each hierarchy that it was asked for. Dropping it removes it: its processes must have ended.
#[derive(Debug)]
pub struct ControlGroup {
    folders: Vec<PathBuf>,
}

impl ControlGroup {
    /// Where systemd keeps its groups: for a container whose systemd must not meet another one's.
    pub fn for_container() -> anyhow::Result<Self> {
        let group = Self::below(|controllers| controllers.is_empty() || controllers.iter().any(|name| name == "name=systemd"))?;
        ensure!(!group.folders.is_empty(), "this machine has no control groups that systemd could use");
        Ok(group)
    }

    /// With a memory controller of the first version, which limits any process, also one inside a container. `None` where the kernel has none.
    pub fn for_memory() -> anyhow::Result<Option<Self>> {
        let group = Self::below(|controllers| controllers.iter().any(|name| name == "memory"))?;
        Ok((!group.folders.is_empty()).then_some(group))
    }

    fn below(wanted: impl Fn(&[String]) -> bool) -> anyhow::Result<Self> {
        let this = procfs::process::Process::myself()?;
        let mounts = this.mountinfo()?;
        let mut group = Self { folders: Vec::new() };
        for own in this.cgroups()? {
            if !wanted(&own.controllers) {
                continue;
            }
            let Some(folder) = mounts.0.iter().find_map(|mount| folder_of(&own, mount)) else { continue };
            group.folders.push(made_in(&folder)?);
        }
        Ok(group)
    }

    /// Words before a command's own that start it in this group.
    pub fn starting(&self) -> Vec<String> {
        let enter: String = self.folders.iter().map(|folder| format!("echo $$ > '{}/cgroup.procs' && ", folder.display())).collect();
        ["sh".into(), "-c".into(), format!(r#"{enter}exec "$@""#), "sh".into()].into()
    }

    /// Moves a process into it.
    pub fn add(&self, process: u32) -> anyhow::Result<()> {
        self.write("cgroup.procs", &process.to_string())
    }

    /// Sets a value, e.g. `memory.limit_in_bytes`.
    pub fn write(&self, file: &str, value: &str) -> anyhow::Result<()> {
        self.folders.iter().try_for_each(|folder| {
            std::fs::write(folder.join(file), value).with_context(|| format!("cannot write {value} to {}/{file}", folder.display()))
        })
    }

    /// A number that the kernel tells, e.g. `memory.max_usage_in_bytes`.
    pub fn read(&self, file: &str) -> anyhow::Result<u64> {
        let path = self.folders.first().context("a group in no hierarchy")?.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{} is no number: {text}", path.display()))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            if let Err(error) = remove(folder) {
                eprintln!("the control group {} is left: {error}", folder.display());
            }
        }
    }
}

/// The folder of the group that we are in, if this mount shows its hierarchy.
fn folder_of(own: &ProcessCGroup, mount: &MountInfo) -> Option<PathBuf> {
    let is_shown = match own.controllers.as_slice() {
        [] => mount.fs_type == "cgroup2",
        [name] if name == "name=systemd" => mount.super_options.get("name").is_some_and(|name| name.as_deref() == Some("systemd")),
        controllers => mount.fs_type == "cgroup" && controllers.iter().any(|name| mount.super_options.contains_key(name)),
    };
    let below = Path::new(&own.pathname).strip_prefix(&mount.root).ok()?;
    is_shown.then(|| mount.mount_point.join(below))
}

/// A new group below `folder`.
fn made_in(folder: &Path) -> anyhow::Result<PathBuf> {
    for number in 0.. {
        let path = folder.join(format!("openfactory-{}-{number}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make the control group {}", path.display())),
        }
    }
    unreachable!("numbers do not end")
}

/// The kernel's files in it cannot be removed and need not be.
fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    std::fs::remove_dir(folder)
}
