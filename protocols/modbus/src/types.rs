//! What a device file can say about one variable: where it stands and how its registers are to be read.

use std::fmt;

/// One of the four address spaces of a Modbus device. Each has addresses 0 to 65535 of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Bits that can be written; function code 1. `0xxxx` in Modicon notation.
    Coils,
    /// Bits that can only be read; function code 2. `1xxxx`.
    DiscreteInputs,
    /// 16-bit registers that can only be read; function code 4. `3xxxx`.
    InputRegisters,
    /// 16-bit registers that can be written; function code 3. `4xxxx`.
    HoldingRegisters,
}

impl Table {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Coils, Self::DiscreteInputs, Self::InputRegisters, Self::HoldingRegisters];

    /// The key in a device file whose value is an address in this table.
    pub fn key(self) -> &'static str {
        match self {
            Self::Coils => "coil",
            Self::DiscreteInputs => "discrete_input",
            Self::InputRegisters => "input_register",
            Self::HoldingRegisters => "holding_register",
        }
    }

    /// One of its addresses, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Coils => "coil",
            Self::DiscreteInputs => "discrete input",
            Self::InputRegisters => "input register",
            Self::HoldingRegisters => "holding register",
        }
    }

    /// Whether an address holds one bit; a register holds 16.
    pub fn holds_bits(self) -> bool {
        matches!(self, Self::Coils | Self::DiscreteInputs)
    }

    /// Whether the protocol knows a way to write here.
    pub fn is_writable(self) -> bool {
        matches!(self, Self::Coils | Self::HoldingRegisters)
    }
}

/// Neighbouring addresses of one table. Never empty, never beyond address 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    table: Table,
    start: u16,
    count: u16,
}

impl Span {
    /// `count` addresses from `start` (0-based); `None` when there are none, or when they reach beyond 65535.
    pub fn new(table: Table, start: u16, count: u16) -> Option<Self> {
        (count > 0 && u32::from(start) + u32::from(count) <= 0x1_0000).then_some(Self { table, start, count })
    }

    /// The table.
    pub fn table(self) -> Table {
        self.table
    }

    /// The first address, 0-based.
    pub fn start(self) -> u16 {
        self.start
    }

    /// How many addresses.
    pub fn count(self) -> u16 {
        self.count
    }

    /// The address after the last one: up to 65536.
    pub fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.count)
    }

    /// The smallest span that holds both; `None` for different tables, or when 65,536 addresses would be needed.
    pub fn join(self, other: Self) -> Option<Self> {
        let start = self.start.min(other.start);
        let count = u16::try_from(self.end().max(other.end()) - u32::from(start)).ok()?;
        (self.table == other.table).then_some(Self { table: self.table, start, count })
    }

    /// Whether every address of `other` is in here.
    pub fn covers(self, other: Self) -> bool {
        self.table == other.table && self.start <= other.start && other.end() <= self.end()
    }

    /// Whether an address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.table == other.table && u32::from(self.start) < other.end() && u32::from(other.start) < self.end()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{} {}", self.table.words(), self.start),
            _ => write!(f, "{}s {} to {}", self.table.words(), self.start, self.end() - 1),
        }
    }
}

/// How a variable's registers are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// A coil or discrete input; one bit of a register; or a register that is not 0.
    Bool,
    /// 16 bits, unsigned.
    UInt16,
    /// 16 bits, two's complement.
    Int16,
    /// Two registers, unsigned.
    UInt32,
    /// Two registers, two's complement.
    Int32,
    /// Four registers, unsigned.
    UInt64,
    /// Four registers, two's complement.
    Int64,
    /// Two registers, IEEE 754.
    Float32,
    /// Four registers, IEEE 754.
    Float64,
    /// Text, two bytes a register.
    String {
        /// Its length in registers.
        length: u16,
        /// How bytes become characters.
        encoding: Encoding,
        /// What is cut off at its end.
        trim: Trim,
    },
}

impl DataType {
    /// The words of a device file. A string has a length of one register until told otherwise.
    pub const WORDS: [(&'static str, Self); 10] = [
        ("bool", Self::Bool),
        ("uint16", Self::UInt16),
        ("int16", Self::Int16),
        ("uint32", Self::UInt32),
        ("int32", Self::Int32),
        ("uint64", Self::UInt64),
        ("int64", Self::Int64),
        ("float32", Self::Float32),
        ("float64", Self::Float64),
        ("string", Self::String { length: 1, encoding: Encoding::Ascii, trim: Trim::All }),
    ];

    /// How many registers it takes.
    pub fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::UInt16 | Self::Int16 => 1,
            Self::UInt32 | Self::Int32 | Self::Float32 => 2,
            Self::UInt64 | Self::Int64 | Self::Float64 => 4,
            Self::String { length, .. } => length,
        }
    }

    /// Whether its value is a number.
    pub fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::String { .. })
    }

    /// How many bits an unsigned integer of this type has: `bit` and `bits` can pick from them. `None` for other types.
    pub fn unsigned_bits(self) -> Option<u8> {
        match self {
            Self::UInt16 => Some(16),
            Self::UInt32 => Some(32),
            Self::UInt64 => Some(64),
            _ => None,
        }
    }
}

/// How the bytes of a string become characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 7 bits; other bytes become `U+FFFD` and the quality uncertain.
    Ascii,
    /// UTF-8; what is not becomes `U+FFFD` and the quality uncertain.
    Utf8,
    /// ISO 8859-1: every byte is a character.
    Latin1,
}

impl Encoding {
    /// The words of a device file.
    pub const WORDS: [(&'static str, Self); 3] = [("ascii", Self::Ascii), ("utf-8", Self::Utf8), ("latin1", Self::Latin1)];

    /// Its word in a device file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ascii => "ascii",
            Self::Utf8 => "utf-8",
            Self::Latin1 => "latin1",
        }
    }
}

/// What is cut off at the end of a string that is shorter than its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Everything from the first NUL on, then spaces.
    All,
    /// Everything from the first NUL on.
    Nul,
    /// Spaces.
    Space,
    /// Nothing.
    None,
}

impl Trim {
    /// The words of a device file.
    pub const WORDS: [(&'static str, Self); 4] = [("all", Self::All), ("nul", Self::Nul), ("space", Self::Space), ("none", Self::None)];
}

/// The order in which a device sends the bytes of a value; A is the most significant. Four letters stand for 64 bits too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WordOrder {
    /// Big endian, as the Modbus specification has it. 64 bits: ABCDEFGH.
    #[default]
    Abcd,
    /// Words swapped: the low word first. 64 bits: GHEFCDAB.
    Cdab,
    /// Bytes swapped within each register. 64 bits: BADCFEHG.
    Badc,
    /// Little endian: both. 64 bits: HGFEDCBA.
    Dcba,
}

impl WordOrder {
    /// The words of a device file.
    pub const WORDS: [(&'static str, Self); 8] = [
        ("ABCD", Self::Abcd),
        ("CDAB", Self::Cdab),
        ("BADC", Self::Badc),
        ("DCBA", Self::Dcba),
        ("ABCDEFGH", Self::Abcd),
        ("GHEFCDAB", Self::Cdab),
        ("BADCFEHG", Self::Badc),
        ("HGFEDCBA", Self::Dcba),
    ];

    /// Whether the least significant register comes first.
    pub fn swaps_words(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }

    /// Whether the low byte of each register comes first.
    pub fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }
}

/// A part of an unsigned integer. Bit 0 is the least significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// One bit, as a boolean.
    One(u8),
    /// From the first to the last, both included, as an unsigned integer.
    Range(u8, u8),
}

/// What turns the device's number into the engineer's: `raw * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    scale: f64,
    divisor: Option<f64>,
    offset: f64,
}

impl Scaling {
    /// `None` when the scale is 0, or a number is not finite.
    pub fn new(scale: f64, offset: f64) -> Option<Self> {
        // 3 * 0.1 is 0.30000000000000004, but 3 / 10 is 0.3: a scale that is one over a whole number divides instead.
        let inverse = (1.0 / scale).round();
        let divisor = (1.0 / inverse == scale).then_some(inverse);
        (scale != 0.0 && scale.is_finite() && offset.is_finite()).then_some(Self { scale, divisor, offset })
    }

    /// The engineer's number.
    pub fn apply(self, raw: f64) -> f64 {
        let scaled = match self.divisor {
            Some(divisor) => raw / divisor,
            None => raw * self.scale,
        };
        scaled + self.offset
    }

    /// The device's number, not rounded: the way back of [`Self::apply`].
    pub fn invert(self, value: f64) -> f64 {
        let scaled = value - self.offset;
        match self.divisor {
            Some(divisor) => scaled * divisor,
            None => scaled / self.scale,
        }
    }
}

/// When a reading becomes a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Report {
    /// When it differs from the last one told, by more than the deadband.
    #[default]
    Change,
    /// At each poll.
    Always,
}

impl Report {
    /// The words of a device file.
    pub const WORDS: [(&'static str, Self); 2] = [("change", Self::Change), ("always", Self::Always)];
}

/// Reads an address in Modicon notation: five or six digits, 1-based, the first digit names the table. `40001` is holding register 0.
pub fn parse_reference(text: &str) -> Result<(Table, u16), String> {
    const FORM: &str = "five or six digits: 00001 (coil), 10001 (discrete input), 30001 (input register), 40001 (holding register)";
    let wrong = |why: &str| Err(format!("`{text}` {why}; a reference has {FORM}"));
    if !text.bytes().all(|b| b.is_ascii_digit()) || !matches!(text.len(), 5 | 6) {
        return wrong("is no Modicon reference");
    }
    let table = match text.as_bytes()[0] {
        b'0' => Table::Coils,
        b'1' => Table::DiscreteInputs,
        b'3' => Table::InputRegisters,
        b'4' => Table::HoldingRegisters,
        _ => return wrong("names no table"),
    };
    match text[1..].parse::<u32>() {
        Ok(number @ 1..=0x1_0000) => Ok((table, (number - 1) as u16)),
        Ok(0) => wrong("has the number 0, but references begin with 1"),
        _ => wrong("lies beyond the last address, 65536"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Scaling, Span, Table, parse_reference};

    #[test]
    fn references_are_one_based_and_name_their_table() {
        assert_eq!(parse_reference("40001"), Ok((Table::HoldingRegisters, 0)));
        assert_eq!(parse_reference("400001"), Ok((Table::HoldingRegisters, 0)));
        assert_eq!(parse_reference("465536"), Ok((Table::HoldingRegisters, 65_535)));
        assert_eq!(parse_reference("30010"), Ok((Table::InputRegisters, 9)));
        assert_eq!(parse_reference("10001"), Ok((Table::DiscreteInputs, 0)));
        assert_eq!(parse_reference("00005"), Ok((Table::Coils, 4)));
        for wrong in ["", "1", "4001", "40000", "465537", "20001", "4000001", "-4000", "4000x", "４０００１"] {
            assert!(parse_reference(wrong).is_err(), "{wrong} was taken as {:?}", parse_reference(wrong));
        }
    }

    #[test]
    fn a_span_never_leaves_its_table() {
        let last = Span::new(Table::Coils, 65_535, 1).expect("the last address");
        assert_eq!((last.end(), Span::new(Table::Coils, 65_535, 2), Span::new(Table::Coils, 0, 0)), (65_536, None, None));
        let first = Span::new(Table::Coils, 0, 1).expect("the first address");
        assert_eq!(first.join(last), None, "65,536 addresses do not fit into a count");
        assert_eq!(last.join(first), None);
    }

    #[test]
    fn decimal_scales_give_decimal_numbers() {
        let tenth = Scaling::new(0.1, 0.0).expect("valid");
        assert_eq!((tenth.apply(3.0), tenth.apply(243.0), tenth.apply(-7.0)), (0.3, 24.3, -0.7));
        assert_eq!(Scaling::new(2.0, -40.0).expect("valid").apply(50.0), 60.0);
        assert_eq!((Scaling::new(0.0, 1.0), Scaling::new(f64::NAN, 0.0), Scaling::new(1.0, f64::INFINITY)), (None, None, None));
    }
}
