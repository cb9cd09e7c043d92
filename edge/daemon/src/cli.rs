//! The command line.

use std::path::PathBuf;

use asset_stream::Timestamp;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::log_tools::time;

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
  Whether the log on the disk is whole:
    openfactory-edge log verify

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
    /// Looks into the log's files, whether the edge runs or not: what they hold, whether they are whole.
    Log(LogArgs),
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

#[derive(Debug, Args)]
#[command(after_help = LOG_EXAMPLES)]
pub(crate) struct LogArgs {
    /// The log's folder [default: the folder `log` in edge.state_dir of the config].
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: LogCommand,
}

const LOG_EXAMPLES: &str = "\
Examples:
  Segments, cursors, losses, quarantine; of a copy from another machine:
    openfactory-edge log inspect --dir ./log
  One asset's last two hours:
    openfactory-edge log export --asset PRESS-1 --from -2h > press-1.jsonl
  A day as a table for analysis:
    openfactory-edge log export --from 2026-01-27 --to 2026-01-28 --format parquet --output day.parquet
  What to do about damage:
    systemctl stop openfactory-edge
    openfactory-edge log repair --dry-run
    openfactory-edge log repair
    systemctl start openfactory-edge";

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Shows segments, cursors, losses and quarantine. Reads the blocks' headers only.
    Inspect(InspectArgs),
    /// Reads everything, checks every checksum and number. Exit code 1 if something is damaged that the log does not know.
    Verify(VerifyArgs),
    /// Copies events out, as JSON lines or as a Parquet file.
    Export(ExportArgs),
    /// Puts damaged bytes into quarantine and notes what they cost; gap events tell it at the next start. Removes nothing.
    Repair(RepairArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// JSON instead of sentences.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Only this asset; may be repeated.
    #[arg(long, value_name = "UUID")]
    pub(crate) asset: Vec<String>,
    /// Only events of this time or later: 2026-01-27T15:37:03Z, 2026-01-27 (UTC), or back from now: -2h, -7days.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time::parse)]
    pub(crate) from: Option<Timestamp>,
    /// Only events before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time::parse)]
    pub(crate) to: Option<Timestamp>,
    /// What to write.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub(crate) format: Format,
    /// Where to; the file is there when it is whole. Default: standard output, for JSON lines.
    #[arg(long, short, value_name = "FILE", required_if_eq("format", "parquet"))]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// A JSON object a line.
    Jsonl,
    /// Typed columns, compressed.
    Parquet,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Only say what would be done; the edge may run.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
