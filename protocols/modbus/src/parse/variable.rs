//! One entry of `variables` or `constants`.

use std::sync::Arc;

use asset_stream::Kind;
use asset_stream::device_file::Access;

use super::groups::Groups;
use super::reader::Reader;
use super::words::{KindWord, Range, Reference};
use crate::config::{Interval, Variable};
use crate::decode::Decoder;
use crate::plan::Limits;
use crate::types::{Bits, DataType, Encoding, Report, Scaling, Span, Table, Trim, WordOrder};
use crate::write::{Functions, MOST_REGISTERS, SomeBits, is_over_registers, is_too_long};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasting {
    Variable,
    Constant,
}

pub(super) fn variable(
    name: &str,
    mut entry: Reader<'_>,
    lasting: Lasting,
    (limits, functions): (&Limits, Functions),
    groups: &mut Groups,
) -> Option<Variable> {
    let address = address(&mut entry);
    let decoder = decoder(&mut entry, address.map(|(_, table, _)| table), groups.order);
    let tag = entry.optional::<String>("tag").unwrap_or_else(|| name.to_owned());
    let kind = entry.optional::<KindWord>("kind").map(|word| word.0);
    let unit = entry.optional::<String>("unit").map(Arc::from);
    let (mut deadband, mut report, mut access, group) = (
        0.0,
        groups.report,
        Access::default(),
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
        && let Some(problem) = not_writable(table, decoder.as_ref(), functions)
    {
        entry.problem("access_level", problem);
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

/// Why a variable cannot be written, whatever the device says.
fn not_writable(table: Table, decoder: Option<&Decoder>, functions: Functions) -> Option<String> {
    if !table.is_writable() {
        return Some(format!("{}s can only be read", table.words()));
    }
    match decoder? {
        decoder if is_too_long(decoder.data_type) => Some(format!("at most {MOST_REGISTERS} registers can be written at once")),
        decoder if functions.bits == SomeBits::Mask && is_over_registers(decoder) => Some(
            "the bits lie in several registers, and a device changes those of one at once: write `requests: {write_bits: read_modify_write}` to have them read and written back".to_owned(),
        ),
        _ => None,
    }
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
