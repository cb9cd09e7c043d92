//! Secured connections with a server that we did not write, and what is said when they fail.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use gateway_opcua::{Identity, Shared};
use support::server::Server;
use support::{Edge, python, wait_until};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// The folders of a server and of an edge that may trust each other.
struct Plant {
    /// Where the server keeps its own certificate, `server.der`.
    server: TempDir,
    /// The certificates of the clients and users that the server trusts.
    clients: TempDir,
    users: TempDir,
    /// The edge's state folder.
    state: TempDir,
}

impl Plant {
    fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a folder");
        Self { server: folder(), clients: folder(), users: folder(), state: folder() }
    }

    /// Starts a server that trusts the clients and users in its folders.
    async fn server(&self, python: &Path, further: &[&str]) -> Server {
        let path = |folder: &TempDir| folder.path().to_str().expect("UTF-8").to_owned();
        let folders = [path(&self.server), path(&self.clients), path(&self.users)];
        let arguments = ["--secure", &folders[0], "--clients", &folders[1], "--users", &folders[2]];
        Server::start_script(python, "machine.py", &[&arguments[..], further].concat()).await
    }

    fn identity(&self) -> Identity {
        Shared::open(self.state.path()).expect("an identity").identity
    }

    fn trust_server(&self) {
        let trusted = self.state.path().join("opcua/trusted/server.der");
        fs::copy(self.server.path().join("server.der"), trusted).expect("both folders are there");
    }

    fn trust_client(&self) {
        fs::copy(self.identity().certificate_path(), self.clients.path().join("edge.der")).expect("both are there");
    }

    /// An edge with this state that follows one variable.
    fn edge(&self, server: &Server, security: &str) -> Edge {
        let shared = Shared::open(self.state.path()).expect("an identity");
        let yaml = format!(
            "server:\n  uri: opc.tcp://127.0.0.1:{}/machine\n  security: {security}\nvariables:\n  double: {{node_id: \"ns=2;s=double\"}}\n",
            server.port
        );
        // The edge deletes a folder of its own when it ends; the state is ours.
        Edge::start_with(&yaml, shared, tempfile::tempdir().expect("a folder"))
    }
}

/// What the edge says when it cannot connect.
async fn failure(edge: &Edge) -> String {
    wait_until("a failure is told", SOON, || edge.status.last_error().map(|(words, _)| words).ok_or("nothing")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_policy_connects_with_name_and_with_certificate() {
    let Some(python) = python() else { return };
    let plant = Plant::new();
    let server = plant.server(&python, &[]).await;
    // The user's certificate: another pair than the application's.
    let user = tempfile::tempdir().expect("a folder");
    let user = Identity::open(user.path()).map(|identity| (identity, user)).expect("made");
    fs::copy(user.0.certificate_path(), plant.users.path().join("user.der")).expect("copied");
    plant.trust_client();
    plant.trust_server();
    let password = user.1.path().join("password");
    fs::write(&password, "right\n").expect("written");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("own file");
    let by_name = format!("{{user: edge, password_file: {}}}", password.display());
    let by_certificate = format!("{{certificate: {}, key: {}}}", user.0.certificate_path().display(), user.0.key_path().display());
    let mut edges = Vec::new();
    for (policy, identity) in [
        ("policy: none", &by_name),
        ("policy: basic256sha256, mode: sign", &by_name),
        ("policy: basic256sha256", &by_name),
        ("policy: basic256sha256", &by_certificate),
        ("policy: aes128_sha256_rsaoaep", &by_name),
        ("policy: aes128_sha256_rsaoaep", &by_certificate),
        ("policy: aes256_sha256_rsapss", &by_name),
        ("policy: aes256_sha256_rsapss", &by_certificate),
    ] {
        let security = format!("{{{policy}, identity: {identity}}}");
        edges.push((security.clone(), plant.edge(&server, &security)));
    }
    for (security, edge) in &edges {
        let look = || match edge.kept().of("double").len() {
            0 => Err(edge.status.last_error().map(|(words, _)| words)),
            _ => Ok(()),
        };
        wait_until(&format!("a value with {security}"), SOON, look).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_named_and_not_tried_again_soon() {
    let Some(python) = python() else { return };
    let plant = Plant::new();
    let server = plant.server(&python, &[]).await;
    plant.trust_client();
    plant.trust_server();
    let edge = plant.edge(&server, "{policy: basic256sha256, identity: {user: edge, password: wr0ng-secret}}");
    let words = failure(&edge).await;
    assert!(words.starts_with("login: ") && words.contains("\"edge\"") && words.contains("BadUserAccessDenied"), "{words}");
    assert!(!words.contains("wr0ng-secret"), "{words}");
    let anonymous = plant.edge(&server, "{policy: basic256sha256}");
    let words = failure(&anonymous).await;
    assert!(words.contains("anonymous users"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_server_is_put_aside_and_trusted_by_the_named_command() {
    let Some(python) = python() else { return };
    let plant = Plant::new();
    let server = plant.server(&python, &[]).await;
    plant.trust_client();
    let edge = plant.edge(&server, "{policy: basic256sha256, identity: {user: edge, password: right}}");
    let words = failure(&edge).await;
    assert!(words.starts_with("server certificate untrusted: ") && words.contains("SHA-256"), "{words}");
    let (_, fingerprint) = words.split_once("openfactory-edge cert trust ").expect("the command is named");
    let store = gateway_opcua::TrustStore::open(plant.state.path()).expect("open");
    let put_aside = &store.rejected().expect("listed")[0].file;
    assert_eq!(fs::read(put_aside).expect("put aside"), fs::read(plant.server.path().join("server.der")).expect("there"));
    store.trust(fingerprint.trim()).expect("the command works");
    edge.wait_for_samples("double", 1, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_trust_us_is_told_apart_from_one_that_we_do_not_trust() {
    let Some(python) = python() else { return };
    let plant = Plant::new();
    let server = plant.server(&python, &[]).await;
    // The certificate must exist before the server's folder of trusted clients is looked at; it is not put there.
    let identity = plant.identity();
    plant.trust_server();
    let edge = plant.edge(&server, "{policy: basic256sha256, identity: {user: edge, password: right}}");
    let words = failure(&edge).await;
    assert!(words.starts_with("our certificate untrusted: "), "{words}");
    assert!(words.contains(&identity.thumbprint()) && words.contains(identity.certificate_path().to_str().expect("UTF-8")), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_certificates_of_servers_are_told_by_what_is_wrong() {
    let Some(python) = python() else { return };
    for (certificate, check) in [("expired", "server certificate expired: "), ("other-uri", "server application URI: ")] {
        let plant = Plant::new();
        let server = plant.server(&python, &["--certificate", certificate]).await;
        plant.identity();
        plant.trust_server();
        plant.trust_client();
        let edge = plant.edge(&server, "{policy: basic256sha256, identity: {user: edge, password: right}}");
        let words = failure(&edge).await;
        assert!(words.starts_with(check), "{certificate}: {words}");
        drop(edge);
        let anyone = plant.edge(&server, "{policy: basic256sha256, trust: any, identity: {user: edge, password: right}}");
        anyone.wait_for_samples("double", 1, SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_wrong_clock_is_told_so() {
    let Some(python) = python() else { return };
    let plant = Plant::new();
    let server = plant.server(&python, &["--clock", "-400"]).await;
    plant.trust_client();
    plant.trust_server();
    let edge = plant.edge(&server, "{policy: basic256sha256, identity: {user: edge, password: right}}");
    let words = failure(&edge).await;
    assert!(words.starts_with("clock: ") && words.contains("400 days apart") && words.contains("BadCertificateTimeInvalid"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_offered_and_what_is_not_there_is_said() {
    let Some(python) = python() else { return };
    let plain = Server::start_script(&python, "machine.py", &[]).await;
    let plant = Plant::new();
    let edge = plant.edge(&plain, "{policy: aes256_sha256_rsapss}");
    let words = failure(&edge).await;
    assert!(words.starts_with("security settings: the server does not offer policy Aes256_Sha256_RsaPss"), "{words}");
    assert!(words.contains("it offers: policy None"), "{words}");
    let nobody = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.local_addr().expect("bound").port()
    };
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let silent = (silent.local_addr().expect("bound").port(), silent);
    for (port, check) in [(nobody, "port closed: "), (silent.0, "no OPC UA: ")] {
        let yaml = format!("server: {{uri: \"opc.tcp://127.0.0.1:{port}/\", session: {{connect_timeout: 1000, request_timeout: 1000}}}}\n");
        let words = failure(&Edge::start(&yaml)).await;
        assert!(words.starts_with(check), "{words}");
    }
    let words = failure(&Edge::start("server: {uri: \"opc.tcp://no-such-host.invalid:4840/\"}\n")).await;
    assert!(words.starts_with("host name: "), "{words}");
}
