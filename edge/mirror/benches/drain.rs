//! How fast a backlog reaches Kafka, alone and while live events arrive, beside librdkafka's own idempotent producer with the same messages
//! from memory and nothing else to do.
//!
//! `./dev bench drain`, or `cargo bench --workspace --bench drain -- [--events N] [--rounds N] [--in-flight N] [--json]` with
//! `OPENFACTORY_KAFKA=host:port`
//!
//! All three in one run, in turn, each into a topic of its own. The baseline has librdkafka's defaults (five requests in flight), where the
//! mirror has one. Median, lowest and highest of the rounds, and the ratio of the medians. Without Kafka it says so and ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edge_buffer::{Cursor, Entry, Log, Read};
use edge_mirror::{Config, CreateTopics, Mirror};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

const EDGE: &str = "EDGE-BENCH";
const ASSETS: u64 = 100;
/// Events a second that arrive meanwhile, in the last of the three.
const LIVE: u64 = 10_000;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// librdkafka from memory.
    Baseline,
    /// The mirror, with nothing else to do.
    Alone,
    /// The mirror, while [`LIVE`] events a second are appended to the log.
    WithLive,
}

struct Options {
    events: u64,
    rounds: usize,
    in_flight: u8,
    is_json: bool,
}

fn options() -> Options {
    let mut options = Options { events: 2_000_000, rounds: 5, in_flight: 1, is_json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).expect("a number");
        match argument.as_str() {
            "--events" => options.events = number(),
            "--rounds" => options.rounds = number() as usize,
            "--in-flight" => options.in_flight = number() as u8,
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
    let Some(kafka) = std::env::var("OPENFACTORY_KAFKA").ok().filter(|address| !address.is_empty()) else {
        println!("log -> Kafka: skipped, OPENFACTORY_KAFKA does not name a Kafka broker");
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = edge_buffer::Config { dir: dir.path().join("log"), min_free: 0, ..edge_buffer::Config::default() };
    let log = edge_buffer::open(config).expect("the log opens").log;
    fill(&log, options.events);
    let (mut baseline, mut alone, mut with_live) = (Vec::new(), Vec::new(), Vec::new());
    let mut kinds = [Kind::Baseline, Kind::Alone, Kind::WithLive];
    for round in 0..options.rounds {
        for (place, kind) in kinds.into_iter().enumerate() {
            let topic = format!("drain-{}-{}-{round}-{place}", std::process::id(), log.epoch());
            create(&kafka, &topic);
            match kind {
                Kind::Baseline => baseline.push(produce(&kafka, &topic, &log, options.events)),
                Kind::Alone => alone.push(drain(&kafka, &topic, &log, &options)),
                Kind::WithLive => with_live.push(while_live_events_arrive(&log, || drain(&kafka, &topic, &log, &options))),
            }
            delete(&kafka, &topic);
        }
        kinds.rotate_left(1);
    }
    let baseline = spread(baseline);
    report("log -> Kafka", 0.9, &options, baseline, spread(alone));
    report(&format!("log -> Kafka while {LIVE} events/s arrive"), 0.7, &options, baseline, spread(with_live));
}

fn report(name: &str, reach: f64, options: &Options, [low_b, median_b, high_b]: [f64; 3], [low, median, high]: [f64; 3]) {
    let ratio = median / median_b;
    if options.is_json {
        let side = |median: f64, low: f64, high: f64| serde_json::json!({ "median": median, "low": low, "high": high });
        let line = serde_json::json!({
            "name": name, "unit": "events/s", "events": options.events, "rounds": options.rounds, "in_flight": options.in_flight,
            "baseline": side(median_b, low_b, high_b), "measured": side(median, low, high), "ratio": ratio, "reach": reach,
        });
        println!("{line}");
    } else {
        println!(
            "{name}: {median:.0} events/s ({low:.0} to {high:.0}), producer from memory {median_b:.0} ({low_b:.0} to {high_b:.0}), ratio {ratio:.2} (reach {reach:.2}), {} events, {} rounds",
            options.events, options.rounds
        );
    }
}

/// A gateway's events every ten milliseconds, each batch durable before the next one.
fn while_live_events_arrive(log: &Log, drain: impl FnOnce() -> f64) -> f64 {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            let mut arrived = 0;
            while !stop.load(Ordering::Relaxed) {
                let due = began.elapsed().as_millis() as u64 * LIVE / 1000;
                if due > arrived {
                    append(log, arrived..due);
                    arrived = due;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let rate = drain();
        stop.store(true, Ordering::Relaxed);
        rate
    })
}

/// Lowest, median, highest.
fn spread(mut rates: Vec<f64>) -> [f64; 3] {
    rates.sort_by(f64::total_cmp);
    [rates[0], rates[rates.len() / 2], rates[rates.len() - 1]]
}

fn fill(log: &Log, events: u64) {
    for start in (0..events).step_by(5_000) {
        append(log, start..events.min(start + 5_000));
    }
}

fn append(log: &Log, numbers: std::ops::Range<u64>) {
    let now = asset_stream::Timestamp::now();
    let entry = |n: u64| {
        let value = format!(
            r#"{{"ID":"spindle_speed_{}","VALUE":{}.{},"TAG":"SpindleSpeed","TYPE":"Samples","attributes":{{"timestamp":"{now}","ingestion_timestamp":"{now}","quality":"Good"}}}}"#,
            n % 20,
            n * 7_919 % 10_000,
            n % 100
        );
        Entry { key: format!("CNC-{:04}", n % ASSETS).into(), timestamp: now.millis(), value: value.into_bytes() }
    };
    log.append_durable(numbers.map(entry).collect()).expect("the log takes events");
}

/// Log to Kafka, from the mirror's start to the last acknowledgement; events a second.
fn drain(kafka: &str, topic: &str, log: &Log, options: &Options) -> f64 {
    // A log without cursor: each round begins at the first event.
    let mut config = Config::new(service::kafka::Config::plain(kafka), format!("{EDGE}-{topic}"));
    config.assets_topic = topic.into();
    config.edges_topic = format!("{topic}-edges");
    config.create_topics = CreateTopics::Never;
    config.max_in_flight = options.in_flight;
    log.keep_cursor(Cursor::MIRROR, Cursor { sequence: 0, note: clean_note(topic) }).expect("kept");
    let mirror = Mirror::start(config, log.clone()).expect("starts");
    let wait = |what: &str, is_done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(300);
        while !is_done() {
            assert!(Instant::now() < deadline, "not within 300 s: {what}: {:#?}", mirror.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // Finding the cluster is no part of it: the baseline's producer is connected before its clock starts, too.
    wait("it mirrors", &|| mirror.status().mirrored > 0);
    let (already, began, backlog) = (mirror.status().mirrored, Instant::now(), log.durable());
    wait("all is mirrored", &|| mirror.status().mirrored >= backlog);
    let rate = (mirror.status().mirrored - already) as f64 / began.elapsed().as_secs_f64();
    mirror.stop(Duration::from_secs(5));
    rate
}

fn clean_note(topic: &str) -> Vec<u8> {
    format!(r#"{{"version":1,"cluster":"","topic":"{topic}","clean":true,"partitions":{{}}}}"#).into_bytes()
}

#[derive(Default)]
struct Count {
    delivered: AtomicU64,
}

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "the baseline's producer fails");
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same messages from memory through librdkafka's idempotent producer; events a second.
fn produce(kafka: &str, topic: &str, log: &Log, count: u64) -> f64 {
    let mut events = Vec::new();
    let mut reader = log.reader(0);
    // What arrived live in earlier rounds stands behind.
    while (events.len() as u64) < count {
        let reads = reader.next_block(5_000).expect("the log can be read");
        events.extend(reads.into_iter().filter_map(|read| match read {
            Read::Entry(event) => Some(event),
            Read::Lost { .. } => None,
        }));
    }
    let producer: ThreadedProducer<Count> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("compression.codec", "zstd")
        .create_with_context(Count::default())
        .expect("a producer");
    let epoch = log.epoch();
    let with_headers =
        |event: edge_buffer::Stored| (format!("{epoch}:{}", event.sequence), format!("{epoch}:{}", event.key_sequence), event);
    let messages: Vec<(String, String, edge_buffer::Stored)> = events.into_iter().map(with_headers).collect();
    let send = |(sequence, asset_sequence, event): &(String, String, edge_buffer::Stored)| {
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: "of-edge", value: Some(EDGE) })
            .insert(Header { key: "of-seq", value: Some(sequence) })
            .insert(Header { key: "of-asset-seq", value: Some(asset_sequence) });
        let mut record =
            BaseRecord::to(topic).key(event.key.as_bytes()).payload(&event.value[..]).timestamp(event.timestamp).headers(headers);
        while let Err((error, back)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(Code::QueueFull), "{error}");
            record = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let delivered = || producer.client().context().delivered.load(Ordering::Relaxed);
    send(&messages[0]);
    while delivered() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let began = Instant::now();
    messages[1..].iter().for_each(send);
    while delivered() < messages.len() as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    (messages.len() - 1) as f64 / began.elapsed().as_secs_f64()
}

fn admin(kafka: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", kafka).create().expect("an admin client")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn create(kafka: &str, topic: &str) {
    let edges = format!("{topic}-edges");
    let topics = [NewTopic::new(topic, 12, TopicReplication::Fixed(1)), NewTopic::new(&edges, 1, TopicReplication::Fixed(1))];
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let results = block_on(admin(kafka).create_topics(&topics, &options)).expect("the broker answers");
    results.into_iter().for_each(|result| drop(result.expect("the topic is created")));
}

fn delete(kafka: &str, topic: &str) {
    let edges = format!("{topic}-edges");
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    drop(block_on(admin(kafka).delete_topics(&[topic, &edges], &options)));
}
