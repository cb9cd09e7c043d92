//! The disk is full because of somebody else, or because Kafka is away under load: what must stay free stays free, memory and disk keep to
//! their limits, and when there is room again, everything flows again.

use std::path::Path;
use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{Broker, Kafka};
use system_tests::mounts::{self, Mount};
use system_tests::plant::Plant;

const MIB: u64 = 1 << 20;
const DISK: u64 = 64 * MIB;
const MAX_SIZE: u64 = 40 * MIB;
const MIN_FREE: u64 = 8 * MIB;
const MAX_RSS: u64 = 200 * MIB;

/// A plant whose log lies on a small disk of its own, under load, with Kafka away.
fn plant(when_full: &str) -> anyhow::Result<(Plant, Mount)> {
    let log =
        format!("[log]\nmax_size = \"{MAX_SIZE} B\"\nmin_free = \"{MIN_FREE} B\"\nsegment_size = \"1 MiB\"\nwhen_full = \"{when_full}\"\n");
    let mut plant = Plant::new(&format!("disk-full-{when_full}").replace('_', "-"), Broker::Own(Kafka::start()?), &log)?;
    let disk = Mount::tmpfs(&plant.edge.state(), DISK)?;
    let devices = Devices::start(Plan { rate: 80_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    plant.kafka.own()?.stop()?;
    Ok((plant, disk))
}

/// Waits until `holds` says so of the status; all limits are kept meanwhile. `least_free`: what the log leaves to others.
fn wait(plant: &mut Plant, disk: &Mount, what: &str, least_free: u64, holds: impl Fn(&serde_json::Value) -> bool) -> anyhow::Result<()> {
    let process = i32::try_from(plant.edge.process()?.id())?;
    plant
        .edge
        .wait_status(what, Duration::from_secs(120), |status| {
            let rss = procfs::process::Process::new(process).and_then(|process| process.status()).ok().and_then(|status| status.vmrss);
            let rss = rss.unwrap_or_default() * 1024;
            assert!(rss > 0 && rss <= MAX_RSS, "the edge may take {MAX_RSS} bytes of memory, and takes {rss}");
            let bytes = status["log"]["bytes"].as_u64().unwrap_or_default();
            assert!(bytes <= MAX_SIZE, "the log may take {MAX_SIZE} bytes, and takes {bytes}");
            let free = disk.free().unwrap_or_default();
            assert!(free >= least_free, "{least_free} bytes must stay free, {free} are");
            holds(status)
        })
        .map(drop)
}

/// Kafka is back, and room: all arrives but what is told.
fn recovers(mut plant: Plant, ballast: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(ballast)?;
    plant.kafka.own()?.start_again()?;
    plant.edge.wait_status("the log takes events again", Duration::from_secs(60), |status| status["log"]["failure"].is_null())?;
    plant.run_for(Duration::from_secs(1))?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert!(verdict.told + verdict.told_values > 10_000, "gap events must tell what was lost: {verdict}");
    plant.stop()
}

fn number(status: &serde_json::Value, name: &str) -> u64 {
    status["log"][name].as_u64().unwrap_or_default()
}

#[test]
fn a_log_that_drops_the_oldest_leaves_room_to_others_and_gives_way_to_them() -> anyhow::Result<()> {
    if !mounts::are_allowed() {
        return Ok(());
    }
    let (mut plant, disk) = plant("drop_oldest")?;
    wait(&mut plant, &disk, "max_size is reached", MIN_FREE, |status| number(status, "dropped") > 10_000)?;
    let ballast = disk.fill(4 * MIB)?;
    wait(&mut plant, &disk, "the log gives way to somebody else", 3 * MIB, |_| disk.free().is_ok_and(|free| free >= MIN_FREE))?;
    recovers(plant, &ballast)
}

#[test]
fn a_log_that_refuses_new_events_leaves_room_to_others_and_takes_events_when_there_is_room_again() -> anyhow::Result<()> {
    if !mounts::are_allowed() {
        return Ok(());
    }
    let (mut plant, disk) = plant("refuse_new")?;
    let ballast = disk.fill(MIN_FREE + 4 * MIB)?;
    wait(&mut plant, &disk, "the disk is full at the creation of a segment", MIN_FREE, |status| {
        status["log"]["failure"].as_str().is_some_and(|why| why.contains("min_free"))
            && status["events"]["refused"].as_u64().unwrap_or_default() > 10_000
    })?;
    recovers(plant, &ballast)
}
