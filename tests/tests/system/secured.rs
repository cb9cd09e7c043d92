//! Connections as plants secure them: TLS, mutual TLS and SCRAM towards Kafka; TLS, nkeys and credentials towards NATS; certificates that
//! are renewed while everything runs.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value as Json;
use system_tests::certificates::{Authority, Pair, write_secret};
use system_tests::cloud::{self, Forwarder};
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::nats::{self, Nats};
use system_tests::plant::Plant;
use system_tests::{http, ports, process, tools, wait};

const LONG: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct-horse-battery";

/// A Kafka whose second way in is secured by `protocol`; it trusts `authority` and shows a certificate of it.
fn secured_kafka(protocol: &str, authority: &Authority, folder: &Path, further: &[(&str, &str)]) -> anyhow::Result<Kafka> {
    let own = authority.issue("broker", folder)?.joined()?;
    let (own, trusted) = (own.to_string_lossy(), authority.file.to_string_lossy());
    let ssl = [
        ("listener.name.link.ssl.keystore.type", "PEM"),
        ("listener.name.link.ssl.keystore.location", &own),
        ("listener.name.link.ssl.truststore.type", "PEM"),
        ("listener.name.link.ssl.truststore.location", &trusted),
    ];
    let settings = [&ssl[..], further].concat();
    Kafka::start_linked(&kafka::Plan { link_protocol: protocol, settings: &settings, ..Default::default() })
}

const MUTUAL: &[(&str, &str)] = &[("listener.name.link.ssl.client.auth", "required")];

fn mutual_tls(authority: &Authority, own: &Pair) -> String {
    let (ca, certificate, key) = (&authority.file, &own.certificate, &own.key);
    format!("[kafka.tls]\nca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n")
}

/// A plant whose edge takes the secured way, with one device.
fn plant(name: &str, kafka: Kafka, edge_toml: &str) -> anyhow::Result<Plant> {
    let way = kafka.link_bootstrap()?;
    let mut plant = Plant::over(name, Broker::Own(kafka), way, edge_toml)?;
    let devices = Devices::start(Plan::new(Make::Asyncua, 1, 10), plant.folder())?;
    plant.add(devices)?;
    Ok(plant)
}

/// What `check-config --online` says of Kafka; nothing that it prints may hold a secret.
fn check_online(plant: &Plant) -> anyhow::Result<(bool, String)> {
    let (_, said, error) = plant.edge.command(&["check-config", "--online", "--json"])?;
    ensure!(!said.contains(PASSWORD) && !error.contains(PASSWORD), "the password is told: {said}{error}");
    let json: Json = serde_json::from_str(&said).with_context(|| format!("no JSON: {said}{error}"))?;
    let kafka = &json["kafka"];
    Ok((kafka["answers"] == true, kafka["why"].as_str().unwrap_or_default().to_owned()))
}

#[test]
fn events_reach_kafka_over_mutual_tls_with_a_certificate_that_is_renewed_meanwhile() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("plant", folder.path())?;
    let own = authority.issue("edge", folder.path())?;
    let kafka = secured_kafka("SSL", &authority, folder.path(), MUTUAL)?;
    let mut plant = plant("mutual-tls", kafka, &mutual_tls(&authority, &own))?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    assert_eq!(check_online(&plant)?, (true, String::new()));

    authority.issue("edge", folder.path())?;
    let (code, said, error) = plant.edge.command(&["reload"])?;
    assert_eq!((code, said.trim()), (Some(0), "Kafka: connecting anew"), "{error}");
    plant.run_for(Duration::from_secs(1))?;

    // One of an authority that the broker does not know: nothing goes on, nothing is lost, and it is said why.
    let stranger = tempfile::tempdir()?;
    let strange = Authority::new("stranger", stranger.path())?.issue("edge", stranger.path())?;
    std::fs::copy(&strange.certificate, &own.certificate)?;
    write_secret(&own.key, &std::fs::read_to_string(&strange.key)?)?;
    let (answers, why) = check_online(&plant)?;
    assert!(!answers && why.to_lowercase().contains("ssl"), "{why:?} does not say that it is about TLS");
    plant.edge.command(&["reload"])?;
    plant.run_for(Duration::from_secs(2))?;
    authority.issue("edge", folder.path())?;
    let (code, _, error) = plant.edge.command(&["reload"])?;
    assert_eq!(code, Some(0), "{error}");
    plant.expect_clean(LONG)?;
    plant.stop()
}

#[test]
fn events_reach_kafka_by_scram_over_tls_and_a_wrong_password_is_told_without_showing_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("plant", folder.path())?;
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let plain = format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_edge=\"{PASSWORD}\";");
    let logins = [
        ("listener.name.link.sasl.enabled.mechanisms", "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN"),
        ("listener.name.link.scram-sha-512.sasl.jaas.config", scram),
        ("listener.name.link.scram-sha-256.sasl.jaas.config", scram),
        ("listener.name.link.plain.sasl.jaas.config", &plain),
    ];
    let kafka = secured_kafka("SASL_SSL", &authority, folder.path(), &logins)?;
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256"] {
        let credential = format!("{mechanism}=[password={PASSWORD}]");
        let words = ["--alter", "--add-config", &credential, "--entity-type", "users", "--entity-name", "edge"];
        kafka.tool("kafka.admin.ConfigCommand", &words)?;
    }
    let file = folder.path().join("password");
    write_secret(&file, &format!("{PASSWORD}\n"))?;
    let login = |mechanism: &str| format!("[kafka.sasl]\nmechanism = \"{mechanism}\"\nusername = \"edge\"\npassword_file = {file:?}\n");
    let toml = format!("[kafka.tls]\nca = {:?}\n{}", authority.file, login("SCRAM-SHA-512"));
    let mut plant = plant("scram", kafka, &toml)?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    let config = std::fs::read_to_string(plant.edge.config())?;
    for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
        std::fs::write(plant.edge.config(), config.replace("SCRAM-SHA-512", mechanism))?;
        assert_eq!(check_online(&plant)?, (true, String::new()), "{mechanism}");
    }
    std::fs::write(plant.edge.config(), config)?;
    write_secret(&file, "wrong")?;
    let (answers, why) = check_online(&plant)?;
    assert!(!answers && why.to_lowercase().contains("authentication"), "{why:?} does not say that it is about the login");
    write_secret(&file, PASSWORD)?;
    plant.expect_clean(LONG)?;
    let log = plant.edge.log_tail();
    assert!(!log.contains(PASSWORD), "the password stands in the log");
    plant.stop()
}

#[test]
fn the_forwarder_takes_both_sides_over_tls_with_an_nkey_and_renewed_certificates_without_a_restart() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("plant", folder.path())?;
    let (own, server) = (authority.issue("forwarder", folder.path())?, authority.issue("nats", folder.path())?);
    let kafka = secured_kafka("SSL", &authority, folder.path(), MUTUAL)?;
    let way = kafka.link_bootstrap()?;
    let mut plant = plant("secured-forwarder", kafka, &mutual_tls(&authority, &own))?;

    let user = nkeys::KeyPair::new_user();
    let seed = folder.path().join("nkey");
    write_secret(&seed, &user.seed()?)?;
    let monitor = ports::free()?;
    // The judge reads without a login, which servers of plants have not.
    let settings = format!(
        "http: \"127.0.0.1:{monitor}\"\nallow_non_tls: true\nno_auth_user: judge\n\
         tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n\
         authorization {{ users: [ {{ user: judge, password: judge }}, {{ nkey: {} }} ] }}",
        server.certificate,
        server.key,
        authority.file,
        user.public_key()
    );
    let nats = Nats::start_with(&nats::Plan { settings, ..Default::default() })?;
    let mut forwarder = new_forwarder(&plant, &way, &nats.url(), |text| {
        let login = format!(
            "nkey_seed_file = {seed:?}\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n[forward]",
            authority.file, own.certificate, own.key
        );
        text.replace("[forward]", &login).replace("[nats.MAIN]", &(mutual_tls(&authority, &own) + "[nats.MAIN]"))
    })?;
    forwarder.start()?;
    forwarder.wait_started(LONG)?;
    (plant.nats, plant.forwarder) = (Some(nats), Some(forwarder));
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    wait::until_true("the forwarder has forwarded", LONG, || forwarded(&plant) > 0)?;
    let (_, connections) = http::get(monitor, "/connz?auth=true")?;
    let connections: Json = serde_json::from_str(&connections)?;
    let ours: Vec<_> = connections["connections"].as_array().into_iter().flatten().filter(|c| c["tls_version"].is_string()).collect();
    assert!(!ours.is_empty(), "nobody came to NATS over TLS: {connections}");

    authority.issue("forwarder", folder.path())?;
    let process = plant.forwarder.as_mut().context("there is one")?.process()?;
    let before = process.id();
    process.signal(Signal::HUP)?;
    wait::until_true("the forwarder began anew and forwards", LONG, || (1..5_000_000).contains(&forwarded(&plant)))?;
    plant.run_for(Duration::from_secs(1))?;
    assert_eq!(plant.forwarder.as_mut().context("there is one")?.process()?.id(), before, "it was restarted");
    plant.expect_clean(LONG)?;

    // Configs that cannot work change nothing: pages at somebody else's address, a certificate that is none.
    let forwarder = plant.forwarder.as_mut().context("there is one")?;
    let (config, taken) = (std::fs::read_to_string(forwarder.config())?, TcpListener::bind("127.0.0.1:0")?);
    let theirs = format!("status_listen = \"{}\"", taken.local_addr()?);
    let lines = config.lines().map(|line| if line.trim_start().starts_with("status_listen") { &theirs } else { line });
    std::fs::write(forwarder.config(), lines.collect::<Vec<_>>().join("\n"))?;
    forwarder.process()?.signal(Signal::HUP)?;
    wait::until_true("the refusal stands in the log", LONG, || forwarder.log_tail().contains("cannot listen on"))?;
    std::fs::write(forwarder.config(), config)?;
    std::fs::write(&own.certificate, "no certificate")?;
    forwarder.process()?.signal(Signal::HUP)?;
    wait::until_true("the refusal stands in the log", LONG, || forwarder.log_tail().matches("the new config is refused").count() == 2)?;
    assert!(forwarder.status().is_ok(), "the forwarder does not go on");
    plant.stop()
}

#[test]
fn the_forwarder_logs_in_with_a_credentials_file() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (settings, credentials) = jwt::server_and_user()?;
    let file = folder.path().join("forwarder.creds");
    write_secret(&file, &credentials)?;
    let broker = Broker::shared()?;
    let way = broker.bootstrap();
    let mut plant = Plant::new("credentials", broker, "")?;
    let devices = Devices::start(Plan::new(Make::Asyncua, 1, 10), plant.folder())?;
    plant.add(devices)?;
    let nats = Nats::start_with(&nats::Plan { settings, ..Default::default() })?;
    let mut forwarder =
        new_forwarder(&plant, &way, &nats.url(), |text| text.replace("[forward]", &format!("credentials_file = {file:?}\n[forward]")))?;
    forwarder.start()?;
    forwarder.wait_started(LONG)?;
    plant.forwarder = Some(forwarder);
    plant.start()?;
    wait::until_true("the forwarder has forwarded", LONG, || forwarded(&plant) > 0)?;
    plant.expect_clean(LONG)?;
    plant.stop()?;
    drop(nats);
    Ok(())
}

fn new_forwarder(plant: &Plant, kafka: &str, nats: &str, change: impl Fn(&str) -> String) -> anyhow::Result<Forwarder> {
    let (topic, nats) = (plant.topic().to_owned(), nats.to_owned());
    let settings = cloud::Settings { instance: "forwarder-1".into(), kafka: kafka.into(), topic, nats, more: String::new() };
    let forwarder = Forwarder::new(plant.folder(), &settings)?;
    std::fs::write(forwarder.config(), change(&std::fs::read_to_string(forwarder.config())?))?;
    Ok(forwarder)
}

/// Events that the running forwarder has brought to NATS; 0 while it does not answer.
fn forwarded(plant: &Plant) -> u64 {
    let status = plant.forwarder.as_ref().and_then(|forwarder| forwarder.status().ok());
    status.and_then(|status| status["forwarded"].as_u64()).unwrap_or(0)
}

/// What `nsc` makes: an operator, an account with JetStream, a user.
mod jwt {
    use data_encoding::BASE64URL_NOPAD;
    use nkeys::KeyPair;
    use serde_json::{Value as Json, json};

    /// Settings of a server that trusts a new operator, and the credentials file of a user of it.
    pub(crate) fn server_and_user() -> anyhow::Result<(String, String)> {
        let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
        let of_operator = token(&operator, &operator, json!({"type": "operator", "version": 2}))?;
        let any = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
        });
        let of_account = token(&operator, &account, json!({"type": "account", "version": 2, "limits": any}))?;
        // JetStream's own account, which no user of ours enters.
        let system = KeyPair::new_account();
        let of_system = token(&operator, &system, json!({"type": "account", "version": 2}))?;
        let of_user = token(&account, &user, json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}))?;
        let settings = format!(
            "operator: {of_operator}\nsystem_account: {system}\nresolver: MEMORY\n\
             resolver_preload: {{ {account}: {of_account}, {system}: {of_system} }}",
            account = account.public_key(),
            system = system.public_key()
        );
        let seed = user.seed()?;
        let credentials = format!(
            "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        Ok((settings, credentials))
    }

    fn token(issuer: &KeyPair, subject: &KeyPair, nats: Json) -> anyhow::Result<String> {
        let claims = json!({
            "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test",
            "sub": subject.public_key(), "nats": nats
        });
        let head = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
        let signed = format!("{head}.{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
        let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes())?);
        Ok(format!("{signed}.{signature}"))
    }
}

#[test]
fn the_status_is_served_over_tls_and_only_to_those_who_know_the_token() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new("plant", folder.path())?;
    let (own, token, port) = (authority.issue("edge", folder.path())?, folder.path().join("token"), ports::free()?);
    write_secret(&token, "0123456789abcdef0123")?;
    let mut plant = Plant::new("status-tls", Broker::shared()?, "")?;
    let config = std::fs::read_to_string(plant.edge.config())?;
    let listen = format!("[edge]\nstatus_listen = \"0.0.0.0:{port}\"\n");
    let open = config.replace("[edge]\n", &listen);
    std::fs::write(plant.edge.config(), &open)?;
    let (code, _, error) = plant.edge.command(&["check-config"])?;
    assert!(code == Some(78) && error.contains("edge.status_access"), "an open page is accepted: {error}");

    let access = format!("[edge.status_access]\ncertificate = {:?}\nkey = {:?}\ntoken_file = {token:?}\n", own.certificate, own.key);
    std::fs::write(plant.edge.config(), open + &access)?;
    plant.start_edge()?;
    let get = |token: &str| {
        let script = "import ssl, sys, urllib.request, urllib.error\n\
                      context = ssl.create_default_context(cafile=sys.argv[1])\n\
                      request = urllib.request.Request(sys.argv[2], headers={'Authorization': 'Bearer ' + sys.argv[3]})\n\
                      try: print(200, urllib.request.urlopen(request, context=context).read().decode())\n\
                      except urllib.error.HTTPError as error: print(error.code)";
        let words = ["-c", script, &authority.file.to_string_lossy(), &format!("https://127.0.0.1:{port}/metrics"), token];
        process::run(&tools::python()?, &words, LONG)
    };
    let (code, page, error) = get("0123456789abcdef0123")?;
    assert!(code == Some(0) && page.starts_with("200") && page.contains("openfactory_edge_"), "{page}{error}");
    for wrong in ["", "0123456789abcdef012"] {
        assert_eq!(get(wrong)?.1.trim(), "401", "{wrong:?}");
    }
    assert!(http::get(port, "/metrics").is_err(), "the page is served without TLS too");
    plant.edge.stop()
}
