//! The log is full while Kafka is away: the oldest events make room, as configured, and gap events tell what is missing.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{Broker, Kafka};
use system_tests::plant::Plant;

#[test]
fn what_a_full_log_dropped_is_told_and_everything_else_arrives() -> anyhow::Result<()> {
    let log = "[log]\nmax_size = \"8 MiB\"\nsegment_size = \"1 MiB\"\nwhen_full = \"drop_oldest\"\n";
    let mut plant = Plant::new("log-full", Broker::Own(Kafka::start()?), log)?;
    let devices = Devices::start(Plan { rate: 80_000, ..Plan::new(Make::Fast, 4, 250) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    plant.kafka.own()?.stop()?;
    // Until so much was dropped that more than one segment is gone.
    plant.edge.wait_status("the log has dropped events", Duration::from_secs(120), |status| {
        let first = status["log"]["first"].as_u64().unwrap_or_default();
        let acknowledged = status["mirror"]["acknowledged"].as_u64().unwrap_or_default();
        let bytes = status["log"]["bytes"].as_u64().unwrap_or_default();
        assert!(bytes <= 8 << 20, "the log may take 8 MiB, and takes {bytes} bytes");
        first > acknowledged + 100_000
    })?;
    plant.kafka.own()?.start_again()?;
    let verdict = plant.judge(Duration::from_secs(120))?;
    println!("{verdict}");
    let harms = (verdict.missing(), verdict.duplicated, verdict.reordered, verdict.altered);
    // What the producer held in its memory when the log dropped it may still arrive: gap events may count too much, never too little.
    assert_eq!(harms, (0, 0, 0, 0), "[missing, duplicated, reordered, altered] {verdict}\n{:#?}", verdict.harms);
    assert!(verdict.told > 50_000, "gap events must tell what was dropped: {verdict}");
    plant.stop()
}
