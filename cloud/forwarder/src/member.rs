//! The forwarder as a member of its consumer group, by a name of its own; and what it does when the group shuts it out.
//!
//! Brokers shut a member out when another one joins by its name. They also take a member for two of one name that asked twice to join, as its
//! first request was answered too late (librdkafka issue 3437), and the last request of a process that was killed for its successor's. Whoever
//! is dead stops to give signs of life, and the group forgets it. So a forwarder that is shut out waits for that; if a member of its name and
//! of another process is there even then, it gives way for good.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Error;
use crate::config::Config;
use crate::consumer::Consumer;
use crate::status::{Board, Trouble};

/// How long Kafka may take to name the group's members.
const PATIENCE: Duration = Duration::from_secs(5);
/// Brokers look for members without signs of life once in a while.
const SLACK: Duration = Duration::from_secs(4);
/// Between two looks at the clock while nothing else is done: the watchdog sees turns.
const TICK: Duration = Duration::from_millis(50);
/// What brokers make a member's id of: its name, a hyphen, and a UUID of so many characters.
const UUID: usize = 36;

/// Who this forwarder is in its group.
#[derive(Clone)]
pub(crate) struct Member {
    kafka: service::kafka::Config,
    pub(crate) group: String,
    /// `group.instance.id`.
    pub(crate) instance: String,
    /// `client.id`: that of this process alone.
    pub(crate) client: String,
    session: Duration,
}

impl Member {
    pub(crate) fn new(config: &Config, instance: String) -> Self {
        let client = format!("openfactory-forwarder-{}", uuid::Uuid::new_v4());
        Self { kafka: config.kafka.clone(), group: config.forward.group.clone(), instance, client, session: config.forward.session_timeout }
    }

    /// Reads until `stop`, or until nothing but a person helps.
    pub(crate) fn read(
        &self,
        mut consumer: Consumer,
        join: impl Fn() -> Result<Consumer, Error>,
        board: &Board,
        turns: &AtomicU64,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        loop {
            let shut_out = match consumer.run(stop) {
                Err(error @ Error::Fenced { .. }) => error,
                ended => return ended,
            };
            warn!("the group has shut this forwarder out, by mistake or for another one of its name; that is found out");
            board.trouble(Trouble::Group, "Kafka: shut out of the group; joined again unless there is another one of this name".into());
            let mut is_taken = None;
            while is_taken.is_none() {
                rest(self.session + SLACK, turns, stop);
                if stop.is_cancelled() {
                    return Ok(());
                }
                is_taken = self.is_taken().inspect_err(|error| debug!(%error, "the group's members are not known")).ok();
            }
            if is_taken == Some(true) {
                return Err(shut_out);
            }
            info!("there is no other one of its name: the forwarder joins its group again");
            consumer = join()?;
            board.settled(Trouble::Group);
        }
    }

    /// Whether a member of this name is there that is of another process.
    fn is_taken(&self) -> Result<bool, KafkaError> {
        let client = self.kafka.client().map_err(|error| KafkaError::AdminOpCreation(error.to_string()))?;
        let asking: BaseConsumer = client.create()?;
        let groups = asking.fetch_group_list(Some(&self.group), PATIENCE)?;
        let has_name = |id: &str| id.len() == self.instance.len() + 1 + UUID && id.starts_with(&format!("{}-", self.instance));
        let members = groups.groups().iter().filter(|group| group.name() == self.group).flat_map(|group| group.members());
        Ok(members.into_iter().any(|member| has_name(member.id()) && member.client_id() != self.client))
    }
}

fn rest(duration: Duration, turns: &AtomicU64, stop: &CancellationToken) {
    let end = Instant::now() + duration;
    while Instant::now() < end && !stop.is_cancelled() {
        turns.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(TICK);
    }
}
