//! `openfactory-cloud command send`: gives a command, and shows live what becomes of it.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use asset_stream::command::signature::PrivateKey;
use asset_stream::command::status::{Reason, State, Status};
use asset_stream::command::{Command, method_name};
use cloud_commands::{Commander, Commands, NEWEST};
use serde_json::{Value as Json, json};

use crate::cli::{Give, How, SendArgs, WriteArgs};

/// What a command came to, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was written, and nobody waited; or the device has done it.
    Done = 0,
    Rejected = 3,
    Failed = 4,
    Expired = 5,
    Unknown = 6,
    /// Nobody told an end in time.
    NoAnswer = 7,
}

/// What to write, found before anything is connected.
pub(crate) struct Prepared {
    asset: String,
    method: String,
    command: Command,
}

/// Makes the command; the error is one of usage.
pub(crate) fn prepare(give: &Give) -> Result<Prepared, String> {
    match give {
        Give::Send(SendArgs { asset, method, argument, how }) => named(asset, method, argument, how),
        Give::Write(WriteArgs { asset, variable, value, how }) => named(asset, variable, &[("value".to_owned(), value.clone())], how),
    }
}

fn named(asset: &str, given: &str, arguments: &[(String, String)], how: &How) -> Result<Prepared, String> {
    let method = method_name(given).ok_or_else(|| format!("{given:?} names nothing: no letter or digit of ASCII is left of it"))?;
    if method != given {
        eprintln!("openfactory-cloud: the safe name of {given:?} is {method}");
    }
    let mut names: Vec<&str> = arguments.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some([twice, _]) = names.array_windows().find(|[one, next]| one == next) {
        return Err(format!("--arg {twice} is there twice, and nobody can know which of them is meant"));
    }
    let expires_in = (!how.no_deadline).then_some(how.expires_in);
    let sender = how.sender.clone().unwrap_or_else(whoever);
    let mut command = cloud_commands::command(&sender, arguments.to_vec(), expires_in);
    if let Some(id) = &how.id {
        command.header.correlation_id.clone_from(id);
    }
    if let Some(file) = &how.sign {
        let text = service::secret::read(file).map_err(|error| format!("--sign: {}", service::error::chain(&error)))?;
        let key = PrivateKey::from_pem(&text).map_err(|error| format!("--sign {}: {error}", file.display()))?;
        command.header.signature = Some(key.sign(asset, &method, &command));
    }
    Ok(Prepared { asset: asset.to_owned(), method, command })
}

/// Who sits at this machine, for the audit.
fn whoever() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".into());
    format!("{user}@{}", service::host::name())
}

/// Writes it, and follows it if that is wanted.
pub(crate) fn run(kafka: &service::kafka::Config, commands: &Commands, prepared: &Prepared, how: &How) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the async runtime cannot be started")?;
    let outcome = runtime.block_on(async {
        let commander = Commander::new(kafka, &commands.assets_topic, 1)?;
        if how.is_followed() {
            return follow(&commander, prepared, how).await;
        }
        commander.post(&prepared.asset, &prepared.method, &prepared.command).await?;
        requested(prepared, how.json)?;
        Ok(Outcome::Done)
    });
    runtime.shutdown_background();
    outcome
}

async fn follow(commander: &Commander, prepared: &Prepared, how: &How) -> anyhow::Result<Outcome> {
    let Prepared { asset, method, command } = prepared;
    let mut life = commander.give(asset, method, command, how.wait.flatten()).await?;
    requested(prepared, how.json)?;
    while let Some(status) = life.next().await {
        say(&if how.json { status.encode() } else { line(&status) })?;
        if let Some(outcome) = outcome(status.state) {
            return Ok(outcome);
        }
    }
    let mut silence = life.silence();
    if life.is_unanswered() && matches!(commander.has_seen(asset), Ok(false)) {
        silence += &format!(" No event of {asset} is among the newest {NEWEST} of its partition: is its name right?");
    }
    if how.json {
        say(&json!({"correlation_id": command.header.correlation_id, "state": "no_answer", "detail": silence}).to_string())?;
    } else {
        eprintln!("openfactory-cloud: {silence}");
    }
    Ok(Outcome::NoAnswer)
}

fn requested(Prepared { asset, method, command }: &Prepared, as_json: bool) -> anyhow::Result<()> {
    let header = &command.header;
    if as_json {
        let fields = json!({"correlation_id": header.correlation_id, "sender_uuid": header.sender_uuid, "state": "requested", "time": header.timestamp,
                            "expires_at": header.expires_at, "asset": asset, "method": method});
        return say(&fields.to_string());
    }
    say(&format!("{}  {:<9}  {asset} {method}, by {}, id {}", header.timestamp, "requested", header.sender_uuid, header.correlation_id))
}

/// A step for people.
fn line(status: &Status) -> String {
    let mut line = format!("{}  {:<9}", status.time, status.state.as_str());
    if let Some(reason) = status.reason {
        line += &format!("  {}", word(reason));
    }
    if let Some(detail) = &status.detail {
        line += if status.reason.is_some() { ": " } else { "  " };
        line += detail;
    }
    if let Some(result) = &status.result {
        line += &format!("  result: {result}");
    }
    line.trim_end().to_owned()
}

fn word(reason: Reason) -> String {
    match serde_json::to_value(reason) {
        Ok(Json::String(word)) => word,
        _ => format!("{reason:?}"),
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    service::output::print(&format!("{line}\n")).context("the command's life cannot be printed")
}

fn outcome(state: State) -> Option<Outcome> {
    match state {
        State::Accepted | State::Executing => None,
        State::Succeeded => Some(Outcome::Done),
        State::Rejected => Some(Outcome::Rejected),
        State::Failed => Some(Outcome::Failed),
        State::Expired => Some(Outcome::Expired),
        State::Unknown => Some(Outcome::Unknown),
    }
}

impl Give {
    /// How it is given.
    pub(crate) fn how(&self) -> &How {
        match self {
            Self::Send(SendArgs { how, .. }) | Self::Write(WriteArgs { how, .. }) => how,
        }
    }
}

impl How {
    /// Followed when that is said, and by default when somebody looks.
    fn is_followed(&self) -> bool {
        self.wait.is_some() || (!self.no_wait && std::io::stdout().is_terminal())
    }
}

/// `name=value`.
pub(crate) fn argument(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() { Err("expected NAME=VALUE".into()) } else { Ok((name.to_owned(), value.to_owned())) }
}

/// As in config files.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    service::units::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::{argument, line, outcome};
    use asset_stream::Timestamp;
    use asset_stream::command::status::{Reason, State, Status};

    #[test]
    fn a_step_is_one_line() {
        let accepted = Status::new("HMI-1", "c-1", State::Accepted, Timestamp::from_millis(0));
        assert_eq!(line(&accepted), "1970-01-01T00:00:00.000Z  accepted");
        let failed =
            Status { reason: Some(Reason::DeviceRefused), detail: Some("BadOutOfRange".into()), state: State::Failed, ..accepted.clone() };
        assert_eq!(line(&failed), "1970-01-01T00:00:00.000Z  failed     device_refused: BadOutOfRange");
        let done = Status { result: Some(serde_json::json!([1])), state: State::Succeeded, ..accepted };
        assert_eq!(line(&done), "1970-01-01T00:00:00.000Z  succeeded  result: [1]");
    }

    #[test]
    fn each_end_has_an_exit_code_of_its_own() {
        let codes: Vec<u8> = State::ALL.into_iter().filter_map(outcome).map(|outcome| outcome as u8).collect();
        assert_eq!(codes, [3, 0, 4, 5, 6]);
    }

    #[test]
    fn an_argument_is_a_name_and_a_value() {
        assert_eq!(argument("x=1=2"), Ok(("x".into(), "1=2".into())));
        assert_eq!(argument("x="), Ok(("x".into(), String::new())));
        assert!(argument("x").is_err() && argument("=1").is_err());
    }
}
