//! What stands in Kafka twice, late, again, or no longer.

use std::time::Duration;

use cloud_forwarder::{Forwarder, Status};

use crate::GRACE;
use crate::support::{self, Edge, Nats, STREAM, config, harm, make_topic, route, servers, unique, wait_until};

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
