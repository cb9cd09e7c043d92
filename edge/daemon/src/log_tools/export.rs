//! `log export`: events copied out of the log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use edge_buffer::{Damage, Inspection, Seen, Stored};

use super::columns::Columns;
use super::json_lines::JsonLines;
use super::progress::Progress;
use super::sentence;
use crate::cli::{ExportArgs, Format};

pub(crate) fn run(dir: &Path, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let log = edge_buffer::inspect(dir)?;
    let exported = match &args.output {
        None => export(&log, args, io::stdout()),
        Some(path) => to_file(&log, args, path),
    };
    let (events, damage) = match exported {
        // `export | head` is an ordinary way to end.
        Err(error) if error.root_cause().downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            return Ok(ExitCode::SUCCESS);
        }
        exported => exported?,
    };
    for damage in &damage {
        eprintln!("{}", sentence(damage));
    }
    eprintln!("{events} event{} exported", if events == 1 { "" } else { "s" });
    Ok(if damage.iter().all(|damage| damage.is_known) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file that has its name when it is whole.
fn to_file(log: &Inspection, args: &ExportArgs, path: &Path) -> anyhow::Result<(u64, Vec<Damage>)> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let unfinished = Unfinished(PathBuf::from(name));
    let file = File::create(&unfinished.0).with_context(|| format!("{} cannot be made", unfinished.0.display()))?;
    let done = export(log, args, &file).with_context(|| format!("{} cannot be written", path.display()))?;
    file.sync_all().with_context(|| format!("{} cannot be written", path.display()))?;
    fs::rename(&unfinished.0, path).with_context(|| format!("{} cannot be renamed to {}", unfinished.0.display(), path.display()))?;
    Ok(done)
}

/// Removed unless it got its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

enum Sink<W: Write + Send> {
    Lines(JsonLines<W>),
    Columns(Box<Columns<W>>),
}

/// Writes what is wanted to `out`; how many events, and what damage was passed on the way.
fn export<W: Write + Send>(log: &Inspection, args: &ExportArgs, out: W) -> anyhow::Result<(u64, Vec<Damage>)> {
    let mut sink = match args.format {
        Format::Jsonl => Sink::Lines(JsonLines::new(out, log.epoch)),
        Format::Parquet => Sink::Columns(Box::new(Columns::new(out, log.epoch)?)),
    };
    let mut progress = Progress::new("exporting", log);
    let (mut events, mut found) = (0, Vec::new());
    log.read(|seen| {
        let block = match seen {
            Seen::Block(block) => block,
            Seen::Damage(damage) => {
                found.push(damage);
                return Ok(());
            }
        };
        progress.at(&block);
        for stored in block.entries().filter(|stored| is_wanted(args, stored)) {
            match &mut sink {
                Sink::Lines(lines) => lines.write(&stored)?,
                Sink::Columns(columns) => columns.write(&stored)?,
            }
            events += 1;
        }
        anyhow::Ok(())
    })?;
    match sink {
        Sink::Lines(lines) => lines.finish()?,
        Sink::Columns(columns) => columns.finish()?,
    }
    Ok((events, found))
}

fn is_wanted(args: &ExportArgs, stored: &Stored) -> bool {
    (args.asset.is_empty() || args.asset.iter().any(|asset| **asset == *stored.key))
        && args.from.as_ref().is_none_or(|from| stored.timestamp >= from.millis)
        && args.to.as_ref().is_none_or(|to| stored.timestamp < to.millis)
}
