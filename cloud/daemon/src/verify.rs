//! `openfactory-cloud verify`: asks for the proof, shows how far it is, and prints it.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Context;
use cloud_verify::{Progress, Report, Request, Scope};

use crate::cli::VerifyArgs;

/// Between two pictures of the progress.
const SHOW_AGAIN: Duration = Duration::from_millis(200);

/// Reads the topic, prints what it proves, and returns it.
pub(crate) fn run(kafka: &service::kafka::Config, arguments: &VerifyArgs) -> anyhow::Result<Report> {
    let VerifyArgs { edge, asset, from, to, topic, json } = arguments;
    let request = Request { topic: topic.clone(), scope: Scope { edge: edge.clone(), asset: asset.clone() }, from: *from, to: *to };
    let mut line = Line::default();
    let report = cloud_verify::verify(kafka, &request, |progress| line.show(progress));
    line.clear();
    let report = report?;
    let text = if *json { serde_json::to_string_pretty(&report)? + "\n" } else { report.to_string() };
    service::output::print(&text).context("the report cannot be printed")?;
    Ok(report)
}

/// The progress, on a terminal.
pub(crate) struct Line {
    begun: Instant,
    shown: Option<Instant>,
    is_wanted: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { begun: Instant::now(), shown: None, is_wanted: std::io::stderr().is_terminal() }
    }
}

impl Line {
    pub(crate) fn show(&mut self, Progress { read, all }: Progress) {
        // The clock is not asked for each record.
        if !self.is_wanted || !read.is_multiple_of(1024) || self.shown.is_some_and(|shown| shown.elapsed() < SHOW_AGAIN) {
            return;
        }
        self.shown = Some(Instant::now());
        let rate = read as f64 / self.begun.elapsed().as_secs_f64();
        eprint!("\r{read} of about {all} records, {rate:.0} a second\x1b[K");
    }

    pub(crate) fn clear(&self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
