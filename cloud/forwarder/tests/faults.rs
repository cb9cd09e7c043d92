//! Members of the group that come and go, and a stream that is full: every event once, in its asset's order. Needs what forwarding.rs needs.

mod support;

use std::time::Duration;

use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy};
use cloud_forwarder::Forwarder;
use cloud_forwarder::config::Route;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use support::{Edge, Nats, STREAM, config, harm, make_topic, route, servers, unique, wait_until};

const GRACE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn members_that_join_and_leave_while_events_flow_change_nothing() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("rebalance"));
    make_topic(&kafka, &topic, 4).await;
    let mut edge = Edge::new(&kafka, &topic);
    let config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    let first = Forwarder::start(config.clone()).expect("a good config");
    let handle = first.handle();
    let write = |edge: &mut Edge| {
        for n in 0..4_000 {
            edge.write(&format!("ASSET-{}", n % 40), ["temp", "load"][n % 2]);
        }
    };
    wait_until("the first serves all", async || handle.status(), |s| s.partitions.len() == 4).await;
    for round in 0..3 {
        let mut other = config.clone();
        // A name of its own: one that comes back under its name is no news to the group.
        other.forward.instance = Some(format!("visitor-{round}"));
        write(&mut edge);
        let visitor = Forwarder::start(other).expect("a good config");
        let of_visitor = visitor.handle();
        wait_until("the visitor serves some", async || of_visitor.status(), |s| s.partitions.len() == 2).await;
        write(&mut edge);
        wait_until("the visitor forwards", async || of_visitor.status(), |s| s.forwarded > 200).await;
        if round == 1 {
            // As a killed one: nobody commits for it.
            drop(visitor);
        } else {
            assert!(visitor.stop(GRACE).await);
        }
        write(&mut edge);
        wait_until("the first serves all again", async || handle.status(), |s| s.partitions.len() == 4).await;
    }
    edge.flush();
    let all: u64 = edge.written().values().sum();
    wait_until("all are served", async || nats.count(STREAM).await, |count| *count >= all).await;
    wait_until("nothing is left", async || handle.status(), |s| s.lag == 0).await;
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
    assert!(first.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_that_refuses_what_is_new_is_waited_for() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("full"));
    make_topic(&kafka, &topic, 2).await;
    let context = async_nats::jetstream::new(nats.client().await);
    // Not in bytes: near that limit nats-server 2.9 counts a message smaller than it is, and makes room by dropping the oldest ones.
    let limited = |max_messages: i64| StreamConfig {
        name: STREAM.into(),
        subjects: vec!["ofa.*.*".into()],
        max_messages,
        discard: DiscardPolicy::New,
        ..StreamConfig::default()
    };
    context.create_stream(limited(500)).await.expect("created");
    let mut edge = Edge::new(&kafka, &topic);
    for n in 0..4_000 {
        edge.write(&format!("ASSET-{}", n % 20), "temp");
    }
    edge.flush();
    let forwarder = Forwarder::start(config(&kafka, &topic, route(), &[("C1", &nats)])).expect("a good config");
    let handle = forwarder.handle();
    let status =
        wait_until("it waits", async || handle.status(), |s| s.reasons.iter().any(|reason| reason.contains("maximum messages"))).await;
    assert!(status.forwarded > 0 && status.dead_letters == 0, "{status:?}");
    context.update_stream(limited(100_000)).await.expect("made larger");
    wait_until("all are done", async || handle.status(), |s| s.forwarded + s.duplicates == 4_000 && s.lag == 0).await;
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
    assert!(forwarder.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarder_that_was_shut_out_of_its_group_joins_again() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("shut-out"));
    make_topic(&kafka, &topic, 2).await;
    let mut config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    config.forward.instance = Some("one".into());
    let forwarder = Forwarder::start(config.clone()).expect("a good config");
    let handle = forwarder.handle();
    wait_until("it serves", async || handle.status(), |s| s.partitions.len() == 2).await;
    {
        // What the group takes its own late answers for: a member of the same name.
        let member: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &kafka)
            .set("group.id", &config.forward.group)
            .set("group.instance.id", "one")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .create()
            .expect("a consumer");
        member.subscribe(&[&topic]).expect("subscribed");
        let is_out = |s: &cloud_forwarder::Status| s.reasons.iter().any(|reason| reason.contains("shut out"));
        let look = async || {
            member.poll(Duration::from_millis(20));
            handle.status()
        };
        wait_until("it is shut out", look, is_out).await;
    }
    let mut edge = Edge::new(&kafka, &topic);
    for n in 0..1_000 {
        edge.write(&format!("ASSET-{}", n % 20), "temp");
    }
    edge.flush();
    wait_until("it serves again", async || nats.count(STREAM).await, |count| *count >= 1_000).await;
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
    assert_eq!(handle.status().reasons, Vec::<String>::new());
    assert!(forwarder.stop(GRACE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_yet_is_named_until_it_does_whatever_others_of_the_group_do() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic) = (Nats::start(&program), unique("there"));
    let later = unique("later");
    make_topic(&kafka, &topic, 2).await;
    let mut config = config(&kafka, &topic, route(), &[("C1", &nats)]);
    config.forward.routes.insert(later.clone(), Route { jetstream: false, ..route() });
    config.forward.instance = Some("one".into());
    let forwarder = Forwarder::start(config.clone()).expect("a good config");
    let handle = forwarder.handle();
    let is_named = |s: &cloud_forwarder::Status| s.reasons.iter().any(|reason| reason.contains(&later) && !reason.contains(&topic));
    let sees = async |what: &str, partitions: usize| {
        wait_until(what, async || handle.status(), |s| s.partitions.len() == partitions && is_named(s)).await;
    };
    sees("it serves what is there, and says what is not", 2).await;
    config.forward.instance = Some("two".into());
    let other = Forwarder::start(config).expect("a good config");
    sees("the other one has taken a partition", 1).await;
    assert!(other.stop(GRACE).await);
    sees("it has all of them again", 2).await;
    make_topic(&kafka, &later, 1).await;
    wait_until("it serves the other topic too", async || handle.status(), |s| s.partitions.len() == 3 && s.reasons.is_empty()).await;
    assert!(forwarder.stop(GRACE).await);
}
