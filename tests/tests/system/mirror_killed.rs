//! The edge dies at each step of the mirror's work, under load: each event stands in Kafka once.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;

const MAX: Duration = Duration::from_secs(60);

fn plant(name: &str) -> anyhow::Result<Plant> {
    let mut plant = Plant::new(name, Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 1_000, ..Plan::new(Make::Asyncua, 2, 50) }, plant.folder())?;
    plant.add(devices)?;
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    Ok(plant)
}

#[test]
fn an_edge_that_dies_at_any_step_of_the_mirror_brings_each_event_once() -> anyhow::Result<()> {
    let mut plant = plant("mirror-killed")?;
    for point in ["mirror.sent:5", "mirror.reported:9", "mirror.cursor_kept:2", "mirror.reading_back", "mirror.sent", "mirror.reported"] {
        // Under load, so that there is something to read back.
        plant.edge.kill()?;
        plant.edge.start_with(&[("OPENFACTORY_FAIL_POINT", point.to_owned())])?;
        plant.edge.wait_died(MAX)?;
        plant.start_edge()?;
    }
    plant.run_for(Duration::from_secs(1))?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert_eq!(verdict.resent, 0, "nothing needed a mark: {verdict}");
    plant.stop()
}
