//! The edge is killed ten times under load: what it called durable reaches Kafka once, and it goes on by itself.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::wait;

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
        // What was said shortly before may have been on its way to the log: it was not accepted yet.
        let deaf_since = wait::now() - 1500;
        plant.edge.kill()?;
        plant.start_edge()?;
        plant.nobody_listened_since(deaf_since);
    }
    plant.run_for(Duration::from_secs(3))?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert!(verdict.observed > 5_000, "the run proved little: {verdict}");
    plant.stop()
}
