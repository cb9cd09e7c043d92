//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use asset_stream::{Timestamp, topics};
use clap::{Args, Parser, Subcommand};

/// The services beside Kafka: forwards the asset stream to NATS, and tells clients which NATS cluster serves an asset.
#[derive(Debug, Parser)]
#[command(name = "openfactory-cloud", version, long_about = None, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The config file.
    #[arg(long, short, global = true, value_name = "FILE", default_value = "/etc/openfactory-cloud/cloud.toml")]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Say everything that is wrong with the config:
    openfactory-cloud check-config
  Forward from Kafka to NATS, in the foreground:
    openfactory-cloud forward --config ./cloud.toml
  Answer GET /asset/<uuid> with the NATS cluster that serves the asset:
    openfactory-cloud route
  Prove that nothing is missing in the asset stream:
    openfactory-cloud verify
  How the forwarder is doing, if forward.status_listen is set:
    curl -s localhost:8003/status

NATS clusters come from the config, [nats.NAME], and from the environment:
  NATS_CLUSTER_NAME=nats://a:4222,nats://b:4222

Files:
  /etc/openfactory-cloud/cloud.toml      the config; explained in /usr/share/doc/openfactory-cloud/examples
  /etc/openfactory-cloud/credentials/    secrets that root alone may read

Exit codes: 0 success, 1 failure, 2 wrong usage, 69 verify got nothing from Kafka, 78 bad config";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forwards the configured topics from Kafka to NATS until SIGTERM or SIGINT.
    Forward(ForwardArgs),
    /// Serves the router until SIGTERM or SIGINT.
    Route,
    /// Proves from sequences and gap events that nothing is missing in the asset stream, repeated, reordered or altered.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Checks the config, and says everything that is wrong with it.
    CheckConfig,
    /// Prints a completion script, e.g. for /etc/bash_completion.d.
    Completion(service::command_line::Completion),
    /// Writes man pages into a folder.
    #[command(hide = true)]
    ManPages {
        /// The folder; it must be there.
        folder: PathBuf,
    },
}

/// What several forwarders with one config file must not share.
#[derive(Debug, Args)]
pub(crate) struct ForwardArgs {
    /// This forwarder's name in the group, in place of forward.instance.
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Where it tells how it is doing, in place of forward.status_listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) status_listen: Option<SocketAddr>,
}

/// What is to be proven.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Only what this edge wrote.
    #[arg(long, value_name = "ID")]
    pub(crate) edge: Option<String>,
    /// Only this asset.
    #[arg(long, value_name = "UUID")]
    pub(crate) asset: Option<String>,
    /// From the first record of this time on, e.g. 2026-01-27T15:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) from: Option<Timestamp>,
    /// Up to the first record of this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) to: Option<Timestamp>,
    /// The asset stream.
    #[arg(long, value_name = "TOPIC", default_value = topics::ASSETS)]
    pub(crate) topic: String,
    /// JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  Everything that Kafka still holds:
    openfactory-cloud verify
  One asset since this morning, for a program:
    openfactory-cloud verify --asset PRESS-1 --from 2026-01-27T06:00:00Z --json
  What one edge wrote, from a machine without the forwarder:
    openfactory-cloud verify --edge edge-7 --config ./kafka.toml   # needs the section [kafka] alone

Exit codes: 0 complete (losses that gap events tell are told, and complete), 1 something is missing, repeated without a mark, reordered
or altered, or there is nothing to prove it from, 2 wrong usage, 69 Kafka does not give the topic, 78 bad config";

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "expected a time such as 2026-01-27T15:37:03Z, or with an offset: 2026-01-27T16:37:03+01:00".into())
}
