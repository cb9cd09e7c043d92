//! A long outage, played: an edge starts with a backlog of 72 hours, and drains it into a real Kafka while live events arrive.
//!
//! `cargo bench --workspace --bench backlog -- --events 10000000`, with the environment of `./dev env`; after `./dev bench`, which builds the programs.
//!
//! The backlog is made quickly, the drain is real. At the end each event must stand in Kafka once and in its asset's order.

mod check;
mod fill;

use std::time::{Duration, Instant};

use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use system_tests::devices::{Devices, Make, Plan};
use system_tests::edge::{Edge, Settings};
use system_tests::kafka::{self, Kafka};
use system_tests::wait::{self, Look};

const EDGE: &str = "edge-backlog";
const TOPIC: &str = "backlog";
const PARTITIONS: i32 = 12;
/// Live events a second meanwhile.
const LIVE: usize = 1000;
const MIB: f64 = 1_048_576.0;

/// Starts an edge with a backlog, and measures how it drains.
#[derive(Parser)]
struct Arguments {
    /// Events in the backlog.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// What `cargo bench` adds by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was seen of the edge at a moment.
#[derive(Clone, Copy)]
struct Sight {
    at: Duration,
    acknowledged: u64,
}

fn main() -> anyhow::Result<()> {
    let Arguments { events, .. } = Arguments::parse();
    let folder = tempfile::Builder::new().prefix("openfactory-backlog-").tempdir()?;
    let began = Instant::now();
    let bytes = fill::fill(&folder.path().join(EDGE).join("state/log"), events)?;
    println!("filled: {events} events, {:.0} MiB, in {:.1?}", bytes as f64 / MIB, began.elapsed());

    let kafka = Kafka::start()?;
    // Retention looks at record times: it must not delete what arrives days late.
    kafka::create_topic(&kafka.bootstrap(), TOPIC, PARTITIONS, &[("retention.ms", "-1")])?;
    kafka::create_topic(&kafka.bootstrap(), &format!("{TOPIC}_edges"), 1, &[("cleanup.policy", "compact")])?;
    let settings = Settings { id: EDGE.into(), kafka: Some(kafka.bootstrap()), topic: TOPIC.into(), more: String::new() };
    let mut edge = Edge::new(folder.path(), &settings)?;
    let mut devices = Devices::start(Plan { rate: LIVE, ..Plan::new(Make::Fast, 4, 25) }, folder.path())?;
    edge.device_file("live", &devices.device_file(|port| port)?)?;
    devices.go()?;

    let start = Instant::now();
    edge.start()?;
    edge.process()?.wait_for_log("running", Duration::from_secs(120))?;
    println!("started: after {:.2?}", start.elapsed());
    wait_first_event(&kafka.bootstrap())?;
    println!("first event in Kafka: after {:.2?}", start.elapsed());
    let sights = watch(&mut edge, start)?;
    report(events, &sights, edge.process()?.peak_memory()?);
    devices.pause()?;
    let (epoch, through) = edge.wait_mirrored(Duration::from_secs(120))?;
    edge.stop()?;
    check::check(&kafka.bootstrap(), TOPIC, epoch, through)
}

fn wait_first_event(bootstrap: &str) -> anyhow::Result<()> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    wait::until("an event stands in Kafka", Duration::from_secs(300), || {
        for partition in 0..PARTITIONS {
            let (_, end) = consumer.fetch_watermarks(TOPIC, partition, Duration::from_secs(5))?;
            if end > 0 {
                return Ok(Look::Done(()));
            }
        }
        Ok(Look::Waiting("the topic is empty".into()))
    })
}

/// Until less than a second's live events are left.
fn watch(edge: &mut Edge, start: Instant) -> anyhow::Result<Vec<Sight>> {
    let mut sights = Vec::new();
    let is_drained = |status: &serde_json::Value| {
        let mirror = &status["mirror"];
        sights.push(Sight { at: start.elapsed(), acknowledged: mirror["acknowledged"].as_u64().unwrap_or_default() });
        mirror["backlog"].as_u64().is_some_and(|backlog| backlog < LIVE as u64)
    };
    edge.wait_status("the backlog is drained", Duration::from_secs(4 * 3600), is_drained)?;
    Ok(sights)
}

/// Rates of the first, the middle and the last tenth of the drain.
fn report(events: u64, sights: &[Sight], peak: u64) {
    let rate = |from: f64, to: f64| {
        let at = |share: f64| sights.iter().find(|sight| sight.acknowledged as f64 >= share * events as f64).copied();
        let (Some(a), Some(b)) = (at(from), at(to)) else { return f64::NAN };
        (b.acknowledged - a.acknowledged) as f64 / (b.at - a.at).as_secs_f64()
    };
    let took = sights.last().map_or(Duration::ZERO, |sight| sight.at);
    println!("drained: after {took:.1?}, {:.0} events/s over all", events as f64 / took.as_secs_f64());
    println!(
        "drain: {:.0} events/s in the first tenth, {:.0} in the middle one, {:.0} in the last",
        rate(0.02, 0.1),
        rate(0.45, 0.55),
        rate(0.9, 1.0)
    );
    println!("memory of the edge, highest: {:.0} MiB", peak as f64 / MIB);
}
