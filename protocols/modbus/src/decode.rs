//! Registers and bits into values. Pure: no device can make it panic.

use std::borrow::Cow;

use asset_stream::{Quality, Value};

use crate::types::{Bits, DataType, Encoding, Scaling, Trim, WordOrder};

/// Everything needed to turn one variable's registers into its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoder {
    /// The type of the whole.
    pub data_type: DataType,
    /// In which order its bytes come.
    pub order: WordOrder,
    /// Which part of it is wanted; for unsigned integers only.
    pub bits: Option<Bits>,
    /// What makes an engineer's number of it; for numbers only.
    pub scaling: Option<Scaling>,
}

impl Decoder {
    /// The value of a coil or discrete input.
    pub fn decode_bit(bit: bool) -> (Value, Quality) {
        (Value::Bool(bit), Quality::Good)
    }

    /// The value in `registers`; `None` when there are fewer than the type takes. Further registers are ignored.
    ///
    /// Numbers stay exact unless a scaling is set, which makes them 64-bit floating point numbers.
    pub fn decode(&self, registers: &[u16]) -> Option<(Value, Quality)> {
        let registers = registers.get(..usize::from(self.data_type.registers()))?;
        let value = match self.data_type {
            DataType::String { encoding, trim, .. } => return Some(self.text(registers, encoding, trim)),
            DataType::Bool => Value::Bool(registers.iter().any(|r| *r != 0)),
            DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => self.part(self.raw(registers)),
            // The casts cut the zero bits above the type's own off, and keep its sign.
            DataType::Int16 => Value::Int(i64::from(self.raw(registers) as u16 as i16)),
            DataType::Int32 => Value::Int(i64::from(self.raw(registers) as u32 as i32)),
            DataType::Int64 => Value::Int(self.raw(registers) as i64),
            DataType::Float32 => Value::Float32(f32::from_bits(self.raw(registers) as u32)),
            DataType::Float64 => Value::Float64(f64::from_bits(self.raw(registers))),
        };
        Some((self.scaled(value), Quality::Good))
    }

    /// The registers as one number, most significant first, once the device's order is undone. At most four registers.
    fn raw(&self, registers: &[u16]) -> u64 {
        let push = |number: u64, register: &u16| number << 16 | u64::from(self.register(*register));
        match self.order.swaps_words() {
            false => registers.iter().fold(0, push),
            true => registers.iter().rev().fold(0, push),
        }
    }

    /// A register with its bytes in the device's order, or back.
    pub(crate) fn register(&self, register: u16) -> u16 {
        if self.order.swaps_bytes() { register.swap_bytes() } else { register }
    }

    fn part(&self, number: u64) -> Value {
        match self.bits {
            None => Value::UInt(number),
            Some(Bits::One(bit)) => Value::Bool(number.checked_shr(bit.into()).unwrap_or(0) & 1 == 1),
            Some(Bits::Range(first, last)) => {
                let width = u32::from(last.saturating_sub(first)) + 1;
                let mask = u64::MAX.checked_shr(64_u32.saturating_sub(width)).unwrap_or(0);
                Value::UInt(number.checked_shr(first.into()).unwrap_or(0) & mask)
            }
        }
    }

    fn scaled(&self, value: Value) -> Value {
        let Some(scaling) = self.scaling else { return value };
        match as_number(&value) {
            Some(raw) => Value::Float64(scaling.apply(raw)),
            None => value,
        }
    }

    fn text(&self, registers: &[u16], encoding: Encoding, trim: Trim) -> (Value, Quality) {
        let bytes: Vec<u8> = registers.iter().flat_map(|r| self.register(*r).to_be_bytes()).collect();
        let mut bytes = bytes.as_slice();
        if matches!(trim, Trim::All | Trim::Nul) {
            bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
        }
        if matches!(trim, Trim::All | Trim::Space) {
            let end = bytes.iter().rposition(|b| *b != b' ').map_or(0, |last| last + 1);
            bytes = &bytes[..end];
        }
        let (text, clean) = match encoding {
            Encoding::Latin1 => (Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect()), true),
            Encoding::Utf8 => (String::from_utf8_lossy(bytes), std::str::from_utf8(bytes).is_ok()),
            Encoding::Ascii if bytes.is_ascii() => (String::from_utf8_lossy(bytes), true),
            Encoding::Ascii => {
                let replaced = |b: &u8| if b.is_ascii() { char::from(*b) } else { char::REPLACEMENT_CHARACTER };
                (Cow::Owned(bytes.iter().map(replaced).collect()), false)
            }
        };
        let quality = if clean { Quality::Good } else { Quality::Uncertain(Cow::Borrowed("InvalidText")) };
        (Value::from(text.into_owned()), quality)
    }
}

/// A numeric value as a 64-bit floating point number (integers beyond 2^53 lose their last digits).
pub(crate) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(n) => Some(*n as f64),
        Value::UInt(n) => Some(*n as f64),
        Value::Float32(n) => Some(f64::from(*n)),
        Value::Float64(n) => Some(*n),
        Value::Bool(_) | Value::Text(_) | Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests;
