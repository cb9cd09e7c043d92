//! The proof: writing until somebody pulls the plug, and looking afterwards whether everything is there that the disk promised to keep.
//!
//! What was promised must be seen on another machine: numbers are printed as they become durable, to be watched over ssh.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use edge_buffer::{Cursor, WhenFull};

use crate::selftest::events::{event, verify};
use crate::selftest::{has_room, trial};

/// How often it says what is durable.
const SAY_EVERY: Duration = Duration::from_millis(100);
/// Events that are handed over at once.
const BATCH: u64 = 100;

fn folder(dir: &Path) -> PathBuf {
    dir.join("openfactory-power-test")
}

/// Writes, and says what is durable, until the power goes.
pub(super) fn write(dir: &Path, size: u64) -> anyhow::Result<()> {
    let folder = folder(dir);
    ensure!(
        !folder.exists(),
        "{} is there already: ask for its test with --after-power-cut N, or remove it to begin another",
        folder.display()
    );
    has_room(dir, size)?;
    let log = edge_buffer::open(trial::config(&folder, size, WhenFull::DropOldest)).context("no log can be made")?.log;
    let mut out = std::io::stdout().lock();
    writeln!(out, "Pull the plug when you like, and remember the last number that you saw. When the power is back:")?;
    writeln!(out, "  openfactory-edge selftest --dir {} --after-power-cut NUMBER", dir.display())?;
    let mut said = Instant::now();
    let mut next = 1;
    loop {
        log.append((next..next + BATCH).map(event).collect(), drop)?;
        next += BATCH;
        if said.elapsed() < SAY_EVERY {
            continue;
        }
        said = Instant::now();
        let durable = log.durable();
        writeln!(out, "durable {durable}").and_then(|()| out.flush()).context("nobody reads the numbers any more")?;
        if let edge_buffer::Health::Full(why) | edge_buffer::Health::Failing(why) = log.health() {
            bail!("the disk takes no more: {why}");
        }
        // Old segments may go then: the test does not grow.
        log.keep_cursor(Cursor::MIRROR, Cursor { sequence: durable, note: Vec::new() })?;
    }
}

/// Says whether everything up to `promised` is there; then the test's folder goes.
pub(super) fn check(dir: &Path, size: u64, promised: u64) -> anyhow::Result<()> {
    let folder = folder(dir);
    ensure!(
        folder.exists(),
        "{} is not there: the test begins with --until-power-cut. If it had begun, the disk has lost even that",
        folder.display()
    );
    let opened = edge_buffer::open(trial::config(&folder, size, WhenFull::DropOldest)).context("the log cannot be opened")?;
    let (log, recovery) = (opened.log, opened.recovery);
    let durable = log.durable();
    let mut wrong = Vec::new();
    if durable < promised {
        wrong.push(format!("it promised to keep {promised} events, and has {durable}"));
    }
    wrong.extend(
        recovery.losses.iter().map(|loss| format!("events {} to {} were kept and are damaged: {}", loss.first, loss.last, loss.detail)),
    );
    if let Err(problem) = verify(&log)? {
        wrong.push(problem);
    }
    drop(log);
    if !wrong.is_empty() {
        bail!(
            "this disk, or something between it and the file system, lied: {}\nWhat is there stays in {} for whoever asks",
            wrong.join("; "),
            folder.display()
        );
    }
    service::output::print(&format!(
        "Everything up to {promised} is there, unchanged, and {} more that were durable before the power went. The disk kept its promise this time; a few more cuts make it a proof\n",
        durable - promised
    ))?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))
}
