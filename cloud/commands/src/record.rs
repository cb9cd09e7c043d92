//! Which records of the asset stream are commands.

use serde_json::Value as Json;

use asset_stream::{Kind, UNAVAILABLE, command};

/// What a record is for the copier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// It asks for something, or tries to.
    Command,
    /// It is anything else.
    Other,
}

/// The end of an ID of a command with the quote that closes it. Nearly every record of the asset stream lacks it.
const MARK: &[u8] = b"_CMD\"";

/// Looks at a record's value.
pub(crate) fn of(value: &[u8]) -> Record {
    if contains(value, MARK) && is_command(value) { Record::Command } else { Record::Other }
}

/// Whether the bytes contain the others. The rare first byte makes it fast enough: a few GB a second.
pub(crate) fn contains(bytes: &[u8], sought: &[u8]) -> bool {
    let Some((first, rest)) = sought.split_first() else { return true };
    let mut bytes = bytes;
    while let Some(at) = bytes.iter().position(|byte| byte == first) {
        bytes = &bytes[at + 1..];
        if bytes.starts_with(rest) {
            return true;
        }
    }
    false
}

/// Read more loosely than an event: what is wrong with a command is told by the edge, so it must get there.
fn is_command(value: &[u8]) -> bool {
    let Ok(Json::Object(object)) = serde_json::from_slice(value) else { return false };
    let field = |name: &str| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, json)| json);
    let Some(Json::String(id)) = field("ID") else { return false };
    // A variable that a device's maker named so is telemetry, and says so by its type.
    let is_telemetry = matches!(field("TYPE"), Some(Json::String(kind)) if Kind::parse(kind).is_some_and(|kind| kind != Kind::OpenFactory));
    // So gateways announce that commands are taken, and that they are not taken for now.
    let is_announcement = matches!(field("VALUE"), Some(Json::String(text)) if text.is_empty() || text == UNAVAILABLE);
    command::method_of(id).is_some() && !is_telemetry && !is_announcement
}

#[cfg(test)]
mod tests {
    use super::{Record, contains, of};

    #[test]
    fn commands_are_told_from_everything_else() {
        let command = r#"{"ID":"Move_CMD","VALUE":"{\"header\":{\"correlation_id\":\"c\"}}","TAG":"Method.Command","TYPE":"OpenFactory"}"#;
        let malformed = [
            r#"{"ID":"Move_CMD","VALUE":"{broken","TYPE":"OpenFactory"}"#,
            r#"{"id":"Move_CMD","value":{"header":{}},"type":"OpenFactory"}"#,
            r#"{"ID":"Move_CMD","VALUE":7,"TYPE":"Whatever"}"#,
            r#"{"ID":"Move_CMD"}"#,
        ];
        for text in malformed.into_iter().chain([command]) {
            assert_eq!(of(text.as_bytes()), Record::Command, "{text}");
        }
        for text in [
            r#"{"ID":"temp","VALUE":24.3,"TYPE":"Samples"}"#,
            r#"{"ID":"note","VALUE":"Move_CMD","TYPE":"Events"}"#,
            r#"{"ID":"MOTOR_CMD","VALUE":1,"TYPE":"Samples"}"#,
            r#"{"ID":"Move_CMD","VALUE":"","TYPE":"OpenFactory"}"#,
            r#"{"ID":"Move_CMD","VALUE":"UNAVAILABLE","TYPE":"OpenFactory"}"#,
            r#"{"ID":"Move_CMD.status","VALUE":"{}","TYPE":"OpenFactory"}"#,
            r#"{"ID":"Move_CMD.claim","VALUE":"{}","TYPE":"OpenFactory"}"#,
            r#"{"ID":"_CMD","VALUE":"{}","TYPE":"OpenFactory"}"#,
            r#"["Move_CMD"]"#,
            r#"{"ID":"Move_CMD""#,
            "",
        ] {
            assert_eq!(of(text.as_bytes()), Record::Other, "{text}");
        }
    }

    #[test]
    fn bytes_are_found_wherever_they_stand() {
        assert!(contains(b"__CMD\"", b"_CMD\"") && contains(b"_CMD\"", b"_CMD\"") && contains(b"a", b""));
        assert!(!contains(b"_CMD", b"_CMD\"") && !contains(b"", b"_"));
    }
}
