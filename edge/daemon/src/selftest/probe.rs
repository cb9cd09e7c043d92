//! How long the disk takes to keep what it is given.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use edge_buffer::storage::{Disk, Storage};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::selftest::events::scramble;

/// What the log writes at once at most.
const GROUP: usize = 4 << 20;
/// Too few commits say nothing about the slow ones.
const LEAST_COMMITS: usize = 20;

/// Writes a file as the log writes a segment: space reserved first, then from front to back, each write synced before the next.
pub(super) struct Probe {
    pub(super) file: PathBuf,
    pub(super) size: u64,
    pub(super) time: Duration,
    pub(super) stop: CancellationToken,
}

/// How long commits of one size took, in milliseconds: a write and its fdatasync.
#[derive(Debug, Serialize)]
pub(super) struct Commits {
    pub(super) bytes: usize,
    pub(super) count: usize,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

impl Commits {
    /// `times` must not be empty.
    pub(super) fn new(bytes: usize, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        let at =
            |part: f64| times.get((times.len() as f64 * part) as usize).or(times.get(last)).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        Self { bytes, count: times.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max: at(1.0) }
    }
}

impl Probe {
    /// Commits of one size, one after the other, until the time is over.
    pub(super) fn commits(&self, bytes: usize) -> anyhow::Result<Commits> {
        let mut times = Vec::new();
        let end = Instant::now() + self.time;
        while Instant::now() < end || times.len() < LEAST_COMMITS {
            // New space each time: writing over old space is less work for most file systems.
            self.write_through(bytes, |took| {
                times.push(took);
                Instant::now() < end || times.len() < LEAST_COMMITS
            })?;
        }
        Ok(Commits::new(bytes, times))
    }

    /// Bytes a second, written in a row and synced as a busy log does.
    pub(super) fn rate(&self) -> anyhow::Result<f64> {
        let (mut written, mut total) = (0, Duration::ZERO);
        while total < self.time {
            self.write_through(GROUP, |took| {
                total += took;
                written += GROUP;
                total < self.time
            })?;
        }
        Ok(written as f64 / total.as_secs_f64())
    }

    /// Fills the file once, as long as `goes_on` says so of each commit.
    fn write_through(&self, bytes: usize, mut goes_on: impl FnMut(Duration) -> bool) -> anyhow::Result<()> {
        let failed = || format!("writing {} failed", self.file.display());
        let file = Disk.create(&self.file).and_then(|file| file.allocate(self.size).map(|()| file)).with_context(failed)?;
        let mut data = vec![0; bytes];
        for offset in (0..self.size - bytes as u64 + 1).step_by(bytes) {
            ensure!(!self.stop.is_cancelled(), "stopped");
            // Nothing that a disk could compress or find to be the same as before.
            for (at, chunk) in data.chunks_exact_mut(8).enumerate() {
                chunk.copy_from_slice(&scramble(offset ^ (at as u64) << 40).to_le_bytes());
            }
            let began = Instant::now();
            file.write_at(&data, offset).and_then(|()| file.sync_data()).with_context(failed)?;
            if !goes_on(began.elapsed()) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Commits;

    #[test]
    fn percentiles_are_the_times_that_so_many_commits_did_not_exceed() {
        let commits = Commits::new(4096, (1..=1000).rev().map(Duration::from_millis).collect());
        assert_eq!((commits.count, commits.p50, commits.p99_9, commits.max), (1000, 501.0, 1000.0, 1000.0));
        let one = Commits::new(4096, vec![Duration::from_millis(7)]);
        assert_eq!((one.p50, one.p99, one.max), (7.0, 7.0, 7.0));
    }
}
