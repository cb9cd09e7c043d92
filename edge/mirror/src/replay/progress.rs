//! Where an unfinished run stands, in a file of its own: `<folder>/<id>.json`. A run that is done leaves none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Job, ReplayError, Unfinished, cursor, new_id};
use crate::note::Note;

const VERSION: u32 = 1;

/// The folder, locked: one run at a time.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// One run. Read by people too, when something went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Progress {
    version: u32,
    /// The value of `of-replay`.
    pub(super) id: String,
    pub(super) request: String,
    epoch: u64,
    /// The selected times, as they were understood when the run began.
    pub(super) from: i64,
    pub(super) to: i64,
    /// The mirror's cursor when it began.
    pub(super) through: u64,
    /// Everything up to here is done.
    pub(super) sequence: u64,
    /// Events that Kafka acknowledged.
    pub(super) sent: u64,
    pub(super) note: Note,
    #[serde(skip)]
    file: PathBuf,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, ReplayError> {
        fs::create_dir_all(path).and_then(|()| give_to_the_edge(path)).map_err(failed("create", path))?;
        let lock = path.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(failed("open", &lock))?;
        give_to_the_edge(&lock).map_err(failed("open", &lock))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: file }),
            Err(fs::TryLockError::WouldBlock) => Err(ReplayError::Busy(lock)),
            Err(fs::TryLockError::Error(e)) => Err(failed("lock", &lock)(e)),
        }
    }

    /// The unfinished run of the job's request, or a new one; and whether it is the former.
    pub(super) fn find(&self, job: &Job<'_>) -> Result<(Progress, bool), ReplayError> {
        for entry in fs::read_dir(&self.path).map_err(failed("list", &self.path))? {
            let file = entry.map_err(failed("list", &self.path))?.path();
            let Some(found) = read(&file).filter(|found| found.request == job.request) else { continue };
            // The numbers of an earlier epoch, and the places in another topic, mean nothing any more.
            if job.unfinished == Unfinished::Resume && found.epoch == job.view.epoch() && found.note.topic == job.config.assets_topic {
                return Ok((Progress { file, ..found }, true));
            }
            fs::remove_file(&file).map_err(failed("remove", &file))?;
        }
        let id = new_id();
        let mut note = Note::new(String::new(), job.config.assets_topic.clone());
        note.clean = true;
        let progress = Progress {
            version: VERSION,
            file: self.path.join(format!("{id}.json")),
            id,
            request: job.request.clone(),
            epoch: job.view.epoch(),
            from: job.selection.times.start,
            to: job.selection.times.end,
            through: cursor(job.view),
            sequence: 0,
            sent: 0,
            note,
        };
        Ok((progress, false))
    }
}

impl Progress {
    /// Keeps it: durable on return.
    pub(super) fn keep(&self) -> Result<(), ReplayError> {
        let temporary = self.file.with_extension("tmp");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            give_to_the_edge(&temporary)?;
            fs::rename(&temporary, &self.file)?;
            self.file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        write().map_err(failed("write", &self.file))
    }

    /// The run is done.
    pub(super) fn remove(&self) -> Result<(), ReplayError> {
        match fs::remove_file(&self.file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.file)(e)),
            _ => Ok(()),
        }
    }
}

/// What root makes belongs to whoever has the folder above: the edge's user must be able to go on with it.
fn give_to_the_edge(made: &Path) -> io::Result<()> {
    let folder = made.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (folder, own) = (fs::metadata(folder)?, fs::metadata(made)?);
    if own.uid() == 0 && folder.uid() != 0 { chown(made, Some(folder.uid()), Some(folder.gid())) } else { Ok(()) }
}

/// A kept run; `None` for any other file, and for those of a later version.
fn read(file: &Path) -> Option<Progress> {
    let is_one = file.extension().is_some_and(|extension| extension == "json");
    let text = is_one.then(|| fs::read(file).ok()).flatten()?;
    serde_json::from_slice(&text).ok().filter(|progress: &Progress| progress.version == VERSION)
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReplayError {
    let path = path.to_owned();
    move |source| ReplayError::File { operation, path, source }
}
