//! What consumers of existing installations rely on, byte for byte where the contract says so.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use asset_stream::Timestamp;
use serde_json::Value as Json;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::judge::Record;
use system_tests::judge::sources::Topic;
use system_tests::kafka::Broker;
use system_tests::nats::{self, Received};
use system_tests::plant::Plant;
use system_tests::tools;

#[test]
fn plain_kafka_and_nats_consumers_get_what_the_contract_says() -> anyhow::Result<()> {
    get_what_the_contract_says("consumers", &nats::Plan::default())
}

#[test]
fn so_do_those_of_the_newest_nats_server() -> anyhow::Result<()> {
    let Some(program) = tools::newest_nats_server()? else { return Ok(()) };
    get_what_the_contract_says("consumers-new", &nats::Plan { program: Some(program), ..Default::default() })
}

fn get_what_the_contract_says(name: &str, nats: &nats::Plan) -> anyhow::Result<()> {
    let mut plant = Plant::new(name, Broker::shared()?, "")?;
    for plan in [Plan::new(Make::Asyncua, 1, 4), Plan::new(Make::PymodbusTcp, 1, 2)] {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    plant.start_nats_with(nats)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(3))?;
    plant.expect_clean(Duration::from_secs(60))?;

    let mut records = Vec::new();
    Topic::open(&plant.kafka.bootstrap(), plant.topic())?.read_to_end(Duration::from_secs(20), |record| records.push(record.clone()))?;
    for record in &records {
        as_in_contract_1(record).with_context(|| format!("{}: {}", record.key, String::from_utf8_lossy(&record.value)))?;
    }
    for asset in plant.assets() {
        facts_are_told(&records, &asset)?;
    }
    let subscriber = plant.subscriber.as_ref().context("it was started")?;
    let by_id: BTreeMap<String, &Record> = records.iter().map(|record| (message_id(record), record)).collect();
    for message in subscriber.received(0) {
        let id = message.headers.get("Nats-Msg-Id").context("a message without Nats-Msg-Id")?;
        let record = by_id.get(id).with_context(|| format!("{id} stands nowhere in Kafka"))?;
        as_in_contract_3(&message, record)
            .with_context(|| format!("{}: {}", message.subject, String::from_utf8_lossy(&message.payload)))?;
    }
    plant.stop()
}

fn message_id(record: &Record) -> String {
    let header = |name: &str| record.headers.get(name).map_or("", String::as_str);
    format!("{}:{}", header("of-edge"), header("of-seq"))
}

/// `{"ID":…,"VALUE":…,"TAG":…,"TYPE":…,"attributes":{…}}`, in this order and without spaces, as the first consumers were written against.
fn as_in_contract_1(record: &Record) -> anyhow::Result<()> {
    let text = std::str::from_utf8(&record.value).context("UTF-8")?;
    let places: Vec<Option<usize>> = ["{\"ID\":\"", ",\"VALUE\":", ",\"TAG\":\"", ",\"TYPE\":\"", ",\"attributes\":{\"timestamp\":\""]
        .iter()
        .map(|part| text.find(part))
        .collect();
    anyhow::ensure!(places[0] == Some(0) && places.iter().all(Option::is_some) && places.is_sorted(), "fields or their order: {places:?}");
    let json: Json = serde_json::from_str(text)?;
    let kinds = ["Samples", "Events", "Condition", "Method", "OpenFactory"];
    anyhow::ensure!(json["TYPE"].as_str().is_some_and(|kind| kinds.contains(&kind)), "TYPE");
    anyhow::ensure!(!json["VALUE"].is_null() && !json["VALUE"].is_object(), "VALUE");
    let attributes = json["attributes"].as_object().context("attributes")?;
    anyhow::ensure!(attributes.values().all(Json::is_string), "attributes are string to string");
    for name in ["timestamp", "ingestion_timestamp"] {
        let stamp = attributes.get(name).and_then(Json::as_str).with_context(|| format!("no {name}"))?;
        // Exactly three decimals and Z.
        anyhow::ensure!(stamp.len() == 24 && stamp.as_bytes()[19] == b'.' && stamp.ends_with('Z'), "{name}: {stamp}");
        anyhow::ensure!(Timestamp::parse(stamp).is_some_and(|time| time.to_string() == stamp), "{name}: {stamp}");
    }
    anyhow::ensure!(attributes.get("quality").and_then(Json::as_str) == Some("Good"), "quality");
    for header in ["of-edge", "of-seq", "of-asset-seq"] {
        anyhow::ensure!(record.headers.contains_key(header), "header {header}");
    }
    Ok(())
}

/// The facts of contract 1 that every connected device emits.
fn facts_are_told(records: &[Record], asset: &str) -> anyhow::Result<()> {
    let facts = [
        ("avail", "AVAILABLE", "Availability", "Events"),
        ("AssetType", "Device", "AssetType", "OpenFactory"),
        ("references_above", "", "AssetsReferences", "OpenFactory"),
        ("references_below", "", "AssetsReferences", "OpenFactory"),
    ];
    for (id, value, tag, kind) in facts {
        let found = records.iter().filter(|record| record.key == asset).any(|record| {
            serde_json::from_slice::<Json>(&record.value)
                .is_ok_and(|json| json["ID"] == id && json["VALUE"] == value && json["TAG"] == tag && json["TYPE"] == kind)
        });
        anyhow::ensure!(found, "{asset} does not tell {id} = {value:?} with TAG {tag} and TYPE {kind}");
    }
    Ok(())
}

/// The subject is `<asset>.<ID>`; the payload is the record's value without `ID`, and with three attributes more.
fn as_in_contract_3(message: &Received, record: &Record) -> anyhow::Result<()> {
    let mut expected: Json = serde_json::from_slice(&record.value)?;
    let mut served: Json = serde_json::from_slice(&message.payload)?;
    let id = expected.as_object_mut().and_then(|fields| fields.remove("ID")).context("the record has no ID")?;
    anyhow::ensure!(message.subject == format!("{}.{}", record.key, id.as_str().unwrap_or_default()), "subject");
    let attributes = served["attributes"].as_object_mut().context("no attributes")?;
    let mut take =
        |name: &str| attributes.remove(name).and_then(|text| text.as_str().map(str::to_owned)).with_context(|| format!("no {name}"));
    anyhow::ensure!(take("kafka_timestamp_type")? == "producer", "kafka_timestamp_type");
    let kafka_timestamp = take("kafka_timestamp")?;
    anyhow::ensure!(Some(kafka_timestamp.as_str()) == expected["attributes"]["timestamp"].as_str(), "kafka_timestamp is {kafka_timestamp}");
    anyhow::ensure!(Timestamp::parse(&take("asset_forwarder_timestamp")?).is_some(), "asset_forwarder_timestamp");
    anyhow::ensure!(served == expected, "expected {expected}");
    for header in ["of-edge", "of-seq", "of-asset-seq"] {
        anyhow::ensure!(message.headers.get(header) == record.headers.get(header), "header {header}");
    }
    Ok(())
}
