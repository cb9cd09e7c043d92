//! Which of the routes' topics Kafka does not show us.
//!
//! librdkafka says once that some topic is missing or closed to us, not which, and never that it is there at last. So from then on Kafka is
//! asked for the names of all topics that we may see, until none is missing.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use tracing::{info, warn};

use crate::config::Forward;
use crate::status::{Board, Trouble};

/// How often Kafka is asked.
const EVERY: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether topics are missed.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// When to ask next; `None`: nothing is missed.
    next: Cell<Option<Instant>>,
}

impl Topics {
    /// librdkafka says that one is missing.
    pub(super) fn doubt(&self) {
        self.next.set(self.next.get().or_else(|| Some(Instant::now())));
    }

    /// Asks Kafka if it is time to, and says what is missing.
    pub(super) fn look<C: ClientContext>(&self, client: &Client<C>, forward: &Forward, board: &Board) {
        if self.next.get().is_none_or(|next| Instant::now() < next) {
            return;
        }
        self.next.set(Some(Instant::now() + EVERY));
        // A broker that does not answer is told elsewhere. All topics: to ask for one could make it.
        let Ok(metadata) = client.fetch_metadata(None, PATIENCE) else { return };
        let is_there = |topic: &String| metadata.topics().iter().any(|known| known.name() == topic && known.error().is_none());
        let missing: Vec<&str> = forward.routes.keys().filter(|topic| !is_there(topic)).map(String::as_str).collect();
        if missing.is_empty() {
            self.next.set(None);
            if board.settled(Trouble::Topics) {
                info!("all topics of the routes are there");
            }
            return;
        }
        let reason = format!("Kafka: these topics of the routes do not exist yet, or are closed to us: {}", missing.join(", "));
        if board.trouble(Trouble::Topics, reason.clone()) {
            warn!(%reason, "Kafka is waited for");
        }
    }
}
