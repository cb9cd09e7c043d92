//! The forwarder against a real Kafka and real NATS servers. Needs OPENFACTORY_KAFKA (host:port) and OPENFACTORY_NATS_SERVER (a path).

mod outages;
mod repeats;
#[path = "../support/mod.rs"]
mod support;
mod topic_lives;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloud_forwarder::Forwarder;
use cloud_forwarder::config::{Route, SubjectForm};
use futures::StreamExt;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};

use support::{Edge, LONG, Nats, STREAM, config, harm, make_topic, make_topic_with, route, servers, unique, wait_until};

const GRACE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_subscriber_gets_what_the_contract_says() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("contract"));
    make_topic(&kafka, &topic, 3).await;
    let mut edge = Edge::new(&kafka, &topic);
    let client = nats.client().await;
    let mut subscriber = client.subscribe("OPCUA-SENSOR-001.*").await.expect("subscribed");
    client.flush().await.expect("subscribed");
    edge.write("OPCUA-SENSOR-001", "temp");
    edge.flush();
    let forwarder = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &nats)])).expect("a good config");

    let message = tokio::time::timeout(LONG, subscriber.next()).await.expect("in time").expect("subscribed");
    assert_eq!(message.subject.as_str(), "OPCUA-SENSOR-001.temp");
    let payload = String::from_utf8(message.payload.to_vec()).expect("UTF-8");
    let (before, forwarded) = payload.split_once(r#""asset_forwarder_timestamp":""#).expect("the forwarder's time");
    assert_eq!(
        before,
        concat!(
            r#"{"VALUE":1,"TAG":"Temperature","TYPE":"Samples","attributes":{"timestamp":"2026-01-27T15:37:03.871Z","#,
            r#""kafka_timestamp":"2026-01-27T15:37:03.871Z","kafka_timestamp_type":"producer","#
        )
    );
    assert_eq!((forwarded.len(), &forwarded[23..]), (27, r#"Z"}}"#), "{forwarded}");
    let headers = message.headers.expect("headers");
    for (name, value) in [
        ("Nats-Msg-Id", "edge-01:1769528223000:1"),
        ("of-edge", "edge-01"),
        ("of-seq", "1769528223000:1"),
        ("of-asset-seq", "1769528223000:1"),
        ("Nats-Sequence", "1"),
        ("Nats-Last-Sequence", "0"),
    ] {
        assert_eq!(headers.get(name).map(|value| value.as_str()), Some(value), "{name}");
    }
    let status = wait_until("the offset is known", async || forwarder.handle().status(), |s| s.forwarded == 1 && s.lag == 0).await;
    assert_eq!((status.state, status.duplicates, status.dead_letters), ("forwarding", 0, 0));
    assert!(forwarder.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_nobody_can_take_goes_to_the_dead_letters_and_the_flow_goes_on() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start_with(&program, "max_payload: 4096"), unique("poison"));
    // Takes times in the future, which the other one refuses as any topic does by default.
    make_topic_with(&kafka, &topic, 1, &[("message.timestamp.after.max.ms", &i64::MAX.to_string())]).await;
    // Too small for the largest of them, which leaves a note.
    make_topic_with(&kafka, &format!("{topic}-dead"), 1, &[("max.message.bytes", "3000")]).await;
    let mut edge = Edge::new(&kafka, &topic);
    edge.write("PRESS-1", "temp");
    edge.write_raw(Some("PRESS-1"), b"24.3 C");
    edge.time = 4_102_444_800_000;
    edge.write_raw(None, br#"{"ID":"temp","VALUE":1,"TYPE":"Samples"}"#);
    edge.write_raw(Some("PRESS-1"), format!(r#"{{"ID":"log","VALUE":"{}","TYPE":"Events"}}"#, "x".repeat(5000)).as_bytes());
    edge.write("PRESS-1", "temp");
    edge.flush();
    let forwarder = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &nats)])).expect("a good config");
    let handle = forwarder.handle();
    wait_until("all are done", async || handle.status(), |s| s.forwarded == 2 && s.dead_letters == 3 && s.lag == 0).await;
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
    assert!(forwarder.stop(GRACE).await);

    let letters: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka)
        .set("group.id", unique("letters"))
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    letters.subscribe(&[&format!("{topic}-dead")]).expect("subscribed");
    let mut told = Vec::new();
    let deadline = Instant::now() + LONG;
    while told.len() < 3 {
        assert!(Instant::now() < deadline, "three dead letters expected, seen: {told:?}");
        let Some(letter) = letters.poll(Duration::from_millis(200)) else { continue };
        let Ok(letter) = letter else { continue };
        let headers = letter.headers().expect("headers");
        let header = |name: &str| {
            let found = headers.iter().find(|h| h.key == name).and_then(|h| h.value).unwrap_or_default();
            String::from_utf8_lossy(found).into_owned()
        };
        assert_eq!((header("of-dead-topic"), header("of-dead-partition")), (topic.clone(), "0".to_owned()));
        told.push((header("of-dead-offset"), header("of-dead-reason"), letter.payload().map_or(0, <[u8]>::len)));
    }
    told.sort();
    let offsets: Vec<&str> = told.iter().map(|(offset, _, _)| offset.as_str()).collect();
    assert_eq!(offsets, ["1", "2", "3"], "{told:?}");
    for ((_, reason, length), (word, expected)) in told.iter().zip([("JSON", 6), ("no key", 40), ("(5039 bytes) are left out", 0)]) {
        assert!(reason.contains(word) && *length == expected, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_subject_is_taken_and_a_longer_one_is_a_dead_letter() {
    let Some((kafka, program)) = servers() else { return };
    let nats = Nats::start(&program);
    for (form, jetstream, longest) in [
        (SubjectForm::AssetItem, true, 2048 - "ofa..temp".len()),
        (SubjectForm::AssetItem, false, 2048 - ".temp".len()),
        (SubjectForm::Key, true, 2048 - "ofa.".len()),
        (SubjectForm::Key, false, 2048 - "ofa.".len()),
    ] {
        let topic = unique("subject");
        make_topic(&kafka, &topic, 1).await;
        make_topic(&kafka, &format!("{topic}-dead"), 1).await;
        let edge = Edge::new(&kafka, &topic);
        for length in [longest, longest + 1, 5000, longest] {
            edge.write_raw(Some(&"X".repeat(length)), br#"{"ID":"temp","VALUE":1,"TYPE":"Samples"}"#);
        }
        edge.flush();
        let mut route = Route { subject: form, jetstream, ..route() };
        route.stream.name = format!("{form:?}");
        let forwarder = Forwarder::start(config(&kafka, &topic, route, &[("C1", &nats)])).expect("a good config");
        let handle = forwarder.handle();
        wait_until("all are done", async || handle.status(), |s| s.forwarded == 2 && s.dead_letters == 2 && s.lag == 0).await;
        assert!(forwarder.stop(GRACE).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_nats_delivers_in_order_and_counts_only_what_a_round_trip_confirmed() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("plain"));
    make_topic(&kafka, &topic, 3).await;
    let mut edge = Edge::new(&kafka, &topic);
    let client = nats.client().await;
    let subscriber = client.subscribe("*.temp").await.expect("subscribed");
    client.flush().await.expect("subscribed");
    for n in 0..5_000 {
        edge.write(&format!("ASSET-{}", n % 7), "temp");
    }
    edge.flush();
    let plain = Route { jetstream: false, ..route() };
    let forwarder = Forwarder::start(config(&kafka, &topic, plain, &[("C1", &nats)])).expect("a good config");
    let messages: Vec<_> = tokio::time::timeout(LONG, subscriber.take(5_000).collect()).await.expect("in time");
    assert_eq!(harm(&messages, edge.written()), Vec::<String>::new());
    let handle = forwarder.handle();
    wait_until("all are confirmed", async || handle.status(), |s| s.forwarded == 5_000 && s.lag == 0).await;
    assert!(forwarder.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_forwarders_with_one_name_the_older_is_shut_out_and_says_why() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("fenced"));
    make_topic(&kafka, &topic, 1).await;
    let mut edge = Edge::new(&kafka, &topic);
    edge.write("ASSET-0", "temp");
    let mut older = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &nats)])).expect("a good config");
    let handle = older.handle();
    wait_until("the older is at work", async || handle.status(), |s| s.forwarded == 1).await;
    let younger = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &nats)])).expect("a good config");
    let ended = tokio::time::timeout(LONG, older.ended()).await.expect("in time").expect_err("shut out");
    assert!(!ended.is_transient() && ended.to_string().contains("forwarder-1"), "{ended}");
    edge.write("ASSET-0", "temp");
    let handle = younger.handle();
    wait_until("the younger is at work", async || handle.status(), |s| s.forwarded == 1 && s.lag == 0).await;
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
    assert!(younger.stop(GRACE).await);
}

/// The number in `of-seq`.
fn sequence(message: &async_nats::Message) -> i64 {
    let header = message.headers.as_ref().and_then(|headers| headers.get("of-seq")).expect("an event of an edge").as_str();
    header.rsplit(':').next().expect("a number").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forwarded_without_a_hole_is_committed_when_a_forwarder_is_stopped_under_load() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("stopped"));
    let mut edge = Edge::new(&kafka, &topic);
    let config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    make_topic(&kafka, &topic, 1).await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            (0..20).for_each(|asset| _ = edge.write(&format!("PRESS-{asset}"), "temp"));
            // The load's pace.
            std::thread::sleep(Duration::from_millis(5));
        }
        edge
    });
    let mut places = Vec::new();
    for _ in 0..4 {
        let forwarder = Forwarder::start(config.clone()).expect("a good config");
        let handle = forwarder.handle();
        wait_until("it forwards", async || handle.status().forwarded, |forwarded| *forwarded > 500).await;
        assert!(forwarder.stop(GRACE).await);
        let committed = support::committed(&kafka, &config.forward.group, &topic).elements()[0].offset().to_raw();
        // Assets do not wait for each other, so some are ahead; the place is where the first one misses an event.
        let held: HashSet<i64> = nats.stream(STREAM).await.iter().map(sequence).collect();
        places.push((committed, (1..).find(|sequence| !held.contains(sequence)).map(|missing| missing - 1)));
    }
    stop.store(true, Ordering::Relaxed);
    let edge = writer.join().expect("no panic");
    assert!(places.iter().all(|(committed, forwarded)| committed == forwarded), "committed, and forwarded without a hole: {places:?}");
    edge.flush();
    topic_lives::forward_to_the_end(&config, edge.written().values().sum::<u64>().try_into().expect("small")).await;
    assert_eq!(support::harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
}
