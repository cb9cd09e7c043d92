//! The thread that follows what becomes of commands, for all who wait.
//!
//! It reads only partitions in which somebody waits, each from the end that it had before the command was written, and once for all of them.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use asset_stream::command::status::Status;
use asset_stream::command::{STATUS_MARK, has_mark};
use asset_stream::{Event, partition};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;
use service::error::chain;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use crate::Error;
use crate::kafka::{self, PATIENCE, Quiet};
use crate::topics;

/// Requests that the thread has not seen yet, at most.
const REQUESTS: usize = 256;
/// What one command is told that nobody has heard yet, at most. Its life has fewer steps.
const STEPS: usize = 64;
/// How long the thread looks at Kafka before it looks at requests.
const TURN: Duration = Duration::from_millis(10);
/// Records of such a turn, at most.
const BURST: usize = 1000;
/// How long it looks at requests where nobody waits.
const REST: Duration = Duration::from_millis(200);
/// A partition in which nobody waits is read for so long, as somebody else may ask for it.
const IDLE: Duration = Duration::from_secs(30);
/// Topics get more partitions once in a year.
const RECOUNT: Duration = Duration::from_secs(60);

/// What is told of a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// A step of its life.
    Step(Box<Status>),
    /// This edge has taken it.
    Claimed(String),
}

/// Which command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) asset: String,
    pub(crate) sender: String,
    pub(crate) id: String,
}

struct Request {
    name: Name,
    ready: oneshot::Sender<Result<mpsc::Receiver<Told>, Error>>,
}

/// Asks the thread; it ends with its last handle.
#[derive(Clone)]
pub(crate) struct Follower {
    requests: SyncSender<Request>,
}

impl Follower {
    pub(crate) fn start(kafka: &service::kafka::Config, topic: &str) -> Result<Self, Error> {
        let failed = |source| Error::KafkaClient { client: "follower", source };
        let consumer = kafka::following(kafka)?.create_with_context(Quiet).map_err(failed)?;
        let (requests, received) = sync_channel(REQUESTS);
        let topic = topic.to_owned();
        let following =
            Following { consumer, topic, partitions: None, waiting: HashMap::new(), followed: HashMap::new(), swept: Instant::now() };
        std::thread::Builder::new().name("follower".into()).spawn(move || following.run(&received)).map_err(Error::Thread)?;
        Ok(Self { requests })
    }

    /// Everything that is told of a command from now on: write it after this.
    pub(crate) async fn follow(&self, name: Name) -> Result<mpsc::Receiver<Told>, Error> {
        let (ready, answer) = oneshot::channel();
        match self.requests.try_send(Request { name, ready }) {
            Ok(()) => answer.await.unwrap_or(Err(Error::Panicked)),
            Err(TrySendError::Full(_)) => Err(Error::TooMany { limit: REQUESTS }),
            Err(TrySendError::Disconnected(_)) => Err(Error::Panicked),
        }
    }
}

struct Waiter {
    partition: i32,
    told: mpsc::Sender<Told>,
}

struct Following {
    consumer: BaseConsumer<Quiet>,
    topic: String,
    /// How many the topic has, and when that was asked.
    partitions: Option<(i32, Instant)>,
    waiting: HashMap<Name, Vec<Waiter>>,
    /// The partitions that are read, and when somebody waited there last.
    followed: HashMap<i32, Instant>,
    swept: Instant,
}

impl Following {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            match requests.recv_timeout(if self.followed.is_empty() { REST } else { Duration::ZERO }) {
                Ok(request) => self.answer(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(request) = requests.try_recv() {
                self.answer(request);
            }
            if !self.followed.is_empty() {
                self.read();
            }
            self.sweep();
        }
    }

    /// Reads what is there, and no more than a turn's worth: whoever asks must not wait for a stream that never pauses.
    fn read(&mut self) {
        let mut patience = TURN;
        for _ in 0..BURST {
            match self.consumer.poll(patience).map(|polled| polled.map(|message| told(&message))) {
                Some(Ok(Some((name, told)))) => self.tell(&name, &told),
                Some(Ok(None)) => {}
                // The client connects anew by itself.
                Some(Err(error)) => debug!(error = %chain(&error), "following"),
                None => return,
            }
            patience = Duration::ZERO;
        }
    }

    fn answer(&mut self, Request { name, ready }: Request) {
        let (told, steps) = mpsc::channel(STEPS);
        let answer = self.begin(&name).map(|partition| {
            self.waiting.entry(name).or_default().push(Waiter { partition, told });
            steps
        });
        // Whoever asked may be gone.
        ready.send(answer).ok();
    }

    /// Lets the command's partition be read from its end on.
    fn begin(&mut self, name: &Name) -> Result<i32, Error> {
        let failed = |source: KafkaError| Error::Unreachable { topic: self.topic.clone(), source };
        let partitions = match self.partitions {
            Some((partitions, asked)) if asked.elapsed() < RECOUNT => partitions,
            _ => topics::partitions(self.consumer.client(), &self.topic).map_err(failed)?,
        };
        if partitions == 0 {
            return Err(Error::NoTopic { topic: self.topic.clone() });
        }
        self.partitions.get_or_insert((partitions, Instant::now()));
        let partition = partition::of_key(name.asset.as_bytes(), partitions);
        if !self.followed.contains_key(&partition) {
            let (_, end) = self.consumer.fetch_watermarks(&self.topic, partition, PATIENCE).map_err(failed)?;
            let mut place = TopicPartitionList::new();
            place.add_partition_offset(&self.topic, partition, Offset::Offset(end)).map_err(failed)?;
            self.consumer.incremental_assign(&place).map_err(failed)?;
        }
        self.followed.insert(partition, Instant::now());
        Ok(partition)
    }

    fn tell(&mut self, name: &Name, told: &Told) {
        if let Some(waiters) = self.waiting.get_mut(name) {
            // Whoever does not listen is not waited for.
            waiters.retain(|waiter| waiter.told.try_send(told.clone()).is_ok());
        }
    }

    /// Forgets who is gone, and lets go of partitions in which nobody waits.
    fn sweep(&mut self) {
        if self.swept.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.swept = Instant::now();
        self.partitions = self.partitions.filter(|(_, asked)| asked.elapsed() < RECOUNT);
        let followed = &mut self.followed;
        self.waiting.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.told.is_closed());
            for waiter in waiters.iter() {
                followed.insert(waiter.partition, Instant::now());
            }
            !waiters.is_empty()
        });
        let idle: Vec<i32> = followed.iter().filter(|(_, since)| since.elapsed() >= IDLE).map(|(partition, _)| *partition).collect();
        for partition in idle {
            let mut place = TopicPartitionList::new();
            place.add_partition(&self.topic, partition);
            match self.consumer.incremental_unassign(&place) {
                Ok(()) => drop(self.followed.remove(&partition)),
                Err(error) => debug!(error = %chain(&error), partition, "still followed"),
            }
        }
    }
}

/// What the record tells, if it tells something of a command.
fn told(message: &BorrowedMessage<'_>) -> Option<(Name, Told)> {
    read(std::str::from_utf8(message.key()?).ok()?, message.payload()?)
}

fn read(asset: &str, value: &[u8]) -> Option<(Name, Told)> {
    #[derive(Deserialize)]
    struct Claim {
        correlation_id: String,
        #[serde(default)]
        sender_uuid: String,
        edge: String,
    }
    let name = |sender: &str, id: &str| Name { asset: asset.to_owned(), sender: sender.to_owned(), id: id.to_owned() };
    if has_mark(value, STATUS_MARK) {
        let event = Event::decode(value).ok()?;
        let (_, status) = Status::from_event(&event)?;
        let status = status.ok()?;
        return Some((name(&status.sender_uuid, &status.correlation_id), Told::Step(Box::new(status))));
    }
    if has_mark(value, b"_CMD.claim\"") {
        let event = Event::decode(value).ok()?;
        let claim: Claim = event.id.ends_with("_CMD.claim").then(|| serde_json::from_str(event.value.as_str()?).ok())??;
        return Some((name(&claim.sender_uuid, &claim.correlation_id), Told::Claimed(claim.edge)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Name, Told, read};
    use asset_stream::Timestamp;
    use asset_stream::command::status::{State, Status};

    #[test]
    fn steps_and_claims_are_told_with_the_name_of_their_command() {
        let status = Status::new("HMI-1", "c-1", State::Accepted, Timestamp::from_millis(0));
        let mut value = Vec::new();
        status.to_sample("PRESS-1", "Move").encode(&mut value);
        let name = Name { asset: "PRESS-1".into(), sender: "HMI-1".into(), id: "c-1".into() };
        assert_eq!(read("PRESS-1", &value), Some((name.clone(), Told::Step(Box::new(status)))));
        let claim = r#"{"ID":"Move_CMD.claim","VALUE":"{\"correlation_id\":\"c-1\",\"sender_uuid\":\"HMI-1\",\"edge\":\"E-1\",\"epoch\":1}","TYPE":"OpenFactory"}"#;
        assert_eq!(read("PRESS-1", claim.as_bytes()), Some((name, Told::Claimed("E-1".into()))));
        for other in
            [r#"{"ID":"Move_CMD.status","VALUE":"{}","TYPE":"OpenFactory"}"#, r#"{"ID":"note","VALUE":"Move_CMD.claim","TYPE":"Events"}"#]
        {
            assert_eq!(read("PRESS-1", other.as_bytes()), None, "{other}");
        }
    }
}
