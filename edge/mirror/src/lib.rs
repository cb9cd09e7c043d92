//! Mirrors the edge's log into Kafka: each event once, each asset's events in order.
//!
//! ```text
//! log ──reader──▶ window ──idempotent producer──▶ Kafka
//!  ▲                │  ▲                            │
//!  └── cursor ◀─────┘  └────── delivery reports ◀───┘        after doubt: read back what stands, send what does not
//! ```
//!
//! Promises:
//! - Within a producer's life each event stands in Kafka once and in order; librdkafka's idempotent producer gives that, and it is stopped for
//!   good by the first batch that fails. After doubt (a new process, a failed producer) the topic itself is asked which events stand, and
//!   only the others are sent. Where that cannot be settled within [`Config::doubt_limit_bytes`], events are sent again with the header `of-resent`.
//! - The cursor `mirror` in the log never lies beyond what Kafka acknowledged (or what became a gap event because Kafka refuses it).
//! - Memory is bounded by [`Config::window`] and [`Config::window_bytes`], whatever the backlog.
//! - No event is given up for its time: it is sent with a record time that Kafka takes (`times`).
//! - A log that is an older copy of the one that was mirrored is not sent: its numbers would be used twice (`outdated`).
//! - Nothing stops it for good but [`Mirror::stop`], and a younger process with the same edge id. Trouble is a state with a sentence
//!   ([`Status`]); it starts, collects and goes on trying without Kafka.
//! - What the log retains can be sent again on request, marked, beside a running mirror ([`replay`]).
//! - A topic that is not what it was (another cluster, made anew, cut back) is said aloud, as an event too, and settled as configured.
//!
//! Words of its own, in code and logs:
//!
//! | word | meaning |
//! | --- | --- |
//! | hand over | give an event to the producer; nobody knows yet whether it stands in Kafka |
//! | report | what librdkafka says about an event that was handed over: its offset, or why not |
//! | doubt | events beyond the cursor may stand in Kafka, and no producer lives that would report them |
//! | read back | read what stands in Kafka beyond the cursor, to settle a doubt |
//! | standing | which of the events in doubt were found |
//! | place | of a partition: the offset at which reading back begins; kept in the cursor's note |
//! | note | what is kept beside the cursor: cluster, topic, places, what is still to be told |
//! | suspect | an event of a batch that Kafka refused; it is sent alone, to find the one that was meant |
//! | life | of a producer: from its start to its first failed event |
//!
//! Not its business: gap events for what the log lost ([`edge_buffer::Read::Lost`] is skipped here, the daemon tells it), what a command means, retention.
//! One thing it cannot know: a request of a killed process that a network holds back longer than [`Config::request_timeout`], or that a lagging
//! follower keeps from view as long, can land after the reading back. Its events then stand twice, with the same sequence.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let log = edge_buffer::open(edge_buffer::Config::default())?.log;
//! let config = edge_mirror::Config::new(service::kafka::Config::plain("kafka:9092"), "EDGE-7");
//! let mirror = edge_mirror::Mirror::start(config, log)?;
//! println!("{}", mirror.status().sentence);
//! mirror.stop(std::time::Duration::from_secs(2));
//! # Ok(())
//! # }
//! ```

mod admin;
mod capacity;
mod class;
mod client;
pub mod commands;
mod config;
mod doubt;
mod edges;
mod ends;
mod error;
mod fail_point;
mod flow;
mod note;
mod online;
mod outdated;
mod pace;
mod producer;
mod readback;
mod reading;
mod refused;
pub mod replay;
mod shared;
mod status;
mod telling;
mod times;
mod topic_client;
mod window;
mod worker;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use edge_buffer::Log;

pub use config::{Config, CreateTopics, OnChangedTopic};
pub use edges::Announcement;
pub use error::Error;
pub use online::Unfit;
pub use status::{Clock, Facts, State, Status};

use edges::Announcer;
use shared::Shared;
use worker::Worker;

/// What needs no network ends within this time.
const SHORT: Duration = Duration::from_millis(500);

/// A running mirror. Dropping it ends it as a kill would: nothing is kept, and the next one settles the doubt.
#[derive(Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    /// Closed when the mirror's thread has ended. The announcing one has nothing to keep, so nobody waits for it.
    ended: mpsc::Receiver<()>,
}

impl Mirror {
    /// Starts mirroring `log`, of which there must be no other mirror. Does not wait for Kafka.
    ///
    /// # Errors
    /// What no waiting can cure: settings that cannot work, files that cannot be read.
    pub fn start(config: Config, log: Log) -> Result<Self, Error> {
        config.try_out(log.epoch())?;
        let (config, shared) = (Arc::new(config), Arc::new(Shared::new(log.clone())));
        let (ending, ended) = mpsc::sync_channel(1);
        let worker = Worker::new(config.clone(), log.clone(), shared.clone());
        let announcer = Announcer::new(config, log, shared.clone());
        spawn("mirror", move || {
            worker.run();
            drop(ending);
        })?;
        let mirror = Self { shared, ended };
        // Should this one fail, the drop of `mirror` ends the other.
        spawn("mirror-edges", move || announcer.run())?;
        Ok(mirror)
    }

    /// For everybody who looks at the mirror without owning it.
    pub fn monitor(&self) -> Monitor {
        Monitor(self.shared.clone())
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// As [`Monitor::progress`].
    pub fn progress(&self) -> u64 {
        self.shared.turns()
    }

    /// As [`Monitor::announce`].
    pub fn announce(&self, facts: Facts) {
        self.shared.set_facts(facts);
    }

    /// Stops in order: takes no more events, waits for outstanding reports, keeps the cursor. Returns after `grace` at the latest, whatever
    /// the network does, and says whether the mirror has ended; one that has not still waits for an answer of Kafka, and sends nothing more.
    pub fn stop(&self, grace: Duration) -> bool {
        let mut deadline = Instant::now() + grace;
        // Keeping the cursor needs some time of its own.
        self.shared.stop(deadline - grace / 5);
        if !self.shared.is_flowing() {
            // It looks at Kafka, which may not answer, and has nothing to keep.
            deadline = deadline.min(Instant::now() + SHORT);
        }
        while self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        self.has_ended()
    }

    /// Whether its thread has ended: from then on another mirror of the log may be started.
    pub fn has_ended(&self) -> bool {
        matches!(self.ended.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }
}

/// Looks at a mirror from elsewhere; cheap to clone. Keeps nothing running, but the log open until that is closed.
#[derive(Clone, Debug)]
pub struct Monitor(Arc<Shared>);

impl Monitor {
    /// How it is doing.
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// Turns of its loop: a number that stands still for many seconds means that the mirror hangs.
    pub fn progress(&self) -> u64 {
        self.0.turns()
    }

    /// Tells what the next announcements shall say beside what the mirror knows itself.
    pub fn announce(&self, facts: Facts) {
        self.0.set_facts(facts);
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name(name.into());
    thread.spawn(run).map(drop).map_err(Error::Thread)
}
