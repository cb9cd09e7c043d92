//! `demo`: a whole installation on this machine, watched live from NATS, judged at the end.

mod cooling;
mod screen;
mod watch;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::furnace::FURNACE;
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;

use crate::cooling::{Cooling, Done};
use crate::screen::Screen;
use crate::watch::Watch;

/// The topic of commands.
const COMMANDS: &str = "demo-commands";

/// Devices, Kafka, NATS, openfactory-edge and openfactory-cloud on this machine, with a live table of what arrives from NATS. A rule watches
/// a furnace and commands its valve.
#[derive(Parser)]
struct Arguments {
    /// End by itself after so long; without it: at Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let stop = Stop::on_signals()?;
    // Terminal or not, the verdict goes to stdout and everything else to stderr.
    let Some((mut plant, mut cooling)) = start(&stop)? else { return Ok(ExitCode::FAILURE) };
    let end = arguments.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let going = || !stop.asked() && end.is_none_or(|end| Instant::now() < end);
    let mut watch = Watch::default();
    if std::io::stdout().is_terminal() {
        let mut screen = Screen::open()?;
        while going() {
            watch.look(&mut plant)?;
            cooling.look(&watch)?;
            watch.counters.commands = cooling.given();
            screen.draw(&watch)?;
            if screen.wants_to_end(Duration::from_millis(250))? {
                break;
            }
        }
    } else {
        while going() {
            eprintln!("{}", watch.line());
            let next = Instant::now() + Duration::from_secs(2);
            while going() && Instant::now() < next {
                watch.look(&mut plant)?;
                cooling.look(&watch)?;
                watch.counters.commands = cooling.given();
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    progress("stopping the devices, waiting for what is still on its way, and judging");
    let done = cooling.judge(&plant)?;
    cooling.stop()?;
    let verdict = plant.judge(Duration::from_secs(60))?;
    progress("stopping everything");
    plant.stop()?;
    drop(plant);
    for harm in &verdict.harms {
        eprintln!("{harm}");
    }
    let Done { commands, succeeded, executed_twice } = done;
    println!("{verdict} commands={commands} succeeded={succeeded} executed_twice={executed_twice}");
    let is_controlled = succeeded == commands && executed_twice == 0;
    Ok(if verdict.is_clean() && verdict.nats() > 0 && is_controlled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts everything in order; `None` if it was asked to stop meanwhile.
fn start(stop: &Stop) -> anyhow::Result<Option<(Plant, Cooling)>> {
    progress("starting Apache Kafka");
    let mut plant = Plant::new("demo", Broker::Own(Kafka::start()?), &cooling::rules(COMMANDS))?;
    let plans = [
        ("an OPC UA server (asyncua) with 3 machines", Plan { rate: 40, ..Plan::new(Make::Asyncua, 3, 6) }),
        ("2 Modbus TCP devices (pymodbus)", Plan { poll: 250, ..Plan::new(Make::PymodbusTcp, 2, 4) }),
        ("a Modbus RTU line with a device (pymodbus)", Plan { first_device: 3, poll: 1000, ..Plan::new(Make::PymodbusRtu, 1, 2) }),
    ];
    for (what, plan) in plans {
        if stop.asked() {
            return Ok(None);
        }
        progress(&format!("starting {what}"));
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    if stop.asked() {
        return Ok(None);
    }
    progress("starting a furnace with a cooling valve, and openfactory-cloud commands");
    let cooling = Cooling::start(&plant, COMMANDS)?;
    if stop.asked() {
        return Ok(None);
    }
    progress("starting NATS and openfactory-cloud forward");
    plant.start_nats_for(&[FURNACE.to_owned()])?;
    if stop.asked() {
        return Ok(None);
    }
    progress("starting openfactory-edge");
    plant.start()?;
    progress("running; Ctrl-C stops everything");
    Ok((!stop.asked()).then_some((plant, cooling)))
}

fn progress(what: &str) {
    eprintln!("demo: {what}");
}

/// Whether a person or the system asked for the end.
#[derive(Clone)]
struct Stop(Arc<AtomicU32>);

impl Stop {
    /// SIGINT and SIGTERM ask; a second one ends at once, and the kernel ends the children.
    fn on_signals() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let stop = Self(Arc::default());
        let count = stop.0.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
                    eprintln!("demo: cannot listen to signals");
                    return;
                };
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if count.fetch_add(1, Ordering::SeqCst) > 0 {
                        std::process::exit(130);
                    }
                }
            });
        });
        Ok(stop)
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}
