//! What the running edge tells about itself: one picture for `status`, its JSON and systemd's status line.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asset_stream::Timestamp;
use edge_buffer::{Health, Log};
use edge_mirror::{Facts, Monitor};
use gateway::{Connection, DeviceStatus};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::commands;
use crate::ingest::Counters;

/// The whole picture. Times are ISO 8601, UTC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) edge: String,
    pub(crate) asset: String,
    pub(crate) started: String,
    pub(crate) now: String,
    pub(crate) phase: Phase,
    pub(crate) events: Events,
    pub(crate) devices: Vec<Device>,
    pub(crate) log: LogStatus,
    /// Absent without a `[kafka]` section.
    pub(crate) mirror: Option<MirrorStatus>,
    /// Absent before the devices are started.
    #[serde(default)]
    pub(crate) commands: Option<commands::Status>,
    /// Absent before the first.
    pub(crate) reload: Option<Reload>,
}

/// Where the edge is between its start and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Not all gateways are started.
    #[default]
    Starting,
    /// They are.
    Running,
    /// It stops in order.
    Stopping,
}

/// How reading the config again ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The new config is at work.
    Done,
    /// It is, but for devices that could not be started: the log takes nothing now.
    Incomplete,
    /// The config before it is still at work, all of it.
    Refused,
}

/// What came of reading the config again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reload {
    pub(crate) at: String,
    pub(crate) outcome: Outcome,
    /// What was done, or what is wrong; a sentence each.
    pub(crate) told: Vec<String>,
}

/// Counts since the start of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Events {
    /// Samples taken from gateways.
    pub(crate) accepted: u64,
    /// Of those, on disk.
    pub(crate) durable: u64,
    /// Of those, refused by a full log.
    pub(crate) refused: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) asset: String,
    pub(crate) protocol: String,
    /// `connecting`, `connected` or `lost`.
    pub(crate) state: String,
    pub(crate) since: Option<String>,
    pub(crate) samples: u64,
    pub(crate) gaps: u64,
    pub(crate) restarts: u64,
    /// Data items that have no value, as the device refuses or does not know them.
    #[serde(default)]
    pub(crate) without_value: usize,
    /// One of them, and why.
    #[serde(default)]
    pub(crate) first_without_value: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_at: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogStatus {
    pub(crate) epoch: u64,
    /// First sequence that the log still holds; 0 when it is empty.
    pub(crate) first: u64,
    /// Last durable sequence; 0 when there is none.
    pub(crate) durable: u64,
    pub(crate) bytes: u64,
    pub(crate) max_bytes: u64,
    /// Free on its file system.
    pub(crate) free_bytes: u64,
    pub(crate) segments: u64,
    /// Events dropped by a full log before Kafka had them, since the start; some may have arrived all the same.
    pub(crate) dropped: u64,
    /// Events that could not be read any more, found since the start.
    pub(crate) damaged: u64,
    /// Bytes kept of what is damaged.
    pub(crate) quarantine_bytes: u64,
    /// Losses whose gap events are not written yet.
    pub(crate) losses: u64,
    /// Group commits since the start, how many failed, and what they took.
    pub(crate) syncs: u64,
    pub(crate) sync_failures: u64,
    pub(crate) sync_seconds: f64,
    /// What keeps the log from taking events, in plain words.
    pub(crate) failure: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MirrorStatus {
    /// One word, e.g. `mirroring`, `unreachable`, `superseded`.
    pub(crate) state: String,
    /// The same in a sentence, with the remedy if a person is needed.
    pub(crate) detail: String,
    /// Last sequence up to which Kafka has everything.
    pub(crate) acknowledged: u64,
    /// Events acknowledged since the start.
    pub(crate) mirrored: u64,
    /// Durable events that Kafka has not acknowledged.
    pub(crate) backlog: u64,
    /// What they take on the disk.
    pub(crate) backlog_bytes: u64,
    pub(crate) oldest_unsent: Option<String>,
    /// The age of the oldest.
    pub(crate) backlog_seconds: Option<f64>,
    /// Acknowledged events a second, lately.
    pub(crate) rate: f64,
    pub(crate) eta_seconds: Option<u64>,
    /// Records that Kafka refused for good; each has its gap event.
    pub(crate) refused: u64,
    /// Events sent again after doubt, marked `of-resent`.
    pub(crate) resent: u64,
    /// Times that Kafka was asked what stands there already.
    pub(crate) doubts: u64,
    /// Missing events found behind later ones of their asset.
    pub(crate) holes: u64,
    /// Events found more than once, or by another writer under this edge's id.
    pub(crate) repeats: u64,
    /// Times that the topic was found not to be what it was.
    pub(crate) changes: u64,
    pub(crate) last_error: Option<String>,
}

/// One device as the daemon knows it.
pub(crate) struct Watched {
    pub(crate) name: Arc<str>,
    pub(crate) asset: Arc<str>,
    pub(crate) protocol: &'static str,
    pub(crate) status: Arc<DeviceStatus>,
}

/// Everything that the picture is drawn from.
pub(crate) struct Sources {
    pub(crate) edge: String,
    pub(crate) asset: Arc<str>,
    pub(crate) started: Timestamp,
    pub(crate) max_bytes: u64,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Log,
    pub(crate) parts: Mutex<Parts>,
}

/// What changes while the edge runs.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) phase: Phase,
    pub(crate) devices: Vec<Watched>,
    pub(crate) mirror: Option<Monitor>,
    pub(crate) commands: Option<Arc<commands::Counters>>,
    /// What came of the last reload.
    pub(crate) reload: Option<Reload>,
}

impl Sources {
    /// What changes while the edge runs, to be read or exchanged at once.
    pub(crate) fn parts(&self) -> MutexGuard<'_, Parts> {
        // Nothing panics while holding the lock; if it did, the fields are still whole.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws the picture as it is now.
    pub(crate) fn status(&self) -> Status {
        let (stats, parts) = (self.log.stats(), self.parts());
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            edge: self.edge.clone(),
            asset: self.asset.to_string(),
            started: self.started.to_string(),
            now: Timestamp::now().to_string(),
            phase: parts.phase,
            events: Events {
                accepted: load(&self.counters.accepted),
                durable: load(&self.counters.durable),
                refused: load(&self.counters.refused),
            },
            devices: parts.devices.iter().map(device).collect(),
            log: LogStatus {
                epoch: self.log.epoch(),
                first: stats.first,
                durable: self.log.durable(),
                bytes: stats.bytes,
                max_bytes: self.max_bytes,
                free_bytes: stats.free_bytes,
                segments: stats.segments as u64,
                dropped: stats.dropped,
                damaged: stats.damaged,
                quarantine_bytes: stats.quarantine_bytes,
                losses: stats.losses as u64,
                syncs: stats.syncs,
                sync_failures: stats.sync_failures,
                sync_seconds: stats.sync_total.as_secs_f64(),
                failure: match stats.health {
                    Health::Writable => None,
                    Health::Full(why) | Health::Failing(why) => Some(why),
                    Health::Closed => Some("the log is closed".into()),
                },
            },
            mirror: parts.mirror.as_ref().map(|monitor| mirror(monitor, stats.unacknowledged_bytes)),
            commands: parts.commands.as_ref().map(|counters| counters.status()),
            reload: parts.reload.clone(),
        }
    }

    /// Tells the mirror what the fleet's topic shall say of this edge.
    pub(crate) fn announce(&self) {
        let parts = self.parts();
        let Some(mirror) = &parts.mirror else { return };
        let connected = parts.devices.iter().filter(|d| matches!(d.status.connection(), Some((Connection::Connected, _)))).count();
        mirror.announce(Facts {
            devices: parts.devices.len() as u32,
            connected: connected as u32,
            clock: clock::look(Path::new(clock::TIMESYNC)),
            host: service::host::name(),
            version: env!("CARGO_PKG_VERSION").into(),
        });
    }
}

impl Status {
    /// One line for `systemctl status`.
    pub(crate) fn line(&self) -> String {
        let connected = self.devices.iter().filter(|d| d.state == "connected").count();
        let mirror = self.mirror.as_ref().map_or_else(
            || "no Kafka configured".into(),
            |m| {
                // Before the first look at Kafka there is no sentence.
                let how = if m.detail.is_empty() { &m.state } else { &m.detail };
                format!("{how}, backlog {}", m.backlog)
            },
        );
        let failure = self.log.failure.as_ref().map_or_else(String::new, |why| format!("; the log takes no events: {why}"));
        let reload = match &self.reload {
            Some(Reload { at, outcome: outcome @ (Outcome::Refused | Outcome::Incomplete), told }) => {
                let came = if *outcome == Outcome::Refused { "was refused" } else { "is incomplete" };
                let more = if told.len() > 1 { format!(" (and {} more)", told.len() - 1) } else { String::new() };
                format!("; the reload at {at} {came}: {}{more}", told.first().map_or("", String::as_str))
            }
            _ => String::new(),
        };
        format!("{connected}/{} devices connected; {} events durable; {mirror}{failure}{reload}", self.devices.len(), self.events.durable)
    }
}

fn device(device: &Watched) -> Device {
    let connection = device.status.connection();
    let error = device.status.last_error();
    let without_value = device.status.without_value();
    Device {
        name: device.name.to_string(),
        asset: device.asset.to_string(),
        protocol: device.protocol.into(),
        state: connection.map_or("connecting", |(state, _)| state.as_str()).into(),
        since: connection.map(|(_, since)| since.to_string()),
        samples: device.status.samples(),
        gaps: device.status.gaps(),
        restarts: device.status.restarts(),
        without_value: without_value.as_ref().map_or(0, |(count, _, _)| *count),
        first_without_value: without_value.map(|(_, item, status)| format!("{item}: {status}")),
        last_error_at: error.as_ref().map(|(_, at)| at.to_string()),
        last_error: error.map(|(text, _)| text),
    }
}

fn mirror(mirror: &Monitor, bytes: u64) -> MirrorStatus {
    let status = mirror.status();
    MirrorStatus {
        state: status.state.to_string(),
        detail: status.sentence,
        acknowledged: status.acknowledged,
        mirrored: status.mirrored,
        backlog: status.backlog,
        backlog_bytes: if status.backlog > 0 { bytes } else { 0 },
        backlog_seconds: status.oldest_unsent.map(|ms| (Timestamp::now().millis() - ms).max(0) as f64 / 1000.0),
        oldest_unsent: status.oldest_unsent.map(|ms| Timestamp::from_millis(ms).to_string()),
        rate: status.rate,
        eta_seconds: status.eta.map(|eta| eta.as_secs()),
        refused: status.refused,
        resent: status.resent,
        doubts: status.doubts,
        holes: status.holes,
        repeats: status.repeats,
        changes: status.changes,
        last_error: status.last_error.map(|(text, at)| format!("{} {text}", Timestamp::from_millis(at))),
    }
}
