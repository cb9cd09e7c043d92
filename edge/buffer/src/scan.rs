//! Walking over a segment file that may be harmed.

use std::io;

use crate::format::{ALIGN, HEADER, Header, MAGIC};
use crate::storage::File;

/// A power cut leaves a sector of this size old or new.
const SECTOR: u64 = 512;
/// Read at once when walking.
const CHUNK: usize = 1 << 20;
/// When a chunk cannot be read, its pages are tried one by one: the kernel reads no less.
const PIECE: usize = 4096;
/// Stands for bytes that the disk does not give: neither zeros nor a frame.
const UNREADABLE: u8 = 0xee;

/// Which segment a file is, or should be: frames that say otherwise are not its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) epoch: u64,
    pub(crate) first: u64,
}

impl Identity {
    /// Whether a header found at `offset` was written there.
    pub(crate) fn owns(&self, header: &Header, offset: u64) -> bool {
        (header.epoch, header.segment, header.offset) == (self.epoch, self.first, offset)
    }
}

/// A file seen through a window that moves over it.
#[derive(Debug)]
pub(crate) struct Window<'f> {
    file: &'f dyn File,
    len: u64,
    at: u64,
    buffer: Vec<u8>,
    /// Bytes that the disk did not give so far.
    unreadable: u64,
    chunk: usize,
}

impl<'f> Window<'f> {
    /// For walking over much of the file.
    pub(crate) fn new(file: &'f dyn File) -> io::Result<Self> {
        Ok(Self { file, len: file.size()?, at: 0, buffer: Vec::new(), unreadable: 0, chunk: CHUNK })
    }

    /// For looking at a header here and there.
    pub(crate) fn small(file: &'f dyn File) -> io::Result<Self> {
        Ok(Self { chunk: HEADER, ..Self::new(file)? })
    }

    /// The file's length.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The bytes from `offset` on, `want` of them or as many as there are.
    pub(crate) fn bytes(&mut self, offset: u64, want: usize) -> &[u8] {
        let want = want.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let inside = offset >= self.at && offset + want as u64 <= self.at + self.buffer.len() as u64;
        if !inside {
            self.load(offset, want.max(self.chunk));
        }
        let from = (offset - self.at) as usize;
        &self.buffer[from..(from + want).min(self.buffer.len())]
    }

    fn load(&mut self, offset: u64, want: usize) {
        let want = want.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        self.at = offset;
        self.buffer.resize(want, 0);
        match self.file.read_at(&mut self.buffer, offset) {
            Ok(n) => self.buffer.truncate(n),
            Err(_) => {
                let mut at = 0;
                while at < self.buffer.len() {
                    let place = offset + at as u64;
                    let end = (at + PIECE - place as usize % PIECE).min(self.buffer.len());
                    let piece = &mut self.buffer[at..end];
                    if self.file.read_at(piece, place).is_err() {
                        piece.fill(UNREADABLE);
                        self.unreadable += piece.len() as u64;
                    }
                    at = end;
                }
            }
        }
    }

    /// The header at `offset`, if a frame of this segment begins there. Its body may be harmed.
    pub(crate) fn header(&mut self, offset: u64, identity: Identity) -> Option<Header> {
        Header::decode(self.bytes(offset, HEADER)).filter(|header| identity.owns(header, offset))
    }

    /// The whole, unharmed frame at `offset`, if there is one.
    pub(crate) fn frame(&mut self, offset: u64, identity: Identity) -> Option<(Header, &[u8])> {
        let header = self.header(offset, identity)?;
        if header.extent() > self.len.saturating_sub(offset) {
            return None;
        }
        let frame = self.bytes(offset, header.extent() as usize);
        header.fits(frame).then_some((header, frame))
    }

    /// The next whole frame that begins at or behind `offset`.
    pub(crate) fn next_frame(&mut self, offset: u64, identity: Identity) -> Option<Header> {
        self.search(offset, |window, at| window.frame(at, identity).map(|(header, _)| header))
    }

    /// The epoch that the first readable header speaks of, in a segment whose first sequence is known.
    pub(crate) fn next_epoch(&mut self, first: u64) -> Option<u64> {
        self.search(0, |window, at| {
            let header = Header::decode(window.bytes(at, HEADER))?;
            (header.segment == first && header.offset == at).then_some(header.epoch)
        })
    }

    /// Asks `found` at each place at or behind `offset` where a frame may begin.
    fn search<T>(&mut self, offset: u64, found: impl Fn(&mut Self, u64) -> Option<T>) -> Option<T> {
        let mut at = offset.next_multiple_of(ALIGN);
        while at + (HEADER as u64) <= self.len {
            let bytes = self.bytes(at, CHUNK / 2);
            let places = bytes.chunks(ALIGN as usize).enumerate();
            let hit = places.filter(|(_, piece)| piece.starts_with(&MAGIC)).map(|(i, _)| at + i as u64 * ALIGN).next();
            let looked = bytes.len() as u64;
            match hit {
                Some(place) => {
                    if let Some(found) = found(self, place) {
                        return Some(found);
                    }
                    at = place + ALIGN;
                }
                None => at += looked.max(ALIGN) / ALIGN * ALIGN,
            }
        }
        None
    }

    /// Where the last byte behind `offset` that is not zero lies.
    pub(crate) fn last_written(&mut self, offset: u64) -> Option<u64> {
        let mut at = offset;
        let mut last = None;
        while at < self.len {
            let bytes = self.bytes(at, CHUNK / 2);
            if bytes.is_empty() {
                break;
            }
            let looked = bytes.len() as u64;
            if let Some(i) = bytes.iter().rposition(|&byte| byte != 0) {
                last = Some(at + i as u64);
            }
            at += looked;
        }
        last
    }

    /// Whether `from..to`, which should hold a frame (or its header alone), was not all written: the mark of a write that was cut off.
    ///
    /// What a segment holds beyond its last durable frame was zero before it was written, and the format leaves neither a sector of a
    /// written frame zero nor its last bytes. So a frame that the power cut off has a zero sector, one of which only the front was written
    /// (a failed write, a killed process) has a zero end, and one that was harmed later (a flipped bit, a foreign write) has neither.
    /// `end`: so many bytes at the end are never zero together.
    pub(crate) fn is_unwritten(&mut self, from: u64, to: u64, end: usize) -> bool {
        let last = self.bytes(to.saturating_sub(end as u64), end);
        if !last.is_empty() && last.len() == end && last.iter().all(|&byte| byte == 0) {
            return true;
        }
        let mut at = from;
        while at < to {
            let end = ((at / SECTOR + 1) * SECTOR).min(to);
            let part = self.bytes(at, (end - at) as usize);
            // Beyond the file's end there is no sector: the length was durable before anything was written.
            if !part.is_empty() && part.iter().all(|&byte| byte == 0) {
                return true;
            }
            at = end;
        }
        false
    }
}
