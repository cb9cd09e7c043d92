//! `log inspect`: what stands in the log's files.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use asset_stream::Timestamp;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use edge_buffer::{Inspection, Loss, LossReason, Segment};
use serde_json::{Value as Json, json};
use service::units::printed;

use crate::cli::InspectArgs;

pub(crate) fn run(dir: &Path, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let log = edge_buffer::inspect(dir)?;
    let text = if args.json { serde_json::to_string_pretty(&json(&log))? + "\n" } else { table(&log)? };
    service::output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn table(log: &Inspection) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    writeln!(out, "log         {}", log.dir.display())?;
    writeln!(out, "epoch       {}, begun {}; format {}", log.epoch, time(log.epoch as i64), log.version)?;
    let sum = |of: fn(&Segment) -> u64| log.segments.iter().map(of).sum::<u64>();
    let (events, used, bytes) = (sum(|s| s.entries), printed(sum(|s| s.used)), printed(sum(|s| s.bytes)));
    match log.segments.first() {
        Some(oldest) if events > 0 => writeln!(out, "events      {events}: {} to {}; {used} of {bytes} reserved", oldest.first, log.last)?,
        _ => writeln!(out, "events      none; {bytes} reserved")?,
    }
    if log.removed > 0 {
        writeln!(out, "removed     1 to {}, as the config wants it", log.removed)?;
    }
    for (name, cursor) in &log.cursors {
        writeln!(out, "cursor      {name} at {}, {} behind", cursor.sequence, log.last.saturating_sub(cursor.sequence))?;
    }
    for loss in &log.losses {
        let count = loss.count.map_or_else(|| "nobody knows how many".into(), |count| count.to_string());
        let range = if loss.first > 0 { format!(" of {} to {}", loss.first, loss.last) } else { String::new() };
        writeln!(out, "untold loss {count}{range}, {}: {}", reason(loss), loss.detail)?;
    }
    for (name, bytes) in &log.quarantine {
        writeln!(out, "quarantine  {name}, {}", printed(*bytes))?;
    }
    for (file, what) in &log.harmed {
        writeln!(out, "DAMAGED     {file}: {what}")?;
    }
    for Segment { first, harmed_at, .. } in &log.segments {
        if let Some(at) = harmed_at {
            writeln!(out, "DAMAGED     segment {first} from byte {at} on; `openfactory-edge log verify` says what that costs")?;
        }
    }
    if !log.segments.is_empty() {
        writeln!(out, "\n{}", segments(&log.segments))?;
    }
    writeln!(out, "Only headers were read; `openfactory-edge log verify` reads all {used}.")?;
    Ok(text)
}

fn segments(segments: &[Segment]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["segment", "last", "blocks", "used", "reserved", "oldest (UTC)", "newest (UTC)"]);
    for segment in segments {
        let times = segment.times.map(|(oldest, newest)| (short(oldest), short(newest))).unwrap_or_default();
        let numbers = [segment.first, segment.last, segment.blocks].map(|number| number.to_string());
        let [first, last, blocks] = numbers;
        table.add_row([first, last, blocks, printed(segment.used), printed(segment.bytes), times.0, times.1]);
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if number < 5 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn time(millis: i64) -> String {
    Timestamp::from_millis(millis).to_string()
}

/// Month to second: the table has to fit into 80 columns.
fn short(millis: i64) -> String {
    time(millis)[5..19].replace('T', " ")
}

fn reason(loss: &Loss) -> &'static str {
    match loss.reason {
        LossReason::DroppedOldest => "dropped",
        LossReason::Damaged => "damaged",
        LossReason::Refused => "refused",
    }
}

fn json(log: &Inspection) -> Json {
    let segment = |segment: &Segment| {
        json!({
            "first": segment.first,
            "last": segment.last,
            "bytes": segment.bytes,
            "used_bytes": segment.used,
            "blocks": segment.blocks,
            "events": segment.entries,
            "oldest": segment.times.map(|(oldest, _)| time(oldest)),
            "newest": segment.times.map(|(_, newest)| time(newest)),
            "damaged_at": segment.harmed_at,
        })
    };
    let loss = |loss: &Loss| {
        json!({
            "reason": reason(loss),
            "first": loss.first,
            "last": loss.last,
            "count": loss.count,
            "from": time(loss.from),
            "to": time(loss.to),
            "detail": loss.detail,
        })
    };
    let lag = |sequence: u64| log.last.saturating_sub(sequence);
    let cursors = log.cursors.iter().map(|(name, cursor)| json!({"name": name, "sequence": cursor.sequence, "lag": lag(cursor.sequence)}));
    json!({
        "dir": log.dir,
        "epoch": log.epoch,
        "format": log.version,
        "first": log.segments.first().map_or(0, |segment| segment.first),
        "last": log.last,
        "removed": log.removed,
        "segments": log.segments.iter().map(segment).collect::<Vec<_>>(),
        "cursors": cursors.collect::<Vec<_>>(),
        "untold_losses": log.losses.iter().map(loss).collect::<Vec<_>>(),
        "quarantine": log.quarantine.iter().map(|(file, bytes)| json!({"file": file, "bytes": bytes})).collect::<Vec<_>>(),
        "damaged_files": log.harmed.iter().map(|(file, detail)| json!({"file": file, "detail": detail})).collect::<Vec<_>>(),
    })
}
