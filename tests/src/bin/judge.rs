//! `judge`: reads devices' journals, Kafka and NATS, and says what is missing, duplicated, reordered or altered. Exit code 0: nothing is.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use asset_stream::Position;
use clap::Parser;
use system_tests::judge::sources::{Topic, follow_jetstream, follow_kafka};
use system_tests::judge::{Journal, Judge};

/// Compares what devices said with what Kafka and NATS hold.
#[derive(Parser)]
#[command(after_help = "A journal has a line for each value: asset, item, value, Unix ms of its source timestamp, with tabs between.\n\
    The values must be counters; see tests/simulators.")]
struct Arguments {
    /// What devices said; may be repeated.
    #[arg(long = "journal", value_name = "FILE", required = true)]
    journals: Vec<PathBuf>,
    /// A broker.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: String,
    /// The asset stream.
    #[arg(long, default_value = asset_stream::topics::ASSETS)]
    topic: String,
    /// The NATS server whose JetStream stream is to be judged too.
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// What an edge calls durable, from `openfactory-edge status --json`: its id, log.epoch and log.durable; may be repeated.
    #[arg(long = "durable", value_name = "EDGE/EPOCH:NUMBER", value_parser = durable)]
    durables: Vec<(String, Position)>,
    /// How long to wait for what has not arrived yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
    /// JSON instead of a line.
    #[arg(long)]
    json: bool,
}

fn durable(text: &str) -> Result<(String, Position), String> {
    let (edge, position) = text.rsplit_once('/').ok_or("expected <edge>/<epoch>:<number>")?;
    Ok((edge.to_owned(), position.parse().map_err(|error| format!("{position:?}: {error}"))?))
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { journals, kafka, topic, nats, durables, wait, json } = Arguments::parse();
    let wait = Duration::from_secs(wait);
    let mut judge = Judge::new(Journal::read(&journals)?, &topic);
    follow_kafka(&mut judge, &mut Topic::open(&kafka, &topic)?, wait).with_context(|| format!("cannot read {topic}"))?;
    if let Some(url) = &nats {
        follow_jetstream(&mut judge, url, wait)?;
    }
    let verdict = judge.verdict(&durables);
    for harm in &verdict.harms {
        eprintln!("{harm}");
    }
    if json {
        println!("{}", serde_json::to_string(&verdict)?);
    } else {
        println!("{verdict}");
    }
    let served = nats.is_none() || verdict.nats() > 0;
    Ok(if verdict.is_clean() && served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
