//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
  How the forwarder is doing, if forward.status_listen is set:
    curl -s localhost:8003/status

NATS clusters come from the config, [nats.NAME], and from the environment:
  NATS_CLUSTER_NAME=nats://a:4222,nats://b:4222
Exit codes: 0 success, 1 failure, 2 wrong usage, 78 bad config";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forwards the configured topics from Kafka to NATS until SIGTERM or SIGINT.
    Forward,
    /// Serves the router until SIGTERM or SIGINT.
    Route,
    /// Checks the config, and says everything that is wrong with it.
    CheckConfig,
    /// Prints a completion script, e.g. for /etc/bash_completion.d.
    Completion {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
}
