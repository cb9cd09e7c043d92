//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use asset_stream::{Timestamp, topics};
use clap::{Args, Parser, Subcommand};

use crate::send::{argument, duration};

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
  Bring commands to the edges, in the foreground:
    openfactory-cloud commands
  Ask an asset for something, and see what becomes of it:
    openfactory-cloud command send --asset CNC-1 --method Move --arg x=10
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

Exit codes: 0 success, 1 failure, 2 wrong usage, 69 verify got nothing from Kafka, 78 bad config; of `command send`: see its help";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forwards the configured topics from Kafka to NATS until SIGTERM or SIGINT.
    Forward(ServiceArgs),
    /// Serves the router until SIGTERM or SIGINT.
    Route,
    /// Brings commands from the asset stream to the edges, and takes commands from NATS, until SIGTERM or SIGINT.
    Commands(ServiceArgs),
    /// Gives commands to assets.
    #[command(name = "command", subcommand)]
    Give(Give),
    /// Proves from sequences and gap events that nothing is missing in the asset stream, repeated, reordered or altered.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Tells who asked what of which asset by commands, when, and what came of it; flags commands without an end, and broken chains.
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(AuditArgs),
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

/// What several processes with one config file must not share.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// This process's name in its group, in place of `instance` in the config.
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Where it tells how it is doing, in place of `status_listen` in the config.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) status_listen: Option<SocketAddr>,
}

/// What can be given.
#[derive(Debug, Subcommand)]
pub(crate) enum Give {
    /// Writes a command into the asset stream, and shows live what becomes of it.
    #[command(after_help = SEND_EXAMPLES)]
    Send(SendArgs),
    /// Gives a writable variable a new value: sends the command that has its name and the argument value.
    #[command(after_help = WRITE_EXAMPLES)]
    Write(WriteArgs),
}

/// A command.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The asset that is asked.
    #[arg(long, value_name = "UUID")]
    pub(crate) asset: String,
    /// What it is asked for: a method, or a writable variable.
    #[arg(long, value_name = "NAME")]
    pub(crate) method: String,
    /// An argument of the method, as often as it has any; for a variable value=VALUE.
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = argument)]
    pub(crate) argument: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) how: How,
}

/// A new value of a variable.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    /// The asset that is asked.
    #[arg(long, value_name = "UUID")]
    pub(crate) asset: String,
    /// The variable.
    #[arg(long, value_name = "NAME")]
    pub(crate) variable: String,
    /// The new value; one that begins with a hyphen as well.
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    #[command(flatten)]
    pub(crate) how: How,
}

/// How a command is given, and what is shown of it.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Sign with this private key (Ed25519, PEM).
    #[arg(long, value_name = "FILE")]
    pub(crate) sign: Option<PathBuf>,
    /// Who asks: an asset's UUID, as edges know senders. Default: USER@HOST.
    #[arg(long, value_name = "NAME")]
    pub(crate) sender: Option<String>,
    /// The command's id: sent again with the same one, it is no new command. Default: a new UUID.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// How long the command may wait for its execution.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) expires_in: Duration,
    /// Leave the deadline to the edge.
    #[arg(long, conflicts_with = "expires_in")]
    pub(crate) no_deadline: bool,
    /// Show what becomes of it, until its end, or for so long. Without a time: until 5 s after its deadline (without one for 60 s), and for 60 s from when
    /// the device was asked. So by default on a terminal.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, value_parser = duration)]
    pub(crate) wait: Option<Option<Duration>>,
    /// Only write it; Kafka has acknowledged it then.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
    /// JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

const SEND_EXAMPLES: &str = "\
Examples:
  Call a method with two arguments:
    openfactory-cloud command send --asset CNC-1 --method Move --arg x=10 --arg y=20
  Write a variable, signed; the command is worth nothing after ten seconds:
    openfactory-cloud command send --asset OVEN-1 --method setpoint --arg value=80 --sign hmi-7.pem --sender HMI-7 --expires-in 10s
  In a script:
    openfactory-cloud command send --asset CNC-1 --method Stop --wait=20s --json || echo \"it did not succeed: $?\"

Exit codes: 0 succeeded (or written, where nobody waits), 1 it could not be written or followed, 2 wrong usage, 3 rejected, 4 failed, 5 expired,
6 unknown (the device may have done it or not: look before you ask again), 7 no end was told in time, 78 bad config";

const WRITE_EXAMPLES: &str = "\
Examples:
  openfactory-cloud command write --asset OVEN-1 --variable setpoint 80
  openfactory-cloud command write --asset OVEN-1 --variable offset -2.5 --sign hmi-7.pem --sender HMI-7

Exit codes: as `openfactory-cloud command send`";

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

/// What is to be audited.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only commands to this asset; the edges' chains, which run over all assets, are not proven then.
    #[arg(long, value_name = "UUID")]
    pub(crate) asset: Option<String>,
    /// Only commands of this sender.
    #[arg(long, value_name = "NAME")]
    pub(crate) sender: Option<String>,
    /// Only commands from this time on, e.g. 2026-01-27T15:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) from: Option<Timestamp>,
    /// Only commands before this time; what came of them later is shown.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) to: Option<Timestamp>,
    /// JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

const AUDIT_EXAMPLES: &str = "\
Examples:
  Everything that was asked, and the proof that nothing told about it is missing or altered:
    openfactory-cloud audit
  What was asked of one asset this morning:
    openfactory-cloud audit --asset CNC-1 --from 2026-01-27T06:00:00Z --to 2026-01-27T12:00:00Z
  For a program:
    openfactory-cloud audit --sender HMI-7 --json

It reads the asset stream that the config names (commands.assets_topic). Exit codes: 0 sound, 1 something is flagged or a chain is broken, 2 wrong usage,
69 Kafka does not give the topic, 78 bad config";

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
