//! Wrong clocks, of the edge and of devices: nothing is refused or lost, order holds, and each event says which clock it had.

use std::time::Duration;

use anyhow::Context as _;
use asset_stream::Timestamp;
use system_tests::clock::Clock;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::wait;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn plant(name: &str, device_clock: Option<i64>) -> anyhow::Result<Plant> {
    let mut plant = Plant::new(name, Broker::shared()?, "")?;
    let plan = Plan { rate: 500, ..Plan::new(Make::Asyncua, 2, 20) };
    let environment = match device_clock {
        Some(ahead) => Clock::new(plant.folder(), "devices", ahead)?.environment(),
        None => Vec::new(),
    };
    let devices = Devices::start_with(plan, plant.folder(), environment)?;
    plant.add(devices)?;
    plant.start_nats()?;
    Ok(plant)
}

fn runs_clean(mut plant: Plant, seconds: u64) -> anyhow::Result<()> {
    plant.wait_first_values(Duration::from_secs(120))?;
    plant.go()?;
    plant.run_for(Duration::from_secs(seconds))?;
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert_eq!((verdict.told, verdict.told_values), (0, 0), "a clock costs no event: {verdict}");
    plant.stop()
}

#[test]
fn an_edge_whose_clock_is_an_hour_ahead_loses_nothing() -> anyhow::Result<()> {
    with_edge_clock("edge-ahead", HOUR)
}

#[test]
fn an_edge_whose_clock_is_two_days_behind_loses_nothing() -> anyhow::Result<()> {
    with_edge_clock("edge-behind", -2 * DAY)
}

fn with_edge_clock(name: &str, ahead: i64) -> anyhow::Result<()> {
    let mut plant = plant(name, None)?;
    let clock = Clock::new(plant.folder(), "edge", ahead)?;
    plant.edge.set_environment(clock.environment());
    plant.start_edge()?;
    let started = plant.edge.status()?["started"].as_str().and_then(Timestamp::parse).context("the status has no start")?;
    let off = started.millis() - wait::now();
    assert!((off - 1000 * ahead).abs() < 300_000, "the edge's clock should be {ahead} s ahead, and is {off} ms");
    runs_clean(plant, 3)
}

#[test]
fn a_clock_that_is_stepped_while_the_edge_runs_costs_nothing() -> anyhow::Result<()> {
    let mut plant = plant("edge-stepped", None)?;
    let clock = Clock::new(plant.folder(), "edge", 0)?;
    plant.edge.set_environment(clock.environment());
    plant.start_edge()?;
    plant.wait_first_values(Duration::from_secs(120))?;
    plant.go()?;
    for ahead in [3 * HOUR, -2 * DAY, HOUR / 6, 0] {
        clock.set(ahead)?;
        plant.run_for(Duration::from_secs(3))?;
    }
    let verdict = plant.expect_clean(Duration::from_secs(120))?;
    assert_eq!((verdict.told, verdict.told_values), (0, 0), "a clock costs no event: {verdict}");
    plant.stop()
}

#[test]
fn a_device_that_lives_in_1970_is_recorded_with_its_own_time() -> anyhow::Result<()> {
    let mut plant = plant("device-1970", Some(-20_600 * DAY))?;
    plant.start_edge()?;
    runs_clean(plant, 3)
}

#[test]
fn a_device_that_lives_in_2100_is_recorded_with_its_own_time() -> anyhow::Result<()> {
    let mut plant = plant("device-2100", Some(27_000 * DAY))?;
    plant.start_edge()?;
    runs_clean(plant, 3)
}
