//! Repairing a log that nobody uses: all of it is read as its readers would, so all damage is told at the next start.

use std::sync::Arc;

use crate::commit::{Committer, Failure};
use crate::inspect::inspect_on;
use crate::quarantine::Quarantine;
use crate::recovery::{Recovered, recover};
use crate::scan::Window;
use crate::storage::{Disk, Storage};
use crate::{Config, Error, Reader, Recovery, Seen, WhenFull};

/// Finds all damage, puts the damaged bytes into quarantine and notes what they cost, so that [`crate::Log::losses`] lists it.
///
/// Nothing is removed. A log that was not closed in order still says so afterwards: whoever opens it next has to know.
///
/// # Errors
/// As [`crate::open`]; [`Error::NoLog`] if there is nothing to repair.
pub fn repair(config: Config) -> Result<Recovery, Error> {
    repair_on(config, Arc::new(Disk))
}

/// As [`repair`], on another storage; for tests.
pub fn repair_on(config: Config, storage: Arc<dyn Storage>) -> Result<Recovery, Error> {
    inspect_on(&config.dir, storage.clone())?;
    // Room is not made here: nothing goes.
    let (needed, free) = (2 * config.segment_bytes, storage.free_space(&config.dir).unwrap_or(u64::MAX));
    if free < needed {
        return Err(Error::NoRoom { dir: config.dir, needed, free, keep: 0 });
    }
    let config =
        Config { max_bytes: u64::MAX, min_free: 0, retain_bytes: u64::MAX, retain_age: None, when_full: WhenFull::RefuseNew, ..config };
    let Recovered { shared, active, mut recovery } = recover(config, storage.clone())?;
    let shared = Arc::new(shared);
    let needs_segment = active.as_ref().is_none_or(|active| active.is_abandoned);
    let mut committer = Committer::new(shared.clone(), Arc::default(), active).map_err(Error::io("pack blocks of", &shared.config.dir))?;
    if needs_segment {
        match committer.begin() {
            Ok(()) => {}
            Err(Failure::Disk(error)) => return Err(error),
            // What was found is in the ledger; the next start begins the segment.
            Err(Failure::Full(why)) => recovery.notes.push(format!("there is no room for another segment: {why}")),
        }
    }
    shared.cursors.refresh()?;
    shared.ledger.update(|_| ())?;
    let mut reader = Reader::new(shared.clone(), 0);
    while !reader.next_block(usize::MAX)?.is_empty() {}
    if recovery.was_closed {
        committer.close()?;
    }
    keep_what_costs_nothing(&shared.config, storage, &mut recovery)?;
    Ok(recovery)
}

/// Readers pass over harmed bytes that no entry was in.
fn keep_what_costs_nothing(config: &Config, storage: Arc<dyn Storage>, recovery: &mut Recovery) -> Result<(), Error> {
    let quarantine = Quarantine::new(storage.clone(), &config.dir, config.max_bytes);
    inspect_on(&config.dir, storage.clone())?.read(|seen| {
        let Seen::Damage(damage) = seen else { return Ok(()) };
        let Some(first) = crate::segment::first_of(&damage.file).filter(|_| !damage.is_known && damage.bytes > 0) else { return Ok(()) };
        let path = config.dir.join(&damage.file);
        let file = storage.open(&path).map_err(Error::io("open", &path))?;
        let mut window = Window::new(file.as_ref()).map_err(Error::io("read", &path))?;
        match quarantine.copy(&mut window, first, damage.offset, damage.offset + damage.bytes) {
            Ok(kept) => recovery.quarantined.push(kept),
            Err(why) => recovery.notes.push(format!("{} is damaged at byte {}; {why}", path.display(), damage.offset)),
        }
        Ok::<(), Error>(())
    })?;
    Ok(())
}
