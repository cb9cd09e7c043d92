//! From OPC UA's values to the asset stream's. Pure, and without allocation for numbers of good quality.
//!
//! | OPC UA | `VALUE` |
//! | --- | --- |
//! | integers, Float, Double, Boolean | the number, exact over all 64 bits; NaN and infinities as the strings `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | an enumeration | the name of the number where the server tells it |
//! | String, XmlElement, LocalizedText, QualifiedName (`2:Name`), NodeId (`ns=2;s=a`), Guid, StatusCode | text |
//! | DateTime | text, ISO 8601 in UTC, at least three decimals |
//! | ByteString | base64 |
//! | arrays | arrays; several dimensions nest |
//! | structures | JSON text (see `structure`) |
//! | a null of a type of texts | `""`, with the attribute `null` = `true`, so that it differs from an empty text |
//! | no value at all, or a bad one | `"UNAVAILABLE"`; what a server sends beside a bad status (often the last good value) is never used |

use std::borrow::Cow;
use std::sync::Arc;

use asset_stream::{Kind, Quality, Timestamp, Value};
use opcua::types::status_code::{StatusCodeSeverity, SubStatusCode};
use opcua::types::{Array, DataValue, DateTime, ExpandedNodeId, StatusCode, UAString, Variant};

use crate::meaning::Meaning;
use crate::structure;

/// Deeper nesting than this is written flat: a hostile server could otherwise use up the stack.
const DIMENSIONS: usize = 16;
const OVERFLOW: u32 = 1 << 7;
const INFO_TYPE: u32 = 1 << 10;

/// A data value, converted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Converted {
    pub(crate) value: Value,
    pub(crate) quality: Quality,
    /// The source's time, or else the server's.
    pub(crate) timestamp: Option<Timestamp>,
    /// Mostly empty, and then without allocation.
    pub(crate) attributes: Vec<(Cow<'static, str>, String)>,
}

/// Converts what a read or a subscription gave.
pub(crate) fn convert(data: &DataValue, meaning: &Meaning) -> Converted {
    let timestamp = data.source_timestamp.as_ref().and_then(timestamp).or_else(|| data.server_timestamp.as_ref().and_then(timestamp));
    let status = data.status();
    let mut attributes = Vec::new();
    let bad = |status: Cow<'static, str>| Converted {
        value: Value::unavailable(),
        quality: Quality::Bad(status),
        timestamp,
        attributes: Vec::new(),
    };
    let quality = match status.severity() {
        StatusCodeSeverity::Good => {
            // E.g. GoodClamped, or a limit that was reached; plain Good and the queue's overflow are not worth a word.
            if status.bits() & !(OVERFLOW | INFO_TYPE) != 0 {
                attributes.push((Cow::Borrowed("status"), status_text(status).into_owned()));
            }
            Quality::Good
        }
        StatusCodeSeverity::Uncertain => Quality::Uncertain(status_text(status)),
        StatusCodeSeverity::Bad => return bad(status_text(status)),
    };
    let value = match &data.value {
        None | Some(Variant::Empty) => return bad(Cow::Borrowed("no value")),
        Some(variant) => {
            if is_null(variant) {
                attributes.push((Cow::Borrowed("null"), "true".to_owned()));
            }
            value(variant, meaning)
        }
    };
    Converted { value, quality, timestamp, attributes }
}

/// Whether the server's queue for this item was full, so that values before this one are missing.
pub(crate) fn overflowed(data: &DataValue) -> bool {
    // The standard wants the info type "data value" beside the bit; async-opcua's servers forget it, and nothing else is meant by it then.
    data.status.is_some_and(|status| status.bits() & OVERFLOW != 0)
}

/// A status in words and in full, e.g. `BadSensorFailure (0x808C0000)`.
pub(crate) fn status_text(status: StatusCode) -> Cow<'static, str> {
    if status.bits() == 0 { Cow::Borrowed("Good") } else { Cow::Owned(format!("{} (0x{:08X})", status_name(status), status.bits())) }
}

fn status_name(status: StatusCode) -> &'static str {
    match (status.sub_code(), status.severity()) {
        (SubStatusCode::Invalid, StatusCodeSeverity::Good) => "Good",
        (SubStatusCode::Invalid, StatusCodeSeverity::Uncertain) => "Uncertain",
        (SubStatusCode::Invalid, StatusCodeSeverity::Bad) => "Bad",
        (known, _) => known.name(),
    }
}

/// A time of the wire; `None` for OPC UA's null, the beginning of 1601.
pub(crate) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    (!time.is_null()).then(|| Timestamp::from_millis(time.as_chrono().timestamp_millis()))
}

/// The `TYPE` of a data item whose data type the server does not tell.
pub(crate) fn kind_of_value(value: &Value) -> Kind {
    match value {
        Value::Int(_) | Value::UInt(_) | Value::Float32(_) | Value::Float64(_) => Kind::Samples,
        Value::Array(values) => values.first().map_or(Kind::Events, kind_of_value),
        Value::Bool(_) | Value::Text(_) => Kind::Events,
    }
}

/// Whether the variant says "nothing" in a type that can.
pub(crate) fn is_null(variant: &Variant) -> bool {
    match variant {
        Variant::Empty => true,
        Variant::String(text) => text.is_null(),
        Variant::ByteString(bytes) => bytes.is_null(),
        Variant::LocalizedText(text) => text.text.is_null(),
        Variant::QualifiedName(name) => name.name.is_null(),
        Variant::DateTime(time) => time.is_null(),
        Variant::NodeId(id) => id.is_null(),
        Variant::ExtensionObject(object) => object.is_null(),
        Variant::Variant(inner) => is_null(inner),
        _ => false,
    }
}

/// Converts a variant.
pub(crate) fn value(variant: &Variant, meaning: &Meaning) -> Value {
    match variant {
        Variant::Boolean(b) => Value::Bool(*b),
        Variant::Float(n) => Value::Float32(*n),
        Variant::Double(n) => Value::Float64(*n),
        Variant::SByte(n) => integer(i64::from(*n), meaning),
        Variant::Int16(n) => integer(i64::from(*n), meaning),
        Variant::Int32(n) => integer(i64::from(*n), meaning),
        Variant::Int64(n) => integer(*n, meaning),
        Variant::Byte(n) => unsigned(u64::from(*n), meaning),
        Variant::UInt16(n) => unsigned(u64::from(*n), meaning),
        Variant::UInt32(n) => unsigned(u64::from(*n), meaning),
        Variant::UInt64(n) => unsigned(*n, meaning),
        Variant::Array(array) => self::array(array, meaning),
        Variant::Variant(inner) => value(inner, meaning),
        Variant::DataValue(data) if !data.status().is_bad() => data.value.as_ref().map_or_else(|| "".into(), |v| value(v, meaning)),
        Variant::DataValue(_) => Value::unavailable(),
        Variant::ExtensionObject(object) if object.is_null() => "".into(),
        Variant::ExtensionObject(object) => structure::text(object, meaning.structures()).into(),
        other => Value::Text(text(other)),
    }
}

fn integer(number: i64, meaning: &Meaning) -> Value {
    meaning.name(number).map_or(Value::Int(number), Value::Text)
}

fn unsigned(number: u64, meaning: &Meaning) -> Value {
    i64::try_from(number).ok().and_then(|n| meaning.name(n)).map_or(Value::UInt(number), Value::Text)
}

/// The types that are texts on the wire.
fn text(variant: &Variant) -> Arc<str> {
    match variant {
        Variant::String(text) => plain(text).into(),
        Variant::LocalizedText(text) => plain(&text.text).into(),
        Variant::ByteString(bytes) => bytes.as_base64().into(),
        Variant::DateTime(time) if time.is_null() => "".into(),
        Variant::DateTime(time) => iso(time).into(),
        Variant::Guid(guid) => guid.to_string().into(),
        Variant::NodeId(id) if id.is_null() => "".into(),
        Variant::NodeId(id) => id.to_string().into(),
        Variant::ExpandedNodeId(id) => expanded(id).into(),
        Variant::QualifiedName(name) if name.name.is_null() => "".into(),
        Variant::QualifiedName(name) => name.to_string().into(),
        Variant::XmlElement(xml) => xml.to_string().into(),
        Variant::StatusCode(status) if status.bits() & 0xffff == 0 => status_name(*status).into(),
        Variant::StatusCode(status) => status_text(*status).into(),
        // Only DiagnosticInfo is left: a server's own notes, for people.
        other => format!("{other:?}").into(),
    }
}

/// The library shows a null as "[null]".
fn plain(text: &UAString) -> &str {
    text.value().as_deref().unwrap_or_default()
}

fn expanded(id: &ExpandedNodeId) -> String {
    let text = id.to_string();
    text.strip_prefix("svr=0;").map(str::to_owned).unwrap_or(text)
}

/// OPC UA counts 100 ns: as many decimals as there are, at least three.
fn iso(time: &DateTime) -> String {
    let time = time.as_chrono();
    let decimals = if time.timestamp_subsec_nanos().is_multiple_of(1_000_000) { "%Y-%m-%dT%H:%M:%S%.3fZ" } else { "%Y-%m-%dT%H:%M:%S%.fZ" };
    time.format(decimals).to_string()
}

fn array(array: &Array, meaning: &Meaning) -> Value {
    let values: Vec<Value> = array.values.iter().map(|v| value(v, meaning)).collect();
    match array.dimensions.as_deref() {
        // Some servers send no dimensions, or none that make sense, with a plain array.
        Some(dimensions) if dimensions.len() > 1 && dimensions.len() <= DIMENSIONS && fits(dimensions, values.len()) => {
            nest(dimensions, &mut values.into_iter())
        }
        _ => Value::Array(values),
    }
}

fn fits(dimensions: &[u32], count: usize) -> bool {
    // An empty matrix has no rows to show: it stays an empty array.
    count > 0 && dimensions.iter().try_fold(1_usize, |product, n| product.checked_mul(*n as usize)) == Some(count)
}

/// The last dimension varies fastest.
fn nest(dimensions: &[u32], values: &mut std::vec::IntoIter<Value>) -> Value {
    match dimensions {
        [] => Value::Array(Vec::new()),
        [length] => Value::Array(values.by_ref().take(*length as usize).collect()),
        [length, inner @ ..] => Value::Array((0..*length).map(|_| nest(inner, values)).collect()),
    }
}

#[cfg(test)]
mod tests;
