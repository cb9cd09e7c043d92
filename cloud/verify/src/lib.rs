//! Reads the asset stream and proves from its sequences and gap events that nothing is missing, and from its commands that each had one end.
//!
//! ```text
//! Kafka ── reading ──► ledger (numbers by edge, asset, epoch; gap events) ──► report ──► table or JSON
//! ```
//!
//! Promises:
//! - What is missing, repeated, reordered or altered is told by edge and asset; what a gap event tells is not missing, but lost and told.
//! - `of-asset-seq` proves each asset, `of-seq` the edge's log as a whole: an asset of which nothing arrived is a hole there.
//! - The ends are asked for once, so it ends on a live topic, too. What was under way then, and what tells a loss, is waited for.
//! - Nothing is said to be missing that retention may have deleted, or that was not asked for.
//! - Memory grows with holes, assets and repeats, not with events.
//!
//! [`audit`] tells what was asked of assets by commands, and what came of it.
//!
//! Non-goals: what an edge has not sent yet, and what nothing came after, leaves no trace in the topic: the edge's own status tells that.

pub mod audit;
mod gap;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod numbers;
mod reading;
mod report;
mod table;

use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use rdkafka::Message;

pub use gap::Told;
pub use ledger::Scope;
use ledger::{Horizon, Ledger};
pub use numbers::Range;
use reading::{Places, Topic, event};
pub use report::{Harm, Report, Row};

/// How long events that were under way when the ends were asked for may take.
const UNDER_WAY: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Devices' clocks differ, and records have their time: an edge takes no time that is further ahead of its own than this.
const CLOCKS: i64 = 30 * 60 * 1000;

/// What is to be proven.
#[derive(Clone, Debug)]
pub struct Request {
    /// The asset stream.
    pub topic: String,
    /// Whose events.
    pub scope: Scope,
    /// From the first record of this time on; absent: from the topic's beginning.
    pub from: Option<Timestamp>,
    /// Up to the first record of this time; absent: to the topic's end as it is now.
    pub to: Option<Timestamp>,
}

/// Nothing can be proven.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The `[kafka]` section cannot be used.
    #[error("the [kafka] section cannot be used")]
    Config(#[source] service::kafka::Error),
    /// librdkafka refuses the settings.
    #[error("the Kafka consumer cannot be made from these settings")]
    Client(#[source] rdkafka::error::KafkaError),
    /// The topic is not there.
    #[error("there is no topic {topic}: name the asset stream with --topic")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// Kafka does not answer, or refuses.
    #[error("Kafka does not give the topic {topic}")]
    Unreachable {
        /// Its name.
        topic: String,
        /// Why.
        #[source]
        source: rdkafka::error::KafkaError,
    },
}

impl Error {
    /// Whether the config is to blame.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Client(_))
    }
}

/// How far the reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records that were read.
    pub read: u64,
    /// Records to be read, about.
    pub all: u64,
}

/// Reads the topic and judges it; `told` hears of each record how far it is.
pub fn verify(kafka: &service::kafka::Config, request: &Request, mut told: impl FnMut(Progress)) -> Result<Report, Error> {
    let topic = Topic::open(kafka, &request.topic)?;
    let ends = match request.to {
        Some(to) => topic.at_time(to.millis())?,
        None => topic.ends()?,
    };
    let starts = match request.from {
        Some(from) => topic.at_time(from.millis())?,
        None => topic.starts()?,
    };
    let mut ledger = Ledger::new(request.scope.clone(), horizon(&topic, request, &starts, &ends)?);
    let all = ends.iter().map(|(partition, end)| end.saturating_sub(starts[partition]).max(0).unsigned_abs()).sum();
    let (mut records, mut foreign) = (0, 0);
    topic.read(&starts, &ends, |message| {
        records += 1;
        match event(message) {
            Some(event) => ledger.take(&event),
            None => foreign += 1,
        }
        told(Progress { read: records, all });
    })?;
    ledger.seal();
    fill(&topic, request, ends.clone(), &mut ledger)?;
    if ledger.has_repeats() {
        topic.read(&starts, &ends, |message| {
            if let Some(event) = event(message) {
                ledger.compare(&event);
            }
        })?;
    }
    Ok(Report { topic: request.topic.clone(), records, foreign, ..report::report(&ledger) })
}

/// What stood before the first records.
fn horizon(topic: &Topic, request: &Request, starts: &Places, ends: &Places) -> Result<Horizon, Error> {
    let cut = starts.iter().filter(|(_, start)| **start > 0).map(|(partition, _)| *partition).collect();
    let mut horizon = Horizon { cut, time: request.from.map(|from| from.millis() + CLOCKS) };
    if request.from.is_none() {
        let firsts = horizon.cut.iter().map(|partition| (*partition, ends[partition].min(starts[partition] + 1))).collect();
        topic
            .read(starts, &firsts, |message| horizon.time = horizon.time.max(message.timestamp().to_millis().map(|time| time + CLOCKS)))?;
    }
    Ok(horizon)
}

/// Reads on behind the ends for as long as something is missing that may stand there.
fn fill(topic: &Topic, request: &Request, mut places: Places, ledger: &mut Ledger) -> Result<(), Error> {
    let deadline = Instant::now() + UNDER_WAY;
    while report::report(ledger).harm.missing > 0 {
        let ends = topic.ends()?;
        topic.read(&places, &ends, |message| {
            if let Some(event) = event(message) {
                ledger.take_later(&event);
            }
        })?;
        places = ends;
        if request.to.is_some() || Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}
