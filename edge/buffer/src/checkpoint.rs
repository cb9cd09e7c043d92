//! Checkpoints: all that a start needs to know, at the head of each segment.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Cursor;
use crate::format::{Codec, Frame, Header, Kind, MAX_SAID, unpack_large};
use crate::ledger::Ledger;
use crate::wire::{self, Input};

/// How far each key has counted: the number of its last entry.
pub(crate) type KeyCounts = std::collections::HashMap<Arc<str>, u64>;

/// Named cursors.
pub(crate) type Cursors = BTreeMap<String, Cursor>;

/// The body of a checkpoint. The next sequence and the time stand in its header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// How far the keys had counted before the next sequence.
    pub(crate) keys: KeyCounts,
    /// Where a key that was never seen begins to count: 0, or higher after a loss that may have held keys nobody knows.
    pub(crate) floor: u64,
    pub(crate) cursors: Cursors,
    pub(crate) ledger: Ledger,
}

impl Checkpoint {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 32 * self.keys.len());
        wire::put(&mut out, self.floor);
        wire::put(&mut out, self.keys.len() as u64);
        // In order: the same state gives the same bytes, and neighbours compress.
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_unstable();
        for (key, count) in keys {
            wire::put_bytes(&mut out, key.as_bytes());
            wire::put(&mut out, *count);
        }
        encode_cursors(&self.cursors, &mut out);
        self.ledger.encode(&mut out);
        out
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut input = Input::new(body);
        let floor = input.number()?;
        let mut keys = KeyCounts::new();
        for _ in 0..input.count()? {
            let key = input.key()?;
            keys.insert(key, input.number().filter(|&n| n < 1 << 62)?);
        }
        let cursors = decode_cursors(&mut input)?;
        let ledger = Ledger::decode(&mut input)?;
        (input.left() == 0 && floor < 1 << 62).then_some(Self { keys, floor, cursors, ledger })
    }

    /// The frame of this checkpoint before the sequence `next`, written at `now` (Unix ms).
    pub(crate) fn to_frame(&self, epoch: u64, next: u64, now: i64, zstd: &mut zstd::bulk::Compressor<'_>) -> Frame {
        Frame::make(empty(Kind::Checkpoint, epoch, next, now), &self.encode(), zstd, Vec::new())
    }

    /// Reads the checkpoint from its frame.
    pub(crate) fn from_frame(header: &Header, frame: &[u8]) -> Option<Self> {
        Self::decode(&unpack_large(header, frame)?)
    }
}

/// The header of a frame without entries.
pub(crate) fn empty(kind: Kind, epoch: u64, next: u64, now: i64) -> Header {
    Header {
        kind,
        codec: Codec::Plain,
        count: 0,
        epoch,
        segment: 0,
        offset: 0,
        synced: 0,
        first: next,
        last: next - 1,
        oldest: now,
        newest: now,
        plain: 0,
        stored: 0,
        body_crc: 0,
    }
}

pub(crate) fn encode_cursors(cursors: &Cursors, out: &mut Vec<u8>) {
    wire::put(out, cursors.len() as u64);
    for (name, cursor) in cursors {
        wire::put_bytes(out, name.as_bytes());
        wire::put(out, cursor.sequence);
        wire::put_bytes(out, &cursor.note);
    }
}

pub(crate) fn decode_cursors(input: &mut Input<'_>) -> Option<Cursors> {
    let mut cursors = Cursors::new();
    for _ in 0..input.count()? {
        let name = input.text()?.to_owned();
        let sequence = input.number().filter(|&n| n < MAX_SAID)?;
        cursors.insert(name, Cursor { sequence, note: input.bytes()?.to_vec() });
    }
    Some(cursors)
}
