//! `openfactory-edge cert`: who the edge is to OPC UA servers, and whom it trusts.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use gateway_opcua::{Identity, KeyChange, Listed, TrustStore};
use serde_json::json;

use crate::check::BadConfig;
use crate::cli::CertCommand;
use crate::config::Config;

/// Shows or changes it.
pub(crate) fn run(file: &Path, command: &CertCommand) -> anyhow::Result<()> {
    let config = Config::read(file).map_err(|problems| BadConfig::of(&problems))?;
    let state = &config.edge.state_dir;
    let store = TrustStore::open(state).context("the trusted certificates cannot be used; only root and the edge's user may")?;
    let said = match command {
        CertCommand::Show { json } => {
            let own = Identity::open(state)?.listed();
            let (trusted, rejected) = (store.trusted()?, store.rejected()?);
            match json {
                true => serde_json::to_string_pretty(&json!({"own": own, "trusted": trusted, "rejected": rejected}))? + "\n",
                false => show(&own, &trusted, &rejected)?,
            }
        }
        CertCommand::Renew { new_key } => {
            let change = if *new_key { KeyChange::Replace } else { KeyChange::Keep };
            let own = Identity::renew(state, change)?.listed();
            format!("{}each server must trust it now: import {} there\n", one(&own)?, own.file.display())
        }
        CertCommand::Trust { certificate } => {
            let trusted = store.trust(certificate)?;
            format!(
                "{}trusted; devices that wait for it connect with their next attempt, within minutes; at once: systemctl restart openfactory-edge\n",
                one(&trusted)?
            )
        }
        CertCommand::Reject { certificate } => {
            let rejected = store.reject(certificate)?;
            format!("{}not trusted any more; a connection that is open ends with: systemctl restart openfactory-edge\n", one(&rejected)?)
        }
    };
    service::output::print(&said).context("it cannot be printed")
}

fn show(own: &Listed, trusted: &[Listed], rejected: &[Listed]) -> Result<String, std::fmt::Error> {
    let mut text = format!("own certificate\n{}", one(own)?);
    for (title, listed) in [("trusted servers", trusted), ("servers that were met and are not trusted", rejected)] {
        writeln!(text, "\n{title}{}", if listed.is_empty() { ": none" } else { "" })?;
        for listed in listed {
            text.push_str(&one(listed)?);
        }
    }
    Ok(text)
}

fn one(listed: &Listed) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    writeln!(out, "  {}", if listed.name.is_empty() { "(without a name)" } else { &listed.name })?;
    if let Some(uri) = &listed.application_uri {
        writeln!(out, "    application URI  {uri}")?;
    }
    let expired = if listed.has_expired { "  EXPIRED" } else { "" };
    writeln!(out, "    valid            {} to {}{expired}", listed.valid_from, listed.valid_until)?;
    writeln!(out, "    SHA-1            {}", listed.sha1)?;
    writeln!(out, "    SHA-256          {}", listed.sha256)?;
    writeln!(out, "    file             {}", listed.file.display())?;
    Ok(text)
}
