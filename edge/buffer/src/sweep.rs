//! Reading all of a log that is looked at: every frame's checksums, every number's place.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::block::{self, Slot};
use crate::checkpoint::Checkpoint;
use crate::format::{Header, Kind, unpack};
use crate::inspect::Inspection;
use crate::scan::{Identity, Window};
use crate::segment;
use crate::walk::{Meaning, meaning, sealed};
use crate::{Error, Stored};

/// What [`Inspection::read`] comes across, in the order of the log.
#[derive(Debug)]
pub enum Seen {
    /// A block of entries, whole.
    Block(Block),
    /// Something is not as it was written.
    Damage(Damage),
}

/// A block of entries.
#[derive(Debug)]
pub struct Block {
    /// First sequence of its segment.
    pub segment: u64,
    /// Where it ends in the file.
    pub end: u64,
    first: u64,
    keys: Vec<Arc<str>>,
    slots: Vec<Slot>,
    body: Bytes,
}

impl Block {
    /// Its entries.
    pub fn entries(&self) -> impl Iterator<Item = Stored> {
        (self.first..).zip(&self.slots).map(|(sequence, slot)| Stored {
            sequence,
            key_sequence: slot.key_sequence,
            key: self.keys[slot.key].clone(),
            timestamp: slot.timestamp,
            value: self.body.slice(slot.value.0..slot.value.1),
        })
    }
}

/// A place where the log is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file's name.
    pub file: String,
    /// Where the harmed bytes begin in it.
    pub offset: u64,
    /// How many they are; 0 where something is missing and no byte is left of it.
    pub bytes: u64,
    /// First sequence that is missing; 0 if the damage costs none.
    pub first: u64,
    /// Last sequence that is missing; `None` if nobody knows.
    pub last: Option<u64>,
    /// Whether the log knows it: the loss stands in its ledger, the bytes in quarantine.
    pub is_known: bool,
    /// What it is, in words.
    pub what: String,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Blocks of entries.
    pub blocks: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes behind the end that were being written, or were when the power failed: they were never durable.
    pub torn: u64,
    /// Whether the log was closed in order.
    pub was_closed: bool,
}

impl Inspection {
    /// Reads everything and shows it to `see`, which may stop it with an error. Holds one block in memory, and how far each key has counted.
    ///
    /// What is being appended or removed meanwhile is no damage.
    pub fn read<E: From<Error>>(&self, see: impl FnMut(Seen) -> Result<(), E>) -> Result<Totals, E> {
        let zstd = zstd::bulk::Decompressor::new().map_err(Error::io("unpack blocks of", &self.dir))?;
        let (buffer, keys, totals) = (BytesMut::new(), HashMap::new(), Totals::default());
        let mut sweep = Sweep { log: self, see, zstd, buffer, expected: 0, missing: 0, keys, floor: None, totals };
        sweep.run()?;
        Ok(sweep.totals)
    }
}

/// The state of reading.
struct Sweep<'i, F> {
    log: &'i Inspection,
    see: F,
    zstd: zstd::bulk::Decompressor<'static>,
    buffer: BytesMut,
    /// The next sequence; 0 before the first segment.
    expected: u64,
    /// How many sequences were missing so far.
    missing: u64,
    /// How far each key has counted, and how many sequences were missing before that: a key skips no more numbers than that grew by.
    keys: HashMap<Arc<str>, (u64, u64)>,
    /// Where a key begins that was not seen yet; `None` until a checkpoint said so.
    floor: Option<u64>,
    totals: Totals,
}

/// A whole frame.
enum Frame {
    Checkpoint(Checkpoint),
    Entries { keys: Vec<(Arc<str>, u64, u64)>, slots: Vec<Slot> },
    End,
}

impl<E: From<Error>, F: FnMut(Seen) -> Result<(), E>> Sweep<'_, F> {
    fn run(&mut self) -> Result<(), E> {
        for (file, what) in &self.log.harmed {
            let damage = Damage { file: file.clone(), offset: 0, bytes: 0, first: 0, last: None, is_known: false, what: what.clone() };
            (self.see)(Seen::Damage(damage))?;
        }
        let mut next = self.log.segments.first().map(|segment| segment.first);
        let mut last = 0;
        self.expected = self.log.removed + 1;
        while let Some(first) = next {
            next = self.segment(first)?;
            last = first;
        }
        let newest = self.log.newest;
        if newest > last {
            let why = format!("the newest segment, {}, is missing", segment::file_name(newest));
            return self.harmed(newest, (0, 0), None, why);
        }
        let seen = self.log.cursors.values().map(|cursor| cursor.sequence).chain([self.log.durable]).max().unwrap_or(0);
        if seen >= self.expected {
            let why = format!("the log was durable up to {seen} and ends with {}", self.expected - 1);
            return self.harmed(last, (0, 0), None, why);
        }
        Ok(())
    }

    /// Reads a segment; the first sequence of the next one.
    fn segment(&mut self, first: u64) -> Result<Option<u64>, E> {
        let path = segment::path(&self.log.dir, first);
        let mut next = self.log.next_of(first)?;
        let file = match self.log.storage.open(&path) {
            // Removed meanwhile, or taken away: the next segment will miss it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(next),
            file => file.map_err(Error::io("open", &path))?,
        };
        if first > self.expected {
            self.harmed(first, (0, 0), Some(first - 1), format!("what lay before segment {first} is missing"))?;
        }
        let identity = Identity { epoch: self.log.epoch, first };
        let read = || Window::new(file.as_ref()).map_err(Error::io("read", &path));
        let mut window = read()?;
        let mut offset = 0;
        let mut looked_again = None;
        self.totals.was_closed = false;
        loop {
            if let Some((header, frame)) = self.frame(&mut window, identity, offset) {
                if header.kind == Kind::Entries && next.is_some_and(|next| header.first >= next) {
                    // The segment was abandoned, and the same sequences stand in the next one.
                    return Ok(next);
                }
                self.take(&header, frame)?;
                offset = header.end();
                continue;
            }
            let reserved = window.header(0, identity).filter(|head| head.kind == Kind::Checkpoint).map_or(0, |head| head.newest as u64);
            let is_cut = next.is_none() && window.len() < reserved && !self.totals.was_closed;
            let found = match next {
                None => meaning(&mut window, identity, offset),
                Some(next) => match sealed(&mut window, identity, offset) {
                    // What stands beyond is the next segment's.
                    Meaning::Next(header) if header.kind == Kind::Entries && header.first >= next => Meaning::End { torn: 0 },
                    found => found,
                },
            };
            let now = self.log.next_of(first)?;
            let is_end = matches!(found, Meaning::End { .. }) && !is_cut;
            if now != next || (!is_end && looked_again != Some(offset)) {
                // It may have been read while it was written: whatever shows that it was durable then, shows that it is whole now.
                (looked_again, next, window) = (Some(offset), now, read()?);
                continue;
            }
            let written = |window: &mut Window<'_>| window.last_written(offset).map_or(offset, |last| last + 1);
            match found {
                Meaning::End { .. } if is_cut => {
                    self.harmed(first, (offset, offset), None, format!("segment {first} was cut off at byte {}", window.len()))?;
                    return Ok(None);
                }
                Meaning::End { torn } => {
                    self.totals.torn = torn;
                    if let Some(next) = next.filter(|next| *next > self.expected) {
                        let place = (offset, written(&mut window));
                        let why = format!("segment {first} is damaged from byte {offset} to its end");
                        self.harmed(first, place, Some(next - 1), why)?;
                    }
                    return Ok(next);
                }
                Meaning::Next(header) => {
                    let why = format!("segment {first} is damaged at byte {offset}");
                    self.harmed(first, (offset, header.offset), Some(header.first - 1), why)?;
                    offset = header.offset;
                }
                Meaning::Known(header) => {
                    let place = (offset, header.end().min(window.len()));
                    self.harmed(first, place, Some(header.last), format!("segment {first} is damaged at byte {offset}"))?;
                    offset = header.end();
                }
                Meaning::Unknown => {
                    let place = (offset, written(&mut window));
                    self.harmed(first, place, None, format!("segment {first} is damaged from byte {offset} to its end"))?;
                    return Ok(next);
                }
            }
            self.totals.was_closed = false;
        }
    }

    /// The whole frame at `offset`, if there is one that holds together; a block's body is then in the buffer.
    fn frame(&mut self, window: &mut Window<'_>, identity: Identity, offset: u64) -> Option<(Header, Frame)> {
        let (header, bytes) = window.frame(offset, identity)?;
        let frame = match header.kind {
            Kind::Checkpoint => Frame::Checkpoint(Checkpoint::from_frame(&header, bytes)?),
            Kind::End => Frame::End,
            Kind::Entries => {
                unpack(&header, bytes, &mut self.zstd, &mut self.buffer)?;
                let mut slots = Vec::new();
                let parts = block::decode(&self.buffer, header.count, &mut slots)?;
                let known = |key: &str| self.keys.get_key_value(key).map_or_else(|| Arc::from(key), |(key, _)| key.clone());
                Frame::Entries { keys: parts.into_iter().map(|part| (known(part.key), part.first, part.count)).collect(), slots }
            }
        };
        Some((header, frame))
    }

    /// Checks a frame against what came before, and shows it.
    fn take(&mut self, header: &Header, frame: Frame) -> Result<(), E> {
        self.totals.was_closed = header.kind == Kind::End;
        match frame {
            Frame::End => Ok(()),
            Frame::Checkpoint(checkpoint) => {
                for (key, count) in checkpoint.keys {
                    self.counted(header, key, count + 1, 0)?;
                }
                self.floor = Some(checkpoint.floor);
                Ok(())
            }
            // The same sequences stood in the segment before.
            Frame::Entries { .. } if header.last < self.expected => Ok(()),
            Frame::Entries { keys, slots } => {
                if header.first > self.expected {
                    let why = format!("segment {} is damaged before byte {}", header.segment, header.offset);
                    self.harmed(header.segment, (header.offset, header.offset), Some(header.first - 1), why)?;
                }
                for (key, first, count) in &keys {
                    self.counted(header, key.clone(), *first, *count)?;
                }
                self.expected = header.last + 1;
                self.totals.blocks += 1;
                self.totals.entries += u64::from(header.count);
                let body = self.buffer.split().freeze();
                let keys = keys.into_iter().map(|(key, ..)| key).collect();
                (self.see)(Seen::Block(Block { segment: header.segment, end: header.end(), first: header.first, keys, slots, body }))
            }
        }
    }

    /// A key has `count` entries here, the first of which has the number `first`. Numbers in between are missing only where sequences are.
    fn counted(&mut self, header: &Header, key: Arc<str>, first: u64, count: u64) -> Result<(), E> {
        let missing = self.missing;
        let before = self.keys.insert(key.clone(), (first + count - 1, missing));
        let (last, missing_before) = match (before, self.floor) {
            (Some(before), _) => before,
            (None, Some(floor)) => (floor, 0),
            // Nothing says where it began.
            (None, None) => return Ok(()),
        };
        if (last + 1..=last + 1 + (missing - missing_before)).contains(&first) {
            return Ok(());
        }
        let what = format!("{key:?} counts {first} after {last} at byte {} of segment {}", header.offset, header.segment);
        let file = segment::file_name(header.segment);
        (self.see)(Seen::Damage(Damage { file, offset: header.offset, bytes: 0, first: 0, last: None, is_known: false, what }))
    }

    /// Bytes of a segment are harmed, and what was expected up to `last` is missing.
    fn harmed(&mut self, segment: u64, (from, to): (u64, u64), last: Option<u64>, what: String) -> Result<(), E> {
        let ledger = self.log.ledger()?;
        let (first, file) = (self.expected, segment::file_name(segment));
        let offset = from;
        let bytes = to.saturating_sub(from);
        let costs = last.is_none_or(|last| last >= first);
        if let Some(last) = last.filter(|last| *last >= first) {
            self.missing = self.missing.saturating_add(last - first + 1);
            self.expected = last + 1;
            if last <= ledger.removed {
                return Ok(());
            }
        }
        let is_known = match last {
            Some(last) if costs => ledger.unknown(self.log.epoch, first.max(ledger.removed + 1), last).is_empty(),
            Some(_) => bytes == 0 || self.is_kept(segment, from),
            None => false,
        };
        let first = if costs { first } else { 0 };
        (self.see)(Seen::Damage(Damage { file, offset, bytes, first, last: last.filter(|_| costs), is_known, what }))
    }

    /// Whether the quarantine holds what begins at this place.
    fn is_kept(&self, segment: u64, offset: u64) -> bool {
        let name = crate::quarantine::copy_name(segment, offset);
        self.log.quarantine.iter().any(|(kept, _)| *kept == name)
    }
}
