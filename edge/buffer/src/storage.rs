//! The few file operations that the log is made of, behind a trait: a test replaces them to cut the power, fill the disk or fail a sync.
//!
//! What the log relies on, and nothing else:
//! - [`File::sync_data`] that returned `Ok` made every byte written to that file before, and its length, survive a power cut.
//! - [`Storage::sync_dir`] that returned `Ok` did the same for the names made, changed and removed in that directory before.
//! - [`Storage::rename`] is atomic: afterwards, and after a power cut, the name leads to the old or to the new file, whole.
//! - Writing some bytes harms no others ("powersafe overwrite"): of a write that the power cut off, each 512-byte sector holds its old
//!   or its new bytes. Space that was reserved and never written reads as zeros.

use std::any::Any;
use std::fmt::Debug;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

/// A directory tree on a disk.
pub trait Storage: Debug + Send + Sync {
    /// Makes a directory and those above it; fine if it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file at `path` for this process, until the returned value is dropped.
    fn lock(&self, path: &Path) -> Result<Box<dyn Any + Send + Sync>, LockError>;
    /// Names and lengths of the files in a directory (not of the directories in it).
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Makes an empty file; one that exists is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, replacing the file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that this process may still use on the file system that holds `dir`.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait File: Debug + Send + Sync {
    /// Reads at an offset; fewer bytes than asked for only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at an offset.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable (fdatasync). After an error nothing is known about any byte written since the last success.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends the file to `len` bytes, with space on the disk for all of them; new bytes read as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// The file's length.
    fn size(&self) -> io::Result<u64>;
}

/// Why a lock was not given.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it; its id, if its lock file says so.
    Held(Option<u32>),
    /// The lock file cannot be used.
    Io(io::Error),
}

/// The real thing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let above = match dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Ok(()),
        };
        // Each name on the way must be durable, or a power cut takes all that is below it.
        self.create_dir(above)?;
        match fs::create_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => Err(e),
            _ => self.sync_dir(above),
        }
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Any + Send + Sync>, LockError> {
        let mut file = options().create(true).truncate(false).open(path).map_err(LockError::Io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Whatever stands there, the answer is the same: somebody else has the lock.
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held(pid));
            }
            Err(e) => return Err(LockError::Io(e.into())),
        }
        // The id is for people. A disk too full for it is no reason not to start.
        drop(file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes())));
        Ok(Box::new(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(meta) if meta.is_file() => found.push((name, meta.len())),
                Ok(_) => {}
                // Removed meanwhile, by a person.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(options().open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(options().create(true).truncate(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The real thing, with its hands tied: every file is opened to be read only, and whatever would change something is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnly;

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the log is only looked at")
}

impl Storage for ReadOnly {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn lock(&self, _: &Path) -> Result<Box<dyn Any + Send + Sync>, LockError> {
        Err(LockError::Io(refused()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        Disk.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(fs::File::open(path)?))
    }

    fn create(&self, _: &Path) -> io::Result<Box<dyn File>> {
        Err(refused())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        Disk.free_space(dir)
    }
}

/// What machines said is nobody else's business: owner and group read.
fn options() -> fs::OpenOptions {
    let mut options = fs::File::options();
    options.read(true).write(true).mode(0o640);
    options
}

impl File for fs::File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match FileExt::read_at(self, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        rustix::fs::fdatasync(self).map_err(Into::into)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // File systems that cannot reserve: write the zeros, which reserves on all that do not compress them away.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let zeros = vec![0; 1 << 20];
        let mut at = File::size(self)?;
        while at < len {
            let n = (len - at).min(zeros.len() as u64);
            FileExt::write_all_at(self, &zeros[..n as usize], at)?;
            at += n;
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Whether an error says that the disk (or the user's share of it) is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
