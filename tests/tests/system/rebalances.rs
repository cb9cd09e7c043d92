//! Forwarders come and go every few seconds under load: partitions change hands, and NATS serves everything once and in order.

use std::time::Duration;

use anyhow::Context as _;
use system_tests::cloud::Forwarder;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::wait;

/// What happens to a forwarder; each makes the group share out the partitions anew.
#[derive(Clone, Copy, Debug)]
enum Change {
    Start,
    Stop,
    Kill,
}

#[test]
fn partitions_that_change_hands_every_few_seconds_are_served_once_and_in_order() -> anyhow::Result<()> {
    let mut plant = Plant::new("rebalances", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 3_000, ..Plan::new(Make::Fast, 12, 50) }, plant.folder())?;
    plant.add(devices)?;
    plant.start_nats()?;
    plant.start()?;
    let mut others = [plant.new_forwarder("forwarder-2")?, plant.new_forwarder("forwarder-3")?];
    let changes = [(0, Change::Start), (1, Change::Start), (0, Change::Stop), (1, Change::Kill), (0, Change::Start), (0, Change::Kill)];
    for (other, change) in changes {
        let other: &mut Forwarder = &mut others[other];
        match change {
            Change::Start => {
                other.start()?;
                other.wait_started(Duration::from_secs(30))?;
                wait::until_true("it has a partition", Duration::from_secs(30), || has_partition(other))?;
            }
            Change::Stop => other.stop()?,
            Change::Kill => other.kill()?,
        }
        plant.run_for(Duration::from_secs(2))?;
    }
    let verdict = plant.expect_clean(Duration::from_secs(120)).context("after all changes")?;
    assert!(verdict.observed > 20_000, "this run proved little: {verdict}");
    plant.stop()
}

fn has_partition(forwarder: &Forwarder) -> bool {
    forwarder.status().is_ok_and(|status| status["partitions"].as_array().is_some_and(|partitions| !partitions.is_empty()))
}
