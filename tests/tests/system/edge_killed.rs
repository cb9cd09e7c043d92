//! The edge is killed ten times under load: what it called durable reaches Kafka once, what it could not hear is told by gap events, and it
//! goes on by itself.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::proxy::{Fault, Proxy};
use system_tests::wait;

const MAX: Duration = Duration::from_secs(60);

#[test]
fn an_edge_killed_ten_times_loses_and_repeats_nothing_that_it_had_accepted() -> anyhow::Result<()> {
    let mut plant = Plant::new("edge-killed", Broker::shared()?, "")?;
    for plan in [Plan { rate: 1000, ..Plan::new(Make::Asyncua, 4, 50) }, Plan { poll: 100, ..Plan::new(Make::PymodbusTcp, 2, 20) }] {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    plant.start_nats()?;
    plant.start()?;
    for round in 0..10 {
        // Different moments of the group commit, the mirror and the reconnect.
        plant.run_for(Duration::from_millis(700 + 130 * round))?;
        plant.edge.kill()?;
        plant.start_edge()?;
    }
    plant.run_for(Duration::from_secs(3))?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert!(verdict.observed > 5_000, "the run proved little: {verdict}");
    assert!(verdict.told_values > 0, "ten kills under load must cost something on the way to the log: {verdict}");
    plant.stop()
}

#[test]
fn what_nobody_heard_after_a_crash_is_told_even_if_the_edge_ends_again_before_its_device_answers() -> anyhow::Result<()> {
    let mut plant = Plant::new("edge-killed-again", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 200, ..Plan::new(Make::Asyncua, 2, 20) }, plant.folder())?;
    let proxy = Proxy::start(([127, 0, 0, 1], devices.ports()[0]).into())?;
    let file = devices.device_file(|_| proxy.port())?;
    plant.add_with_file(devices, &file)?;
    plant.start()?;
    for ends in ["killed", "stopped"] {
        plant.run_for(Duration::from_secs(1))?;
        plant.edge.kill()?;
        proxy.set(Fault::Refuse);
        // What the devices say here, only a gap event can tell.
        plant.run_for(Duration::from_secs(1))?;
        let started = wait::now();
        plant.edge.start()?;
        plant.edge.wait_status("the device is lost", MAX, |status| status["devices"][0]["state"] == "lost")?;
        if ends == "killed" {
            plant.edge.kill()?;
        } else {
            plant.edge.stop()?;
        }
        proxy.set(Fault::None);
        plant.start_edge()?;
        if ends == "stopped" {
            // Until a device answers that was away, `avail` = UNAVAILABLE tells it.
            plant.nobody_listened_since(started);
        }
    }
    plant.run_for(Duration::from_secs(1))?;
    let verdict = plant.expect_clean(MAX)?;
    assert!(verdict.told_values > 200, "two crashes under load must cost something: {verdict}");
    plant.stop()
}
