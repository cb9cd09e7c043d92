//! The audit for people: a block for each command, as its texts are too long for columns.

use std::fmt;

use asset_stream::command::status::Reason;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::{Audit, Chain, Flag, Row, StepRow};

/// So many numbers are named; the others are counted. JSON has all.
const NAMED: usize = 5;

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.commands {
            command(f, row)?;
        }
        if !self.commands.is_empty() {
            writeln!(f)?;
        }
        match &self.chains {
            Some(chains) if !chains.is_empty() => writeln!(f, "{}\n", table(chains))?,
            _ => {}
        }
        writeln!(f, "{}", self.sentence())
    }
}

fn command(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let arguments: Vec<String> = row.arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let end = match (row.end, &row.malformed, row.steps.last()) {
        (Some(end), _, _) => end.to_string(),
        (None, Some(_), _) => "malformed".into(),
        (None, None, Some(step)) => format!("{}, no end yet", step.state),
        (None, None, None) => "no answer yet".into(),
    };
    writeln!(f, "{}  {}  {}({})  {end}", row.time, row.asset, row.method, arguments.join(", "))?;
    if !row.correlation_id.is_empty() {
        let sender = if row.sender_uuid.is_empty() { "somebody" } else { &row.sender_uuid };
        let signed = if row.signed { ", signed" } else { "" };
        let again = if row.repeats > 0 { format!(", given {} times", row.repeats + 1) } else { String::new() };
        writeln!(f, "    by {sender}{signed}{again}, id {}", row.correlation_id)?;
    }
    if !row.steps.is_empty() {
        let steps: Vec<String> = row.steps.iter().map(|step| format!("{} {}", step.state, after(step.after_ms))).collect();
        let edge = row.steps.iter().find_map(|step| step.edge.as_ref()).map_or_else(String::new, |edge| format!(", by {edge}"));
        writeln!(f, "    {}{edge}", steps.join(", "))?;
    }
    for step in &row.steps {
        remark(f, step)?;
    }
    if let Some(malformed) = &row.malformed {
        writeln!(f, "    {malformed}")?;
    }
    for flag in &row.flags {
        writeln!(f, "    FLAGGED: {}", told(*flag))?;
    }
    Ok(())
}

fn remark(f: &mut fmt::Formatter<'_>, step: &StepRow) -> fmt::Result {
    match (&step.reason, &step.detail) {
        (Some(reason), Some(detail)) => writeln!(f, "    {}: {detail}", word(reason))?,
        (Some(reason), None) => writeln!(f, "    {}", word(reason))?,
        (None, Some(detail)) => writeln!(f, "    {detail}")?,
        (None, None) => {}
    }
    match &step.result {
        Some(result) => writeln!(f, "    result: {result}"),
        None => Ok(()),
    }
}

fn after(millis: i64) -> String {
    match millis {
        -9_999..=9_999 => format!("{millis:+} ms"),
        -599_999..=599_999 => format!("{:+.1} s", millis as f64 / 1e3),
        _ => format!("{:+.0} min", millis as f64 / 6e4),
    }
}

fn word(reason: &Reason) -> String {
    named(reason).unwrap_or_else(|| format!("{reason:?}"))
}

fn named(word: &impl Serialize) -> Option<String> {
    serde_json::to_value(word).ok()?.as_str().map(str::to_owned)
}

fn told(flag: Flag) -> &'static str {
    match flag {
        Flag::NoEnd => {
            "nobody told an end, and its deadline is more than a minute past: look at the edge that serves the asset, and at the device"
        }
        Flag::TwoEnds => "more than one end was told: two edges may have executed it",
        Flag::WrongStep => "a step came that may not follow the one before",
        Flag::NoCommand => {
            "no command stands in what was read: it was taken out, or written past Kafka's own partitioner (read all assets to find it)"
        }
        Flag::Unreadable => "a status cannot be read",
    }
}

fn table(chains: &[Chain]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["edge", "epoch", "statuses", "missing", "altered", "unchained"]);
    for chain in chains {
        let numbers = if chain.last > 0 { format!("{}–{}", chain.first, chain.last) } else { "none".into() };
        table.add_row([
            chain.edge.clone(),
            chain.epoch.to_string(),
            numbers,
            shown(&chain.missing),
            shown(&chain.altered),
            chain.unchained.to_string(),
        ]);
    }
    for column in 1..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn shown(numbers: &[u64]) -> String {
    if numbers.is_empty() {
        return "0".into();
    }
    let mut text = numbers.iter().take(NAMED).map(u64::to_string).collect::<Vec<_>>().join(", ");
    if numbers.len() > NAMED {
        text += &format!(" and {} more", numbers.len() - NAMED);
    }
    text
}

impl Audit {
    /// What it comes to.
    pub fn sentence(&self) -> String {
        let count = |flag: Flag| self.commands.iter().filter(|row| row.flags.contains(&flag)).count();
        let mut wrong: Vec<String> = Vec::new();
        for (flag, words) in [
            (Flag::NoEnd, "without an end"),
            (Flag::TwoEnds, "with more than one end"),
            (Flag::WrongStep, "with steps in a wrong order"),
            (Flag::NoCommand, "of which only statuses are there"),
            (Flag::Unreadable, "with a status that cannot be read"),
        ] {
            if count(flag) > 0 {
                wrong.push(format!("{} {words}", count(flag)));
            }
        }
        let commands = match self.commands.len() {
            1 => "1 command".to_owned(),
            n => format!("{n} commands"),
        };
        let broken = self.chains.iter().flatten().filter(|chain| !chain.is_sound()).count();
        if broken > 0 {
            wrong.push(format!("{broken} of {} chains broken", self.chains.iter().flatten().count()));
        }
        let open = self.commands.iter().filter(|row| row.end.is_none() && row.flags.is_empty() && row.malformed.is_none()).count();
        let mut text =
            if wrong.is_empty() { format!("sound: {commands}") } else { format!("NOT sound: of {commands} {}", wrong.join(", ")) };
        if open > 0 {
            text += &format!("; {open} still open");
        }
        match &self.chains {
            None => text += "; the edges' chains run over all assets, and were not looked at",
            Some(chains) if broken == 0 && chains.len() == 1 => text += "; 1 whole chain",
            Some(chains) if broken == 0 && !chains.is_empty() => text += &format!("; {} whole chains", chains.len()),
            Some(_) => {}
        }
        if self.earlier > 0 {
            text += &format!("; {} more began before what was read, and are not judged", self.earlier);
        }
        text
    }
}
