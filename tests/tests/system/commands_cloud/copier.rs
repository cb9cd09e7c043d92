//! The copier against a real Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::Rng as _;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::wait::{self, Look};

use super::setup::{MAX, PARTITIONS, Setup, event};

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
    expect_each_once_in_order(&setup, COMMANDS)
}

#[test]
fn several_copiers_share_the_work_and_take_over_from_each_other_without_a_loss_or_a_repeat() -> anyhow::Result<()> {
    const COMMANDS: usize = 1200;
    let setup = Setup::new("commands-several", "create_topic = { replication_factor = 1 }")?;
    let names = ["a", "b"];
    let mut services = [Some(setup.serve_as("a", "a")?), Some(setup.serve_as("b", "b")?)];
    let (mut written, mut turn) = (0, 0);
    let mut change_at = Instant::now() + Duration::from_secs(4);
    wait::until("all are written, and both copiers were killed and came back", MAX * 2, || {
        for _ in 0..if written < COMMANDS { 4 } else { 0 } {
            setup.command(&format!("PRESS-{}", written % 7), "Move", &format!("{written}"))?;
            written += 1;
        }
        if Instant::now() >= change_at {
            // One is dead for so long that the other one takes over; then it comes back.
            let at = (turn / 2) % 2;
            match services[at].take() {
                Some(mut service) => service.kill()?,
                None => services[at] = Some(setup.serve_as(names[at], names[at])?),
            }
            change_at = Instant::now() + Duration::from_millis(rand::rng().random_range(500..9000));
            turn += 1;
        }
        services.iter_mut().flatten().try_for_each(|service| service.expect_alive())?;
        Ok(if written == COMMANDS && turn >= 6 { Look::Done(()) } else { Look::Waiting(format!("{written} written, {turn} changes")) })
    })?;
    setup.flush()?;
    setup.wait_copied(COMMANDS)?;
    for mut service in services.into_iter().flatten() {
        ensure!(service.terminate(MAX)?.success(), "{}", service.log_tail());
    }
    expect_each_once_in_order(&setup, COMMANDS)
}

#[test]
fn two_copiers_of_one_name_say_so_and_copy_nothing_twice() -> anyhow::Result<()> {
    const COMMANDS: usize = 200;
    let setup = Setup::new("commands-twins", "create_topic = { replication_factor = 1 }")?;
    let mut services = [setup.serve_as("a", "first")?, setup.serve_as("a", "second")?];
    let mut written = 0;
    wait::until("all are written", MAX, || {
        setup.command(&format!("PRESS-{}", written % 7), "Move", &format!("{written}"))?;
        written += 1;
        Ok(if written == COMMANDS { Look::Done(()) } else { Look::Waiting(format!("{written} written")) })
    })?;
    setup.flush()?;
    wait::until("one of them says it", MAX, || {
        let logs = services.each_ref().map(|service| std::fs::read_to_string(service.log()).unwrap_or_default());
        let is_said = logs.iter().any(|log| log.contains("give each its own commands.instance"));
        Ok(if is_said { Look::Done(()) } else { Look::Waiting(logs.concat()) })
    })?;
    services[0].kill()?;
    setup.wait_copied(COMMANDS)?;
    ensure!(services[1].terminate(MAX)?.success(), "{}", services[1].log_tail());
    expect_each_once_in_order(&setup, COMMANDS)
}

#[test]
fn a_command_that_kafka_does_not_take_is_said_and_the_others_go_on() -> anyhow::Result<()> {
    let setup = Setup::new("commands-large", "")?;
    kafka::create_topic(&setup.broker.bootstrap(), &setup.commands_topic(), PARTITIONS, &[("max.message.bytes", "2000")])?;
    let large = event("Move_CMD", &"x".repeat(5000));
    for n in 0..10 {
        setup.command("PRESS-1", "Move", &format!("{n}"))?;
        if n % 4 == 1 {
            setup.write("PRESS-1", &large, OwnedHeaders::new())?;
        }
    }
    setup.flush()?;
    let mut service = setup.serve()?;
    setup.wait_copied(10)?;
    service.wait_for_log("Kafka does not take this command", MAX)?;
    wait::until("it copies, and counts what failed", MAX, || {
        let status = setup.status()?;
        Ok(if status["state"] == "copying" && status["failed"] == 3 && status["lag"] == 0 {
            Look::Done(())
        } else {
            Look::Waiting(status.to_string())
        })
    })?;
    ensure!(service.terminate(MAX)?.success(), "{}", service.log_tail());
    expect_each_once_in_order(&setup, 10)
}

/// The commands 0 to `count` - 1 stand in the topic, each once, each asset's in their order, and each says where it comes from.
fn expect_each_once_in_order(setup: &Setup, count: usize) -> anyhow::Result<()> {
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
    ensure!(copies.len() == count && distinct.len() == count, "{} copies of {} commands, {count} were given", copies.len(), distinct.len());
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
