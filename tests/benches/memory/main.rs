//! The most memory that an edge takes (resident set), at 10,000 tags that change each second, and at 100,000 events a second; with as few of
//! glibc's arenas as a service should have, and with as many as it takes by itself (one for nearly each of its threads).
//!
//! `./dev bench memory`, or `cargo bench --workspace --bench memory -- [--rounds N] [--seconds N] [--json]` with the environment of `./dev env`.

use std::time::Duration;

use clap::Parser;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::figures::{Figure, Format, Reach};
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;

const MIB: f64 = 1_048_576.0;
/// Changes a second, and what an edge may take at them, in MiB.
const LOADS: [(usize, f64); 2] = [(10_000, 64.0), (100_000, 200.0)];

#[derive(Parser)]
struct Arguments {
    /// Of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of a round.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Prints objects.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    for ((rate, most), arenas) in LOADS.into_iter().flat_map(|load| [(load, Some(2)), (load, None)]) {
        let mut plant = Plant::new("memory", Broker::Own(Kafka::start()?), "")?;
        plant.add(Devices::start(Plan { rate, ..Plan::new(Make::Fast, 10, 1000) }, plant.folder())?)?;
        plant.edge.set_environment(arenas.map(|count: u8| ("MALLOC_ARENA_MAX", count.to_string())).into_iter().collect());
        plant.go()?;
        let mut measured = Vec::new();
        for _ in 0..arguments.rounds {
            plant.start_edge()?;
            let before = accepted(&plant)?;
            plant.run_for(Duration::from_secs(arguments.seconds))?;
            let events = (accepted(&plant)? - before) / arguments.seconds;
            anyhow::ensure!(events as usize > rate * 9 / 10, "the edge took {events} events a second, not {rate}");
            measured.push(plant.edge.process()?.peak_memory()? as f64 / MIB);
            plant.edge.stop()?;
        }
        let arenas = arenas.map_or_else(|| "arenas as glibc likes".to_owned(), |count| format!("MALLOC_ARENA_MAX={count}"));
        let name = format!("memory of the edge at {rate} events/s of 10000 tags, {arenas}");
        Figure { name, unit: "MiB", measured, baseline: Vec::new(), reach: Reach::AtMost(most) }.print(Format::json(arguments.json));
    }
    Ok(())
}

fn accepted(plant: &Plant) -> anyhow::Result<u64> {
    Ok(plant.edge.status()?["events"]["accepted"].as_u64().unwrap_or_default())
}
