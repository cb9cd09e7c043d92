//! Kafka → NATS, beside a bare loop that consumes and publishes with the same libraries and promises nothing.
//!
//! Needs OPENFACTORY_KAFKA (host:port) and OPENFACTORY_NATS (a URL, JetStream on). Rounds alternate, so that both see the same machine.
//! FORWARD_EVENTS (default 100,000), FORWARD_ROUNDS (3), FORWARD_PARTITIONS (3) and FORWARD_ASSETS
//! ("1,20,200") change what is measured.

use std::collections::BTreeMap;
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

fn main() {
    let (Ok(kafka), Ok(nats)) = (std::env::var("OPENFACTORY_KAFKA"), std::env::var("OPENFACTORY_NATS")) else {
        println!("skipped: OPENFACTORY_KAFKA and OPENFACTORY_NATS are not set");
        return;
    };
    service::tls::install_ring();
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (events, rounds) = (number("FORWARD_EVENTS", 100_000), number("FORWARD_ROUNDS", 3));
    let assets = std::env::var("FORWARD_ASSETS").unwrap_or_else(|_| "1,20,200".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!(
        "{:>8} {:>16} {:>16} {:>8} {:>16}   events/s, median of {rounds} rounds of {events} events",
        "assets", "bare loop", "forwarder", "ratio", "plain NATS"
    );
    for assets in assets.split(',').filter_map(|text| text.trim().parse::<u64>().ok()) {
        let topic = unique("bench-forward");
        runtime.block_on(make_topic(&kafka, &topic, number("FORWARD_PARTITIONS", 3)));
        fill(&kafka, &topic, events, assets);
        let (mut bare, mut ours, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            runtime.block_on(empty_stream(&nats));
            bare.push(runtime.block_on(bare_loop(&kafka, &nats, &topic, events)));
            runtime.block_on(empty_stream(&nats));
            ours.push(runtime.block_on(forwarder(&kafka, &nats, &topic, events, route())));
            plain.push(runtime.block_on(forwarder(&kafka, &nats, &topic, events, Route { jetstream: false, ..route() })));
        }
        let (bare, ours, plain) = (median(bare), median(ours), median(plain));
        println!("{assets:>8} {bare:>16.0} {ours:>16.0} {:>8.2} {plain:>16.0}", ours / bare);
    }
    runtime.shutdown_background();
}

fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("{name}-{now}")
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
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
