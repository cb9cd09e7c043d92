use std::time::Duration;

use asset_stream::Kind;
use asset_stream::device_file::Access;
use asset_stream::document::{Document, Environment, Problems};

use super::parse;
use crate::config::{Config, Endpoint, Framing, Interval, Parity, Sharing};
use crate::plan::Join;
use crate::types::{Bits, DataType, Encoding, Report, Table, Trim, WordOrder};
use crate::write::{Functions, One, SomeBits};

/// The config, the problems, the warnings.
fn read(yaml: &str) -> (Option<Config>, Vec<String>, Vec<String>) {
    let (problems, environment) = (Problems::new(), Environment::empty());
    let document = Document::parse("d.yaml", yaml.as_bytes(), &problems).expect("valid YAML");
    let config = parse(document.root(&environment, &problems));
    let warnings = problems.warnings().iter().map(ToString::to_string).collect();
    drop(document);
    (config, problems.into_vec().iter().map(ToString::to_string).collect(), warnings)
}

fn valid(yaml: &str) -> Config {
    let (config, problems, _) = read(yaml);
    assert_eq!(problems, Vec::<String>::new());
    config.expect("no problems")
}

#[test]
fn a_tcp_device_needs_a_host_and_a_variable_only() {
    let config = valid("server: {host: plc}\nvariables: {temp: {holding_register: 7}}");
    let endpoint = Endpoint::Tcp { host: "plc".into(), port: 502, framing: Framing::Tcp, sharing: Sharing::Shared };
    assert_eq!((config.endpoint, config.unit, config.timing.timeout), (endpoint, 1, Duration::from_secs(1)));
    let variable = &config.variables[0];
    assert_eq!((variable.span.table(), variable.span.start(), variable.span.count()), (Table::HoldingRegisters, 7, 1));
    assert_eq!((variable.decoder.data_type, variable.kind, &*variable.tag), (DataType::UInt16, Kind::Samples, "temp"));
    assert_eq!(config.groups[variable.group].interval, Interval::Every(Duration::from_secs(1)));
}

#[test]
fn everything_a_file_can_say_is_understood() {
    let config = valid(
        "
serial: {port: /dev/ttyUSB0, baud_rate: 9600, data_bits: 8, parity: none, stop_bits: 2, unit_id: 17, timeout: 300, settle_time: 500,
         retries: 4, request_delay: 5, silent_share: 25, max_reconnect_delay: 5000}
requests: {join: neighbours, max_gap: 3, max_registers: 60, max_bits: 800, retry_refused: 30000, write: multiple, write_bits: read_modify_write}
poll_groups: {fast: {interval: 100}, slow: {interval: 60000}}
defaults: {group: slow, word_order: CDAB, report: always}
variables:
  a: {reference: 400010, type: float64, word_order: HGFEDCBA, scale: 0.5, offset: -2, unit: bar, tag: Pressure, deadband: 0.1, group: fast, access_level: rw}
  b: {input_register: 0x10, type: uint32, bits: 8-15, interval: 250, report: change, kind: Events}
  c: {holding_register: 3, bit: 12}
  d: {reference: 00005}
  e: {discrete_input: 65535, type: bool}
constants:
  f: {holding_register: 200, type: string, length: 8, encoding: utf-8, trim: space}
",
    );
    let Endpoint::Serial(line) = &config.endpoint else { panic!("a serial line") };
    assert_eq!((line.to_string().as_str(), line.parity, config.unit), ("/dev/ttyUSB0 9600 8N2", Parity::None, 17));
    assert_eq!((config.timing.settle_time, config.timing.retries, config.timing.silent_share), (Duration::from_millis(500), 4, 0.25));
    assert_eq!((config.limits.max_registers, config.limits.max_bits, config.limits.join), (60, 800, Join::Gap(3)));
    assert_eq!(config.timing.retry_refused, Duration::from_secs(30));
    assert_eq!(config.functions, Functions { one: One::Multiple, bits: SomeBits::ReadModifyWrite });
    let [a, b, c, d, e, f] = config.variables.as_slice() else { panic!("six") };
    assert_eq!((a.span.start(), a.span.count(), a.decoder.order, a.access), (9, 4, WordOrder::Dcba, Access::ReadWrite));
    assert_eq!((a.unit.as_deref(), a.deadband, a.report, &*config.groups[a.group].name), (Some("bar"), 0.1, Report::Always, "fast"));
    assert_eq!(
        (b.decoder.bits, b.kind, b.report, b.decoder.order),
        (Some(Bits::Range(8, 15)), Kind::Events, Report::Change, WordOrder::Cdab)
    );
    assert_eq!((c.decoder.bits, c.kind, &*config.groups[c.group].name), (Some(Bits::One(12)), Kind::Events, "slow"));
    assert_eq!((d.span.table(), d.span.start(), e.span.end()), (Table::Coils, 4, 65_536));
    let text = DataType::String { length: 8, encoding: Encoding::Utf8, trim: Trim::Space };
    assert_eq!((f.decoder.data_type, config.groups[f.group].interval), (text, Interval::Once));
}

#[test]
fn every_mistake_is_told_at_its_place_all_at_once() {
    let (config, problems, _) = read(
        "
server: {host: 10.0.0.5, timeout: 0, prot: 502}
serial: {port: /dev/ttyS0, baud_rate: 9600, unit_id: 0, data_bits: 7}
variables:
  a: {type: uint16}
  b: {holding_register: 0, coil: 1}
  c: {holding_register: 65535, type: uint32}
  d: {coil: 3, type: int16}
  e: {holding_register: 1, scale: 0}
  f: {holding_register: 1, bit: 16}
  g: {holding_register: 1, type: int16, bits: 2-3}
  h: {holding_register: 1, type: integer}
  i: {holding_register: 1, type: string}
  j: {holding_register: 1, type: string, length: 0}
  k: {input_register: 1, access_level: rw}
  l: {holding_register: 1, interval: 0}
  m: {holding_register: 1, group: fast}
  n: {holding_register: 65536}
  o: {reference: 20001}
  p: {holding_register: 1, type: bool, deadband: 1}
  q: {coil: 1, scale: 2}
  avail: {coil: 1}
  r: {holding_register: 1, lenght: 2}
  t: {discrete_input: 1, access_level: rw}
  u: {holding_register: 1, type: uint32, bits: 15-16, access_level: rw}
  v: {holding_register: 1, type: string, length: 124, access_level: rw}
constants:
  a: {coil: 1}
  s: {coil: 1, interval: 5}
",
    );
    assert_eq!(config, None);
    let expected = [
        "d.yaml:3:1: serial: a device has either `server` (Modbus TCP) or `serial` (Modbus RTU), not both",
        "d.yaml:5:3: variables.a: the address is missing: give `holding_register`, `input_register`, `coil` or `discrete_input` (counted from 0), or `reference` (e.g. 40001)",
        "d.yaml:6:7: variables.b.holding_register: one address only, but there is `coil` too",
        "d.yaml:7:7: variables.c.holding_register: 2 registers from address 65535 reach beyond the last address, 65535",
        "d.yaml:8:16: variables.d.type: a coil is one bit: its type can only be `bool`",
        "d.yaml:9:28: variables.e.scale: 0 would make every value the same",
        "d.yaml:10:28: variables.f.bit: the bits are numbered 0 (least significant) to 15",
        "d.yaml:11:41: variables.g.bits: bits can be taken from uint16, uint32 and uint64 only",
        "d.yaml:12:34: variables.h.type: expected `bool`, `uint16`, `int16`, `uint32`, `int32`, `uint64`, `int64`, `float32`, `float64` or `string`, found `integer`",
        "d.yaml:13:28: variables.i.type: a string needs `length`, in registers of two characters",
        "d.yaml:14:42: variables.j.length: 0 is out of range: 1 to 125 registers",
        "d.yaml:15:26: variables.k.access_level: input registers can only be read",
        "d.yaml:16:28: variables.l.interval: 0 is out of range: 1 to 86400000",
        "d.yaml:17:28: variables.m.group: `fast` does not stand in `poll_groups` (there: none)",
        "d.yaml:18:25: variables.n.holding_register: `65536` is out of range: 0 to 65535",
        "d.yaml:19:18: variables.o.reference: `20001` names no table; a reference has five or six digits: 00001 (coil), 10001 (discrete input), 30001 (input register), 40001 (holding register)",
        "d.yaml:20:40: variables.p.deadband: only numbers have a deadband",
        "d.yaml:21:16: variables.q.scale: has no meaning for a single bit",
        "d.yaml:22:3: variables.avail: the name is an event that the platform itself writes for each asset; choose another name",
        "d.yaml:23:28: variables.r.lenght: unknown key `lenght`; did you mean `length`?",
        "d.yaml:24:26: variables.t.access_level: discrete inputs can only be read",
        "d.yaml:25:55: variables.u.access_level: the bits lie in several registers, and a device changes those of one at once: write `requests: {write_bits: read_modify_write}`",
        "d.yaml:26:55: variables.v.access_level: at most 123 registers can be written at once",
        "d.yaml:28:3: constants.a: the name is taken by variables.a in line 5; local names are unique over all sections of a connector",
        "d.yaml:29:16: constants.s.interval: unknown key `interval`",
    ];
    for (seen, expected) in problems.iter().zip(expected) {
        assert!(seen.starts_with(expected), "\nexpected {expected}\nseen     {seen}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn mistakes_in_the_connection_are_told() {
    let told = |yaml: &str| {
        let (config, problems, _) = read(&format!("{yaml}\nvariables: {{a: {{coil: 1}}}}"));
        assert_eq!(config, None, "{yaml}");
        problems.join("\n")
    };
    assert!(told("requests: {max_gap: 1}").contains("`server: {host: …}` (Modbus TCP) or `serial: {port: …}` (Modbus RTU) is missing"));
    assert!(told("server: {port: 502}").contains("`host` is missing"));
    assert!(told("server: {host: \"tcp://10.0.0.5\"}").contains("is no host name or address"));
    assert!(told("server: {host: a, timeout: 0, unit_id: 256}").contains("timeout: 0 is out of range"));
    assert!(told("server: {host: a, unit_id: 256}").contains("`256` is out of range: 0 to 255"));
    assert!(told("serial: {port: /dev/ttyS0, baud_rate: 9600, unit_id: 0}").contains("broadcast"));
    assert!(told("serial: {port: /dev/ttyS0, baud_rate: 9600, unit_id: 1, data_bits: 7}").contains("Modbus ASCII"));
    assert!(told("serial: {port: /dev/ttyS0, unit_id: 1}").contains("`baud_rate` is missing"));
    assert!(told("server: {host: a}\nrequests: {max_registers: 126}").contains("126 is out of range: 1 to 125"));
    let (config, problems, _) =
        read("server: {host: a}\nrequests: {max_registers: 1}\nvariables: {a: {holding_register: 0, type: float32}}");
    assert!(config.is_none() && problems[0].contains("requests: {join: never}"), "{problems:?}");
    let (config, problems, _) = read("server: {host: a}");
    assert!(config.is_none() && problems[0].contains("nothing to read"), "{problems:?}");
}

#[test]
fn odd_but_possible_things_are_warnings() {
    let (config, problems, warnings) = read(
        "
server: {host: a, unit_id: 250}
variables:
  a: {holding_register: 0, type: float32}
  b: {holding_register: 1, type: float32}
  c: {holding_register: 1, bit: 4}
  d: {holding_register: 1, type: float32}
",
    );
    assert!(config.is_some() && problems.is_empty(), "{problems:?}");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("250 is reserved"), "{warnings:?}");
    assert!(warnings[1].contains("`a` (holding registers 0 to 1) and `b` (holding registers 1 to 2) share registers"), "{warnings:?}");
}

#[test]
fn the_examples_are_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/devices");
    for name in ["modbus-tcp.yaml", "modbus-rtu.yaml"] {
        let text = std::fs::read(format!("{folder}/{name}")).expect(name);
        let environment = Environment::from_fn(|name| (name == "DRIVES_HOST").then(|| "10.0.0.30".to_owned()));
        let problems = Problems::new();
        let document = Document::parse(name, &text, &problems).expect(name);
        let mut root = document.root(&environment, &problems);
        for (device, mut section) in root.entries("devices") {
            let mut connector = section.required_section("connector").expect("a connector");
            assert_eq!(connector.required::<String>("type").as_deref(), Some("modbus"), "{device}");
            assert!(parse(connector).is_some(), "{device}");
        }
        drop(root);
        drop(document);
        let (warnings, problems) = (problems.warnings(), problems.into_vec());
        assert!(problems.is_empty() && warnings.is_empty(), "{problems:?} {warnings:?}");
    }
}
