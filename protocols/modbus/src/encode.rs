//! Values into registers: the way back of [`crate::decode`]. Pure.
//!
//! What is encoded is read back as what was asked for, or it is refused; only numbers with a scaling are rounded, to the nearest that the
//! device can hold.

use std::fmt::Display;

use asset_stream::Value;

use crate::decode::Decoder;
use crate::types::{Bits, DataType, Encoding, Trim};

/// Why a text is no value for a variable: the end of a sentence that begins with the argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is of another type.
    WrongType(String),
    /// It is of the type, but the registers cannot hold it.
    OutOfRange(String),
}

/// What stands in a variable's registers when it has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoded {
    /// All of each register.
    Whole(Vec<u16>),
    /// Some bits of each; the others belong to somebody else.
    Part(Vec<Masked>),
}

/// Some bits of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Masked {
    /// Which.
    pub(crate) mask: u16,
    /// What they become; 0 outside of the mask.
    pub(crate) bits: u16,
}

impl Masked {
    /// The register with these bits exchanged.
    pub(crate) fn apply(self, register: u16) -> u16 {
        register & !self.mask | self.bits
    }
}

impl Decoder {
    /// The state of a coil.
    pub(crate) fn encode_bit(text: &str) -> Result<bool, Unfit> {
        boolean(text)
    }

    /// The registers that hold the value that `text` is.
    pub(crate) fn encode(&self, text: &str) -> Result<Encoded, Unfit> {
        if let Some(bits) = self.bits {
            return self.encode_part(bits, text);
        }
        let number = match self.data_type {
            DataType::Bool => u64::from(boolean(text)?),
            DataType::UInt16 => self.integer(text, 0, u16::MAX.into())? as u64,
            DataType::UInt32 => self.integer(text, 0, u32::MAX.into())? as u64,
            DataType::UInt64 => self.integer(text, 0, u64::MAX.into())? as u64,
            // Two's complement: what lies above the type's own bits is cut off when the registers are made.
            DataType::Int16 => self.integer(text, i16::MIN.into(), i16::MAX.into())? as u64,
            DataType::Int32 => self.integer(text, i32::MIN.into(), i32::MAX.into())? as u64,
            DataType::Int64 => self.integer(text, i64::MIN.into(), i64::MAX.into())? as u64,
            DataType::Float32 => self.float32(text)?.to_bits().into(),
            DataType::Float64 => self.unscaled(number(text)?)?.to_bits(),
            DataType::String { length, encoding, trim } => return self.encode_text(text, length, encoding, trim),
        };
        Ok(Encoded::Whole(self.registers(number)))
    }

    fn encode_part(&self, bits: Bits, text: &str) -> Result<Encoded, Unfit> {
        let (first, mask, part) = match bits {
            Bits::One(bit) => (bit, 1, u64::from(boolean(text)?)),
            Bits::Range(first, last) => {
                let width = u32::from(last.saturating_sub(first)) + 1;
                let mask = u64::MAX.checked_shr(64_u32.saturating_sub(width)).unwrap_or(0);
                (first, mask, self.integer(text, 0, mask.into())? as u64)
            }
        };
        let shift = |number: u64| self.registers(number.checked_shl(first.into()).unwrap_or(0));
        Ok(Encoded::Part(shift(mask).into_iter().zip(shift(part)).map(|(mask, bits)| Masked { mask, bits }).collect()))
    }

    /// The number's registers in the device's order.
    fn registers(&self, number: u64) -> Vec<u16> {
        let count = self.data_type.registers();
        let word = |i: u16| self.register(number.checked_shr(u32::from(i) * 16).unwrap_or(0) as u16);
        match self.order.swaps_words() {
            true => (0..count).map(word).collect(),
            false => (0..count).rev().map(word).collect(),
        }
    }

    /// The device's whole number, within these bounds.
    fn integer(&self, text: &str, least: i128, most: i128) -> Result<i128, Unfit> {
        let raw = match self.scaling {
            None => whole(text)?,
            Some(_) => {
                let raw = self.unscaled(number(text)?)?.round();
                // Beyond 2^63 a floating point number may be rounded across a bound: the bounds are compared as what they are.
                if raw.abs() < 1e30 { raw as i128 } else { i128::MAX }
            }
        };
        if (least..=most).contains(&raw) {
            return Ok(raw);
        }
        Err(Unfit::OutOfRange(match self.scaling {
            None => out_of(text, least, most),
            Some(scaling) => {
                let (a, b) = (scaling.apply(least as f64), scaling.apply(most as f64));
                out_of(text, a.min(b), a.max(b))
            }
        }))
    }

    fn float32(&self, text: &str) -> Result<f32, Unfit> {
        let exact = number(text)?;
        let raw = match self.scaling {
            // Once rounded, not twice.
            None => text.trim().parse::<f32>().unwrap_or(exact as f32),
            Some(_) => self.unscaled(exact)? as f32,
        };
        if raw.is_finite() { Ok(raw) } else { Err(Unfit::OutOfRange(format!("{text} is too large for a 32-bit floating point number"))) }
    }

    fn unscaled(&self, value: f64) -> Result<f64, Unfit> {
        let raw = self.scaling.map_or(value, |scaling| scaling.invert(value));
        if raw.is_finite() { Ok(raw) } else { Err(Unfit::OutOfRange(format!("{value} is too large"))) }
    }

    fn encode_text(&self, text: &str, length: u16, encoding: Encoding, trim: Trim) -> Result<Encoded, Unfit> {
        let (room, unfit) = (usize::from(length) * 2, |problem: String| Err(Unfit::OutOfRange(problem)));
        let mut bytes = match encoding {
            Encoding::Utf8 => text.as_bytes().to_vec(),
            Encoding::Ascii | Encoding::Latin1 => match text.chars().map(|c| byte(c, encoding)).collect::<Option<Vec<u8>>>() {
                Some(bytes) => bytes,
                None => return unfit(format!("{text:?} has a character that the encoding {} does not have", encoding.word())),
            },
        };
        if bytes.len() > room {
            return unfit(format!("{text:?} takes {} bytes, and there are {room}", bytes.len()));
        }
        let fill = match trim {
            Trim::All | Trim::Nul => 0,
            Trim::Space => b' ',
            Trim::None if bytes.len() == room => 0,
            Trim::None => {
                return unfit(format!("{text:?} takes {} bytes, and with `trim: none` it has to be all {room}", bytes.len()));
            }
        };
        bytes.resize(room, fill);
        let registers: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| self.register(u16::from_be_bytes(*pair))).collect();
        match self.decode(&registers) {
            Some((Value::Text(read), _)) if *read == *text => Ok(Encoded::Whole(registers)),
            _ => unfit(format!("{text:?} would be read back as another text: it ends with what `trim` cuts off")),
        }
    }
}

fn byte(c: char, encoding: Encoding) -> Option<u8> {
    u8::try_from(u32::from(c)).ok().filter(|byte| encoding == Encoding::Latin1 || byte.is_ascii())
}

fn boolean(text: &str) -> Result<bool, Unfit> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Unfit::WrongType(format!("{text:?} is neither true nor false"))),
    }
}

/// A finite number: a set value that is none is a mistake of its sender, not a wish.
fn number(text: &str) -> Result<f64, Unfit> {
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.trim().parse::<f64>() {
        Ok(number) if is_plain(text.trim()) && number.is_finite() => Ok(number),
        Ok(_) if is_plain(text.trim()) => Err(Unfit::OutOfRange(format!("{text} is too large"))),
        _ => Err(Unfit::WrongType(format!("{text:?} is no number"))),
    }
}

/// A whole number, exact; `5.0` is one.
fn whole(text: &str) -> Result<i128, Unfit> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Ok(whole) = text.trim().parse() {
        return Ok(whole);
    }
    match number(text)? {
        number if number.fract() != 0.0 => Err(Unfit::WrongType(format!("{text} is no whole number"))),
        number if number.abs() <= EXACT => Ok(number as i128),
        _ => Err(Unfit::OutOfRange(format!("{text} is too large to be exact: write all its digits"))),
    }
}

fn out_of(text: &str, least: impl Display, most: impl Display) -> String {
    format!("{text} is out of range: {least} to {most}")
}

#[cfg(test)]
mod tests;
