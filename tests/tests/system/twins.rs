//! Two boxes with one edge id, as after copying a config: one of them stops mirroring and says so, and nothing is mixed up.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::edge::{Edge, Settings};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::wait;

const MAX: Duration = Duration::from_secs(60);

#[test]
fn of_two_edges_with_one_id_the_older_gives_way_says_so_and_loses_nothing() -> anyhow::Result<()> {
    let mut plant = Plant::new("twins", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 1_000, ..Plan::new(Make::Fast, 2, 50) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;

    let settings =
        Settings { id: "edge-twins".into(), kafka: Some(plant.kafka.bootstrap()), topic: plant.topic().into(), more: String::new() };
    let mut twin = Edge::new(&plant.folder().join("other-box"), &settings)?;
    twin.start()?;
    let status = plant.edge.wait_status("the older one gives way", MAX, |status| status["mirror"]["state"] == "superseded")?;
    let detail = status["mirror"]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("edge-twins"), "the sentence must name the id: {detail}");
    twin.wait_status("the younger one mirrors", MAX, |status| status["mirror"]["state"] == "mirroring")?;
    twin.wait_mirrored(MAX)?;
    twin.stop()?;

    // Someone has given the twin another id, and starts the first one again.
    plant.edge.wait_status("it keeps what it collects", MAX, |status| status["mirror"]["backlog"].as_u64() > Some(2_000))?;
    let deaf_since = wait::now() - 500;
    plant.edge.stop()?;
    plant.start_edge()?;
    plant.nobody_listened_since(deaf_since);
    plant.run_for(Duration::from_secs(1))?;
    let verdict = plant.judge(Duration::from_secs(120))?;
    println!("{verdict}");
    let harms = [verdict.missing(), verdict.duplicated, verdict.altered, verdict.wrong_gaps];
    assert_eq!(harms, [0; 4], "{verdict}\n{:#?}", verdict.harms);
    // Both are the asset EDGE-TWINS, each with a log of its own: what they say of themselves has no common order.
    assert!(verdict.harms.iter().all(|harm| harm.contains("edge-twins/EDGE-TWINS")), "{verdict}\n{:#?}", verdict.harms);
    assert_eq!(verdict.reordered, verdict.harms.len() as u64, "harms that nobody described: {verdict}\n{:#?}", verdict.harms);
    plant.stop()
}

#[test]
fn an_edge_that_is_given_another_id_goes_on_where_it_was() -> anyhow::Result<()> {
    let mut plant = Plant::new("renamed", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 1_000, ..Plan::new(Make::Fast, 2, 50) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    plant.edge.wait_mirrored(MAX)?;
    plant.edge.stop()?;
    let config = std::fs::read_to_string(plant.edge.config())?;
    std::fs::write(plant.edge.config(), config.replace("\"edge-renamed\"", "\"edge-with-another-name\""))?;
    plant.start_edge()?;
    plant.run_for(Duration::from_secs(1))?;
    plant.edge.wait_mirrored(MAX)?;
    let status = plant.edge.status()?;
    assert_eq!(status["edge"], "edge-with-another-name", "{status:#}");
    assert_eq!(status["mirror"]["changes"], 0, "the topic is what it was: {:#}", status["mirror"]);
    plant.edge.stop()?;
    plant.stop()
}
