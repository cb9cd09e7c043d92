//! The log itself on this disk: how fast it is, and whether it reads back what it wrote.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use edge_buffer::{Appended, Config, WhenFull};
use rustix::fs::Advice;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::selftest::events::{event, verify};

/// Events that are handed over at once.
const BATCH: u64 = 500;

/// What the log did.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    pub(super) events: u64,
    pub(super) events_per_second: f64,
    /// Bytes of the log's files.
    pub(super) bytes: u64,
    /// How many of them the kernel fetched from a disk when everything was read back; unknown where it does not tell.
    pub(super) bytes_from_disk: Option<u64>,
    /// What was found wrong when everything was read back.
    pub(super) wrong: Option<String>,
}

/// A log that takes at most `size` bytes.
pub(super) fn config(dir: &Path, size: u64, when_full: WhenFull) -> Config {
    Config {
        dir: dir.to_owned(),
        segment_bytes: (size / 8).clamp(1 << 20, 64 << 20),
        max_bytes: size,
        retain_bytes: size / 2,
        min_free: 0,
        when_full,
        ..Config::default()
    }
}

/// Writes events as fast as the disk takes them, until the time is over or the space is full; then reads them from the disk.
pub(super) fn run(dir: &Path, size: u64, time: Duration, stop: &CancellationToken) -> anyhow::Result<Trial> {
    let log = edge_buffer::open(config(dir, size, WhenFull::RefuseNew)).context("no log can be made")?.log;
    let is_full = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let mut next = 1;
    while began.elapsed() < time && !is_full.load(Ordering::Relaxed) {
        ensure!(!stop.is_cancelled(), "stopped");
        let full = is_full.clone();
        let done = move |outcome| {
            if matches!(outcome, Appended::Refused { .. }) {
                full.store(true, Ordering::Relaxed);
            }
        };
        log.append((next..next + BATCH).map(event).collect(), done)?;
        next += BATCH;
    }
    let handle = log.clone();
    log.close().context("the log cannot be closed")?;
    let (events, took, bytes) = (handle.durable(), began.elapsed(), handle.stats().stored_bytes);
    drop(handle);

    let before = bytes_read();
    forget_pages(dir)?;
    let log = edge_buffer::open(config(dir, size, WhenFull::RefuseNew)).context("the log cannot be opened again")?.log;
    let wrong = match verify(&log)? {
        Ok(found) if found == events => None,
        Ok(found) => Some(format!("{events} events were durable, {found} are there")),
        Err(wrong) => Some(wrong),
    };
    let bytes_from_disk = before.zip(bytes_read()).map(|(before, after)| after - before);
    Ok(Trial { events, events_per_second: events as f64 / took.as_secs_f64(), bytes, bytes_from_disk, wrong })
}

/// Asks the kernel to forget what it remembers of the files in a folder: they are read from the disk then.
pub(super) fn forget_pages(dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() {
            rustix::fs::fadvise(std::fs::File::open(&path)?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// What this process has read from disks so far, if the kernel tells.
fn bytes_read() -> Option<u64> {
    procfs::process::Process::myself().and_then(|process| process.io()).ok().map(|io| io.read_bytes)
}
