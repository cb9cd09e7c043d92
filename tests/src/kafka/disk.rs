//! A disk that can be filled up without harm to others.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::process;

/// A file system in memory, of limited size; dropping it takes it away.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Whether this process may mount at all.
    pub fn is_possible() -> bool {
        rustix::process::geteuid().is_root()
    }

    pub(super) fn mount(folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        let (size, target) = (format!("size={bytes}"), folder.to_string_lossy());
        let (code, _, err) = process::run(Path::new("mount"), &["-t", "tmpfs", "-o", &size, "tmpfs", &target], Duration::from_secs(10))?;
        ensure!(code == Some(0), "cannot mount a small disk: {err}");
        Ok(Self { folder: folder.to_owned() })
    }

    /// Leaves no byte free.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.ballast()).context("cannot fill the disk")?;
        // The last bytes fit only one by one.
        for piece in [&[0; 64 << 10][..], &[0; 1][..]] {
            loop {
                match file.write(piece) {
                    Ok(1..) => {}
                    Err(error) if error.kind() != ErrorKind::StorageFull => return Err(error).context("cannot fill the disk"),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Gives back what [`Self::fill`] took.
    pub fn clear(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.ballast()).context("the disk was not filled")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At once, whoever may still hold a file on it.
        let outcome = process::run(Path::new("umount"), &["--lazy", &self.folder.to_string_lossy()], Duration::from_secs(10));
        if !matches!(outcome, Ok((Some(0), ..))) {
            eprintln!("{} is still mounted: {outcome:?}", self.folder.display());
        }
    }
}
