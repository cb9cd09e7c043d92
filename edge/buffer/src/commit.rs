//! The commit thread: writes blocks, makes them durable, tells who waits, opens segments, removes old ones.
//!
//! One write and one fdatasync for all blocks that are ready. The next group is not written before the one before is durable: so each
//! frame can say up to where the file was durable before it (`synced`), which is what recovery decides by.
//!
//! After a write or an fdatasync failed, nothing is known about what the file holds, and asking again would not tell: the kernel may have
//! forgotten the pages that it could not write. The segment is abandoned from its last durable frame on; the same blocks go into a new
//! segment, which begins with the first of them. If that fails too, they are refused, and the next group tries again after a pause.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoint, empty};
use crate::format::{Frame, Kind, SEGMENT_NUMBERS};
use crate::gather::{Block, Job, Waiting};
use crate::pack::Spares;
use crate::queue::Done;
use crate::retention::NoRoom;
use crate::segment;
use crate::shared::{Shared, now};
use crate::stats::{Health, Meter};
use crate::storage::{self, File};
use crate::{Appended, Error, Refusal};

/// What the journal knows these messages by; its catalog explains them.
const TAKES_NOTHING: &str = "a1d6432a08684f2bb3718a77cb75251d";
const TAKES_AGAIN: &str = "67a5da652ab14239be9a638c6eaa8916";

/// Bytes of one group commit, about.
const GROUP: u64 = 4 << 20;
/// Kept free at a segment's end for the frame that says the log was closed in order.
const END_ROOM: u64 = 112;
/// Segments that are not needed any more are looked for this often.
const TICK: Duration = Duration::from_secs(5);
/// The first pause after a failure; doubled up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: Box<dyn File>,
    pub(crate) first: u64,
    /// Everything before it is durable.
    pub(crate) offset: u64,
    pub(crate) reserved: u64,
    /// A write to it failed: nothing is written to it any more.
    pub(crate) is_abandoned: bool,
}

/// A block with its frame.
struct Ready {
    frame: Frame,
    block: Block,
}

/// Why a segment could not be begun.
#[derive(Debug)]
pub(crate) enum Failure {
    Full(String),
    Disk(Error),
}

impl Failure {
    /// As those are told who wait for their entries.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Full(why) => Refusal::Full(why),
            Self::Disk(error) => Refusal::Disk(in_full(&error)),
        }
    }
}

/// The commit thread's state.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    zstd: zstd::bulk::Compressor<'static>,
    /// `None` until there was room for a first one.
    active: Option<Active>,
    scratch: Vec<u8>,
    /// Why numbers became void last.
    reason: Refusal,
    pause: Duration,
    not_before: Option<Instant>,
    /// Segments tried to begin.
    attempts: u64,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, spares: Arc<Spares>, active: Option<Active>) -> io::Result<Self> {
        let committer = Self {
            shared,
            spares,
            zstd: zstd::bulk::Compressor::new(1)?,
            active,
            scratch: Vec::new(),
            reason: Refusal::Closed,
            pause: FIRST_PAUSE,
            not_before: None,
            attempts: 0,
        };
        committer.note_written();
        Ok(committer)
    }

    /// Commits until the last job came, and closes the log in order.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) -> Result<(), Error> {
        let _ending = Ending(self.shared.clone());
        let mut held = None;
        let mut looked = Instant::now();
        loop {
            let next = match held.take() {
                Some(job) => job,
                None => match jobs.recv_timeout(TICK) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        self.look_around();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => Job::End,
                },
            };
            match next {
                Job::Block(block) => {
                    let group = self.group(block, jobs, &mut held);
                    self.commit(group);
                    if looked.elapsed() >= TICK {
                        self.look_around();
                        looked = Instant::now();
                    }
                }
                Job::Void(waiting) => self.refuse(waiting),
                Job::End => break,
            }
        }
        self.close()
    }

    /// What is done now and then: old segments go; and if somebody took the segment's file away, what comes is not written into nothing.
    fn look_around(&mut self) {
        self.shared.retain();
        let Some(active) = self.active.as_mut().filter(|active| !active.is_abandoned) else { return };
        let path = self.shared.path(active.first);
        if matches!(self.shared.storage.open(&path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            tracing::error!(path = %path.display(), "the file that is being written was taken away: going on in a new one; what it held is lost");
            active.is_abandoned = true;
        }
    }

    /// The block and those behind it that are ready too.
    fn group(&mut self, block: Block, jobs: &Receiver<Job>, held: &mut Option<Job>) -> Vec<Ready> {
        let mut group = Vec::new();
        let mut bytes = 0;
        match block.frame.recv() {
            Ok(frame) => {
                bytes += frame.len();
                group.push(Ready { frame, block });
            }
            Err(_) => {
                // The thread that compressed it is gone. Its numbers, and all behind, are void.
                *self.shared.meter.health.lock() = Health::Failing("a thread of the log ended unexpectedly".into());
                self.make_void(Refusal::Disk("a thread of the log ended unexpectedly".into()));
                self.refuse(block.waiting);
            }
        }
        while bytes < GROUP {
            match jobs.try_recv() {
                Ok(Job::Block(block)) => match block.frame.try_recv() {
                    Ok(frame) => {
                        bytes += frame.len();
                        group.push(Ready { frame, block });
                    }
                    // Not compressed yet: it would make the others wait. Or the thread that does it is gone, which its turn will show.
                    Err(_) => {
                        *held = Some(Job::Block(block));
                        break;
                    }
                },
                Ok(job) => {
                    *held = Some(job);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    fn commit(&mut self, mut group: Vec<Ready>) {
        while !group.is_empty() {
            let generation = self.shared.generation.load(Ordering::Acquire);
            let stale = group.iter().take_while(|ready| ready.block.generation != generation).count();
            if stale > 0 {
                for ready in group.drain(..stale) {
                    self.refuse(ready.block.waiting);
                }
                continue;
            }
            if group.first().is_some_and(|ready| ready.block.first != self.shared.durable() + 1) {
                // Cannot be, and must never reach the disk.
                self.make_void(Refusal::Disk("the log lost count of its numbers".into()));
                continue;
            }
            if let Some(until) = self.not_before {
                self.shared.queue.wait_closed(until.saturating_duration_since(Instant::now()));
            }
            let started = Instant::now();
            match self.write(&mut group) {
                Ok(written) => {
                    self.shared.meter.synced(started.elapsed());
                    self.recovered();
                    self.complete(group.drain(..written));
                }
                Err(failure) => {
                    self.failed(failure);
                    for ready in group.drain(..) {
                        self.refuse(ready.block.waiting);
                    }
                }
            }
        }
    }

    /// Makes the front of the group durable; how many blocks of it.
    fn write(&mut self, group: &mut [Ready]) -> Result<usize, Failure> {
        if let Some(active) = self.active.as_mut().filter(|active| !active.is_abandoned) {
            let fitting = fitting(group, active.offset, active.reserved, active.first);
            if fitting > 0 {
                self.scratch.clear();
                for ready in &mut group[..fitting] {
                    let at = active.offset + self.scratch.len() as u64;
                    self.scratch.extend_from_slice(ready.frame.place(active.first, at, active.offset));
                }
                let written = active.file.write_at(&self.scratch, active.offset).and_then(|()| active.file.sync_data());
                match written {
                    Ok(()) => {
                        active.offset += self.scratch.len() as u64;
                        return Ok(fitting);
                    }
                    Err(error) => {
                        active.is_abandoned = true;
                        Meter::add(&self.shared.meter.sync_failures, 1);
                        tracing::error!(segment = active.first, offset = active.offset, %error, "writing the log failed: going on in a new segment");
                    }
                }
            }
        }
        self.begin_segment(group)
    }

    /// Begins a segment without entries.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        self.begin_segment(&mut [])?;
        self.note_written();
        Ok(())
    }

    /// Begins a segment with the front of the group; how many blocks of it, at least one unless the group is empty.
    ///
    /// It gets its name only when what it begins with is durable.
    fn begin_segment(&mut self, group: &mut [Ready]) -> Result<usize, Failure> {
        let shared = self.shared.clone();
        let first = shared.durable() + 1;
        let checkpoint = {
            let counts = shared.counts.lock();
            Checkpoint { keys: counts.by_name(), floor: counts.floor, cursors: shared.cursors.get().cursors, ledger: shared.ledger.get() }
        };
        let mut frame = checkpoint.to_frame(shared.epoch, first, now(), &mut self.zstd);
        let needed = frame.len() + group.first().map_or(0, |ready| ready.frame.len()) + END_ROOM;
        // A segment that is mostly checkpoint would make no headway.
        let reserved = shared.config.segment_bytes.max(needed + frame.len()).next_multiple_of(4096);
        frame.set_reserved(reserved);
        // Somebody may have taken the whole folder away.
        shared.storage.create_dir(&shared.config.dir).map_err(|error| Failure::Disk(Error::io("make", &shared.config.dir)(error)))?;
        let (file, temporary) = loop {
            shared.make_room(reserved).map_err(|NoRoom(why)| Failure::Full(why))?;
            self.attempts += 1;
            let temporary = shared.config.dir.join(segment::temporary(self.attempts));
            match shared.storage.create(&temporary).and_then(|file| file.allocate(reserved).map(|()| file)) {
                Ok(file) => break (file, temporary),
                Err(error) if storage::is_full(&error) => {
                    drop(shared.storage.remove(&temporary));
                    // Less is free than the file system said.
                    shared.drop_one().map_err(|NoRoom(why)| Failure::Full(why))?;
                }
                Err(error) => return Err(Failure::Disk(Error::io("create", temporary)(error))),
            }
        };
        self.scratch.clear();
        // `synced` 0: a segment that has its name holds all that it began with.
        self.scratch.extend_from_slice(frame.place(first, 0, 0));
        let fitting = fitting(group, frame.len(), reserved, first);
        for ready in &mut group[..fitting] {
            let at = self.scratch.len() as u64;
            self.scratch.extend_from_slice(ready.frame.place(first, at, 0));
        }
        let made = file
            .write_at(&self.scratch, 0)
            .map_err(Error::io("write", &temporary))
            .and_then(|()| file.sync_data().map_err(Error::io("sync", &temporary)));
        if let Err(error) = made {
            drop(shared.storage.remove(&temporary));
            return Err(self.not_begun(error));
        }
        let path = shared.path(first);
        let named = shared
            .storage
            .rename(&temporary, &path)
            .map_err(Error::io("rename to", &path))
            .and_then(|()| shared.storage.sync_dir(&shared.config.dir).map_err(Error::io("sync", &shared.config.dir)));
        if let Err(error) = named {
            // The name may be there, now or after a power cut, and with it numbers that are refused here. They must not be given to what is
            // written elsewhere: whatever comes next goes into a segment of this very name, in its place.
            drop(shared.storage.remove(&temporary));
            if let Some(active) = &mut self.active {
                active.is_abandoned = true;
            }
            return Err(self.not_begun(error));
        }
        let offset = self.scratch.len() as u64;
        let before = self.active.replace(Active { file, first, offset, reserved, is_abandoned: false });
        if let Some(before) = before.filter(|before| before.first < first) {
            // What was reserved and not used goes back; what stands behind the last durable frame is of no use to anybody.
            if before.file.set_len(before.offset).is_ok() {
                shared.segments.lock().resized(before.first, before.offset);
            }
        }
        shared.segments.lock().push(first, reserved);
        // If this cannot be said now, it will be with the next change of the ledger.
        if let Err(error) = shared.ledger.update(|ledger| ledger.newest = first) {
            tracing::warn!(error = in_full(&error), "the ledger could not be written");
        }
        shared.retain();
        Ok(fitting)
    }

    fn not_begun(&self, error: Error) -> Failure {
        Meter::add(&self.shared.meter.sync_failures, 1);
        if error.is_full() { Failure::Full(in_full(&error)) } else { Failure::Disk(error) }
    }

    /// Tells those who wait that their entries are durable.
    fn complete(&mut self, group: std::vec::Drain<'_, Ready>) {
        let shared = self.shared.clone();
        let group: Vec<Ready> = group.collect();
        let Some(last) = group.last().map(|ready| ready.block.last) else { return };
        {
            let mut counts = shared.counts.lock();
            for (key, entries) in group.iter().flat_map(|ready| &ready.block.keys) {
                counts.add(*key, *entries);
            }
            counts.sequence = last;
        }
        shared.set_durable(last);
        self.note_written();
        if self.scratch.capacity() as u64 > 2 * GROUP {
            // One huge entry must not leave its buffer behind for ever.
            self.scratch = Vec::new();
        }
        let meter = &shared.meter;
        Meter::add(&meter.blocks, group.len() as u64);
        for Ready { frame, block } in group {
            Meter::add(&meter.appended, block.last - block.first + 1);
            Meter::add(&meter.stored_bytes, frame.len());
            Meter::add(&meter.plain_bytes, frame.header().map_or(0, |header| u64::from(header.plain)));
            self.spares.give_frame(frame);
            for Waiting { first, len, done } in block.waiting {
                tell(done, Appended::Durable { first, last: first + len as u64 - 1 });
            }
        }
    }

    fn note_written(&self) {
        let written = self.active.as_ref().map_or(0, |active| active.offset);
        self.shared.meter.written.store(written, Ordering::Relaxed);
    }

    /// Refuses batches, of which entries may be durable all the same.
    fn refuse(&mut self, batches: Vec<Waiting>) {
        let durable = self.shared.durable();
        for Waiting { first, len, done } in batches {
            let kept = usize::try_from((durable + 1).saturating_sub(first)).unwrap_or(usize::MAX).min(len);
            Meter::add(&self.shared.meter.refused, (len - kept) as u64);
            tell(done, Appended::Refused { reason: self.reason.clone(), durable: kept });
        }
    }

    fn make_void(&mut self, reason: Refusal) {
        self.reason = reason;
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn failed(&mut self, failure: Failure) {
        let health = match &failure {
            Failure::Full(why) => Health::Full(why.clone()),
            Failure::Disk(error) => {
                self.not_before = Instant::now().checked_add(self.pause);
                self.pause = (self.pause * 2).min(LAST_PAUSE);
                Health::Failing(in_full(error))
            }
        };
        let mut before = self.shared.meter.health.lock();
        if std::mem::discriminant(&*before) != std::mem::discriminant(&health) {
            tracing::error!(?health, message_id = TAKES_NOTHING, "the log takes no entries");
        }
        *before = health;
        drop(before);
        self.make_void(failure.into_refusal());
    }

    fn recovered(&mut self) {
        (self.pause, self.not_before) = (FIRST_PAUSE, None);
        let mut health = self.shared.meter.health.lock();
        if *health != Health::Writable {
            tracing::info!(message_id = TAKES_AGAIN, "the log takes entries again");
            *health = Health::Writable;
        }
    }

    /// Says in the segment that the log was closed in order.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        let Some(active) = self.active.as_mut().filter(|active| !active.is_abandoned) else { return Ok(()) };
        let header = empty(Kind::End, self.shared.epoch, self.shared.durable() + 1, now());
        let mut frame = Frame::make(header, &[], &mut self.zstd, Vec::new());
        if active.offset + frame.len() > active.reserved {
            return Ok(());
        }
        let bytes = frame.place(active.first, active.offset, active.offset);
        let path = self.shared.path(active.first);
        active.file.write_at(bytes, active.offset).map_err(Error::io("write", &path))?;
        active.file.sync_data().map_err(Error::io("sync", &path))
    }
}

/// However the commit thread ends, nobody may go on handing entries to it.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        *self.0.meter.health.lock() = Health::Closed;
        self.0.queue.close();
    }
}

/// How many blocks of a group's front fit into a segment.
fn fitting(group: &[Ready], mut offset: u64, reserved: u64, first: u64) -> usize {
    let fits = |ready: &&Ready| {
        offset += ready.frame.len();
        offset + END_ROOM <= reserved && ready.block.last - first < SEGMENT_NUMBERS
    };
    group.iter().take_while(fits).count()
}

fn tell(done: Done, outcome: Appended) {
    // Somebody else's panic must not end the log.
    if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
        tracing::error!("a callback of the log panicked");
    }
}

/// An error with its causes.
pub(crate) fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
