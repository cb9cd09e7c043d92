//! A device file's `connector` section for `type: modbus`. Every mistake is recorded where it stands.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use asset_stream::Kind;
use asset_stream::document::{FromNode, Node, Section};

use crate::config::{Config, Endpoint, Framing, Group, Interval, Parity, SerialLine, Sharing, Timing, Variable};
use crate::decode::Decoder;
use crate::plan::{Join, Limits};
use crate::types::{Access, Bits, DataType, Encoding, Report, Scaling, Span, Table, Trim, WordOrder, parse_reference};

/// Reads the section. `None`: a problem was recorded. (A key that is unknown is recorded too, but alone it leaves a config.)
pub fn parse(section: Section<'_>) -> Option<Config> {
    let mut connector = Reader::new(section);
    let reached = reached(&mut connector);
    let (limits, retry_refused) = requests(&mut connector);
    let mut groups = Groups::read(&mut connector);
    let mut names = HashSet::new();
    let mut variables = Vec::new();
    let mut sound = true;
    for (key, lasting) in [("variables", Lasting::Variable), ("constants", Lasting::Constant)] {
        for (name, entry) in connector.section.entries(key) {
            if RESERVED.contains(&name.as_str()) {
                entry.problem("", format!("`{name}` is an event that every asset has; choose another name"));
                sound = false;
            }
            if !names.insert(name.clone()) {
                entry.problem("", format!("`{name}` is the name of a variable already"));
                sound = false;
            }
            match variable(&name, Reader::new(entry.clone()), lasting, &limits, &mut groups) {
                Some(variable) => variables.push((variable, entry)),
                None => sound = false,
            }
        }
    }
    if names.is_empty() {
        connector.problem("variables", "nothing to read: give at least one variable, e.g. `temp: {holding_register: 0, type: int16}`");
    }
    warn_of_overlaps(&variables);
    let sound = sound && groups.sound && connector.finish();
    let (endpoint, unit, timing) = reached?;
    let variables = variables.into_iter().map(|(variable, _)| variable).collect();
    sound.then_some(Config { endpoint, unit, timing: Timing { retry_refused, ..timing }, limits, groups: groups.list, variables })
}

/// Facts of the platform that a variable would be mistaken for.
const RESERVED: [&str; 6] = ["avail", "AssetType", "references_above", "references_below", "gateway", "gap"];

/// A day: longer waits are mistakes.
const LONGEST: u64 = 86_400_000;

/// A section that remembers whether anything in it was wrong.
struct Reader<'d> {
    section: Section<'d>,
    sound: bool,
}

impl<'d> Reader<'d> {
    fn new(section: Section<'d>) -> Self {
        Self { section, sound: true }
    }

    fn optional<T: FromNode>(&mut self, key: &str) -> Option<T> {
        let value = T::read(&self.section.node(key)?);
        self.sound &= value.is_some();
        value
    }

    fn or<T: FromNode>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    fn required<T: FromNode>(&mut self, key: &str) -> Option<T> {
        let value = self.section.required(key);
        self.sound &= value.is_some();
        value
    }

    /// A nested section that may be missing; one that is no mapping is a problem.
    fn nested(&mut self, key: &str) -> Option<Reader<'d>> {
        let given = self.section.node(key).is_some();
        let section = self.section.section(key);
        self.sound &= !given || section.is_some();
        section.map(Reader::new)
    }

    fn within<T: FromNode + PartialOrd + std::fmt::Display>(&mut self, key: &str, default: T, least: T, most: T) -> T {
        match self.optional(key) {
            Some(value) if value < least || value > most => {
                self.problem(key, format!("{value} is out of range: {least} to {most}"));
                default
            }
            Some(value) => value,
            None => default,
        }
    }

    fn millis(&mut self, key: &str, default: Duration, least: u64) -> Duration {
        Duration::from_millis(self.within(key, default.as_millis() as u64, least, LONGEST))
    }

    fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.section.problem(key, message);
        self.sound = false;
    }

    fn finish(self) -> bool {
        self.section.finish();
        self.sound
    }
}

/// `server` or `serial`: the connection, the unit, the times.
fn reached(connector: &mut Reader<'_>) -> Option<(Endpoint, u8, Timing)> {
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
    let timing = timing(&mut server, Timing { connect_timeout, ..default }, framing == Framing::Rtu);
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
    let timing = timing(&mut serial, Timing { retries: 2, ..Timing::default() }, true);
    let sound = serial.finish();
    sound.then_some((Endpoint::Serial(SerialLine { port: port?, baud_rate: baud_rate?, parity, stop_bits }), unit?, timing))
}

fn timing(reader: &mut Reader<'_>, default: Timing, rtu: bool) -> Timing {
    let timeout = reader.millis("timeout", default.timeout, 1);
    let settle_time = if rtu { reader.millis("settle_time", timeout, 1) } else { default.settle_time };
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

fn requests(connector: &mut Reader<'_>) -> (Limits, Duration) {
    let (default, retry) = (Limits::default(), Timing::default().retry_refused);
    let Some(mut requests) = connector.nested("requests") else { return (default, retry) };
    let join = requests.or("join", JoinWord::Neighbours);
    let max_gap = requests.within("max_gap", Limits::GAP, 0, Limits::REGISTERS);
    let limits = Limits {
        max_registers: requests.within("max_registers", default.max_registers, 1, Limits::REGISTERS),
        max_bits: requests.within("max_bits", default.max_bits, 1, Limits::BITS),
        join: if join == JoinWord::Never { Join::Never } else { Join::Gap(max_gap) },
    };
    let retry = requests.millis("retry_refused", retry, 1000);
    connector.sound &= requests.finish();
    (limits, retry)
}

/// The poll groups, and what holds where a variable says nothing.
struct Groups {
    list: Vec<Group>,
    named: Vec<(String, Duration)>,
    default: (Option<String>, Duration),
    order: WordOrder,
    report: Report,
    sound: bool,
}

impl Groups {
    fn read(connector: &mut Reader<'_>) -> Self {
        let mut groups = Self {
            list: Vec::new(),
            named: Vec::new(),
            default: (None, Duration::from_secs(1)),
            order: WordOrder::default(),
            report: Report::default(),
            sound: true,
        };
        for (name, section) in connector.section.entries("poll_groups") {
            let mut group = Reader::new(section);
            // A group with a wrong interval is known all the same, so that its variables are not wrong as well.
            let interval = match group.section.contains("interval") {
                true => group.millis("interval", groups.default.1, 1),
                false => group.required::<u64>("interval").map_or(groups.default.1, Duration::from_millis),
            };
            groups.named.push((name, interval));
            groups.sound &= group.finish();
        }
        if let Some(mut defaults) = connector.nested("defaults") {
            groups.default = groups.interval(&mut defaults).unwrap_or(groups.default);
            groups.order = defaults.or("word_order", groups.order);
            groups.report = defaults.or("report", groups.report);
            groups.sound &= defaults.finish();
        }
        groups
    }

    /// `group` or `interval`: the group's name, if it has one, and its interval.
    fn interval(&self, reader: &mut Reader<'_>) -> Option<(Option<String>, Duration)> {
        let group = reader.optional::<String>("group");
        let interval = reader.section.node("interval").map(|_| reader.millis("interval", self.default.1, 1));
        match (group, interval) {
            (Some(_), Some(_)) => {
                reader.problem("group", "give either `group` or `interval`, not both");
                None
            }
            (Some(name), None) => {
                let known = self.named.iter().find(|(known, _)| *known == name);
                if known.is_none() {
                    let names: Vec<&str> = self.named.iter().map(|(name, _)| name.as_str()).collect();
                    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                    reader.problem("group", format!("`{name}` does not stand in `poll_groups` (there: {names})"));
                }
                known.map(|(name, interval)| (Some(name.clone()), *interval))
            }
            (None, Some(interval)) => Some((None, interval)),
            (None, None) => None,
        }
    }

    /// The index of a group of this name and interval.
    fn index(&mut self, name: &str, interval: Interval) -> usize {
        let same = |group: &Group| &*group.name == name && group.interval == interval;
        self.list.iter().position(same).unwrap_or_else(|| {
            self.list.push(Group { name: name.into(), interval });
            self.list.len() - 1
        })
    }

    fn index_of(&mut self, reader: &mut Reader<'_>) -> usize {
        let (name, interval) = self.interval(reader).unwrap_or_else(|| self.default.clone());
        let name = name.unwrap_or_else(|| format!("{} ms", interval.as_millis()));
        self.index(&name, Interval::Every(interval))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasting {
    Variable,
    Constant,
}

fn variable(name: &str, mut entry: Reader<'_>, lasting: Lasting, limits: &Limits, groups: &mut Groups) -> Option<Variable> {
    let address = address(&mut entry);
    let decoder = decoder(&mut entry, address.map(|(_, table, _)| table), groups.order);
    let tag = entry.optional::<String>("tag").unwrap_or_else(|| name.to_owned());
    let kind = entry.optional::<KindWord>("kind").map(|word| word.0);
    let unit = entry.optional::<String>("unit").map(Arc::from);
    let (mut deadband, mut report, mut access, group) = (
        0.0,
        groups.report,
        Access::ReadOnly,
        match lasting {
            Lasting::Constant => groups.index("constants", Interval::Once),
            Lasting::Variable => groups.index_of(&mut entry),
        },
    );
    if lasting == Lasting::Constant {
        report = Report::Change;
    } else {
        deadband = entry.within("deadband", 0.0, 0.0, f64::MAX);
        report = entry.or("report", report);
        access = entry.or("access_level", access);
    }
    let number = decoder.is_some_and(|decoder| decoder.data_type.is_number() && !matches!(decoder.bits, Some(Bits::One(_))));
    if deadband > 0.0 && decoder.is_some() && !number {
        entry.problem("deadband", "only numbers have a deadband");
    }
    if let (Access::ReadWrite, Some((_, table, _))) = (access, address)
        && !table.is_writable()
    {
        entry.problem("access_level", format!("{}s can only be read", table.words()));
    }
    let span = address.zip(decoder).and_then(|((key, table, start), decoder)| {
        let count = if table.holds_bits() { 1 } else { decoder.data_type.registers() };
        let span = Span::new(table, start, count);
        if span.is_none() {
            entry.problem(key, format!("{count} registers from address {start} reach beyond the last address, 65535"));
        }
        if !table.holds_bits() && count > limits.max_registers {
            let most = limits.max_registers;
            entry.problem("", format!("needs {count} registers at once, but `requests.max_registers` is {most}: for a device that gives one value at a time write `requests: {{join: never}}` instead"));
        }
        span
    });
    let sound = entry.finish();
    let (span, decoder) = (span?, decoder?);
    let kind = kind.unwrap_or(if number { Kind::Samples } else { Kind::Events });
    let (id, tag) = (name.into(), tag.into());
    sound.then_some(Variable { id, tag, kind, span, decoder, unit, deadband, report, access, group })
}

/// The key that gave it, the table, the 0-based address.
fn address(entry: &mut Reader<'_>) -> Option<(&'static str, Table, u16)> {
    const REFERENCE: &str = "reference";
    let given: Vec<&'static str> =
        Table::ALL.map(Table::key).into_iter().chain([REFERENCE]).filter(|key| entry.section.contains(key)).collect();
    let by_table = Table::ALL.map(|table| entry.optional::<u16>(table.key()).map(|start| (table.key(), table, start)));
    let by_reference = entry.optional::<Reference>(REFERENCE).map(|Reference(table, start)| (REFERENCE, table, start));
    match given.as_slice() {
        [] => {
            entry.problem("", "the address is missing: give `holding_register`, `input_register`, `coil` or `discrete_input` (counted from 0), or `reference` (e.g. 40001)");
            None
        }
        [_] => by_table.into_iter().flatten().chain(by_reference).next(),
        [first, second, ..] => {
            entry.problem(second, format!("one address only, but there is `{first}` too"));
            None
        }
    }
}

fn decoder(entry: &mut Reader<'_>, table: Option<Table>, default_order: WordOrder) -> Option<Decoder> {
    let wanted = entry.optional::<DataType>("type");
    let order = entry.optional::<WordOrder>("word_order");
    let (bit, range) = (entry.optional::<u8>("bit"), entry.optional::<Range>("bits"));
    let (scale, offset) = (entry.optional::<f64>("scale"), entry.optional::<f64>("offset"));
    let text = (entry.optional::<u16>("length"), entry.optional::<Encoding>("encoding"), entry.optional::<Trim>("trim"));
    let table = table?;
    if table.holds_bits() {
        if wanted.is_some_and(|data_type| data_type != DataType::Bool) {
            entry.problem("type", format!("a {} is one bit: its type can only be `bool`", table.words()));
        }
        for key in ["word_order", "bit", "bits", "scale", "offset", "length", "encoding", "trim"] {
            if entry.section.contains(key) {
                entry.problem(key, "has no meaning for a single bit");
            }
        }
        return Some(Decoder { data_type: DataType::Bool, order: default_order, bits: None, scaling: None });
    }
    let bits = match (bit, range) {
        (Some(_), Some(_)) => {
            entry.problem("bits", "give either `bit` (a boolean) or `bits` (a number), not both");
            None
        }
        (Some(bit), None) => Some(Bits::One(bit)),
        (None, Some(Range(first, last))) => Some(Bits::Range(first, last)),
        (None, None) => None,
    };
    let data_type = match (wanted, bits) {
        (Some(DataType::Bool), Some(Bits::One(_))) => DataType::UInt16,
        (wanted, _) => string(entry, wanted.unwrap_or(DataType::UInt16), text),
    };
    if let Some(bits) = bits {
        let (key, last) = match bits {
            Bits::One(bit) => ("bit", bit),
            Bits::Range(_, last) => ("bits", last),
        };
        match data_type.unsigned_bits() {
            None => entry.problem(key, "bits can be taken from uint16, uint32 and uint64 only"),
            Some(width) if last >= width => entry.problem(key, format!("the bits are numbered 0 (least significant) to {}", width - 1)),
            Some(_) => {}
        }
    }
    let number = data_type.is_number() && !matches!(bits, Some(Bits::One(_)));
    let scaling = (scale.is_some() || offset.is_some()).then(|| Scaling::new(scale.unwrap_or(1.0), offset.unwrap_or(0.0)));
    match scaling {
        Some(_) if !number => entry.problem(if scale.is_some() { "scale" } else { "offset" }, "only numbers can be scaled"),
        Some(None) => entry.problem("scale", "0 would make every value the same"),
        _ => {}
    }
    Some(Decoder { data_type, order: order.unwrap_or(default_order), bits, scaling: scaling.flatten() })
}

fn string(entry: &mut Reader<'_>, data_type: DataType, text: (Option<u16>, Option<Encoding>, Option<Trim>)) -> DataType {
    let (length, encoding, trim) = text;
    if !matches!(data_type, DataType::String { .. }) {
        for key in ["length", "encoding", "trim"] {
            if entry.section.contains(key) {
                entry.problem(key, "belongs to `type: string`");
            }
        }
        return data_type;
    }
    match length {
        None if !entry.section.contains("length") => entry.problem("type", "a string needs `length`, in registers of two characters"),
        Some(length) if !(1..=Limits::REGISTERS).contains(&length) => {
            entry.problem("length", format!("{length} is out of range: 1 to {} registers", Limits::REGISTERS));
        }
        _ => {}
    }
    let length = length.unwrap_or(1).clamp(1, Limits::REGISTERS);
    DataType::String { length, encoding: encoding.unwrap_or(Encoding::Ascii), trim: trim.unwrap_or(Trim::All) }
}

/// Two values that share a register, of which neither is bits of it, are usually one wrong address.
fn warn_of_overlaps(variables: &[(Variable, Section<'_>)]) {
    let mut by_place: Vec<_> = variables.iter().filter(|(variable, _)| variable.decoder.bits.is_none()).collect();
    by_place.sort_by_key(|(variable, _)| variable.span);
    let mut widest: Option<&Variable> = None;
    for (variable, section) in by_place {
        match widest {
            Some(before) if before.span.overlaps(variable.span) && before.span != variable.span => {
                section.warning(
                    "",
                    format!(
                        "`{}` ({}) and `{}` ({}) share registers: is an address wrong?",
                        before.id, before.span, variable.id, variable.span
                    ),
                );
            }
            _ => {}
        }
        if widest.is_none_or(|before| before.span.table() != variable.span.table() || before.span.end() < variable.span.end()) {
            widest = Some(variable);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum JoinWord {
    Neighbours,
    Never,
}

#[derive(Clone, Copy)]
enum Connection {
    Shared,
    Own,
}

struct KindWord(Kind);
struct Reference(Table, u16);
struct Range(u8, u8);

impl FromNode for Reference {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        parse_reference(&node.text()?).map(|(table, start)| Self(table, start))
    }
}

impl FromNode for Range {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        let text = node.text()?;
        let ends = text.split_once('-').map(|(first, last)| (first.trim().parse(), last.trim().parse()));
        match ends {
            Some((Ok(first), Ok(last))) if first <= last => Ok(Self(first, last)),
            _ => Err(format!("expected the first and the last bit, e.g. `4-7`, found {}", node.found())),
        }
    }
}

macro_rules! words {
    ($($of:ty => $words:expr),+ $(,)?) => {$(
        impl FromNode for $of {
            fn from_node(node: &Node<'_>) -> Result<Self, String> {
                node.one_of($words)
            }
        }
    )+};
}
words! {
    DataType => DataType::WORDS,
    WordOrder => WordOrder::WORDS,
    Encoding => Encoding::WORDS,
    Trim => Trim::WORDS,
    Report => Report::WORDS,
    Access => Access::WORDS,
    Framing => [("tcp", Framing::Tcp), ("rtu", Framing::Rtu)],
    Parity => [("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)],
    Connection => [("shared", Connection::Shared), ("own", Connection::Own)],
    JoinWord => [("neighbours", JoinWord::Neighbours), ("never", JoinWord::Never)],
    KindWord => [("Samples", Self(Kind::Samples)), ("Events", Self(Kind::Events))],
}

#[cfg(test)]
mod tests;
