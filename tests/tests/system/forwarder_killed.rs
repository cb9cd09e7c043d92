//! A forwarder is killed, comes back, and gets company: NATS serves everything once, and the silence is short.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use system_tests::cloud::Forwarder;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::wait;

/// The promise: be back within this after a kill.
const BACK: Duration = Duration::from_secs(6);

fn plant(name: &str) -> anyhow::Result<Plant> {
    let mut plant = Plant::new(name, Broker::shared()?, "")?;
    // More assets than partitions: each forwarder has some.
    let devices = Devices::start(Plan { rate: 500, ..Plan::new(Make::Asyncua, 12, 10) }, plant.folder())?;
    plant.add(devices)?;
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(4))?;
    Ok(plant)
}

/// Waits until every asset is served with something that its device said after `since` (Unix ms); tells how long that took.
fn served_again(plant: &Plant, since: i64, max: Duration) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let subscriber = plant.subscriber.as_ref().context("there is no subscriber")?;
    let mut missing: std::collections::BTreeSet<String> = plant.assets().into_iter().collect();
    let mut seen = subscriber.count();
    wait::until("every asset is served again", max, || {
        for message in subscriber.received(seen) {
            seen += 1;
            let observed = serde_json::from_slice::<serde_json::Value>(&message.payload)
                .ok()
                .and_then(|json| asset_stream::Timestamp::parse(json["attributes"]["timestamp"].as_str()?));
            if observed.is_some_and(|observed| observed.millis() > since)
                && let Some((asset, _)) = message.subject.split_once('.')
            {
                missing.remove(asset);
            }
        }
        Ok(if missing.is_empty() { wait::Look::Done(()) } else { wait::Look::Waiting(format!("{missing:?} are silent")) })
    })?;
    Ok(begun.elapsed())
}

#[test]
fn a_killed_forwarder_that_is_started_again_goes_on_within_six_seconds() -> anyhow::Result<()> {
    let mut plant = plant("forwarder-again")?;
    for _ in 0..3 {
        let forwarder = plant.forwarder.as_mut().context("it was started")?;
        forwarder.kill()?;
        // As systemd would: at once, under the same name.
        forwarder.start()?;
        let silence = served_again(&plant, wait::now(), Duration::from_secs(60))?;
        println!("silence after kill -9 and a start: {silence:?}");
        assert!(silence <= BACK, "the silence took {silence:?}");
        plant.run_for(Duration::from_secs(2))?;
    }
    plant.expect_clean(Duration::from_secs(60))?;
    plant.stop()
}

#[test]
fn a_second_forwarder_joins_and_takes_over_when_the_first_is_killed() -> anyhow::Result<()> {
    let mut plant = plant("forwarder-second")?;
    let mut second: Forwarder = plant.new_forwarder("forwarder-2")?;
    second.start()?;
    second.wait_started(Duration::from_secs(30))?;
    wait::until_true("the second forwarder has partitions", Duration::from_secs(30), || {
        second.status().is_ok_and(|status| status["partitions"].as_array().is_some_and(|partitions| !partitions.is_empty()))
    })?;
    let silence = served_again(&plant, wait::now(), Duration::from_secs(60))?;
    println!("silence while a second one joins: {silence:?}");
    plant.run_for(Duration::from_secs(3))?;
    plant.forwarder.as_mut().context("it was started")?.kill()?;
    let silence = served_again(&plant, wait::now(), Duration::from_secs(60))?;
    println!("silence after kill -9, until the other one took over: {silence:?}");
    // The brokers notice after the session timeout of 6 s, and the group needs a moment.
    assert!(silence <= BACK + Duration::from_secs(4), "the silence took {silence:?}");
    plant.forwarder = Some(second);
    plant.run_for(Duration::from_secs(3))?;
    plant.expect_clean(Duration::from_secs(60))?;
    plant.stop()
}
