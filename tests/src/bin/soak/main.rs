//! `soak`: a whole installation under faults at random, for as long as wanted, and the judge at the end.

mod fault;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use system_tests::clock::Clock;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::faults::Faults;
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;
use system_tests::proxy::Proxy;
use system_tests::wait;

use crate::fault::{Fault, Site};
use crate::report::{Report, Round};

/// After the last fault, everything has to arrive within this time.
const ARRIVE: Duration = Duration::from_secs(600);

/// Faults of every kind, mixed at random, while devices, edge, Kafka, forwarder and NATS run; ends with the judge's line, and fails unless it
/// finds nothing missing, duplicated, reordered or altered.
#[derive(Parser)]
struct Arguments {
    /// How long faults are made; starting and judging come on top.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Chooses the faults; without it one is chosen, and printed. The same seed gives the same faults, though not at the same microsecond.
    #[arg(long)]
    seed: Option<u64>,
    /// Makes only faults whose names contain this, e.g. `disk`.
    #[arg(long, default_value = "")]
    only: String,
    /// Also writes a report (Markdown) there.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    eprintln!("soak: seed {seed}; starting Kafka, NATS, devices, edge and forwarder");
    let mut site = start()?;
    let mut report = Report::new(seed);
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| fault.to_string().contains(&arguments.only)).collect();
    anyhow::ensure!(!faults.is_empty(), "no fault has {:?} in its name", arguments.only);
    let mut random = StdRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(60 * arguments.minutes);
    while Instant::now() < end {
        let round = round(&mut site, &faults, &mut random).with_context(|| format!("seed {seed}"))?;
        eprintln!("soak: {round}");
        report.add(round);
    }
    eprintln!("soak: no more faults; stopping the values, waiting for what is still on its way, and judging");
    let verdict = site.plant.judge(ARRIVE)?;
    site.plant.stop()?;
    let text = report.finish(&verdict, site.kills);
    if let Some(file) = &arguments.report {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    for harm in &verdict.harms {
        eprintln!("{harm}");
    }
    println!("seed={seed} rounds={} {verdict}", report.rounds());
    Ok(if verdict.is_clean() && verdict.nats() > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start() -> anyhow::Result<Site> {
    let kafka = Kafka::start_with_link()?;
    let bootstrap = kafka.link_bootstrap()?;
    let mut plant = Plant::over("soak", Broker::Own(kafka), bootstrap, "")?;
    let behind_proxy = Devices::start(Plan { rate: 200, ..Plan::new(Make::Asyncua, 2, 20) }, plant.folder())?;
    let proxy = Proxy::start(([127, 0, 0, 1], behind_proxy.ports()[0]).into())?;
    let file = behind_proxy.device_file(|_| proxy.port())?;
    plant.add_with_file(behind_proxy, &file)?;
    for plan in
        [Plan { first_device: 3, rate: 200, ..Plan::new(Make::Asyncua, 2, 20) }, Plan { poll: 100, ..Plan::new(Make::PymodbusTcp, 2, 10) }]
    {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    let clock = Clock::new(plant.folder(), "edge", 0)?;
    plant.edge.set_environment(clock.environment());
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    let disk = Faults::new(plant.folder())?;
    Ok(Site { plant, proxy, clock, disk, kills: 0, second: None, deaf_since: None })
}

/// One fault or two at a time, for a while; then everything is whole again, for a while.
fn round(site: &mut Site, all: &[Fault], random: &mut StdRng) -> anyhow::Result<Round> {
    let first = *all.choose(random).context("there are faults")?;
    let mut faults = vec![first];
    // Each other one that can happen together with the first.
    if random.random_bool(0.4)
        && let Some(second) = all.iter().filter(|fault| fault.goes_with(first)).collect::<Vec<_>>().choose(random)
    {
        faults.push(**second);
    }
    faults.sort_unstable();
    let lasts = Duration::from_millis(random.random_range(200..15_000));
    let whole = Duration::from_millis(random.random_range(500..10_000));
    let began = wait::now();
    for fault in &faults {
        fault.begin(site, random).with_context(|| format!("{fault} cannot begin"))?;
    }
    site.plant.run_for(lasts)?;
    for fault in &faults {
        fault.end(site).with_context(|| format!("{fault} does not end"))?;
    }
    site.plant.run_for(whole)?;
    Round::look(began, faults, lasts, site)
}
