//! What a device follows, and what is known of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asset_stream::device_file::Access;
use asset_stream::{DataItem, Kind, Sample, Timestamp, Value};
use gateway::DeviceLink;
use opcua::types::{NodeId, StatusCode};

use crate::config::Config;
use crate::convert::status_text;
use crate::meaning::Meaning;
use crate::nodes::Address;
use crate::offer::{Place, Writing};

/// An item whose queue overflows again within this time is told of once more at its end, not for each value.
const OVERFLOW_TOLD_EVERY: Duration = Duration::from_secs(10);

/// How an item is followed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Follow {
    /// Read at each connect; what was told last.
    Constant { told: Option<Value> },
    /// Subscribed.
    Variable { deadband: Option<f64>, queue_size: u32, sampling_interval: f64 },
    /// Its events are subscribed.
    Events { queue_size: u32, minimum_severity: Option<u16> },
}

/// One entry of the device file.
#[derive(Debug)]
pub(crate) struct Item {
    /// Shared by all its samples.
    pub(crate) data: Arc<DataItem>,
    /// Whether its kind is settled: by the device file, by the node's data type, or by the first good value.
    has_kind: bool,
    pub(crate) address: Address,
    pub(crate) follow: Follow,
    pub(crate) meaning: Meaning,
    /// Whether commands may write it.
    pub(crate) access: Access,
    /// As what they write it, once the server was asked.
    pub(crate) writing: Option<Writing>,
    /// Where the address leads, once the server was asked.
    pub(crate) node: Option<NodeId>,
    /// The subscription that it is part of.
    pub(crate) subscription: Option<u32>,
    /// Why it cannot be read, told as a sample already.
    refused: Option<StatusCode>,
    /// When its last value was observed.
    pub(crate) last: Option<Timestamp>,
    queue: Queue,
    overflow: Overflow,
}

/// The server's queue of an item, by what its messages brought.
#[derive(Debug, Default)]
struct Queue {
    /// How many values the server keeps.
    size: u32,
    /// The publishing that is being read, by its first message's number.
    publishing: Option<u32>,
    /// Its values of the item so far, and when the first of them was observed.
    values: u32,
    first: Option<Timestamp>,
    /// When the last value of the publishing before was observed.
    before: Option<Timestamp>,
    /// The server marks overflows.
    is_marked: bool,
}

#[derive(Debug, Default)]
struct Overflow {
    told: Option<Instant>,
    pending: Option<(Timestamp, Timestamp)>,
}

impl Item {
    fn new(link: &DeviceLink, name: &str, tag: &str, kind: Option<Kind>, address: &Address, follow: Follow) -> Self {
        Self {
            data: link.item(name, tag, kind.unwrap_or(Kind::Events)),
            has_kind: kind.is_some(),
            address: address.clone(),
            follow,
            meaning: Meaning::default(),
            access: Access::ReadOnly,
            writing: None,
            node: None,
            subscription: None,
            refused: None,
            last: None,
            queue: Queue::default(),
            overflow: Overflow::default(),
        }
    }

    /// All constants, variables and event sources of a device.
    pub(crate) fn all(config: &Config, link: &DeviceLink) -> Vec<Self> {
        let constants =
            config.constants.iter().map(|c| Self::new(link, &c.name, &c.tag, c.kind, &c.address, Follow::Constant { told: None }));
        let variables = config.variables.iter().map(|v| {
            let follow = Follow::Variable { deadband: v.deadband, queue_size: v.queue_size, sampling_interval: v.sampling_interval };
            Self { access: v.access, ..Self::new(link, &v.name, &v.tag, v.kind, &v.address, follow) }
        });
        let events = config.events.iter().map(|e| {
            let follow = Follow::Events { queue_size: e.queue_size, minimum_severity: e.minimum_severity };
            Self::new(link, &e.name, &e.name, Some(Kind::Condition), &e.address, follow)
        });
        constants.chain(variables).chain(events).collect()
    }

    /// Where it stands, for commands; `None` for events, and for what was not found.
    pub(crate) fn place(&self) -> Option<Place> {
        let node = self.node.clone().filter(|_| !matches!(self.follow, Follow::Events { .. }))?;
        Some(Place { node, meaning: self.meaning.clone(), writing: self.writing.clone() })
    }

    /// Whether it is part of a subscription, or should be.
    pub(crate) fn is_subscribed(&self) -> bool {
        !matches!(self.follow, Follow::Constant { .. })
    }

    /// Whether the server refused it when it was last asked.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// What its data type means.
    pub(crate) fn learn(&mut self, meaning: Meaning) {
        if let Some(kind) = meaning.kind() {
            self.settle_kind(kind);
        }
        self.meaning = meaning;
    }

    /// The kind that a value or data type suggests, unless it is settled.
    #[inline]
    pub(crate) fn settle_kind(&mut self, kind: Kind) {
        if !self.has_kind {
            self.has_kind = true;
            if self.data.kind != kind {
                self.data = Arc::new(DataItem { kind, ..(*self.data).clone() });
            }
        }
    }

    /// Notes that the server refuses the item; gives the sample that tells it, the first time and when the reason changes.
    pub(crate) fn refuse(&mut self, status: StatusCode) -> Option<Sample> {
        self.subscription = None;
        if self.refused.replace(status) == Some(status) {
            return None;
        }
        let now = Timestamp::now();
        Some(Sample::bad(self.data.clone(), status_text(status), now, now))
    }

    /// The server takes the item, and keeps `queue_size` values of it.
    pub(crate) fn accept(&mut self, subscription: Option<u32>, queue_size: u32) {
        self.subscription = subscription;
        self.refused = None;
        self.queue = Queue { size: queue_size, is_marked: self.queue.is_marked, ..Queue::default() };
    }

    /// A value came with the publishing that begins with the message `publishing`, marked as the one behind an overflow or not. Gives the time in which values are missing, if
    /// that is to be told now. Many servers mark nothing: there a queue that came full is taken for one that overflowed, unless it is of one
    /// value, which is always full.
    #[inline]
    pub(crate) fn received(&mut self, publishing: u32, at: Timestamp, is_marked: bool, now: Instant) -> Option<(Timestamp, Timestamp)> {
        let queue = &mut self.queue;
        if queue.publishing != Some(publishing) {
            (queue.publishing, queue.values, queue.first, queue.before) = (Some(publishing), 0, Some(at), self.last);
        }
        queue.values += 1;
        queue.is_marked |= is_marked;
        self.last = Some(at);
        // Which end of the queue is marked differs between servers; what is missing is older than all of it.
        let to = if is_marked {
            at
        } else if queue.values == queue.size && queue.size > 1 && !queue.is_marked {
            queue.first.unwrap_or(at)
        } else {
            return None;
        };
        let from = queue.before.unwrap_or(to);
        self.overflowed(from, to, now)
    }

    /// The server's queue of the item overflowed: gives the time to be told as a gap, unless one was told a moment ago.
    fn overflowed(&mut self, from: Timestamp, to: Timestamp, now: Instant) -> Option<(Timestamp, Timestamp)> {
        let from = self.overflow.pending.map_or(from, |(from, _)| from);
        if self.overflow.told.is_some_and(|told| now.duration_since(told) < OVERFLOW_TOLD_EVERY) {
            self.overflow.pending = Some((from, to));
            return None;
        }
        self.overflow = Overflow { told: Some(now), pending: None };
        Some((from, to))
    }

    /// The overflows that were held back and are due now.
    pub(crate) fn due_overflow(&mut self, now: Instant) -> Option<(Timestamp, Timestamp)> {
        let told = self.overflow.told?;
        if now.duration_since(told) < OVERFLOW_TOLD_EVERY {
            return None;
        }
        let pending = self.overflow.pending.take()?;
        self.overflow.told = Some(now);
        Some(pending)
    }
}
