//! A disk in memory that does what real ones do when things go wrong.
//!
//! - Power cut, at any operation: of each write that was not synced, each 512-byte sector is kept or lost by itself; names that were not
//!   synced are kept or lost one by one. Whoever goes on after the cut (threads that have not noticed) gets errors.
//! - Kill: the process is gone, the page cache is not.
//! - A failing sync: some of the unsynced bytes reach the disk, the others never will, although they are still read back (the page cache
//!   lies) and the next sync says all is well.
//! - A failing sync of a directory: the names stay as they are, and may be lost by a power cut.
//! - A full disk, failing writes (a part of which is done), failing reads, changed bytes.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_buffer::storage::{File, LockError, Storage};

const SECTOR: usize = 512;

/// A small generator: the same seed gives the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

/// A file's content, as read and as durable.
#[derive(Clone, Debug, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
struct State {
    random: Random,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending: Vec<Naming>,
    capacity: u64,
    /// Grows with each power cut and kill: older descriptors are dead.
    life: u64,
    is_locked: bool,
    /// Operations until the power goes.
    fuse: Option<u64>,
    is_dead: bool,
    fail_syncs: u64,
    fail_dir_syncs: u64,
    fail_writes: u64,
    /// Reads that touch these bytes fail.
    bad: Vec<(PathBuf, u64, u64)>,
    operations: u64,
    /// Bytes read.
    read: u64,
    trace: Vec<String>,
}

/// The disk.
#[derive(Clone, Debug)]
pub(crate) struct Sim {
    state: Arc<Mutex<State>>,
    life: u64,
}

/// An open file on it.
#[derive(Debug)]
struct SimFile {
    sim: Sim,
    inode: usize,
}

fn dead() -> io::Error {
    io::Error::other("the power is off")
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn broken() -> io::Error {
    io::Error::other("input/output error (simulated)")
}

impl Sim {
    pub(crate) fn new(seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            capacity: u64::MAX / 2,
            life: 0,
            is_locked: false,
            fuse: None,
            is_dead: false,
            fail_syncs: 0,
            fail_dir_syncs: 0,
            fail_writes: 0,
            bad: Vec::new(),
            operations: 0,
            read: 0,
            trace: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), life: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// The power goes at the `n`th operation from now.
    pub(crate) fn light_fuse(&self, n: u64) {
        self.state().fuse = Some(n);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// The power is off, and on again: what is left, for the next process.
    pub(crate) fn power_cut(&self) -> Self {
        let mut state = self.state();
        state.power_cut();
        state.revive().into_sim(&self.state)
    }

    /// A copy of the disk as it is now, with a fate of its own.
    pub(crate) fn fork(&self, seed: u64) -> Self {
        let state = State { random: Random::new(seed), ..self.state().clone() };
        Self { state: Arc::new(Mutex::new(state)), life: self.life }
    }

    /// The process is gone, the machine is not.
    pub(crate) fn kill(&self) -> Self {
        self.state().revive().into_sim(&self.state)
    }

    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    pub(crate) fn fail_syncs(&self, n: u64) {
        self.state().fail_syncs = n;
    }

    pub(crate) fn fail_dir_syncs(&self, n: u64) {
        self.state().fail_dir_syncs = n;
    }

    pub(crate) fn fail_writes(&self, n: u64) {
        self.state().fail_writes = n;
    }

    pub(crate) fn no_faults(&self) {
        let mut state = self.state();
        (state.fail_syncs, state.fail_dir_syncs, state.fail_writes, state.fuse) = (0, 0, 0, None);
        state.bad.clear();
    }

    /// All bytes can be read again.
    pub(crate) fn mend(&self) {
        self.state().bad.clear();
    }

    /// Reads of these bytes fail from now on.
    pub(crate) fn fail_reads(&self, path: &Path, from: u64, to: u64) {
        self.state().bad.push((path.to_owned(), from, to));
    }

    /// Names of files, and how long they are.
    pub(crate) fn files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.state();
        state.names.iter().map(|(path, inode)| (path.clone(), state.inodes[*inode].cached.len())).collect()
    }

    /// A file's bytes, to be looked at or changed, durably.
    pub(crate) fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = *state.names.get(path).unwrap_or_else(|| panic!("{} is not there", path.display()));
        let file = &mut state.inodes[inode];
        file.sync();
        change(&mut file.cached);
        file.durable = file.cached.clone();
    }

    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.edit(path, |content| bytes = content.clone());
        bytes
    }

    /// Makes a file, or replaces one.
    pub(crate) fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        state.inodes.push(Inode { cached: bytes.clone(), durable: bytes, pending: Vec::new() });
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), inode);
        state.durable_names = state.names.clone();
    }

    pub(crate) fn delete(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path).unwrap_or_else(|| panic!("{} is not there", path.display()));
        state.durable_names = state.names.clone();
    }

    /// What was done last, for the report of a failure.
    pub(crate) fn trace(&self) -> String {
        let state = self.state();
        state.trace[state.trace.len().saturating_sub(60)..].join("\n")
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn read_so_far(&self) -> u64 {
        self.state().read
    }

    /// Counts an operation that changes something; the power may go.
    fn operate(&self, what: impl FnOnce() -> String) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.is_dead || state.life != self.life {
            return Err(dead());
        }
        state.operations += 1;
        let line = format!("{} {}", state.operations, what());
        state.trace.push(line);
        if state.trace.len() > 4000 {
            state.trace.drain(..2000);
        }
        if let Some(fuse) = &mut state.fuse {
            if *fuse == 0 {
                state.is_dead = true;
                state.trace.push("POWER CUT".into());
            } else {
                *fuse -= 1;
            }
        }
        Ok(state)
    }

    fn look(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_dead || state.life != self.life { Err(dead()) } else { Ok(state) }
    }
}

/// A state that the next process may use.
struct Revived(u64);

impl Revived {
    fn into_sim(self, state: &Arc<Mutex<State>>) -> Sim {
        Sim { state: state.clone(), life: self.0 }
    }
}

impl Inode {
    fn apply(to: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Length(len) => to.resize(*len, 0),
            Change::Write(offset, bytes) => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
        }
    }

    fn change(&mut self, change: Change) {
        Self::apply(&mut self.cached, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            Self::apply(&mut self.durable, &change);
        }
    }

    /// Some of what is pending reaches the disk.
    fn tear(&mut self, random: &mut Random) {
        // Sometimes all of it or nothing of it: whole writes are as likely as torn ones.
        let mood = random.below(4);
        let mut keep = || match mood {
            0 => true,
            1 => false,
            _ => random.below(2) == 0,
        };
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Length(len) => {
                    if keep() {
                        self.durable.resize(len, 0);
                    }
                }
                Change::Write(offset, bytes) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let end = ((offset + at) / SECTOR * SECTOR + SECTOR - offset).min(bytes.len());
                        if keep() {
                            Self::apply(&mut self.durable, &Change::Write(offset + at, bytes[at..end].to_vec()));
                        }
                        at = end;
                    }
                }
            }
        }
    }
}

impl State {
    fn power_cut(&mut self) {
        let mut random = self.random.clone();
        for naming in std::mem::take(&mut self.pending) {
            if random.below(2) == 0 {
                apply(&mut self.durable_names, &naming);
            }
        }
        self.names = self.durable_names.clone();
        for inode in &mut self.inodes {
            inode.tear(&mut random);
            inode.cached = inode.durable.clone();
        }
        self.random = random;
    }

    fn revive(&mut self) -> Revived {
        self.life += 1;
        self.is_dead = false;
        self.is_locked = false;
        self.fuse = None;
        self.trace.push(format!("life {}", self.life));
        Revived(self.life)
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].cached.len() as u64).sum()
    }

    fn name(&mut self, naming: Naming) {
        apply(&mut self.names, &naming);
        self.pending.push(naming);
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, naming: &Naming) {
    match naming {
        Naming::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
        Naming::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Naming::Unlink(path) => drop(names.remove(path)),
    }
}

/// Frees the lock when dropped.
struct Guard(Sim);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.life == self.0.life {
            state.is_locked = false;
        }
    }
}

impl Storage for Sim {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.look().map(drop)
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn Any + Send + Sync>, LockError> {
        let mut state = self.look().map_err(LockError::Io)?;
        if std::mem::replace(&mut state.is_locked, true) {
            return Err(LockError::Held(None));
        }
        Ok(Box::new(Guard(self.clone())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.look()?;
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(inside.map(|(path, inode)| (name(path), state.inodes[*inode].cached.len() as u64)).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let state = self.look()?;
        let inode = *state.names.get(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(SimFile { sim: self.clone(), inode }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.operate(|| format!("create {}", path.display()))?;
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.name(Naming::Link(path.to_owned(), inode));
                inode
            }
        };
        state.inodes[inode].change(Change::Length(0));
        if state.is_dead {
            return Err(dead());
        }
        Ok(Box::new(SimFile { sim: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.operate(|| format!("rename {} {}", from.display(), to.display()))?;
        if !state.names.contains_key(from) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.name(Naming::Rename(from.to_owned(), to.to_owned()));
        if state.is_dead { Err(dead()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.operate(|| format!("remove {}", path.display()))?;
        if !state.names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.name(Naming::Unlink(path.to_owned()));
        if state.is_dead { Err(dead()) } else { Ok(()) }
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.operate(|| "sync dir".into())?;
        if state.is_dead {
            return Err(dead());
        }
        if state.fail_dir_syncs > 0 {
            state.fail_dir_syncs -= 1;
            state.trace.push("sync dir FAILED".into());
            return Err(broken());
        }
        state.pending.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        let state = self.look()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

impl SimFile {
    fn grow(&self, state: &State, len: usize) -> io::Result<()> {
        let more = len.saturating_sub(state.inodes[self.inode].cached.len()) as u64;
        if more > 0 && state.used() + more > state.capacity { Err(full()) } else { Ok(()) }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.sim.look()?;
        state.read += buf.len() as u64;
        let content = &state.inodes[self.inode].cached;
        let from = (offset as usize).min(content.len());
        let n = buf.len().min(content.len() - from);
        let touches = |(path, begin, end): &(PathBuf, u64, u64)| {
            state.names.get(path) == Some(&self.inode) && offset < *end && offset + n as u64 > *begin
        };
        if state.bad.iter().any(touches) {
            return Err(broken());
        }
        buf[..n].copy_from_slice(&content[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.sim.operate(|| format!("write {} {}+{}", self.inode, offset, buf.len()))?;
        self.grow(&state, offset as usize + buf.len())?;
        let failing = state.fail_writes > 0;
        let bytes = if failing {
            state.fail_writes -= 1;
            let n = state.random.below(buf.len() as u64 + 1) as usize / 4 * 4;
            &buf[..n]
        } else {
            buf
        };
        state.inodes[self.inode].change(Change::Write(offset as usize, bytes.to_vec()));
        match (state.is_dead, failing) {
            (true, _) => Err(dead()),
            (_, true) => Err(broken()),
            _ => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.sim.operate(|| format!("sync {}", self.inode))?;
        if state.is_dead {
            return Err(dead());
        }
        if state.fail_syncs > 0 {
            state.fail_syncs -= 1;
            state.trace.push("sync FAILED".into());
            let mut random = state.random.clone();
            state.inodes[self.inode].tear(&mut random);
            state.random = random;
            return Err(broken());
        }
        state.inodes[self.inode].sync();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.sim.operate(|| format!("set_len {} {len}", self.inode))?;
        self.grow(&state, len as usize)?;
        state.inodes[self.inode].change(Change::Length(len as usize));
        if state.is_dead { Err(dead()) } else { Ok(()) }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.sim.operate(|| format!("allocate {} {len}", self.inode))?;
        self.grow(&state, len as usize)?;
        if state.inodes[self.inode].cached.len() < len as usize {
            state.inodes[self.inode].change(Change::Length(len as usize));
        }
        if state.is_dead { Err(dead()) } else { Ok(()) }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.sim.look()?.inodes[self.inode].cached.len() as u64)
    }
}
