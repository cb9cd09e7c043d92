//! Where damaged bytes are put, for people: copied or moved, never deleted by the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::scan::Window;
use crate::segment;
use crate::storage::Storage;

/// Copied at once.
const CHUNK: usize = 1 << 18;

/// What a copy is called of the bytes from `from` on in a segment.
pub(crate) fn copy_name(first: u64, from: u64) -> String {
    format!("{first:020}-{from}.bin")
}

/// The folder `quarantine` of a log.
#[derive(Debug)]
pub(crate) struct Quarantine {
    storage: Arc<dyn Storage>,
    log: PathBuf,
    dir: PathBuf,
    limit: u64,
    bytes: AtomicU64,
}

impl Quarantine {
    /// The quarantine of the log in `log`; nothing more is copied into it once it holds `limit` bytes.
    pub(crate) fn new(storage: Arc<dyn Storage>, log: &Path, limit: u64) -> Self {
        let dir = log.join("quarantine");
        let bytes = storage.list(&dir).map_or(0, |files| files.iter().map(|(_, len)| len).sum());
        Self { storage, log: log.to_owned(), dir, limit, bytes: AtomicU64::new(bytes) }
    }

    /// Bytes in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Copies `from..to` of a segment. A copy that cannot be made does not stop anything: the loss is said without it.
    pub(crate) fn copy(&self, window: &mut Window<'_>, first: u64, from: u64, to: u64) -> Result<PathBuf, String> {
        let path = self.dir.join(copy_name(first, from));
        let len = to.saturating_sub(from);
        if len == 0 {
            return Err("there are no bytes to keep".into());
        }
        if self.bytes() + len > self.limit {
            return Err(format!("{} is full ({} of {} bytes), so they are not copied", self.dir.display(), self.bytes(), self.limit));
        }
        if self.storage.open(&path).is_ok() {
            return Ok(path);
        }
        let copied = (|| {
            self.storage.create_dir(&self.dir)?;
            let file = self.storage.create(&path)?;
            let mut at = from;
            while at < to {
                let bytes = window.bytes(at, CHUNK.min((to - at) as usize));
                if bytes.is_empty() {
                    break;
                }
                file.write_at(bytes, at - from)?;
                at += bytes.len() as u64;
            }
            file.sync_data()?;
            self.storage.sync_dir(&self.dir)
        })();
        match copied {
            Ok(()) => {
                self.bytes.fetch_add(len, Ordering::Relaxed);
                Ok(path)
            }
            Err(e) => {
                // Half a copy helps nobody.
                drop(self.storage.remove(&path));
                Err(format!("they could not be copied to {}: {e}", path.display()))
            }
        }
    }

    /// Moves a whole segment file here.
    pub(crate) fn take(&self, first: u64, len: u64) -> std::io::Result<PathBuf> {
        self.storage.create_dir(&self.dir)?;
        let taken: Vec<String> = self.storage.list(&self.dir)?.into_iter().map(|(name, _)| name).collect();
        let name = (0_u32..)
            .map(|n| if n == 0 { format!("{first:020}.bin") } else { format!("{first:020}.{n}.bin") })
            .find(|name| !taken.contains(name))
            .unwrap_or_default();
        let path = self.dir.join(name);
        self.storage.rename(&segment::path(&self.log, first), &path)?;
        self.storage.sync_dir(&self.dir)?;
        self.storage.sync_dir(&self.log)?;
        self.bytes.fetch_add(len, Ordering::Relaxed);
        Ok(path)
    }
}
