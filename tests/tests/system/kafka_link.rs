//! The link from the edge to Kafka is cut, half-open and away, while Kafka itself is well: each event stands in Kafka once.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;
use system_tests::proxy::Fault;

#[test]
fn a_bad_link_to_kafka_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let kafka = Kafka::start_with_link()?;
    let bootstrap = kafka.link_bootstrap()?;
    let mut plant = Plant::over("kafka-link", Broker::Own(kafka), bootstrap, "")?;
    // Fast, so that much is on its way at each cut.
    let devices = Devices::start(Plan { rate: 10_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    for round in 0..10 {
        // Answers of Kafka are lost: the producer cannot know whether its last batches were taken.
        plant.kafka.own()?.link()?.cut();
        plant.run_for(Duration::from_millis(300 + 70 * round))?;
    }
    for fault in [Fault::Swallow, Fault::Refuse, Fault::Delay(Duration::from_millis(200))] {
        plant.kafka.own()?.link()?.set(fault);
        plant.run_for(Duration::from_secs(10))?;
        plant.kafka.own()?.link()?.set(Fault::None);
        plant.run_for(Duration::from_secs(2))?;
    }
    let verdict = plant.expect_clean(Duration::from_secs(180))?;
    assert_eq!((verdict.told, verdict.told_values, verdict.resent), (0, 0, 0), "{verdict}");
    plant.stop()
}
