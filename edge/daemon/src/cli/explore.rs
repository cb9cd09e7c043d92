//! The command line of what finds devices, asks them, and decides whom to trust.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

pub(super) const CHECK_CONFIG: &str = "\
With --online each device is asked for each entry of its file, once, and Kafka for the topic. Nothing is written but the edge's OPC UA \
certificate, where there is none yet, and the certificates of servers that are not trusted. A serial port that the running edge has open \
cannot be opened a second time.

Exit codes: 0 all is well, 1 something does not answer or is not there, 78 bad config";

pub(super) const BROWSE: &str = "\
Examples:
  The whole tree, with types and values:
    openfactory-edge browse opc.tcp://10.0.0.5:4840
  A part of it, as JSON:
    openfactory-edge browse opc.tcp://10.0.0.5:4840 --node 'ns=2;s=Line1' --json
  A device file of all variables, to be pruned by hand:
    openfactory-edge browse opc.tcp://10.0.0.5:4840 --asset PRESS-1 --write /etc/openfactory-edge/devices/press-1.yaml
  With the login and security of a device of the config:
    openfactory-edge browse press-1";

pub(super) const CERT: &str = "\
Examples:
  Whom does the edge trust, and whom did it meet?
    openfactory-edge cert show
  Trust a server whose fingerprint was compared:
    openfactory-edge cert trust 3f2a91c0";

const SCAN_MODBUS: &str = "\
Only reads, but it reads every address of the range: on machines that are at work, ask their maker first. A serial line must not be used \
by anybody else meanwhile.

Examples:
  Everything behind a socket, the first thousand addresses:
    openfactory-edge scan modbus 10.0.0.17
  Two units of a serial line:
    openfactory-edge scan modbus /dev/ttyUSB0 --baud-rate 19200 --parity even --units 1-2
  Only holding registers, further up:
    openfactory-edge scan modbus 10.0.0.17:1502 --units 1 --tables holding-registers --addresses 4000-4999";

#[derive(Debug, Args)]
pub(crate) struct CheckConfigArgs {
    /// Also ask Kafka and the devices whether they answer, and have what the config names.
    #[arg(long)]
    pub(crate) online: bool,
    /// JSON instead of text, with every entry that was asked for.
    #[arg(long, requires = "online")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BrowseArgs {
    /// The server, opc.tcp://HOST:PORT, or the name of a device in the config.
    #[arg(value_name = "SERVER")]
    pub(crate) target: String,
    /// Where to begin: a node id or a browse path.
    #[arg(long, value_name = "NODE", default_value = "i=85")]
    pub(crate) node: String,
    /// How many levels below it.
    #[arg(long, value_name = "LEVELS", default_value_t = 20)]
    pub(crate) depth: usize,
    /// At most so many nodes.
    #[arg(long, value_name = "NODES", default_value_t = 10_000)]
    pub(crate) limit: usize,
    /// JSON instead of a tree.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a device file with all variables that were found; the file must not be there yet.
    #[arg(long, value_name = "FILE", requires = "asset", conflicts_with = "json")]
    pub(crate) write: Option<PathBuf>,
    /// The asset's UUID in that file.
    #[arg(long, value_name = "UUID", requires = "write")]
    pub(crate) asset: Option<String>,
    #[command(flatten)]
    pub(crate) login: Login,
}

/// How to talk to a server of which no device file says it.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The security policy.
    #[arg(long, value_name = "POLICY", value_parser = ["none", "basic256sha256", "aes128_sha256_rsaoaep", "aes256_sha256_rsapss"])]
    pub(crate) policy: Option<String>,
    /// What it is used for [default: sign_and_encrypt].
    #[arg(long, value_name = "MODE", value_parser = ["sign", "sign_and_encrypt"], requires = "policy")]
    pub(crate) mode: Option<String>,
    /// Log in as this user.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) user: Option<String>,
    /// The file with the user's password.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
    /// Accept the server's certificate unchecked, this once.
    #[arg(long)]
    pub(crate) trust_any: bool,
}

impl Login {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.policy.is_none() && self.user.is_none() && !self.trust_any
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScanCommand {
    /// Finds unit ids, ranges of addresses, how much fits into a request, and the word order.
    #[command(after_help = SCAN_MODBUS)]
    Modbus(ScanModbusArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ScanModbusArgs {
    /// HOST or HOST:PORT of a Modbus TCP device or gateway, or a serial port (/dev/…).
    #[arg(value_name = "ENDPOINT")]
    pub(crate) endpoint: String,
    /// Unit ids, FIRST-LAST or one.
    #[arg(long, value_name = "RANGE", default_value = "1-247", value_parser = range::<u8>)]
    pub(crate) units: RangeInclusive<u8>,
    /// What to look at.
    #[arg(long, value_name = "TABLES", value_enum, value_delimiter = ',', default_values_t = TableName::ALL)]
    pub(crate) tables: Vec<TableName>,
    /// Addresses, counted from 0, FIRST-LAST.
    #[arg(long, value_name = "RANGE", default_value = "0-999", value_parser = range::<u16>)]
    pub(crate) addresses: RangeInclusive<u16>,
    /// Milliseconds that a unit has to answer.
    #[arg(long, value_name = "MS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) timeout: u64,
    /// The socket carries RTU frames: a serial device server in transparent mode.
    #[arg(long)]
    pub(crate) rtu: bool,
    /// Of a serial port: bits a second.
    #[arg(long, value_name = "BAUD", default_value_t = 19_200, value_parser = clap::value_parser!(u32).range(300..=4_000_000))]
    pub(crate) baud_rate: u32,
    /// Of a serial port: the check bit.
    #[arg(long, value_enum, default_value_t = ParityName::Even)]
    pub(crate) parity: ParityName,
    /// Of a serial port: stop bits.
    #[arg(long, value_name = "BITS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) stop_bits: u8,
    /// JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One of the four kinds of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableName {
    Coils,
    DiscreteInputs,
    InputRegisters,
    HoldingRegisters,
}

impl TableName {
    const ALL: [Self; 4] = [Self::Coils, Self::DiscreteInputs, Self::InputRegisters, Self::HoldingRegisters];
}

/// A serial line's check bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ParityName {
    None,
    Even,
    Odd,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Shows the edge's own certificate, the trusted ones, and those that were met and are not trusted.
    Show {
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Makes a new certificate for the edge; the one before is kept beside it. Each server must then trust the new one. Connections that
    /// are open stay open; the next ones show the new certificate, without a restart.
    Renew {
        /// Make a new key too, for a key that others may have seen.
        #[arg(long)]
        new_key: bool,
    },
    /// Trusts a server's certificate that was met before, or one in a file. Counts from the next attempt to connect on.
    Trust {
        /// Its fingerprint, or the beginning of it; its file name; or the path of a file.
        certificate: String,
    },
    /// Takes the trust back. Counts from the next attempt to connect on: restart the edge to end a connection that is open.
    Reject {
        /// Its fingerprint, or the beginning of it, or its file name.
        certificate: String,
    },
}

fn range<T: std::str::FromStr + PartialOrd + Copy>(text: &str) -> Result<RangeInclusive<T>, String> {
    let number = |text: &str| text.trim().parse::<T>().map_err(|_| format!("{text:?} is no number that fits; write e.g. 1-10 or 7"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err(format!("{text:?} ends before it begins")) } else { Ok(first..=last) }
}
