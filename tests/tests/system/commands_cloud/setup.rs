//! What the tests of commands share: a topic, senders that know nothing of us, and the service.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use asset_stream::command::Command;
use asset_stream::{Timestamp, command};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value as Json, json};
use system_tests::kafka::{self, Broker};
use system_tests::process::{self, Process};
use system_tests::wait::{self, Look};
use system_tests::{http, ports, tools};

pub(super) const MAX: Duration = Duration::from_secs(60);
pub(super) const PARTITIONS: i32 = 3;

/// An asset stream of its own, and a config for the service and for people.
pub(super) struct Setup {
    pub(super) broker: Broker,
    pub(super) folder: tempfile::TempDir,
    pub(super) topic: String,
    pub(super) config: PathBuf,
    status: u16,
    producer: BaseProducer,
}

impl Setup {
    /// `more`: further lines of the config, in the section `[commands]` first.
    pub(super) fn new(name: &str, more: &str) -> anyhow::Result<Self> {
        Self::on(Broker::shared()?, name, more)
    }

    pub(super) fn on(broker: Broker, name: &str, more: &str) -> anyhow::Result<Self> {
        let bootstrap = broker.bootstrap();
        let topic = format!("{name}-{}-{}", std::process::id(), wait::now());
        kafka::create_topic(&bootstrap, &topic, PARTITIONS, &[])?;
        let (folder, status) = (tempfile::tempdir()?, ports::free()?);
        let config = folder.path().join("cloud.toml");
        let text = format!(
            "[kafka]\nbrokers = [\"{bootstrap}\"]\n[commands]\ngroup = \"{topic}\"\ninstance = \"one\"\nassets_topic = \"{topic}\"\n\
             commands_topic = \"{topic}-cmds\"\nstatus_listen = \"127.0.0.1:{status}\"\n{more}\n"
        );
        std::fs::write(&config, text)?;
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", bootstrap).set("partitioner", "murmur2_random").set("enable.idempotence", "true");
        Ok(Self { broker, folder, topic, config, status, producer: settings.create()? })
    }

    /// Starts another one beside it, of this name.
    pub(super) fn serve_as(&self, instance: &str, log: &str) -> anyhow::Result<Process> {
        let listen = format!("127.0.0.1:{}", ports::free()?);
        let arguments =
            ["commands", "--config", &self.config.to_string_lossy(), "--instance", instance, "--status-listen", &listen].map(str::to_owned);
        Process::start("openfactory-cloud commands", &tools::built("openfactory-cloud")?, &arguments, &[], &self.folder.path().join(log))
    }

    /// Starts the service.
    pub(super) fn serve(&self) -> anyhow::Result<Process> {
        let arguments = ["commands", "--config", &self.config.to_string_lossy()].map(str::to_owned);
        Process::start("openfactory-cloud commands", &tools::built("openfactory-cloud")?, &arguments, &[], &self.folder.path().join("log"))
    }

    /// Runs a command of a person; its exit code and what it printed.
    pub(super) fn person(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        let config = self.config.to_string_lossy();
        process::run(&tools::built("openfactory-cloud")?, &[arguments, &["--config", &config]].concat(), MAX)
    }

    /// What the service's status page says.
    pub(super) fn status(&self) -> anyhow::Result<Json> {
        let (_, body) = http::get(self.status, "/status")?;
        serde_json::from_str(&body).with_context(|| format!("the status page gave no JSON: {body}"))
    }

    /// Writes a record as any Kafka client does.
    pub(super) fn write(&self, asset: &str, value: &str, headers: OwnedHeaders) -> anyhow::Result<()> {
        self.producer.send(BaseRecord::to(&self.topic).key(asset).payload(value).headers(headers)).map_err(|(error, _)| error)?;
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// As [`Self::write`], at a time in Unix ms.
    pub(super) fn write_at(&self, asset: &str, value: &str, time: i64) -> anyhow::Result<()> {
        let record = BaseRecord::to(&self.topic).key(asset).payload(value).timestamp(time);
        self.producer.send(record).map_err(|(error, _)| error)?;
        Ok(())
    }

    pub(super) fn flush(&self) -> anyhow::Result<()> {
        Ok(self.producer.flush(MAX)?)
    }

    /// A command as existing clients write it.
    pub(super) fn command(&self, asset: &str, method: &str, id: &str) -> anyhow::Result<()> {
        let envelope = json!({"header": {"correlation_id": id, "sender_uuid": "HMI-1", "timestamp": Timestamp::now().to_string(), "signature": null},
                              "arguments": {"x": "10"}});
        self.write(asset, &event(&command::id(method), &envelope.to_string()), OwnedHeaders::new())
    }

    /// Everything that a reader of what is committed finds in a topic.
    pub(super) fn committed<T>(&self, topic: &str, mut see: impl FnMut(&BorrowedMessage<'_>) -> Option<T>) -> anyhow::Result<Vec<T>> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", self.broker.bootstrap())
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer = settings.create()?;
        let mut places = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            places.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&places)?;
        let (mut seen, mut ended) = (Vec::new(), 0);
        wait::until("the topic is read to its end", MAX, || {
            // Without a pause while there is something.
            while let Some(polled) = consumer.poll(Duration::from_millis(20)) {
                match polled {
                    Ok(message) => seen.extend(see(&message)),
                    Err(KafkaError::PartitionEOF(_)) => ended += 1,
                    // Nobody has made the topic yet.
                    Err(KafkaError::MessageConsumption(Code::UnknownTopicOrPartition)) => return Ok(Look::Done(())),
                    // Nobody is there; the client connects again.
                    Err(KafkaError::MessageConsumption(Code::BrokerTransportFailure | Code::AllBrokersDown)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(if ended >= PARTITIONS { Look::Done(()) } else { Look::Waiting(format!("{} records", seen.len())) })
        })?;
        Ok(seen)
    }

    /// Waits until as many commands were copied as ever were written.
    pub(super) fn wait_copied(&self, count: usize) -> anyhow::Result<()> {
        wait::until(&format!("{count} commands are copied"), MAX, || {
            let there = self.committed(&self.commands_topic(), |_| Some(()))?.len();
            ensure!(there <= count, "{there} commands stand in the topic, {count} were written");
            Ok(if there == count { Look::Done(()) } else { Look::Waiting(format!("{there} are")) })
        })
    }

    pub(super) fn commands_topic(&self) -> String {
        format!("{}-cmds", self.topic)
    }

    /// Waits for a command in the asset stream that was given by someone else than this test; gives it with its ID.
    pub(super) fn wait_command(&self, asset: &str) -> anyhow::Result<(String, Command)> {
        wait::until(&format!("there is a command for {asset}"), MAX, || {
            let found = self.committed(&self.topic, |message| {
                let event = asset_stream::Event::decode(message.payload()?).ok()?;
                (message.key()? == asset.as_bytes()).then(|| Command::from_event(&event).ok())?
            })?;
            Ok(found.into_iter().next_back().map_or_else(|| Look::Waiting("there is none".into()), Look::Done))
        })
    }
}

/// An event as existing clients write it.
pub(super) fn event(id: &str, value: &str) -> String {
    let now = Timestamp::now().to_string();
    json!({"ID": id, "VALUE": value, "TAG": "Method.Command", "TYPE": "OpenFactory", "attributes": {"timestamp": now}}).to_string()
}
