//! The log's files, read beside the process that has the log open: without its lock, and without writing anything.
//!
//! What is durable stays where it is until its segment is removed, so no lock is needed to read it. What was removed or cannot be read is told
//! as [`Read::Lost`] and noted nowhere: noting it is for whoever has the log open.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;

use crate::format::{Kind, unpack};
use crate::kept::KeptCursors;
use crate::scan::{Identity, Window};
use crate::{Cursor, Error, Read, Stored, block, segment, slots};

/// The log of a directory as it was at one moment. What becomes durable later does not belong to it.
#[derive(Debug)]
pub struct View {
    dir: PathBuf,
    epoch: u64,
    kept: KeptCursors,
}

impl View {
    /// Looks at the log in `dir`, whether a process has it open or not.
    ///
    /// # Errors
    /// There is no log, its cursors cannot be read, or it is of a newer version.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        let found = slots::find(&dir, "cursors")?;
        let kept = found.and_then(|found| Some((found.epoch, KeptCursors::decode(&found.body)?)));
        match kept {
            Some((epoch, kept)) => Ok(Self { dir, epoch, kept }),
            None => Err(Error::NoLog { dir }),
        }
    }

    /// As [`crate::Log::epoch`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// As [`crate::Log::cursor`].
    pub fn cursor(&self, name: &str) -> Option<&Cursor> {
        self.kept.cursors.get(name)
    }

    /// The log was durable at least up to this sequence.
    pub fn durable(&self) -> u64 {
        self.kept.durable
    }

    /// The first sequence that the log may still hold; the one behind [`Self::durable`] if it holds nothing.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn first(&self) -> Result<u64, Error> {
        Ok(self.segments()?.first().copied().unwrap_or(self.kept.durable + 1))
    }

    /// Reads the sequences behind `after` up to `through` in order. Blocks that hold nothing of `times` (Unix ms) are passed over unread.
    pub fn read(&self, after: u64, through: u64, times: Range<i64>) -> ViewReader<'_> {
        let through = through.min(self.kept.durable);
        ViewReader { view: self, position: after, through, times, place: None, buffer: BytesMut::new() }
    }

    /// First sequences of the segments, oldest first.
    fn segments(&self) -> Result<Vec<u64>, Error> {
        let failed = || Error::io("list", &self.dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed())? {
            found.extend(entry.map_err(failed())?.file_name().to_str().and_then(segment::first_of));
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Reads a stretch of a [`View`] in order, one block in memory.
#[derive(Debug)]
pub struct ViewReader<'v> {
    view: &'v View,
    position: u64,
    through: u64,
    times: Range<i64>,
    place: Option<Place>,
    buffer: BytesMut,
}

/// Where the next frame is looked for.
#[derive(Debug)]
struct Place {
    file: fs::File,
    /// First sequence of the segment.
    segment: u64,
    /// That of the next one: what stands beyond was never durable here.
    next: Option<u64>,
    offset: u64,
}

/// What a segment gave.
enum Found {
    Block(VecDeque<Read>),
    /// Nothing before this sequence is there.
    Lost(u64),
    /// All up to this sequence is of other times.
    Passed(u64),
}

impl ViewReader<'_> {
    /// The entries of the next block, or what is lost before it; empty at the end.
    ///
    /// # Errors
    /// Those of the disk or of the directory: the same call may be made again.
    pub fn next_block(&mut self) -> Result<VecDeque<Read>, Error> {
        while self.position < self.through {
            match self.find()? {
                Found::Passed(last) => self.position = last.min(self.through),
                Found::Lost(next) => {
                    let (first, last) = (self.position + 1, (next - 1).min(self.through));
                    self.position = last;
                    return Ok([Read::Lost { first, last }].into());
                }
                Found::Block(reads) => {
                    self.position += reads.len() as u64;
                    return Ok(reads);
                }
            }
        }
        Ok(VecDeque::new())
    }

    /// The last sequence handed out, told as lost or passed over.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn find(&mut self) -> Result<Found, Error> {
        let (expected, end) = (self.position + 1, self.through + 1);
        let place = self.place.take().filter(|place| place.segment <= expected && place.next.is_none_or(|next| expected < next));
        let Some(mut place) = (match place {
            Some(place) => Some(place),
            None => open(self.view, expected)?,
        }) else {
            let next = self.view.segments()?.into_iter().find(|first| *first > expected);
            return Ok(Found::Lost(next.unwrap_or(end)));
        };
        let failed = Error::io("read", segment::path(&self.view.dir, place.segment));
        let identity = Identity { epoch: self.view.epoch, first: place.segment };
        let limit = place.next.unwrap_or(u64::MAX);
        let mut zstd = None;
        let file = place.file;
        let mut window = Window::small(&file).map_err(failed)?;
        let found = loop {
            let Some(header) = window.header(place.offset, identity).or_else(|| window.next_frame(place.offset + 1, identity)) else {
                break Found::Lost(limit.min(end));
            };
            place.offset = header.offset;
            if header.kind != Kind::Entries || header.last < expected {
                place.offset = header.end();
                continue;
            }
            if header.first > expected {
                break Found::Lost(header.first.min(limit).min(end));
            }
            if header.newest < self.times.start || header.oldest >= self.times.end {
                break Found::Passed(header.last.min(limit - 1));
            }
            let whole = window.frame(place.offset, identity).and_then(|(header, frame)| {
                let zstd = match &mut zstd {
                    Some(zstd) => zstd,
                    none => none.insert(zstd::bulk::Decompressor::new().ok()?),
                };
                unpack(&header, frame, zstd, &mut self.buffer)?;
                entries(&mut self.buffer, header.first, header.count)
            });
            place.offset = header.end();
            match whole {
                Some(mut reads) => {
                    reads.drain(..(expected - header.first) as usize);
                    reads.truncate((limit.min(end) - expected) as usize);
                    break Found::Block(reads);
                }
                // Its body is harmed; its header says what is lost with it.
                None => break Found::Lost((header.last + 1).min(limit).min(end)),
            }
        };
        self.place = Some(Place { file, ..place });
        Ok(found)
    }
}

/// The segment that holds a sequence, if one may.
fn open(view: &View, expected: u64) -> Result<Option<Place>, Error> {
    let segments = view.segments()?;
    let after = segments.partition_point(|first| *first <= expected);
    let Some(&segment) = after.checked_sub(1).and_then(|at| segments.get(at)) else { return Ok(None) };
    let path = segment::path(&view.dir, segment);
    match fs::File::open(&path) {
        Ok(file) => Ok(Some(Place { file, segment, next: segments.get(after).copied(), offset: 0 })),
        // Removed between the two looks.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

/// The entries of a block's body.
fn entries(buffer: &mut BytesMut, first: u64, count: u32) -> Option<VecDeque<Read>> {
    let mut slots = Vec::new();
    let keys: Vec<Arc<str>> = block::decode(buffer, count, &mut slots)?.into_iter().map(|part| part.key.into()).collect();
    let body = buffer.split().freeze();
    let stored = slots.iter().zip(first..).map(|(slot, sequence)| {
        Read::Entry(Stored {
            sequence,
            key_sequence: slot.key_sequence,
            key: keys[slot.key].clone(),
            timestamp: slot.timestamp,
            value: body.slice(slot.value.0..slot.value.1),
        })
    });
    Some(stored.collect())
}
