//! The forwarder as a member of its consumer group, by a name of its own; and what it does when the group shuts it out.
//!
//! Brokers shut a member out when another one joins by its name. They also take a member for two of one name that asked twice to join, as its
//! first request was answered too late (librdkafka issue 3437), and the last request of a process that was killed for its successor's. Whoever
//! is dead gives no sign of life, and the group forgets it within the session's time limit. So a forwarder that is shut out keeps still and
//! looks, twice: if a member of its name is there even then, that one is alive, and it gives way for good.

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
/// So often a member must be seen, a session's time apart: a rebalance in between gave even the dead some time.
const LOOKS: usize = 2;
/// Brokers look for members without signs of life once in a while.
const SLACK: Duration = Duration::from_secs(4);
/// Between two such questions.
const AGAIN: Duration = Duration::from_secs(1);
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
    session: Duration,
}

impl Member {
    pub(crate) fn new(config: &Config, instance: String) -> Self {
        Self { kafka: config.kafka.clone(), group: config.forward.group.clone(), instance, session: config.forward.session_timeout }
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
            let mut seen = 0;
            while seen < LOOKS {
                rest(self.session + SLACK, turns, stop);
                match self.is_there(turns, stop) {
                    None => return Ok(()),
                    Some(false) => break,
                    Some(true) => seen += 1,
                }
            }
            if seen == LOOKS {
                return Err(shut_out);
            }
            info!("there is no other one of its name: the forwarder joins its group again");
            consumer = join()?;
            board.settled(Trouble::Group);
        }
    }

    /// Whether a member of this name is there while the group works. Waits until Kafka tells; `None` when stopped meanwhile.
    fn is_there(&self, turns: &AtomicU64, stop: &CancellationToken) -> Option<bool> {
        while !stop.is_cancelled() {
            match self.ask() {
                Ok(Some(is_there)) => return Some(is_there),
                Ok(None) => debug!("the group is rebalancing"),
                Err(error) => debug!(%error, "the group's members are not known"),
            }
            rest(AGAIN, turns, stop);
        }
        None
    }

    /// `None` while the group rebalances: whoever is waited for then has no time limit.
    fn ask(&self) -> Result<Option<bool>, KafkaError> {
        let client = self.kafka.client().map_err(|error| KafkaError::AdminOpCreation(error.to_string()))?;
        let asking: BaseConsumer = client.create()?;
        // Until it knows the brokers by their numbers, the client takes an answer from nobody for one that names no group.
        asking.fetch_metadata(None, PATIENCE)?;
        let groups = asking.fetch_group_list(Some(&self.group), PATIENCE)?;
        let Some(group) = groups.groups().iter().find(|group| group.name() == self.group) else { return Ok(Some(false)) };
        let has_name = |id: &str| id.len() == self.instance.len() + 1 + UUID && id.starts_with(&format!("{}-", self.instance));
        // Who it is cannot be seen: brokers keep the client id and the address of the first one of a name.
        let is_there = group.members().iter().any(|member| has_name(member.id()));
        Ok(matches!(group.state(), "Stable" | "Empty" | "Dead").then_some(is_there))
    }
}

fn rest(duration: Duration, turns: &AtomicU64, stop: &CancellationToken) {
    let end = Instant::now() + duration;
    while Instant::now() < end && !stop.is_cancelled() {
        turns.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(TICK);
    }
}
