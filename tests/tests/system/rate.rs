//! 100,000 changes a second for 30 seconds, complete in Kafka.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;

#[test]
fn a_hundred_thousand_changes_a_second_are_complete_in_kafka() -> anyhow::Result<()> {
    let mut plant = Plant::new("rate", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 100_000, ..Plan::new(Make::Fast, 10, 1000) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(30))?;
    let verdict = plant.expect_clean(Duration::from_secs(180))?;
    assert!(verdict.told == 0 && verdict.told_values == 0, "nothing broke, so nothing may be lost: {verdict}");
    // The simulator goes slower where it gets no time: that would prove less than the name of this test says.
    assert!(verdict.observed >= 30 * 95_000, "the machine was too busy for 100,000 changes a second: {verdict}");
    plant.stop()
}
