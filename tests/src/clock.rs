//! Wrong clocks: a small library (`tests/clock/clock.c`) between one program and the kernel's clock.
//!
//! libfaketime was tried first: with a constant offset, threads of librdkafka that wait for a moment of the wall clock never woke up.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::{process, tools};

const COMPILE: Duration = Duration::from_secs(60);

/// A clock that is off, for one program; it can be set while the program runs.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is ahead by so many seconds, or behind; its files stand in `folder` under `name`.
    pub fn new(folder: &Path, name: &str, ahead: i64) -> anyhow::Result<Self> {
        let (library, file) = (folder.join(format!("{name}-clock.so")), folder.join(format!("{name}.clock")));
        let (source, target) = (tools::tests_folder().join("clock/clock.c"), library.to_string_lossy().into_owned());
        let arguments = ["-shared", "-fPIC", "-O2", "-o", &target, &source.to_string_lossy()];
        let (code, _, err) = process::run(Path::new("cc"), &arguments, COMPILE)?;
        ensure!(code == Some(0), "cc cannot compile {}: {err}", source.display());
        std::fs::write(&file, ahead.to_ne_bytes()).context("cannot make the clock's file")?;
        Ok(Self { library, file })
    }

    /// Steps it.
    pub fn set(&self, ahead: i64) -> anyhow::Result<()> {
        // In place: the program has the file mapped.
        let file = std::fs::OpenOptions::new().write(true).open(&self.file)?;
        file.write_all_at(&ahead.to_ne_bytes(), 0).context("cannot set the clock")
    }

    /// What the program needs in its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let word = |path: &Path| path.to_string_lossy().into_owned();
        vec![("LD_PRELOAD", word(&self.library)), ("OPENFACTORY_CLOCK", word(&self.file))]
    }
}
