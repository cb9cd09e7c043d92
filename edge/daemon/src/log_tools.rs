//! `openfactory-edge log`: what operators do with the log's files, whether the edge runs or not.

mod columns;
mod export;
mod inspect;
mod json_lines;
mod progress;
mod repair;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use edge_buffer::Damage;
use serde_json::json;
use service::units::printed;

use crate::BAD_CONFIG;
use crate::cli::{LogArgs, LogCommand};
use crate::config::Config;

/// Runs one of the commands.
pub(crate) fn run(config: &Path, args: &LogArgs) -> ExitCode {
    let dir = match folder(config, args) {
        Ok(dir) => dir,
        Err(problems) => {
            eprintln!("{}\nopenfactory-edge: the log is not known without the config; name its folder by --dir", problems.join("\n"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let done = match &args.command {
        LogCommand::Inspect(args) => inspect::run(&dir, args),
        LogCommand::Verify(args) => verify::run(&dir, args),
        LogCommand::Export(args) => export::run(&dir, args),
        LogCommand::Repair(args) => repair::run(&dir, args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("openfactory-edge: {error:#}");
        ExitCode::FAILURE
    })
}

fn folder(config: &Path, args: &LogArgs) -> Result<PathBuf, Vec<String>> {
    if let Some(dir) = &args.dir {
        return Ok(dir.clone());
    }
    let config = Config::read(config).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(config.buffer().dir)
}

/// A damage in a sentence.
fn sentence(damage: &Damage) -> String {
    let harmed = if damage.bytes > 0 { format!(" ({} harmed)", printed(damage.bytes)) } else { String::new() };
    let cost = match (damage.first, damage.last) {
        (0, _) => "no event is lost by it".to_owned(),
        (first, Some(last)) => format!("events {first} to {last} are lost"),
        (first, None) => format!("events from {first} on are lost, nobody knows how many"),
    };
    let known = match (damage.is_known, damage.first) {
        (false, _) => "",
        (true, 0) => "; the bytes are in quarantine",
        (true, _) => "; the log knows, gap events tell it",
    };
    format!("{}{harmed}: {cost}{known}", damage.what)
}

fn damage_json(damage: &Damage) -> serde_json::Value {
    let lost = (damage.first > 0).then(|| json!({"first": damage.first, "last": damage.last}));
    json!({
        "file": damage.file,
        "offset": damage.offset,
        "bytes": damage.bytes,
        "lost": lost,
        "known": damage.is_known,
        "detail": damage.what,
    })
}
