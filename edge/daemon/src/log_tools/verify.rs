//! `log verify`: whether the log is as it was written.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use edge_buffer::{Damage, Inspection, Seen, Totals};
use serde_json::json;

use super::progress::Progress;
use super::{damage_json, sentence};
use crate::cli::VerifyArgs;

pub(crate) fn run(dir: &Path, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let log = edge_buffer::inspect(dir)?;
    let (damage, totals) = read(&log)?;
    let is_intact = damage.iter().all(|damage| damage.is_known);
    let text = if args.json {
        let json = json!({
            "intact": is_intact,
            "epoch": log.epoch,
            "blocks": totals.blocks,
            "events": totals.entries,
            "torn_bytes": totals.torn,
            "closed_in_order": totals.was_closed,
            "damage": damage.iter().map(damage_json).collect::<Vec<_>>(),
        });
        serde_json::to_string_pretty(&json)? + "\n"
    } else {
        sentences(&log, &damage, &totals)
    };
    service::output::print(&text).context("the result cannot be printed")?;
    Ok(if is_intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads everything; all damage there is.
pub(super) fn read(log: &Inspection) -> anyhow::Result<(Vec<Damage>, Totals)> {
    let mut progress = Progress::new("verifying", log);
    let mut found = Vec::new();
    let totals = log.read(|seen| {
        match seen {
            Seen::Block(block) => progress.at(&block),
            Seen::Damage(damage) => found.push(damage),
        }
        anyhow::Ok(())
    })?;
    Ok((found, totals))
}

fn sentences(log: &Inspection, damage: &[Damage], totals: &Totals) -> String {
    let mut text: String = damage.iter().map(|damage| sentence(damage) + "\n").collect();
    let unknown = damage.iter().filter(|damage| !damage.is_known).count();
    let plural = if totals.blocks == 1 { "" } else { "s" };
    let read = format!("{} events in {} block{plural} were read", totals.entries, totals.blocks);
    match unknown {
        0 => {
            let known = if damage.is_empty() { "" } else { " but for what it knows" };
            text += &format!("the log in {} is intact{known}: {read}\n", log.dir.display());
        }
        _ => {
            text += &format!(
                "the log in {} is DAMAGED in {unknown} place{}: {read}\n\
                 What to do: stop the edge, `openfactory-edge log repair`, start it: gap events then tell what is lost.\n\
                 A disk that changed bytes once will do it again: look at its health (smartctl), and plan to replace it.\n",
                log.dir.display(),
                if unknown == 1 { "" } else { "s" }
            );
        }
    }
    text
}
