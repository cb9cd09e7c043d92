//! What the mirror tells about itself.

use std::fmt;
use std::time::Duration;

/// What the mirror is doing, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Finding Kafka for the first time.
    #[default]
    Starting,
    /// Events flow, or would if there were any.
    Mirroring,
    /// Finding out what an earlier producer brought into Kafka.
    ReadingBack,
    /// No broker answers.
    Unreachable,
    /// The topic is missing and may not be created here.
    NoTopic,
    /// Kafka denies what we need to do.
    Denied,
    /// Kafka refuses one record after the other, or their times.
    Refused,
    /// The log is an older copy of the one that was mirrored.
    Outdated,
    /// A younger process mirrors under the same edge id.
    Superseded,
    /// Stopped in order.
    Stopped,
}

impl State {
    /// The word for tables, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Mirroring => "mirroring",
            Self::ReadingBack => "reading_back",
            Self::Unreachable => "unreachable",
            Self::NoTopic => "no_topic",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Outdated => "outdated",
            Self::Superseded => "superseded",
            Self::Stopped => "stopped",
        }
    }

    pub(crate) fn is_trouble(self) -> bool {
        matches!(self, Self::Unreachable | Self::NoTopic | Self::Denied | Self::Refused | Self::Outdated | Self::Superseded)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The mirror at one moment. Counters start at zero with the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The same in a sentence, with the remedy where there is one.
    pub sentence: String,
    /// The cluster's id, once it was told.
    pub cluster: Option<String>,
    /// Events that Kafka acknowledged.
    pub mirrored: u64,
    /// Every event of the log up to this sequence is in Kafka, or told as a gap.
    pub acknowledged: u64,
    /// Durable events that are not acknowledged, at the moment of asking.
    pub backlog: u64,
    /// Of these, handed over to the producer.
    pub outstanding: u64,
    /// Record time of the oldest event that is not acknowledged, Unix ms.
    pub oldest_unsent: Option<i64>,
    /// Acknowledged events a second, over the last seconds.
    pub rate: f64,
    /// How long the backlog will last at the present rates; `None`: there is none, or it grows.
    pub eta: Option<Duration>,
    /// The last failure in plain words, and when (Unix ms).
    pub last_error: Option<(String, i64)>,
    /// Doubts settled by reading back.
    pub doubts: u64,
    /// Events sent with the header `of-resent`.
    pub resent: u64,
    /// Records that Kafka refused for good; each has its gap event.
    pub refused: u64,
    /// Missing events found behind later ones of their asset.
    pub holes: u64,
    /// Events found in Kafka more often than once.
    pub repeats: u64,
    /// Times that the topic was found not to be what it was.
    pub changes: u64,
    /// Producers started; one is normal.
    pub producers: u64,
}

/// How far the edge trusts its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// It is synchronised.
    Synchronised,
    /// It is not.
    Free,
}

impl Clock {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Synchronised => "synchronised",
            Self::Free => "free",
        }
    }
}

/// What the daemon adds to the edge's announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Devices in the config.
    pub devices: u32,
    /// Of these, connected.
    pub connected: u32,
    /// How far the edge trusts its own clock.
    pub clock: Clock,
    /// The host's name.
    pub host: String,
    /// The daemon's version.
    pub version: String,
}
