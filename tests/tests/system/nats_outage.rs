//! NATS is stopped for 20 seconds, and killed: the forwarder waits without losing its place, and goes on by itself.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::wait;

#[test]
fn an_outage_of_nats_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let mut plant = Plant::new("nats-outage", Broker::shared()?, "")?;
    for plan in [Plan { rate: 1000, ..Plan::new(Make::Asyncua, 4, 50) }, Plan::new(Make::PymodbusTcp, 2, 20)] {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(5))?;
    for outage in ["stopped", "killed"] {
        let nats = plant.nats.as_mut().expect("it was started");
        if outage == "stopped" {
            nats.stop()?
        } else {
            nats.kill()?
        }
        plant.run_for(Duration::from_secs(20))?;
        plant.nats.as_mut().expect("it was started").start_again()?;
        let forwarder = plant.forwarder.as_ref().expect("it was started");
        let forwarded = || forwarder.status().map_or(0, |status| status["forwarded"].as_u64().unwrap_or_default());
        let before = forwarded();
        wait::until_true("the forwarder forwards again", Duration::from_secs(20), || forwarded() > before)?;
        plant.run_for(Duration::from_secs(5))?;
    }
    plant.expect_clean(Duration::from_secs(120))?;
    plant.stop()
}
