//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Collects what machines say, keeps it on this box, and mirrors it into Kafka, once and in order.
#[derive(Debug, Parser)]
#[command(name = "openfactory-edge", version, long_about = None, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The config file.
    #[arg(long, short, global = true, value_name = "FILE", default_value = "/etc/openfactory-edge/edge.toml")]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Say everything that is wrong with the config:
    openfactory-edge check-config
  Run in the foreground:
    openfactory-edge run --config ./edge.toml
  Devices, log and mirror of the running edge:
    openfactory-edge status
  One asset's last ten events, and those that follow as they become durable:
    openfactory-edge tail --asset PRESS-1 --last 10

Exit codes: 0 success, 1 failure, 2 wrong usage, 78 bad config";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the edge until SIGTERM or SIGINT.
    Run,
    /// Checks edge.toml and all device files, and says everything that is wrong with them.
    CheckConfig,
    /// Shows devices, log and mirror of the running edge.
    Status(StatusArgs),
    /// Prints events as they become durable.
    Tail(TailArgs),
    /// Prints a completion script, e.g. for /etc/bash_completion.d.
    Completion {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Only this asset; may be repeated.
    #[arg(long, value_name = "UUID")]
    pub(crate) asset: Vec<String>,
    /// JSON lines instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Stop after this many events.
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// Start with the last events (of the assets) that the log still holds, this many.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) last: u64,
}
