//! The disk is full because of somebody else, or because Kafka is away under load: what must stay free stays free, memory and disk keep to
//! their limits, and when there is room again, everything flows again.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value as Json;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{Broker, Kafka};
use system_tests::mounts::{self, Mount};
use system_tests::plant::Plant;
use system_tests::wait::{self, Look};

const MIB: u64 = 1 << 20;
const DISK: u64 = 16 * MIB;
/// Room for four segments, and the log's small files.
const MAX_SIZE: u64 = 5 * MIB;
const MIN_FREE: u64 = 4 * MIB;
const MAX_MEMORY: u64 = 200 * MIB;
/// What the edge has on its disk beside the log.
const OTHER_STATE: u64 = MIB / 4;

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

/// Waits until `holds` says so of the status. Meanwhile the edge keeps to its memory, and the disk has `least_free` bytes.
fn wait(plant: &mut Plant, disk: &Mount, what: &str, least_free: u64, holds: impl Fn(&Json) -> bool) -> anyhow::Result<()> {
    wait::until(what, Duration::from_secs(60), || {
        let memory = plant.edge.process()?.memory()?;
        ensure!(memory <= MAX_MEMORY, "the edge may take {MAX_MEMORY} bytes of memory, and takes {memory}");
        let status = plant.edge.status()?;
        let bytes = number(&status["log"]["bytes"]);
        ensure!(bytes <= MAX_SIZE, "the log may take {MAX_SIZE} bytes, and says that it takes {bytes}");
        let free = disk.free()?;
        ensure!(free >= least_free, "{least_free} bytes must stay free, {free} are; the log says that it takes {bytes}");
        Ok(if holds(&status) { Look::Done(()) } else { Look::Waiting(status.to_string()) })
    })
}

/// Kafka is back, and room: all arrives but what is told.
fn recovers(mut plant: Plant, ballast: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(ballast)?;
    plant.kafka.own()?.start_again()?;
    plant.edge.wait_status("the log takes events again", Duration::from_secs(60), |status| status["log"]["failure"].is_null())?;
    plant.run_for(Duration::from_secs(1))?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    ensure!(verdict.told + verdict.told_values > 10_000, "gap events must tell what was lost: {verdict}");
    plant.stop()
}

fn number(value: &Json) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[test]
fn a_log_that_drops_the_oldest_leaves_room_to_others_and_gives_way_to_them() -> anyhow::Result<()> {
    if !mounts::are_allowed() {
        return Ok(());
    }
    let (mut plant, disk) = plant("drop_oldest")?;
    wait(&mut plant, &disk, "max_size is reached", DISK - MAX_SIZE - OTHER_STATE, |status| number(&status["log"]["dropped"]) > 10_000)?;
    let ballast = disk.fill(MIN_FREE - MIB)?;
    // A segment may have been begun while the disk was filled.
    wait(&mut plant, &disk, "the log gives way to somebody else", MIN_FREE - 2 * MIB, |_| disk.free().is_ok_and(|free| free >= MIN_FREE))?;
    recovers(plant, &ballast)
}

#[test]
fn a_log_that_refuses_new_events_leaves_room_to_others_and_takes_events_when_there_is_room_again() -> anyhow::Result<()> {
    if !mounts::are_allowed() {
        return Ok(());
    }
    let (mut plant, disk) = plant("refuse_new")?;
    let ballast = disk.fill(MIN_FREE + MIB)?;
    wait(&mut plant, &disk, "min_free is reached and events are refused", MIN_FREE, |status| {
        let failure = status["log"]["failure"].as_str().unwrap_or_default();
        failure.contains("min_free") && number(&status["events"]["refused"]) > 10_000
    })?;
    recovers(plant, &ballast)
}
