//! The table in the terminal: drawn in place, fitted to the window, and the terminal as before at the end.

use std::io::{Stdout, Write as _, stdout};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use crossterm::{cursor, execute, queue, style, terminal};
use system_tests::wait;

use crate::watch::{Counters, Watch};

/// Lines besides rows and counters: title, header, and the one on which the cursor rests.
const FRAME: usize = 3;

/// The terminal while the demo owns it.
pub(crate) struct Screen {
    out: Stdout,
}

impl Screen {
    pub(crate) fn open() -> anyhow::Result<Self> {
        terminal::enable_raw_mode()?;
        let mut screen = Self { out: stdout() };
        execute!(screen.out, terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    pub(crate) fn draw(&mut self, watch: &Watch) -> anyhow::Result<()> {
        let (width, height) = terminal::size()?;
        queue!(self.out, terminal::BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for line in lines(watch, width, height) {
            let line: String = line.chars().take(usize::from(width)).collect();
            queue!(self.out, style::Print(line), terminal::Clear(terminal::ClearType::UntilNewLine), cursor::MoveToNextLine(1))?;
        }
        queue!(self.out, terminal::Clear(terminal::ClearType::FromCursorDown), terminal::EndSynchronizedUpdate)?;
        Ok(self.out.flush()?)
    }

    /// Waits for a key: Ctrl-C or q end the demo. A resize is drawn at once.
    pub(crate) fn wants_to_end(&self, max: Duration) -> anyhow::Result<bool> {
        if !event::poll(max)? {
            return Ok(false);
        }
        Ok(match event::read()? {
            Event::Key(key) => {
                let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                control_c || key.code == KeyCode::Char('q')
            }
            _ => false,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody could be told if the terminal is gone.
        drop(execute!(self.out, cursor::Show, terminal::LeaveAlternateScreen));
        drop(terminal::disable_raw_mode());
    }
}

fn lines(watch: &Watch, width: u16, height: u16) -> Vec<String> {
    let counters = counters(watch, width);
    let place = usize::from(height).saturating_sub(FRAME + counters.len());
    let hidden = watch.rows.len().saturating_sub(place);
    let now = wait::now();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table.set_header(["Asset", "Data item", "Value", "Quality", "Age"]);
    for ((_, asset, item), row) in watch.rows.iter().take(place) {
        // Long texts, e.g. a method's description, must not break the table.
        let value: String = row.value.chars().take(40).collect();
        let age = (now - row.observed).max(0);
        table.add_row([asset.clone(), item.clone(), value, row.quality.clone(), format!("{}.{} s", age / 1000, age % 1000 / 100)]);
    }
    for column in [2, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let more = if hidden > 0 { format!("  ({hidden} more do not fit)") } else { String::new() };
    let mut lines = vec![format!("OpenFactory: values as they arrive from NATS. Ctrl-C ends.{more}")];
    lines.extend(table.lines());
    lines.extend(counters);
    lines
}

/// What stands below the table, in lines that fit.
fn counters(watch: &Watch, width: u16) -> Vec<String> {
    let Counters { accepted, durable, mirrored, forwarded, backlog, commands } = &watch.counters;
    let mut lines = vec![String::new()];
    let commands = &(*commands as u64);
    for (name, count) in [
        ("accepted", accepted),
        ("durable", durable),
        ("mirrored", mirrored),
        ("forwarded", forwarded),
        ("backlog", backlog),
        ("commands", commands),
    ] {
        let part = format!("{name} {count}   ");
        match lines.last_mut() {
            Some(line) if line.len() + part.len() <= usize::from(width) => line.push_str(&part),
            _ => lines.push(part),
        }
    }
    lines.push(watch.latency_text());
    lines
}
