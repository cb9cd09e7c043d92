//! `openfactory-edge scan`: what lies behind a socket or a serial line of which nobody has the manual.

mod device_file;
mod json;
mod text;
mod values;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gateway_modbus::{Endpoint, Framing, Mapped, Pace, Parity, Presence, Progress, Scanner, SerialLine, Sharing, Table, Timing};
use service::error::chain;

use crate::cli::{ParityName, ScanModbusArgs, TableName};
use crate::new_device_file;
use crate::progress::{Line, bar};

/// So many units that all answer are one device that does not look at the unit id.
const ALL_ANSWER: usize = 8;

/// What was found of a unit.
struct Unit {
    id: u8,
    found: Result<Mapped, String>,
}

/// Scans and prints or writes; an error if nothing answers, or nothing any more.
pub(crate) fn modbus(args: &ScanModbusArgs) -> anyhow::Result<()> {
    if let (Some(file), Some(asset)) = (&args.write, &args.asset) {
        new_device_file::check(file, asset)?;
    }
    let endpoint = endpoint(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")?;
    let is_stopped = Arc::new(AtomicBool::new(false));
    runtime.spawn(listen_for_stop(is_stopped.clone()));
    let (units, notes) = runtime.block_on(scan(&endpoint, args, &is_stopped))?;
    let gives = |unit: &Unit| unit.found.as_ref().is_ok_and(|mapped| !mapped.ranges.is_empty() || mapped.left.is_empty());
    if let (Some(file), Some(asset)) = (&args.write, &args.asset) {
        notes.iter().for_each(|note| eprintln!("note: {note}"));
        let (text, variables) = device_file::propose(&endpoint, asset, &units)?;
        ensure!(variables > 0, "nothing was found; nothing is written");
        new_device_file::write(file, &text)?;
        service::output::print(&format!("{}: {variables} variables; {}\n", file.display(), new_device_file::NEXT))?;
        return Ok(());
    }
    let text = match args.json {
        true => json::text(&endpoint, &units, &notes)?,
        false => text::text(&endpoint, &units, &notes)?,
    };
    service::output::print(&text)?;
    ensure!(units.iter().any(gives), "nothing was found");
    Ok(())
}

/// The first Ctrl-C ends the look, the second one the program.
async fn listen_for_stop(is_stopped: Arc<AtomicBool>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        if is_stopped.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nopenfactory-edge: the look ends with the next answer; Ctrl-C again ends it at once, without what was found");
    }
}

fn endpoint(args: &ScanModbusArgs) -> anyhow::Result<Endpoint> {
    if args.endpoint.starts_with('/') {
        let parity = match args.parity {
            ParityName::None => Parity::None,
            ParityName::Even => Parity::Even,
            ParityName::Odd => Parity::Odd,
        };
        let line = SerialLine { port: args.endpoint.clone(), baud_rate: args.baud_rate, parity, stop_bits: args.stop_bits };
        return Ok(Endpoint::Serial(line));
    }
    let (host, port) = match args.endpoint.rsplit_once(':') {
        // An IPv6 address without a port has colons too.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().with_context(|| format!("{port:?} is no port; write HOST, HOST:PORT or /dev/…"))?)
        }
        _ => (args.endpoint.as_str(), 502),
    };
    let framing = if args.rtu { Framing::Rtu } else { Framing::Tcp };
    Ok(Endpoint::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port, framing, sharing: Sharing::Shared })
}

async fn scan(endpoint: &Endpoint, args: &ScanModbusArgs, is_stopped: &AtomicBool) -> anyhow::Result<(Vec<Unit>, Vec<String>)> {
    let timeout = Duration::from_millis(args.timeout);
    let scanner = Scanner::new(endpoint, Timing { timeout, settle_time: timeout, ..Timing::default() });
    let (mut present, mut notes, mut line) = (Vec::new(), Vec::new(), Line::new());
    let (first, asked) = (*args.units.start(), args.units.clone().count());
    for unit in args.units.clone() {
        if is_stopped.load(Ordering::Relaxed) {
            notes.push(format!("ended by Ctrl-C: no unit was looked for from {unit} on"));
            break;
        }
        line.show(|| format!("{} unit {unit} of {} to {}", bar(usize::from(unit - first), asked), first, args.units.end()));
        match scanner.presence(unit).await.map_err(|error| anyhow::anyhow!("{}", chain(&error)))? {
            Presence::Answers => present.push(unit),
            Presence::Garbled(detail) => {
                notes.push(format!(
                    "unit {unit}: what comes is no answer ({detail}): are the line's settings right, does one unit id stand for one device?"
                ));
            }
            Presence::Silent => {}
        }
    }
    if present.len() == asked && asked >= ALL_ANSWER {
        notes.push(format!("every unit id is answered: the device does not look at it; only unit {first} was looked at"));
        present.truncate(1);
    }
    let tables: Vec<Table> = args.tables.iter().map(|name| table(*name)).collect();
    let mut units = Vec::with_capacity(present.len());
    let (begin, end) = (*args.addresses.start(), *args.addresses.end());
    for id in present {
        let since = Instant::now();
        let progress = |now: Progress| {
            let place = tables.iter().position(|table| *table == now.table).unwrap_or(0);
            let span = usize::from(end - begin) + 1;
            let (done, all) = (place * span + usize::from(now.at - begin), tables.len() * span);
            line.show(|| {
                let (bar, table, left) = (bar(done, all), now.table.words(), time_left(since.elapsed(), done, all));
                format!("{bar} unit {id}, {table} {} of {end}{}{left}", now.at, in_words(now.pace))
            });
            if is_stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let found = scanner.map(id, &tables, &args.addresses, progress).await.map_err(|error| chain(&error));
        units.push(Unit { id, found });
    }
    Ok((units, notes))
}

fn in_words(pace: Pace) -> &'static str {
    match pace {
        Pace::Answers => "",
        Pace::Busy => ", the device says it is busy",
        Pace::Silent => ", no answer",
    }
}

/// As long as it took for what is done, the rest will take too.
fn time_left(elapsed: Duration, done: usize, all: usize) -> String {
    let seconds = elapsed.as_secs_f64() * all.saturating_sub(done) as f64 / done.max(1) as f64;
    match done {
        0 => String::new(),
        _ if seconds < 60.0 => format!(", {seconds:.0} s left"),
        _ => format!(", about {:.0} min left", seconds / 60.0),
    }
}

fn table(name: TableName) -> Table {
    match name {
        TableName::Coils => Table::Coils,
        TableName::DiscreteInputs => Table::DiscreteInputs,
        TableName::InputRegisters => Table::InputRegisters,
        TableName::HoldingRegisters => Table::HoldingRegisters,
    }
}
