//! The copier against a real Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::Rng as _;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::wait::{self, Look};

use super::setup::{MAX, Setup, event};

#[test]
fn commands_reach_their_topic_once_and_in_order_whenever_the_copier_is_killed() -> anyhow::Result<()> {
    const COMMANDS: usize = 1500;
    let setup = Setup::new("commands-killed", "create_topic = { replication_factor = 1 }")?;
    let mut service = setup.serve()?;
    let (mut written, mut kills) = (0, 0);
    let random = |from: u64, to: u64| Instant::now() + Duration::from_millis(rand::rng().random_range(from..to));
    let mut kill_at = random(300, 2000);
    wait::until("all are written, and the copier was killed again and again", MAX * 2, || {
        for _ in 0..if written < COMMANDS { 5 } else { 0 } {
            let asset = format!("PRESS-{}", written % 7);
            setup.command(&asset, "Move", &format!("{written}"))?;
            setup.write(&asset, r#"{"ID":"MOTOR_CMD","VALUE":1.5,"TYPE":"Samples"}"#, OwnedHeaders::new())?;
            written += 1;
        }
        if Instant::now() >= kill_at {
            service.kill()?;
            service = setup.serve()?;
            kills += 1;
            kill_at = random(300, 2000);
        }
        service.expect_alive()?;
        Ok(if written == COMMANDS && kills >= 12 { Look::Done(()) } else { Look::Waiting(format!("{written} written, {kills} kills")) })
    })?;
    setup.flush()?;
    setup.wait_copied(COMMANDS)?;
    let status = service.terminate(MAX)?;
    ensure!(status.success(), "{status}: {}", service.log_tail());
    let topic = setup.topic.clone();
    let copies = setup.committed(&setup.commands_topic(), |message| {
        let event: serde_json::Value = serde_json::from_slice(message.payload()?).ok()?;
        let envelope: serde_json::Value = serde_json::from_str(event["VALUE"].as_str()?).ok()?;
        let number: usize = envelope["header"]["correlation_id"].as_str()?.parse().ok()?;
        let source = message.headers()?.iter().find(|header| header.key == "of-source")?.value?;
        let source = String::from_utf8(source.to_vec()).ok()?;
        source.starts_with(&format!("{topic}:{}:", message.partition())).then_some(())?;
        Some((String::from_utf8(message.key()?.to_vec()).ok()?, number))
    })?;
    let distinct: BTreeSet<usize> = copies.iter().map(|(_, number)| *number).collect();
    ensure!(copies.len() == COMMANDS && distinct.len() == COMMANDS, "{} copies of {} commands", copies.len(), distinct.len());
    let mut last = BTreeMap::new();
    for (asset, number) in copies {
        ensure!(last.insert(asset.clone(), number).is_none_or(|before| before < number), "{asset}: {number} came late");
    }
    Ok(())
}

#[test]
fn what_is_no_command_is_not_copied_and_what_is_malformed_is() -> anyhow::Result<()> {
    let setup = Setup::new("commands-kinds", "create_topic = { replication_factor = 1 }")?;
    let headers = OwnedHeaders::new().insert(Header { key: "mine", value: Some("kept") });
    setup.write("PRESS-1", &event("Move_CMD", "{broken"), headers)?;
    for (id, value) in [("Move_CMD", ""), ("Move_CMD.status", "{}"), ("Move_CMD.claim", "{}"), ("note", "Move_CMD")] {
        setup.write("PRESS-1", &event(id, value), OwnedHeaders::new())?;
    }
    setup.command("PRESS-1", "Stop", "c-1")?;
    setup.flush()?;
    let mut service = setup.serve()?;
    setup.wait_copied(2)?;
    wait::until("the copier is at the end", MAX, || {
        let status = setup.status()?;
        Ok(if status["lag"] == 0 && status["read"] == 6 { Look::Done(()) } else { Look::Waiting(status.to_string()) })
    })?;
    let status = setup.status()?;
    ensure!(status["copied"] == 2 && status["state"] == "copying", "{status:#}");
    let copies = setup.committed(&setup.commands_topic(), |message| {
        let names: Vec<String> = message.headers()?.iter().map(|header| header.key.to_owned()).collect();
        Some((message.timestamp().to_millis(), names))
    })?;
    let originals = setup.committed(&setup.topic, |message| Some(message.timestamp().to_millis()))?;
    ensure!(copies[0] == (originals[0], vec!["mine".into(), "of-source".into()]), "{copies:?}");
    ensure!(copies[1] == (originals[5], vec!["of-source".into()]), "{copies:?}");
    ensure!(service.terminate(MAX)?.success(), "{}", service.log_tail());
    Ok(())
}

#[test]
fn a_missing_topic_and_an_absent_kafka_are_waited_for_and_said() -> anyhow::Result<()> {
    let mut setup = Setup::on(Broker::Own(Kafka::start()?), "commands-waiting", "")?;
    let bootstrap = setup.broker.bootstrap();
    let mut service = setup.serve()?;
    service.wait_for_log("kafka-topics.sh --bootstrap-server", MAX)?;
    ensure!(setup.status()?["state"] == "waiting", "{:#}", setup.status()?);
    setup.command("PRESS-1", "Stop", "c-1")?;
    setup.flush()?;
    kafka::create_topic(&bootstrap, &setup.commands_topic(), 3, &[])?;
    setup.wait_copied(1)?;
    setup.broker.own()?.stop()?;
    wait::until("it says that Kafka is away", MAX, || {
        let status = setup.status()?;
        Ok(if status["reasons"][0].as_str().is_some_and(|reason| reason.contains("no broker answers")) {
            Look::Done(())
        } else {
            Look::Waiting(status.to_string())
        })
    })?;
    setup.broker.own()?.start_again()?;
    setup.command("PRESS-1", "Stop", "c-2")?;
    setup.flush()?;
    setup.wait_copied(2)?;
    wait::until("it says that all is well", MAX, || {
        let status = setup.status()?;
        Ok(if status["state"] == "copying" { Look::Done(()) } else { Look::Waiting(status.to_string()) })
    })?;
    service.expect_alive()
}
