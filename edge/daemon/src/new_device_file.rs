//! Writing a device file of what was found, for a person to prune.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, ensure};
use asset_stream::device_file::validate_asset;

/// What is to be done with it.
pub(crate) const NEXT: &str = "prune it, then: openfactory-edge check-config --online && systemctl reload openfactory-edge";

/// Whether such a file can be made: to be asked before a long look.
pub(crate) fn check(file: &Path, asset: &str) -> anyhow::Result<()> {
    validate_asset(asset).map_err(|problem| anyhow::anyhow!("--asset: {asset:?} {problem}"))?;
    ensure!(!file.exists(), "{} is there already; name another file, or move it away", file.display());
    Ok(())
}

/// Writes it, readable for the edge.
pub(crate) fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut made = create_for_the_edge(file).with_context(|| format!("{} cannot be made", file.display()))?;
    made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).with_context(|| format!("{} cannot be written", file.display()))
}

/// Made by root with whatever umask, it must be readable for the edge: its folder's group.
fn create_for_the_edge(file: &Path) -> std::io::Result<File> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(group) = std::fs::metadata(folder).map(|folder| folder.gid()) {
        // Who may not give it away has a folder of his own.
        std::os::unix::fs::fchown(&made, None, Some(group)).ok();
    }
    Ok(made)
}
