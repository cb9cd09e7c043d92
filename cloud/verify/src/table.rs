//! The report for people.

use std::fmt;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::gap::Told;
use crate::numbers::{Range, count};
use crate::report::{Report, Row};

/// So many stretches are named; the others are counted. JSON has all.
const NAMED: usize = 5;
const HEADER: [&str; 10] = ["edge", "asset", "epoch", "there", "missing", "lost", "repeated", "reordered", "altered", "numbers"];
/// The first and last column with numbers that are aligned to the right.
const NUMBERS: std::ops::Range<usize> = 2..9;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<&Row> = self.logs.iter().chain(&self.assets).collect();
        // What is wrong first; logs before their assets.
        rows.sort_by_key(|row| (row.harm.is_none(), &row.edge, row.asset.as_deref(), row.epoch));
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(HEADER);
        for row in &rows {
            table.add_row(cells(row));
        }
        for column in NUMBERS {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        if !rows.is_empty() {
            writeln!(f, "{table}\n")?;
        }
        for row in rows {
            remarks(f, row)?;
        }
        writeln!(f, "{}", self.sentence())
    }
}

fn cells(row: &Row) -> [String; HEADER.len()] {
    let lost = row.told.values().fold(Told::default(), |mut sum, told| {
        sum.add(*told);
        sum
    });
    let begin = if row.from.is_some() { "from " } else { "" };
    [
        row.edge.clone(),
        row.asset.clone().unwrap_or_else(|| "(its log)".into()),
        row.epoch.to_string(),
        count(&row.present).to_string(),
        row.harm.missing.to_string(),
        if lost.uncounted > 0 { format!("{} + ?", lost.count) } else { lost.count.to_string() },
        row.harm.repeated.to_string(),
        row.harm.reordered.to_string(),
        row.harm.altered.to_string(),
        format!("{begin}{}", shown(&row.present)),
    ]
}

fn remarks(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let who = row.asset.as_ref().map_or_else(|| format!("the log of {}", row.edge), |asset| format!("{asset} of {}", row.edge));
    if row.harm.missing > 0 {
        let of = if count(&row.absent) > row.harm.missing { format!("{} of ", row.harm.missing) } else { String::new() };
        writeln!(f, "{who}: {of}{} missing, and no gap event tells it", shown(&row.absent))?;
    }
    for (reason, told) in &row.told {
        match told {
            Told { count, uncounted: 0 } => writeln!(f, "{who}: {count} lost, as gap events tell: {reason}")?,
            Told { count, uncounted } => {
                writeln!(f, "{who}: {count} lost, and {uncounted} times an unknown number, as gap events tell: {reason}")?;
            }
        }
    }
    if row.marked > 0 {
        writeln!(f, "{who}: {} stand twice with a mark; readers drop them", row.marked)?;
    }
    if row.uncompared > 0 {
        writeln!(f, "{who}: {} repeats were not compared with what they repeat: there are too many", row.uncompared)?;
    }
    if let Some(from) = row.from {
        writeln!(f, "{who}: from sequence {from} on; older ones are no longer in the topic, or were not asked for")?;
    }
    Ok(())
}

fn shown(ranges: &[Range]) -> String {
    let name = |(first, last): &Range| if first == last { first.to_string() } else { format!("{first}–{last}") };
    let mut text = ranges.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
    if ranges.len() > NAMED {
        text += &format!(" and {} more", ranges.len() - NAMED);
    }
    text
}

impl Report {
    /// What it comes to.
    pub fn sentence(&self) -> String {
        let events: u64 = self.assets.iter().map(|row| count(&row.present)).sum();
        let mut edges: Vec<&str> = self.assets.iter().map(|row| &*row.edge).collect();
        edges.dedup();
        let mut assets: Vec<_> = self.assets.iter().map(|row| (&row.edge, &row.asset)).collect();
        assets.dedup();
        let harm = &self.harm;
        let mut text = match self.complete {
            true => format!("complete: {events} events of {} assets of {} edges", assets.len(), edges.len()),
            false if events == 0 => format!("nothing is proven: no such events stand in {}", self.topic),
            false => format!(
                "NOT complete: {} missing, {} repeated, {} reordered, {} altered, of {events} events of {} assets of {} edges",
                harm.missing,
                harm.repeated,
                harm.reordered,
                harm.altered,
                assets.len(),
                edges.len()
            ),
        };
        if self.lost != Told::default() {
            text += &format!("; lost, and told by gap events: {}", self.lost.count);
        }
        if self.lost.uncounted > 0 {
            text += &format!(" and {} times an unknown number", self.lost.uncounted);
        }
        if self.foreign > 0 {
            text += &format!("; {} records of other writers, which have no sequences", self.foreign);
        }
        text
    }
}
