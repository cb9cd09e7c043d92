//! What is known of commands, kept beside the log.
//!
//! The log is the truth: every step of a command is in it. So that a start need not read all of it, what it said up to some place is kept in a file
//! from time to time, with what only the topic of commands told (the claims of others, up to where it was read). Without the file, or with a
//! file of another log, the whole log is read.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use asset_stream::Event;
use asset_stream::command::status::{Reason, Status};
use asset_stream::command::{STATUS_MARK, has_mark};
use edge_buffer::{Log, Read, Reader};
use edge_mirror::commands::Places;
use serde::{Deserialize, Serialize};
use service::error::chain;
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use super::index::{Entry, Index, Known, Name};

const FILE: &str = "commands.json";
const VERSION: u32 = 1;

/// The last link of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chain {
    /// The number of the last status.
    pub(crate) n: u64,
    /// SHA-256 of its `VALUE` text, hexadecimal.
    pub(crate) hash: String,
}

impl Chain {
    /// The chain that ends with this status, which is `text` as the event's value.
    pub(crate) fn ending_with(n: u64, text: &str) -> Self {
        Self { n, hash: format!("{:x}", Sha256::digest(text)) }
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    epoch: u64,
    /// Every step up to this number of the log is in it.
    covers: u64,
    chain: Chain,
    places: Places,
    commands: Vec<(Name, Entry)>,
}

/// What is known when the edge starts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) index: Index,
    pub(crate) chain: Chain,
    pub(crate) places: Places,
    /// Some of the log that would have told more is lost: what was claimed before may have been executed.
    pub(crate) has_holes: bool,
}

/// The file in the state folder.
pub(crate) fn file_in(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Reads what was kept, and what the log says since. Blocks. `remember_ms`: for so long a repeat of a command could be in time.
pub(crate) fn recall(file: &Path, log: &Log, remember_ms: i64) -> Result<Memory, edge_buffer::Error> {
    let (mut memory, covers) = match load(file, log.epoch()) {
        Some(kept) => {
            let Kept { covers, chain, places, commands, .. } = kept;
            (Memory { index: commands.into_iter().collect(), chain, places, has_holes: false }, covers)
        }
        None => (Memory::default(), 0),
    };
    let end = log.durable();
    let mut reader = log.reader(covers);
    let mut failures = 0;
    while reader.position() < end {
        let block = match reader.next_block(500) {
            // A place that the disk does not give counts as lost after some attempts.
            Err(_) if failures < Reader::ATTEMPTS => {
                failures += 1;
                continue;
            }
            read => read?,
        };
        failures = 0;
        if block.is_empty() {
            break;
        }
        for read in block {
            match read {
                // What was removed before the file was first written was acknowledged or dropped, and is gone for good.
                Read::Lost { .. } => memory.has_holes = true,
                Read::Entry(stored) => memory.learn(&stored.key, &stored.value, remember_ms),
            }
        }
    }
    Ok(memory)
}

impl Memory {
    fn learn(&mut self, asset: &std::sync::Arc<str>, value: &[u8], remember_ms: i64) {
        if !has_mark(value, STATUS_MARK) {
            return;
        }
        let Ok(event) = Event::decode(value) else { return };
        let Some((method, Ok(status))) = Status::from_event(&event) else { return };
        if let Some(link) = &status.chain {
            self.chain = Chain::ending_with(link.n, event.value.as_str().unwrap_or_default());
        }
        if status.reason.is_some_and(|reason| reason == Reason::IdUsedTwice) {
            return;
        }
        let name = Name { asset: asset.clone(), sender: status.sender_uuid, id: status.correlation_id };
        let until = self.index.get(&name).map_or(status.time.millis() + remember_ms, |entry| entry.until);
        let digest = self.index.get(&name).and_then(|entry| entry.digest);
        self.index.note(name, Entry { known: Known::Told(status.state), method: method.to_owned(), digest, until });
    }
}

fn load(file: &Path, epoch: u64) -> Option<Kept> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(file = %file.display(), %error, "what was kept about commands cannot be read; the whole log is read for it");
            return None;
        }
    };
    match serde_json::from_slice::<Kept>(&text) {
        Ok(kept) if kept.version == VERSION && kept.epoch == epoch => Some(kept),
        Ok(_) => {
            info!("what was kept about commands is of another log; the whole log is read for it");
            None
        }
        Err(error) => {
            warn!(file = %file.display(), error = chain(&error), "what was kept about commands is damaged; the whole log is read for it");
            None
        }
    }
}

/// Keeps what is known, so that a reader or a power cut sees all of it or what was there before. Blocks.
pub(crate) fn keep(file: &Path, epoch: u64, covers: u64, chain: Chain, places: Places, index: Vec<(Name, Entry)>) -> anyhow::Result<()> {
    let folder = file.parent().context("a file needs a folder")?;
    let kept = Kept { version: VERSION, epoch, covers, chain, places, commands: index };
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(&serde_json::to_vec(&kept)?)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Chain, Memory, file_in, keep, recall};
    use crate::commands::index::{Entry, Known, Name};
    use crate::ingest::entry;
    use asset_stream::Timestamp;
    use asset_stream::command::status::{Link, State, Status};
    use edge_buffer::{Config, Log};
    use edge_mirror::commands::Places;

    fn log(folder: &std::path::Path) -> Log {
        edge_buffer::open(Config { dir: folder.join("log"), ..Config::default() }).expect("a log").log
    }

    fn tell(log: &Log, id: &str, state: State, n: u64, previous: &str) -> String {
        let link = Link { n, previous: previous.into() };
        let status = Status { chain: Some(link), ..Status::new("S", id, state, Timestamp::from_millis(1_000)) };
        log.append_durable(vec![entry(&status.to_sample("A", "Move"))]).expect("open");
        status.encode()
    }

    fn name(id: &str) -> Name {
        Name { asset: "A".into(), sender: "S".into(), id: id.into() }
    }

    #[test]
    fn what_was_kept_and_what_the_log_says_since_give_the_same_as_the_whole_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, file) = (log(folder.path()), file_in(folder.path()));
        tell(&log, "1", State::Accepted, 1, "");
        let text = tell(&log, "1", State::Executing, 2, "x");
        let first = recall(&file, &log, 50).expect("readable");
        assert_eq!(first.chain, Chain::ending_with(2, &text));
        let claimed = Entry { known: Known::Claimed, method: "Move".into(), digest: Some(3), until: 9 };
        let mut entries = first.index.entries();
        entries.push((name("theirs"), claimed.clone()));
        let mut places = Places::default();
        places.read(0, 41);
        places.done(0, 41);
        keep(&file, log.epoch(), log.durable(), first.chain, places, entries).expect("kept");
        tell(&log, "2", State::Rejected, 3, "y");
        let text = tell(&log, "1", State::Unknown, 4, "z");
        let Memory { index, chain, places, has_holes } = recall(&file, &log, 50).expect("readable");
        assert_eq!((chain, places.of(0), has_holes), (Chain::ending_with(4, &text), Some(42), false));
        let states: Vec<_> = ["1", "2"].map(|id| index.get(&name(id)).map(|entry| (entry.known, entry.until))).into();
        assert_eq!(states, [Some((Known::Told(State::Unknown), 1_050)), Some((Known::Told(State::Rejected), 1_050))]);
        assert_eq!(index.get(&name("theirs")), Some(&claimed));
    }

    #[test]
    fn a_damaged_file_or_one_of_another_log_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, file) = (log(folder.path()), file_in(folder.path()));
        tell(&log, "1", State::Succeeded, 1, "");
        for harm in [None, Some("{\"version\":1")] {
            keep(&file, log.epoch() + 1, 10, Chain::default(), Places::default(), Vec::new()).expect("kept");
            if let Some(harm) = harm {
                std::fs::write(&file, harm).expect("written");
            }
            let memory = recall(&file, &log, 50).expect("readable");
            assert_eq!(memory.index.get(&name("1")).map(|entry| entry.known), Some(Known::Told(State::Succeeded)), "{harm:?}");
        }
    }
}
