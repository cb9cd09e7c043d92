//! `log repair`: damage becomes something that the log knows.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use edge_buffer::{Config, Inspection};

use super::sentence;
use super::verify::read;
use crate::cli::RepairArgs;

pub(crate) fn run(dir: &Path, args: &RepairArgs) -> anyhow::Result<ExitCode> {
    let before = edge_buffer::inspect(dir)?;
    let (damage, _) = read(&before)?;
    let damage: Vec<_> = damage.iter().filter(|damage| !damage.is_known).collect();
    if damage.is_empty() {
        service::output::print(&format!("the log in {} has no damage that it does not know: there is nothing to repair\n", dir.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text: String = damage.iter().map(|damage| sentence(damage) + "\n").collect();
    if args.dry_run {
        text += "nothing was changed; without --dry-run the bytes go into quarantine, and gap events tell the losses at the next start\n";
        service::output::print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    owned_by_us(dir)?;
    // As large as the segments that are there: the config need not be at hand.
    let defaults = Config::default();
    let largest = before.segments.iter().map(|segment| segment.bytes).max().unwrap_or(defaults.segment_bytes);
    let segment_bytes = largest.clamp(Config::MIN_SEGMENT_BYTES, 1 << 32);
    let recovery = edge_buffer::repair(Config { dir: dir.to_owned(), segment_bytes, ..defaults })
        .context("the log cannot be repaired; while the edge runs: systemctl stop openfactory-edge")?;
    let after = edge_buffer::inspect(dir)?;
    for note in &recovery.notes {
        text += &format!("{note}\n");
    }
    text += &done(&before, &after);
    service::output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What is otherwise than before.
fn done(before: &Inspection, after: &Inspection) -> String {
    let mut text = String::new();
    for (file, bytes) in after.quarantine.iter().filter(|file| !before.quarantine.contains(file)) {
        text += &format!("quarantined {bytes} bytes: {}\n", after.dir.join("quarantine").join(file).display());
    }
    for loss in after.losses.iter().filter(|loss| !before.losses.contains(loss)) {
        let count = loss.count.map_or_else(|| "an unknown number".into(), |count| count.to_string());
        text += &format!("noted: {count} of the events {} to {} are lost: {}\n", loss.first, loss.last, loss.detail);
    }
    if after.epoch != before.epoch {
        text += &format!("nothing could be read: a new epoch begins, {}\n", after.epoch);
    }
    text + "the log is repaired; start the edge: systemctl start openfactory-edge\n"
}

/// Files that another user makes here could not be opened by the edge.
fn owned_by_us(dir: &Path) -> anyhow::Result<()> {
    let owner = fs::metadata(dir).with_context(|| format!("{} cannot be looked at", dir.display()))?.uid();
    let us = fs::metadata("/proc/self").context("who runs this cannot be seen in /proc")?.uid();
    if owner != us {
        bail!(
            "{} belongs to the user {owner}, whom the edge runs as, and this is run by {us}: type sudo -u '#{owner}' openfactory-edge log repair",
            dir.display()
        );
    }
    Ok(())
}
