//! What an operator may set.

use std::path::PathBuf;
use std::time::Duration;

use crate::Error;

/// Where the log lies and what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The log's own directory; made if it does not exist.
    pub dir: PathBuf,
    /// Size of a segment file, in bytes: the unit of deletion.
    pub segment_bytes: u64,
    /// Everything the log may take on disk, in bytes: segments as reserved, cursors, ledger, quarantine. A quarantine that takes nearly all of
    /// it does not stop the log: that has room for four segments in any case.
    pub max_bytes: u64,
    /// How long a segment is kept after all of it was acknowledged; `None` = age does not matter.
    pub retain_age: Option<Duration>,
    /// How many acknowledged bytes are kept, at most.
    pub retain_bytes: u64,
    /// What happens when `max_bytes` or `min_free` is reached.
    pub when_full: WhenFull,
    /// Bytes of the file system that stay free for others.
    pub min_free: u64,
    /// A block is closed at this many entries …
    pub block_events: usize,
    /// … or at this many bytes before compression …
    pub block_bytes: usize,
    /// … or this long after its first entry, whichever comes first.
    pub linger: Duration,
    /// Entries that wait to be put into blocks, in bytes; a full queue makes [`crate::Log::append`] wait.
    pub queue_bytes: usize,
}

/// What gives way when there is no more room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest segment goes, acknowledged or not; what was not acknowledged becomes a [`crate::Loss`].
    #[default]
    DropOldest,
    /// New entries are refused ([`crate::Appended::Refused`]) until there is room again.
    RefuseNew,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/openfactory-edge/log"),
            segment_bytes: 64 << 20,
            max_bytes: 10 << 30,
            retain_age: Some(Duration::from_secs(7 * 24 * 3600)),
            retain_bytes: 1 << 30,
            when_full: WhenFull::DropOldest,
            min_free: 512 << 20,
            block_events: 500,
            block_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            queue_bytes: 8 << 20,
        }
    }
}

impl Config {
    /// The smallest segment: below this a segment would be mostly checkpoint.
    pub const MIN_SEGMENT_BYTES: u64 = 8 << 10;
    /// The largest block, in entries: recovery's bounds rest on it.
    pub const MAX_BLOCK_EVENTS: usize = 1 << 16;

    /// Finds settings that contradict each other: the first of [`Self::problems`].
    pub fn check(&self) -> Result<(), Error> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// All settings that contradict each other or cannot work.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, key, problem: String| {
            if !holds {
                problems.push(Error::Config { key, problem });
            }
        };
        let Self { segment_bytes, max_bytes, block_events, block_bytes, linger, .. } = self;
        let (least, most) = (Self::MIN_SEGMENT_BYTES, 1 << 32);
        let is_possible = (least..=most).contains(segment_bytes);
        expect(is_possible, "segment_bytes", format!("is {segment_bytes}; must lie between {least} and {most}"));
        let four = segment_bytes.saturating_mul(4);
        expect(*max_bytes >= four, "max_bytes", format!("is {max_bytes}; must be at least four segments ({four} bytes)"));
        let most = Self::MAX_BLOCK_EVENTS;
        expect((1..=most).contains(block_events), "block_events", format!("is {block_events}; must lie between 1 and {most}"));
        let most = self.max_entry_bytes();
        let fits = (1..=most).contains(block_bytes);
        expect(
            fits || !is_possible,
            "block_bytes",
            format!("is {block_bytes}; must lie between 1 and {most} (a quarter of segment_bytes, 16 MiB at most)"),
        );
        expect(self.queue_bytes > 0, "queue_bytes", "is 0; nothing could ever be appended".into());
        expect(*linger <= Duration::from_secs(60), "linger", format!("is {linger:?}; must be at most a minute"));
        problems
    }

    /// The largest entry (key and value) that is taken, in bytes.
    pub fn max_entry_bytes(&self) -> usize {
        usize::try_from(self.segment_bytes / 4).unwrap_or(usize::MAX).min(16 << 20)
    }
}
