//! `openfactory-edge tail`: events as they become durable.

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::Context;
use asset_stream::Event;

use crate::cli::TailArgs;
use crate::socket::{Request, TailLine, ask};

/// The edge's answer in place of events.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    error: String,
}

/// Prints events until the count is reached, the daemon stops or the reader of our output goes away.
pub(crate) fn run(config: &Path, args: &TailArgs) -> anyhow::Result<()> {
    let socket = crate::check::socket_of(config)?;
    let answer = ask(&socket, &Request::Tail { assets: args.asset.clone(), last: args.last })?;
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(out, "{:>10}  {:<24} {:<20} {:<24} {:<24} quality", "sequence", "time (device, UTC)", "asset", "item", "value")?;
    }
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut lines = answer.lines();
    while left > 0
        && let Some(line) = lines.next()
    {
        let line = line?;
        if let Ok(Refusal { error }) = serde_json::from_str(&line) {
            anyhow::bail!("{error}");
        }
        let printed = if args.json { writeln!(out, "{line}") } else { row(&mut out, &line) };
        match printed.and_then(|()| out.flush()) {
            Ok(()) => left -= 1,
            // `tail | head` is an ordinary way to end.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).context("the events cannot be printed"),
        }
    }
    Ok(())
}

/// What devices say is shown in one line, and never steers the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn row(out: &mut impl Write, line: &str) -> std::io::Result<()> {
    let Ok(tail) = serde_json::from_str::<TailLine>(line) else { return writeln!(out, "{line}") };
    let Ok(event) = Event::decode(tail.event.get().as_bytes()) else { return writeln!(out, "{line}") };
    let attribute = |name: &str| event.attributes.get(name).map_or("", String::as_str);
    let value = match &event.value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let quality = [attribute("quality"), attribute("status")].join(" ");
    writeln!(
        out,
        "{:>10}  {:<24} {:<20} {:<24} {:<24} {}",
        tail.seq,
        attribute("timestamp"),
        tail.asset,
        printable(&event.id),
        printable(&value),
        quality.trim_end()
    )
}
