//! NATS is away, cut off, or has lost its stream.

use std::time::{Duration, Instant};

use cloud_forwarder::Forwarder;
use cloud_forwarder::config::Route;
use cloud_forwarder::ring::Ring;
use futures::StreamExt;

use crate::GRACE;
use crate::support::{self, Edge, Nats, STREAM, Wire, config, harm, make_topic, route, servers, unique, wait_until};

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
    // A server that leads since a moment answers before it has read to the end of what was acknowledged.
    let look = async || harm(&three[0].stream(STREAM).await, edge.written());
    wait_until("the leader shows all that was acknowledged, in order", look, Vec::is_empty).await;
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
