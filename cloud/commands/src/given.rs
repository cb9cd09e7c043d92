//! Giving a command, and hearing what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asset_stream::command::status::{State, Status};
use asset_stream::command::{Command, Header};
use asset_stream::{Timestamp, partition};
use rdkafka::error::KafkaError;
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::Error;
use crate::follower::{Follower, Name, Told};
use crate::kafka::{self, Quiet};

/// How long Kafka may take to acknowledge a command.
const WRITING: Duration = Duration::from_secs(10);
/// So long after the deadline the end of a command may still be told.
const AFTER_DEADLINE: Duration = Duration::from_secs(5);
/// How long a command without a deadline is waited for.
const WITHOUT_DEADLINE: Duration = Duration::from_secs(60);
/// How long the device may take: the deadline is for its begin.
const EXECUTION: Duration = Duration::from_secs(60);

/// A command that is new: with an id of its own, given now.
pub fn command(sender: &str, arguments: Vec<(String, String)>, expires_in: Option<Duration>) -> Command {
    let now = Timestamp::now();
    let mut header = Header { sender_uuid: sender.to_owned(), ..Header::default() };
    complete(&mut header, now, expires_in);
    Command { header, arguments }
}

/// Gives the header what it lacks.
pub(crate) fn complete(header: &mut Header, now: Timestamp, expires_in: Option<Duration>) {
    if header.correlation_id.is_empty() {
        header.correlation_id = uuid::Uuid::new_v4().to_string();
    }
    if header.timestamp.is_empty() {
        header.timestamp = now.to_string();
    }
    if let (None, Some(expires_in)) = (&header.expires_at, expires_in) {
        header.expires_at = Some(Timestamp::from_millis(now.millis().saturating_add(expires_in.as_millis() as i64)).to_string());
    }
}

/// Writes commands into the asset stream, and follows them there.
pub struct Commander {
    producer: FutureProducer<Quiet>,
    follower: Follower,
    topic: String,
    kafka: service::kafka::Config,
    places: Arc<Semaphore>,
    limit: usize,
}

/// A command that stands in the asset stream, and what becomes of it.
pub struct Life {
    told: mpsc::Receiver<Told>,
    until: Instant,
    /// Whether that was asked for.
    is_until_fixed: bool,
    asset: String,
    last: Option<State>,
    edge: Option<String>,
    _place: OwnedSemaphorePermit,
}

/// A command on its way into Kafka.
pub(crate) struct Enqueued {
    delivery: DeliveryFuture,
    topic: String,
    life: Life,
}

impl Enqueued {
    /// Waits until it stands there.
    pub(crate) async fn written(self) -> Result<Life, Error> {
        delivered(self.delivery, &self.topic).await?;
        Ok(self.life)
    }
}

impl Commander {
    /// `topic`: the asset stream. `limit`: how many commands are followed at the same time.
    pub fn new(kafka: &service::kafka::Config, topic: &str, limit: usize) -> Result<Self, Error> {
        let failed = |source| Error::KafkaClient { client: "producer", source };
        let producer = kafka::sending(kafka, WRITING)?.create_with_context(Quiet).map_err(failed)?;
        let follower = Follower::start(kafka, topic)?;
        Ok(Self { producer, follower, topic: topic.to_owned(), kafka: kafka.clone(), places: Arc::new(Semaphore::new(limit)), limit })
    }

    /// Writes the command, and follows it for `wait`, or until shortly after its deadline and for as long as a device may take. `method` is the safe name.
    pub async fn give(&self, asset: &str, method: &str, command: &Command, wait: Option<Duration>) -> Result<Life, Error> {
        self.enqueue(asset, method, command, wait).await?.written().await
    }

    /// As [`Self::give`], without waiting for Kafka's acknowledgement: commands stand in the stream in the order of these calls.
    pub(crate) async fn enqueue(&self, asset: &str, method: &str, command: &Command, wait: Option<Duration>) -> Result<Enqueued, Error> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Error::TooMany { limit: self.limit })?;
        let Header { correlation_id, sender_uuid, .. } = &command.header;
        let name = Name { asset: asset.to_owned(), sender: sender_uuid.clone(), id: correlation_id.clone() };
        let told = self.follower.follow(name).await?;
        let delivery = self.hand_over(asset, method, command)?;
        let until = Instant::now() + wait.unwrap_or_else(|| patience(command, Timestamp::now()));
        let life = Life { told, until, is_until_fixed: wait.is_some(), asset: asset.to_owned(), last: None, edge: None, _place: place };
        Ok(Enqueued { delivery, topic: self.topic.clone(), life })
    }

    /// Writes the command; it stands in Kafka on all replicas in sync when this returns.
    pub async fn post(&self, asset: &str, method: &str, command: &Command) -> Result<(), Error> {
        delivered(self.hand_over(asset, method, command)?, &self.topic).await
    }

    fn hand_over(&self, asset: &str, method: &str, command: &Command) -> Result<DeliveryFuture, Error> {
        let now = Timestamp::now();
        let mut value = Vec::with_capacity(512);
        command.to_sample(asset, method, now).encode(&mut value);
        let record = FutureRecord::to(&self.topic).key(asset).payload(&value).timestamp(now.millis());
        self.producer.send_result(record).map_err(|(source, _)| Error::NotWritten { topic: self.topic.clone(), source })
    }

    /// Whether the asset stands among the newest events of its partition. Blocks for some seconds at most.
    pub fn has_seen(&self, asset: &str) -> Result<bool, Error> {
        crate::seen::recently(&self.kafka, &self.topic, asset, |partitions| partition::of_key(asset.as_bytes(), partitions))
    }
}

async fn delivered(delivery: DeliveryFuture, topic: &str) -> Result<(), Error> {
    let failed = |source| Error::NotWritten { topic: topic.to_owned(), source };
    match delivery.await {
        Ok(delivered) => delivered.map(drop).map_err(|(source, _)| failed(source)),
        Err(_) => Err(failed(KafkaError::Canceled)),
    }
}

fn patience(command: &Command, now: Timestamp) -> Duration {
    let deadline = command.header.deadline().ok().flatten();
    deadline.map_or(WITHOUT_DEADLINE, |deadline| {
        Duration::from_millis(u64::try_from(deadline.millis() - now.millis()).unwrap_or(0)) + AFTER_DEADLINE
    })
}

impl Life {
    /// The next step; `None` when its time is up. Nothing comes after an end.
    pub async fn next(&mut self) -> Option<Status> {
        loop {
            match tokio::time::timeout_at(self.until.into(), self.told.recv()).await.ok()?? {
                Told::Step(status) => {
                    self.last = Some(status.state);
                    if status.state == State::Executing && !self.is_until_fixed {
                        self.until = self.until.max(Instant::now() + EXECUTION);
                    }
                    return Some(*status);
                }
                Told::Claimed(edge) => self.edge = Some(edge),
            }
        }
    }

    /// Why no end may have come, and what to look at.
    pub fn silence(&self) -> String {
        let Self { asset, last, edge, .. } = self;
        let who = edge.as_ref().map_or_else(|| "an edge".to_owned(), |edge| format!("the edge {edge}"));
        match (last, edge) {
            (Some(State::Executing), _) => {
                format!(
                    "{who} asked the device, and has not told how it ended; `openfactory-cloud audit --asset {asset}` shows it when it does"
                )
            }
            (Some(_), _) => {
                format!(
                    "{who} has accepted the command, and has not told how it ended; `openfactory-cloud audit --asset {asset}` shows it when it does"
                )
            }
            (None, Some(_)) => format!("{who} took the command, and has not told what became of it: is it still running?"),
            (None, None) => format!(
                "nobody took the command: does `openfactory-cloud commands` run, and an edge that serves {asset}, takes commands and reaches Kafka?"
            ),
        }
    }

    /// Whether anybody has told or taken anything.
    pub fn is_unanswered(&self) -> bool {
        self.last.is_none() && self.edge.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{Life, command, patience};
    use crate::follower::Told;
    use asset_stream::Timestamp;
    use asset_stream::command::status::{State, Status};
    use tokio::sync::{Semaphore, mpsc};

    #[tokio::test]
    async fn a_device_that_was_asked_is_waited_for_beyond_the_deadline_unless_a_time_is_given() {
        for is_until_fixed in [false, true] {
            let (tell, told) = mpsc::channel(2);
            let executing = Status::new("HMI-1", "c-1", State::Executing, Timestamp::now());
            tell.send(Told::Claimed("E-1".into())).await.expect("room");
            tell.send(Told::Step(Box::new(executing.clone()))).await.expect("room");
            let (until, _place) = (Instant::now() + Duration::from_secs(5), Arc::new(Semaphore::new(1)).try_acquire_owned().expect("free"));
            let mut life = Life { told, until, is_until_fixed, asset: "PRESS-1".into(), last: None, edge: None, _place };
            assert!(life.silence().contains("nobody took the command") && life.is_unanswered());
            assert_eq!(life.next().await, Some(executing));
            assert_eq!(life.until > until, !is_until_fixed);
            assert!(life.silence().starts_with("the edge E-1 asked the device"), "{}", life.silence());
        }
    }

    #[test]
    fn a_new_command_has_an_id_a_time_and_a_deadline_and_is_waited_for_until_shortly_after_that() {
        let new = command("HMI-1", vec![("x".into(), "1".into())], Some(Duration::from_secs(30)));
        let now = new.header.time().expect("a time");
        assert_eq!(new.header.deadline().map(|deadline| deadline.map(|at| at.millis() - now.millis())), Ok(Some(30_000)));
        assert_eq!(new.header.correlation_id.len(), 36);
        assert_ne!(new.header.correlation_id, command("HMI-1", Vec::new(), None).header.correlation_id);
        assert_eq!(patience(&new, now), Duration::from_secs(35));
        assert_eq!(patience(&new, Timestamp::from_millis(now.millis() + 3_600_000)), Duration::from_secs(5));
        assert_eq!(patience(&command("", Vec::new(), None), now), Duration::from_secs(60));
    }
}
