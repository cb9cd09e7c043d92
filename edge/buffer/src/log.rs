//! The handle, and the threads behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::commit::{Committer, Failure, in_full};
use crate::gather::{Gatherer, UNDER_WAY};
use crate::locate::Locator;
use crate::locked::Locked;
use crate::pack::Packer;
use crate::queue::Batch;
use crate::recovery::{Recovered, recover};
use crate::shared::Shared;
use crate::stats::Health;
use crate::storage::{Disk, Storage};
use crate::{Appended, Arrivals, Config, Cursor, Entry, Error, KeyLoss, Loss, LossReason, Reader, Recovery, Stats};

/// Threads that compress: two keep a disk busy that writes three million small entries a second.
const PACKERS: usize = 2;

/// An opened log.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// What opening it found.
    pub recovery: Recovery,
}

/// Opens the log in `config.dir`, or makes one there.
///
/// Whatever the directory holds, the log opens; what could not be read is in [`Recovery`]. Errors are: settings that cannot be, another
/// process in the directory, a log of a newer version, no room for a new log, or file operations that fail.
pub fn open(config: Config) -> Result<Opened, Error> {
    open_on(config, Arc::new(Disk))
}

/// As [`open`], on another storage; for tests.
pub fn open_on(config: Config, storage: Arc<dyn Storage>) -> Result<Opened, Error> {
    config.check()?;
    let Recovered { shared, active, mut recovery } = recover(config, storage)?;
    let shared = Arc::new(shared);
    let starting = || Error::io("start the threads of the log in", &shared.config.dir);
    let (packer, pack) = Packer::start(PACKERS, UNDER_WAY).map_err(starting())?;
    let needs_segment = active.as_ref().is_none_or(|active| active.is_abandoned);
    let mut committer = Committer::new(shared.clone(), packer.spares(), active).map_err(starting())?;
    if needs_segment {
        match committer.begin() {
            Ok(()) => {}
            Err(Failure::Disk(error)) => return Err(error),
            Err(Failure::Full(_)) if recovery.is_new_epoch => return Err(no_room(&shared)),
            // What is there can be read and acknowledged, and that may make room.
            Err(Failure::Full(why)) => {
                recovery.notes.push(format!("there is no room for another segment: {why}"));
                *shared.meter.health.lock() = Health::Full(why);
            }
        }
    }
    // What was found counts from now on; so it must be on the disk from now on, which reading it does not prove.
    let kept = shared.cursors.refresh().and_then(|()| shared.ledger.update(|_| ()));
    kept.map_err(|error| if error.is_full() && recovery.is_new_epoch { no_room(&shared) } else { error })?;
    let (jobs, queue) = sync_channel(UNDER_WAY);
    let gatherer = Gatherer::new(shared.clone(), packer, jobs);
    let commit = Builder::new().name("log-commit".into()).spawn(move || committer.run(&queue)).map_err(starting())?;
    let gather = Builder::new().name("log-gather".into()).spawn(move || gatherer.run()).map_err(starting())?;
    let threads = Locked::new(Some(Threads { gather, commit, pack }));
    Ok(Opened { log: Log { inner: Arc::new(Inner { shared, locator: Locked::default(), threads }) }, recovery })
}

fn no_room(shared: &Shared) -> Error {
    let dir = shared.config.dir.clone();
    let free = shared.storage.free_space(&dir).unwrap_or(0);
    Error::NoRoom { dir, needed: shared.config.segment_bytes, free, keep: shared.config.min_free }
}

/// A handle on the log; cheap to clone. When the last one is dropped, the log is closed as [`Log::close`] does.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    locator: Locked<Locator>,
    threads: Locked<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    gather: JoinHandle<()>,
    commit: JoinHandle<Result<(), Error>>,
    pack: Vec<JoinHandle<()>>,
}

impl Log {
    /// When the log was made, Unix milliseconds; another epoch means other numbers.
    pub fn epoch(&self) -> u64 {
        self.inner.shared.epoch
    }

    /// Hands entries over to be made durable together with others; `done` is called when their fate is known.
    ///
    /// Batches become durable, and are told so, in the order of the calls. A batch is not atomic: a crash may keep the front of it. Of
    /// nothing to append, `done` is told at once.
    ///
    /// Waits while the queue is full: call it from a thread of its own, never from async code. `done` runs on the log's commit thread: it
    /// must not wait for anything, append, or close the log.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::EntryTooLarge`] for one entry above [`Config::max_entry_bytes`]; then none was taken, and `done` is
    /// dropped without a call.
    pub fn append(&self, entries: Vec<Entry>, done: impl FnOnce(Appended) + Send + 'static) -> Result<(), Error> {
        let shared = &self.inner.shared;
        let limit = shared.config.max_entry_bytes();
        if let Some(large) = entries.iter().find(|entry| entry.key.len() + entry.value.len() > limit) {
            let key = large.key.chars().take(64).collect();
            return Err(Error::EntryTooLarge { key, bytes: large.key.len() + large.value.len(), limit });
        }
        if entries.is_empty() {
            let durable = shared.durable();
            done(Appended::Durable { first: durable + 1, last: durable });
            return Ok(());
        }
        shared.queue.push(Batch { entries, done: Box::new(done) })
    }

    /// As [`Self::append`], and waits until the fate of the entries is known.
    pub fn append_durable(&self, entries: Vec<Entry>) -> Result<Appended, Error> {
        let (tell, told) = sync_channel(1);
        self.append(entries, move |outcome| drop(tell.send(outcome)))?;
        told.recv().map_err(|_| Error::Closed)
    }

    /// Reads from the sequence `after` + 1 on. A reader goes on working when the log is closed; while one lives, no other process may
    /// open the log.
    pub fn reader(&self, after: u64) -> Reader {
        Reader::new(self.inner.shared.clone(), after)
    }

    /// The last durable sequence; 0 = none yet.
    pub fn durable(&self) -> u64 {
        self.inner.shared.durable()
    }

    /// Every key that ever had an entry in this epoch, with the number of its last durable one. Copies all of them.
    pub fn keys(&self) -> HashMap<Arc<str>, u64> {
        self.inner.shared.counts.lock().by_name()
    }

    /// Waits until [`Self::durable`] is greater than `beyond`, at most `timeout`; returns it as it is then.
    pub fn wait_durable(&self, beyond: u64, timeout: Duration) -> u64 {
        self.inner.shared.wait_durable(beyond, timeout)
    }

    /// The cursor `name` as it was last kept.
    pub fn cursor(&self, name: &str) -> Option<Cursor> {
        self.inner.shared.cursors.with(|kept| kept.cursors.get(name).cloned())
    }

    /// Keeps the cursor `name`; durable on return (one small write and fdatasync, beside the commit thread's). The cursor
    /// [`Cursor::MIRROR`] drives retention.
    ///
    /// # Errors
    /// [`Error::CursorAhead`] beyond what is durable, [`Error::CursorInvalid`] beyond a limit of [`Cursor`], [`Error::Io`]. The cursor then
    /// is as it was before; after a crash it may be either.
    pub fn keep_cursor(&self, name: &str, cursor: Cursor) -> Result<(), Error> {
        let shared = &self.inner.shared;
        let durable = shared.durable();
        if cursor.sequence > durable {
            return Err(Error::CursorAhead { name: name.into(), sequence: cursor.sequence, durable });
        }
        let invalid = |problem: String| Err(Error::CursorInvalid { name: name.chars().take(Cursor::MAX_NAME).collect(), problem });
        if name.is_empty() || name.len() > Cursor::MAX_NAME {
            return invalid(format!("its name has {} bytes, 1 to {} are allowed", name.len(), Cursor::MAX_NAME));
        }
        if cursor.note.len() > Cursor::MAX_NOTE {
            return invalid(format!("its note has {} bytes, at most {} are allowed", cursor.note.len(), Cursor::MAX_NOTE));
        }
        let crowded = shared.cursors.with(|kept| !kept.cursors.contains_key(name) && kept.cursors.len() >= Cursor::MAX_COUNT);
        if crowded {
            return invalid(format!("the log keeps {} cursors already", Cursor::MAX_COUNT));
        }
        shared.cursors.keep(name, cursor, || shared.durable())
    }

    /// Losses that were not told yet, oldest first.
    ///
    /// One that was [dropped](crate::LossReason::DroppedOldest) is final when the mirror's cursor has passed it: until then it may grow, and what the
    /// mirror had in its memory may arrive ([`Self::arrived`]).
    pub fn losses(&self) -> Vec<Loss> {
        self.inner.shared.ledger.with(|ledger| ledger.untold().cloned().collect())
    }

    /// Makes durable that entries were refused, also on a full disk: how many of each key, with timestamps (Unix ms) `from` to `to`, and why. They
    /// are listed as one loss, which grows until it is told.
    pub fn note_refused(&self, counts: Vec<(Arc<str>, u64)>, from: i64, to: i64, why: String) -> Result<(), Error> {
        let count = Some(counts.iter().map(|(_, count)| count).sum());
        let of_key = |(key, count)| KeyLoss { key: Some(key), first: 0, last: 0, count: Some(count) };
        let keys = counts.into_iter().map(of_key).collect();
        let shared = &self.inner.shared;
        let loss = Loss { id: 0, epoch: shared.epoch, reason: LossReason::Refused, first: 0, last: 0, count, keys, from, to, detail: why };
        shared.ledger.update(|ledger| ledger.add_refused(loss))
    }

    /// Entries were appended (durably) for this loss, the last one as `at`: it is not listed any more, unless they are themselves lost before
    /// the mirror's cursor has passed them. Durable on return.
    ///
    /// Pass the loss as [`Self::losses`] gave it: one that has changed since stays listed, of refused entries without what was told.
    pub fn told(&self, loss: &Loss, at: u64) -> Result<(), Error> {
        let acknowledged = self.inner.shared.acknowledged();
        self.inner.shared.ledger.update(|ledger| {
            ledger.told(loss, at);
            ledger.forget(acknowledged);
        })
    }

    /// Everything up to `sequence` reached the mirror's goal or is settled, though the cursor may not say so yet: it is not lost from now
    /// on. Returns the last sequence that was dropped before; what arrived up to there is to be told by [`Self::arrived`].
    /// In memory; waits only while a segment that was not acknowledged is being dropped.
    pub fn acknowledge(&self, sequence: u64) -> u64 {
        let mut arrival = self.inner.shared.arrival.lock();
        arrival.through = arrival.through.max(sequence);
        arrival.dropped
    }

    /// These entries arrived although the log had dropped them: losses that were not told yet do not count them any more. Durable on
    /// return. To be called before the mirror's cursor passes them.
    pub fn arrived(&self, arrivals: &Arrivals) -> Result<(), Error> {
        let shared = &self.inner.shared;
        shared.ledger.update(|ledger| ledger.arrived(shared.epoch, arrivals))
    }

    /// Whether entries are being taken.
    pub fn health(&self) -> Health {
        self.inner.shared.meter.health.lock().clone()
    }

    /// What the log tells about itself.
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        let mut stats = Stats::default();
        shared.meter.fill(&mut stats);
        {
            let segments = shared.segments.lock();
            (stats.segments, stats.bytes, stats.first) = (segments.len(), segments.bytes(), segments.first().unwrap_or(0));
        }
        stats.bytes += shared.other_bytes();
        stats.quarantine_bytes = shared.quarantine.bytes();
        stats.last = shared.durable();
        if stats.first > stats.last {
            stats.first = 0;
        }
        stats.acknowledged = shared.acknowledged();
        if let Some(block) = self.inner.locator.lock().block_after(shared, stats.acknowledged) {
            let written = shared.meter.written.load(Ordering::Relaxed);
            stats.oldest_unacknowledged = Some(block.oldest);
            stats.unacknowledged_bytes = shared.segments.lock().bytes_behind(block.segment, block.offset, written);
        }
        stats.free_bytes = shared.storage.free_space(&shared.config.dir).unwrap_or(0);
        stats.keys = shared.counts.lock().names.len();
        stats.losses = shared.ledger.with(|ledger| ledger.untold().count());
        stats.queue_bytes = shared.queue.bytes();
        stats
    }

    /// Writes what is queued, closes the log in order and stops its threads. Other handles get [`Error::Closed`] from then on.
    pub fn close(self) -> Result<(), Error> {
        self.inner.stop()
    }
}

impl Inner {
    fn stop(&self) -> Result<(), Error> {
        self.shared.queue.close();
        let Some(Threads { gather, commit, pack }) = self.threads.lock().take() else { return Ok(()) };
        let this = std::thread::current().id();
        if commit.thread().id() == this || gather.thread().id() == this {
            // The last handle was dropped by a callback: the threads end by themselves, nobody can wait for them.
            return Ok(());
        }
        // A thread that panicked has said so.
        drop(gather.join());
        let closed = commit.join().unwrap_or(Err(Error::Closed));
        for thread in pack {
            drop(thread.join());
        }
        closed
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(error = in_full(&error), "the log could not be closed in order");
        }
    }
}
