//! What a device file says is followed, and what a server cannot do harms nothing else.

mod support;

use std::fs;
use std::time::Duration;

use asset_stream::{Kind, Quality, Value};
use gateway_opcua::Shared;
use support::proxy::{Mode, Proxy};
use support::server::Server;
use support::{Edge, assert_gapless, counters, python, wait_until};

const SOON: Duration = Duration::from_secs(20);

fn server_section(port: u16) -> String {
    format!("server:\n  uri: opc.tcp://127.0.0.1:{port}/test\n  session: {{retry_interval: 1000}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_constants_deadbands_and_source_times_are_followed() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, &[]).await;
    let yaml = server_section(server.port)
        + "constants: {model: {node_id: 'ns=2;s=model', tag: Model}}\n\
           variables:\n  \
             temp: {browse_path: '0:Root/0:Objects/2:Plant/2:temperature', tag: Temperature, queue_size: 100}\n  \
             coarse: {node_id: 'ns=2;s=temperature', deadband: 5, queue_size: 100}\n";
    let edge = Edge::start(&yaml);
    edge.wait_for_samples("temp", 1, SOON).await;
    edge.wait_for_samples("model", 1, SOON).await;
    // 24 is within 5 of 20; 40 is far from both (this server compares with the last change, others with the last value told).
    for command in ["dated 24", "temperature 40", "bad"] {
        assert_eq!(server.tell(command).await, "done");
    }
    edge.wait_for_samples("temp", 4, SOON).await;
    edge.wait_for_samples("coarse", 2, SOON).await;
    let kept = edge.kept();
    let model = &kept.of("model")[0];
    assert_eq!((&model.value, &*model.item.tag, model.item.kind), (&Value::from("M-100"), "Model", Kind::Events));
    let [first, dated, hot, bad] = kept.of("temp") else { panic!("four samples: {:?}", kept.of("temp")) };
    assert_eq!((&first.value, first.item.kind, &*first.item.tag), (&Value::Float64(20.0), Kind::Samples, "Temperature"));
    assert_eq!(dated.timestamp.to_string(), "2020-01-02T03:04:05.678Z");
    assert_eq!(hot.value, Value::Float64(40.0));
    assert!(matches!(&bad.quality, Quality::Bad(status) if status.starts_with("BadSensorFailure")), "{bad:?}");
    let coarse: Vec<&Value> = kept.of("coarse").iter().filter(|s| s.quality == Quality::Good).map(|s| &s.value).collect();
    assert_eq!(coarse, [&Value::Float64(20.0), &Value::Float64(40.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_node_is_told_once_harms_no_other_and_is_tried_again() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, &[]).await;
    let yaml = server_section(server.port)
        + "constants: {nothing: {node_id: 'ns=2;s=nothing'}}\n\
           variables:\n  \
             counter0: {node_id: 'ns=2;s=counter0', queue_size: 100}\n  \
             later: {node_id: 'ns=2;s=later'}\n  \
             nowhere: {browse_path: '0:Root/0:Objects/2:Nowhere'}\n  \
             counter1: {node_id: 'ns=2;s=counter1', queue_size: 100}\n";
    let edge = Edge::start(&yaml);
    // Long enough for several more attempts.
    edge.wait_for_number("counter1", 40, SOON).await;
    for id in ["counter0", "counter1"] {
        assert_gapless(id, &edge.kept().numbers(id));
    }
    for (id, status) in [("later", "BadNodeIdUnknown"), ("nowhere", "BadNoMatch"), ("nothing", "BadNodeIdUnknown")] {
        let kept = edge.kept();
        let [sample] = kept.of(id) else { panic!("{id} is told once: {:?}", kept.of(id)) };
        assert!(matches!(&sample.quality, Quality::Bad(text) if text.starts_with(status)), "{sample:?}");
    }
    assert!(edge.status.last_error().is_some_and(|(words, _)| words.contains("nowhere") || words.contains("ns=2")));
    server.tell("rebuild later").await;
    edge.wait_for_number("later", 1, SOON).await;
    assert_eq!(edge.kept().texts("avail"), ["AVAILABLE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_limits_are_found_and_kept() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, &["--counters", "30", "--most-items", "7", "--most-reads", "5"]).await;
    let edge = Edge::start(&counters(server.port, 30, 10));
    for i in 0..30 {
        edge.wait_for_number(&format!("counter{i}"), 5, SOON).await;
    }
    let stats = server.stats().await;
    assert!(stats.refused > 0 && stats.largest_create <= 7, "{stats:?}");
    assert_eq!(edge.kept().texts("avail"), ["AVAILABLE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_only_some_of_the_items_tells_those() {
    let Some(python) = python() else { return };
    let limits = ["--counters", "30", "--most-subscribed", "12", "--most-subscriptions", "2"];
    let mut server = Server::start(&python, &limits).await;
    let edge = Edge::start(&counters(server.port, 30, 10).replace("session: {", "session: {retry_interval: 1000, "));
    for i in 0..24 {
        edge.wait_for_number(&format!("counter{i}"), 20, SOON).await;
    }
    let stats = server.stats().await;
    assert!(stats.refused > 1 && stats.subscriptions == 2, "the rest was not asked for again: {stats:?}");
    for i in 24..30 {
        let kept = edge.kept();
        let [sample] = kept.of(&format!("counter{i}")) else { panic!("counter{i} is told once") };
        assert!(matches!(&sample.quality, Quality::Bad(text) if text.starts_with("BadTooManySubscriptions")), "{sample:?}");
    }
    assert_eq!(edge.kept().texts("avail"), ["AVAILABLE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_beyond_the_librarys_own_limits_is_taken() {
    let Some(python) = python() else { return };
    const MANY: usize = 1_200;
    let mut server = Server::start(&python, &["--many", &MANY.to_string()]).await;
    let proxy = Proxy::start(server.port).await;
    let mut yaml = server_section(proxy.port) + "variables:\n  array: {node_id: 'ns=2;s=array'}\n";
    for i in 0..MANY {
        yaml += &format!("  many{i}: {{node_id: 'ns=2;s=many{i}', queue_size: 10}}\n");
    }
    let edge = Edge::start(&yaml);
    edge.wait_for_number(&format!("many{}", MANY - 1), 0, Duration::from_secs(40)).await;
    let connections = proxy.accepted();
    assert_eq!(server.tell("touch 7").await, "done");
    for i in 0..MANY {
        edge.wait_for_number(&format!("many{i}"), 7, SOON).await;
    }
    assert!(matches!(&edge.kept().of("array")[0].value, Value::Array(values) if values.len() == 10_000));
    assert_eq!(proxy.accepted(), connections, "the connection was lost over a large notification");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_within_the_queue_arrives_whole_and_in_order() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, &[]).await;
    let edge = Edge::start(&(server_section(server.port) + "variables: {burst: {node_id: 'ns=2;s=burst', queue_size: 1000}}\n"));
    edge.wait_for_samples("burst", 1, SOON).await;
    server.tell("burst 1 800").await;
    edge.wait_for_number("burst", 799, SOON).await;
    let numbers = edge.kept().numbers("burst");
    assert_eq!(numbers.len(), 800);
    assert_gapless("burst", &numbers);
}

/// Over a signed channel the library cannot reactivate a session: each reconnect is a new one, which takes the subscription over.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_of_a_secured_connection_loses_nothing() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(&python, &["--secure", folder.path().to_str().expect("UTF-8")]).await;
    let proxy = Proxy::start(server.port).await;
    let yaml = counters(proxy.port, 5, 100).replace("  session:", "  security: {policy: basic256sha256, trust: any}\n  session:");
    let edge = Edge::start(&yaml);
    edge.wait_for_number("counter4", 5, SOON).await;
    for _ in 0..2 {
        let before = server.stats().await.count;
        proxy.set(Mode::Cut);
        server.reach(before + 10).await;
        proxy.set(Mode::Pass);
        let reached = server.stats().await.count + 5;
        edge.wait_for_number("counter4", reached, SOON).await;
        assert_gapless("counter4", &edge.kept().numbers("counter4"));
    }
    assert_eq!(edge.kept().texts("gap"), [""; 0]);
    assert_eq!(server.stats().await.subscriptions, 1);
}

/// The library panics when it opens a secured channel and finds no key.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_library_ends_one_connection_and_nothing_else() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&python, &["--secure", folder.path().to_str().expect("UTF-8")]).await;
    let proxy = Proxy::start(server.port).await;
    let yaml = counters(proxy.port, 1, 100).replace("  session:", "  security: {policy: basic256sha256, trust: any}\n  session:");
    let state = tempfile::tempdir().expect("a folder");
    let shared = Shared::open(state.path()).expect("an identity");
    let key = shared.identity.key_path().to_owned();
    let edge = Edge::start_with(&yaml, shared, state);
    edge.wait_for_number("counter0", 3, SOON).await;
    let hidden = key.with_extension("hidden");
    fs::rename(&key, &hidden).expect("the key is there");
    proxy.set(Mode::Cut);
    wait_until("the loss is told", SOON, || edge.kept().texts("avail").get(1).map(drop).ok_or(())).await;
    proxy.set(Mode::Pass);
    let told = |part: &'static str| {
        let edge = &edge;
        move || match edge.status.last_error() {
            Some((words, _)) if words.contains(part) => Ok(()),
            other => Err(other),
        }
    };
    wait_until("the missing key is named", SOON, told("key.pem")).await;
    let seen = edge.kept().last_number("counter0");
    fs::rename(&hidden, &key).expect("it was hidden here");
    edge.wait_for_number("counter0", seen + 5, SOON).await;
    assert_eq!(edge.status.restarts(), 0, "the gateway itself failed");
}
