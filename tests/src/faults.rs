//! A disk that fails on demand: reads, writes and syncs of a program get errors, as `faults.c` describes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::io::Errno;

use crate::process;
use crate::tools::tests_folder;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reading at an offset.
    Read,
    /// Writing at an offset.
    Write,
    /// Making durable.
    Sync,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "pread64",
            Self::Write => "pwrite64",
            Self::Sync => "fdatasync",
        }
    }
}

/// Faults for one program.
#[derive(Debug)]
pub struct Faults {
    program: PathBuf,
    rules: PathBuf,
}

impl Faults {
    /// Compiles what stands between program and kernel, below `folder`.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let (program, rules) = (folder.join("faults"), folder.join("faults.d"));
        std::fs::create_dir(&rules)?;
        let source = tests_folder().join("src/faults.c");
        let words = ["-Wall", "-Werror", "-O1", "-o", &program.to_string_lossy(), &source.to_string_lossy()];
        let (code, _, said) = process::run(Path::new("cc"), &words, Duration::from_secs(60))?;
        ensure!(code == Some(0), "cc cannot compile {}: {said}", source.display());
        Ok(Self { program, rules })
    }

    /// What has to stand before a program's name.
    pub fn wrapper(&self) -> Vec<String> {
        [&self.program, &self.rules].map(|path| path.to_string_lossy().into_owned()).to_vec()
    }

    /// From now on, the call fails with this error on files with `part` in their path.
    pub fn set(&self, call: Call, error: Errno, part: &str) -> anyhow::Result<()> {
        std::fs::write(self.rules.join(call.name()), format!("{} {part}", error.raw_os_error())).context("cannot set a fault")
    }

    /// From now on, the call does what it should.
    pub fn clear(&self, call: Call) -> anyhow::Result<()> {
        match std::fs::remove_file(self.rules.join(call.name())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot clear a fault"),
            _ => Ok(()),
        }
    }
}
