//! A cluster of three brokers loses one or two of them under load: each event stands in Kafka once, in its asset's order.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::judge::Verdict;
use system_tests::kafka::{Broker, Kafka, SmallDisk};
use system_tests::plant::Plant;
use system_tests::tools;

/// A plant over three brokers, with much on its way at each fault.
fn plant(name: &str) -> anyhow::Result<Plant> {
    let mut plant = Plant::new(name, Broker::Own(Kafka::cluster()?), "")?;
    let devices = Devices::start(Plan { rate: 10_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    Ok(plant)
}

/// Everything arrived, and nothing was ever given up or sent a second time on purpose.
fn nothing_was_in_doubt(plant: &mut Plant) -> anyhow::Result<Verdict> {
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert_eq!((verdict.told, verdict.told_values, verdict.resent), (0, 0, 0), "{verdict}");
    plant.stop()?;
    Ok(verdict)
}

/// What librdkafka#4953 is about, which the mirror avoids by one request in flight.
#[test]
fn leaders_killed_one_after_the_other_cost_time_and_nothing_else() -> anyhow::Result<()> {
    let mut plant = plant("leader-killed")?;
    let topic = plant.topic().to_owned();
    for partition in [0, 1, 2] {
        let kafka = plant.kafka.own()?;
        let leader = kafka.wait_leader(&topic, partition, None)?;
        kafka.node(leader)?.kill()?;
        kafka.wait_leader(&topic, partition, Some(leader))?;
        plant.run_for(Duration::from_secs(2))?;
        let kafka = plant.kafka.own()?;
        kafka.node(leader)?.start_again()?;
        kafka.wait_in_sync(&topic)?;
    }
    nothing_was_in_doubt(&mut plant).map(drop)
}

#[test]
fn a_leader_that_stands_still_and_wakes_up_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let mut plant = plant("leader-paused")?;
    let topic = plant.topic().to_owned();
    let kafka = plant.kafka.own()?;
    let leader = kafka.wait_leader(&topic, 0, None)?;
    kafka.node(leader)?.pause()?;
    // The others need a controller among them, and find out by silence.
    kafka.wait_leader(&topic, 0, Some(leader))?;
    plant.run_for(Duration::from_secs(2))?;
    // It has requests in its sockets, and believes that it leads.
    let kafka = plant.kafka.own()?;
    kafka.node(leader)?.resume()?;
    kafka.wait_in_sync(&topic)?;
    nothing_was_in_doubt(&mut plant).map(drop)
}

#[test]
fn a_rolling_restart_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let mut plant = plant("rolling")?;
    let topic = plant.topic().to_owned();
    for id in plant.kafka.own()?.ids() {
        let kafka = plant.kafka.own()?;
        kafka.node(id)?.stop()?;
        kafka.node(id)?.start_again()?;
        kafka.wait_in_sync(&topic)?;
    }
    nothing_was_in_doubt(&mut plant).map(drop)
}

#[test]
fn a_killed_controller_costs_time_and_nothing_else() -> anyhow::Result<()> {
    let mut plant = plant("controller-killed")?;
    let topic = plant.topic().to_owned();
    let kafka = plant.kafka.own()?;
    let controller = kafka.wait_controller(None)?;
    kafka.node(controller)?.kill()?;
    kafka.wait_controller(Some(controller))?;
    plant.run_for(Duration::from_secs(2))?;
    let kafka = plant.kafka.own()?;
    kafka.node(controller)?.start_again()?;
    kafka.wait_in_sync(&topic)?;
    nothing_was_in_doubt(&mut plant).map(drop)
}

#[test]
fn two_of_three_brokers_down_are_waited_for_and_nothing_else_happens() -> anyhow::Result<()> {
    let mut plant = plant("two-down")?;
    let topic = plant.topic().to_owned();
    for id in [1, 2] {
        plant.kafka.own()?.node(id)?.kill()?;
    }
    let status = plant.edge.wait_status("no broker takes events", Duration::from_secs(60), |s| s["mirror"]["state"] == "unreachable")?;
    let before = status["log"]["durable"].as_u64().unwrap_or_default();
    plant.edge.wait_status("the edge goes on collecting", Duration::from_secs(60), |status| {
        status["log"]["durable"].as_u64().unwrap_or_default() > before + 100_000
    })?;
    for id in [1, 2] {
        plant.kafka.own()?.node(id)?.start_again()?;
    }
    plant.kafka.own()?.wait_in_sync(&topic)?;
    nothing_was_in_doubt(&mut plant).map(drop)
}

#[test]
fn a_broker_whose_disk_is_full_costs_time_and_nothing_else() -> anyhow::Result<()> {
    if !SmallDisk::is_possible() {
        tools::skipped("only root can give a broker a disk that may be filled up");
        return Ok(());
    }
    let mut plant = plant("disk-full")?;
    let topic = plant.topic().to_owned();
    let kafka = plant.kafka.own()?;
    let leader = kafka.wait_leader(&topic, 0, None)?;
    kafka.node(leader)?.stop()?;
    kafka.node(leader)?.move_to_small_disk(256 << 20)?;
    kafka.node(leader)?.start_again()?;
    kafka.wait_in_sync(&topic)?;
    kafka.node(leader)?.disk()?.fill()?;
    // It has no other disk to go on with.
    kafka.node(leader)?.wait_ended(Duration::from_secs(60))?;
    plant.run_for(Duration::from_secs(2))?;
    let kafka = plant.kafka.own()?;
    kafka.node(leader)?.disk()?.clear()?;
    kafka.node(leader)?.start_again()?;
    kafka.wait_in_sync(&topic)?;
    nothing_was_in_doubt(&mut plant).map(drop)
}
