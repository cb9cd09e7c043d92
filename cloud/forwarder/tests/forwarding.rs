//! The forwarder against a real Kafka and real NATS servers. Needs OPENFACTORY_KAFKA (host:port) and OPENFACTORY_NATS_SERVER (a path).

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloud_forwarder::config::{Route, SubjectForm};
use cloud_forwarder::ring::Ring;
use cloud_forwarder::{Forwarder, Status};
use futures::StreamExt;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};

use support::{Edge, LONG, Nats, STREAM, Wire, config, harm, make_topic, make_topic_with, route, servers, unique, wait_until};

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
async fn nats_killed_under_load_loses_nothing_and_changes_no_order() {
    let Some((kafka, program)) = servers() else { return };
    let (mut nats, topic) = (Nats::start(&program), unique("outage"));
    make_topic(&kafka, &topic, 3).await;
    let mut edge = Edge::new(&kafka, &topic);
    let forwarder = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &nats)])).expect("a good config");
    let handle = forwarder.handle();
    let mut written = 0;
    for round in 1..=4_u64 {
        for n in 0..10_000 {
            edge.write(&format!("ASSET-{}", n % 40), ["temp", "speed", "load"][n % 3]);
        }
        written += 10_000;
        // In the middle of it: some are acknowledged, some are under way.
        let some = (round - 1) * 10_000 + 500;
        wait_until("some are forwarded", async || handle.status(), |s| s.forwarded + s.duplicates > some).await;
        nats.kill();
        wait_until("the outage is seen", async || handle.status(), |s| s.state == "waiting").await;
        nats.restart();
        let back = Instant::now();
        let before = handle.status().forwarded;
        wait_until("it goes on", async || handle.status(), |s| s.forwarded > before).await;
        let pause = back.elapsed();
        println!("went on {pause:?} after the server was back");
        assert!(pause < Duration::from_secs(2), "it took {pause:?} to go on");
    }
    edge.flush();
    wait_until("all are done", async || handle.status(), |s| s.forwarded + s.duplicates == written && s.lag == 0).await;
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
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

/// Forwards 60,000 events over a connection that is cut again and again; what a plain subscriber saw meanwhile, whose own connection is
/// never cut, and what was written.
async fn cut_again_and_again(nats: &Nats, topic: &str, kafka: &str, route: Route) -> (Vec<async_nats::Message>, Edge) {
    make_topic(kafka, topic, 2).await;
    let mut edge = Edge::new(kafka, topic);
    let client = nats.client().await;
    let mut subscriber = client.subscribe("*.temp").await.expect("subscribed");
    client.flush().await.expect("subscribed");
    let (seen, mut messages) = tokio::sync::mpsc::channel(200_000);
    tokio::spawn(async move {
        while let Some(message) = subscriber.next().await {
            seen.send(message).await.expect("the test listens");
        }
    });
    let wire = Wire::to(nats).await;
    let mut config = config(kafka, topic, route, &[("C1", nats)]);
    config.clusters.insert("C1".into(), wire.cluster());
    let forwarder = Forwarder::start(config).expect("a good config");
    let handle = forwarder.handle();
    let mut done = 0;
    for n in 0..60_000 {
        edge.write(&format!("ASSET-{}", n % 50), "temp");
        if n % 4_000 == 3_999 {
            wait_until("it is at work", async || handle.status(), |s| s.forwarded + s.duplicates > done + 300).await;
            wire.cut();
            done = handle.status().forwarded + handle.status().duplicates;
        }
    }
    edge.flush();
    wait_until("all are done", async || handle.status(), |s| s.forwarded + s.duplicates == 60_000 && s.lag == 0).await;
    assert!(forwarder.stop(GRACE).await);
    // What the server sent comes before the end of the subscription.
    client.drain().await.expect("the server answers");
    let mut all = Vec::new();
    while let Some(message) = messages.recv().await {
        all.push(message);
    }
    (all, edge)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_again_and_again_changes_nothing() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("cut"));
    let (seen, edge) = cut_again_and_again(&nats, &topic, &kafka, route()).await;
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
    assert_eq!(harm(&seen, edge.written()), Vec::<String>::new(), "what a plain subscriber saw");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_connection_that_is_cut_again_and_again_repeats_stretches_and_never_leaps() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("plain-cut"));
    let (seen, edge) = cut_again_and_again(&nats, &topic, &kafka, Route { jetstream: false, ..route() }).await;
    let mut last = std::collections::BTreeMap::new();
    for message in &seen {
        let header = message.headers.as_ref().and_then(|h| h.get("of-asset-seq")).expect("an event").as_str();
        let n: u64 = header.rsplit(':').next().expect("a number").parse().expect("a number");
        let asset = message.subject.strip_suffix(".temp").expect("this item alone").to_owned();
        let furthest = last.entry(asset).or_insert(0);
        assert!(n <= *furthest + 1, "{}: {n} after {furthest}", message.subject);
        *furthest = n.max(*furthest);
    }
    assert_eq!(&last, edge.written(), "everything was seen");
    println!("{} messages for 60000 events", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_share_the_assets_by_the_ring_and_one_that_is_away_does_not_hold_up_the_other() {
    let Some((kafka, program)) = servers() else { return };
    let (one, mut two, topic) = (Nats::start(&program), Nats::start(&program), unique("ring"));
    make_topic(&kafka, &topic, 2).await;
    let mut edge = Edge::new(&kafka, &topic);
    let ring = Ring::new(["C1", "C2"]).expect("clusters");
    two.kill();
    let forwarder = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &one), ("C2", &two)])).expect("a good config");
    let handle = forwarder.handle();
    for n in 0..4_000 {
        edge.write(&format!("ASSET-{}", n % 20), "temp");
    }
    edge.flush();
    let mut of = [("C1", edge.written().clone()), ("C2", edge.written().clone())];
    of.iter_mut().for_each(|(cluster, written)| written.retain(|asset, _| ring.cluster(asset) == *cluster));
    let first: u64 = of[0].1.values().sum();
    assert!((200..3_800).contains(&first), "both clusters have assets");
    let status = wait_until("C1 has its assets", async || handle.status(), |s| s.forwarded == first).await;
    assert_eq!(status.clusters.iter().map(|c| (c.name.as_str(), c.state)).collect::<Vec<_>>(), [("C1", "up"), ("C2", "waiting")]);
    two.restart();
    wait_until("C2 has its assets", async || handle.status(), |s| s.forwarded == 4_000 && s.lag == 0).await;
    for (nats, (cluster, written)) in [&one, &two].into_iter().zip(&of) {
        assert_eq!(harm(&nats.stream(STREAM).await, written), Vec::<String>::new(), "{cluster}");
    }
    assert!(forwarder.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_outage_pauses_partitions_and_keeps_the_place_in_the_group() {
    let Some((kafka, program)) = servers() else { return };
    let (mut nats, topic) = (Nats::start(&program), unique("pause"));
    make_topic(&kafka, &topic, 1).await;
    let mut edge = Edge::new(&kafka, &topic);
    let mut config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    config.forward.in_flight = 500;
    // The shortest that librdkafka takes with our session timeout.
    const POLL_INTERVAL: Duration = Duration::from_secs(6);
    config.kafka.overrides.insert("max.poll.interval.ms".into(), POLL_INTERVAL.as_millis().to_string());
    let forwarder = Forwarder::start(config).expect("a good config");
    let handle = forwarder.handle();
    edge.write("ASSET-0", "temp");
    wait_until("it works", async || handle.status(), |s| s.forwarded == 1).await;
    nats.kill();
    for n in 0..5_000 {
        edge.write(&format!("ASSET-{}", n % 5), "temp");
    }
    edge.flush();
    wait_until("the partition is paused", async || handle.status(), |s| s.partitions.iter().any(|p| p.paused)).await;
    let (turns, paused) = (handle.progress(), Instant::now());
    // A consumer that does not poll for so long is thrown out.
    wait_until(
        "the outage is longer than the poll interval",
        async || handle.status(),
        |status| {
            // The limit, passed by one batch at most.
            assert!(status.in_flight < 500 + 256 && status.partitions.len() == 1, "{status:?}");
            paused.elapsed() > POLL_INTERVAL + Duration::from_secs(1)
        },
    )
    .await;
    assert!(handle.progress() > turns + 50, "the Kafka thread stands still");
    nats.restart();
    wait_until("all are done", async || handle.status(), |s| s.forwarded + s.duplicates == 5_001 && s.lag == 0).await;
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
    assert!(forwarder.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_in_kafka_and_after_a_restart_are_dropped_even_when_the_stream_forgot_their_ids() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("repeats"));
    make_topic(&kafka, &topic, 1).await;
    let mut edge = Edge::new(&kafka, &topic);
    let mut short = route();
    short.stream.duplicate_window = Duration::from_millis(100);
    for _ in 0..2 {
        for n in 0..300 {
            let asset = format!("ASSET-{}", n % 3);
            let (sequence, of_asset) = edge.write(&asset, ["temp", "speed"][n % 2]);
            if n % 5 == 0 {
                edge.write_as(&asset, ["temp", "speed"][n % 2], sequence, of_asset);
            }
        }
        edge.flush();
        // The group starts from the beginning each time: a forwarder that lost its offsets.
        let mut config = config(&kafka, &topic, short.clone(), &[("C1", &nats)]);
        config.forward.group = unique("group");
        let forwarder = Forwarder::start(config).expect("a good config");
        let handle = forwarder.handle();
        let total = edge.written().values().sum::<u64>();
        wait_until("all are done", async || handle.status(), |s| s.forwarded + s.duplicates == total * 6 / 5 && s.lag == 0).await;
        assert!(forwarder.stop(GRACE).await);
        nats.forget_ids(STREAM).await;
    }
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_wrote_late_is_served_once_and_hides_nothing() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("late"));
    make_topic(&kafka, &topic, 1).await;
    let edge = Edge::new(&kafka, &topic);
    let mut short = route();
    short.stream.duplicate_window = Duration::from_millis(100);
    let run = async |group: &str, end: i64| {
        let mut config = config(&kafka, &topic, short.clone(), &[("C1", &nats)]);
        config.forward.group = format!("{group}-{topic}");
        let forwarder = Forwarder::start(config).expect("a good config");
        let handle = forwarder.handle();
        wait_until("the end is reached", async || handle.status(), |s| s.partitions.iter().any(|p| p.position == Some(end))).await;
        assert!(forwarder.stop(GRACE).await);
        nats.forget_ids(STREAM).await;
    };
    let served = async || -> Vec<String> {
        let number =
            |m: &async_nats::Message| m.headers.as_ref().and_then(|h| h.get("of-asset-seq")).expect("an event").as_str().to_owned();
        nats.stream(STREAM).await.iter().map(number).collect()
    };
    let expected = |numbers: &[u64]| -> Vec<String> { numbers.iter().map(|n| format!("1769528223000:{n}")).collect() };
    for n in [1, 3] {
        edge.write_as("PRESS-1", "temp", n, n);
    }
    edge.flush();
    run("one", 2).await;
    // The first that a new forwarder sees of its asset.
    edge.write_resent("PRESS-1", "temp", 2, 2);
    edge.flush();
    run("one", 3).await;
    assert_eq!(served().await, expected(&[1, 3, 2]));
    // Read again from the beginning, when the last message is the late one.
    run("two", 3).await;
    assert_eq!(served().await, expected(&[1, 3, 2]));
    edge.write_as("PRESS-1", "temp", 4, 4);
    edge.flush();
    run("two", 4).await;
    assert_eq!(served().await, expected(&[1, 3, 2, 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_replays_is_served_only_if_the_stream_does_not_hold_it() {
    const LIVE: u64 = 3_000;
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("replayed"));
    make_topic(&kafka, &topic, 1).await;
    let edge = Edge::new(&kafka, &topic);
    let mut short = route();
    short.stream.duplicate_window = Duration::from_millis(100);
    let run = async |end: usize| {
        let forwarder = Forwarder::start(config(&kafka, &topic, short.clone(), &[("C1", &nats)])).expect("a good config");
        let handle = forwarder.handle();
        let is_done = |s: &Status| s.partitions.iter().any(|p| p.position == Some(end as i64));
        let status = wait_until("the end is reached", async || handle.status(), is_done).await;
        assert!(forwarder.stop(GRACE).await);
        nats.forget_ids(STREAM).await;
        status
    };
    // Two events of each asset never came to Kafka.
    let (mut live, mut lost) = (Vec::new(), Vec::new());
    for number in 0..LIVE {
        let (asset, item) = (format!("ASSET-{}", number % 10), ["temp", "speed"][number as usize / 10 % 2]);
        let (sequence, n) = (number + 1, number / 10 + 1);
        if [40, 41].contains(&n) {
            lost.push((asset, item, sequence, n));
        } else {
            edge.write_as(&asset, item, sequence, n);
            live.push((asset, item, sequence, n));
        }
    }
    edge.flush();
    run(live.len()).await;
    // A forwarder that remembers nothing of them.
    for (asset, item, sequence, n) in live.iter().chain(&lost) {
        edge.write_replayed(asset, item, *sequence, *n);
    }
    edge.flush();
    let began = std::time::Instant::now();
    let status = run(live.len() + LIVE as usize).await;
    println!("{LIVE} events looked up or published in {:?}", began.elapsed());
    assert_eq!(status.forwarded, lost.len() as u64, "{status:?}");
    let messages = nats.stream(STREAM).await;
    let header = |m: &async_nats::Message, name: &str| m.headers.as_ref().and_then(|h| h.get(name)).map(|v| v.as_str().to_owned());
    let mut ids: Vec<_> = messages.iter().map(|m| header(m, "of-seq").expect("an event")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), messages.len()), (LIVE as usize, LIVE as usize), "each event once");
    let marked: Vec<_> = messages.iter().filter(|m| header(m, "of-replay").is_some()).collect();
    assert_eq!(marked.len(), lost.len());
    assert!(marked.iter().all(|m| header(m, "of-newest").is_some()), "they came late");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_dropped_while_nobody_forwarded_is_passed_over() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("dropped"));
    make_topic(&kafka, &topic, 1).await;
    let mut edge = Edge::new(&kafka, &topic);
    for expected in [1, 2] {
        edge.write("PRESS-1", "temp");
        edge.flush();
        let forwarder = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &nats)])).expect("a good config");
        let handle = forwarder.handle();
        wait_until("it is forwarded", async || nats.count(STREAM).await, |count| *count == expected).await;
        wait_until("nothing is left", async || handle.status(), |s| s.forwarded == 1 && s.lag == 0).await;
        assert!(forwarder.stop(GRACE).await);
        edge.write("PRESS-1", "temp");
        edge.flush();
        support::drop_records(&kafka, &topic).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_missing_is_waited_for_and_said() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("missing"));
    make_topic(&kafka, &topic, 1).await;
    let mut edge = Edge::new(&kafka, &topic);
    let mut never = route();
    never.stream.create = cloud_forwarder::config::Create::Never;
    let forwarder = Forwarder::start(config(&kafka, &topic, never, &[("C1", &nats)])).expect("a good config");
    let handle = forwarder.handle();
    for _ in 0..100 {
        edge.write("ASSET-0", "temp");
    }
    edge.flush();
    let reasons = wait_until("it says what is missing", async || handle.status().reasons, |reasons| !reasons.is_empty()).await;
    assert!(reasons[0].contains("EVENTS") && reasons[0].contains("create"), "{reasons:?}");
    let context = async_nats::jetstream::new(nats.client().await);
    let stream = || async_nats::jetstream::stream::Config { name: STREAM.into(), subjects: vec!["ofa.>".into()], ..Default::default() };
    context.create_stream(stream()).await.expect("created");
    wait_until("all are forwarded", async || handle.status(), |s| s.forwarded == 100).await;

    // Deleted while at work: no stream takes the messages, and none is made.
    context.delete_stream(STREAM).await.expect("deleted");
    for _ in 0..100 {
        edge.write("ASSET-0", "temp");
    }
    edge.flush();
    wait_until("it waits", async || handle.status(), |s| s.state == "waiting").await;
    context.create_stream(stream()).await.expect("created");
    wait_until("all are forwarded", async || handle.status(), |s| s.forwarded == 200).await;
    let numbers: Vec<String> = nats
        .stream(STREAM)
        .await
        .iter()
        .map(|m| m.headers.as_ref().and_then(|h| h.get("of-asset-seq")).expect("an event").as_str().to_owned())
        .collect();
    let expected: Vec<String> = (101..=200).map(|n| format!("1769528223000:{n}")).collect();
    assert_eq!(numbers, expected);
    assert!(forwarder.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_that_lose_their_leader_again_and_again_keep_the_order() {
    let Some((kafka, program)) = servers() else { return };
    let (mut three, topic) = (support::three(&program), unique("leader"));
    make_topic(&kafka, &topic, 3).await;
    let mut replicated = route();
    replicated.stream.replicas = 3;
    let mut config = config(&kafka, &topic, replicated, &[("C1", &three[0])]);
    let urls = three.iter().map(Nats::url).collect();
    config.clusters.insert("C1".into(), cloud_forwarder::config::Cluster { urls, ..Default::default() });
    let forwarder = Forwarder::start(config).expect("a good config");
    let (handle, mut edge) = (forwarder.handle(), Edge::new(&kafka, &topic));
    let mut written = 0;
    for round in 0..12 {
        for n in 0..3_000 {
            edge.write(&format!("ASSET-{}", n % 30), ["temp", "speed", "load"][n % 3]);
        }
        written += 3_000;
        let before = handle.status().forwarded;
        wait_until("it is at work", async || handle.status(), |s| s.forwarded > before + 200).await;
        let urls: Vec<String> = three.iter().map(Nats::url).collect();
        let client = async_nats::connect(urls.as_slice()).await.expect("a server answers");
        if round % 3 == 2 {
            // kill -9 of whoever leads.
            let context = async_nats::jetstream::new(client);
            let look = async || match context.get_stream(STREAM).await {
                Ok(stream) => stream.cached_info().cluster.as_ref().and_then(|c| c.leader.clone()),
                Err(_) => None,
            };
            let leader = wait_until("there is a leader", look, Option::is_some).await.expect("a leader");
            let number: usize = leader.trim_start_matches('n').parse().expect("n1, n2 or n3");
            three[number - 1].restart();
        } else {
            let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}");
            client.request(subject, "".into()).await.expect("the leader answers");
        }
    }
    edge.flush();
    wait_until("all are done", async || handle.status(), |s| s.forwarded + s.duplicates == written && s.lag == 0).await;
    assert_eq!(harm(&three[0].stream(STREAM).await, edge.written()), Vec::<String>::new());
    assert!(forwarder.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_at_work_is_made_again() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("deleted"));
    make_topic(&kafka, &topic, 1).await;
    let mut edge = Edge::new(&kafka, &topic);
    let forwarder = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &nats)])).expect("a good config");
    let handle = forwarder.handle();
    edge.write("ASSET-0", "temp");
    wait_until("it works", async || handle.status(), |s| s.forwarded == 1).await;
    async_nats::jetstream::new(nats.client().await).delete_stream(STREAM).await.expect("deleted");
    edge.write("ASSET-0", "temp");
    wait_until("it works again", async || handle.status(), |s| s.forwarded == 2).await;
    assert_eq!(nats.count(STREAM).await, 1);
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

/// Runs a forwarder until the topic's end was reached; a topic that was made anew ends it once, as a service is then started again.
async fn forward_to_the_end(config: &cloud_forwarder::Config, ends: i64) {
    loop {
        let mut forwarder = Forwarder::start(config.clone()).expect("a good config");
        let handle = forwarder.handle();
        let position = || handle.status().partitions.iter().filter_map(|p| p.position).sum::<i64>();
        let reached = wait_until("the end is reached", async || position(), |position| *position == ends);
        tokio::select! {
            _ = reached => {
                assert!(forwarder.stop(GRACE).await);
                return;
            }
            ended = forwarder.ended() => {
                let error = ended.expect_err("it ends by itself with an error alone");
                assert!(error.is_transient(), "{error}");
                println!("{error}");
            }
        }
    }
}

/// The values of a subject's messages, in their order.
async fn values(nats: &Nats, subject: &str) -> Vec<String> {
    let of_subject = nats.stream(STREAM).await.into_iter().filter(|message| message.subject.as_str() == subject);
    let value =
        |message: async_nats::Message| serde_json::from_slice::<serde_json::Value>(&message.payload).expect("JSON")["VALUE"].to_string();
    of_subject.map(value).collect()
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_forwarded_from_its_beginning_whoever_wrote_it() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("anew"));
    let mut edge = Edge::new(&kafka, &topic);
    let config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    // Fewer records than before, as many, and more: offsets repeat in each case.
    let (mut first, mut ends) = (0, Vec::new());
    for count in [300, 200, 200, 500] {
        make_topic(&kafka, &topic, 1).await;
        edge = edge.go_on(&kafka);
        for n in first..first + count {
            edge.write_raw(Some("HMI-1"), format!(r#"{{"ID":"temp","VALUE":{n},"TYPE":"Samples"}}"#).as_bytes());
            edge.write("PRESS-1", "temp");
        }
        edge.flush();
        first += count;
        ends.push(first);
        forward_to_the_end(&config, 2 * i64::try_from(count).expect("small")).await;
        // Read again by a group without offsets: nothing of it is new.
        let mut again = config.clone();
        again.forward.group = unique("again");
        forward_to_the_end(&again, 2 * i64::try_from(count).expect("small")).await;
        support::delete_topic(&kafka, &topic).await;
        assert_eq!(values(&nats, "ofa.HMI-1.temp").await, numbered(0..first), "after {count} of {ends:?}");
    }
    let of_edge: Vec<String> = numbered(1..first + 1);
    assert_eq!(values(&nats, "ofa.PRESS-1.temp").await, of_edge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_under_a_running_forwarder_is_forwarded_from_its_beginning() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("anew-running"));
    let mut edge = Edge::new(&kafka, &topic);
    let config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    let write = |edge: &mut Edge, numbers: std::ops::Range<u64>| {
        for n in numbers {
            edge.write_raw(Some("HMI-1"), format!(r#"{{"ID":"temp","VALUE":{n},"TYPE":"Samples"}}"#).as_bytes());
            edge.write("PRESS-1", "temp");
        }
        edge.flush();
    };
    make_topic(&kafka, &topic, 1).await;
    write(&mut edge, 0..300);
    let mut forwarder = Forwarder::start(config.clone()).expect("a good config");
    let handle = forwarder.handle();
    wait_until("it is forwarded", async || handle.status(), |s| s.forwarded == 600 && s.lag == 0).await;
    support::delete_topic(&kafka, &topic).await;
    make_topic(&kafka, &topic, 1).await;
    // More than before: its place of the former life is one of this life, too.
    let mut edge = edge.go_on(&kafka);
    write(&mut edge, 300..900);
    let ended = tokio::time::timeout(LONG, forwarder.ended()).await.expect("in time").expect_err("its places are worth nothing");
    assert!(ended.to_string().contains("made anew"), "{ended}");
    drop(forwarder);
    forward_to_the_end(&config, 1200).await;
    assert_eq!(values(&nats, "ofa.HMI-1.temp").await, numbered(0..900));
    assert_eq!(values(&nats, "ofa.PRESS-1.temp").await, numbered(1..901));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_a_topics_former_life_is_not_taken_for_one_of_its_present_life() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("former-place"));
    let mut edge = Edge::new(&kafka, &topic);
    let config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    make_topic(&kafka, &topic, 1).await;
    (0..300).for_each(|_| _ = edge.write("PRESS-1", "temp"));
    edge.flush();
    forward_to_the_end(&config, 300).await;
    let former = support::committed(&kafka, &config.forward.group, &topic);
    support::delete_topic(&kafka, &topic).await;
    make_topic(&kafka, &topic, 1).await;
    let mut edge = edge.go_on(&kafka);
    // As many as before: at the former place nothing stands, and none would be told of.
    (0..300).for_each(|_| _ = edge.write("PRESS-1", "temp"));
    edge.flush();
    // A commit that was under way while the topic was made anew.
    support::commit(&kafka, &config.forward.group, &former).await;
    forward_to_the_end(&config, 300).await;
    assert_eq!(values(&nats, "ofa.PRESS-1.temp").await, numbered(1..601));
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
    forward_to_the_end(&config, edge.written().values().sum::<u64>().try_into().expect("small")).await;
    assert_eq!(support::harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
}
