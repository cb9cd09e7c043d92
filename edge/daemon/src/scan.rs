//! `openfactory-edge scan`: what lies behind a socket or a serial line of which nobody has the manual.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use gateway_modbus::{Endpoint, Framing, Mapped, Most, Parity, Presence, Scanner, SerialLine, Sharing, Span, Table, Timing};
use serde_json::{Value as Json, json};
use service::error::chain;

use crate::cli::{ParityName, ScanModbusArgs, TableName};
use crate::progress::{Line, bar};

/// So many units that all answer are one device that does not look at the unit id.
const ALL_ANSWER: usize = 8;

/// What was found of a unit.
struct Unit {
    id: u8,
    found: Result<Mapped, String>,
}

/// Scans and prints; an error if nothing answers, or nothing any more.
pub(crate) fn modbus(args: &ScanModbusArgs) -> anyhow::Result<()> {
    let endpoint = endpoint(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")?;
    let (units, notes) = runtime.block_on(scan(&endpoint, args))?;
    let text = match args.json {
        true => {
            let units: Vec<_> = units.iter().map(|unit| unit_json(&endpoint, unit)).collect();
            serde_json::to_string_pretty(&json!({"endpoint": endpoint.to_string(), "units": units, "notes": notes}))? + "\n"
        }
        false => text(&endpoint, &units, &notes)?,
    };
    service::output::print(&text)?;
    let gives = |unit: &Unit| unit.found.as_ref().is_ok_and(|mapped| !mapped.ranges.is_empty() || mapped.silent.is_empty());
    anyhow::ensure!(units.iter().any(gives), "nothing was found");
    Ok(())
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

async fn scan(endpoint: &Endpoint, args: &ScanModbusArgs) -> anyhow::Result<(Vec<Unit>, Vec<String>)> {
    let timeout = Duration::from_millis(args.timeout);
    let scanner = Scanner::new(endpoint, Timing { timeout, settle_time: timeout, ..Timing::default() });
    let (mut present, mut notes, mut line) = (Vec::new(), Vec::new(), Line::new());
    let (first, asked) = (*args.units.start(), args.units.clone().count());
    for unit in args.units.clone() {
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
    for id in present {
        let (begin, end) = (*args.addresses.start(), *args.addresses.end());
        let progress = |table: Table, at: u16| {
            let place = args.tables.iter().position(|name| self::table(*name) == table).unwrap_or(0);
            let span = usize::from(end - begin) + 1;
            let (done, all) = (place * span + usize::from(at - begin), tables.len() * span);
            line.show(|| format!("{} unit {id}, {} {at} of {end}", bar(done, all), table.words()));
        };
        let found = scanner.map(id, &tables, &args.addresses, progress).await.map_err(|error| chain(&error));
        units.push(Unit { id, found });
    }
    Ok((units, notes))
}

fn table(name: TableName) -> Table {
    match name {
        TableName::Coils => Table::Coils,
        TableName::DiscreteInputs => Table::DiscreteInputs,
        TableName::InputRegisters => Table::InputRegisters,
        TableName::HoldingRegisters => Table::HoldingRegisters,
    }
}

fn text(endpoint: &Endpoint, units: &[Unit], notes: &[String]) -> Result<String, std::fmt::Error> {
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
    for (table, since) in &mapped.silent {
        writeln!(
            out,
            "  {:<18} silent from {since} on: not looked at further; does the device know them? a longer --timeout?",
            format!("{}s", table.words())
        )?;
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
    match endpoint {
        Endpoint::Tcp { host, port, framing, .. } => {
            let framing = if *framing == Framing::Rtu { ", framing: rtu" } else { "" };
            writeln!(out, "    server: {{host: {}, port: {port}, unit_id: {unit}{framing}}}", gateway_opcua::quoted(host))?;
        }
        Endpoint::Serial(SerialLine { port, baud_rate, parity, stop_bits }) => {
            let parity = match parity {
                Parity::None => "none",
                Parity::Even => "even",
                Parity::Odd => "odd",
            };
            let port = gateway_opcua::quoted(port);
            writeln!(
                out,
                "    serial: {{port: {port}, baud_rate: {baud_rate}, parity: {parity}, stop_bits: {stop_bits}, unit_id: {unit}}}"
            )?;
        }
    }
    if let Some(Most::Exactly(count)) = mapped.most_registers {
        writeln!(out, "    requests: {{max_registers: {count}}}")?;
    }
    if let Some(guess) = &mapped.word_order {
        writeln!(out, "    defaults: {{word_order: {}}}", guess.order)?;
    }
    Ok(())
}

fn range(span: Span) -> String {
    match span.count() {
        1 => span.start().to_string(),
        _ => format!("{}–{}", span.start(), span.end() - 1),
    }
}

fn unit_json(endpoint: &Endpoint, unit: &Unit) -> Json {
    let most = |most: Option<Most>| match most {
        Some(Most::Exactly(count)) => json!({"count": count, "more_is_refused": true}),
        Some(Most::AtLeast(count)) => json!({"count": count, "more_is_refused": false}),
        None => Json::Null,
    };
    let range = |span: &Span| json!({"table": span.table().key(), "first": span.start(), "last": span.end() - 1});
    match &unit.found {
        Err(why) => json!({"unit": unit.id, "stopped": why}),
        Ok(mapped) => json!({
            "unit": unit.id,
            "endpoint": endpoint.to_string(),
            "ranges": mapped.ranges.iter().map(range).collect::<Vec<_>>(),
            "silent": mapped.silent.iter().map(|(table, since)| json!({"table": table.key(), "since": since})).collect::<Vec<_>>(),
            "most_registers": most(mapped.most_registers),
            "most_bits": most(mapped.most_bits),
            "word_order": mapped.word_order.as_ref().map(|guess| json!({"order": guess.order, "sensible": guess.sensible, "examples": guess.examples})),
        }),
    }
}
