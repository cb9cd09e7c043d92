//! Reading in order, by `pread`, never beyond what is durable.
//!
//! A reader holds one block in memory and one file open. Opened anywhere, it walks over the headers of one segment to find its place;
//! from then on each block costs the same, however long the log is.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::block::{self, Slot};
use crate::damage::Missing;
use crate::format::{HEADER, Header, Kind, unpack};
use crate::scan::{Identity, Window};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::storage::File;
use crate::{Error, Read, Stored};

/// Keys remembered, so that the same key is the same `Arc` from block to block.
const KEYS: usize = 1 << 16;
/// Read at once where the size of a frame is not known yet.
const GUESS: usize = 32 << 10;

/// Reads the log in order. Several readers do not disturb each other.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    position: u64,
    place: Option<Place>,
    block: Block,
    keys: HashSet<Arc<str>>,
    zstd: Decompressor,
    frame: Vec<u8>,
}

/// Where the next frame is looked for.
#[derive(Debug)]
struct Place {
    segment: u64,
    file: Box<dyn File>,
    offset: u64,
}

/// The block being handed out.
#[derive(Debug, Default)]
struct Block {
    first: u64,
    keys: Vec<Arc<str>>,
    slots: Vec<Slot>,
    taken: usize,
    body: Bytes,
}

/// Made when it is first needed.
struct Decompressor(Option<zstd::bulk::Decompressor<'static>>);

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decompressor")
    }
}

/// What stands at a place.
enum At {
    Frame(Header),
    /// Nothing that can be believed. The frame's header, if that can.
    Harmed(Option<Header>),
}

impl Reader {
    /// A place that the disk does not give is tried this often, an error each time but the last, before what lies there counts as lost.
    pub const ATTEMPTS: u32 = 5;

    pub(crate) fn new(shared: Arc<Shared>, after: u64) -> Self {
        let (block, zstd) = (Block::default(), Decompressor(None));
        Self { shared, position: after, place: None, block, keys: HashSet::new(), zstd, frame: Vec::new() }
    }

    /// The next entries, at most `max`; empty when there is nothing new ([`crate::Log::wait_durable`] waits for more).
    ///
    /// Returns at most what is left of one block. An error is one of the disk or of the directory: the same call may be made again.
    pub fn next_block(&mut self, max: usize) -> Result<Vec<Read>, Error> {
        if max == 0 {
            return Ok(Vec::new());
        }
        while self.block.taken == self.block.slots.len() {
            let expected = self.position + 1;
            let durable = self.shared.durable();
            if expected > durable {
                return Ok(Vec::new());
            }
            let found = self.shared.segments.lock().find(expected);
            let Some((segment, next)) = found else {
                return self.before_the_first(expected, durable);
            };
            if let Some(lost) = self.advance(&segment, next, expected, durable)? {
                return Ok(vec![self.lost(lost)]);
            }
        }
        Ok(self.take(max))
    }

    /// The last sequence handed out (or told as lost); the next call goes on after it.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Entries of the block, as many as are left or asked for.
    fn take(&mut self, max: usize) -> Vec<Read> {
        let Block { first, keys, slots, taken, body } = &mut self.block;
        let end = taken.saturating_add(max).min(slots.len());
        let stored = |(i, slot): (usize, &Slot)| {
            Read::Entry(Stored {
                sequence: *first + i as u64,
                key_sequence: slot.key_sequence,
                key: keys[slot.key].clone(),
                timestamp: slot.timestamp,
                value: body.slice(slot.value.0..slot.value.1),
            })
        };
        let entries = slots[..end].iter().enumerate().skip(*taken).map(stored).collect();
        *taken = end;
        self.position = *first + end as u64 - 1;
        entries
    }

    fn lost(&mut self, (first, last): (u64, u64)) -> Read {
        self.position = last;
        Read::Lost { first, last }
    }

    /// What was wanted is older than the oldest segment: removed on purpose, or gone.
    fn before_the_first(&mut self, expected: u64, durable: u64) -> Result<Vec<Read>, Error> {
        let (first, removed) = (self.shared.segments.lock().first(), self.shared.ledger.with(|ledger| ledger.removed));
        let last = first.map_or(durable, |first| first - 1).min(durable);
        if last > removed {
            // Also what this reader had before it went bad: another may not.
            let first = removed + 1;
            let why = "the log's oldest segments are missing".to_owned();
            self.shared.report(&Missing { segment: first, next: None, first, last, bytes: (0, 0), why })?;
        }
        Ok(vec![self.lost((expected, last))])
    }

    /// Reads on in a segment until a block is there, or something is found to be lost, or the segment has nothing for us any more.
    fn advance(&mut self, segment: &Arc<Segment>, next: Option<u64>, expected: u64, durable: u64) -> Result<Option<(u64, u64)>, Error> {
        let identity = Identity { epoch: self.shared.epoch, first: segment.first };
        let path = self.shared.path(segment.first);
        let mut place = match self.place.take().filter(|place| place.segment == segment.id) {
            Some(place) => place,
            None => match self.shared.storage.open(&path) {
                Ok(file) => {
                    let offset = seek(file.as_ref(), identity, expected).map_err(Error::io("read", &path))?;
                    Place { segment: segment.id, file, offset }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Dropped under our eyes? Then the list says so by now.
                    if self.shared.segments.lock().find(expected).is_none_or(|(now, _)| now.id != segment.id) {
                        return Ok(None);
                    }
                    let last = next.map_or(durable, |next| next - 1);
                    let why = format!("the file {} is missing", path.display());
                    self.shared.report(&Missing { segment: segment.first, next, first: expected, last, bytes: (0, 0), why })?;
                    return Ok(Some((expected, last)));
                }
                Err(error) => return Err(Error::io("open", path)(error)),
            },
        };
        let result = loop {
            match self.look(place.file.as_ref(), place.offset, identity) {
                Ok(At::Frame(header)) if header.kind != Kind::Entries || header.last < expected => place.offset = header.end(),
                Ok(At::Frame(header)) if header.first <= expected && next.is_none_or(|next| header.first < next) => {
                    if self.unpack(&header, expected)? {
                        self.shared.unreadable.lock().given((segment.first, place.offset));
                        place.offset = header.end();
                        break Ok(None);
                    }
                    // The CRC is right and the body is not: written so. Nothing is to be had from it, and it must not stop us.
                    break self.pass(&mut place, segment, next, expected, durable, Some(header));
                }
                Ok(At::Frame(_)) => break self.pass(&mut place, segment, next, expected, durable, None),
                Ok(At::Harmed(header)) => break self.pass(&mut place, segment, next, expected, durable, header),
                Err(error) => {
                    if self.shared.unreadable.lock().failed((segment.first, place.offset)) < Self::ATTEMPTS {
                        break Err(Error::io("read", path)(error));
                    }
                    self.shared.unreadable.lock().given((segment.first, place.offset));
                    break self.pass(&mut place, segment, next, expected, durable, None);
                }
            }
        };
        self.place = Some(place);
        result
    }

    /// Reads the frame at an offset into `self.frame`.
    fn look(&mut self, file: &dyn File, offset: u64, identity: Identity) -> io::Result<At> {
        let buffer = &mut self.frame;
        let guess = buffer.len().clamp(GUESS, 1 << 20);
        buffer.resize(guess, 0);
        let n = match file.read_at(buffer, offset) {
            Ok(n) => n,
            // Perhaps only what lies behind the frame cannot be read.
            Err(_) => {
                buffer.truncate(HEADER);
                file.read_at(buffer, offset)?
            }
        };
        let Some(header) = Header::decode(&buffer[..n]).filter(|header| identity.owns(header, offset)) else {
            return Ok(At::Harmed(None));
        };
        let extent = header.extent() as usize;
        if header.kind == Kind::Entries {
            if n < extent {
                if extent as u64 > file.size()?.saturating_sub(offset) {
                    return Ok(At::Harmed(Some(header)));
                }
                buffer.resize(extent, 0);
                file.read_at(&mut buffer[n..], offset + n as u64)?;
            } else {
                buffer.truncate(extent);
            }
            if !header.fits(buffer) {
                return Ok(At::Harmed(Some(header)));
            }
        }
        Ok(At::Frame(header))
    }

    /// Makes `self.frame` the block to be handed out, from `expected` on; false if it does not hold together.
    fn unpack(&mut self, header: &Header, expected: u64) -> Result<bool, Error> {
        let zstd = match &mut self.zstd.0 {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(Error::io("unpack blocks of", &self.shared.config.dir))?),
        };
        // The buffer of the block before is used again if nobody holds its values any more.
        let mut buffer = std::mem::take(&mut self.block.body).try_into_mut().unwrap_or_else(|_| BytesMut::new());
        self.block.slots.clear();
        self.block.taken = 0;
        if unpack(header, &self.frame, zstd, &mut buffer).is_none() {
            return Ok(false);
        }
        let Some(keys) = block::decode(&buffer, header.count, &mut self.block.slots) else {
            self.block.slots.clear();
            return Ok(false);
        };
        if self.keys.len() + keys.len() > KEYS {
            self.keys.clear();
        }
        self.block.keys.clear();
        for part in keys {
            let key = match self.keys.get(part.key) {
                Some(key) => key.clone(),
                None => {
                    let key: Arc<str> = part.key.into();
                    self.keys.insert(key.clone());
                    key
                }
            };
            self.block.keys.push(key);
        }
        self.block.first = header.first;
        self.block.taken = (expected - header.first) as usize;
        self.block.body = buffer.freeze();
        Ok(true)
    }

    /// What was expected is not at its place: finds out where it goes on, and makes durable what is lost.
    fn pass(
        &mut self,
        place: &mut Place,
        segment: &Segment,
        next: Option<u64>,
        expected: u64,
        durable: u64,
        harmed: Option<Header>,
    ) -> Result<Option<(u64, u64)>, Error> {
        let identity = Identity { epoch: self.shared.epoch, first: segment.first };
        let path = self.shared.path(segment.first);
        // Dropped meanwhile: the file was emptied. The list says where it goes on.
        if self.shared.segments.lock().find(expected).is_none_or(|(now, _)| now.id != segment.id) {
            return Ok(None);
        }
        let end = next.unwrap_or(durable + 1);
        let mut window = Window::new(place.file.as_ref()).map_err(Error::io("read", &path))?;
        let from = place.offset;
        if next.is_some() && window.next_frame(0, identity).is_none() {
            self.shared.put_aside(segment)?;
            return Ok(None);
        }
        let mut at = from;
        let found = loop {
            let header = match window.frame(at, identity).map(|(header, _)| header) {
                Some(header) if Some(at) != harmed.map(|header| header.offset) => Some(header),
                _ => window.next_frame(at + 1, identity),
            };
            match header {
                Some(header) if header.kind != Kind::Entries || header.last < expected => at = header.end(),
                header => break header.filter(|header| header.first < end),
            }
        };
        let (last, bytes) = match &found {
            Some(header) => (header.first - 1, (from, header.offset)),
            // What stands behind the end of the newest segment may just be being written.
            None if next.is_none() => (end - 1, (from, harmed.map_or(from, |header| header.end().min(window.len())))),
            None => (end - 1, (from, window.last_written(from).map_or(from, |last| last + 1))),
        };
        if let Some(header) = &found {
            place.offset = header.offset;
        }
        if last < expected {
            return Ok(None);
        }
        let why = match next {
            Some(next) if found.is_none() && harmed.is_none() => {
                format!("{} ends before {expected}, and the next segment begins with {next}", path.display())
            }
            _ => format!("{} is damaged at byte {from}", path.display()),
        };
        self.shared.report(&Missing { segment: segment.first, next, first: expected, last, bytes, why })?;
        Ok(Some((expected, last)))
    }
}

/// Walks over headers to the first frame that may hold `expected`; stops before one that cannot be read.
fn seek(file: &dyn File, identity: Identity, expected: u64) -> io::Result<u64> {
    let mut window = Window::small(file)?;
    let mut at = 0;
    while let Some(header) = window.header(at, identity).filter(|header| header.last < expected) {
        at = header.end();
    }
    Ok(at)
}
