//! A device that can be commanded, commands as a plain Kafka client gives them, and the judge of their lives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use asset_stream::command::status::{Link, Reason, State, Status};
use asset_stream::command::{Command, Header, id};
use asset_stream::{Event, Timestamp};
use data_encoding::HEXLOWER;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sha2::{Digest as _, Sha256};

use crate::judge::sources::Topic;
use crate::process::Talking;
use crate::wait::{self, Look};
use crate::{ports, tools};

/// A simulator's start: asyncua builds its address space in Python.
const START: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(60);

/// A press with an OPC UA server and a Modbus server, which notes everything that it does.
#[derive(Debug)]
pub struct Press {
    opcua: u16,
    modbus: u16,
    journal: PathBuf,
    log: PathBuf,
    talking: Option<Talking>,
}

impl Press {
    /// Starts it; its files are in `folder`.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let (journal, log) = (folder.join("press.journal"), folder.join("press.log"));
        let mut press = Self { opcua: ports::free()?, modbus: ports::free()?, journal, log, talking: None };
        press.start_again()?;
        Ok(press)
    }

    /// Power on; the journal goes on.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let script = tools::tests_folder().join("simulators").join("commanded_device.py");
        let words = [
            script.to_string_lossy().into_owned(),
            format!("--opcua={}", self.opcua),
            format!("--modbus={}", self.modbus),
            format!("--journal={}", self.journal.display()),
        ];
        let (talking, _) = Talking::start("the press", &tools::python()?, &words, &[], &self.log, START)?;
        self.talking = Some(talking);
        Ok(())
    }

    /// Power off.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.talking.take().map_or(Ok(()), |mut talking| talking.process().kill())
    }

    /// Modbus writes are done, but not answered any more.
    pub fn mute(&mut self) -> anyhow::Result<()> {
        self.talking.as_mut().context("the press is off")?.say("pause", ANSWER).map(drop)
    }

    /// They are answered again.
    pub fn speak(&mut self) -> anyhow::Result<()> {
        self.talking.as_mut().context("the press is off")?.say("go", ANSWER).map(drop)
    }

    /// What it has done, a line for each action.
    pub fn done(&self) -> anyhow::Result<Vec<String>> {
        match std::fs::read_to_string(&self.journal) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).context("the press' journal cannot be read"),
        }
    }

    /// How often it has done what `line` names.
    pub fn times(&self, line: &str) -> anyhow::Result<usize> {
        Ok(self.done()?.iter().filter(|done| *done == line).count())
    }

    /// The device file of its two sides, PRESS-OPC and PRESS-MB. `terms`: the section `commands` of PRESS-OPC, e.g. `{}`.
    pub fn device_file(&self, terms: &str) -> String {
        format!(
            "devices:
  press-opc:
    uuid: PRESS-OPC
    commands: {terms}
    connector:
      type: opcua
      server: {{uri: \"opc.tcp://127.0.0.1:{}/\"}}
      variables:
        setpoint: {{node_id: \"ns=2;s=setpoint\", tag: Setpoint, access_level: rw}}
        door: {{node_id: \"ns=2;s=door\", tag: Door, access_level: rw}}
        valve: {{node_id: \"ns=2;s=valve\", tag: Valve}}
      methods: {{press: {{node_id: \"ns=2;s=PRESS\"}}}}
  press-mb:
    uuid: PRESS-MB
    connector:
      type: modbus
      server: {{host: 127.0.0.1, port: {}, unit_id: 1}}
      variables:
        speed: {{holding_register: 10, type: uint16, tag: Speed, access_level: rw}}
        force: {{holding_register: 20, type: float32, tag: Force, access_level: rw}}
        pressure: {{holding_register: 30, type: uint16, tag: Pressure}}
",
            self.opcua, self.modbus
        )
    }
}

/// The assets of a press.
pub fn press_assets() -> Vec<String> {
    vec!["PRESS-OPC".into(), "PRESS-MB".into()]
}

/// A plain Kafka client that gives commands.
pub struct Sender {
    producer: BaseProducer,
    topic: String,
}

/// A command as the contract's JSON has it.
#[derive(Clone, Debug)]
pub struct Order {
    /// Target.
    pub asset: &'static str,
    /// Safe name.
    pub method: &'static str,
    /// `header.correlation_id`.
    pub id: String,
    /// Names and values.
    pub arguments: Vec<(&'static str, String)>,
    /// `header.expires_at`, in ms from now; absent: left out.
    pub expires_in: Option<i64>,
}

/// Who gives them.
pub const SENDER: &str = "HMI-1";

impl Order {
    /// A command with the arguments `name=value`, good for a minute.
    pub fn new(asset: &'static str, method: &'static str, id: impl Into<String>, arguments: &[(&'static str, &str)]) -> Self {
        let arguments = arguments.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { asset, method, id: id.into(), arguments, expires_in: Some(60_000) }
    }

    /// The command of now.
    pub fn command(&self) -> Command {
        let now = wait::now();
        let header = Header {
            correlation_id: self.id.clone(),
            sender_uuid: SENDER.into(),
            timestamp: Timestamp::from_millis(now).to_string(),
            expires_at: self.expires_in.map(|ms| Timestamp::from_millis(now + ms).to_string()),
            ..Header::default()
        };
        Command { header, arguments: self.arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect() }
    }
}

impl Sender {
    /// A client that writes into this topic.
    pub fn new(bootstrap: &str, topic: &str) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "0")
            .create::<BaseProducer>()?;
        Ok(Self { producer, topic: topic.to_owned() })
    }

    /// Gives a command.
    pub fn give(&self, order: &Order) -> anyhow::Result<()> {
        self.command(order.asset, order.method, &order.command())
    }

    /// Gives a command of the test's own.
    pub fn command(&self, asset: &str, method: &str, command: &Command) -> anyhow::Result<()> {
        self.value(asset, method, &serde_json::Value::String(command.encode()))
    }

    /// Gives an event with the `ID` of a command and any `VALUE`.
    pub fn value(&self, asset: &str, method: &str, value: &serde_json::Value) -> anyhow::Result<()> {
        let event = serde_json::json!({"ID": id(method), "VALUE": value, "TAG": "Method.Command", "TYPE": "OpenFactory",
            "attributes": {"timestamp": Timestamp::from_millis(wait::now()).to_string()}});
        let text = event.to_string();
        self.producer.send(BaseRecord::to(&self.topic).key(asset).payload(&text)).map_err(|(error, _)| error)?;
        self.producer.flush(Duration::from_secs(30)).context("the command could not be given")
    }
}

/// What the asset stream tells of commands: for each, what was told of it in its order.
#[derive(Debug, Default)]
pub struct Lives {
    /// By asset, sender and correlation id.
    pub lives: BTreeMap<(String, String, String), Vec<Status>>,
    chains: BTreeMap<String, Vec<(Link, String)>>,
    malformed: Vec<String>,
}

/// Follows the lives of commands in an asset stream.
pub struct Follower {
    topic: Topic,
    lives: Lives,
}

impl Follower {
    /// From the beginning of the topic.
    pub fn open(bootstrap: &str, topic: &str) -> anyhow::Result<Self> {
        Ok(Self { topic: Topic::open(bootstrap, topic)?, lives: Lives::default() })
    }

    /// Reads up to the present end.
    pub fn read(&mut self) -> anyhow::Result<&Lives> {
        let lives = &mut self.lives;
        self.topic.read_to_end(Duration::from_secs(60), |record| {
            let Ok(event) = Event::decode(&record.value) else { return };
            let Some((_, status)) = Status::from_event(&event) else { return };
            let Ok(status) = status else { return lives.malformed.push(event.value.to_string()) };
            let text = event.value.as_str().unwrap_or_default();
            if let (Some(link), Some(edge)) = (&status.chain, record.headers.get("of-edge")) {
                lives.chains.entry(edge.clone()).or_default().push((link.clone(), text.to_owned()));
            }
            let name = (record.key.clone(), status.sender_uuid.clone(), status.correlation_id.clone());
            lives.lives.entry(name).or_default().push(status);
        })?;
        Ok(&self.lives)
    }

    /// Waits until each of these commands of [`SENDER`] has an end, and gives the lives.
    pub fn wait_ended(&mut self, asset: &str, ids: &[String], max: Duration) -> anyhow::Result<&Lives> {
        wait::until(&format!("{} commands to {asset} have an end", ids.len()), max, || {
            let lives = self.read()?;
            let open: Vec<&String> = ids.iter().filter(|id| lives.end(asset, id).is_none()).collect();
            Ok(if open.is_empty() { Look::Done(()) } else { Look::Waiting(format!("without an end: {open:?}; {:?}", lives.lives)) })
        })?;
        Ok(&self.lives)
    }

    /// The end of a single command.
    pub fn end_of(&mut self, order: &Order, max: Duration) -> anyhow::Result<Status> {
        let lives = self.wait_ended(order.asset, std::slice::from_ref(&order.id), max)?;
        lives.end(order.asset, &order.id).cloned().context("it has an end")
    }
}

impl Lives {
    /// How a command of [`SENDER`] ended, if it has.
    pub fn end(&self, asset: &str, id: &str) -> Option<&Status> {
        self.of(asset, id).iter().find(|status| status.state.is_end())
    }

    /// What was told of a command of [`SENDER`].
    pub fn of(&self, asset: &str, id: &str) -> &[Status] {
        self.lives.get(&(asset.to_owned(), SENDER.to_owned(), id.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// An error unless every command went a way that the contract knows, to exactly one end, and no chain of an edge is broken.
    pub fn expect_sound(&self) -> anyhow::Result<()> {
        ensure!(self.malformed.is_empty(), "statuses that cannot be read: {:?}", self.malformed);
        for (name, told) in &self.lives {
            let states: Vec<State> =
                told.iter().filter(|status| status.reason != Some(Reason::IdUsedTwice)).map(|status| status.state).collect();
            let Some(first) = states.first() else { continue };
            ensure!(first.is_first(), "{name:?} begins with {first}: {states:?}");
            for pair in states.windows(2) {
                ensure!(pair[0].may_become(pair[1]), "{name:?} goes from {} to {}: {states:?}", pair[0], pair[1]);
            }
            let ends = states.iter().filter(|state| state.is_end()).count();
            ensure!(ends == 1, "{name:?} has {ends} ends: {states:?}");
        }
        for (edge, links) in &self.chains {
            // Partitions are read side by side; the chain has its own order.
            let mut links = links.clone();
            links.sort_by_key(|(link, _)| link.n);
            for (i, pair) in links.windows(2).enumerate() {
                let hash = HEXLOWER.encode(&Sha256::digest(&pair[0].1));
                ensure!(pair[1].0.n == pair[0].0.n + 1, "the chain of {edge} goes from {} to {}", pair[0].0.n, pair[1].0.n);
                ensure!(pair[1].0.previous == hash, "link {} of {edge} does not fit to the one before", i + 2);
            }
            ensure!(links.first().is_none_or(|(link, _)| link.n == 1), "the chain of {edge} does not begin with 1");
        }
        Ok(())
    }
}
