//! What stands at each address, and what it may mean.

use std::fmt::Write;

use gateway_modbus::{Guess, Mapped, Payload, Table};

/// Bits in a line.
const BITS: usize = 16;
/// Shorter ones are accidents.
const SHORTEST_TEXT: usize = 4;

/// What a register probably is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    /// A number, with the register behind it.
    Number(f32),
    /// The beginning of a text.
    Text(String),
    /// A part of what stands before it.
    Part,
    /// Nothing but itself.
    Register,
}

/// What registers that follow each other probably are, one meaning for each.
pub(super) fn meanings(registers: &[u16], guess: Option<&Guess>) -> Vec<Meaning> {
    let mut meanings = Vec::with_capacity(registers.len());
    while let Some(rest) = registers.get(meanings.len()..).filter(|rest| !rest.is_empty()) {
        let is_begin = guess.is_some_and(|guess| meanings.len() >= guess.begin && (meanings.len() - guess.begin).is_multiple_of(2));
        let number = guess.filter(|_| is_begin).zip(rest.get(..2)).and_then(|(guess, pair)| guess.number(pair));
        let text = text(rest);
        match number {
            Some(number) => meanings.extend([Meaning::Number(number), Meaning::Part]),
            None if text.len() >= SHORTEST_TEXT => {
                let parts = text.len().div_ceil(2) - 1;
                meanings.push(Meaning::Text(text));
                meanings.extend(std::iter::repeat_n(Meaning::Part, parts));
            }
            None => meanings.push(Meaning::Register),
        }
    }
    meanings
}

/// Two letters a register, as far as they are letters.
fn text(registers: &[u16]) -> String {
    let bytes = registers.iter().flat_map(|register| register.to_be_bytes());
    bytes.take_while(|byte| byte.is_ascii_graphic() || *byte == b' ').map(char::from).collect()
}

/// A line for each address; one for several that hold the same and mean nothing else.
pub(super) fn print(out: &mut String, mapped: &Mapped) -> std::fmt::Result {
    for (table, start, held) in &mapped.contents {
        match held {
            Payload::Registers(registers) => print_registers(out, *table, *start, registers, mapped.word_order.as_ref())?,
            Payload::Bits(bits) => print_bits(out, *table, *start, bits)?,
        }
    }
    Ok(())
}

fn print_registers(out: &mut String, table: Table, start: u16, registers: &[u16], guess: Option<&Guess>) -> std::fmt::Result {
    writeln!(out, "  {:<18} {:<6}  {:>6}  {:>6}  probably", table.words(), "hex", "uint16", "int16")?;
    let meanings = meanings(registers, guess);
    let mut rows = registers.iter().zip(&meanings).zip(u32::from(start)..).peekable();
    while let Some(((register, meaning), first)) = rows.next() {
        let mut last = first;
        while *meaning == Meaning::Register
            && rows.next_if(|((next, means), _)| *next == register && **means == Meaning::Register).is_some()
        {
            last += 1;
        }
        let probably = match meaning {
            Meaning::Number(number) => format!("{number} (float32)"),
            Meaning::Text(text) => format!("{text:?} (string, {} registers)", text.len().div_ceil(2)),
            Meaning::Part | Meaning::Register => String::new(),
        };
        let signed = if *register > 0x7fff { register.cast_signed().to_string() } else { String::new() };
        let line = format!("    {:<16} 0x{register:04X}  {register:>6}  {signed:>6}  {probably}", span(first, last));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn print_bits(out: &mut String, table: Table, start: u16, bits: &[bool]) -> std::fmt::Result {
    writeln!(out, "  {}s, the lowest address first", table.words())?;
    for (row, first) in bits.chunks(BITS).zip((u32::from(start)..).step_by(BITS)) {
        let shown: String = row.iter().map(|bit| if *bit { '1' } else { '0' }).collect();
        writeln!(out, "    {:<16} {shown}", span(first, first + row.len() as u32 - 1))?;
    }
    Ok(())
}

fn span(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}–{last}") }
}

#[cfg(test)]
mod tests {
    use super::print;
    use gateway_modbus::{Mapped, Payload, Table};

    #[test]
    fn each_address_is_shown_with_what_it_may_mean_and_what_repeats_is_one_line() {
        let registers = vec![0x5052, 0x4553, 0x5300, 0, 0, 0, 0xfffe];
        let contents =
            vec![(Table::HoldingRegisters, 10, Payload::Registers(registers)), (Table::Coils, 3, Payload::Bits(vec![true, false]))];
        let mut text = String::new();
        print(&mut text, &Mapped { contents, ..Mapped::default() }).expect("a string takes it");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["10", "0x5052", "20562", "\"PRESS\"", "(string,", "3", "registers)"]);
        assert_eq!(lines[2..4], [["11", "0x4553", "17747"], ["12", "0x5300", "21248"]]);
        assert_eq!(lines[4..6], [vec!["13–15", "0x0000", "0"], vec!["16", "0xFFFE", "65534", "-2"]]);
        assert_eq!(lines[7], ["3–4", "10"]);
    }
}
