//! What the status page and the metrics tell about a device.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use asset_stream::{Quality, Sample, Timestamp};

/// Whether a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It answers.
    Connected,
    /// It does not.
    Lost,
}

impl Connection {
    /// The word for tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug, Default)]
struct Changing {
    connection: Option<(Connection, Timestamp)>,
    last_error: Option<(String, Timestamp)>,
    /// Data items whose last sample had no value, with the device's status for it.
    without_value: BTreeMap<Arc<str>, String>,
}

/// Counters and connection state of one device; written by its gateway, read by anyone.
#[derive(Debug, Default)]
pub struct DeviceStatus {
    samples: AtomicU64,
    /// When the last of them were handed over, Unix ms; 0: never.
    last_samples: AtomicI64,
    gaps: AtomicU64,
    restarts: AtomicU64,
    changing: Mutex<Changing>,
}

impl DeviceStatus {
    /// Samples handed over since the start.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// When samples were handed over last.
    pub(crate) fn last_samples(&self) -> Option<Timestamp> {
        Some(self.last_samples.load(Ordering::Relaxed)).filter(|at| *at != 0).map(Timestamp::from_millis)
    }

    /// Gap events told by the gateway since the start.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// How often the gateway had to be started anew after a panic.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// The connection's state and since when; `None` before the first attempt ended.
    pub fn connection(&self) -> Option<(Connection, Timestamp)> {
        self.lock().connection
    }

    /// The last failure, in plain words, and when.
    pub fn last_error(&self) -> Option<(String, Timestamp)> {
        self.lock().last_error.clone()
    }

    /// How many data items have no value, as the device refuses or does not know them, and the first of them with its status.
    pub fn without_value(&self) -> Option<(usize, Arc<str>, String)> {
        let items = &self.lock().without_value;
        items.first_key_value().map(|(item, status)| (items.len(), item.clone(), status.clone()))
    }

    /// Looks which data items have a value.
    pub(crate) fn look_at(&self, samples: &[Sample]) {
        let without_value = &mut self.lock().without_value;
        for sample in samples {
            match &sample.quality {
                Quality::Bad(status) => {
                    without_value.insert(sample.item.id.clone(), status.to_string());
                }
                // Almost always there is none.
                _ if without_value.is_empty() => {}
                _ => {
                    without_value.remove(&sample.item.id);
                }
            }
        }
    }

    /// Notes a failure that does not end the connection, e.g. a bad tag.
    pub fn set_error(&self, error: String) {
        self.lock().last_error = Some((error, Timestamp::now()));
    }

    /// Sets the connection's state and returns the one before.
    pub(crate) fn set(&self, connection: Connection) -> Option<Connection> {
        let mut changing = self.lock();
        let before = changing.connection.map(|(state, _)| state);
        if before != Some(connection) {
            changing.connection = Some((connection, Timestamp::now()));
        }
        before
    }

    pub(crate) fn count_samples(&self, count: u64) {
        self.samples.fetch_add(count, Ordering::Relaxed);
        self.last_samples.store(Timestamp::now().millis(), Ordering::Relaxed);
    }

    pub(crate) fn count_gaps(&self, count: u64) {
        self.gaps.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Changing> {
        // Nothing panics while holding the lock; if it did, the fields are still whole.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
