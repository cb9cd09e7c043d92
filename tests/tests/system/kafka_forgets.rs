//! Brokers forget a producer long before the edge expects it: what is in doubt then is read back, and nothing stands twice.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::plant::Plant;
use system_tests::proxy::Fault;

#[test]
fn a_producer_that_brokers_forgot_leaves_each_event_once() -> anyhow::Result<()> {
    // A day, where nobody says otherwise.
    let settings = [("producer.id.expiration.ms", "6000")];
    let kafka = Kafka::start_linked(&kafka::Plan { settings: &settings, ..Default::default() })?;
    let bootstrap = kafka.link_bootstrap()?;
    let mut plant = Plant::over("forgotten", Broker::Own(kafka), bootstrap, "")?;
    let devices = Devices::start(Plan { rate: 10_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    for _ in 0..2 {
        plant.run_for(Duration::from_secs(2))?;
        // Batches are taken whose answers never come; when they are sent again, nobody knows them any more.
        plant.kafka.own()?.link()?.set(Fault::SwallowAnswers);
        plant.run_for(Duration::from_secs(12))?;
        plant.kafka.own()?.link()?.set(Fault::None);
    }
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert_eq!((verdict.told, verdict.told_values, verdict.resent), (0, 0, 0), "{verdict}");
    plant.stop()
}
