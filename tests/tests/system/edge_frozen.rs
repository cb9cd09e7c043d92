//! The edge stands still (SIGSTOP: a hypervisor that paused it, a debugger, a box that swaps) and goes on: devices and brokers have given it up
//! meanwhile.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;

#[test]
fn an_edge_that_stood_still_goes_on_and_tells_what_it_could_not_hear() -> anyhow::Result<()> {
    let mut plant = Plant::new("edge-frozen", Broker::shared()?, "")?;
    // Ten changes a second of each tag: the longer standstill brings more than the servers' queues (500) hold.
    for plan in [Plan { rate: 2_000, ..Plan::new(Make::Fast, 4, 50) }, Plan { poll: 100, ..Plan::new(Make::PymodbusTcp, 2, 20) }] {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    plant.start_nats()?;
    plant.start()?;
    for stands_still in [Duration::from_secs(2), Duration::from_secs(75)] {
        plant.run_for(Duration::from_secs(1))?;
        plant.edge.freeze()?;
        plant.run_for(stands_still)?;
        plant.edge.thaw()?;
    }
    plant.run_for(Duration::from_secs(3))?;
    plant.expect_clean(Duration::from_secs(120))?;
    plant.stop()
}
