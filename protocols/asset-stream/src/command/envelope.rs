//! The envelope as JSON, with the order of its keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Command, Header, NotACommand};
use crate::value::write_string;

/// An object's keys and values in the order in which they are written.
struct Ordered(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Ordered, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

pub(super) fn decode(text: &str) -> Result<Command, NotACommand> {
    let command = decode_unnamed(text)?;
    if command.header.correlation_id.is_empty() {
        return Err(NotACommand::NoCorrelationId);
    }
    Ok(command)
}

pub(super) fn decode_unnamed(text: &str) -> Result<Command, NotACommand> {
    let Ordered(envelope) = serde_json::from_str(text).map_err(NotACommand::Json)?;
    let mut command = Command::default();
    for (name, json) in envelope {
        match name.as_str() {
            "header" => command.header = header(object(&json)?)?,
            "arguments" => command.arguments = arguments(object(&json)?)?,
            // What a later version adds beside the two is not for this one.
            _ => {}
        }
    }
    Ok(command)
}

/// An object; null is an empty one.
fn object(json: &RawValue) -> Result<Vec<(String, Box<RawValue>)>, NotACommand> {
    let object: Option<Ordered> = serde_json::from_str(json.get()).map_err(NotACommand::Json)?;
    Ok(object.map_or_else(Vec::new, |Ordered(entries)| entries))
}

fn header(entries: Vec<(String, Box<RawValue>)>) -> Result<Header, NotACommand> {
    let text = |json: &RawValue| serde_json::from_str::<Option<String>>(json.get()).map_err(NotACommand::Json);
    let mut header = Header::default();
    for (name, json) in entries {
        match name.as_str() {
            "correlation_id" => header.correlation_id = text(&json)?.unwrap_or_default(),
            "sender_uuid" => header.sender_uuid = text(&json)?.unwrap_or_default(),
            "timestamp" => header.timestamp = text(&json)?.unwrap_or_default(),
            "expires_at" => header.expires_at = text(&json)?,
            "signature" => header.signature = text(&json)?,
            _ => header.further.push((name, json.get().to_owned())),
        }
    }
    Ok(header)
}

fn arguments(entries: Vec<(String, Box<RawValue>)>) -> Result<Vec<(String, String)>, NotACommand> {
    let mut arguments: Vec<(String, String)> = Vec::with_capacity(entries.len());
    let mut names = std::collections::HashSet::with_capacity(entries.len());
    for (name, json) in entries {
        if !names.insert(name.clone()) {
            return Err(NotACommand::ArgumentTwice(name));
        }
        let json = json.get();
        let value = if json.starts_with('"') { serde_json::from_str(json).map_err(NotACommand::Json)? } else { json.to_owned() };
        arguments.push((name, value));
    }
    Ok(arguments)
}

pub(super) fn encode(command: &Command) -> String {
    let Header { correlation_id, sender_uuid, timestamp, expires_at, signature, further } = &command.header;
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"header\":{\"correlation_id\":");
    write_string(correlation_id, &mut out);
    out.extend_from_slice(b",\"sender_uuid\":");
    write_string(sender_uuid, &mut out);
    out.extend_from_slice(b",\"timestamp\":");
    write_string(timestamp, &mut out);
    if let Some(expires_at) = expires_at {
        out.extend_from_slice(b",\"expires_at\":");
        write_string(expires_at, &mut out);
    }
    out.extend_from_slice(b",\"signature\":");
    match signature {
        Some(signature) => write_string(signature, &mut out),
        None => out.extend_from_slice(b"null"),
    }
    for (name, json) in further {
        out.push(b',');
        write_string(name, &mut out);
        out.push(b':');
        // A caller may have put anything there; what is no JSON would break the whole envelope.
        match serde_json::from_str::<IgnoredAny>(json) {
            Ok(_) => out.extend_from_slice(json.as_bytes()),
            Err(_) => write_string(json, &mut out),
        }
    }
    out.extend_from_slice(b"},\"arguments\":{");
    for (i, (name, value)) in command.arguments.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(name, &mut out);
        out.push(b':');
        write_string(value, &mut out);
    }
    out.extend_from_slice(b"}}");
    // Written from strings and JSON text alone.
    String::from_utf8(out).unwrap_or_default()
}
