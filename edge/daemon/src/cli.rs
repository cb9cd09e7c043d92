//! The command line.

mod browse;
mod cert;
mod check_config;
mod scan;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::when::When;

pub(crate) use browse::{BrowseArgs, Login};
pub(crate) use cert::CertCommand;
pub(crate) use check_config::CheckConfigArgs;
pub(crate) use scan::{ParityName, ScanCommand, ScanModbusArgs, TableName};

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
  Whether Kafka and all devices answer and have what the device files name:
    openfactory-edge check-config --online
  What an OPC UA server has:
    openfactory-edge browse opc.tcp://10.0.0.5:4840
  Run in the foreground:
    openfactory-edge run --config ./edge.toml
  Devices, log and mirror of the running edge:
    openfactory-edge status
  One asset's last ten events, and those that follow as they become durable:
    openfactory-edge tail --asset PRESS-1 --last 10
  Whether the log on the disk is whole:
    openfactory-edge log verify
  Whether a disk is a place for the log:
    openfactory-edge selftest --dir /var/lib/openfactory-edge

Files:
  /etc/openfactory-edge/edge.toml        the config; explained in /usr/share/doc/openfactory-edge/examples
  /etc/openfactory-edge/devices/*.yaml   the devices
  /etc/openfactory-edge/credentials/     secrets that root alone may read
  /var/lib/openfactory-edge/             the log, the OPC UA identity and trust list
  /run/openfactory-edge/edge.sock        where status, tail and reload ask

Exit codes: 0 success, 1 failure, 2 wrong usage, 78 bad config";

const RELOAD: &str = "\
Device files, [kafka], [mirror], edge.status_listen and edge.log_filter take effect at once, and only what changed is touched: a device that \
is added does not reconnect the others. edge.id, edge.asset, edge.state_dir, edge.socket, edge.memory, [log], and edge.status_access at the same address need a restart. \
Certificates and passwords in files are read again.

Exit codes: 0 the new config is at work, 1 the edge does not answer, or the log takes nothing and so not all devices are at work, 78 the new config was refused, and the one before is at work";

const SUPPORT_BUNDLE: &str = "\
To be run as root, or journal and secrets' files cannot be read. No values of machines are in it. A config file of which it cannot be said \
where its secrets are (it cannot be parsed, it has anchors or tags) is left out. Look into it before you give it away.

Examples:
  The last week, in a file of a chosen name:
    openfactory-edge support-bundle --since -7d --output press-hall.tar.zst
  What is in it:
    zstd -dc press-hall.tar.zst | tar -xO | less";

const STATUS: &str = "\
Of a device: samples are the values that it told, gaps are losses that it or the edge noticed, `no value` are data items that it refuses or \
does not know (check-config --online names them). Asks the edge's socket: for root, and members of the group openfactory-edge.

Exit codes: 0 success, 1 the edge does not answer, 2 wrong usage, 78 the config does not say where it answers";

const REPLAY: &str = "\
Events keep their key, value, time and numbers, so readers can drop what they had by of-seq. Readers that know neither of-seq nor of-replay \
see them as new: a table of the latest value by offset goes back to old values until each item says something new. To fill what Kafka has \
lost, `reconcile` sends less.

Runs beside the edge or without it, as the user that the edge runs as. Ctrl-C stops in order; the same command goes on with it.

Examples:
  What would be sent?
    openfactory-edge replay --from -2h --to now --dry-run
  One asset's morning, with at most 5000 events a second:
    openfactory-edge replay --asset PRESS-1 --rate 5000 \\
      --from 2026-01-27T06:00:00Z --to 2026-01-27T12:00:00Z";

const RECONCILE: &str = "\
Reads the topic from the time of the oldest selected event on, which can be much, compares it with what the log retains of what was \
mirrored, sends in order what does not stand, and reads that once more. What the topic's retention would delete at once is told and not \
sent. Readers find the missing events behind later ones of their asset: see `replay --help`.

Runs beside the edge or without it, as the user that the edge runs as. Ctrl-C stops in order; the same command goes on with it.

Examples:
  What is missing?
    openfactory-edge reconcile --dry-run
  Bring it back, of the last day:
    openfactory-edge reconcile --from -1d";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the edge until SIGTERM or SIGINT.
    Run,
    /// Checks edge.toml and all device files, and says everything that is wrong with them.
    #[command(after_help = check_config::EXIT_CODES)]
    CheckConfig(CheckConfigArgs),
    /// Makes the running edge read its config again: all of it, or, if anything is wrong, nothing.
    #[command(after_help = RELOAD)]
    Reload,
    /// Shows devices, log and mirror of the running edge.
    #[command(after_help = STATUS)]
    Status(StatusArgs),
    /// Prints events as they become durable.
    Tail(TailArgs),
    /// Shows what an OPC UA server has, and writes a device file of it.
    #[command(after_help = browse::EXAMPLES)]
    Browse(BrowseArgs),
    /// Looks for devices of which nobody knows what they have.
    #[command(subcommand)]
    Scan(ScanCommand),
    /// The edge's OPC UA certificate, and those of the servers that it trusts.
    #[command(subcommand, after_help = cert::EXAMPLES)]
    Cert(CertCommand),
    /// Looks into the log's files, whether the edge runs or not: what they hold, whether they are whole.
    Log(LogArgs),
    /// Sends a range of the retained log to Kafka again, marked of-replay.
    #[command(after_long_help = REPLAY)]
    Replay(ReplayArgs),
    /// Compares Kafka with the retained log, and sends what is missing, marked of-replay.
    #[command(after_long_help = RECONCILE)]
    Reconcile(ReconcileArgs),
    /// Tests the disk below a folder: how fast it is, what lies underneath, and whether it looks as if it kept what it says it keeps.
    Selftest(SelftestArgs),
    /// Writes a file for whoever helps from afar: config without secrets, status, journal, the log's health, the system's facts.
    #[command(after_help = SUPPORT_BUNDLE)]
    SupportBundle(SupportBundleArgs),
    /// Prints a completion script, e.g. for /etc/bash_completion.d.
    Completion(service::command_line::Completion),
    /// Writes man pages into a folder.
    #[command(hide = true)]
    ManPages {
        /// The folder; it must be there.
        folder: PathBuf,
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

const VERIFY: &str = "\
Exit codes: 0 all is whole, or its damage is known to the log already, 1 something is damaged that the log does not know, 2 wrong usage, 78 bad config";

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Shows segments, cursors, losses and quarantine. Reads the blocks' headers only.
    Inspect(InspectArgs),
    /// Reads everything, and checks every checksum and number.
    #[command(after_help = VERIFY)]
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
    /// Only events of this time or later: 2026-01-27T15:37:03Z, 2026-01-27 (UTC), or before now, e.g. -2h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<When>,
    /// Only events before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<When>,
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

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Events of this time and later: RFC 3339 (UTC where it names no offset), or before now, e.g. -2h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: When,
    /// Events before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: When,
    #[command(flatten)]
    pub(crate) again: AgainArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    /// Events of this time and later; all where it is left out.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) from: Option<When>,
    /// Events before this time; all where it is left out.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) to: Option<When>,
    #[command(flatten)]
    pub(crate) again: AgainArgs,
}

/// What sending again has in common.
#[derive(Debug, Args)]
pub(crate) struct AgainArgs {
    /// Only this asset; may be repeated.
    #[arg(long, value_name = "UUID")]
    pub(crate) asset: Vec<String>,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// At most so many events a second; where it is left out, the mirror's own rate.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Begin anew where the same command was not finished.
    #[arg(long)]
    pub(crate) restart: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SupportBundleArgs {
    /// The file [default: openfactory-support-HOST-TIME.tar.zst in this folder].
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How far back the journal goes, in journalctl's words.
    #[arg(long, value_name = "TIME", default_value = "-2d", allow_hyphen_values = true)]
    pub(crate) since: String,
}

#[derive(Debug, Args)]
pub(crate) struct SelftestArgs {
    /// The folder whose disk is tested. The test writes into a folder of its own below it, and removes it afterwards.
    #[arg(long, value_name = "PATH")]
    pub(crate) dir: PathBuf,
    /// How much the test takes; as much must stay free.
    #[arg(long, value_name = "SIZE", default_value = "64 MiB", value_parser = service::units::parse_size)]
    pub(crate) size: u64,
    /// How long it measures, about.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) power_cut: PowerCut,
}

/// The test that needs a hand at the plug.
#[derive(Debug, Args)]
#[group(multiple = false, conflicts_with_all = ["seconds", "json"])]
pub(crate) struct PowerCut {
    /// Writes until the power goes, and says every 100 ms which number is durable.
    #[arg(long = "until-power-cut")]
    pub(crate) until: bool,
    /// When the power is back: whether everything up to the last number that was seen is there.
    #[arg(long = "after-power-cut", value_name = "NUMBER")]
    pub(crate) after: Option<u64>,
}
