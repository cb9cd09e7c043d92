//! The disk under the log gives errors for a while: on syncs, on writes, on a full disk in the middle of a commit, on reads of what is old. The
//! edge goes on by itself when the errors end, and what it could not keep is told.

use std::time::Duration;

use rustix::io::Errno;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::faults::{Call, Faults};
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;

/// Files of the log: its segments only, or all of them, those included in which losses are noted.
const PLACES: [&str; 2] = [".seg", "/log/"];

fn plant(name: &str, kafka: Broker, log: &str, plan: Plan) -> anyhow::Result<(Plant, Faults)> {
    let mut plant = Plant::new(name, kafka, &format!("[log]\nmin_free = \"1 MiB\"\nsegment_size = \"1 MiB\"\n{log}"))?;
    let faults = Faults::new(plant.folder())?;
    plant.edge.wrap(faults.wrapper());
    let devices = Devices::start(plan, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    Ok((plant, faults))
}

fn goes_on_after_errors(when_full: &str) -> anyhow::Result<()> {
    let log = format!("max_size = \"64 MiB\"\nwhen_full = \"{when_full}\"\n");
    let plan = Plan { rate: 2000, ..Plan::new(Make::Fast, 2, 50) };
    let (mut plant, faults) = plant(&format!("errors-{when_full}").replace('_', "-"), Broker::shared()?, &log, plan)?;
    for (call, error) in [(Call::Sync, Errno::IO), (Call::Write, Errno::IO), (Call::Write, Errno::NOSPC)] {
        for place in PLACES {
            faults.set(call, error, place)?;
            if place == "/log/" {
                plant.edge.wait_status("the log says that the disk fails", Duration::from_secs(30), |status| {
                    !status["log"]["failure"].is_null()
                })?;
            }
            plant.run_for(Duration::from_secs(1))?;
            faults.clear(call)?;
            let before = plant.edge.status()?["log"]["durable"].as_u64().unwrap_or_default();
            plant.edge.wait_status(&format!("events become durable after {error} on {place}"), Duration::from_secs(30), |status| {
                status["log"]["failure"].is_null() && status["log"]["durable"].as_u64().unwrap_or_default() > before + 100
            })?;
        }
    }
    let verdict = plant.expect_clean(Duration::from_secs(60))?;
    assert_eq!(verdict.told, 0, "nothing that had a number may be lost: {verdict}");
    plant.stop()
}

#[test]
fn an_edge_that_drops_the_oldest_goes_on_after_errors_of_its_disk() -> anyhow::Result<()> {
    goes_on_after_errors("drop_oldest")
}

#[test]
fn an_edge_that_refuses_new_events_goes_on_after_errors_of_its_disk() -> anyhow::Result<()> {
    goes_on_after_errors("refuse_new")
}

#[test]
fn old_events_that_cannot_be_read_any_more_are_told_and_all_others_arrive() -> anyhow::Result<()> {
    let plan = Plan { rate: 80_000, ..Plan::new(Make::Fast, 4, 250) };
    let (mut plant, faults) = plant("errors-read", Broker::Own(Kafka::start()?), "", plan)?;
    plant.kafka.own()?.stop()?;
    plant.edge.wait_status("the backlog has several segments", Duration::from_secs(60), |status| {
        status["log"]["segments"].as_u64().unwrap_or_default() > 2
    })?;
    let mut segments: Vec<_> = std::fs::read_dir(plant.edge.state().join("log"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<_>>()?;
    segments.retain(|name| name.ends_with(".seg"));
    segments.sort_unstable();
    faults.set(Call::Read, Errno::IO, &segments[segments.len() - 2])?;
    plant.kafka.own()?.start_again()?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert!(verdict.told > 100, "a whole segment could not be read: {verdict}");
    plant.stop()
}
