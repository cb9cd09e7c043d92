//! Kafka is stopped for 20 seconds, once in order and once by SIGKILL: the edge goes on collecting and catches up, each event once.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;

#[test]
fn an_outage_of_kafka_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let mut plant = Plant::new("kafka-outage", Broker::Own(Kafka::start()?), "")?;
    for plan in [Plan { rate: 1000, ..Plan::new(Make::Asyncua, 4, 50) }, Plan::new(Make::PymodbusTcp, 2, 20)] {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(5))?;
    let durable = |plant: &mut Plant| -> anyhow::Result<u64> { Ok(plant.edge.status()?["log"]["durable"].as_u64().unwrap_or_default()) };
    for outage in ["stopped", "killed"] {
        if outage == "stopped" {
            plant.kafka.own()?.stop()?
        } else {
            plant.kafka.own()?.kill()?
        }
        let before = durable(&mut plant)?;
        plant.run_for(Duration::from_secs(20))?;
        let after = durable(&mut plant)?;
        assert!(after > before + 5_000, "while Kafka is {outage}, the edge must go on: {before} events were durable, then {after}");
        plant.kafka.own()?.start_again()?;
        plant.run_for(Duration::from_secs(5))?;
    }
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert_eq!((verdict.told, verdict.told_values, verdict.resent), (0, 0, 0), "nothing was in doubt: {verdict}");
    plant.stop()
}
