//! Looking at a log without opening it: no lock, nothing written, whether a daemon runs or not.
//!
//! A log that is being written changes while it is looked at, always in the same order: a segment has its name when what it begins with is
//! durable; the ledger says what goes before it goes. So the ledger is asked first for what must be there, and last for what need not be.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::{HEADER, Kind, VERSION, version};
use crate::kept::{self, KeptCursors};
use crate::ledger::Ledger;
use crate::scan::{Identity, Window};
use crate::segment;
use crate::storage::{ReadOnly, Storage};
use crate::wire::Input;
use crate::{Cursor, Error, Loss};

/// Both slots of a small file are unreadable when they are read while they are written, one after the other. Not this often.
const LOOKS: u32 = 5;

/// A log as it stands on the disk.
#[derive(Debug)]
pub struct Inspection {
    /// The log's own directory.
    pub dir: PathBuf,
    /// When the log was made, Unix milliseconds; 0 if nothing says so.
    pub epoch: u64,
    /// Format version of the files.
    pub version: u16,
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
    /// Last sequence found; 0 = none.
    pub last: u64,
    /// Everything up to here was removed on purpose.
    pub removed: u64,
    /// The cursors by name.
    pub cursors: BTreeMap<String, Cursor>,
    /// Losses that were not told yet, oldest first.
    pub losses: Vec<Loss>,
    /// What is in quarantine: names and bytes.
    pub quarantine: Vec<(String, u64)>,
    /// Files that look like segments and hold nothing of this log, and small files that cannot be read: names, and why.
    pub harmed: Vec<(String, String)>,
    pub(crate) storage: Arc<dyn Storage>,
    /// How far the log was durable when a cursor was last kept.
    pub(crate) durable: u64,
    /// First sequence of the newest segment that existed.
    pub(crate) newest: u64,
    pub(crate) strangers: Vec<u64>,
}

/// A segment, as the headers of its blocks tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// First sequence: its file's name.
    pub first: u64,
    /// Last sequence found; `first - 1` if there is none.
    pub last: u64,
    /// Bytes on disk, as reserved.
    pub bytes: u64,
    /// Of these, written.
    pub used: u64,
    /// Blocks of entries.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// Oldest and newest timestamp, Unix milliseconds; `None` without entries.
    pub times: Option<(i64, i64)>,
    /// Where headers cannot be followed any further, in a segment behind which there is another.
    pub harmed_at: Option<u64>,
}

/// Looks at the log in `dir`: its small files and the headers of its blocks. What the blocks hold is not looked at: [`Inspection::read`].
///
/// # Errors
/// [`Error::NoLog`], [`Error::NewerVersion`], [`Error::Io`].
pub fn inspect(dir: &Path) -> Result<Inspection, Error> {
    inspect_on(dir, Arc::new(ReadOnly))
}

/// As [`inspect`], on another storage; for tests. Only what reads is used of it.
pub fn inspect_on(dir: &Path, storage: Arc<dyn Storage>) -> Result<Inspection, Error> {
    let mut evidence = Evidence::look(&storage, dir)?;
    let listed = match storage.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoLog { dir: dir.to_owned() }),
        listed => listed.map_err(Error::io("list", dir))?,
    };
    let mut files: Vec<u64> = listed.iter().filter_map(|(name, _)| segment::first_of(name)).collect();
    files.sort_unstable();
    if files.is_empty() && evidence.epoch().is_none() && evidence.harmed.is_empty() {
        return Err(Error::NoLog { dir: dir.to_owned() });
    }
    for first in &files {
        refuse_newer(&storage, dir, *first)?;
    }
    let epoch = files.iter().rev().find_map(|first| epoch_of(&storage, dir, *first, evidence.epoch())).or(evidence.epoch()).unwrap_or(0);
    let mut segments = Vec::new();
    let mut strangers = Vec::new();
    for first in files {
        let file = match storage.open(&segment::path(dir, first)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(Error::io("open", segment::path(dir, first)))?,
        };
        let mut window = Window::small(file.as_ref()).map_err(Error::io("read", segment::path(dir, first)))?;
        match Segment::look(&mut window, Identity { epoch, first }) {
            Some(segment) => segments.push(segment),
            None => strangers.push(first),
        }
    }
    let newest = evidence.ledger(epoch).newest;
    let durable = evidence.cursors(epoch).durable;
    // What was removed while we looked is missing on purpose.
    evidence = Evidence::look(&storage, dir)?;
    let (ledger, cursors) = (evidence.ledger(epoch), evidence.cursors(epoch));
    let bounds: Vec<u64> = segments.iter().skip(1).map(|segment: &Segment| segment.first).chain([u64::MAX]).collect();
    let mut bounds = bounds.into_iter();
    segments.retain(|_| bounds.next().is_some_and(|next| next - 1 > ledger.removed));
    strangers.retain(|first| *first > ledger.removed);
    for pair in 1..segments.len() {
        let next = segments[pair].first;
        segments[pair - 1].end_at(next);
    }
    let mut harmed = evidence.harmed;
    harmed.extend(strangers.iter().map(|first| (segment::file_name(*first), "holds nothing of this log".to_owned())));
    Ok(Inspection {
        epoch,
        version: VERSION,
        last: segments.last().map_or(0, |segment| segment.last),
        removed: ledger.removed,
        losses: ledger.untold().cloned().collect(),
        cursors: cursors.cursors,
        quarantine: storage.list(&dir.join("quarantine")).unwrap_or_default(),
        dir: dir.to_owned(),
        segments,
        harmed,
        storage,
        durable,
        newest,
        strangers,
    })
}

impl Inspection {
    /// What the ledger says now.
    pub(crate) fn ledger(&self) -> Result<Ledger, Error> {
        Ok(Evidence::look(&self.storage, &self.dir)?.ledger(self.epoch))
    }

    /// The first sequence of the segment behind the one that begins with `first`, as it is now.
    pub(crate) fn next_of(&self, first: u64) -> Result<Option<u64>, Error> {
        let listed = self.storage.list(&self.dir).map_err(Error::io("list", &self.dir))?;
        let later = listed.iter().filter_map(|(name, _)| segment::first_of(name)).filter(|next| *next > first);
        Ok(later.filter(|next| !self.strangers.contains(next)).min())
    }
}

impl Segment {
    /// Walks over the headers; `None` if there is nothing of the segment in the file.
    fn look(window: &mut Window<'_>, identity: Identity) -> Option<Self> {
        let mut segment = Self { first: identity.first, last: identity.first - 1, bytes: window.len(), ..Self::default() };
        if window.header(0, identity).is_none() {
            segment.used = window.next_frame(0, identity)?.offset;
            segment.harmed_at = Some(0);
        }
        while let Some(header) = window.header(segment.used, identity) {
            segment.used = header.end().min(segment.bytes);
            if header.kind == Kind::Entries {
                segment.last = header.last;
                segment.blocks += 1;
                segment.entries += u64::from(header.count);
                let (oldest, newest) = segment.times.unwrap_or((header.oldest, header.newest));
                segment.times = Some((oldest.min(header.oldest), newest.max(header.newest)));
            }
            if segment.used == segment.bytes {
                break;
            }
        }
        Some(segment)
    }

    /// Another segment follows: so this one is complete, and what it holds beyond was never durable here.
    fn end_at(&mut self, next: u64) {
        if self.last + 1 < next && self.harmed_at.is_none() {
            self.harmed_at = Some(self.used);
        }
        self.last = self.last.min(next - 1);
    }
}

/// What the small files say.
struct Evidence {
    cursors: Option<(u64, KeptCursors)>,
    ledger: Option<(u64, Ledger)>,
    harmed: Vec<(String, String)>,
}

impl Evidence {
    fn look(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Self, Error> {
        let mut looks = 1;
        loop {
            let (mut cursors_notes, mut ledger_notes) = (Vec::new(), Vec::new());
            let (_, cursors) = kept::open(storage, dir, "cursors", &mut cursors_notes, KeptCursors::decode)?;
            let (_, ledger) = kept::open(storage, dir, "ledger", &mut ledger_notes, |body| Ledger::decode(&mut Input::new(body)))?;
            let named = |name: &str, notes: Vec<String>| notes.into_iter().map(|note| (name.to_owned(), note)).collect::<Vec<_>>();
            let harmed = [named("cursors.*", cursors_notes), named("ledger.*", ledger_notes)].concat();
            if harmed.is_empty() || looks == LOOKS {
                return Ok(Self { cursors, ledger, harmed });
            }
            looks += 1;
        }
    }

    fn epoch(&self) -> Option<u64> {
        self.ledger.as_ref().map(|(epoch, _)| *epoch).max(self.cursors.as_ref().map(|(epoch, _)| *epoch))
    }

    fn ledger(&self, epoch: u64) -> Ledger {
        self.ledger.as_ref().filter(|(of, _)| *of == epoch).map(|(_, ledger)| ledger.clone()).unwrap_or_default()
    }

    fn cursors(&self, epoch: u64) -> KeptCursors {
        self.cursors.as_ref().filter(|(of, _)| *of == epoch).map(|(_, cursors)| cursors.clone()).unwrap_or_default()
    }
}

fn refuse_newer(storage: &Arc<dyn Storage>, dir: &Path, first: u64) -> Result<(), Error> {
    let path = segment::path(dir, first);
    let file = match storage.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(Error::io("open", &path))?,
    };
    let mut head = [0; HEADER];
    let read = file.read_at(&mut head, 0).unwrap_or(0);
    match version(&head[..read]) {
        Some(found) if found > VERSION => Err(Error::NewerVersion { path, found, known: VERSION }),
        _ => Ok(()),
    }
}

/// The epoch of a segment, unless it is one of an earlier epoch than the small files speak of.
fn epoch_of(storage: &Arc<dyn Storage>, dir: &Path, first: u64, hint: Option<u64>) -> Option<u64> {
    let file = storage.open(&segment::path(dir, first)).ok()?;
    let mut window = Window::new(file.as_ref()).ok()?;
    window.next_epoch(first).filter(|epoch| hint.is_none_or(|hint| *epoch >= hint))
}
