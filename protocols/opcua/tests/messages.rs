//! Messages that are lost, renumbered, foreign or cannot be read.

mod support;

use std::time::Duration;

use support::server::Server;
use support::{Edge, assert_gapless, counters, python};

const SOON: Duration = Duration::from_secs(20);

async fn flowing(arguments: &[&str], more: &str) -> Option<(Server, Edge)> {
    let server = Server::start(&python()?, arguments).await;
    let edge = Edge::start(&(counters(server.port, 3, 100) + more));
    edge.wait_for_number("counter0", 5, SOON).await;
    Some((server, edge))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_left_out_is_asked_for_again_and_one_that_is_gone_is_a_gap() {
    let Some((mut server, edge)) = flowing(&[], "").await else { return };
    server.tell("skip keep").await;
    let reached = server.stats().await.count + 10;
    edge.wait_for_number("counter0", reached, SOON).await;
    assert_gapless("counter0", &edge.kept().numbers("counter0"));
    assert_eq!(edge.kept().texts("gap"), [""; 0]);

    let seen = edge.kept().numbers("counter0").len();
    server.tell("skip forget").await;
    let reached = server.stats().await.count + 10;
    edge.wait_for_number("counter0", reached, SOON).await;
    let kept = edge.kept();
    let gaps = kept.texts("gap");
    assert!(matches!(&gaps[..], [gap] if gap.contains("1 notification message")), "{gaps:?}");
    let holes: Vec<_> = kept.numbers("counter0")[seen - 1..].windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step != 1).collect();
    assert!(matches!(holes[..], [step] if step > 1), "one hole, and it was told: {holes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_start_high_and_wrap_lose_nothing() {
    let first = (u32::MAX - 10).to_string();
    let Some((mut server, edge)) = flowing(&["--first-sequence", &first], "").await else { return };
    let reached = server.stats().await.count + 25;
    edge.wait_for_number("counter0", reached, SOON).await;
    assert_gapless("counter0", &edge.kept().numbers("counter0"));
    assert_eq!(edge.kept().texts("gap"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_subscription_is_deleted_and_an_ended_one_made_anew() {
    let Some((mut server, edge)) = flowing(&[], "").await else { return };
    server.tell("foreign").await;
    let reached = server.stats().await.count + 10;
    edge.wait_for_number("counter0", reached, SOON).await;
    assert_eq!(server.stats().await.subscriptions, 1, "the foreign subscription still eats answers");
    assert_gapless("counter0", &edge.kept().numbers("counter0"));

    server.tell("end-subscription").await;
    edge.wait_for_samples("gap", 1, SOON).await;
    let reached = server.stats().await.count + 5;
    edge.wait_for_number("counter0", reached, SOON).await;
    assert!(edge.kept().texts("gap")[0].contains("ended the subscription"), "{:?}", edge.kept().texts("gap"));
    assert_eq!(server.stats().await.subscriptions, 1);
    assert_eq!(edge.kept().texts("avail"), ["AVAILABLE"], "the connection itself was fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_decoded_is_given_up_and_the_rest_goes_on() {
    let Some((mut server, edge)) = flowing(&[], "  model: {node_id: 'ns=2;s=model'}\n").await else { return };
    server.tell("enormous").await;
    edge.wait_for_samples("gap", 1, SOON).await;
    let reached = server.stats().await.count + 5;
    edge.wait_for_number("counter0", reached, SOON).await;
    assert_eq!(edge.status.restarts(), 0);
}
