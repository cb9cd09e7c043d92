//! The edge is killed ten times under load: what it called durable reaches Kafka once, what it could not hear is told by gap events, and it
//! goes on by itself.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;

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
