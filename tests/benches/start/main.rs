//! How long an edge takes to start with a backlog, beside an edge with an empty log.
//!
//! `./dev bench start`, or `cargo bench --workspace --bench start -- [--rounds N] [--gib N] [--dir DIR] [--json]` with the environment of
//! `./dev env`. The backlog is made of large values, so that it is there soon; nothing takes it. From the start of the process to its word
//! that it runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use asset_stream::Timestamp;
use clap::Parser;
use edge_buffer::{Config, Entry};
use rand::RngCore as _;
use system_tests::edge::{Edge, Settings};
use system_tests::figures::{Figure, Format, Reach};
use system_tests::ports;

#[derive(Parser)]
struct Arguments {
    /// Of each kind.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Size of the backlog.
    #[arg(long, default_value_t = 10)]
    gib: u64,
    /// Where it lies meanwhile; there must be room for it.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Prints objects.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::Builder::new().prefix("openfactory-start-").tempdir_in(&arguments.dir)?;
    // Nobody listens there.
    let kafka = format!("127.0.0.1:{}", ports::free()?);
    let [mut empty, mut full] = ["empty", "full"].map(|id| {
        let more = "[log]\nmax_size = \"64 GiB\"\nmin_free = \"0 B\"\n".to_owned();
        let settings = Settings { id: id.into(), kafka: Some(kafka.clone()), topic: "assets".into(), more };
        (Edge::new(folder.path(), &settings), folder.path().join(id).join("edge.log"))
    });
    fill(&folder.path().join("full/state/log"), arguments.gib << 30)?;
    let (mut baseline, mut measured) = (Vec::new(), Vec::new());
    // The first ones warm up.
    for round in 0..=arguments.rounds {
        for ((edge, log), times) in [(&mut empty, &mut baseline), (&mut full, &mut measured)] {
            let took = start(edge.as_mut().ok().context("the config cannot be written")?, log)?;
            if round > 0 {
                times.push(took.as_secs_f64() * 1e3);
            }
        }
    }
    let name = format!("start with {} GiB of backlog", arguments.gib);
    Figure { name, unit: "ms", measured, baseline, reach: Reach::More(1000.0) }.print(Format::json(arguments.json));
    Ok(())
}

fn start(edge: &mut Edge, log: &Path) -> anyhow::Result<Duration> {
    std::fs::write(log, "")?;
    let began = Instant::now();
    edge.start()?;
    while !std::fs::read_to_string(log)?.contains("running") {
        edge.process()?.expect_alive()?;
        anyhow::ensure!(began.elapsed() < Duration::from_secs(300), "it does not run after 300 s");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = began.elapsed();
    edge.stop()?;
    Ok(took)
}

/// Values that cannot be compressed: few events make many bytes.
fn fill(dir: &Path, bytes: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let log = edge_buffer::open(Config { dir: dir.to_owned(), min_free: 0, max_bytes: u64::MAX >> 1, ..Config::default() })?.log;
    let mut random = rand::rng();
    while log.stats().bytes < bytes {
        let entries = (0..500).map(|n| {
            let mut value = vec![0; 16 << 10];
            random.fill_bytes(&mut value);
            Entry { key: format!("CNC-{:04}", n % 100).into(), timestamp: Timestamp::now().millis(), value }
        });
        log.append_durable(entries.collect())?;
    }
    Ok(log.close()?)
}
