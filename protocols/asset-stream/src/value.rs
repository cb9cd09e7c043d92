//! What a data item's `VALUE` can be.

use std::sync::Arc;

/// The value of an item whose quality is bad, and of `avail` while a device is away.
pub const UNAVAILABLE: &str = "UNAVAILABLE";

/// A value on its way from a device to the wire: a JSON number, string, boolean or array.
///
/// A structure has no place of its own in the contract; it travels as JSON text in [`Value::Text`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A signed integer, exact over its whole range.
    Int(i64),
    /// An unsigned integer, exact over its whole range.
    UInt(u64),
    /// Written with the fewest digits that read back as the same 32-bit number: 24.3, not 24.299999237060547.
    Float32(f32),
    /// Written with the fewest digits that read back as the same 64-bit number.
    Float64(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A string.
    Text(Arc<str>),
    /// An array; several dimensions nest.
    Array(Vec<Value>),
}

impl Value {
    /// `"UNAVAILABLE"`.
    pub fn unavailable() -> Self {
        Self::Text(Arc::from(UNAVAILABLE))
    }

    /// About how many bytes the value holds in memory, for limits in bytes.
    pub fn size_hint(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Array(values) => values.iter().map(Self::size_hint).sum(),
                _ => 0,
            }
    }

    /// Appends the value as JSON. JSON has no NaN and no infinities: they are written as the strings `"NaN"`, `"Infinity"`, `"-Infinity"`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
            Self::UInt(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
            Self::Float32(n) if n.is_finite() => out.extend_from_slice(ryu::Buffer::new().format_finite(*n).as_bytes()),
            Self::Float64(n) if n.is_finite() => out.extend_from_slice(ryu::Buffer::new().format_finite(*n).as_bytes()),
            Self::Float32(n) => write_not_finite(f64::from(*n), out),
            Self::Float64(n) => write_not_finite(*n, out),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Text(text) => write_string(text, out),
            Self::Array(values) => {
                out.push(b'[');
                for (i, value) in values.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    value.write(out);
                }
                out.push(b']');
            }
        }
    }
}

fn write_not_finite(n: f64, out: &mut Vec<u8>) {
    let text: &[u8] = if n.is_nan() {
        b"\"NaN\""
    } else if n > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    };
    out.extend_from_slice(text);
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    let plain = |b: &u8| *b >= 0x20 && *b != b'"' && *b != b'\\';
    if text.as_bytes().iter().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // A string into a Vec cannot fail.
        serde_json::to_writer(out, text).ok();
    }
}

macro_rules! from {
    ($($from:ty => $variant:ident as $to:ty),+ $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(<$to>::from(value))
            }
        }
    )+};
}
from! {
    i8 => Int as i64, i16 => Int as i64, i32 => Int as i64, i64 => Int as i64,
    u8 => UInt as u64, u16 => UInt as u64, u32 => UInt as u64, u64 => UInt as u64,
    f32 => Float32 as f32, f64 => Float64 as f64, bool => Bool as bool,
    &str => Text as Arc<str>, String => Text as Arc<str>, Vec<Value> => Array as Vec<Value>,
}

#[cfg(test)]
mod tests {
    use super::Value;

    fn json(value: impl Into<Value>) -> String {
        let mut out = Vec::new();
        value.into().write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn numbers_keep_their_exact_value() {
        assert_eq!(json(24.3_f32), "24.3");
        assert_eq!(json(0.1_f64), "0.1");
        assert_eq!(json(u64::MAX), "18446744073709551615");
        assert_eq!(json(i64::MIN), "-9223372036854775808");
    }

    #[test]
    fn what_json_cannot_say_becomes_a_string() {
        assert_eq!(json(f64::NAN), "\"NaN\"");
        assert_eq!(json(f32::NEG_INFINITY), "\"-Infinity\"");
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(json("a\"b\\c\n\u{1}ü"), r#""a\"b\\c\n\u0001ü""#);
    }

    #[test]
    fn arrays_nest() {
        assert_eq!(json(vec![Value::from(1_u8), Value::from(vec![Value::from(true)])]), "[1,[true]]");
    }
}
