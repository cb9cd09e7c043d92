//! Which records of the asset stream are commands.

use serde_json::Value as Json;

use asset_stream::command::{COMMAND_MARK, has_mark, method_of};
use asset_stream::{Kind, UNAVAILABLE};

/// What a record is for the copier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// It asks for something, or tries to.
    Command,
    /// It is anything else.
    Other,
}

/// Looks at a record's value.
pub(crate) fn of(value: &[u8]) -> Record {
    if has_mark(value, COMMAND_MARK) && is_command(value) { Record::Command } else { Record::Other }
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
    method_of(id).is_some() && !is_telemetry && !is_announcement
}

#[cfg(test)]
mod tests {
    use super::{Record, of};

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
}
