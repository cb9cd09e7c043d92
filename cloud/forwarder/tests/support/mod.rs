//! Real servers and a writer for the tests: Kafka from outside, NATS servers of our own.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::{self, stream::RawMessageErrorKind};
use cloud_forwarder::config::{Cluster, Forward, Route, Stream};
use futures::StreamExt;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A deadline that a slow machine meets, too.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// Where Kafka and the NATS server's program are; `None` when the environment says that tests with servers are not wanted.
pub(crate) fn servers() -> Option<(String, PathBuf)> {
    service::tls::install_ring();
    if std::env::var_os("RUST_LOG").is_some() {
        // Set up by another test of this process already.
        service::logging::init(None).ok();
    }
    if std::env::var("OPENFACTORY_SKIP_SERVERS").is_ok_and(|skip| skip == "1") {
        println!("skipped: OPENFACTORY_SKIP_SERVERS=1");
        return None;
    }
    let get = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| {
            panic!(
                "{name} is not set: type eval \"$(./dev env)\", and run the tests under target/debug/with-kafka; ./dev test does both. \
                 OPENFACTORY_SKIP_SERVERS=1 skips the tests that need servers."
            )
        })
    };
    Some((get("OPENFACTORY_KAFKA"), get("OPENFACTORY_NATS_SERVER").into()))
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    format!("{name}-{now}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for a condition, and says what it saw last if it does not come.
pub(crate) async fn wait_until<T: std::fmt::Debug>(what: &str, mut look: impl AsyncFnMut() -> T, enough: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        let seen = look().await;
        if enough(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: not within {LONG:?}; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A NATS server with JetStream in a folder of its own; killed on drop.
pub(crate) struct Nats {
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    extra: Vec<String>,
}

impl Nats {
    pub(crate) fn start(program: &Path) -> Self {
        Self::start_with(program, "")
    }

    /// With more lines in its config.
    pub(crate) fn start_with(program: &Path, config: &str) -> Self {
        let folder = tempfile::tempdir().expect("temp folder");
        let file = folder.path().join("nats.conf");
        std::fs::write(&file, config).expect("temp file");
        let mut nats = Self { program: program.into(), folder, port: 0, child: None, extra: vec!["-c".into(), file.display().to_string()] };
        nats.run("-1");
        nats.port = nats.told_port();
        nats
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster { urls: vec![self.url()], ..Cluster::default() }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// Starts again on the same port, with what its disk holds.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.run(&self.port.to_string());
        let deadline = Instant::now() + LONG;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "nats-server does not listen on {}", self.port);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn run(&mut self, port: &str) {
        let folder = self.folder.path();
        let child = Command::new(&self.program)
            .args(["-a", "127.0.0.1", "-p", port, "-js", "-sd"])
            .arg(folder.join("store"))
            .arg("--ports_file_dir")
            .arg(folder)
            .args(&self.extra)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
    }

    fn told_port(&self) -> u16 {
        let pid = self.child.as_ref().expect("running").id();
        let deadline = Instant::now() + LONG;
        loop {
            let files = std::fs::read_dir(self.folder.path()).expect("temp folder").flatten();
            let told = files.filter(|file| file.file_name().to_string_lossy().ends_with(&format!("_{pid}.ports"))).find_map(|file| {
                let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
                json["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
            });
            if let Some(port) = told {
                return port;
            }
            assert!(Instant::now() < deadline, "nats-server does not tell its port");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) async fn client(&self) -> async_nats::Client {
        // A subscriber whose queue is full loses messages: make it larger than any test's load.
        let options = async_nats::ConnectOptions::new().subscription_capacity(500_000);
        options.connect(self.url()).await.expect("nats-server answers")
    }

    /// Every message of a stream, in its order; empty if there is none. Each is asked for: a consumer of nats-server 2.9 that follows a
    /// stream of three servers may wait for the last message for ever.
    pub(crate) async fn stream(&self, name: &str) -> Vec<async_nats::Message> {
        let context = jetstream::new(self.client().await);
        let Ok(stream) = context.get_stream(name).await else { return Vec::new() };
        let state = &stream.cached_info().state;
        let numbers = if state.messages == 0 { 1..1 } else { state.first_sequence..state.last_sequence + 1 };
        let get = async |number| match stream.get_raw_message(number).await {
            Ok(message) => Some(async_nats::Message {
                subject: message.subject,
                reply: None,
                length: message.payload.len(),
                payload: message.payload,
                headers: Some(message.headers),
                status: None,
                description: None,
            }),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => None,
            // Counts as missing: while servers elect a leader, nobody answers.
            Err(error) => {
                eprintln!("message {number} of {name}: {error}");
                None
            }
        };
        futures::stream::iter(numbers).map(get).buffered(256).filter_map(async |message| message).collect().await
    }

    /// How many messages a stream holds.
    pub(crate) async fn count(&self, name: &str) -> u64 {
        let context = jetstream::new(self.client().await);
        match context.get_stream(name).await {
            Ok(stream) => stream.cached_info().state.messages,
            Err(_) => 0,
        }
    }
}

impl Nats {
    /// Waits until a stream of [`route`]'s subjects has forgotten the ids that it took: ids go in the order in which they came.
    pub(crate) async fn forget_ids(&self, name: &str) {
        let (context, id) = (jetstream::new(self.client().await), unique("probe"));
        let publish = async || {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
            let ack = context.publish_with_headers("ofa.PROBE.id", headers, "".into()).await.expect("sent");
            ack.await.expect("acknowledged").duplicate
        };
        assert!(!publish().await, "the first of its id");
        wait_until("the ids are forgotten", publish, |is_duplicate| !is_duplicate).await;
        context.get_stream(name).await.expect("the stream").purge().filter("ofa.PROBE.id").await.expect("purged");
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes events as an edge does.
pub(crate) struct Edge {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
    pub(crate) id: String,
    epoch: u64,
    sequence: u64,
    assets: BTreeMap<String, u64>,
    /// Of the records, in Unix milliseconds.
    pub(crate) time: i64,
}

impl Edge {
    pub(crate) fn new(kafka: &str, topic: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .expect("a producer");
        Self {
            producer,
            topic: topic.into(),
            id: "edge-01".into(),
            epoch: 1_769_528_223_000,
            sequence: 0,
            assets: BTreeMap::new(),
            time: 1_769_528_223_871,
        }
    }

    /// The same edge with a client of its own, which knows nothing of a topic's former life.
    pub(crate) fn go_on(self, kafka: &str) -> Self {
        let Self { topic, epoch, sequence, assets, .. } = self;
        Self { epoch, sequence, assets, ..Self::new(kafka, &topic) }
    }

    /// Writes the asset's next event, and tells its of-seq and of-asset-seq.
    pub(crate) fn write(&mut self, asset: &str, item: &str) -> (u64, u64) {
        self.sequence += 1;
        let n = self.assets.entry(asset.into()).or_default();
        *n += 1;
        let (sequence, n) = (self.sequence, *n);
        self.write_as(asset, item, sequence, n);
        (sequence, n)
    }

    /// Writes an event with given numbers, e.g. again.
    pub(crate) fn write_as(&self, asset: &str, item: &str, sequence: u64, n: u64) {
        self.write_with(asset, item, sequence, n, &[]);
    }

    /// The same, marked as late.
    pub(crate) fn write_resent(&self, asset: &str, item: &str, sequence: u64, n: u64) {
        self.write_with(asset, item, sequence, n, &[("of-resent", "true")]);
    }

    /// The same, marked as replayed.
    pub(crate) fn write_replayed(&self, asset: &str, item: &str, sequence: u64, n: u64) {
        self.write_with(asset, item, sequence, n, &[("of-replay", "1795669022304")]);
    }

    fn write_with(&self, asset: &str, item: &str, sequence: u64, n: u64, more: &[(&str, &str)]) {
        let value = format!(
            r#"{{"ID":"{item}","VALUE":{n},"TAG":"Temperature","TYPE":"Samples","attributes":{{"timestamp":"2026-01-27T15:37:03.871Z"}}}}"#
        );
        let (sequence, n) = (format!("{}:{sequence}", self.epoch), format!("{}:{n}", self.epoch));
        let headers = [("of-edge", &*self.id), ("of-seq", &*sequence), ("of-asset-seq", &*n)]
            .iter()
            .chain(more)
            .fold(OwnedHeaders::new(), |headers, &(key, value)| headers.insert(Header { key, value: Some(value) }));
        self.send(Some(asset), value.as_bytes(), headers);
    }

    /// Writes any record.
    pub(crate) fn write_raw(&self, key: Option<&str>, value: &[u8]) {
        self.send(key, value, OwnedHeaders::new());
    }

    fn send(&self, key: Option<&str>, value: &[u8], headers: OwnedHeaders) {
        let mut record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&self.topic).payload(value).headers(headers).timestamp(self.time);
        record.key = key;
        self.producer.send(record).map_err(|(error, _)| error).expect("the producer's queue has room");
    }

    /// Waits until Kafka holds everything.
    pub(crate) fn flush(&self) {
        self.producer.flush(LONG).expect("Kafka takes the events");
    }
}

/// Makes a topic with this many partitions.
pub(crate) async fn make_topic(kafka: &str, topic: &str, partitions: i32) {
    make_topic_with(kafka, topic, partitions, &[]).await;
}

/// With a configuration, e.g. `max.message.bytes`.
pub(crate) async fn make_topic_with(kafka: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", kafka).create().expect("an admin client");
    // The times of the records are long past: by default a broker drops them when it looks next, half a minute after its start.
    let mut topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    for (key, value) in config {
        topic = topic.set(key, value);
    }
    let made = admin.create_topics([&topic], &AdminOptions::new()).await.expect("Kafka answers");
    made.into_iter().for_each(|result| {
        result.expect("the topic is made");
    });
}

/// Deletes a topic, and waits until its name is free.
pub(crate) async fn delete_topic(kafka: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", kafka).create().expect("an admin client");
    let deleted = admin.delete_topics(&[topic], &AdminOptions::new()).await.expect("Kafka answers");
    deleted.into_iter().for_each(|result| {
        result.expect("the topic is deleted");
    });
    let is_there =
        async || admin.inner().fetch_metadata(None, LONG).is_ok_and(|all| all.topics().iter().any(|found| found.name() == topic));
    wait_until("the topic is gone", is_there, |is_there| !is_there).await;
}

/// Lets Kafka drop all records of the first partition, as its retention does.
pub(crate) async fn drop_records(kafka: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", kafka).create().expect("an admin client");
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, 0, Offset::End).expect("an offset");
    admin.delete_records(&all, &AdminOptions::new()).await.expect("Kafka answers");
}

/// What a group committed of a topic's first partition.
pub(crate) fn committed(kafka: &str, group: &str, topic: &str) -> TopicPartitionList {
    let mut place = TopicPartitionList::new();
    place.add_partition(topic, 0);
    member_of(kafka, group).committed_offsets(place, LONG).expect("Kafka answers")
}

/// Commits places for a group, as soon as Kafka knows that its members are gone.
pub(crate) async fn commit(kafka: &str, group: &str, places: &TopicPartitionList) {
    let member = member_of(kafka, group);
    let commit = async || member.commit(places, CommitMode::Sync).map_err(|error| error.to_string());
    wait_until("the places are committed", commit, Result::is_ok).await.expect("waited for");
}

fn member_of(kafka: &str, group: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", kafka).set("group.id", group).create().expect("a consumer")
}

/// A forwarder's config for one topic into one cluster.
pub(crate) fn config(kafka: &str, topic: &str, route: Route, clusters: &[(&str, &Nats)]) -> cloud_forwarder::Config {
    let forward = Forward {
        group: format!("group-{topic}"),
        instance: Some("forwarder-1".into()),
        dead_letter_topic: format!("{topic}-dead"),
        ack_timeout: Duration::from_secs(2),
        routes: BTreeMap::from([(topic.to_owned(), route)]),
        ..Forward::default()
    };
    let clusters = clusters.iter().map(|(name, nats)| ((*name).to_owned(), nats.cluster())).collect();
    cloud_forwarder::Config { kafka: service::kafka::Config::plain(kafka), clusters, forward }
}

/// A route into a small stream.
pub(crate) fn route() -> Route {
    Route { stream: Stream { name: STREAM.into(), max_bytes: 256 << 20, ..Stream::default() }, ..Route::default() }
}

/// The stream of [`route`].
pub(crate) const STREAM: &str = "EVENTS";

/// What is wrong with the messages: each asset's numbers have to be 1, 2, 3, … to the number that was written.
pub(crate) fn harm(messages: &[async_nats::Message], written: &BTreeMap<String, u64>) -> Vec<String> {
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in messages {
        let subject = message.subject.strip_prefix("ofa.").unwrap_or(&message.subject);
        let asset = subject.split('.').next().expect("a token").to_owned();
        let header = message.headers.as_ref().and_then(|h| h.get("of-asset-seq")).expect("an event of an edge").as_str();
        seen.entry(asset).or_default().push(header.rsplit(':').next().expect("a number").parse().expect("a number"));
    }
    let mut harm = Vec::new();
    for (asset, count) in written {
        let numbers = seen.remove(asset).unwrap_or_default();
        let expected: Vec<u64> = (1..=*count).collect();
        if numbers != expected {
            let first = numbers.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(numbers.len().min(expected.len()));
            let around = &numbers[first.saturating_sub(3)..numbers.len().min(first + 6)];
            harm.push(format!("{asset}: {} of {count}, wrong from place {first}: {around:?}", numbers.len()));
        }
    }
    harm.extend(seen.into_keys().map(|asset| format!("{asset} was never written")));
    harm
}

impl Edge {
    /// How many events of each asset were written.
    pub(crate) fn written(&self) -> &BTreeMap<String, u64> {
        &self.assets
    }
}

/// Three servers that form a cluster.
pub(crate) fn three(program: &Path) -> [Nats; 3] {
    // They have to know each other's ports before the first starts; held until then, so that they are three different free ones.
    let held = [0, 1, 2].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let ports = held.map(|listener| listener.local_addr().expect("bound").port());
    let routes = ports.map(|port| format!("\"nats-route://127.0.0.1:{port}\"")).join(", ");
    let mut n = 0;
    ports.map(|port| {
        n += 1;
        Nats::start_with(
            program,
            &format!("server_name: n{n}\ncluster {{ name: three, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n"),
        )
    })
}

/// Stands between a client and a server, and cuts connections with what is in them.
pub(crate) struct Wire {
    port: u16,
    cut: tokio::sync::watch::Sender<u64>,
}

impl Wire {
    pub(crate) async fn to(nats: &Nats) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (port, server) = (listener.local_addr().expect("bound").port(), nats.port);
        let (cut, cuts) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            // Ends with the test's runtime.
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut server) = tokio::net::TcpStream::connect(("127.0.0.1", server)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { port, cut }
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster { urls: vec![format!("nats://127.0.0.1:{}", self.port)], ..Cluster::default() }
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}
