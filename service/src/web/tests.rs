use super::connections::Limits;
use super::{Access, Server, problems};
use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

#[test]
fn beyond_loopback_pages_need_a_certificate_and_a_token() {
    let address = |text: &str| text.parse().ok();
    for fine in [None, address("127.0.0.1:9464"), address("[::1]:9464")] {
        assert_eq!(problems(fine, None, "edge.status_access"), []);
    }
    let told = problems(address("0.0.0.0:9464"), None, "edge.status_access");
    assert!(matches!(&told[..], [("", told)] if told.contains("[edge.status_access]")), "{told:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("own file");
        file
    };
    let access = Access { certificate: "/nowhere".into(), key: file("key", "k"), token_file: file("token", "short") };
    let told = problems(address("0.0.0.0:9464"), Some(&access), "edge.status_access");
    let keys = |told: &[(&'static str, String)]| told.iter().map(|(key, _)| *key).collect::<Vec<_>>();
    assert_eq!(keys(&told), ["token_file", "certificate"], "{told:?}");
    // Files that can be read, and hold something else.
    let access = Access { certificate: file("certificate", "c"), token_file: file("token", "0123456789abcdef"), ..access };
    let told = problems(address("0.0.0.0:9464"), Some(&access), "edge.status_access");
    assert_eq!(keys(&told), ["certificate"], "{told:?}");
}

/// A server of one page of 8 MiB, more than a connection holds on its way, until the guard is dropped.
async fn serve(limits: Limits) -> (SocketAddr, DropGuard) {
    let server = Server::open("listen", SocketAddr::from(([127, 0, 0, 1], 0)), None).await.expect("a free port");
    let (address, stop) = (server.address().expect("bound"), CancellationToken::new());
    let pages = Router::new().route("/", get(async || "fine")).route("/large", get(async || "x".repeat(8 << 20)));
    tokio::spawn(server.serve_within(limits, pages, stop.clone()));
    (address, stop.drop_guard())
}

async fn ask(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).await.expect("it listens");
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Whether the server ended the connection, which it may also do with a reset.
async fn ends(client: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.map_or(true, |_| rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"))
}

#[tokio::test]
async fn a_thousand_idle_clients_keep_nobody_from_an_answer() {
    let limits = Limits::default();
    let (address, _stop) = serve(limits).await;
    let mut idle = Vec::new();
    // Fewer at a time than a listener's queue holds.
    for _ in 0..20 {
        for _ in 0..50 {
            idle.push(TcpStream::connect(address).await.expect("it listens"));
        }
        assert!(ask(address).await.ends_with("fine"));
    }
    // The oldest had to go, so that the server holds no more than it may.
    for client in idle.iter_mut().take(1000 - limits.connections) {
        assert!(ends(client).await);
    }
}

#[tokio::test]
async fn clients_that_send_no_request_or_take_no_answer_lose_their_connection() {
    let limits = Limits { head: Duration::from_millis(200), stall: Duration::from_millis(200), ..Limits::default() };
    let (address, _stop) = serve(limits).await;
    let connect = || async { TcpStream::connect(address).await.expect("it listens") };
    let (mut silent, mut slow, mut kept, mut full) = (connect().await, connect().await, connect().await, connect().await);
    slow.write_all(b"GET / HT").await.expect("sent");
    kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    full.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    assert!(ends(&mut silent).await && ends(&mut slow).await);
    let mut answer = String::new();
    kept.read_to_string(&mut answer).await.expect("an answer, and then the end");
    assert!(answer.ends_with("fine"), "{answer}");
    // Nothing is read until the server gave up, which shows in what can be written.
    while full.write_all(b"x").await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(ask(address).await.ends_with("fine"));
}
