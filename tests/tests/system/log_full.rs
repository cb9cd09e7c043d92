//! The log is full while Kafka is away: as configured, the oldest events make room or new ones are refused, and gap events tell what is missing.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;
use system_tests::wait;

fn plant(name: &str, when_full: &str) -> anyhow::Result<Plant> {
    let log = format!("[log]\nmax_size = \"8 MiB\"\nsegment_size = \"1 MiB\"\nwhen_full = \"{when_full}\"\n");
    let mut plant = Plant::new(name, Broker::Own(Kafka::start()?), &log)?;
    let devices = Devices::start(Plan { rate: 80_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    Ok(plant)
}

/// Kafka is away until so much was dropped that more than one segment is gone; then all but that must arrive.
fn arrives_but_for_what_was_dropped(mut plant: Plant) -> anyhow::Result<()> {
    plant.edge.wait_status("the log has dropped events", Duration::from_secs(120), |status| {
        let first = status["log"]["first"].as_u64().unwrap_or_default();
        let acknowledged = status["mirror"]["acknowledged"].as_u64().unwrap_or_default();
        let bytes = status["log"]["bytes"].as_u64().unwrap_or_default();
        assert!(bytes <= 8 << 20, "the log may take 8 MiB, and takes {bytes} bytes");
        first > acknowledged + 100_000
    })?;
    plant.kafka.own()?.start_again()?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert!(verdict.told > 50_000, "gap events must tell what was dropped: {verdict}");
    plant.stop()
}

#[test]
fn what_a_full_log_dropped_is_told_and_everything_else_arrives() -> anyhow::Result<()> {
    let mut plant = plant("log-full", "drop_oldest")?;
    plant.kafka.own()?.stop()?;
    arrives_but_for_what_was_dropped(plant)
}

#[test]
fn what_stood_in_kafka_when_the_edge_was_killed_is_not_told_as_dropped() -> anyhow::Result<()> {
    let mut plant = plant("log-full-killed", "drop_oldest")?;
    // Events under way: some stand in Kafka, and the edge's cursor does not know it.
    let deaf_since = wait::now() - 1500;
    plant.edge.kill()?;
    plant.kafka.own()?.stop()?;
    plant.start_edge()?;
    plant.nobody_listened_since(deaf_since);
    arrives_but_for_what_was_dropped(plant)
}

#[test]
fn what_a_full_log_refused_is_told_and_nothing_else_is_missing() -> anyhow::Result<()> {
    let mut plant = plant("log-refuses", "refuse_new")?;
    plant.kafka.own()?.stop()?;
    plant.edge.wait_status("the log has refused events", Duration::from_secs(120), |status| {
        status["events"]["refused"].as_u64().unwrap_or_default() > 100_000
    })?;
    plant.kafka.own()?.start_again()?;
    plant.edge.wait_status("the log takes events again", Duration::from_secs(60), |status| status["log"]["failure"].is_null())?;
    plant.run_for(Duration::from_secs(2))?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert!(verdict.told_values > 100_000, "gap events must tell what was refused: {verdict}");
    plant.stop()
}
