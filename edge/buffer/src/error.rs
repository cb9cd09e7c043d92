//! What can go wrong, with place and remedy.

use std::io;
use std::path::PathBuf;

/// An error of the log. The cause is in `source()`, never in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be.
    #[error("the log's setting {key} {problem}")]
    Config {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another process uses the directory.
    #[error("the log in {} is in use by another process{}: stop that one first, or set another directory", dir.display(), of_pid(*pid))]
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// The other process, where its lock file says so.
        pid: Option<u32>,
    },
    /// The directory holds a log of a later version of this program.
    #[error(
        "{} was written by a newer version of this program (log format {found}, this one knows up to {known}): install that version again, or move the directory away; nothing was changed",
        path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u16,
        /// The newest version known here.
        known: u16,
    },
    /// The directory was to hold a log, and does not.
    #[error("there is no log in {}: name the directory that holds *.seg files, of an edge that was started before", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// The log cannot be opened because there is no room even for an empty one.
    #[error("no room for the log in {}: {needed} bytes are needed, {free} are free and {keep} must stay free (min_free)", dir.display())]
    NoRoom {
        /// The log's directory.
        dir: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        keep: u64,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An entry larger than a block may become.
    #[error("an entry of {bytes} bytes for the key {key:?} is too large: the log takes at most {limit}")]
    EntryTooLarge {
        /// Its key.
        key: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A cursor beyond what is durable.
    #[error("the cursor {name:?} cannot be kept at {sequence}: the log is durable up to {durable} only")]
    CursorAhead {
        /// The cursor.
        name: String,
        /// Where it was to stand.
        sequence: u64,
        /// Where the log ends.
        durable: u64,
    },
    /// A cursor that breaks a limit.
    #[error("the cursor {name:?} cannot be kept: {problem}")]
    CursorInvalid {
        /// The cursor.
        name: String,
        /// Which limit.
        problem: String,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::NoRoom { .. })
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::storage::is_full(source))
    }

    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

fn of_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}
