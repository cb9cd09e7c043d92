//! A device file of what was found: a beginning that works, for a person to prune.

use std::fmt::Write;

use anyhow::ensure;
use asset_stream::device_file::validate_asset;
use gateway_modbus::{Endpoint, Framing, Guess, Mapped, Most, Parity, Payload, SerialLine};
use gateway_opcua::quoted;

use super::Unit;
use super::values::{Meaning, meanings};

/// The file, and how many variables it has. Units are devices of their own; their number is a part of their asset's name if there are several.
pub(super) fn propose(endpoint: &Endpoint, asset: &str, units: &[Unit]) -> anyhow::Result<(String, usize)> {
    let found: Vec<(u8, &Mapped)> = units.iter().filter_map(|unit| Some((unit.id, unit.found.as_ref().ok()?))).collect();
    let found: Vec<_> = found.into_iter().filter(|(_, mapped)| !mapped.ranges.is_empty()).collect();
    let (mut devices, mut all) = (String::new(), 0);
    for (id, mapped) in &found {
        let asset = if found.len() == 1 { asset.to_owned() } else { format!("{asset}-{id}") };
        if let Err(problem) = validate_asset(&asset) {
            anyhow::bail!("--asset: {asset:?} {problem}");
        }
        writeln!(devices, "  {}:\n    uuid: {}\n    connector:\n      type: modbus", quoted(&asset.to_lowercase()), quoted(&asset))?;
        for line in connector(endpoint, *id, mapped) {
            writeln!(devices, "      {line}")?;
        }
        devices.push_str("      variables:\n");
        all += variables(&mut devices, mapped)?;
    }
    ensure!(all > 0, "nothing was found; nothing is written");
    let head = "types are guesses. Name what is needed, delete the rest. Reference: /usr/share/doc/openfactory-edge/modbus.md";
    Ok((format!("# {all} addresses of {endpoint}: {head}\n\ndevices:\n{devices}"), all))
}

/// How to reach the unit, and what it asks for: the lines of a connector but for its variables.
pub(super) fn connector(endpoint: &Endpoint, unit: u8, mapped: &Mapped) -> Vec<String> {
    let mut lines = vec![match endpoint {
        Endpoint::Tcp { host, port, framing, .. } => {
            let framing = if *framing == Framing::Rtu { ", framing: rtu" } else { "" };
            format!("server: {{host: {}, port: {port}, unit_id: {unit}{framing}}}", quoted(host))
        }
        Endpoint::Serial(SerialLine { port, baud_rate, parity, stop_bits }) => {
            let parity = match parity {
                Parity::None => "none",
                Parity::Even => "even",
                Parity::Odd => "odd",
            };
            let port = quoted(port);
            format!("serial: {{port: {port}, baud_rate: {baud_rate}, parity: {parity}, stop_bits: {stop_bits}, unit_id: {unit}}}")
        }
    }];
    match mapped.most_registers {
        Some(Most::Exactly(1)) => lines.push("requests: {join: never}".into()),
        Some(Most::Exactly(count)) => lines.push(format!("requests: {{max_registers: {count}}}")),
        _ => {}
    }
    lines.extend(mapped.word_order.as_ref().map(|guess| format!("defaults: {{word_order: {}}}", guess.order)));
    lines
}

/// All of them, named by table and address.
fn variables(out: &mut String, mapped: &Mapped) -> Result<usize, std::fmt::Error> {
    let most = match mapped.most_registers {
        Some(Most::Exactly(count)) => usize::from(count),
        _ => usize::from(u16::MAX),
    };
    let mut count = 0;
    for (table, start, held) in &mapped.contents {
        let entries: Vec<(usize, Entry)> = match held {
            Payload::Bits(bits) => bits.iter().enumerate().map(|(at, bit)| (at, Entry::new("", bit))).collect(),
            Payload::Registers(registers) => of_registers(registers, mapped.word_order.as_ref(), most),
        };
        for (at, Entry { data_type, value }) in entries {
            let (key, address) = (table.key(), usize::from(*start) + at);
            writeln!(out, "        {key}_{address}: {{{key}: {address}{data_type}}}    # {value}")?;
            count += 1;
        }
    }
    Ok(count)
}

struct Entry {
    data_type: String,
    /// What was there, without line ends.
    value: String,
}

impl Entry {
    fn new(data_type: impl Into<String>, value: impl ToString) -> Self {
        Self { data_type: data_type.into(), value: value.to_string() }
    }
}

/// Entries by their place. What needs more registers at once than the device gives is taken one by one.
fn of_registers(registers: &[u16], guess: Option<&Guess>, most: usize) -> Vec<(usize, Entry)> {
    let (mut entries, mut next) = (Vec::new(), 0);
    for (at, (register, meaning)) in registers.iter().zip(meanings(registers, guess)).enumerate() {
        if at < next {
            continue;
        }
        let (entry, length) = match meaning {
            Meaning::Number(number) if most >= 2 => (Entry::new(", type: float32", number), 2),
            Meaning::Text(text) if text.len().div_ceil(2) <= most => {
                let length = text.len().div_ceil(2);
                (Entry::new(format!(", type: string, length: {length}"), text.escape_default()), length)
            }
            _ => (Entry::new(", type: uint16", register), 1),
        };
        entries.push((at, entry));
        next = at + length;
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::{Unit, propose};
    use asset_stream::document::{Document, Environment, Problems};
    use gateway_modbus::{Endpoint, Framing, Guess, Mapped, Most, Payload, Sharing, Span, Table};

    fn unit(id: u8, contents: Vec<(Table, u16, Payload)>, most_registers: Option<Most>, word_order: Option<Guess>) -> Unit {
        let ranges = vec![Span::new(Table::Coils, 0, 1).expect("valid")];
        Unit { id, found: Ok(Mapped { ranges, contents, most_registers, word_order, ..Mapped::default() }) }
    }

    fn floats() -> Guess {
        let decoder = gateway_modbus::Decoder {
            data_type: gateway_modbus::DataType::Float32,
            order: gateway_modbus::WordOrder::Abcd,
            bits: None,
            scaling: None,
        };
        Guess { order: "ABCD", decoder, begin: 0, sensible: 2, examples: Vec::new() }
    }

    #[test]
    fn whatever_a_device_holds_the_proposed_file_is_valid() {
        let endpoint = Endpoint::Tcp { host: "${HOST}".into(), port: 502, framing: Framing::Rtu, sharing: Sharing::Shared };
        let number = |value: f32| [(value.to_bits() >> 16) as u16, value.to_bits() as u16];
        let registers = [&number(230.5)[..], &number(1.25), &[0x5042, 0x2D23, 0x3731], &[0, 0, 7, 0xffff]].concat();
        let holding = || vec![(Table::HoldingRegisters, 10, Payload::Registers(registers.clone()))];
        let bits = (Table::Coils, 0, Payload::Bits(vec![true, false]));
        let units = [
            unit(1, [holding(), vec![bits]].concat(), Some(Most::AtLeast(11)), Some(floats())),
            unit(2, holding(), Some(Most::Exactly(1)), Some(floats())),
            unit(3, holding(), Some(Most::Exactly(2)), None),
        ];
        let (text, count) = propose(&endpoint, "METER", &units).expect("something was found");
        assert!(text.contains("    holding_register_12: {holding_register: 12, type: float32}    # 1.25\n"), "{text}");
        assert!(text.contains("    holding_register_14: {holding_register: 14, type: string, length: 3}    # PB-#71\n"), "{text}");
        assert_eq!(count, (2 + 1 + 4 + 2) + 11 + 11, "{text}");
        let (problems, environment) = (Problems::new(), Environment::empty());
        let document = Document::parse("d.yaml", text.as_bytes(), &problems).expect("YAML");
        let mut root = document.root(&environment, &problems);
        let mut names = Vec::new();
        for (name, mut device) in root.entries("devices") {
            names.extend(device.optional::<String>("uuid"));
            let mut connector = device.required_section("connector").expect("a connector");
            assert_eq!(connector.required::<String>("type").as_deref(), Some("modbus"));
            gateway_modbus::parse(connector).unwrap_or_else(|| panic!("{name} cannot be read"));
            device.finish();
        }
        root.finish();
        assert_eq!(problems.into_vec(), []);
        assert_eq!(names, ["METER-1", "METER-2", "METER-3"]);
        assert!(propose(&endpoint, "a\nb", &units).is_err());
        assert!(propose(&endpoint, "METER", &[unit(1, Vec::new(), None, None)]).is_err());
    }
}
