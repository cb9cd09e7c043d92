//! Writing a small file so that a reader, or a power cut, sees all of it or nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::Path;

/// Makes a folder and what leads to it, readable for us alone.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let path = &std::path::absolute(path)?;
    if path.is_dir() {
        return Ok(());
    }
    let folder = path.parent().ok_or_else(|| io::Error::other("a folder needs a folder"))?;
    make_folder(folder)?;
    match DirBuilder::new().mode(0o700).create(path) {
        // Another device of this process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| give_to_owner_of(folder, path)),
    }
}

/// What root makes in a folder of the service's belongs to the service: a command that root types must not lock the daemon out.
fn give_to_owner_of(folder: &Path, made: &Path) -> io::Result<()> {
    let (folder, own) = (fs::metadata(folder)?, fs::metadata(made)?);
    if own.uid() == 0 && folder.uid() != 0 { chown(made, Some(folder.uid()), Some(folder.gid())) } else { Ok(()) }
}

/// Moves a file to another folder, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    for folder in [from.parent(), to.parent()].into_iter().flatten() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Writes a file of mode 0600: beside it first, synced, then renamed into its place.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file needs a folder"))?;
    // Two devices of one process may write the same file at the same time: each has its own temporary one.
    let temporary = folder.join(format!(".{:016x}.new", rand::random::<u64>()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        give_to_owner_of(folder, &temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        fs::remove_file(&temporary).ok();
    }
    written
}
