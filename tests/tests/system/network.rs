//! The network between edge and Kafka is bad in the ways in which networks are: it costs time and nothing else.

use std::time::{Duration, Instant};

use serde_json::Value as Json;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::link::{self, Link, Quality};
use system_tests::plant::Plant;
use system_tests::proxy::Proxy;
use system_tests::tools;

const THIN: Quality = Quality { loss: 0.0, delay: Duration::from_millis(20), rate: Some(64_000) };

const LOSSY: Quality = Quality { loss: 0.05, delay: Duration::from_millis(10), rate: None };
/// By satellite.
const FAR: Quality = Quality { loss: 0.0, delay: Duration::from_millis(250), rate: None };

/// As if nothing of what devices say could be compressed.
const UNCOMPRESSED: &str = "[kafka.overrides]\n\"compression.codec\" = \"none\"\n";

/// Live events are taken over any of these links within this time.
const SOON: Duration = Duration::from_secs(120);

/// An edge and its devices on one side of the link, Kafka on the other.
struct Site {
    // Ends before the link does.
    plant: Plant,
    link: Link,
}

impl Site {
    /// Devices whose tags together change `rate` times a second; `edge_toml` is added to the edge's config.
    fn start(name: &str, rate: usize, edge_toml: &str) -> anyhow::Result<Self> {
        let link = Link::start(1)?;
        let mut plant =
            Plant::new(name, Broker::Own(Kafka::start_with(&kafka::Plan { host: link::CENTRE, ..kafka::Plan::default() })?), edge_toml)?;
        link.at_edge(|| {
            let devices = Devices::start(Plan { rate, ..Plan::new(Make::Fast, 2, 10) }, plant.folder())?;
            plant.add(devices)?;
            plant.start_edge()
        })?;
        plant.wait_first_values(Duration::from_secs(120))?;
        plant.go()?;
        Ok(Self { plant, link })
    }

    /// The values stand still when so many events wait for the link, which is down; then it comes back as `quality`.
    fn collect(&mut self, events: u64, quality: Quality) -> anyhow::Result<()> {
        self.link.cut()?;
        let is_there = |status: &Json| backlog(status) >= events;
        self.plant.edge.wait_status("the backlog is there", Duration::from_secs(120), is_there)?;
        self.plant.devices.iter_mut().try_for_each(|devices| devices.pause().map(drop))?;
        self.link.set(quality);
        self.link.mend()
    }
}

fn backlog(status: &Json) -> u64 {
    status["mirror"]["backlog"].as_u64().unwrap_or_default()
}

/// Runs `test` on a site; then everything must have arrived once and in order, within `max`. Without root it says so and passes.
fn costs_time_and_nothing_else(
    name: &str,
    rate: usize,
    edge_toml: &str,
    max: Duration,
    test: impl FnOnce(&mut Site) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if is_skipped() {
        return Ok(());
    }
    let mut site = Site::start(name, rate, edge_toml)?;
    test(&mut site)?;
    is_clean(&mut site.plant, max)
}

fn is_skipped() -> bool {
    let is_allowed = link::is_allowed();
    if !is_allowed {
        tools::skipped("only root may make network namespaces");
    }
    !is_allowed
}

/// Everything has arrived once and in order, nothing was lost or in doubt.
fn is_clean(plant: &mut Plant, max: Duration) -> anyhow::Result<()> {
    let verdict = plant.expect_clean(max)?;
    assert_eq!((verdict.told, verdict.told_values, verdict.resent), (0, 0, 0), "a bad link costs no event: {verdict}");
    plant.stop()
}

#[test]
fn a_link_that_is_cut_or_swallows_packets_for_a_while_costs_time_and_nothing_else() -> anyhow::Result<()> {
    costs_time_and_nothing_else("cut", 1000, "", SOON, |site| {
        site.link.cut()?;
        site.plant.run_for(Duration::from_secs(10))?;
        site.link.mend()?;
        site.plant.run_for(Duration::from_secs(5))?;
        site.link.set(Quality::HALF_OPEN);
        site.plant.run_for(Duration::from_secs(20))?;
        site.link.set(Quality::default());
        Ok(())
    })
}

#[test]
fn connections_that_a_firewall_has_forgotten_are_replaced_within_half_a_minute() -> anyhow::Result<()> {
    costs_time_and_nothing_else("forgotten", 1000, "", SOON, |site| {
        site.link.forget();
        let since = Instant::now();
        let is_stuck = |status: &Json| status["mirror"]["state"] == "unreachable";
        site.plant.edge.wait_status("the edge notices", SOON, is_stuck)?;
        site.plant.edge.wait_status("events flow again", SOON, |status| !is_stuck(status))?;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(30), "a dead connection was replaced after {took:?}");
        Ok(())
    })
}

#[test]
fn a_link_that_loses_packets_or_is_long_is_slower_and_nothing_else() -> anyhow::Result<()> {
    costs_time_and_nothing_else("lossy-far", 1000, "", SOON, |site| {
        for quality in [LOSSY, FAR] {
            site.link.set(quality);
            site.plant.run_for(Duration::from_secs(10))?;
        }
        Ok(())
    })
}

#[test]
fn a_link_of_64_kbit_carries_live_events() -> anyhow::Result<()> {
    costs_time_and_nothing_else("thin", 150, "", SOON, |site| {
        site.link.set(THIN);
        site.plant.run_for(Duration::from_secs(10))
    })
}

#[test]
fn an_edge_that_is_killed_while_a_link_of_64_kbit_drains_its_backlog_repeats_nothing() -> anyhow::Result<()> {
    costs_time_and_nothing_else("thin-killed", 2000, "", Duration::from_secs(300), |site| {
        site.collect(8000, THIN)?;
        let is_under_way = |status: &Json| backlog(status) < 6000;
        site.plant.edge.wait_status("a part has arrived", SOON, is_under_way)?;
        site.plant.edge.kill()?;
        site.link.at_edge(|| site.plant.edge.start())
    })
}

#[test]
fn a_forwarder_behind_a_bad_link_to_kafka_forwards_everything() -> anyhow::Result<()> {
    if is_skipped() {
        return Ok(());
    }
    let mut site = Site::start("forwarder", 500, "")?;
    site.link.at_edge(|| site.plant.start_nats())?;
    for quality in [LOSSY, FAR] {
        site.link.set(quality);
        site.plant.run_for(Duration::from_secs(10))?;
    }
    site.link.set(Quality::default());
    site.link.forget();
    // Where nothing is forgotten any more, this takes a second. NATS is on the edge's side.
    let since = Instant::now();
    site.link.at_edge(|| is_clean(&mut site.plant, SOON))?;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(45), "dead connections were replaced, and all forwarded, after {took:?}");
    Ok(())
}

#[test]
fn opc_ua_over_a_bad_link_loses_no_value() -> anyhow::Result<()> {
    if is_skipped() {
        return Ok(());
    }
    let link = Link::start(2)?;
    // The devices are at the far end, the edge is beside Kafka.
    let mut plant =
        Plant::new("far-devices", Broker::Own(Kafka::start_with(&kafka::Plan { host: link::CENTRE, ..kafka::Plan::default() })?), "")?;
    let door = link.at_edge(|| {
        let devices = Devices::start(Plan { rate: 200, ..Plan::new(Make::Fast, 2, 10) }, plant.folder())?;
        let door = Proxy::start_at(link::EDGE, ([127, 0, 0, 1], devices.ports()[0]).into())?;
        let file = devices.device_file(|_| door.port())?.replace("127.0.0.1", &link::EDGE.to_string());
        plant.add_with_file(devices, &file)?;
        Ok(door)
    })?;
    plant.start()?;
    for quality in [LOSSY, FAR] {
        link.set(quality);
        plant.run_for(Duration::from_secs(10))?;
    }
    link.set(Quality::default());
    is_clean(&mut plant, SOON)?;
    drop(door);
    Ok(())
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn a_link_of_64_kbit_drains_what_cannot_be_compressed() -> anyhow::Result<()> {
    costs_time_and_nothing_else("thin-dense", 2000, UNCOMPRESSED, Duration::from_secs(1800), |site| site.collect(20_000, THIN))
}

#[test]
#[ignore = "takes ten minutes"]
fn reading_back_ends_over_a_link_that_carries_no_batch_within_the_first_time_limit() -> anyhow::Result<()> {
    costs_time_and_nothing_else("thin-read-back", 2000, UNCOMPRESSED, Duration::from_secs(600), |site| {
        site.collect(2500, Quality::default())?;
        site.plant.edge.wait_status("the backlog is on its way", SOON, |status| backlog(status) < 200)?;
        site.plant.edge.kill()?;
        site.link.set(Quality { rate: Some(32_000), ..THIN });
        site.link.at_edge(|| site.plant.edge.start())
    })
}
