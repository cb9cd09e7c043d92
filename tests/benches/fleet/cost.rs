//! What each edge costs the broker, at several rates.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use system_tests::kafka::Kafka;

use crate::broker::Sight;
use crate::edge::Fleet;
use crate::{MIB, edges};

/// For all to have met the broker; then, for their rates to be even.
const START: Duration = Duration::from_secs(240);
const SETTLE: Duration = Duration::from_secs(5);

/// So many edges have so many events a second each; the others are connected and have none.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    edges: usize,
    rate: f64,
}

impl FromStr for Load {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (edges, rate) = text.split_once('x').context("expected <edges>x<events a second>")?;
        Ok(Self { edges: edges.parse()?, rate: rate.parse()? })
    }
}

pub(crate) fn measure(folder: &Path, kafka: &Kafka, jmx: u16, count: usize, loads: &[Load], window: Duration) -> anyhow::Result<()> {
    let before = Sight::take(kafka, jmx)?;
    let own = memory()?;
    let began = Instant::now();
    let fleet = Fleet::start(edges(folder, &kafka.bootstrap(), "edge", count)?)?;
    // Each edge's first events: producers get their ids.
    fleet.load(count, 10.0);
    system_tests::wait::until_true("each edge has reached Kafka", START, || fleet.lock().iter().all(|edge| edge.status().mirrored > 0))?;
    println!(
        "{count} edges reached Kafka within {:.1?}; this process needs {:.1} MiB for each",
        began.elapsed(),
        (memory()? - own) / count as f64
    );
    println!("broker without edges: {} connections, {:.0} MiB", before.connections, before.memory as f64 / MIB);
    for Load { edges, rate } in loads {
        fleet.load(*edges, *rate);
        std::thread::sleep(SETTLE);
        let from = Sight::take(kafka, jmx)?;
        let (fed, mirrored, began) = (fleet.fed(), fleet.mirrored(), Instant::now());
        std::thread::sleep(window);
        let (made, told, seconds) = (fleet.fed() - fed, fleet.mirrored() - mirrored, began.elapsed().as_secs_f64());
        let to = Sight::take(kafka, jmx)?;
        let kinds: Vec<String> = to.requests_since(&from).iter().map(|(kind, rate)| format!("{kind} {rate:.1}")).collect();
        println!(
            "{edges} edges x {rate}/s: {:.0} events/s made, {:.0}/s mirrored, {} connections, {:.0} producer entries, {:.2} processors, {:.0} MiB; requests/s: {}",
            made as f64 / seconds,
            told as f64 / seconds,
            to.connections,
            to.producers,
            to.processors_since(&from),
            to.memory as f64 / MIB,
            kinds.join(", ")
        );
    }
    Ok(())
}

/// Of this process, in MiB.
fn memory() -> anyhow::Result<f64> {
    Ok(procfs::process::Process::myself()?.stat()?.rss as f64 * procfs::page_size() as f64 / MIB)
}
