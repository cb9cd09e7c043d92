//! Frames: what a segment file is made of, byte for byte.
//!
//! A frame is a header of 96 bytes, a body, an end mark, and zeros up to the next multiple of 16. Numbers are little endian.
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | magic `8F 4F 46 4C` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 2 | the same, every bit turned over: a flipped bit is damage, not a newer version |
//! | 8 | 1 | kind: 1 entries, 2 checkpoint, 3 end (the log was closed in order) |
//! | 9 | 1 | codec of the body: 0 as it is, 1 zstd |
//! | 10 | 2 | 0 |
//! | 12 | 4 | entries in it |
//! | 16 | 8 | epoch |
//! | 24 | 8 | first sequence of its segment (the file's name) |
//! | 32 | 8 | its own place in the file |
//! | 40 | 8 | synced: everything before this place in the file was durable before this frame was written |
//! | 48 | 8 | sequence of the first entry; in frames without entries, of the next one |
//! | 56 | 8 | sequence of the last entry; in frames without entries, one less than the first |
//! | 64 | 8 | oldest timestamp; in frames without entries, when it was written (Unix ms) |
//! | 72 | 8 | newest timestamp; in a checkpoint, the length that was reserved for the file |
//! | 80 | 4 | length of the body before compression |
//! | 84 | 4 | length of the body as it stands |
//! | 88 | 4 | CRC-32C of the body as it stands |
//! | 92 | 4 | CRC-32C of bytes 0–91 |
//! | 96 | … | body |
//! | … | 4 | end mark `4C 46 4F 8F` |
//!
//! Magic and end mark are there so that the first and the last sector of a frame are never all zeros: recovery tells an unwritten
//! sector by its zeros. The place, the segment and the epoch bind a frame to where it was written: a copy of it elsewhere, in another
//! file or inside somebody's value, is not taken for the frame. Bytes 0–7 keep their meaning in every version.

use std::borrow::Cow;
use std::io::Read as _;

use bytes::BytesMut;

/// The version written, and the newest one known.
pub(crate) const VERSION: u16 = 1;
/// First bytes of a frame.
pub(crate) const MAGIC: [u8; 4] = [0x8f, b'O', b'F', b'L'];
/// Last bytes of a frame.
pub(crate) const END_MARK: [u8; 4] = [b'L', b'F', b'O', 0x8f];
/// Bytes of a header.
pub(crate) const HEADER: usize = 96;
/// Frames begin at multiples of this: a search for the next one after damage need not look at every byte.
pub(crate) const ALIGN: u64 = 16;
/// A segment never holds numbers further than this beyond its first one. It bounds what a segment that cannot be read may have held.
pub(crate) const SEGMENT_NUMBERS: u64 = 1 << 22;
/// Numbers beyond this are not believed where they are only said (cursors, ledger): calculating on from them must not overflow.
pub(crate) const MAX_SAID: u64 = 1 << 56;
/// The largest body of entries, before compression; above it a header is not believed.
pub(crate) const MAX_PLAIN: u32 = 64 << 20;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entries,
    Checkpoint,
    End,
}

/// How a body stands in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Plain,
    Zstd,
}

/// A frame's header, without what follows from it (magic, version, its own CRC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) codec: Codec,
    pub(crate) count: u32,
    pub(crate) epoch: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) synced: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) oldest: i64,
    pub(crate) newest: i64,
    pub(crate) plain: u32,
    pub(crate) stored: u32,
    pub(crate) body_crc: u32,
}

impl Header {
    /// The header as bytes.
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&(!VERSION).to_le_bytes());
        put(&[
            match self.kind {
                Kind::Entries => 1,
                Kind::Checkpoint => 2,
                Kind::End => 3,
            },
            match self.codec {
                Codec::Plain => 0,
                Codec::Zstd => 1,
            },
            0,
            0,
        ]);
        put(&self.count.to_le_bytes());
        for n in [self.epoch, self.segment, self.offset, self.synced, self.first, self.last] {
            put(&n.to_le_bytes());
        }
        put(&self.oldest.to_le_bytes());
        put(&self.newest.to_le_bytes());
        for n in [self.plain, self.stored, self.body_crc] {
            put(&n.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..HEADER - 4]);
        out[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` if these bytes are not a whole, unharmed header of a version known here.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        if version(bytes) != Some(VERSION) || u32_at(bytes, HEADER - 4) != crc32c::crc32c(&bytes[..HEADER - 4]) {
            return None;
        }
        let header = Self {
            kind: match bytes[8] {
                1 => Kind::Entries,
                2 => Kind::Checkpoint,
                3 => Kind::End,
                _ => return None,
            },
            codec: match bytes[9] {
                0 => Codec::Plain,
                1 => Codec::Zstd,
                _ => return None,
            },
            count: u32_at(bytes, 12),
            epoch: u64_at(bytes, 16),
            segment: u64_at(bytes, 24),
            offset: u64_at(bytes, 32),
            synced: u64_at(bytes, 40),
            first: u64_at(bytes, 48),
            last: u64_at(bytes, 56),
            oldest: u64_at(bytes, 64) as i64,
            newest: u64_at(bytes, 72) as i64,
            plain: u32_at(bytes, 80),
            stored: u32_at(bytes, 84),
            body_crc: u32_at(bytes, 88),
        };
        header.is_sensible().then_some(header)
    }

    /// Whether the fields agree with each other; what follows may then calculate with them without overflow.
    fn is_sensible(&self) -> bool {
        let limit = 1 << 62;
        let numbers = match self.kind {
            Kind::Entries => {
                self.count > 0 && self.plain <= MAX_PLAIN && self.last.checked_sub(self.first) == Some(u64::from(self.count) - 1)
            }
            Kind::Checkpoint | Kind::End => self.count == 0 && self.last.checked_add(1) == Some(self.first),
        };
        numbers
            && self.first > 0
            && self.last < limit
            && self.first >= self.segment
            && self.offset < limit
            && self.offset.is_multiple_of(ALIGN)
            && self.synced <= self.offset
            && (self.codec == Codec::Zstd || self.plain == self.stored)
    }

    /// Header, body and end mark.
    pub(crate) fn extent(&self) -> u64 {
        HEADER as u64 + u64::from(self.stored) + END_MARK.len() as u64
    }

    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.extent().next_multiple_of(ALIGN)
    }

    /// Whether `frame` (from the header to the end mark) holds the body that this header speaks of.
    pub(crate) fn fits(&self, frame: &[u8]) -> bool {
        let Some(rest) = frame.get(HEADER..) else { return false };
        let Some((body, mark)) = rest.split_at_checked(self.stored as usize) else { return false };
        mark.starts_with(&END_MARK) && crc32c::crc32c(body) == self.body_crc
    }
}

/// The format version that a frame begins with; `None` if no frame begins here.
pub(crate) fn version(bytes: &[u8]) -> Option<u16> {
    let bytes = bytes.get(..8)?;
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    (bytes[..4] == MAGIC && u16::from_le_bytes([bytes[6], bytes[7]]) == !version).then_some(version)
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// A frame that is ready but for its place: segment, offset and synced are set when it is written.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// Header (zeros until it is placed), body, end mark, padding.
    bytes: Vec<u8>,
    header: Option<Header>,
}

impl Frame {
    /// Makes a frame of a body, compressing it if that helps. `header`'s lengths, codec and CRC are filled in; `bytes` is reused.
    pub(crate) fn make(mut header: Header, body: &[u8], zstd: &mut zstd::bulk::Compressor<'_>, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEADER + zstd::zstd_safe::compress_bound(body.len()), 0);
        let packed = zstd.compress_to_buffer(body, &mut bytes[HEADER..]).ok().filter(|&n| n < body.len());
        let stored = match packed {
            Some(n) => {
                bytes.truncate(HEADER + n);
                header.codec = Codec::Zstd;
                n
            }
            // Also if zstd failed, which it does for want of memory only: stored as it is, an entry is as safe.
            None => {
                bytes.truncate(HEADER);
                bytes.extend_from_slice(body);
                header.codec = Codec::Plain;
                body.len()
            }
        };
        header.plain = body.len() as u32;
        header.stored = stored as u32;
        header.body_crc = crc32c::crc32c(&bytes[HEADER..]);
        bytes.extend_from_slice(&END_MARK);
        bytes.resize(bytes.len().next_multiple_of(ALIGN as usize), 0);
        Self { bytes, header: Some(header) }
    }

    /// Bytes in the file, padding included.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The header as it is so far.
    pub(crate) fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Says in a checkpoint how long its file is.
    pub(crate) fn set_reserved(&mut self, bytes: u64) {
        if let Some(header) = &mut self.header {
            header.newest = bytes as i64;
        }
    }

    /// Gives the frame its place, and its bytes as they are to be written there.
    pub(crate) fn place(&mut self, segment: u64, offset: u64, synced: u64) -> &[u8] {
        if let Some(header) = &mut self.header {
            (header.segment, header.offset, header.synced) = (segment, offset, synced);
            self.bytes[..HEADER].copy_from_slice(&header.encode());
        }
        &self.bytes
    }

    /// The buffer, to be used again.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A body of entries as it was before compression, in `buffer`, which is reused. `frame` was checked with [`Header::fits`].
pub(crate) fn unpack(header: &Header, frame: &[u8], zstd: &mut zstd::bulk::Decompressor<'_>, buffer: &mut BytesMut) -> Option<()> {
    let body = frame.get(HEADER..HEADER + header.stored as usize)?;
    let plain = header.plain.min(MAX_PLAIN) as usize;
    buffer.resize(plain, 0);
    match header.codec {
        Codec::Plain => buffer.copy_from_slice(body.get(..plain)?),
        Codec::Zstd => {
            let n = zstd.decompress_to_buffer(body, &mut buffer[..]).ok()?;
            if n != plain {
                return None;
            }
        }
    }
    Some(())
}

/// A body of any size (checkpoints), growing as it really is, not as its header says.
pub(crate) fn unpack_large<'a>(header: &Header, frame: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let body = frame.get(HEADER..HEADER + header.stored as usize)?;
    match header.codec {
        Codec::Plain => Some(Cow::Borrowed(body)),
        Codec::Zstd => {
            let mut plain = Vec::new();
            let decoder = zstd::stream::Decoder::with_buffer(body).ok()?;
            decoder.take(u64::from(header.plain) + 1).read_to_end(&mut plain).ok()?;
            (plain.len() == header.plain as usize).then_some(Cow::Owned(plain))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Codec, Frame, HEADER, Header, Kind};

    fn header() -> Header {
        Header {
            kind: Kind::Entries,
            codec: Codec::Plain,
            count: 3,
            epoch: 1_700_000_000_000,
            segment: 5,
            offset: 4096,
            synced: 4000,
            first: 7,
            last: 9,
            oldest: -4,
            newest: 12,
            plain: 0,
            stored: 0,
            body_crc: 0,
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_seen() {
        let mut zstd = zstd::bulk::Compressor::new(1).expect("zstd");
        let body = b"some body, some body, some body, some body, some body, some body, some body";
        let mut frame = Frame::make(header(), body, &mut zstd, Vec::new());
        let good = frame.place(5, 4096, 4000).to_vec();
        let read = Header::decode(&good).expect("the header as written");
        assert!(read.fits(&good), "the frame as written");
        for bit in 0..read.extent() as usize * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let seen = Header::decode(&bad).is_none_or(|header| !header.fits(&bad));
            assert!(seen, "bit {bit} of byte {} was flipped and not seen", bit / 8);
        }
        assert!(good.len() > HEADER && good.len().is_multiple_of(16), "padded to 16, is {}", good.len());
    }
}
