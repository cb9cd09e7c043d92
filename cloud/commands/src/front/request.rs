//! What a request asks for: its subject and its payload.

use std::time::Duration;

use asset_stream::command::{Command, method_name};
use asset_stream::{Timestamp, subject};
use serde_json::Value as Json;

use crate::given::complete;

/// A command that was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) asset: String,
    /// The safe name.
    pub(super) method: String,
    pub(super) command: Command,
}

/// Reads a request; the error is a sentence for whoever asked.
pub(super) fn read(of: &str, prefix: &str, payload: &[u8], expires_in: Duration, now: Timestamp) -> Result<Asked, String> {
    let tokens = of.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.split_once('.'));
    let (asset, method) = tokens.ok_or_else(|| format!("the subject is not {prefix}.<asset>.<method>"))?;
    let name = |token: &str| subject::unescape(token).and_then(|name| String::from_utf8(name).ok()).filter(|name| !name.is_empty());
    let asset = name(asset).ok_or_else(|| format!("the token {asset:?} of the subject names no asset"))?;
    let method =
        name(method).as_deref().and_then(method_name).ok_or_else(|| format!("the token {method:?} of the subject names no method"))?;
    let mut command = command(payload)?;
    // What is signed is not touched: the edge says what it lacks.
    if command.header.signature.is_none() {
        complete(&mut command.header, now, Some(expires_in));
    } else if command.header.correlation_id.is_empty() {
        return Err("header.correlation_id is missing, and a signed command cannot be given one".into());
    }
    Ok(Asked { asset, method, command })
}

fn command(payload: &[u8]) -> Result<Command, String> {
    const EXPECTED: &str = r#"expected the envelope of a command, or {"arguments": {"name": "value"}}, or nothing"#;
    if payload.is_empty() {
        return Ok(Command::default());
    }
    let text = std::str::from_utf8(payload).map_err(|_| format!("the payload is no UTF-8: {EXPECTED}"))?;
    let Ok(Json::Object(object)) = serde_json::from_str(text) else { return Err(format!("the payload is no JSON object: {EXPECTED}")) };
    // Arguments that were forgotten to be put below `arguments` would be ignored.
    if let Some(other) = object.keys().find(|key| !matches!(key.as_str(), "header" | "arguments")) {
        return Err(format!("the payload has a key {other:?}: {EXPECTED}"));
    }
    Command::decode_unnamed(text).map_err(|error| format!("{}: {EXPECTED}", service::error::chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::{Asked, read};
    use asset_stream::Timestamp;
    use std::time::Duration;

    fn asked(subject: &str, payload: &str) -> Result<Asked, String> {
        read(subject, "cmd", payload.as_bytes(), Duration::from_secs(30), Timestamp::from_millis(0))
    }

    #[test]
    fn arguments_are_enough_and_the_rest_is_made() {
        let asked = asked("cmd.CNC%201%2EA.Move%20Axis", r#"{"arguments": {"x": "10", "y": 2.50}}"#).expect("a command");
        assert_eq!((&*asked.asset, &*asked.method), ("CNC 1.A", "Move_Axis"));
        let header = &asked.command.header;
        assert_eq!((header.correlation_id.len(), &*header.timestamp, header.sender_uuid.as_str()), (36, "1970-01-01T00:00:00.000Z", ""));
        assert_eq!(header.expires_at.as_deref(), Some("1970-01-01T00:00:30.000Z"));
        assert_eq!((asked.command.argument("x"), asked.command.argument("y")), (Some("10"), Some("2.50")));
    }

    #[test]
    fn an_envelope_is_taken_as_it_is() {
        let envelope =
            r#"{"header":{"correlation_id":"c-1","sender_uuid":"HMI-1","timestamp":"T","signature":"ed25519:x"},"arguments":{}}"#;
        assert_eq!(asked("cmd.CNC-1.Stop", envelope).map(|asked| asked.command.encode()), Ok(envelope.into()));
        assert_eq!(asked("cmd.CNC-1.Stop", "").map(|asked| asked.command.arguments), Ok(Vec::new()));
        let unsigned = asked("cmd.CNC-1.Stop", r#"{"header":{"correlation_id":"c-1","expires_at":"soon"}}"#).expect("a command");
        assert_eq!((&*unsigned.command.header.correlation_id, unsigned.command.header.expires_at.as_deref()), ("c-1", Some("soon")));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_is_expected() {
        for (subject, payload, expected) in [
            ("cmd.%.Stop", "", "names no asset"),
            ("cmd.CNC-1.%2E", "", "names no method"),
            ("cmd.CNC-1.Stop", "x=1", "no JSON object"),
            ("cmd.CNC-1.Stop", "[]", "no JSON object"),
            ("cmd.CNC-1.Stop", r#"{"x": 1}"#, "a key \"x\""),
            ("cmd.CNC-1.Stop", r#"{"arguments": {"x": "1", "x": "2"}}"#, "there twice"),
            ("cmd.CNC-1.Stop", r#"{"header": {"signature": "ed25519:x"}}"#, "correlation_id"),
        ] {
            let told = asked(subject, payload).expect_err("refused");
            assert!(told.contains(expected), "{subject} {payload}: {told}");
        }
    }
}
