//! The command line of `check-config`.

use clap::Args;

pub(super) const EXIT_CODES: &str = "\
With --online each device is asked for each entry of its file, once, and Kafka for the topic. Nothing is written but the edge's OPC UA \
certificate, where there is none yet, and the certificates of servers that are not trusted. A serial port that the running edge has open \
cannot be opened a second time.

Exit codes: 0 all is well, 1 something does not answer or is not there, 78 bad config";

#[derive(Debug, Args)]
pub(crate) struct CheckConfigArgs {
    /// Also ask Kafka and the devices whether they answer, and have what the config names.
    #[arg(long)]
    pub(crate) online: bool,
    /// JSON instead of text, with every entry that was asked for.
    #[arg(long, requires = "online")]
    pub(crate) json: bool,
}
