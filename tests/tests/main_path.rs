//! From machines to NATS without faults: everything arrives, once, in order, unaltered.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;

/// 10,000 OPC UA tags on 20 devices at what asyncua gives on two cores, beside Modbus over TCP and a serial line, for a minute.
#[test]
fn ten_thousand_tags_of_twenty_devices_arrive_complete_for_a_minute() -> anyhow::Result<()> {
    let mut plant = Plant::new("main-path", Broker::shared()?, "")?;
    let plans = [
        Plan { servers: 2, rate: 2500, ..Plan::new(Make::Asyncua, 20, 500) },
        Plan { poll: 200, ..Plan::new(Make::PymodbusTcp, 3, 20) },
        Plan { first_device: 4, poll: 500, ..Plan::new(Make::PymodbusRtu, 2, 10) },
    ];
    for plan in plans {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(60))?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    // Less would mean that this run proved little: a third of what the devices were asked for.
    assert!(verdict.observed > 10_000 + 60 * 800, "{verdict}");
    assert!(verdict.told == 0 && verdict.told_values == 0 && verdict.unheard == 0, "nothing broke, so nothing may be lost: {verdict}");
    plant.stop()
}
