//! From a device to a plain NATS subscriber: through log, Kafka and forwarder, beside a gateway that publishes straight to NATS and keeps nothing.
//!
//! `./dev bench latency`, or `cargo bench --workspace --bench latency -- [--rounds N] [--seconds N] [--json]` with the environment of `./dev env`.
//!
//! The same simulator, gateway library, NATS server and subscriber in both; rounds alternate. A value's latency runs from the time that the
//! OPC UA server gave it to its arrival, both in whole milliseconds of one clock.

mod straight;

use std::time::Duration;

use clap::Parser;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::figures::{Figure, Format, Percentiles, Reach};
use system_tests::kafka::{Broker, Kafka};
use system_tests::nats::{Received, Subscriber};
use system_tests::plant::Plant;

/// Changes a second.
const RATE: usize = 1000;
/// What arrives right after a start is not looked at.
const WARM_UP: Duration = Duration::from_secs(3);

#[derive(Parser)]
struct Arguments {
    /// Of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of a round.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Prints objects.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Median and 99th percentile of each round, in ms.
#[derive(Default)]
struct Latencies {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let seconds = Duration::from_secs(arguments.seconds);
    let mut plant = Plant::new("latency", Broker::Own(Kafka::start()?), "")?;
    let devices = Devices::start(Plan { rate: RATE, ..Plan::new(Make::Fast, 4, 25) }, plant.folder())?;
    let file = devices.device_file(|port| port)?;
    plant.add(devices)?;
    plant.start_nats()?;
    plant.go()?;
    let (mut chain, mut straight) = (Latencies::default(), Latencies::default());
    for _ in 0..arguments.rounds {
        plant.start_edge()?;
        chain.add(&listen(&mut plant, seconds)?)?;
        plant.edge.stop()?;
        let gateway = straight::Gateway::start(&file, &plant)?;
        straight.add(&listen(&mut plant, seconds)?)?;
        drop(gateway);
    }
    plant.stop()?;
    let format = Format::json(arguments.json);
    let figure = |name: &str, measured, baseline, most| Figure {
        name: format!("device -> NATS at {RATE} events/s, {name}"),
        unit: "ms",
        measured,
        baseline,
        reach: Reach::More(most),
    };
    figure("p50", chain.p50, straight.p50, 40.0).print(format);
    figure("p99", chain.p99, straight.p99, 100.0).print(format);
    Ok(())
}

/// What a subscriber gets within a time.
fn listen(plant: &mut Plant, seconds: Duration) -> anyhow::Result<Vec<Received>> {
    plant.run_for(WARM_UP)?;
    let nats = plant.nats.as_ref().map(system_tests::nats::Nats::url).unwrap_or_default();
    let subscriber = Subscriber::start(&nats, &plant.assets())?;
    plant.run_for(seconds)?;
    Ok(subscriber.received(0))
}

impl Latencies {
    fn add(&mut self, received: &[Received]) -> anyhow::Result<()> {
        let Percentiles { p50, p99 } = Percentiles::of(received)?;
        self.p50.push(p50);
        self.p99.push(p99);
        Ok(())
    }
}
