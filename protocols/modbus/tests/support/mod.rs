//! Devices that misbehave on demand, and an edge that listens.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod foreign;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use asset_stream::document::{Document, Environment, Problems};
use asset_stream::{Event, Sample};
use gateway::{Actions, Batch, DeviceLink, DeviceStatus, Ending, Gateway, Outcome, Request, SampleReceiver};
use gateway_modbus::{Buses, Config, ModbusGateway, parse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connector section.
pub fn config(yaml: &str) -> Config {
    let (problems, environment) = (Problems::new(), Environment::empty());
    let document = Document::parse("device.yaml", yaml.as_bytes(), &problems).expect("valid YAML");
    let config = parse(document.root(&environment, &problems));
    drop(document);
    let problems: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    assert_eq!(problems, Vec::<String>::new(), "{yaml}");
    config.expect("no problems")
}

/// What a device was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub unit: u8,
    pub function: u8,
    pub start: u16,
    /// How many are read or written; or what is written where that is one.
    pub count: u16,
    /// The second mask of function 22.
    pub or: u16,
    /// How many were asked before, over all connections.
    pub number: usize,
}

impl Question {
    pub fn holds(&self, address: u16) -> bool {
        (u32::from(self.start)..u32::from(self.start) + u32::from(self.count)).contains(&u32::from(address))
    }

    /// The right answer: each register holds its own address, each bit is on where its address is odd.
    pub fn right(&self) -> Reaction {
        self.with(|address| address)
    }

    /// An answer with the given registers.
    pub fn with(&self, register: impl Fn(u16) -> u16) -> Reaction {
        let addresses = (0..self.count).map(|i| self.start.wrapping_add(i));
        let data: Vec<u8> = match self.function {
            1 | 2 => {
                let mut bytes = vec![0; usize::from(self.count).div_ceil(8)];
                addresses.enumerate().for_each(|(i, address)| bytes[i / 8] |= ((register(address) & 1) as u8) << (i % 8));
                bytes
            }
            _ => addresses.flat_map(|address| register(address).to_be_bytes()).collect(),
        };
        let mut pdu = vec![self.function, data.len() as u8];
        pdu.extend(data);
        Reaction::Answer(pdu)
    }

    /// Whether it writes.
    pub fn writes(&self) -> bool {
        matches!(self.function, 5 | 6 | 15 | 16 | 22)
    }

    /// What a device says that has written.
    pub fn done(&self) -> Reaction {
        let mut pdu = vec![self.function];
        pdu.extend(self.start.to_be_bytes());
        pdu.extend(self.count.to_be_bytes());
        if self.function == 22 {
            pdu.extend(self.or.to_be_bytes());
        }
        Reaction::Answer(pdu)
    }

    pub fn exception(&self, code: u8) -> Reaction {
        Reaction::Answer(vec![self.function | 0x80, code])
    }
}

/// What a device does about a question.
pub enum Reaction {
    /// Answers with this PDU.
    Answer(Vec<u8>),
    /// The same, later.
    Late(Duration, Vec<u8>),
    /// Sends these bytes as they are.
    Raw(Vec<u8>),
    /// Answers as if another question had been asked: with another transaction id, or from another unit.
    Astray(Vec<u8>),
    /// Says nothing.
    Silence,
    /// Ends the connection.
    Close,
    /// Answers, then ends the connection.
    AnswerAndClose(Vec<u8>),
}

impl Reaction {
    pub fn late(self, by: Duration) -> Self {
        match self {
            Self::Answer(pdu) => Self::Late(by, pdu),
            other => other,
        }
    }

    pub fn pdu(self) -> Vec<u8> {
        match self {
            Self::Answer(pdu) => pdu,
            _ => panic!("no answer"),
        }
    }
}

type React = dyn Fn(Question) -> Reaction + Send + Sync;

/// A device's behaviour, which can be exchanged while it runs, and what it was asked.
#[derive(Clone)]
pub struct Behaviour {
    react: Arc<Mutex<Arc<React>>>,
    asked: Arc<Mutex<Vec<Question>>>,
}

impl Behaviour {
    pub fn new(react: impl Fn(Question) -> Reaction + Send + Sync + 'static) -> Self {
        Self { react: Arc::new(Mutex::new(Arc::new(react))), asked: Arc::default() }
    }

    pub fn change(&self, react: impl Fn(Question) -> Reaction + Send + Sync + 'static) {
        *self.react.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(react);
    }

    /// What was to be written.
    pub fn written(&self) -> Vec<Question> {
        self.asked().into_iter().filter(Question::writes).collect()
    }

    pub fn asked(&self) -> Vec<Question> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn react(&self, unit: u8, pdu: &[u8]) -> Reaction {
        let word = |i: usize| u16::from_be_bytes([pdu[i], pdu[i + 1]]);
        let question = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let or = if pdu[0] == 22 { word(5) } else { 0 };
            let question = Question { unit, function: pdu[0], start: word(1), count: word(3), or, number: asked.len() };
            asked.push(question);
            question
        };
        let react = self.react.lock().unwrap_or_else(PoisonError::into_inner).clone();
        react(question)
    }
}

/// Something at work that ends with its handle.
pub struct Running(pub JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A Modbus TCP device.
pub struct TcpDevice {
    pub port: u16,
    pub behaviour: Behaviour,
    running: Option<Running>,
}

impl TcpDevice {
    pub async fn start(behaviour: Behaviour) -> Self {
        let mut device = Self { port: 0, behaviour, running: None };
        device.restart().await;
        device
    }

    /// A port on which nobody listens yet.
    pub async fn absent(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        Self { port: listener.local_addr().expect("bound").port(), behaviour, running: None }
    }

    /// Ends every connection and refuses new ones.
    pub fn stop(&mut self) {
        self.running = None;
    }

    pub async fn restart(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "port {}: {error}", self.port),
            }
            sleep(Duration::from_millis(10)).await;
        };
        self.port = listener.local_addr().expect("bound").port();
        let behaviour = self.behaviour.clone();
        self.running = Some(Running(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.expect("accepts");
                        let behaviour = behaviour.clone();
                        connections.spawn(async move { serve_tcp(stream, behaviour).await.ok() });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        })));
    }
}

async fn serve_tcp(mut stream: tokio::net::TcpStream, behaviour: Behaviour) -> std::io::Result<()> {
    loop {
        let mut header = [0; 7];
        stream.read_exact(&mut header).await?;
        let mut pdu = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]])) - 1];
        stream.read_exact(&mut pdu).await?;
        let frame = |pdu: &[u8], transaction: u8| {
            let length = (pdu.len() as u16 + 1).to_be_bytes();
            let mut frame = vec![header[0], header[1] ^ transaction, 0, 0, length[0], length[1], header[6]];
            frame.extend(pdu);
            frame
        };
        match behaviour.react(header[6], &pdu) {
            Reaction::Answer(pdu) => stream.write_all(&frame(&pdu, 0)).await?,
            Reaction::Late(by, pdu) => {
                sleep(by).await;
                stream.write_all(&frame(&pdu, 0)).await?;
            }
            Reaction::Raw(bytes) => stream.write_all(&bytes).await?,
            Reaction::Astray(pdu) => stream.write_all(&frame(&pdu, 0x55)).await?,
            Reaction::Silence => {}
            Reaction::Close => return Ok(()),
            Reaction::AnswerAndClose(pdu) => {
                stream.write_all(&frame(&pdu, 0)).await?;
                return Ok(());
            }
        }
    }
}

/// A device or several on a line that carries RTU frames.
pub async fn serve_rtu(mut line: impl AsyncRead + AsyncWrite + Unpin, behaviour: Behaviour) -> std::io::Result<()> {
    loop {
        let mut request = vec![0; 8];
        line.read_exact(&mut request).await?;
        let rest = match request[1] {
            15 | 16 => 1 + usize::from(request[6]),
            22 => 2,
            _ => 0,
        };
        request.resize(8 + rest, 0);
        line.read_exact(&mut request[8..]).await?;
        let end = request.len() - 2;
        assert_eq!(crc(&request[..end]).to_le_bytes(), request[end..], "the gateway sends whole frames: {request:02x?}");
        let frame = |pdu: &[u8], unit: u8| {
            let mut frame = vec![unit];
            frame.extend(pdu);
            frame.extend(crc(&frame).to_le_bytes());
            frame
        };
        match behaviour.react(request[0], &request[1..end]) {
            Reaction::Answer(pdu) => line.write_all(&frame(&pdu, request[0])).await?,
            Reaction::Late(by, pdu) => {
                sleep(by).await;
                line.write_all(&frame(&pdu, request[0])).await?;
            }
            Reaction::Raw(bytes) => line.write_all(&bytes).await?,
            Reaction::Astray(pdu) => line.write_all(&frame(&pdu, request[0] ^ 0x55)).await?,
            Reaction::Silence => {}
            Reaction::Close | Reaction::AnswerAndClose(_) => return Ok(()),
        }
    }
}

fn crc(bytes: &[u8]) -> u16 {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc
}

/// A gateway at work and everything that it told.
pub struct Edge {
    samples: SampleReceiver,
    /// What becomes of what the gateway tells.
    pub outcome: Outcome,
    told: Vec<Sample>,
    pub status: Arc<DeviceStatus>,
    pub actions: Arc<dyn Actions>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Edge {
    pub fn start(yaml: &str, buses: &Buses) -> Self {
        let gateway = ModbusGateway::new(config(yaml), buses).expect("no contradiction");
        let (sender, samples) = gateway::channel(1 << 24);
        let link = DeviceLink::new("device", "DEVICE", sender);
        let (status, stop) = (link.status().clone(), CancellationToken::new());
        let actions = gateway.actions();
        let run = gateway.run(link, stop.clone());
        let running = tokio::spawn(async move {
            run.await;
            drop(gateway);
        });
        Self { samples, outcome: Outcome::Durable, told: Vec::new(), status, actions, stop, running }
    }

    /// All values told of an item so far, as JSON; bad ones as their status.
    pub fn values(&self, id: &str) -> Vec<String> {
        self.told.iter().filter(|sample| &*sample.item.id == id).map(show).collect()
    }

    /// The last value told of each item.
    pub fn state(&self) -> HashMap<String, String> {
        self.told.iter().map(|sample| (sample.item.id.to_string(), show(sample))).collect()
    }

    pub fn told(&self) -> &[Sample] {
        &self.told
    }

    /// Takes what was told until the condition holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            match timeout_at(deadline, self.samples.recv()).await {
                Ok(Some(batch)) => self.take(batch),
                Ok(None) => panic!("the gateway ended before {what}: {}", self.explain()),
                Err(_) => panic!("waited too long for {what}: {}", self.explain()),
            }
        }
    }

    /// Takes what is told while waiting for something outside.
    pub async fn watch(&mut self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "waited too long for {what}: {}", self.explain());
            if let Ok(Some(batch)) = timeout_at(Instant::now() + Duration::from_millis(5), self.samples.recv()).await {
                self.take(batch);
            }
        }
    }

    /// Writes a variable when the device is there, while what is told is taken.
    pub async fn write(&mut self, variable: &str, value: &str) -> Ending {
        let (actions, request) = (self.actions.clone(), write(variable, value));
        let written = async {
            actions.ready().await;
            actions.execute(&request).await
        };
        self.meanwhile(written).await
    }

    /// Takes what is told until something outside is done.
    pub async fn meanwhile<T>(&mut self, outside: impl Future<Output = T>) -> T {
        let mut outside = std::pin::pin!(tokio::time::timeout(PATIENCE, outside));
        loop {
            tokio::select! {
                done = &mut outside => return done.unwrap_or_else(|_| panic!("waited too long: {}", self.explain())),
                Some(batch) = self.samples.recv() => self.take(batch),
            }
        }
    }

    fn take(&mut self, mut batch: Batch) {
        self.told.extend(batch.take_samples());
        batch.finish(self.outcome);
    }

    fn explain(&self) -> String {
        let told: Vec<String> = self.told.iter().map(|sample| format!("{}={}", sample.item.id, show(sample))).collect();
        format!("told {}; last error {:?}", told.join(" "), self.status.last_error())
    }

    pub async fn stop(mut self) -> Vec<Sample> {
        self.stop.cancel();
        (&mut self.running).await.expect("the gateway does not panic");
        std::mem::take(&mut self.told)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.cancel();
        self.running.abort();
    }
}

/// The request that writes a variable.
pub fn write(variable: &str, value: &str) -> Request {
    Request { method: variable.to_owned(), arguments: vec![("value".to_owned(), value.to_owned())] }
}

fn show(sample: &Sample) -> String {
    let mut json = Vec::new();
    sample.encode(&mut json);
    let event = Event::decode(&json).expect("an event");
    match &sample.quality {
        asset_stream::Quality::Bad(status) => status.to_string(),
        _ => event.value.to_string(),
    }
}
