//! JetStream's disk is full: the server switches JetStream off, the forwarder waits, and when there is room again and NATS was started anew,
//! everything arrives.

use std::path::PathBuf;
use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::{mounts, nats, tools, wait};

const MAX: Duration = Duration::from_secs(60);

#[test]
fn a_full_disk_of_the_oldest_nats_server_costs_time_and_nothing_else() -> anyhow::Result<()> {
    costs_time_and_nothing_else("nats-disk-old", None)
}

#[test]
fn a_full_disk_of_the_newest_nats_server_costs_time_and_nothing_else() -> anyhow::Result<()> {
    match tools::newest_nats_server()? {
        Some(program) => costs_time_and_nothing_else("nats-disk-new", Some(program)),
        None => Ok(()),
    }
}

fn costs_time_and_nothing_else(name: &str, program: Option<PathBuf>) -> anyhow::Result<()> {
    if !mounts::are_allowed() {
        return Ok(());
    }
    let mut plant = Plant::new(name, Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 1000, ..Plan::new(Make::Asyncua, 2, 50) }, plant.folder())?;
    plant.add(devices)?;
    plant.start_nats_with(&nats::Plan { program, disk: Some(64 << 20), ..Default::default() })?;
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    // Not all of it: NATS is writing meanwhile. It takes the rest within seconds.
    let full = plant.nats.as_ref().expect("it was started").disk()?.fill(1 << 20)?;
    wait::until_true("the forwarder waits", MAX, || status(&plant, "state") == "waiting")?;
    println!("it waits for {}", status(&plant, "reasons"));
    plant.run_for(Duration::from_secs(3))?;
    // What a person does: make room, start NATS again. The older server does not end by SIGTERM in this state.
    std::fs::remove_file(full)?;
    let nats = plant.nats.as_mut().expect("it was started");
    nats.kill()?;
    nats.start_again()?;
    wait::until_true("the forwarder goes on", MAX, || status(&plant, "state") == "forwarding")?;
    plant.run_for(Duration::from_secs(1))?;
    plant.expect_clean(MAX)?;
    plant.stop()
}

fn status(plant: &Plant, what: &str) -> serde_json::Value {
    let forwarder = plant.forwarder.as_ref().expect("it was started");
    forwarder.status().map_or(serde_json::Value::Null, |status| status[what].clone())
}
