//! The command line of `scan`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

const MODBUS: &str = "\
Only reads, but it reads every address of the range: on machines that are at work, ask their maker first. A serial line must not be used \
by anybody else meanwhile. Ctrl-C ends the look, and what was found until then is shown or written.

Examples:
  Everything behind a socket, the first thousand addresses:
    openfactory-edge scan modbus 10.0.0.17
  Two units of a serial line:
    openfactory-edge scan modbus /dev/ttyUSB0 --baud-rate 19200 --parity even --units 1-2
  Only holding registers, further up:
    openfactory-edge scan modbus 10.0.0.17:1502 --units 1 --tables holding-registers --addresses 4000-4999
  A device file of everything that unit 1 has, to be pruned by hand:
    openfactory-edge scan modbus 10.0.0.17 --units 1 --asset METER-1 --write /etc/openfactory-edge/devices/meter-1.yaml";

#[derive(Debug, Subcommand)]
pub(crate) enum ScanCommand {
    /// Finds unit ids, ranges of addresses, how much fits into a request, the word order, and what stands at each address.
    #[command(after_help = MODBUS)]
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
    /// Write a device file with everything that was found; the file must not be there yet.
    #[arg(long, value_name = "FILE", requires = "asset", conflicts_with = "json")]
    pub(crate) write: Option<PathBuf>,
    /// The asset's UUID in that file; with several units, its beginning.
    #[arg(long, value_name = "UUID", requires = "write")]
    pub(crate) asset: Option<String>,
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

fn range<T: std::str::FromStr + PartialOrd + Copy>(text: &str) -> Result<RangeInclusive<T>, String> {
    let number = |text: &str| text.trim().parse::<T>().map_err(|_| format!("{text:?} is no number that fits; write e.g. 1-10 or 7"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err(format!("{text:?} ends before it begins")) } else { Ok(first..=last) }
}
