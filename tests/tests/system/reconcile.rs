//! The centre loses its data: the topic is deleted and made anew while the edge is stopped. `reconcile` brings everything back, once.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value as Json;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{self, Broker};
use system_tests::plant::Plant;
use system_tests::{process, tools, wait};

const PARTITIONS: i32 = 4;

fn make_anew(bootstrap: &str, topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for result in runtime.block_on(admin.delete_topics(&[topic], &AdminOptions::new()))? {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot delete the topic {topic}: {code}"))?;
    }
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    wait::until_true("the topic is gone", Duration::from_secs(30), || {
        client.fetch_metadata(None, Duration::from_secs(5)).is_ok_and(|found| found.topics().iter().all(|found| found.name() != topic))
    })?;
    kafka::create_topic(bootstrap, topic, PARTITIONS, &[])
}

/// What a command of the edge says with `--json`; it must end with success.
fn ask(plant: &Plant, command: &[&str]) -> anyhow::Result<Json> {
    let config = plant.edge.config().to_string_lossy();
    let arguments = [command, &["--json", "--config", &config]].concat();
    let (code, out, err) = process::run(&tools::built("openfactory-edge")?, &arguments, Duration::from_secs(120))?;
    ensure!(code == Some(0), "{command:?} ended with {code:?}: {out}{err}");
    serde_json::from_str(&out).with_context(|| format!("{command:?} printed no JSON: {out}"))
}

#[test]
fn what_the_centre_lost_is_brought_back_by_the_edge() -> anyhow::Result<()> {
    let mut plant = Plant::new("reconcile", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 1000, ..Plan::new(Make::Asyncua, 2, 50) }, plant.folder())?;
    plant.add(devices)?;
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(3))?;
    plant.edge.wait_mirrored(Duration::from_secs(30))?;
    // What is on its way from a device when the edge stops was never heard.
    let since = wait::now() - 1500;
    plant.stop()?;
    let (bootstrap, topic) = (plant.kafka.bootstrap(), plant.topic().to_owned());
    make_anew(&bootstrap, &topic)?;
    plant.start_edge()?;
    plant.nobody_listened_since(since);
    let forwarder = plant.forwarder.as_mut().context("there is one")?;
    forwarder.start()?;
    forwarder.wait_started(Duration::from_secs(60))?;
    plant.run_for(Duration::from_secs(2))?;

    let found = ask(&plant, &["reconcile", "--dry-run"])?;
    let missing = found["total"]["missing"].as_u64().unwrap_or_default();
    ensure!(missing > 2_000 && found["of-replay"].is_null(), "all that was sent before must be missing: {found}");
    let done = ask(&plant, &["reconcile"])?;
    let number = |name: &str| done[name].as_u64();
    assert_eq!((number("sent"), number("verified"), &done["complete"]), (Some(missing), Some(missing), &true.into()), "{done}");
    assert_eq!(ask(&plant, &["reconcile"])?["sent"], 0, "there is nothing left to send");
    // A replay is dropped on the way to NATS, too.
    let again = ask(&plant, &["replay", "--from", "-10min", "--to", "-1s", "--asset", "edge-reconcile"])?;
    assert_eq!(again["complete"], true, "{again}");

    let verdict = plant.expect_complete(Duration::from_secs(120))?;
    assert!(verdict.late > 0, "what was missing stands behind later events: {verdict}");
    plant.stop()
}
