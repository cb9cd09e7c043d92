//! What many edges cost one broker, and whether one edge's worst moment is felt by the others.
//!
//! `cargo bench --workspace --bench fleet -- [--edges N] [--rounds N] [--json]` with the environment of `./dev env`.
//!
//! Each edge is a real log and a real mirror; all of them run in this process, with their logs in memory (`/dev/shm`), as the disk is not what
//! is measured. The broker, the forwarder and NATS are real. What follows for thousands of edges stands in docs/scaling.md.

mod broker;
mod cost;
mod edges;
mod isolation;

use clap::Parser;
use system_tests::figures::Format;

#[derive(Parser)]
struct Arguments {
    /// Edges of the fleet.
    #[arg(long, default_value_t = 200)]
    edges: usize,
    /// Events a second of each edge.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000])]
    rates: Vec<u64>,
    /// For how long the broker is looked at.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Of each kind of worst moment.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Events of a day's backlog: 100 a second.
    #[arg(long, default_value_t = 8_640_000)]
    backlog: u64,
    /// Prints objects.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let format = Format::json(arguments.json);
    service_tls();
    for rate in &arguments.rates {
        cost::measure(arguments.edges, *rate, arguments.seconds, format)?;
    }
    isolation::measure(arguments.edges / 2, arguments.rounds, arguments.backlog, format)
}

/// The mirrors' clients want to know which TLS there is, though they use none here.
fn service_tls() {
    service::tls::install_ring();
}
