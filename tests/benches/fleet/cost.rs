//! What a fleet at a steady rate costs the broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use system_tests::figures::Format;
use system_tests::wait;

use crate::broker::{self, Busy, Sight};
use crate::edges::{Edge, Load};

const TOPIC: &str = "fleet";
/// A fleet of which each edge still lags so far behind is more than this machine carries.
const BEHIND: u64 = 5;

/// Prints a line of the table.
pub(crate) fn measure(edges: usize, rate: u64, seconds: u64, format: Format) -> anyhow::Result<()> {
    let mut kafka = broker::start(TOPIC)?;
    let folder = tempfile::Builder::new().prefix("openfactory-fleet-").tempdir_in("/dev/shm")?;
    let bootstrap = kafka.bootstrap();
    let mut fleet = (0..edges).map(|number| Edge::new(folder.path(), number, &bootstrap, TOPIC)).collect::<anyhow::Result<Vec<_>>>()?;
    fleet.iter_mut().try_for_each(|edge| edge.start(None))?;
    let load = Load::start(&fleet, rate)?;
    wait::until_true("every edge mirrors", Duration::from_secs(300), || fleet.iter().all(|edge| edge.acknowledged() > 0))?;
    wait::until_true("all that waited is mirrored", Duration::from_secs(60), || fleet.iter().all(|edge| behind(edge) <= rate)).ok();
    let before = Sight::of(&mut kafka)?;
    let (began, arrived) = (Instant::now(), total(&fleet));
    // A look at a fleet that stands still tells nothing: this is what is measured, not waited for.
    std::thread::sleep(Duration::from_secs(seconds));
    let events = (total(&fleet) - arrived) as f64 / began.elapsed().as_secs_f64();
    let behind = fleet.iter().filter(|edge| behind(edge) > BEHIND * rate.max(1)).count();
    let busy = Busy::between(&before, &Sight::of(&mut kafka)?);
    load.stop()?;
    print(edges, rate, events, behind, busy, format);
    Ok(())
}

fn behind(edge: &Edge) -> u64 {
    edge.durable().saturating_sub(edge.acknowledged())
}

fn total(fleet: &[Edge]) -> u64 {
    fleet.iter().map(Edge::acknowledged).sum()
}

fn print(edges: usize, rate: u64, events: f64, behind: usize, busy: Busy, format: Format) {
    let Busy { cpu, requests, bytes, connections, producers, memory } = busy;
    let (memory, all) = (memory >> 20, requests.iter().map(|(_, rate)| rate).sum::<f64>());
    match format {
        Format::Text => {
            let kinds: Vec<String> = requests.iter().take(4).map(|(kind, rate)| format!("{kind} {rate:.0}")).collect();
            println!(
                "{edges} edges at {rate} events/s each: {events:.0} events/s arrive ({behind} edges are behind); the broker has {connections:.0} \
                 connections, {producers:.0} producer ids, {all:.0} requests/s ({}), {:.1} KiB/s, {cpu:.2} cores, {memory} MiB",
                kinds.join(", "),
                bytes / 1024.0
            );
        }
        Format::Json => println!(
            "{}",
            json!({
                "name": format!("{edges} edges at {rate} events/s each"), "events_per_s": events, "edges_behind": behind, "connections": connections,
                "producer_ids": producers, "requests_per_s": requests.into_iter().collect::<BTreeMap<_, _>>(), "bytes_per_s": bytes, "cores": cpu,
                "memory_mib": memory,
            })
        ),
    }
}
