//! Kafka → NATS, beside a bare loop that consumes and publishes with the same libraries and promises nothing.
//!
//! `./dev bench forward`, or `cargo bench --workspace --bench forward -- [--events N] [--rounds N] [--partitions N] [--assets N,N…] [--json]`
//! with `OPENFACTORY_KAFKA=host:port OPENFACTORY_NATS_SERVER=program`
//!
//! All take turns at being first, so that they see the same machine. An asset's events wait for each other where the bare loop's do not: how many assets
//! share the load decides, so it is measured for several. Without Kafka it says so and ends.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, context::ContextBuilder};
use cloud_forwarder::config::{Cluster, Forward, Route, Stream};
use cloud_forwarder::{Config, Forwarder};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

const STREAM: &str = "BENCH_FORWARD";
const PREFIX: &str = "ofabench";

/// What is measured.
#[derive(Clone, Copy)]
enum Kind {
    Bare,
    /// Into JetStream.
    Forwarder,
    /// To plain subscribers.
    Plain,
}

struct Options {
    events: u64,
    rounds: usize,
    partitions: u64,
    assets: Vec<u64>,
    is_json: bool,
}

fn options() -> Options {
    let mut options = Options { events: 100_000, rounds: 5, partitions: 3, assets: vec![200, 20, 1], is_json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut numbers = || -> Vec<u64> {
            let text = arguments.next().expect("a number");
            text.split(',').map(|number| number.parse().expect("a number")).collect()
        };
        match argument.as_str() {
            "--events" => options.events = numbers()[0],
            "--rounds" => options.rounds = numbers()[0] as usize,
            "--partitions" => options.partitions = numbers()[0],
            "--assets" => options.assets = numbers(),
            "--json" => options.is_json = true,
            // What `cargo bench` adds by itself.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    options
}

fn main() {
    let options = options();
    let (Ok(kafka), Ok(program)) = (std::env::var("OPENFACTORY_KAFKA"), std::env::var("OPENFACTORY_NATS_SERVER")) else {
        println!("Kafka -> NATS: skipped, OPENFACTORY_KAFKA and OPENFACTORY_NATS_SERVER do not name a broker and a program");
        return;
    };
    service::tls::install_ring();
    let server = Server::start(&program);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for assets in &options.assets {
        let topic = unique("bench-forward");
        runtime.block_on(make_topic(&kafka, &topic, options.partitions));
        fill(&kafka, &topic, options.events, *assets);
        let (mut bare, mut ours, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        let mut kinds = [Kind::Bare, Kind::Forwarder, Kind::Plain];
        for _ in 0..options.rounds {
            for kind in kinds {
                runtime.block_on(empty_stream(&server.url));
                match kind {
                    Kind::Bare => bare.push(runtime.block_on(bare_loop(&kafka, &server.url, &topic, options.events))),
                    Kind::Forwarder => ours.push(runtime.block_on(forwarder(&kafka, &server.url, &topic, options.events, route()))),
                    Kind::Plain => {
                        let route = Route { jetstream: false, ..route() };
                        plain.push(runtime.block_on(forwarder(&kafka, &server.url, &topic, options.events, route)));
                    }
                }
            }
            kinds.rotate_left(1);
        }
        report(&options, *assets, [bare, ours, plain].map(spread));
    }
    runtime.shutdown_background();
}

fn report(options: &Options, assets: u64, [bare, ours, plain]: [[f64; 3]; 3]) {
    let (name, ratio) = (format!("Kafka -> NATS, {assets} assets"), ours[1] / bare[1]);
    if options.is_json {
        let side = |[low, median, high]: [f64; 3]| serde_json::json!({ "median": median, "low": low, "high": high });
        let line = serde_json::json!({
            "name": name, "unit": "events/s", "events": options.events, "rounds": options.rounds, "partitions": options.partitions,
            "baseline": side(bare), "measured": side(ours), "plain_nats": side(plain), "ratio": ratio, "reach": 0.8,
        });
        println!("{line}");
    } else {
        let text = |[low, median, high]: [f64; 3]| format!("{median:.0} ({low:.0} to {high:.0})");
        println!(
            "{name}: {} events/s, bare loop {}, ratio {ratio:.2} (reach 0.80); without JetStream {}; {} events, {} rounds",
            text(ours),
            text(bare),
            text(plain),
            options.events,
            options.rounds
        );
    }
}

/// A NATS server with JetStream, in a folder of its own; killed on drop.
struct Server {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(program: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().display().to_string();
        let arguments = ["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &place, "--ports_file_dir", &place];
        let child = Command::new(program).args(arguments).stderr(Stdio::null()).spawn().expect("the NATS server starts");
        let file = folder.path().join(format!("nats-server_{}.ports", child.id()));
        let mut server = Self { child, url: String::new(), _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while server.url.is_empty() {
            assert!(Instant::now() < deadline, "the NATS server does not say where it listens");
            std::thread::sleep(Duration::from_millis(10));
            let ports = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
            server.url = ports.as_ref().and_then(|ports| ports["nats"][0].as_str()).unwrap_or_default().to_owned();
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("{name}-{now}")
}

/// Lowest, median, highest.
fn spread(mut rates: Vec<f64>) -> [f64; 3] {
    rates.sort_by(f64::total_cmp);
    [rates[0], rates[rates.len() / 2], rates[rates.len() - 1]]
}

async fn make_topic(kafka: &str, topic: &str, partitions: u64) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", kafka).create().expect("an admin client");
    let partitions = i32::try_from(partitions).expect("a small number");
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await.expect("Kafka answers") {
        made.expect("the topic is made");
    }
}

fn fill(kafka: &str, topic: &str, events: u64, assets: u64) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("enable.idempotence", "true")
        .set("compression.type", "zstd")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .expect("a producer");
    for n in 1..=events {
        let key = format!("ASSET-{}", n % assets);
        let value = format!(
            r#"{{"ID":"item-{}","VALUE":{n},"TAG":"Temperature","TYPE":"Samples","attributes":{{"timestamp":"2026-01-27T15:37:03.871Z","ingestion_timestamp":"2026-01-27T15:37:03.882Z"}}}}"#,
            n / assets % 100
        );
        let (sequence, of_asset) = (format!("1769528223000:{n}"), format!("1769528223000:{}", n / assets + 1));
        let headers = [("of-edge", "edge-01"), ("of-seq", &sequence), ("of-asset-seq", &of_asset)]
            .into_iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        producer.send(BaseRecord::to(topic).key(&key).payload(&value).headers(headers)).map_err(|(e, _)| e).expect("room in the queue");
    }
    producer.flush(Duration::from_secs(120)).expect("Kafka takes the events");
}

fn stream() -> Stream {
    Stream { name: STREAM.into(), max_bytes: 4 << 30, ..Stream::default() }
}

/// The stream as the forwarder makes it, empty.
async fn empty_stream(nats: &str) {
    let context = jetstream::new(async_nats::connect(nats).await.expect("NATS answers"));
    // It may not be there yet.
    context.delete_stream(STREAM).await.ok();
    let config = jetstream::stream::Config {
        name: STREAM.into(),
        subjects: vec![format!("{PREFIX}.*.*")],
        republish: Some(jetstream::stream::Republish {
            source: format!("{PREFIX}.*.*"),
            destination: "{{wildcard(1)}}.{{wildcard(2)}}".into(),
            headers_only: false,
        }),
        max_age: stream().max_age,
        duplicate_window: stream().duplicate_window,
        max_bytes: 4 << 30,
        allow_direct: true,
        ..Default::default()
    };
    context.create_stream(config).await.expect("the stream is made");
}

/// Consumes and publishes as fast as the libraries can, with the same headers; keeps no order under failure, and no offsets.
async fn bare_loop(kafka: &str, nats: &str, topic: &str, events: u64) -> f64 {
    let (sender, mut records) = tokio::sync::mpsc::channel::<Vec<(String, HeaderMap, Vec<u8>)>>(64);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", unique("bare"))
        .set("auto.offset.reset", "earliest")
        .set("queued.max.messages.kbytes", "16384")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    let reader = std::thread::spawn(move || {
        let (mut read, mut batch) = (0, Vec::new());
        while read < events {
            match consumer.poll(if batch.is_empty() { Duration::from_millis(50) } else { Duration::ZERO }) {
                Some(Ok(message)) => {
                    read += 1;
                    let value = message.payload().expect("a value");
                    // The ID of these events stands at a known place.
                    let id = std::str::from_utf8(&value[7..]).expect("UTF-8").split('"').next().expect("an ID").to_owned();
                    let subject = format!("{PREFIX}.{}.{id}", String::from_utf8_lossy(message.key().expect("a key")));
                    let mut headers = HeaderMap::new();
                    for header in message.headers().expect("headers").iter() {
                        headers.insert(header.key, std::str::from_utf8(header.value.expect("a value")).expect("text"));
                    }
                    headers.insert("Nats-Msg-Id", format!("{}:{}", message.partition(), message.offset()));
                    batch.push((subject, headers, value.to_vec()));
                    if batch.len() == 256 {
                        sender.blocking_send(std::mem::take(&mut batch)).expect("the publisher runs");
                    }
                }
                Some(Err(error)) => eprintln!("{error}"),
                None if !batch.is_empty() => sender.blocking_send(std::mem::take(&mut batch)).expect("the publisher runs"),
                None => {}
            }
        }
        sender.blocking_send(batch).expect("the publisher runs");
    });
    let client = async_nats::connect(nats).await.expect("NATS answers");
    let context = ContextBuilder::new().max_ack_inflight(10_000).build(client);
    let (mut acks, mut done, mut started) = (FuturesUnordered::new(), 0, None);
    while done < events {
        tokio::select! {
            biased;
            Some(batch) = records.recv(), if acks.len() < 9_000 => {
                started.get_or_insert_with(Instant::now);
                for (subject, headers, payload) in batch {
                    let ack = context.publish_with_headers(subject, headers, payload.into()).await.expect("published");
                    acks.push(std::future::IntoFuture::into_future(ack));
                }
            }
            Some(ack) = acks.next(), if !acks.is_empty() => {
                ack.expect("acknowledged");
                done += 1;
            }
        }
    }
    let rate = events as f64 / started.expect("something came").elapsed().as_secs_f64();
    reader.join().expect("the reader ended");
    rate
}

fn route() -> Route {
    Route { prefix: PREFIX.into(), stream: stream(), ..Route::default() }
}

async fn forwarder(kafka: &str, nats: &str, topic: &str, events: u64, route: Route) -> f64 {
    let forward = Forward { group: unique("group"), routes: BTreeMap::from([(topic.to_owned(), route)]), ..Forward::default() };
    let clusters = BTreeMap::from([("C1".to_owned(), Cluster { urls: vec![nats.to_owned()], ..Cluster::default() })]);
    let forwarder = Forwarder::start(Config { kafka: service::kafka::Config::plain(kafka), clusters, forward }).expect("a good config");
    let handle = forwarder.handle();
    let mut started = None;
    loop {
        let status = handle.status();
        if status.forwarded + status.in_flight > 0 {
            started.get_or_insert_with(Instant::now);
        }
        if status.forwarded >= events {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let rate = events as f64 / started.expect("something came").elapsed().as_secs_f64();
    assert!(forwarder.stop(Duration::from_secs(10)).await, "the forwarder stopped in time");
    rate
}
