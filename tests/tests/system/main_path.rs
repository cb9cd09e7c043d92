//! From machines to NATS without faults: everything arrives, once, in order, unaltered.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{Broker, Kafka, Release};
use system_tests::plant::Plant;
use system_tests::{kafka, nats, tools, wait};

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

/// What existing installations run, shortly.
#[test]
fn everything_arrives_through_apache_kafka_3_7() -> anyhow::Result<()> {
    let kafka = Kafka::start_with(&kafka::Plan { release: Release::V3_7, ..Default::default() })?;
    let mut plant = Plant::new("main-path-3-7", Broker::Own(kafka), "")?;
    let devices = Devices::start(Plan { rate: 5_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(5))?;
    // A producer's second life asks what the first one left.
    plant.edge.kill()?;
    let deaf_since = wait::now() - 1500;
    plant.start_edge()?;
    plant.nobody_listened_since(deaf_since);
    plant.run_for(Duration::from_secs(5))?;
    plant.expect_clean(Duration::from_secs(120))?;
    plant.stop()
}

/// What new installations run, shortly.
#[test]
fn everything_arrives_through_the_newest_nats_server() -> anyhow::Result<()> {
    let Some(program) = tools::newest_nats_server()? else { return Ok(()) };
    let mut plant = Plant::new("main-path-nats", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 5_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start_nats_with(&nats::Plan { program: Some(program), ..Default::default() })?;
    plant.start()?;
    plant.run_for(Duration::from_secs(3))?;
    // What a forwarder finds in the stream at its start is asked of the server.
    let forwarder = plant.forwarder.as_mut().expect("it was started");
    forwarder.kill()?;
    forwarder.start()?;
    plant.run_for(Duration::from_secs(3))?;
    plant.expect_clean(Duration::from_secs(120))?;
    plant.stop()
}
