//! What the tests share: a log with events, a topic of one's own, and a judge that reads Kafka itself.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use edge_buffer::{Appended, Entry, Log, Read};
use edge_mirror::{Config, CreateTopics, Mirror};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The broker's address; `None` if whoever runs the tests wants none that need servers.
pub(crate) fn kafka() -> Option<String> {
    let address = std::env::var("OPENFACTORY_KAFKA").ok().filter(|address| !address.is_empty());
    if address.is_none() && std::env::var("OPENFACTORY_SKIP_SERVERS").is_ok_and(|value| value == "1") {
        println!("skipped: OPENFACTORY_SKIP_SERVERS is set, and OPENFACTORY_KAFKA names no broker");
        return None;
    }
    let remedy =
        "type `eval \"$(./dev env)\"` and run the tests under target/debug/with-kafka, or leave them out by OPENFACTORY_SKIP_SERVERS=1";
    Some(address.unwrap_or_else(|| panic!("OPENFACTORY_KAFKA does not name a Kafka broker: {remedy}")))
}

pub(crate) fn wait_until(what: &str, mirror: &Mirror, condition: impl FnMut() -> bool) {
    wait_until_for(what, PATIENCE, || format!("{:#?}", mirror.status()), condition);
}

pub(crate) fn wait_until_for(what: &str, max: Duration, state: impl Fn() -> String, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + max;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {max:?}: {what}; last seen: {}", state());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A name that no other test and no earlier run has.
pub(crate) fn fresh(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed), epoch_millis())
}

fn epoch_millis() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis()
}

/// A log in a directory of its own, which goes with it.
pub(crate) struct Bench {
    pub(crate) log: Log,
    config: edge_buffer::Config,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// The log's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// The log, and what a backup of its disk would hold now.
    pub(crate) fn with_backup(self) -> (Self, Self) {
        drop(self.log);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = edge_buffer::Config { dir: dir.path().join("log"), ..self.config };
        std::fs::create_dir(&config.dir).expect("a folder");
        for file in std::fs::read_dir(&self.config.dir).expect("the log's files") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), config.dir.join(file.file_name())).expect("copied");
        }
        (Self::open(self.config, self._dir), Self::open(config, dir))
    }

    fn open(config: edge_buffer::Config, dir: tempfile::TempDir) -> Self {
        let log = edge_buffer::open(config.clone()).expect("the log opens").log;
        Self { log, config, _dir: dir }
    }
}

pub(crate) fn open_log() -> Bench {
    open_log_with(edge_buffer::Config { segment_bytes: 8 << 20, ..edge_buffer::Config::default() })
}

pub(crate) fn open_log_with(config: edge_buffer::Config) -> Bench {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = edge_buffer::Config { dir: dir.path().join("log"), min_free: 0, ..config };
    Bench::open(config, dir)
}

/// Appends events, round robin over the assets.
pub(crate) fn append(log: &Log, count: usize, assets: usize) {
    let at = log.durable();
    let now = epoch_millis() as i64;
    let entry = |n: u64| Entry {
        key: format!("ASSET-{:03}", n as usize % assets).into(),
        timestamp: now,
        value: format!(r#"{{"ID":"temp","VALUE":{n},"TAG":"Temperature","TYPE":"Samples","attributes":{{"timestamp":"x"}}}}"#).into_bytes(),
    };
    append_entries(log, (0..count as u64).map(|i| entry(at + i + 1)).collect());
}

pub(crate) fn append_entries(log: &Log, entries: Vec<Entry>) {
    let outcome = log.append_durable(entries).expect("the log takes entries");
    assert!(matches!(outcome, Appended::Durable { .. }), "{outcome:?}");
}

/// Settings that make tests quick.
pub(crate) fn config(brokers: &str, topic: &str) -> Config {
    let mut config = Config::new(service::kafka::Config::plain(brokers), "EDGE-TEST");
    config.assets_topic = topic.into();
    config.edges_topic = format!("{topic}-edges");
    config.create_topics = CreateTopics::Create { partitions: 4, replication: 1, settings: Default::default() };
    config.request_timeout = Duration::from_millis(1500);
    config.keep_every = Duration::from_millis(50);
    config
}

pub(crate) fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().expect("an admin client")
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

pub(crate) fn create_topic(brokers: &str, topic: &str, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, 4, TopicReplication::Fixed(1));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let results = block_on(admin(brokers).create_topics([&new], &options)).expect("the broker answers");
    results.into_iter().for_each(|result| drop(result.expect("the topic is created")));
}

pub(crate) fn delete_topic(brokers: &str, topic: &str) {
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let results = block_on(admin(brokers).delete_topics(&[topic], &options)).expect("the broker answers");
    results.into_iter().for_each(|result| drop(result.expect("the topic is deleted")));
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    wait_until_for("the topic is gone", PATIENCE, String::new, || {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).expect("metadata");
        metadata.topics().iter().all(|t| t.error().is_some() || t.partitions().is_empty())
    });
}

/// A record as it stands in Kafka.
#[derive(Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) timestamp: i64,
    pub(crate) edge: String,
    pub(crate) sequence: u64,
    pub(crate) asset_sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) is_marked: bool,
    /// The value of `of-replay`.
    pub(crate) replay: Option<String>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { partition, key, sequence, asset_sequence, is_marked, replay, .. } = self;
        let size = self.value.len();
        write!(f, "event {sequence} ({key} {asset_sequence}), {size} bytes, partition {partition}, marked {is_marked}, replay {replay:?}")
    }
}

/// Everything in the topic, partition by partition.
pub(crate) fn read_all(brokers: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "judge")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("metadata");
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("a valid place");
    }
    consumer.assign(&list).expect("assigned");
    let (mut records, mut open) = (Vec::new(), list.count());
    let deadline = Instant::now() + PATIENCE;
    while open > 0 {
        assert!(Instant::now() < deadline, "{topic} cannot be read to its end");
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => records.push(record(&message)),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(e)) => println!("the judge: {e}"),
            None => {}
        }
    }
    records.sort_by_key(|record| record.partition);
    records
}

fn record(message: &impl Message) -> Record {
    let mut headers = HashMap::new();
    for header in message.headers().expect("headers").iter() {
        headers.insert(header.key.to_owned(), String::from_utf8(header.value.expect("a value").to_vec()).expect("UTF-8"));
    }
    let number = |name: &str| -> (u64, u64) {
        let (epoch, n) = headers[name].split_once(':').expect("epoch:n");
        (epoch.parse().expect("a number"), n.parse().expect("a number"))
    };
    let (epoch, sequence) = number("of-seq");
    Record {
        partition: message.partition(),
        key: String::from_utf8(message.key().expect("a key").to_vec()).expect("UTF-8"),
        value: message.payload().expect("a value").to_vec(),
        timestamp: message.timestamp().to_millis().expect("a time"),
        edge: headers["of-edge"].clone(),
        sequence,
        asset_sequence: number("of-asset-seq").1,
        epoch,
        is_marked: headers.contains_key("of-resent"),
        replay: headers.get("of-replay").cloned(),
    }
}

/// Kafka holds each event of the log once, unchanged, each asset's in order; except those that are named.
pub(crate) fn judge(records: &[Record], log: &Log, except: &[u64]) {
    let mut seen: HashMap<u64, &Record> = HashMap::new();
    let mut last: HashMap<&str, u64> = HashMap::new();
    for record in records {
        assert_eq!((record.edge.as_str(), record.epoch), ("EDGE-TEST", log.epoch()));
        let before = seen.insert(record.sequence, record);
        assert!(before.is_none(), "event {} stands twice:\n{before:?}\n{record:?}", record.sequence);
        let before = last.insert(&record.key, record.asset_sequence).unwrap_or(0);
        assert!(record.asset_sequence > before, "{}: {} stands after {before}", record.key, record.asset_sequence);
    }
    let mut reader = log.reader(0);
    loop {
        let reads = reader.next_block(1000).expect("the log can be read");
        if reads.is_empty() {
            break;
        }
        for read in reads {
            let Read::Entry(event) = read else { panic!("the log has lost something") };
            let record = seen.remove(&event.sequence);
            if except.contains(&event.sequence) {
                assert_eq!(record, None, "event {} must not stand", event.sequence);
                continue;
            }
            let record = record.unwrap_or_else(|| panic!("event {} of {} is missing", event.sequence, event.key));
            assert_eq!((&record.key, record.asset_sequence), (&event.key.to_string(), event.key_sequence));
            assert_eq!(record.timestamp, event.timestamp, "{record:?}");
            assert!(record.value[..] == event.value[..], "altered: {record:?}");
        }
    }
    assert!(seen.is_empty(), "records that the log does not know: {:?}", seen.keys());
}

/// Waits until everything in the log is acknowledged, gap events included.
pub(crate) fn wait_mirrored(mirror: &Mirror, log: &Log) {
    wait_until("everything is mirrored", mirror, || mirror.status().acknowledged == log.durable() && mirror.status().backlog == 0);
}
