//! `openfactory-cloud audit`: asks for the audit, shows how far it is, and prints it.

use anyhow::Context;
use cloud_verify::audit::{Audit, Request, audit};

use crate::cli::AuditArgs;
use crate::verify::Line;

/// Reads the topic, prints what was asked and what came of it, and returns it. `topic`: the config's.
pub(crate) fn run(kafka: &service::kafka::Config, topic: &str, arguments: &AuditArgs) -> anyhow::Result<Audit> {
    let AuditArgs { asset, sender, from, to, json } = arguments;
    let request = Request { topic: topic.to_owned(), asset: asset.clone(), sender: sender.clone(), from: *from, to: *to };
    let mut line = Line::default();
    let audit = audit(kafka, &request, |progress| line.show(progress));
    line.clear();
    let audit = audit?;
    let text = if *json { serde_json::to_string_pretty(&audit)? + "\n" } else { audit.to_string() };
    service::output::print(&text).context("the audit cannot be printed")?;
    Ok(audit)
}
