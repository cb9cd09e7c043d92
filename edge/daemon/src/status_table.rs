//! `openfactory-edge status`: the picture for people, or as JSON.

use std::fmt::Write;
use std::io::BufRead;
use std::path::Path;

use anyhow::Context;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use service::units::printed;

use crate::cli::StatusArgs;
use crate::socket::{Request, ask};
use crate::status::{LogStatus, MirrorStatus, Outcome, Status};

/// Asks the running edge and prints what it says.
pub(crate) fn run(config: &Path, args: &StatusArgs) -> anyhow::Result<()> {
    let socket = crate::check::socket_of(config)?;
    let mut line = String::new();
    let answered = ask(&socket, &Request::Status {})?.read_line(&mut line);
    answered.context("the edge took the question and does not answer; does it hang? systemctl status openfactory-edge")?;
    let status: Status = serde_json::from_str(&line).context("the edge's answer cannot be read; is it another version?")?;
    let text = if args.json { serde_json::to_string_pretty(&status)? + "\n" } else { table(&status)? };
    service::output::print(&text).context("the status cannot be printed")
}

fn table(status: &Status) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    writeln!(out, "edge {} ({}), version {}, running since {}", status.edge, status.asset, status.version, status.started)?;
    let events = &status.events;
    writeln!(out, "events    {} accepted, {} durable, {} refused since the start", events.accepted, events.durable, events.refused)?;
    writeln!(out, "log       {}", log_line(&status.log))?;
    match &status.mirror {
        Some(mirror) => print_mirror(out, mirror)?,
        None => writeln!(out, "mirror    no [kafka] section: the edge collects and keeps, nothing is sent")?,
    }
    if let Some(commands) = &status.commands {
        writeln!(out, "commands  {}", commands_line(commands))?;
    }
    if let Some(reload) = &status.reload {
        let came = match reload.outcome {
            Outcome::Done => "done",
            Outcome::Incomplete => "INCOMPLETE",
            Outcome::Refused => "REFUSED, the config before it is still at work",
        };
        writeln!(out, "reload    {} {came}: {}", reload.at, reload.told.join("\n          "))?;
    }
    if status.devices.is_empty() {
        writeln!(out, "devices   none configured")?;
        return Ok(text);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["device", "asset", "protocol", "state", "since", "samples", "gaps", "no value"]);
    for device in &status.devices {
        let since = device.since.clone().unwrap_or_default();
        let (samples, gaps) = (device.samples.to_string(), device.gaps.to_string());
        let without_value = if device.without_value == 0 { String::new() } else { device.without_value.to_string() };
        table.add_row([&device.name, &device.asset, &device.protocol, &device.state, &since, &samples, &gaps, &without_value]);
    }
    for number in [5, 6, 7] {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{}", table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n"))?;
    for device in &status.devices {
        if let Some(first) = device.first_without_value.as_ref().filter(|_| device.state == "connected") {
            let more = if device.without_value > 1 { format!(", and {} more", device.without_value - 1) } else { String::new() };
            writeln!(out, "{}, no value of {first}{more}; all of them: openfactory-edge check-config --online", device.name)?;
        }
        if let (Some(error), Some(at)) = (&device.last_error, &device.last_error_at) {
            writeln!(out, "{}, last error at {at}: {error}", device.name)?;
        }
    }
    Ok(text)
}

fn commands_line(commands: &crate::commands::Status) -> String {
    let of = |state: &str| commands.steps.get(state).copied().unwrap_or_default();
    let ends: Vec<String> =
        ["succeeded", "failed", "rejected", "expired", "unknown"].iter().map(|state| format!("{} {state}", of(state))).collect();
    let mut line = format!("{}, {} waiting; {} since the start", commands.state, commands.waiting, ends.join(", "));
    if commands.missed > 0 {
        line.push_str(&format!("\n          {} times, the topic did not have any more what was to be read next", commands.missed));
    }
    if !commands.detail.is_empty() {
        line.push_str(&format!("\n          {}", commands.detail));
    }
    line
}

fn log_line(log: &LogStatus) -> String {
    let held = if log.first == 0 { "empty".into() } else { format!("events {} to {}", log.first, log.durable) };
    let (bytes, most, segments, epoch) = (printed(log.bytes), printed(log.max_bytes), log.segments, log.epoch);
    let mut line = format!("{held}, {bytes} of {most} in {segments} segment{}, epoch {epoch}", if segments == 1 { "" } else { "s" });
    if log.dropped + log.damaged > 0 {
        line.push_str(&format!("\n          {} events dropped because the log was full, {} damaged", log.dropped, log.damaged));
    }
    if log.quarantine_bytes > 0 {
        line.push_str(&format!("\n          {} of damaged bytes in quarantine", printed(log.quarantine_bytes)));
    }
    if log.losses > 0 {
        line.push_str(&format!("\n          {} losses to be told by gap events (when the mirror comes to the place)", log.losses));
    }
    if let Some(failure) = &log.failure {
        line.push_str(&format!("\n          FAILING: {failure}"));
    }
    line
}

fn backlog(mirror: &MirrorStatus) -> String {
    let events = mirror.backlog;
    let (Some(oldest), Some(seconds)) = (&mirror.oldest_unsent, mirror.backlog_seconds) else { return format!("{events} events") };
    let end = match mirror.eta_seconds {
        Some(eta) => format!("caught up in about {}", span(eta)),
        None => "not getting smaller".into(),
    };
    format!("{events} events, {}; the oldest is {} old ({oldest}); {end}", printed(mirror.backlog_bytes), span(seconds as u64))
}

/// A time for people.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn print_mirror(out: &mut String, mirror: &MirrorStatus) -> std::fmt::Result {
    // Right after a start there is nothing to say yet.
    let detail = if mirror.detail.is_empty() { "asking Kafka" } else { &mirror.detail };
    writeln!(out, "mirror    {}: {detail}", mirror.state)?;
    writeln!(out, "          acknowledged up to {}, {:.0} events/s", mirror.acknowledged, mirror.rate)?;
    writeln!(out, "backlog   {}", backlog(mirror))?;
    if mirror.refused + mirror.resent > 0 {
        writeln!(out, "          {} refused by Kafka (see gap events), {} sent again after doubt", mirror.refused, mirror.resent)?;
    }
    if mirror.holes + mirror.repeats > 0 {
        writeln!(
            out,
            "          {} events were missing behind later ones, {} stood twice: does another box use this edge's id?",
            mirror.holes, mirror.repeats
        )?;
    }
    if mirror.changes > 0 {
        writeln!(out, "          the topic was not what it had been, {} times; see the journal", mirror.changes)?;
    }
    if let Some(error) = &mirror.last_error {
        let over = if mirror.state == "mirroring" { ", which is over" } else { "" };
        writeln!(out, "          last error{over}: {error}")?;
    }
    Ok(())
}
