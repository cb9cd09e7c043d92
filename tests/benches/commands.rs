//! A command's round trip: from a Kafka client to the device, and its end in Kafka again, beside the same write straight to the device.
//!
//! `./dev bench commands`, or `cargo bench --workspace --bench commands -- [--rounds N] [--commands N] [--json]` with the environment of `./dev env`.
//!
//! One command at a time, each written when the one before has its end. On the whole way it goes: asset stream, copier, topic of commands, claim, log,
//! device (a Modbus write, read back to confirm it), log, asset stream. The short way begins in the topic of commands. The same simulator answers
//! all three; rounds alternate.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use asset_stream::command::status::{State, Status};
use asset_stream::{Event, partition};
use clap::Parser;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use system_tests::cloud::Copier;
use system_tests::commanded::{Order, SENDER, Sender};
use system_tests::figures::{Figure, Format, Reach};
use system_tests::furnace::{FURNACE, Furnace};
use system_tests::kafka::{self, Broker, Kafka};
use system_tests::plant::Plant;

const TOPIC: &str = "bench-commands";
/// Of both topics.
const PARTITIONS: i32 = 4;
const MAX: Duration = Duration::from_secs(60);
/// Write single register: transaction 1, unit 1, register 1, and a value in the last byte.
const WRITE: [u8; 12] = [0, 1, 0, 0, 0, 6, 1, 6, 0, 1, 0, 0];

#[derive(Parser)]
struct Arguments {
    /// Of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of a round.
    #[arg(long, default_value_t = 100)]
    commands: usize,
    /// Prints objects.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Median and 99th percentile of each round, in ms.
#[derive(Default)]
struct Times {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Times {
    fn add(&mut self, mut times: Vec<Duration>) {
        times.sort();
        let at = |percent: usize| times.get(times.len() * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
        self.p50.push(at(50));
        self.p99.push(at(99));
    }
}

/// Reads the ends of commands as they come.
struct Ends(BaseConsumer);

impl Ends {
    fn open(bootstrap: &str, topic: &str) -> anyhow::Result<Self> {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", "bench").set("enable.auto.commit", "false").create()?;
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(topic, partition::of_key(FURNACE.as_bytes(), PARTITIONS), Offset::Beginning)?;
        consumer.assign(&place)?;
        Ok(Self(consumer))
    }

    fn wait(&self, id: &str) -> anyhow::Result<()> {
        let until = Instant::now() + MAX;
        while Instant::now() < until {
            let Some(message) = self.0.poll(Duration::from_millis(100)).transpose()? else { continue };
            let Ok(event) = Event::decode(message.payload().unwrap_or_default()) else { continue };
            let Some((_, Ok(status))) = Status::from_event(&event) else { continue };
            if status.correlation_id == id && status.sender_uuid == SENDER && status.state.is_end() {
                ensure!(status.state == State::Succeeded, "the command ended as {status:?}");
                return Ok(());
            }
        }
        anyhow::bail!("command {id} has no end after {MAX:?}")
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let rules = format!("[commands]\ntopic = \"{TOPIC}\"\n[[commands.allow]]\nsenders = [\"{SENDER}\"]\nsignature = \"optional\"\n");
    let mut plant = Plant::new("commands", Broker::Own(Kafka::start()?), &rules)?;
    let bootstrap = plant.kafka.bootstrap();
    kafka::create_topic(&bootstrap, TOPIC, PARTITIONS, &[])?;
    let furnace = Furnace::start(plant.folder())?;
    plant.edge.device_file("furnace", &furnace.device_file())?;
    let mut copier = Copier::start(plant.folder(), &bootstrap, plant.topic(), TOPIC)?;
    plant.edge.start()?;
    plant.edge.wait_connected(&[FURNACE.to_owned()], MAX)?;
    let ends = Ends::open(&bootstrap, plant.topic())?;
    let (through, short) = (Sender::new(&bootstrap, plant.topic())?, Sender::new(&bootstrap, TOPIC)?);
    let mut straight = TcpStream::connect(("127.0.0.1", furnace.port())).context("the furnace does not answer")?;
    straight.set_nodelay(true)?;

    let (mut whole_way, mut short_way, mut direct) = (Times::default(), Times::default(), Times::default());
    for round in 0..arguments.rounds {
        whole_way.add(give(&through, &ends, &format!("whole-{round}"), arguments.commands)?);
        short_way.add(give(&short, &ends, &format!("short-{round}"), arguments.commands)?);
        direct.add((0..arguments.commands).map(|i| write(&mut straight, i)).collect::<anyhow::Result<_>>()?);
    }
    copier.stop()?;
    plant.edge.stop()?;
    let format = Format::json(arguments.json);
    for (way, times, p50, p99) in [("asset stream", whole_way, 150.0, 400.0), ("topic of commands", short_way, 80.0, 250.0)] {
        let name = |percentile| format!("{way} -> device -> end in Kafka, {percentile}");
        let (median, most) = (Reach::More(p50), Reach::More(p99));
        Figure { name: name("p50"), unit: "ms", measured: times.p50, baseline: direct.p50.clone(), reach: median }.print(format);
        Figure { name: name("p99"), unit: "ms", measured: times.p99, baseline: direct.p99.clone(), reach: most }.print(format);
    }
    Ok(())
}

/// Commands one after the other, and how long each took to its end.
fn give(sender: &Sender, ends: &Ends, name: &str, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for i in 0..count {
        let id = format!("{name}-{i}");
        let order = Order::new(FURNACE, "valve", &*id, &[("value", if i % 2 == 0 { "1" } else { "0" })]);
        let begun = Instant::now();
        sender.give(&order)?;
        ends.wait(&id)?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// The same write without anything between.
fn write(device: &mut TcpStream, i: usize) -> anyhow::Result<Duration> {
    let mut request = WRITE;
    request[11] = u8::from(i.is_multiple_of(2));
    let (begun, mut answer) = (Instant::now(), [0; 12]);
    device.write_all(&request)?;
    device.read_exact(&mut answer)?;
    ensure!(answer == request, "the furnace answered {answer:?}");
    Ok(begun.elapsed())
}
