//! A fleet: hundreds of edges, one broker. What each costs it, and what one edge's worst moments do to the others.
//!
//! `cargo bench --workspace --bench fleet -- cost`, or `-- isolation`, with the environment of `./dev env`; after `./dev bench`, which builds the programs.
//!
//! Edges are their logs and mirrors, in this process; broker, forwarder and NATS are real. The logs lie in memory (`/dev/shm`): edges do not share
//! a disk either.

mod broker;
mod cost;
mod edge;
mod isolation;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use system_tests::kafka::{self, Kafka};
use system_tests::ports;

use edge::{Edge, Plan};

const TOPIC: &str = "fleet";
const PARTITIONS: i32 = 12;
const ASSETS: usize = 10;
const MIB: f64 = 1_048_576.0;

/// Runs a fleet of edges against one broker.
#[derive(Parser)]
struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    what: What,
    /// What `cargo bench` adds by itself.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// What edges cost the broker.
    Cost {
        /// How many edges there are.
        #[arg(long, default_value_t = 200)]
        edges: usize,
        /// Loads, one after the other, as <edges>x<events a second each>; edges beyond are connected and silent.
        #[arg(long, value_delimiter = ',', default_value = "200x0,200x1,200x10,200x100,50x1000,100x1000,200x1000")]
        loads: Vec<cost::Load>,
        /// Seconds that each is measured.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// What one edge's worst moments do to the others.
    Isolation {
        /// How many quiet edges there are.
        #[arg(long, default_value_t = 100)]
        edges: usize,
        /// Events a second of each.
        #[arg(long, default_value_t = 10.0)]
        rate: f64,
        /// Events that one edge drains: a day at 10 a second.
        #[arg(long, default_value_t = 864_000)]
        backlog: u64,
        /// Rounds of each misfortune.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds that each round measures: enough for a killed edge to wait `request_timeout` and read back.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let Arguments { what, .. } = Arguments::parse();
    let folder = tempfile::Builder::new().prefix("openfactory-fleet-").tempdir_in("/dev/shm")?;
    let jmx = ports::free()?;
    let options = [
        format!("-Dcom.sun.management.jmxremote.port={jmx}"),
        "-Dcom.sun.management.jmxremote.authenticate=false".to_owned(),
        "-Dcom.sun.management.jmxremote.ssl=false".to_owned(),
        "-Dcom.sun.management.jmxremote.host=127.0.0.1".to_owned(),
        "-Djava.rmi.server.hostname=127.0.0.1".to_owned(),
    ];
    let jvm: Vec<&str> = options.iter().map(String::as_str).collect();
    let kafka = Kafka::start_linked(&kafka::Plan { jvm: &jvm, ..kafka::Plan::default() })?;
    kafka::create_topic(&kafka.bootstrap(), TOPIC, PARTITIONS, &[])?;
    kafka::create_topic(&kafka.bootstrap(), &format!("{TOPIC}_edges"), PARTITIONS, &[("cleanup.policy", "compact")])?;
    match what {
        What::Cost { edges, loads, seconds } => cost::measure(folder.path(), &kafka, jmx, edges, &loads, Duration::from_secs(seconds)),
        What::Isolation { edges, rate, backlog, rounds, seconds } => {
            let window = Duration::from_secs(seconds);
            isolation::measure(folder.path(), &kafka, isolation::Setting { quiet: edges, rate, backlog, rounds, window })
        }
    }
}

/// Edges that have not started yet.
fn edges(folder: &Path, bootstrap: &str, name: &str, count: usize) -> anyhow::Result<Vec<Edge>> {
    (0..count)
        .map(|edge| {
            let plan = Plan { id: format!("{name}-{edge}"), assets: assets(name, edge), bootstrap: bootstrap.to_owned(), rate: None };
            Edge::new(folder, plan)
        })
        .collect()
}

fn assets(name: &str, edge: usize) -> Vec<Arc<str>> {
    (0..ASSETS).map(|asset| Arc::from(format!("{}-{edge}-{asset}", name.to_uppercase()))).collect()
}
