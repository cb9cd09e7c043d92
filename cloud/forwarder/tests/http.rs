//! The router over HTTP, as existing clients ask it. Needs no servers.

use std::collections::BTreeMap;

use cloud_forwarder::config::Cluster;
use cloud_forwarder::router;
use service::web::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Status line and body of a GET.
async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).await.expect("the router listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_router_says_which_cluster_serves_an_asset() {
    let cluster = |name: &str| Cluster { urls: [1, 2].map(|n| format!("nats://{name}-{n}:4222")).into(), ..Cluster::default() };
    let clusters = BTreeMap::from([("C1".to_owned(), cluster("one")), ("C2".to_owned(), cluster("two"))]);
    let server = Server::open("route.listen", ([127, 0, 0, 1], 0).into(), None).await.expect("a free port");
    let address = server.address().expect("bound");
    let stop = CancellationToken::new();
    let (served, until) = (clusters.clone(), stop.clone());
    let router = tokio::spawn(async move { router::run(server, &served, until).await });

    let ok = "HTTP/1.1 200 OK".to_owned();
    for (path, answer) in [
        ("/asset/OPCUA-SENSOR-001", r#"{"asset_id":"OPCUA-SENSOR-001","cluster_name":"C1","nats_url":"nats://one-1:4222"}"#),
        ("/asset/PRESS-1", r#"{"asset_id":"PRESS-1","cluster_name":"C2","nats_url":"nats://two-1:4222"}"#),
        ("/asset/FURNACE%202", r#"{"asset_id":"FURNACE 2","cluster_name":"C1","nats_url":"nats://one-1:4222"}"#),
        ("/healthz", "ok\n"),
    ] {
        assert_eq!(get(address, path).await, (ok.clone(), answer.to_owned()), "{path}");
    }
    assert_eq!(get(address, "/asset/").await.0, "HTTP/1.1 404 Not Found");

    stop.cancel();
    router.await.expect("no panic").expect("a good config");
    let error = Server::open("route.listen", address, None).await.map(drop);
    assert!(error.is_ok(), "the port is free again: {error:?}");
}

#[tokio::test]
async fn an_address_in_use_is_told_with_its_key() {
    let server = Server::open("route.listen", ([127, 0, 0, 1], 0).into(), None).await.expect("a free port");
    let address = server.address().expect("bound");
    let error = Server::open("route.listen", address, None).await.map(drop).expect_err("in use");
    assert_eq!(error.to_string(), format!("route.listen: cannot listen on {address}"));
}
