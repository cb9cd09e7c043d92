//! Opening: what is there, what of it counts, where to go on. The rules and their reasons stand in the crate's header.
//!
//! One segment is read, the newest; those before it only as far as a checkpoint at its head cannot be read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoint, KeyCounts};
use crate::commit::Active;
use crate::damage::note;
use crate::format::{HEADER, Header, Kind, SEGMENT_NUMBERS, VERSION, version};
use crate::kept::{self, Kept, KeptCursors};
use crate::ledger::{Ledger, Record};
use crate::quarantine::Quarantine;
use crate::scan::{Identity, Window};
use crate::segment::{self, Segments};
use crate::shared::{Counts, Parts, Shared, now};
use crate::storage::{File, LockError, Storage};
use crate::walk::{Hole, Walk};
use crate::wire::Input;
use crate::{Config, Error, KeyLoss, Loss, LossReason};

/// What was found and done when the log was opened; for the daemon's log and its gap events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovery {
    /// The log was made anew (empty directory, or nothing readable in it): a new epoch began.
    pub is_new_epoch: bool,
    /// The log had been closed in order.
    pub was_closed: bool,
    /// Bytes of a torn tail that were never durable and were cut.
    pub torn_bytes: u64,
    /// Where damaged bytes were put.
    pub quarantined: Vec<PathBuf>,
    /// Losses found now; they are among [`crate::Log::losses`] too, as far as they were not acknowledged before.
    pub losses: Vec<Loss>,
    /// What else a person should know, in sentences.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// A log that can be started.
pub(crate) struct Recovered {
    pub(crate) shared: Shared,
    /// The segment to go on in. Abandoned if a new one must be begun.
    pub(crate) active: Option<Active>,
    pub(crate) recovery: Recovery,
}

/// What stands at the beginning of a segment file.
enum Head {
    Good(Header, Box<Checkpoint>),
    /// The file of another segment, under a wrong name.
    Misnamed(u64),
    /// A segment of an earlier epoch.
    Foreign,
    Harmed,
}

/// What recovery holds while it works.
struct Work<'a> {
    config: &'a Config,
    storage: &'a Arc<dyn Storage>,
    quarantine: Quarantine,
    recovery: Recovery,
    /// Segment files: first sequence and length, oldest first.
    files: Vec<(u64, u64)>,
}

/// What counts, in the end.
struct State {
    epoch: u64,
    next: u64,
    keys: KeyCounts,
    floor: u64,
    cursors: KeptCursors,
    ledger: Ledger,
    active: Option<Active>,
}

/// Finds out what is in the directory and makes it ready.
pub(crate) fn recover(config: Config, storage: Arc<dyn Storage>) -> Result<Recovered, Error> {
    let started = Instant::now();
    let dir = &config.dir;
    storage.create_dir(dir).map_err(Error::io("create the directory", dir))?;
    let lock_path = dir.join("lock");
    let lock = storage.lock(&lock_path).map_err(|error| match error {
        LockError::Held(pid) => Error::Locked { dir: dir.clone(), pid },
        LockError::Io(source) => Error::Io { operation: "lock", path: lock_path, source },
    })?;
    let listed = storage.list(dir).map_err(Error::io("list", dir))?;
    let mut recovery = Recovery::default();
    let notes = &mut recovery.notes;
    let (cursor_slots, kept_cursors) = kept::open(&storage, dir, "cursors", notes, KeptCursors::decode)?;
    let (ledger_slots, kept_ledger) = kept::open(&storage, dir, "ledger", notes, |body| Ledger::decode(&mut Input::new(body)))?;
    let mut work = Work {
        config: &config,
        storage: &storage,
        quarantine: Quarantine::new(storage.clone(), dir, config.max_bytes / 4),
        recovery,
        files: listed.iter().filter_map(|(name, len)| Some((segment::first_of(name)?, *len))).collect(),
    };
    work.files.sort_unstable();
    let state = work.run(kept_cursors, kept_ledger, &listed)?;
    let Work { quarantine, mut recovery, files, .. } = work;
    let mut segments = Segments::default();
    files.iter().for_each(|(first, len)| segments.push(*first, *len));
    recovery.took = started.elapsed();
    let shared = Shared::new(Parts {
        lock,
        epoch: state.epoch,
        counts: Counts::new(state.next - 1, state.keys, state.floor),
        segments,
        cursors: Kept::new(state.epoch, cursor_slots, state.cursors),
        ledger: Kept::new(state.epoch, ledger_slots, state.ledger),
        quarantine,
        storage: storage.clone(),
        config,
    });
    Ok(Recovered { shared, active: state.active, recovery })
}

impl Work<'_> {
    fn run(
        &mut self,
        kept_cursors: Option<(u64, KeptCursors)>,
        kept_ledger: Option<(u64, Ledger)>,
        listed: &[(String, u64)],
    ) -> Result<State, Error> {
        let hint = kept_ledger.as_ref().map(|(epoch, _)| *epoch).max(kept_cursors.as_ref().map(|(epoch, _)| *epoch));
        // Nothing is changed before it is sure that no newer version wrote here.
        self.refuse_newer()?;
        for (name, _) in listed.iter().filter(|(name, _)| name.ends_with(".tmp")) {
            let path = self.config.dir.join(name);
            self.storage.remove(&path).map_err(Error::io("remove", path))?;
        }
        // Names that a killed process gave or took away may not be on the disk yet, and everything from here on relies on them.
        self.storage.sync_dir(&self.config.dir).map_err(Error::io("sync", &self.config.dir))?;
        if let Some((_, ledger)) = &kept_ledger {
            self.finish_removals(ledger.removed)?;
        }
        let Some((position, epoch, base)) = self.find_base(hint)? else {
            return self.begin_anew(hint, kept_cursors, kept_ledger);
        };
        let mut ledger = kept_ledger.filter(|(of, _)| *of == epoch).map(|(_, ledger)| ledger).unwrap_or_default();
        ledger.merge(&base.ledger);
        let cursors = match kept_cursors {
            Some((of, kept)) if of == epoch => kept,
            _ => KeptCursors { cursors: base.cursors.clone(), durable: 0 },
        };
        self.replay(position, epoch, &base, cursors, ledger)
    }

    /// Looks whether a newer version of this program wrote the newest segment.
    fn refuse_newer(&self) -> Result<(), Error> {
        let Some((first, _)) = self.files.last() else { return Ok(()) };
        let path = segment::path(&self.config.dir, *first);
        let file = self.open(&path)?;
        let mut head = [0; HEADER];
        let n = file.read_at(&mut head, 0).unwrap_or(0);
        match version(&head[..n]) {
            Some(found) if found > VERSION => Err(Error::NewerVersion { path, found, known: VERSION }),
            _ => Ok(()),
        }
    }

    fn open(&self, path: &Path) -> Result<Box<dyn File>, Error> {
        self.storage.open(path).map_err(Error::io("open", path))
    }

    /// A crash may have left files that the ledger says are removed.
    fn finish_removals(&mut self, removed: u64) -> Result<(), Error> {
        while let [(first, _), (next, _), ..] = self.files[..] {
            if next - 1 > removed {
                break;
            }
            let path = segment::path(&self.config.dir, first);
            self.storage.remove(&path).map_err(Error::io("remove", path))?;
            self.files.remove(0);
        }
        Ok(())
    }

    /// The newest segment whose checkpoint can be read: its place in the list, its epoch, the checkpoint. Puts aside what is no segment of
    /// this log.
    fn find_base(&mut self, hint: Option<u64>) -> Result<Option<(usize, u64, Checkpoint)>, Error> {
        let mut at = self.files.len();
        while at > 0 {
            at -= 1;
            let (first, len) = self.files[at];
            match self.head(first, hint)? {
                Head::Good(header, checkpoint) => return Ok(Some((at, header.epoch, *checkpoint))),
                Head::Harmed => {}
                Head::Foreign => self.put_aside(at, len, "belongs to an earlier epoch of this log")?,
                Head::Misnamed(own) if self.files.iter().any(|(first, _)| *first == own) => {
                    self.put_aside(at, len, &format!("is a copy of {} under another name", segment::file_name(own)))?;
                }
                Head::Misnamed(own) => {
                    let (from, to) = (segment::path(&self.config.dir, first), segment::path(&self.config.dir, own));
                    self.storage.rename(&from, &to).map_err(Error::io("rename", &from))?;
                    self.storage.sync_dir(&self.config.dir).map_err(Error::io("sync", &self.config.dir))?;
                    self.recovery.notes.push(format!("{} had another name and was renamed to {}", from.display(), to.display()));
                    self.files[at].0 = own;
                    self.files.sort_unstable();
                    at = self.files.len();
                }
            }
        }
        // No checkpoint at all. If nothing was ever removed, the log itself tells everything from its first entry on.
        let Some((1, _)) = self.files.first() else { return Ok(None) };
        Ok(self.epoch_of(1).map(|epoch| (0, epoch, Checkpoint::default())))
    }

    fn head(&self, first: u64, hint: Option<u64>) -> Result<Head, Error> {
        let file = self.open(&segment::path(&self.config.dir, first))?;
        let Ok(mut window) = Window::new(file.as_ref()) else { return Ok(Head::Harmed) };
        let Some(header) = Header::decode(window.bytes(0, HEADER)).filter(|header| header.offset == 0 && header.kind == Kind::Checkpoint)
        else {
            return Ok(Head::Harmed);
        };
        if hint.is_some_and(|hint| header.epoch < hint) {
            return Ok(Head::Foreign);
        }
        let frame = window.bytes(0, header.extent().min(window.len()) as usize);
        match header.fits(frame).then(|| Checkpoint::from_frame(&header, frame)).flatten() {
            Some(_) if header.segment != first => Ok(Head::Misnamed(header.segment)),
            Some(checkpoint) => Ok(Head::Good(header, Box::new(checkpoint))),
            None => Ok(Head::Harmed),
        }
    }

    /// Moves files from `at` on in which nothing can be read to the quarantine; the first sequences that their names speak of.
    fn put_aside_unreadable(&mut self, mut at: usize, epoch: u64) -> Result<Vec<u64>, Error> {
        let mut gone = Vec::new();
        while let Some((first, len)) = self.files.get(at).copied() {
            let file = self.open(&segment::path(&self.config.dir, first))?;
            let found = Window::new(file.as_ref()).ok().and_then(|mut window| window.next_frame(0, Identity { epoch, first }));
            match found {
                Some(_) => at += 1,
                None => {
                    self.put_aside(at, len, "cannot be read")?;
                    gone.push(first);
                }
            }
        }
        Ok(gone)
    }

    /// The epoch of the first frame that can be read in a segment.
    fn epoch_of(&self, first: u64) -> Option<u64> {
        let file = self.storage.open(&segment::path(&self.config.dir, first)).ok()?;
        let mut window = Window::new(file.as_ref()).ok()?;
        let epoch = window.next_epoch(first)?;
        window.next_frame(0, Identity { epoch, first }).map(|_| epoch)
    }

    /// Moves a file that is no segment of this log to the quarantine.
    fn put_aside(&mut self, at: usize, len: u64, why: &str) -> Result<(), Error> {
        let (first, _) = self.files.remove(at);
        let path = segment::path(&self.config.dir, first);
        let kept = self.quarantine.take(first, len).map_err(Error::io("move to the quarantine", &path))?;
        self.recovery.notes.push(format!("{} {why}: moved to {}", path.display(), kept.display()));
        self.recovery.quarantined.push(kept);
        Ok(())
    }

    /// Nothing can be read, or nothing is there: a new epoch.
    fn begin_anew(
        &mut self,
        hint: Option<u64>,
        cursors: Option<(u64, KeptCursors)>,
        ledger: Option<(u64, Ledger)>,
    ) -> Result<State, Error> {
        let had_segments = self.files.iter().any(|(_, len)| *len > 0);
        while let Some((_, len)) = self.files.last().copied() {
            self.put_aside(self.files.len() - 1, len, "cannot be read")?;
        }
        let evidence = cursors.map(|(_, kept)| kept).unwrap_or_default();
        let acknowledged = evidence.cursors.get(crate::Cursor::MIRROR).map_or(0, |cursor| cursor.sequence);
        let known = ledger.map(|(_, ledger)| ledger).unwrap_or_default();
        let last = evidence.durable.max(known.newest.saturating_sub(1));
        let mut ledger = Ledger { next_loss: known.next_loss, records: known.records, ..Ledger::default() };
        ledger.end_epoch(acknowledged);
        if had_segments || last > acknowledged {
            let time = now();
            let loss = Loss {
                id: 0,
                epoch: hint.unwrap_or(0),
                reason: LossReason::Damaged,
                first: acknowledged + 1,
                last: last.max(acknowledged + 1),
                count: None,
                keys: vec![KeyLoss { key: None, first: 0, last: 0, count: None }],
                from: time,
                to: time,
                detail: "no segment of the log could be read; a new epoch began".into(),
            };
            self.recovery.losses.push(ledger.add(loss, acknowledged));
        }
        let now = u64::try_from(now()).unwrap_or(0);
        let epoch = hint.map_or(now, |before| now.max(before + 1)).max(1);
        self.recovery.is_new_epoch = true;
        let cursors = KeptCursors::default();
        Ok(State { epoch, next: 1, keys: KeyCounts::new(), floor: 0, cursors, ledger, active: None })
    }

    /// Goes over the newest segment (and those before it whose heads are harmed) and finds where the log ends.
    fn replay(
        &mut self,
        base: usize,
        epoch: u64,
        checkpoint: &Checkpoint,
        cursors: KeptCursors,
        mut ledger: Ledger,
    ) -> Result<State, Error> {
        let newest = ledger.newest;
        let unreadable = self.put_aside_unreadable(base + 1, epoch)?;
        let mut walk = Walk::new(checkpoint, self.files[base].0);
        let mut active = None;
        let mut at = base;
        while at < self.files.len() {
            let (first, len) = self.files[at];
            let path = segment::path(&self.config.dir, first);
            let file = self.open(&path)?;
            let identity = Identity { epoch, first };
            let mut window = Window::new(file.as_ref()).map_err(Error::io("read", &path))?;
            let is_last = at + 1 == self.files.len();
            let limit = match self.files.get(at + 1) {
                Some((next, _)) => *next,
                None if newest > first => newest,
                None => u64::MAX,
            };
            let end = walk.segment(&mut window, identity, limit, is_last && newest <= first)?;
            let ranges = walk.take_harmed();
            let harmed = ranges.len();
            for (from, to) in ranges {
                match self.quarantine.copy(&mut window, first, from, to) {
                    Ok(kept) => self.recovery.quarantined.push(kept),
                    Err(why) => self.recovery.notes.push(format!("{} is damaged at byte {from}; {why}", path.display())),
                }
            }
            if window.unreadable() > 0 {
                self.recovery.notes.push(format!("the disk did not give {} bytes of {}", window.unreadable(), path.display()));
            }
            if is_last {
                // Opened anew: the descriptor that is written through must not be one that a failure was told to.
                let file = self.open(&path)?;
                rewrite(file.as_ref(), &mut window, &end.doubtful).map_err(Error::io("make durable again", &path))?;
                self.recovery.torn_bytes = end.torn;
                self.recovery.was_closed = end.was_closed;
                // Of a harmed segment nothing is cut off later: what is in it may be all there is.
                let offset = if harmed == 0 { end.offset } else { len };
                active = Some(Active { file, first, offset, reserved: len, is_abandoned: !end.is_clean });
            }
            at += 1;
        }
        let last_first = self.files.last().map_or(0, |(first, _)| *first);
        for first in unreadable.into_iter().filter(|first| *first > last_first) {
            // Nothing in it said that it was ours. Its name may: then what it held is lost.
            if first == walk.expected() {
                walk.missing_segment(first);
            }
        }
        if newest > last_first {
            walk.missing_segment(newest);
        }
        // Numbers that were durable once are never given out again, whatever became of the entries.
        let seen = cursors.cursors.values().map(|cursor| cursor.sequence).chain([cursors.durable]).max().unwrap_or(0);
        let evidence = seen.max(
            ledger
                .records
                .iter()
                .map(|Record { loss, .. }| loss)
                .filter(|loss| loss.epoch == epoch)
                .map(|loss| loss.last)
                .max()
                .unwrap_or(0),
        );
        if seen >= walk.expected() {
            walk.missing_tail(newest.max(last_first).max(walk.expected()), seen);
        }
        walk.skip_to(evidence + 1);
        let (holes, next, keys, floor) = walk.finish();
        let needs_segment = !holes.is_empty() || self.files.is_empty() || base + 1 < self.files.len() || active.is_none();
        self.note_losses(holes, epoch, &cursors, &mut ledger);
        let mut active = active;
        if let Some(active) = &mut active {
            active.is_abandoned |= needs_segment || next - active.first >= SEGMENT_NUMBERS;
            if !active.is_abandoned {
                self.reserve(active);
            }
        }
        Ok(State { epoch, next, keys, floor, cursors, ledger, active })
    }

    /// A segment that somebody cut gets its space again.
    fn reserve(&mut self, active: &mut Active) {
        let wanted = self.config.segment_bytes;
        if active.reserved < wanted && active.file.allocate(wanted).is_ok() {
            active.reserved = wanted;
            if let Some(file) = self.files.last_mut() {
                file.1 = wanted;
            }
        }
    }

    fn note_losses(&mut self, holes: Vec<Hole>, epoch: u64, cursors: &KeptCursors, ledger: &mut Ledger) {
        let acknowledged = cursors.cursors.get(crate::Cursor::MIRROR).map_or(0, |cursor| cursor.sequence);
        for hole in holes {
            for (first, last) in ledger.unknown(epoch, hole.first, hole.last) {
                let is_whole = (first, last) == (hole.first, hole.last);
                let loss = Loss {
                    id: 0,
                    epoch,
                    reason: LossReason::Damaged,
                    first,
                    last,
                    count: hole.is_exact.then_some(last - first + 1),
                    keys: if is_whole { hole.keys.clone() } else { vec![KeyLoss { key: None, first: 0, last: 0, count: None }] },
                    from: hole.from,
                    to: hole.to,
                    detail: hole.why.clone(),
                };
                self.recovery.losses.extend(note(ledger, loss, acknowledged));
            }
        }
    }
}

/// Makes frames durable that are there but may not be on the disk yet: written again, byte for byte, and synced. Reading them proves
/// nothing, and a sync alone neither, if one failed before: the kernel may hold pages as clean that it could not write.
fn rewrite(file: &dyn File, window: &mut Window<'_>, frames: &[(u64, u64)]) -> io::Result<()> {
    for (from, to) in frames {
        file.write_at(window.bytes(*from, (to - from) as usize), *from)?;
    }
    if frames.is_empty() { Ok(()) } else { file.sync_data() }
}
