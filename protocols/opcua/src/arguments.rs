//! Texts into OPC UA's values, as the server declares them: arguments of methods, and what is written into variables. Pure.
//!
//! | declared | text |
//! | --- | --- |
//! | Boolean | `true`, `false`, `1`, `0` |
//! | integers | a whole number, within the type's range |
//! | Float, Double, Number | a finite number |
//! | an enumeration | a name that the server tells, or its number |
//! | String, LocalizedText, XmlElement | the text |
//! | DateTime | ISO 8601 with a time zone |
//! | ByteString | base64 |
//! | Guid, NodeId, ExpandedNodeId, QualifiedName (`2:Name`) | as they are told |
//! | an array | a JSON array, nested for several dimensions |
//! | any type (BaseDataType) | what the text looks like: a Boolean, Int64, Double, else a String |
//!
//! Structures cannot be given.

use std::fmt::Display;
use std::str::FromStr;

use opcua::types::{
    Array, ByteString, DataTypeId, DateTime, ExpandedNodeId, Guid, LocalizedText, NodeId, QualifiedName, StatusCode, UAString, Variant,
    VariantScalarTypeId, XmlElement,
};
use serde_json::value::RawValue;

use crate::meaning::Meaning;

/// More dimensions than this nobody has.
const DIMENSIONS: usize = 16;

/// Why a text is no value: the end of a sentence that begins with the argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    WrongType(String),
    OutOfRange(String),
}

/// What the server declares of a value that it is given.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) meaning: Meaning,
    /// OPC UA's: -1 a scalar, 1 an array, 2 a matrix; -2 anything, -3 a scalar or an array, 0 an array of any dimensions.
    pub(crate) rank: i32,
}

/// Anything: the server does not tell.
impl Default for Declared {
    fn default() -> Self {
        Self { meaning: Meaning::default(), rank: -2 }
    }
}

impl Declared {
    /// The value that `text` is. What the server does not tell is taken as it looks.
    pub(crate) fn variant(&self, text: &str) -> Result<Variant, Unfit> {
        let looks_like_array = || text.trim_start().starts_with('[') && serde_json::from_str::<Vec<&RawValue>>(text).is_ok();
        match self.rank {
            0 | 1.. => self.array(text),
            -3 | -2 if looks_like_array() => self.array(text),
            _ => self.scalar(text),
        }
    }

    fn array(&self, text: &str) -> Result<Variant, Unfit> {
        let raw = serde_json::from_str::<&RawValue>(text).map_err(|_| not_an_array(text))?;
        let mut flat = Flat { dimensions: Vec::new(), values: Vec::new() };
        let depth = usize::try_from(self.rank).ok().filter(|rank| *rank > 0).unwrap_or_else(|| depth(raw));
        if depth == 0 {
            return Err(not_an_array(text));
        }
        if depth > DIMENSIONS {
            return Err(Unfit::WrongType(format!("it has more than {DIMENSIONS} dimensions")));
        }
        self.collect(raw, depth, 0, &mut flat)?;
        let of = match self.base() {
            // Anything, and of several types perhaps.
            DataTypeId::BaseDataType => {
                flat.values.iter_mut().for_each(|value| *value = Variant::Variant(Box::new(std::mem::take(value))));
                VariantScalarTypeId::Variant
            }
            base => scalar_type(base).ok_or_else(|| unsupported(base))?,
        };
        let array = match flat.dimensions.as_slice() {
            [_] => Array::new(of, flat.values),
            _ => Array::new_multi(of, flat.values, flat.dimensions),
        };
        array.map(Variant::from).map_err(|error| Unfit::WrongType(format!("it is no array: {error:?}")))
    }

    /// Puts the elements into one list, the last dimension varying fastest.
    fn collect(&self, raw: &RawValue, depth: usize, level: usize, flat: &mut Flat) -> Result<(), Unfit> {
        if level == depth {
            let json = raw.get();
            let text = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
            if json == "null" {
                return Err(Unfit::WrongType("null is no element of an array".to_owned()));
            }
            flat.values.push(self.scalar(&text)?);
            return Ok(());
        }
        let elements = serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_err(|_| not_an_array(raw.get()))?;
        let length = u32::try_from(elements.len()).unwrap_or(u32::MAX);
        match flat.dimensions.get(level) {
            None => flat.dimensions.push(length),
            Some(known) if *known == length => {}
            Some(known) => return Err(Unfit::WrongType(format!("its rows have {known} and {length} elements"))),
        }
        elements.into_iter().try_for_each(|element| self.collect(element, depth, level + 1, flat))
    }

    fn base(&self) -> DataTypeId {
        self.meaning.base().unwrap_or(DataTypeId::BaseDataType)
    }

    fn scalar(&self, text: &str) -> Result<Variant, Unfit> {
        use DataTypeId as T;
        let text_of = || UAString::from(text);
        Ok(match self.base() {
            T::Boolean => boolean(text)?.into(),
            T::SByte => integer::<i8>(text, i8::MIN, i8::MAX)?.into(),
            T::Byte => integer::<u8>(text, u8::MIN, u8::MAX)?.into(),
            T::Int16 => integer::<i16>(text, i16::MIN, i16::MAX)?.into(),
            T::UInt16 => integer::<u16>(text, u16::MIN, u16::MAX)?.into(),
            T::Int32 => integer::<i32>(text, i32::MIN, i32::MAX)?.into(),
            T::UInt32 => integer::<u32>(text, u32::MIN, u32::MAX)?.into(),
            T::Int64 | T::Integer => integer::<i64>(text, i64::MIN, i64::MAX)?.into(),
            T::UInt64 | T::UInteger => integer::<u64>(text, u64::MIN, u64::MAX)?.into(),
            T::Float => float(text)?.into(),
            T::Double | T::Number => number(text)?.into(),
            T::Enumeration => self.enumeration(text)?.into(),
            T::String => Variant::String(text_of()),
            T::LocalizedText => LocalizedText::from(text).into(),
            T::XmlElement => Variant::XmlElement(XmlElement::from(text_of())),
            T::QualifiedName => qualified_name(text).into(),
            T::DateTime => {
                let time = DateTime::parse_from_rfc3339(text.trim())
                    .map_err(|_| Unfit::WrongType(format!("{text:?} is no time: write e.g. 2026-02-21T12:00:00.000Z")))?;
                time.into()
            }
            T::ByteString => {
                ByteString::from_base64(text.trim()).ok_or_else(|| Unfit::WrongType(format!("{text:?} is not base64")))?.into()
            }
            T::Guid => parsed::<Guid>(text, "GUID, e.g. 72962b91-fa75-4ae6-8d28-b404dc7daf63")?.into(),
            T::NodeId => parsed::<NodeId>(text, "node id, e.g. ns=2;s=Temperature")?.into(),
            T::ExpandedNodeId => parsed::<ExpandedNodeId>(text, "node id, e.g. ns=2;s=Temperature")?.into(),
            T::StatusCode => StatusCode::from(integer::<u32>(text, u32::MIN, u32::MAX)?).into(),
            T::BaseDataType => as_it_looks(text),
            base => return Err(unsupported(base)),
        })
    }

    fn enumeration(&self, text: &str) -> Result<i32, Unfit> {
        let Some(names) = self.meaning.names() else { return integer(text, i32::MIN, i32::MAX) };
        let by_name = names.iter().find(|(_, name)| &***name == text).map(|(number, _)| *number);
        let by_number = || text.trim().parse().ok().filter(|number| names.contains_key(number));
        let number = by_name.or_else(by_number).and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| {
            let mut known: Vec<_> = names.iter().map(|(number, name)| (*number, name.clone())).collect();
            known.sort_unstable();
            let known: Vec<String> = known.iter().map(|(number, name)| format!("{name} ({number})")).collect();
            Unfit::OutOfRange(format!("{text:?} is none of {}", known.join(", ")))
        })
    }
}

struct Flat {
    dimensions: Vec<u32>,
    values: Vec<Variant>,
}

/// How deep an array nests, by its first elements.
fn depth(raw: &RawValue) -> usize {
    let (mut at, mut depth) = (raw, 0);
    while depth <= DIMENSIONS {
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(at.get()) else { return depth };
        depth += 1;
        match elements.first() {
            Some(first) => at = first,
            None => return depth,
        }
    }
    depth
}

fn scalar_type(base: DataTypeId) -> Option<VariantScalarTypeId> {
    use DataTypeId as T;
    use VariantScalarTypeId as V;
    Some(match base {
        T::Boolean => V::Boolean,
        T::SByte => V::SByte,
        T::Byte => V::Byte,
        T::Int16 => V::Int16,
        T::UInt16 => V::UInt16,
        T::Int32 | T::Enumeration => V::Int32,
        T::UInt32 => V::UInt32,
        T::Int64 | T::Integer => V::Int64,
        T::UInt64 | T::UInteger => V::UInt64,
        T::Float => V::Float,
        T::Double | T::Number => V::Double,
        T::String => V::String,
        T::LocalizedText => V::LocalizedText,
        T::XmlElement => V::XmlElement,
        T::QualifiedName => V::QualifiedName,
        T::DateTime => V::DateTime,
        T::ByteString => V::ByteString,
        T::Guid => V::Guid,
        T::NodeId => V::NodeId,
        T::ExpandedNodeId => V::ExpandedNodeId,
        T::StatusCode => V::StatusCode,
        _ => return None,
    })
}

fn unsupported(base: DataTypeId) -> Unfit {
    Unfit::WrongType(format!("it is a {base:?}, which commands cannot give yet"))
}

fn not_an_array(text: &str) -> Unfit {
    Unfit::WrongType(format!("{text:?} is no array: write it as JSON, e.g. [1, 2]"))
}

fn boolean(text: &str) -> Result<bool, Unfit> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Unfit::WrongType(format!("{text:?} is neither true nor false"))),
    }
}

/// A whole number, exact; `5.0` is one.
fn integer<T: TryFrom<i128> + Display>(text: &str, least: T, most: T) -> Result<T, Unfit> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = match text.trim().parse::<i128>() {
        Ok(whole) => whole,
        Err(_) => match number(text)? {
            number if number.fract() != 0.0 => return Err(Unfit::WrongType(format!("{text} is no whole number"))),
            number if number.abs() <= EXACT => number as i128,
            _ => return Err(Unfit::OutOfRange(format!("{text} is too large to be exact: write all its digits"))),
        },
    };
    T::try_from(whole).map_err(|_| Unfit::OutOfRange(format!("{text} is out of range: {least} to {most}")))
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

fn float(text: &str) -> Result<f32, Unfit> {
    let exact = number(text)?;
    // Once rounded, not twice.
    let single = text.trim().parse::<f32>().unwrap_or(exact as f32);
    if single.is_finite() { Ok(single) } else { Err(Unfit::OutOfRange(format!("{text} is too large for a 32-bit floating point number"))) }
}

fn parsed<T: FromStr>(text: &str, what: &str) -> Result<T, Unfit> {
    text.trim().parse().map_err(|_| Unfit::WrongType(format!("{text:?} is no {what}")))
}

fn qualified_name(text: &str) -> QualifiedName {
    let parts = text.split_once(':').and_then(|(namespace, name)| Some((namespace.parse::<u16>().ok()?, name)));
    let (namespace, name) = parts.unwrap_or((0, text));
    QualifiedName::new(namespace, name)
}

fn as_it_looks(text: &str) -> Variant {
    match text.trim() {
        "true" => true.into(),
        "false" => false.into(),
        trimmed => match (trimmed.parse::<i64>(), number(trimmed)) {
            (Ok(whole), _) => whole.into(),
            (_, Ok(number)) => number.into(),
            _ => Variant::String(text.into()),
        },
    }
}

#[cfg(test)]
mod tests;
