//! What breaks between us and a server costs nothing that the server can give again.

mod support;

use std::time::Duration;

use asset_stream::Timestamp;
use support::proxy::{Mode, Proxy};
use support::server::Server;
use support::{Edge, assert_gapless, counters, python, wait_until};

const SOON: Duration = Duration::from_secs(20);
const COUNTERS: usize = 10;

/// Starts server, proxy and edge, and waits until values flow.
async fn flowing(queue: usize) -> Option<(Server, Proxy, Edge)> {
    let server = Server::start(&python()?, &[]).await;
    let proxy = Proxy::start(server.port).await;
    let edge = Edge::start(&counters(proxy.port, COUNTERS, queue));
    edge.wait_for_number("counter0", 5, SOON).await;
    Some((server, proxy, edge))
}

/// All counters passed what the server had reached now, without a hole, and nothing was told to be lost.
async fn assert_complete(server: &mut Server, edge: &Edge) {
    let reached = server.stats().await.count + 5;
    for i in 0..COUNTERS {
        let id = format!("counter{i}");
        edge.wait_for_number(&id, reached, SOON).await;
        assert_gapless(&id, &edge.kept().numbers(&id));
    }
    assert_eq!(edge.kept().texts("gap"), [""; 0], "a gap was told although nothing is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_of_one_second_and_one_of_five_lose_nothing() {
    let Some((mut server, proxy, edge)) = flowing(100).await else { return };
    for seconds in [1, 5] {
        let before = server.stats().await.count;
        proxy.set(Mode::Cut);
        // Ten values a second.
        server.reach(before + 10 * seconds).await;
        proxy.set(Mode::Pass);
        assert_complete(&mut server, &edge).await;
    }
    let stats = server.stats().await;
    assert_eq!(stats.subscriptions, 1, "orphans are left on the server: {stats:?}");
    assert_eq!(edge.kept().texts("avail").first().map(String::as_str), Some("AVAILABLE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_in_the_middle_of_a_message_loses_nothing() {
    let Some((mut server, proxy, edge)) = flowing(100).await else { return };
    for bytes in [1, 1_500] {
        let before = proxy.accepted();
        proxy.set(Mode::CutAfter(bytes));
        wait_until("the edge connects again", SOON, || if proxy.accepted() > before { Ok(()) } else { Err(before) }).await;
        assert_complete(&mut server, &edge).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_is_longer_than_the_queue_is_told_also_where_the_server_marks_nothing() {
    let Some((mut server, proxy, edge)) = flowing(5).await else { return };
    proxy.set(Mode::Cut);
    let reached = server.stats().await.count + 30;
    server.reach(reached).await;
    proxy.set(Mode::Pass);
    for i in 0..COUNTERS {
        edge.wait_for_number(&format!("counter{i}"), reached, SOON).await;
    }
    let kept = edge.kept();
    let gaps: Vec<serde_json::Value> = kept.texts("gap").iter().map(|gap| serde_json::from_str(gap).expect("JSON")).collect();
    for i in 0..COUNTERS {
        let id = format!("counter{i}");
        let told: Vec<_> = gaps.iter().filter(|gap| gap["reason"] == "device_queue_overflow" && gap["item"] == id.as_str()).collect();
        let (numbers, samples) = (kept.numbers(&id), kept.of(&id));
        let holes: Vec<usize> = (1..numbers.len()).filter(|at| numbers[*at] != numbers[at - 1] + 1).collect();
        assert!(!holes.is_empty(), "{id}: the server kept more than it was asked to: {numbers:?}");
        for at in holes {
            let (from, to) = (samples[at - 1].timestamp.to_string(), samples[at].timestamp.to_string());
            let tells = told.iter().any(|gap| gap["from"].as_str() <= Some(&from) && gap["to"].as_str() >= Some(&to));
            assert!(tells, "{id}: after {} came {}, between {from} and {to}; told: {told:?}", numbers[at - 1], numbers[at]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_noticed_and_loses_nothing() {
    let Some((mut server, proxy, edge)) = flowing(200).await else { return };
    proxy.set(Mode::Swallow);
    let lost = || match edge.kept().texts("avail") {
        texts if texts.last().is_some_and(|text| text == "UNAVAILABLE") => Ok(()),
        texts => Err(texts),
    };
    // Keep-alive each second, two of them unanswered for two seconds each.
    wait_until("the silence is noticed", Duration::from_secs(12), lost).await;
    proxy.set(Mode::Pass);
    assert_complete(&mut server, &edge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_followed_again_and_the_loss_is_told() {
    let Some((server, _proxy, edge)) = flowing(100).await else { return };
    let port = server.port.to_string();
    server.kill().await;
    let seen = edge.kept().numbers("counter0").len();
    let python = python().expect("it was there before");
    let mut server = Server::start(&python, &["--port", &port]).await;
    let flows = || match edge.kept().numbers("counter0") {
        numbers if numbers.len() > seen + 10 => Ok(numbers),
        numbers => Err((numbers.len(), edge.status.last_error())),
    };
    let numbers = wait_until("values of the new server arrive", SOON, flows).await;
    assert_gapless("counter0", &numbers[..seen]);
    assert_gapless("counter0", &numbers[seen..]);
    let gaps = edge.kept().texts("gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].contains("\"connection_lost\"") && gaps[0].contains("restarted"), "{}", gaps[0]);
    assert_eq!(edge.kept().texts("avail"), ["AVAILABLE", "UNAVAILABLE", "AVAILABLE"]);
    assert_eq!(server.stats().await.subscriptions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_the_server_dropped_is_made_anew_and_the_loss_is_told() {
    let Some((mut server, _proxy, edge)) = flowing(100).await else { return };
    server.tell("drop-subscriptions").await;
    let reached = server.stats().await.count + 10;
    edge.wait_for_number("counter9", reached, Duration::from_secs(40)).await;
    let gaps = edge.kept().texts("gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_behind_stops_publishing_but_not_the_connection() {
    let Some((mut server, proxy, edge)) = flowing(500).await else { return };
    let connections = proxy.accepted();
    let before = server.stats().await.count;
    edge.block(true);
    // More messages than may wait for the log; then more keep-alives than may fail on a dead connection.
    server.reach(before + 40).await;
    server.be_read(6).await;
    edge.block(false);
    assert_complete(&mut server, &edge).await;
    assert_eq!(proxy.accepted(), connections, "the connection was given up while only the log was behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_acknowledged_once_durable_and_a_clean_stop_leaves_nothing_on_the_server() {
    let Some((mut server, _proxy, mut edge)) = flowing(10).await else { return };
    edge.block(true);
    let reached = server.stats().await.count + 25;
    server.reach(reached).await;
    let waiting: u32 = server.tell("unacknowledged").await.parse().expect("a number");
    assert!(waiting >= 15, "only {waiting} messages wait for an acknowledgement although none is durable");
    edge.block(false);
    edge.wait_for_number("counter0", reached + 10, SOON).await;
    let left: u32 = server.tell("unacknowledged").await.parse().expect("a number");
    assert!(left < 10, "{left} messages were never acknowledged");
    edge.stop().await;
    assert_eq!(server.stats().await.subscriptions, 0);
    edge.wait_for_samples("avail", 2, SOON).await;
    assert_eq!(edge.kept().texts("avail"), ["AVAILABLE", "UNAVAILABLE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_what_the_server_could_not_give_any_more() {
    let Some((mut server, proxy, mut edge)) = flowing(100).await else { return };
    proxy.set(Mode::Swallow);
    let swallowed = Timestamp::now();
    let reached = server.stats().await.count + 10;
    server.reach(reached).await;
    edge.stop().await;
    edge.wait_for_samples("avail", 2, SOON).await;
    let kept = edge.kept();
    assert!(kept.last_number("counter0") < reached, "the proxy swallowed nothing");
    let gaps = kept.texts("gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap: serde_json::Value = serde_json::from_str(&gaps[0]).expect("JSON");
    assert_eq!(gap["reason"], "edge_stopped", "{gap}");
    let from = gap["from"].as_str().expect("a time");
    assert!(from <= swallowed.to_string().as_str(), "nothing was heard after {swallowed}: {gap}");
}
