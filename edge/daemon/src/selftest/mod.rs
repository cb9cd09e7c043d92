//! `openfactory-edge selftest`: whether a disk is a place for the log.
//!
//! It writes as the log writes, on a folder of its own that is removed afterwards, measures how long the disk takes to keep what it is given,
//! reads everything back, and looks at what lies underneath. A disk that says "kept" too early cannot be convicted while the power is on: what
//! looks like it is told with the reason, and [`plug`] is the proof.

mod events;
mod findings;
mod ground;
mod plug;
mod probe;
mod report;
mod trial;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use edge_buffer::storage::{Disk, Storage};
use service::signals::Signals;
use service::units::printed;
use tokio_util::sync::CancellationToken;

use crate::cli::{PowerCut, SelftestArgs};
use crate::selftest::ground::Ground;
use crate::selftest::report::Report;

/// What a group commit writes under light, usual and full load.
const GROUPS: [usize; 3] = [4 << 10, 64 << 10, 256 << 10];
/// Below this the log's own files would be most of it.
const LEAST: u64 = 16 << 20;

/// Tests the disk and prints what it found; an error if the log should not lie there.
pub(crate) fn run(args: &SelftestArgs) -> anyhow::Result<()> {
    ensure!(args.size >= LEAST, "--size must be at least {}", printed(LEAST));
    match args.power_cut {
        PowerCut { until: true, .. } => return plug::write(&args.dir, args.size),
        PowerCut { after: Some(promised), .. } => return plug::check(&args.dir, args.size, promised),
        PowerCut { .. } => {}
    }
    has_room(&args.dir, args.size)?;
    let stop = stopped_by_signals()?;
    let scratch = tempfile::Builder::new()
        .prefix("openfactory-selftest-")
        .tempdir_in(&args.dir)
        .with_context(|| format!("no folder can be made in {}", args.dir.display()))?;
    let ground = Ground::below(scratch.path());
    // Three sizes of commits, one long write, the log.
    let share = Duration::from_secs(args.seconds.into()) / 5;
    let probe = probe::Probe { file: scratch.path().join("probe"), size: args.size, time: share, stop: stop.clone() };
    let mut commits = Vec::new();
    for bytes in GROUPS {
        commits.push(probe.commits(bytes)?);
    }
    let rate = probe.rate()?;
    let log = trial::run(&scratch.path().join("log"), args.size, share, &stop)?;
    scratch.close().context("the test's own folder cannot be removed")?;
    let report = Report::new(&args.dir, ground, commits, rate, log);
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.text()? };
    service::output::print(&text).context("the report cannot be printed")?;
    let problems = report.problems();
    ensure!(problems == 0, "the log should not lie in {}: {problems} problem{}", args.dir.display(), if problems == 1 { "" } else { "s" });
    Ok(())
}

/// The test takes at most half of what is free: the disk may serve others.
fn has_room(dir: &Path, most: u64) -> anyhow::Result<()> {
    let free = Disk.free_space(dir).with_context(|| format!("cannot look at {}", dir.display()))?;
    ensure!(
        free / 2 >= most,
        "there is too little room in {}: {} are free, and the test takes {} and leaves as much: name less by --size",
        dir.display(),
        printed(free),
        printed(most)
    );
    Ok(())
}

/// Ctrl-C ends the test, not the process: its folder is to be removed.
fn stopped_by_signals() -> anyhow::Result<CancellationToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::install().context("signals cannot be taken over")?
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(signals.next());
        stopped.cancel();
    })?;
    Ok(stop)
}
