//! `server`, `serial` and `requests`.

use std::time::Duration;

use super::reader::Reader;
use super::words::{Connection, JoinWord};
use crate::config::{Endpoint, Framing, Parity, SerialLine, Sharing, Timing};
use crate::plan::{Join, Limits};
use crate::write::Functions;

/// `server` or `serial`: the connection, the unit, the times.
pub(super) fn reached(connector: &mut Reader<'_>) -> Option<(Endpoint, u8, Timing)> {
    let (server, serial) = (connector.nested("server"), connector.nested("serial"));
    match (server, serial) {
        (Some(server), None) => tcp(server),
        (None, Some(line)) => serial_line(line),
        (Some(_), Some(_)) => {
            connector.problem("serial", "a device has either `server` (Modbus TCP) or `serial` (Modbus RTU), not both");
            None
        }
        (None, None) => {
            connector.problem("", "`server: {host: …}` (Modbus TCP) or `serial: {port: …}` (Modbus RTU) is missing");
            None
        }
    }
}

fn tcp(mut server: Reader<'_>) -> Option<(Endpoint, u8, Timing)> {
    let host = server.required::<String>("host");
    let port = server.within("port", 502, 1, u16::MAX);
    let framing = server.or("framing", Framing::Tcp);
    let sharing = match server.or("connection", Connection::Shared) {
        Connection::Shared => Sharing::Shared,
        Connection::Own => Sharing::Own(server.section.path().to_owned()),
    };
    let unit = server.or("unit_id", 1_u8);
    if (248..=254).contains(&unit) {
        server.section.warning("unit_id", format!("{unit} is reserved by the specification (1 to 247; 0 or 255 for the server itself)"));
    }
    let default = Timing::default();
    let connect_timeout = server.millis("connect_timeout", default.connect_timeout, 1);
    let timing = timing(&mut server, Timing { connect_timeout, ..default }, framing);
    let host = host.filter(|host| {
        let plain = !host.is_empty() && !host.contains(['/', ' ', '[', ']']);
        if !plain {
            server.problem("host", format!("`{host}` is no host name or address, e.g. `10.0.0.17` (the port has a key of its own)"));
        }
        plain
    });
    let sound = server.finish();
    sound.then_some((Endpoint::Tcp { host: host?, port, framing, sharing }, unit, timing))
}

fn serial_line(mut serial: Reader<'_>) -> Option<(Endpoint, u8, Timing)> {
    let port = serial.required::<String>("port");
    let baud_rate = serial.required::<u32>("baud_rate");
    if let Some(baud @ (..300 | 4_000_001..)) = baud_rate {
        serial.problem("baud_rate", format!("{baud} is out of range: 300 to 4000000"));
    }
    let parity = serial.or("parity", Parity::Even);
    let stop_bits = serial.within("stop_bits", 1_u8, 1, 2);
    if serial.optional::<u8>("data_bits").is_some_and(|bits| bits != 8) {
        serial.problem("data_bits", "Modbus RTU needs 8; 7 belongs to Modbus ASCII, which is not supported");
    }
    let unit = serial.required::<u8>("unit_id");
    match unit {
        Some(0) => serial.problem("unit_id", "0 is the broadcast address: nobody answers it; give 1 to 247"),
        Some(248..) => serial.section.warning("unit_id", "above 247: reserved by the specification"),
        _ => {}
    }
    let timing = timing(&mut serial, Timing { retries: 2, ..Timing::default() }, Framing::Rtu);
    let sound = serial.finish();
    sound.then_some((Endpoint::Serial(SerialLine { port: port?, baud_rate: baud_rate?, parity, stop_bits }), unit?, timing))
}

fn timing(reader: &mut Reader<'_>, default: Timing, framing: Framing) -> Timing {
    let timeout = reader.millis("timeout", default.timeout, 1);
    let settle_time = match framing {
        Framing::Rtu => reader.millis("settle_time", timeout, 1),
        Framing::Tcp => default.settle_time,
    };
    let silent_share = reader.within("silent_share", default.silent_share * 100.0, 1.0, 100.0) / 100.0;
    Timing {
        timeout,
        settle_time,
        silent_share,
        retries: reader.within("retries", default.retries, 0, 10),
        request_delay: reader.millis("request_delay", default.request_delay, 0),
        max_reconnect_delay: reader.millis("max_reconnect_delay", default.max_reconnect_delay, 100),
        ..default
    }
}

pub(super) fn requests(connector: &mut Reader<'_>) -> (Limits, Functions, Duration) {
    let (default, functions, retry) = (Limits::default(), Functions::default(), Timing::default().retry_refused);
    let Some(mut requests) = connector.nested("requests") else { return (default, functions, retry) };
    let join = requests.or("join", JoinWord::Neighbours);
    let max_gap = requests.within("max_gap", Limits::GAP, 0, Limits::REGISTERS);
    let limits = Limits {
        max_registers: requests.within("max_registers", default.max_registers, 1, Limits::REGISTERS),
        max_bits: requests.within("max_bits", default.max_bits, 1, Limits::BITS),
        join: if join == JoinWord::Never { Join::Never } else { Join::Gap(max_gap) },
    };
    let functions = Functions { one: requests.or("write", functions.one), bits: requests.or("write_bits", functions.bits) };
    let retry = requests.millis("retry_refused", retry, 1000);
    connector.sound &= requests.finish();
    (limits, functions, retry)
}
