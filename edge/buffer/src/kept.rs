//! The two small values that the log keeps beside its segments: the cursors and the ledger.
//!
//! The value is read without waiting for the disk; whoever changes it waits for its own write.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::checkpoint::{Cursors, decode_cursors, encode_cursors};
use crate::format::MAX_SAID;
use crate::ledger::Ledger;
use crate::locked::Locked;
use crate::slots::{self, Slots};
use crate::storage::Storage;
use crate::wire::{self, Input};
use crate::{Cursor, Error};

/// A value and its slots.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    epoch: u64,
    writer: Locked<Slots>,
    value: Locked<T>,
    /// Bytes on disk: asked while somebody writes, who must not be waited for.
    bytes: AtomicU64,
}

impl<T: Clone> Kept<T> {
    pub(crate) fn new(epoch: u64, slots: Slots, value: T) -> Self {
        Self { epoch, bytes: AtomicU64::new(slots.bytes()), writer: Locked::new(slots), value: Locked::new(value) }
    }

    fn write(&self, writer: &mut Slots, body: &[u8]) -> Result<(), Error> {
        let written = writer.write(self.epoch, body);
        self.bytes.store(writer.bytes(), Ordering::Relaxed);
        written
    }

    /// The value as it is.
    pub(crate) fn get(&self) -> T {
        self.value.lock().clone()
    }

    /// Looks at the value as it is.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.lock())
    }

    /// Bytes on disk, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Kept<Ledger> {
    /// Changes the ledger; durable on return, unchanged on error.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut Ledger) -> R) -> Result<R, Error> {
        let mut writer = self.writer.lock();
        let mut ledger = self.get();
        let result = change(&mut ledger);
        let mut body = Vec::new();
        ledger.encode(&mut body);
        match self.write(&mut writer, &body) {
            // On a full disk the short form still finds room in what was reserved: better to say less than to say nothing. What had room, and
            // failed all the same, is not shortened: whoever tries again may succeed.
            Err(error) if error.is_full() && !slots::has_room(&body) => {
                ledger = ledger.summed_up();
                body.clear();
                ledger.encode(&mut body);
                self.write(&mut writer, &body).map_err(|_| error)?;
            }
            written => written?,
        }
        *self.value.lock() = ledger;
        Ok(result)
    }
}

/// What the cursors' file says.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptCursors {
    pub(crate) cursors: Cursors,
    /// How far the log was durable when this was written: it can never be shorter again unless something was damaged.
    pub(crate) durable: u64,
}

impl KeptCursors {
    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        wire::put(&mut body, self.durable);
        encode_cursors(&self.cursors, &mut body);
        body
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut input = Input::new(body);
        let durable = input.number().filter(|&n| n < MAX_SAID)?;
        Some(Self { cursors: decode_cursors(&mut input)?, durable })
    }
}

impl Kept<KeptCursors> {
    /// Keeps a cursor; durable on return.
    pub(crate) fn keep(&self, name: &str, cursor: Cursor, durable: impl Fn() -> u64) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        let mut next = self.get();
        next.cursors.insert(name.to_owned(), cursor);
        next.durable = durable();
        self.write(&mut writer, &next.encode())?;
        *self.value.lock() = next;
        Ok(())
    }

    /// Writes the cursors again as they were found: what was read at a start may not be on the disk, if a sync failed before.
    pub(crate) fn refresh(&self) -> Result<(), Error> {
        let mut writer = self.writer.lock();
        self.write(&mut writer, &self.get().encode())
    }
}

/// Opens the slots `name`; their value if it belongs to any epoch.
pub(crate) fn open<T>(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    name: &'static str,
    notes: &mut Vec<String>,
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<(Slots, Option<(u64, T)>), Error> {
    let (slots, found) = Slots::open(storage.clone(), dir, name, notes)?;
    let value = found.and_then(|found| Some((found.epoch, decode(&found.body)?)));
    Ok((slots, value))
}
