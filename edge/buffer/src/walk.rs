//! Walking over segments from a checkpoint to the end of the log, and telling a torn tail from damage.

use bytes::BytesMut;

use crate::Error;
use crate::KeyLoss;
use crate::block;
use crate::census::{Census, End};
use crate::checkpoint::{Checkpoint, KeyCounts};
use crate::damage::between;
use crate::format::{HEADER, Header, Kind, SEGMENT_NUMBERS, unpack};
use crate::scan::{Identity, Window};

/// Sequences that are missing.
#[derive(Debug)]
pub(crate) struct Hole {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Whether so many entries are missing, not only at most so many.
    pub(crate) is_exact: bool,
    pub(crate) keys: Vec<KeyLoss>,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) why: String,
}

/// Where a segment's walk ended.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Behind the last frame that counts.
    pub(crate) offset: u64,
    /// Behind it there is nothing, and nothing before it was harmed: writing may go on here.
    pub(crate) is_clean: bool,
    pub(crate) was_closed: bool,
    /// Bytes of a torn tail.
    pub(crate) torn: u64,
    /// Frames that no later frame proves to be durable.
    pub(crate) doubtful: Vec<(u64, u64)>,
}

/// The walk's state.
pub(crate) struct Walk {
    expected: u64,
    census: Census,
    holes: Vec<Hole>,
    newest: Option<i64>,
    harmed: Vec<(u64, u64)>,
}

/// What a place where no whole frame stands means.
pub(crate) enum Meaning {
    /// The end: nothing was written here, or what was written never became durable.
    End { torn: u64 },
    /// Something durable was harmed; the walk goes on with the next whole frame.
    Next(Header),
    /// Something durable was harmed, nothing whole comes behind it; the harmed frame's header can be read.
    Known(Header),
    /// Something durable was harmed, and nobody knows how much it was.
    Unknown,
}

impl Walk {
    /// Begins at a segment that begins with this checkpoint.
    pub(crate) fn new(checkpoint: &Checkpoint, first: u64) -> Self {
        let census = Census::new(&checkpoint.keys, checkpoint.floor);
        Self { expected: first, census, holes: Vec::new(), newest: None, harmed: Vec::new() }
    }

    /// The next sequence.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Walks over a segment. Frames that begin at `limit` or beyond are the next segment's, even if they stand here too.
    pub(crate) fn segment(&mut self, window: &mut Window<'_>, identity: Identity, limit: u64, is_newest: bool) -> Result<Tail, Error> {
        let zstd = zstd::bulk::Decompressor::new();
        let mut zstd = zstd.map_err(Error::io("read", crate::segment::file_name(identity.first)))?;
        let mut buffer = BytesMut::new();
        let mut tail = Tail { is_clean: true, ..Tail::default() };
        let reserved = window.header(0, identity).filter(|head| head.kind == Kind::Checkpoint).map_or(0, |head| head.newest as u64);
        // The length was durable before the segment had its name. One that is shorter now was cut by somebody.
        let is_cut = is_newest && window.len() < reserved;
        if identity.first > self.expected {
            self.hole(identity.first - 1, None, true, format!("what lay before segment {} is missing", identity.first));
        }
        loop {
            let at = tail.offset;
            let parts = window.frame(at, identity).and_then(|(header, frame)| match header.kind {
                Kind::Entries => {
                    unpack(&header, frame, &mut zstd, &mut buffer)?;
                    block::key_parts(&buffer, header.count).map(|parts| (header, parts))
                }
                Kind::Checkpoint | Kind::End => Some((header, Vec::new())),
            });
            let Some((header, parts)) = parts else {
                match if is_newest { meaning(window, identity, at) } else { sealed(window, identity, at) } {
                    Meaning::End { .. } if is_cut && !tail.was_closed => {
                        let why = format!("segment {} was cut off at byte {}", identity.first, window.len());
                        self.hole(identity.first + SEGMENT_NUMBERS - 1, None, false, why);
                        tail.is_clean = false;
                        break;
                    }
                    Meaning::End { torn } => {
                        tail.torn = torn;
                        tail.is_clean &= torn == 0;
                        break;
                    }
                    Meaning::Next(header) => {
                        self.harmed.push((at, header.offset));
                        tail.offset = header.offset;
                    }
                    Meaning::Known(header) => {
                        self.harmed.push((at, header.end().min(window.len())));
                        if header.kind == Kind::Entries && header.last >= self.expected && header.first < limit {
                            let why = format!("segment {} is damaged at byte {at}", identity.first);
                            self.hole(header.last, Some((header.oldest, header.newest)), true, why);
                        }
                        tail.offset = header.end();
                    }
                    Meaning::Unknown => {
                        self.harmed.push((at, window.last_written(at).map_or(at, |last| last + 1)));
                        let why = format!("segment {} is damaged from byte {at} to its end", identity.first);
                        self.hole(identity.first + SEGMENT_NUMBERS - 1, None, false, why);
                        tail.is_clean = false;
                        break;
                    }
                }
                (tail.is_clean, tail.was_closed) = (false, false);
                continue;
            };
            if header.kind == Kind::Entries && header.first >= limit {
                // Never durable here: the segment was abandoned, and the same sequences stand in the next one.
                tail.is_clean = false;
                break;
            }
            tail.was_closed = header.kind == Kind::End;
            prove(&mut tail.doubtful, &header);
            tail.offset = header.end();
            // Also the frame that says the log was closed knows which number was next.
            if header.first > self.expected {
                let times = self.newest.map(|newest| (newest.min(header.oldest), newest.max(header.oldest)));
                self.hole(header.first - 1, times, true, format!("segment {} is damaged before byte {at}", identity.first));
            }
            if header.kind != Kind::Entries || header.last < self.expected {
                continue;
            }
            for part in parts {
                self.census.saw(part.key, part.first, part.count);
            }
            (self.expected, self.newest) = (header.last + 1, Some(header.newest));
        }
        Ok(tail)
    }

    /// A segment that existed is not there, or nothing in it can be read. It may have held as many numbers as a segment may.
    pub(crate) fn missing_segment(&mut self, first: u64) {
        if first + SEGMENT_NUMBERS > self.expected {
            let why = format!("segment {first}, the newest, is missing or cannot be read");
            self.hole(first + SEGMENT_NUMBERS - 1, None, false, why);
        }
    }

    /// The log was durable up to `seen`, and ends before: what is missing stood in the segment `first`.
    pub(crate) fn missing_tail(&mut self, first: u64, seen: u64) {
        let why = format!("the log was durable up to {seen} and now ends with {}", self.expected - 1);
        self.hole((first + SEGMENT_NUMBERS - 1).max(seen), None, false, why);
    }

    /// Goes on with `next`, if that is later.
    pub(crate) fn skip_to(&mut self, next: u64) {
        self.expected = self.expected.max(next);
    }

    /// Byte ranges of the segment just walked over that were harmed.
    pub(crate) fn take_harmed(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.harmed)
    }

    /// What is missing; the next sequence; how far the keys have counted, or may have; where unknown keys begin.
    pub(crate) fn finish(self) -> (Vec<Hole>, u64, KeyCounts, u64) {
        let (losses, keys, floor) = self.census.finish(End::Unknown);
        let mut holes = self.holes;
        for (hole, mut keys) in holes.iter_mut().zip(losses) {
            if !hole.is_exact {
                keys.iter_mut().filter(|key| key.key.is_none()).for_each(|key| key.count = None);
            }
            hole.keys = keys;
        }
        (holes, self.expected, keys, floor)
    }

    /// Everything from the expected sequence to `last` is missing.
    fn hole(&mut self, last: u64, times: Option<(i64, i64)>, is_exact: bool, why: String) {
        if last < self.expected {
            return;
        }
        let (from, to) = times.unwrap_or_else(|| between(self.newest, None));
        self.census.hole(last + 1 - self.expected);
        self.holes.push(Hole { first: self.expected, last, is_exact, keys: Vec::new(), from, to, why });
        self.expected = last + 1;
    }
}

/// Frames before `synced` are durable, and so is a frame that its segment got its name with (`synced` 0).
fn prove(doubtful: &mut Vec<(u64, u64)>, header: &Header) {
    doubtful.retain(|(offset, _)| *offset >= header.synced);
    if header.synced > 0 {
        doubtful.push((header.offset, header.end()));
    }
}

/// What a harmed place means in a segment behind which another one was begun: it was all durable.
pub(crate) fn sealed(window: &mut Window<'_>, identity: Identity, at: u64) -> Meaning {
    match window.next_frame(at + 1, identity) {
        Some(header) => Meaning::Next(header),
        None => Meaning::End { torn: 0 },
    }
}

/// What a harmed place means in the newest segment.
pub(crate) fn meaning(window: &mut Window<'_>, identity: Identity, at: u64) -> Meaning {
    let Some(written) = window.last_written(at) else { return Meaning::End { torn: 0 } };
    let header = window.header(at, identity);
    let next = window.next_frame(at + 1, identity);
    let mut proven = header.is_some_and(|header| header.synced == 0);
    let mut later = next;
    while let Some(frame) = later {
        // A later group was begun, so this place was durable; or the frame was there when the segment got its name.
        proven |= frame.synced > at || frame.synced == 0;
        if proven {
            break;
        }
        later = window.next_frame(frame.end(), identity);
    }
    let (end, never_zero) = match (&header, &next) {
        // The end mark's last byte.
        (Some(header), _) => (at + header.extent(), 1),
        // Padding comes before the next frame.
        (None, Some(next)) => (next.offset, 0),
        // The header's CRC.
        (None, None) => (at + HEADER as u64, 4),
    };
    if !proven && window.is_unwritten(at, end, never_zero) {
        return Meaning::End { torn: written + 1 - at };
    }
    match (next, header) {
        (Some(next), _) => Meaning::Next(next),
        (None, Some(header)) => Meaning::Known(header),
        (None, None) => Meaning::Unknown,
    }
}
