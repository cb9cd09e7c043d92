//! `openfactory-cloud verify` proves what stands in a real Kafka: it agrees with the judge on what an edge wrote, and finds what harms a topic.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value as Json;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{self, Broker};
use system_tests::plant::Plant;
use system_tests::{process, tools};

const MAX: Duration = Duration::from_secs(120);

/// Runs the program; its exit code and its JSON.
fn verify(folder: &Path, bootstrap: &str, topic: &str, more: &[&str]) -> anyhow::Result<(Option<i32>, Json)> {
    let config = folder.join("verify.toml");
    std::fs::write(&config, format!("[kafka]\nbrokers = [\"{bootstrap}\"]\n"))?;
    let config = config.to_string_lossy();
    let arguments = [&["verify", "--json", "--config", &config, "--topic", topic], more].concat();
    let (code, out, err) = process::run(&tools::built("openfactory-cloud")?, &arguments, MAX)?;
    let report = serde_json::from_str(&out).with_context(|| format!("no JSON, exit code {code:?}: {out}{err}"))?;
    Ok((code, report))
}

/// A topic with records of an edge, by its numbers: (asset, of-seq, of-asset-seq, further header).
fn written(name: &str, records: &[(&str, u64, u64, Option<&str>)]) -> anyhow::Result<(Broker, String)> {
    let broker = Broker::shared()?;
    let topic = format!("{name}-{}-{}", std::process::id(), system_tests::wait::now());
    kafka::create_topic(&broker.bootstrap(), &topic, 3, &[])?;
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create()?;
    for (asset, n, of_asset, mark) in records {
        let (n, of_asset) = (format!("1769528223000:{n}"), format!("1769528223000:{of_asset}"));
        let mut headers = OwnedHeaders::new();
        for (key, value) in [("of-edge", "edge-1"), ("of-seq", &n), ("of-asset-seq", &of_asset)] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        if let Some(key) = mark {
            headers = headers.insert(Header { key, value: Some("true") });
        }
        let value = format!(r#"{{"ID":"temp","VALUE":"{n}","TYPE":"Samples"}}"#);
        producer.send(BaseRecord::to(&topic).key(*asset).payload(&value).headers(headers)).map_err(|(error, _)| error)?;
    }
    producer.send(BaseRecord::<str, str>::to(&topic).key("HMI-1").payload("of another writer")).map_err(|(error, _)| error)?;
    producer.flush(MAX)?;
    Ok((broker, topic))
}

#[test]
fn what_an_edge_wrote_through_outages_is_proven_complete_and_the_judge_agrees() -> anyhow::Result<()> {
    let mut plant = Plant::new("verify", Broker::shared()?, "")?;
    let devices = Devices::start(Plan { rate: 500, ..Plan::new(Make::Asyncua, 3, 20) }, plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(3))?;
    // On a topic that is written to meanwhile.
    let (code, live) = verify(plant.folder(), &plant.kafka.bootstrap(), plant.topic(), &[])?;
    ensure!(code == Some(0) && live["complete"] == true, "{live:#}");
    let killed = system_tests::wait::now();
    plant.edge.kill()?;
    plant.start_edge()?;
    plant.nobody_listened_since(killed);
    plant.run_for(Duration::from_secs(2))?;
    let verdict = plant.expect_clean(MAX)?;
    let (code, report) = verify(plant.folder(), &plant.kafka.bootstrap(), plant.topic(), &[])?;
    ensure!(code == Some(0) && report["records"] == verdict.kafka, "{verdict}\n{report:#}");
    // Nobody knows what the devices said to a dead edge: said, and no harm.
    ensure!(report["lost"]["uncounted"].as_u64() > Some(0), "{report:#}");
    plant.stop()
}

#[test]
fn each_harm_of_a_topic_is_named_and_ends_with_exit_code_1() -> anyhow::Result<()> {
    let records = [
        ("PRESS-1", 1, 1, None),
        ("PRESS-1", 3, 2, None),
        ("PRESS-1", 3, 2, Some("of-resent")),
        ("PRESS-1", 5, 4, None),
        ("PRESS-1", 4, 3, None),
        ("PRESS-1", 6, 6, None),
        ("PRESS-1", 6, 6, None),
        ("OVEN-1", 7, 1, None),
    ];
    let (broker, topic) = written("verify-harm", &records)?;
    let folder = tempfile::tempdir()?;
    let (code, report) = verify(folder.path(), &broker.bootstrap(), &topic, &[])?;
    // Of an asset that never came only the log's numbers tell; PRESS-1's 5th tells for itself.
    let seen = ["missing", "repeated", "reordered", "altered", "foreign", "complete"].map(|field| report[field].clone());
    ensure!((code, &seen) == (Some(1), &[1.into(), 1.into(), 1.into(), 0.into(), 1.into(), false.into()]), "{code:?} {report:#}");
    ensure!(report["logs"][0]["absent"] == serde_json::json!([[2, 2]]), "{report:#}");
    let (code, report) = verify(folder.path(), &broker.bootstrap(), &topic, &["--asset", "OVEN-1"])?;
    ensure!(code == Some(0), "{report:#}");
    let (code, report) = verify(folder.path(), &broker.bootstrap(), &topic, &["--edge", "edge-2"])?;
    ensure!(code == Some(1) && report["missing"] == 0, "nothing proves nothing: {report:#}");
    Ok(())
}

#[test]
fn what_retention_deleted_is_said_and_no_harm() -> anyhow::Result<()> {
    let records: Vec<_> = (1..=300_u64).map(|n| (["PRESS-1", "OVEN-1", "SAW-1"][n as usize % 3], n, n.div_ceil(3), None)).collect();
    let (broker, topic) = written("verify-retention", &records)?;
    let folder = tempfile::tempdir()?;
    let (code, report) = verify(folder.path(), &broker.bootstrap(), &topic, &[])?;
    ensure!(code == Some(0), "{report:#}");
    kafka::drop_first_third(&broker.bootstrap(), &topic)?;
    let (code, report) = verify(folder.path(), &broker.bootstrap(), &topic, &[])?;
    ensure!(code == Some(0) && report["logs"][0]["from"].as_u64() > Some(1), "{report:#}");
    Ok(())
}

#[test]
fn a_kafka_that_does_not_answer_proves_nothing_and_ends_with_exit_code_69() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("cloud.toml");
    let run = |text: &str| {
        std::fs::write(&config, text)?;
        process::run(&tools::built("openfactory-cloud")?, &["verify", "--config", &config.to_string_lossy()], MAX)
    };
    let (code, _, said) = run(&format!("[kafka]\nbrokers = [\"127.0.0.1:{}\"]\n", system_tests::ports::free()?))?;
    ensure!(code == Some(69) && said.contains("ofa_assets"), "{code:?} {said}");
    let (code, _, said) = run("log_filter = \"info\"\n")?;
    ensure!(code == Some(78) && said.contains("add [kafka]"), "{code:?} {said}");
    Ok(())
}
