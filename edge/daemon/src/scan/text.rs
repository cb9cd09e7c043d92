//! What was found, for people.

use std::fmt::Write;

use gateway_modbus::{Endpoint, Left, Mapped, Most, Span, Table, Why};

use super::device_file::connector;
use super::{Unit, values};

/// Everything, unit by unit.
pub(super) fn text(endpoint: &Endpoint, units: &[Unit], notes: &[String]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    if units.is_empty() {
        writeln!(out, "no unit answers at {endpoint}; other unit ids (--units), settings of the line, a longer --timeout?")?;
    }
    for unit in units {
        writeln!(out, "unit {} at {endpoint}", unit.id)?;
        match &unit.found {
            Err(why) => writeln!(out, "  stopped: {why}")?,
            Ok(mapped) => print_mapped(out, endpoint, unit.id, mapped)?,
        }
    }
    for note in notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(text)
}

fn print_mapped(out: &mut String, endpoint: &Endpoint, unit: u8, mapped: &Mapped) -> std::fmt::Result {
    for table in Table::ALL {
        let ranges: Vec<_> = mapped.ranges.iter().filter(|span| span.table() == table).map(|span| range(*span)).collect();
        if !ranges.is_empty() {
            writeln!(out, "  {:<18} {}", format!("{}s", table.words()), ranges.join(", "))?;
        }
    }
    for Left { table, since, why } in &mapped.left {
        let why = match why {
            Why::Silent => format!("silent from {since} on: not looked at further; does the device know them? a longer --timeout?"),
            Why::Busy => {
                format!("busy from {since} on, as often as it was asked: not looked at further; try again when the machine is idle")
            }
            Why::Stopped => format!("not looked at from {since} on: ended by Ctrl-C"),
        };
        writeln!(out, "  {:<18} {why}", format!("{}s", table.words()))?;
    }
    if mapped.ranges.is_empty() {
        writeln!(out, "  it answers, and gives nothing at these addresses")?;
        return Ok(());
    }
    for (most, of) in [(mapped.most_registers, "registers"), (mapped.most_bits, "bits")] {
        match most {
            Some(Most::Exactly(count)) => writeln!(out, "  {:<18} {count}; more is refused", format!("{of} at once"))?,
            Some(Most::AtLeast(count)) => writeln!(out, "  {:<18} {count} at least", format!("{of} at once"))?,
            None => {}
        }
    }
    if let Some(guess) = &mapped.word_order {
        let (order, pairs) = (guess.order, guess.sensible);
        writeln!(out, "  word order         {order}, probably: {pairs} pairs are sensible as float32, e.g. {}", guess.examples.join(", "))?;
    }
    writeln!(out, "  in a device file:")?;
    for line in connector(endpoint, unit, mapped) {
        writeln!(out, "    {line}")?;
    }
    values::print(out, mapped)
}

fn range(span: Span) -> String {
    match span.count() {
        1 => span.start().to_string(),
        _ => format!("{}–{}", span.start(), span.end() - 1),
    }
}
