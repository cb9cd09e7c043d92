//! File systems of a test's own. Only root may mount.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::fs::FallocateFlags;

use crate::{process, tools};

/// Whether this process may mount; says that the test is skipped if not.
pub fn are_allowed() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        tools::skipped("only root may mount file systems");
    }
    is_root
}

/// A mounted file system; unmounted when dropped. If this process is killed, the mount stays until somebody unmounts it.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// A file system in memory, of so many bytes.
    pub fn tmpfs(at: &Path, bytes: u64) -> anyhow::Result<Self> {
        Self::new(at, &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
    }

    /// The file system in an image file.
    pub fn image(at: &Path, image: &Path, options: &str) -> anyhow::Result<Self> {
        Self::new(at, &["-o", &format!("loop,{options}"), &image.to_string_lossy()])
    }

    /// A folder with all of `below`, whose changes are kept in `changes`.
    pub fn overlay(at: &Path, below: &Path, changes: &Path) -> anyhow::Result<Self> {
        let (upper, work) = (changes.join("upper"), changes.join("work"));
        std::fs::create_dir_all(&upper)?;
        std::fs::create_dir_all(&work)?;
        let options = format!("lowerdir={},upperdir={},workdir={}", below.display(), upper.display(), work.display());
        Self::new(at, &["-t", "overlay", "-o", &options, "overlay"])
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    fn new(at: &Path, words: &[&str]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at)?;
        let at = at.canonicalize()?;
        run("mount", &[words, &[&at.to_string_lossy()]].concat())?;
        Ok(Self { at })
    }

    /// Bytes that may still be used.
    pub fn free(&self) -> anyhow::Result<u64> {
        let found = rustix::fs::statvfs(&self.at)?;
        Ok(found.f_bavail * found.f_frsize)
    }

    /// Somebody else's file, which leaves so many bytes; the space is free again when the file is removed.
    pub fn fill(&self, leave: u64) -> anyhow::Result<PathBuf> {
        let path = self.at.join("somebody-elses");
        let bytes = self.free()?.saturating_sub(leave);
        rustix::fs::fallocate(&File::create(&path)?, FallocateFlags::empty(), 0, bytes).context("cannot fill the disk")?;
        Ok(path)
    }

    /// What is mounted: for loop devices `/dev/loopN`.
    pub fn source(&self) -> anyhow::Result<String> {
        let mounts = procfs::process::Process::myself()?.mountinfo()?;
        let own = mounts.into_iter().rev().find(|mount| mount.mount_point == self.at);
        own.and_then(|mount| mount.mount_source).with_context(|| format!("nothing is mounted at {}", self.at.display()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazy: whoever still has files there keeps them.
        if let Err(error) = run("umount", &["-l", &self.at.to_string_lossy()]) {
            eprintln!("{} stays mounted: {error:#}", self.at.display());
        }
    }
}

/// Makes an image of an ext4 file system.
pub fn ext4_image(path: &Path, bytes: u64) -> anyhow::Result<()> {
    File::create(path)?.set_len(bytes)?;
    run("mkfs.ext4", &["-q", &path.to_string_lossy()])
}

fn run(program: &str, words: &[&str]) -> anyhow::Result<()> {
    let (code, out, err) = process::run(Path::new(program), words, Duration::from_secs(60))?;
    ensure!(code == Some(0), "{program} {} failed: {out}{err}", words.join(" "));
    Ok(())
}
