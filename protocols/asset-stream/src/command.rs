//! Commands: events that ask an asset to do something.
//!
//! `ID` is the method's safe name and `_CMD`, `TAG` is `Method.Command`, `VALUE` is the envelope as JSON text:
//!
//! ```
//! use asset_stream::command::Command;
//!
//! let text = r#"{"header": {"correlation_id": "c-1", "sender_uuid": "HMI-7", "timestamp": "2026-02-21T12:00:00Z", "signature": null},
//!                "arguments": {"x": "10", "y": "20"}}"#;
//! let command = Command::decode(text)?;
//! assert_eq!(command.header.correlation_id, "c-1");
//! assert_eq!(command.argument("y"), Some("20"));
//! # Ok::<(), asset_stream::command::NotACommand>(())
//! ```

pub mod claim;
mod envelope;
pub mod signature;
pub mod status;

use std::sync::Arc;

use serde_json::Value as Json;
use unicode_normalization::UnicodeNormalization;

use crate::device_file::COMMAND_ENDING;
use crate::{DataItem, Event, Kind, Sample, Timestamp};

/// The `TAG` of a command.
pub const TAG: &str = "Method.Command";

/// What the bytes of every command contain: the end of its `ID`.
pub const COMMAND_MARK: &[u8] = b"_CMD\"";
/// What the bytes of every status contain.
pub const STATUS_MARK: &[u8] = b"_CMD.status\"";

/// A quick look at a record's bytes before it is read as JSON: nearly every record of the asset stream has no such mark.
pub fn has_mark(value: &[u8], mark: &[u8]) -> bool {
    let Some((first, rest)) = mark.split_first() else { return true };
    let mut value = value;
    while let Some(at) = value.iter().position(|byte| byte == first) {
        value = value.get(at + 1..).unwrap_or_default();
        if value.starts_with(rest) {
            return true;
        }
    }
    false
}

/// The envelope of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Who asked, and when.
    pub header: Header,
    /// Names and values in the order of the envelope. A value that was no string is its JSON text.
    pub arguments: Vec<(String, String)>,
}

/// Who asked, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Tells this command from all others; never empty.
    pub correlation_id: String,
    /// The asset that asks; empty if the sender left it out.
    pub sender_uuid: String,
    /// As the sender wrote it; see [`Header::time`]. Empty if the sender left it out.
    pub timestamp: String,
    /// From when on it must not be executed, as the sender wrote it; see [`Header::deadline`].
    pub expires_at: Option<String>,
    /// `None` for null or left out. See [`signature`].
    pub signature: Option<String>,
    /// Keys that this version does not know, with their JSON as it is written, in the order of the envelope.
    pub further: Vec<(String, String)>,
}

impl Header {
    /// When the command was given, by the sender's clock; `None` if that cannot be read.
    pub fn time(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.timestamp)
    }

    /// From when on it must not be executed; `None` if the sender leaves that to the edge. The error is the text that is no time.
    pub fn deadline(&self) -> Result<Option<Timestamp>, &str> {
        let Some(text) = &self.expires_at else { return Ok(None) };
        Timestamp::parse(text).map(Some).ok_or(text)
    }
}

/// The text is no envelope of a command.
#[derive(Debug, thiserror::Error)]
pub enum NotACommand {
    /// It is no JSON of the envelope's shape.
    #[error("the command's envelope cannot be read")]
    Json(#[source] serde_json::Error),
    /// Without it a repeat could not be told from a new command.
    #[error("header.correlation_id is missing or empty")]
    NoCorrelationId,
    /// Which of the two is meant nobody can know.
    #[error("the argument {0:?} is there twice")]
    ArgumentTwice(String),
    /// The event's value is empty: so existing gateways announce that commands are taken. It asks for nothing.
    #[error("VALUE is empty: the event announces a command and asks for nothing")]
    Announcement,
    /// The event is none of a command.
    #[error("{problem}")]
    Event {
        /// What is wrong with it.
        problem: String,
    },
}

impl Command {
    /// Reads an envelope.
    pub fn decode(text: &str) -> Result<Self, NotACommand> {
        envelope::decode(text)
    }

    /// Reads an envelope that may lack a correlation id, for who gives it one: until then it is no command.
    pub fn decode_unnamed(text: &str) -> Result<Self, NotACommand> {
        envelope::decode_unnamed(text)
    }

    /// Writes the envelope as JSON.
    pub fn encode(&self) -> String {
        envelope::encode(self)
    }

    /// The value of an argument.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The method and the envelope of an event whose `ID` [`method_of`] knows.
    pub fn from_event(event: &Event) -> Result<(String, Self), NotACommand> {
        let problem = |problem: String| NotACommand::Event { problem };
        let method = method_of(&event.id).ok_or_else(|| problem(format!("ID {:?} does not end with {COMMAND_ENDING}", event.id)))?;
        let command = match &event.value {
            Json::String(text) if text.is_empty() => return Err(NotACommand::Announcement),
            Json::String(text) => Self::decode(text)?,
            // Some writers forget that the value is JSON text.
            Json::Object(_) => Self::decode(&event.value.to_string())?,
            other => return Err(problem(format!("VALUE is no JSON text: {other}"))),
        };
        Ok((method.to_owned(), command))
    }

    /// The command as an event of the target asset. `method` is the safe name.
    pub fn to_sample(&self, target: impl Into<Arc<str>>, method: &str, now: Timestamp) -> Sample {
        let item = DataItem::new(target.into(), id(method), TAG, Kind::OpenFactory);
        Sample::good(Arc::new(item), self.encode(), self.header.time().unwrap_or(now), now)
    }
}

/// The `ID` of commands to a method or a writable variable.
pub fn id(method: &str) -> String {
    format!("{method}{COMMAND_ENDING}")
}

/// The method or variable that an `ID` is a command to.
pub fn method_of(id: &str) -> Option<&str> {
    id.strip_suffix(COMMAND_ENDING).filter(|method| !method.is_empty())
}

/// A method's name made safe: decomposed (NFKD) and stripped of what is not ASCII then, every run of anything but letters and digits
/// becomes one `_`, and there is none at either end: `Temp °C` → `Temp_C`, `Öl` → `Ol`. `None` if nothing is left of it.
pub fn method_name(name: &str) -> Option<String> {
    let mut safe = String::with_capacity(name.len());
    let mut run = false;
    for c in name.nfkd().filter(char::is_ascii) {
        if !c.is_ascii_alphanumeric() {
            run = true;
            continue;
        }
        if run && !safe.is_empty() {
            safe.push('_');
        }
        run = false;
        safe.push(c);
    }
    (!safe.is_empty()).then_some(safe)
}

#[cfg(test)]
mod tests;
