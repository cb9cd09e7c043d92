//! The report: facts, what they mean, and what to do.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use service::units::printed;

use crate::selftest::findings::{self, Finding, Level};
use crate::selftest::ground::{Device, Ground, Kind};
use crate::selftest::probe::Commits;
use crate::selftest::trial::Trial;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    dir: PathBuf,
    ground: Ground,
    commits: Vec<Commits>,
    bytes_per_second: f64,
    log: Trial,
    /// How long an event waits until it is durable, in milliseconds: usually, and at the slowest commit that was seen.
    usual_delay: f64,
    worst_delay: f64,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(dir: &Path, ground: Ground, commits: Vec<Commits>, bytes_per_second: f64, log: Trial) -> Self {
        let linger = edge_buffer::Config::default().linger;
        // An event waits for others, then for the commit that is under way, then for its own.
        let delay = |commit: f64| Duration::as_secs_f64(&linger) * 1e3 + 2.0 * commit;
        let usual_delay = delay(commits.iter().map(|commits| commits.p50).fold(0.0, f64::max));
        let worst_delay = delay(commits.iter().map(|commits| commits.max).fold(0.0, f64::max));
        let findings = findings::find(&ground, &commits, &log);
        Self { dir: dir.to_owned(), ground, commits, bytes_per_second, log, usual_delay, worst_delay, findings }
    }

    /// How many reasons there are to put the log elsewhere.
    pub(super) fn problems(&self) -> usize {
        self.findings.iter().filter(|finding| finding.level == Level::Problem).count()
    }

    /// The report for people.
    pub(super) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let out = &mut text;
        let Ground { file_system, source, mounted_at, options, devices } = &self.ground;
        writeln!(out, "folder      {}", self.dir.display())?;
        writeln!(out, "underneath  {file_system} on {source}, mounted at {} ({})", mounted_at.display(), options.join(","))?;
        for device in devices {
            writeln!(out, "            {}", describe(device))?;
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["commits of", "number", "p50", "p90", "p99", "p99.9", "slowest"]);
        for Commits { bytes, count, p50, p90, p99, p99_9, max } in &self.commits {
            let times =
                [p50, p90, p99, p99_9, max].map(|time| if *time < 1.0 { format!("{:.0} µs", time * 1e3) } else { format!("{time:.2} ms") });
            table.add_row([&[printed(*bytes as u64), count.to_string()][..], &times].concat());
        }
        table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        writeln!(out, "commits     a write and its fdatasync, as the log does them\n{}", indented(&table.to_string()))?;
        writeln!(out, "in a row    {}/s", printed(self.bytes_per_second as u64))?;
        writeln!(
            out,
            "log         {:.0} events/s of about 200 bytes become durable; an event waits {:.1} ms for that, at the slowest commit {:.1} ms",
            self.log.events_per_second, self.usual_delay, self.worst_delay
        )?;
        let bytes = printed(self.log.bytes);
        let from = match self.log.bytes_from_disk {
            Some(read) if read >= self.log.bytes => format!("{bytes}, from the disk"),
            Some(read) => format!("{bytes}, of which {} came from the disk and the rest from memory", printed(read)),
            None => format!("{bytes}, from the disk or from memory"),
        };
        let state = if self.log.wrong.is_none() { "all as they were written" } else { "NOT as they were written" };
        writeln!(out, "read back   {} events, {state}; {from}", self.log.events)?;
        writeln!(out)?;
        for Finding { level, text } in &self.findings {
            let word = if *level == Level::Problem { "PROBLEM" } else { "note" };
            writeln!(out, "{word:<12}{text}")?;
        }
        if self.problems() == 0 {
            writeln!(out, "verdict     nothing speaks against this disk. The proof is to pull the plug:")?;
            writeln!(out, "            openfactory-edge selftest --dir {} --until-power-cut", self.dir.display())?;
        }
        Ok(text)
    }
}

fn describe(device: &Device) -> String {
    let kind = match device.kind {
        Kind::Rotating => "a rotating disk",
        Kind::Flash => "flash, or a controller that looks like it",
        Kind::Card => "a card or eMMC",
        Kind::Virtual => "a disk of a virtual machine",
        Kind::Stacked => "made of the devices below",
        Kind::Loop => "a file",
        Kind::Memory => "memory",
        Kind::Unknown => "unknown",
    };
    let mut text = format!("{}: {kind}", device.name);
    if let Some(model) = &device.model {
        text.push_str(&format!(", {model}"));
    }
    if let Some(cache) = &device.write_cache {
        text.push_str(&format!(", write cache: {cache}"));
    }
    if device.is_removable {
        text.push_str(", removable");
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("           {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}
