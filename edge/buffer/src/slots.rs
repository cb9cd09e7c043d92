//! A small value kept durably: two files, `<name>.0` and `<name>.1`, written in turn, so that one of them is always whole.
//!
//! ```text
//! magic "OFS" 0x8f · version u16 · version inverted u16 · generation u64 · epoch u64 · body length u32 · CRC-32C u32 · body
//! ```
//!
//! The CRC is over everything before it and the body. The valid file with the higher generation counts. A write that failed is tried
//! again in a new file that takes the slot's name, never on the same descriptor; the other slot is not touched until that succeeded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::format::VERSION;
use crate::storage::{self, File, Storage};

const MAGIC: [u8; 4] = [b'O', b'F', b'S', 0x8f];
const HEADER: usize = 32;
/// Reserved at first, so that what must be said on a full disk can be said.
const RESERVED: u64 = 64 << 10;
/// A slot file above this size is not one of ours.
const MAX: u64 = 256 << 20;
/// So often a value that another process writes is looked for.
const LOOKS: usize = 10;

/// What was found when the slots were opened.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) epoch: u64,
    pub(crate) body: Vec<u8>,
}

/// How a slot is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// In place: what the other slot holds is durable.
    InPlace,
    /// It was found so at the start, and the other slot may be in the page cache only, if a sync failed before: a new file takes its name, as
    /// long as there is room for one.
    RenewedIfRoom,
    /// A write to it failed, or it is not there: a new file.
    Renewed,
}

/// The two files.
#[derive(Debug)]
pub(crate) struct Slots {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    name: &'static str,
    files: [Option<Box<dyn File>>; 2],
    generation: u64,
    /// The slot to be written next.
    next: usize,
    writing: [Writing; 2],
    bytes: u64,
    /// New files tried to write; see [`crate::segment::temporary`].
    attempts: u64,
}

impl Slots {
    /// Opens or makes the files. What they hold, if anything, and notes for a person.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        name: &'static str,
        notes: &mut Vec<String>,
    ) -> Result<(Self, Option<Found>), Error> {
        let mut slots = Self {
            storage,
            dir: dir.to_owned(),
            name,
            files: [None, None],
            generation: 0,
            next: 0,
            writing: [Writing::Renewed; 2],
            bytes: 2 * RESERVED,
            attempts: 0,
        };
        let mut best: Option<(u64, usize, Found)> = None;
        let mut harmed = 0;
        for slot in 0..2 {
            let path = slots.path(slot);
            let file = match slots.storage.open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("open", path)(e)),
            };
            match read(file.as_ref()) {
                Content::Value { generation, found } => {
                    if best.as_ref().is_none_or(|(other, ..)| *other < generation) {
                        best = Some((generation, slot, found));
                    }
                }
                Content::Newer(found) => return Err(Error::NewerVersion { path, found, known: VERSION }),
                Content::Nothing => {}
                Content::Harmed => harmed += 1,
            }
            slots.files[slot] = Some(file);
            slots.writing[slot] = Writing::RenewedIfRoom;
        }
        if let Some((generation, slot, _)) = &best {
            slots.generation = *generation;
            slots.next = 1 - slot;
        } else if harmed > 0 {
            notes.push(format!(
                "the files {name}.0 and {name}.1 could not be read; what they held is taken from the segments, as far as it is there"
            ));
        }
        Ok((slots, best.map(|(.., found)| found)))
    }

    /// Makes the value durable.
    pub(crate) fn write(&mut self, epoch: u64, body: &[u8]) -> Result<(), Error> {
        let slot = self.next;
        let generation = self.generation + 1;
        let bytes = encode(generation, epoch, body);
        let path = self.path(slot);
        let failed = Error::io("write", &path);
        if self.writing[slot] != Writing::InPlace || self.write_in_place(slot, &bytes).is_err() {
            // What the old descriptor's file holds after a failure cannot be known; it goes.
            match self.replace(&path, &bytes) {
                Ok(file) => self.files[slot] = Some(file),
                Err(error) => {
                    let before = std::mem::replace(&mut self.writing[slot], Writing::Renewed);
                    if before != Writing::RenewedIfRoom || !storage::is_full(&error) {
                        return Err(failed(error));
                    }
                    self.write_in_place(slot, &bytes).map_err(failed)?;
                }
            }
        }
        self.writing[slot] = Writing::InPlace;
        self.generation = generation;
        self.next = 1 - slot;
        self.bytes = self.bytes.max(2 * bytes.len() as u64);
        // Both files have their space from the beginning: on a disk that is full later, the next value must find its place.
        if self.files[self.next].is_none() { self.write(epoch, body) } else { Ok(()) }
    }

    /// Bytes on disk, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write_in_place(&self, slot: usize, bytes: &[u8]) -> io::Result<()> {
        let file = self.files[slot].as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.write_at(bytes, 0)?;
        file.sync_data()
    }

    fn replace(&mut self, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn File>> {
        self.attempts += 1;
        let temporary = self.dir.join(format!("{}.{}.tmp", self.name, self.attempts));
        let written = (|| {
            let file = self.storage.create(&temporary)?;
            file.allocate(RESERVED.max(bytes.len() as u64))?;
            file.write_at(bytes, 0)?;
            file.sync_data()?;
            self.storage.rename(&temporary, path)?;
            Ok(file)
        })();
        if written.is_err() {
            drop(self.storage.remove(&temporary));
        }
        self.storage.sync_dir(&self.dir)?;
        written
    }

    fn path(&self, slot: usize) -> PathBuf {
        self.dir.join(format!("{}.{slot}", self.name))
    }
}

/// Whether a value finds its place on a disk that is full.
pub(crate) fn has_room(body: &[u8]) -> bool {
    HEADER + body.len() <= RESERVED as usize
}

/// The value as it is now, while another process may be writing it; `None` if neither file holds one.
pub(crate) fn find(dir: &Path, name: &str) -> Result<Option<Found>, Error> {
    // One file is whole while the other is written. But between two looks the writer may go on to the one that was whole.
    for _ in 0..LOOKS {
        let mut best: Option<(u64, Found)> = None;
        for slot in 0..2 {
            let path = dir.join(format!("{name}.{slot}"));
            let file = match fs::File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("open", path)(e)),
            };
            match read(&file) {
                Content::Value { generation, found } if best.as_ref().is_none_or(|(other, _)| *other < generation) => {
                    best = Some((generation, found));
                }
                Content::Newer(found) => return Err(Error::NewerVersion { path, found, known: VERSION }),
                Content::Value { .. } | Content::Nothing | Content::Harmed => {}
            }
        }
        if let Some((_, found)) = best {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn encode(generation: u64, epoch: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(!VERSION).to_le_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    out
}

enum Content {
    Value {
        generation: u64,
        found: Found,
    },
    /// Never written.
    Nothing,
    /// Torn or damaged.
    Harmed,
    Newer(u16),
}

fn read(file: &dyn File) -> Content {
    let read = || {
        let len = file.size()?.min(MAX);
        let mut bytes = vec![0; len as usize];
        let n = file.read_at(&mut bytes, 0)?;
        bytes.truncate(n);
        Ok::<_, io::Error>(bytes)
    };
    let Ok(bytes) = read() else { return Content::Harmed };
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else { return Content::Nothing };
    if head.iter().all(|&byte| byte == 0) {
        return Content::Nothing;
    }
    let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let version = u16_at(4);
    if head[..4] != MAGIC || u16_at(6) != !version {
        return Content::Harmed;
    }
    if version > VERSION {
        return Content::Newer(version);
    }
    let Some(body) = rest.get(..u32_at(24) as usize) else { return Content::Harmed };
    if crc32c::crc32c_append(crc32c::crc32c(&head[..28]), body) != u32_at(28) {
        return Content::Harmed;
    }
    Content::Value { generation: u64_at(8), found: Found { epoch: u64_at(16), body: body.to_vec() } }
}
