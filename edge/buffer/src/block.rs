//! The body of a block of entries.
//!
//! ```text
//! keys     count, then for each: length and bytes, the key's own number of its first entry here, how many entries it has here
//! entries  for each: index of its key, timestamp minus the entry's before (0 for the first), length of its value
//! values   one after the other
//! ```
//!
//! Numbers are LEB128, time differences zigzag. What is alike stands together, which is what zstd likes; and recovery, which needs to
//! know how far each key has counted, reads the keys alone.

use std::sync::Arc;

use crate::format::{Codec, Header, Kind};
use crate::wire::{self, Input};

/// One key's part in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyPart<'a> {
    pub(crate) key: &'a str,
    /// The key's own number of its first entry in this block; the others follow without gaps.
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// A block that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    keys: Vec<(Arc<str>, u64, u64)>,
    keys_len: usize,
    entries: Vec<u8>,
    values: Vec<u8>,
    count: u32,
    previous: i64,
    oldest: i64,
    newest: i64,
}

impl Builder {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// About the size of the body.
    pub(crate) fn size(&self) -> usize {
        self.keys_len + self.entries.len() + self.values.len()
    }

    /// Adds a key whose next entry has the key's own number `first`; returns its index here.
    pub(crate) fn add_key(&mut self, key: Arc<str>, first: u64) -> u32 {
        self.keys_len += key.len() + 8;
        self.keys.push((key, first, 0));
        self.keys.len() as u32 - 1
    }

    /// Adds an entry of the key with this index.
    pub(crate) fn add(&mut self, key: u32, timestamp: i64, value: &[u8]) {
        if let Some((_, _, count)) = self.keys.get_mut(key as usize) {
            *count += 1;
        }
        wire::put(&mut self.entries, u64::from(key));
        wire::put_signed(&mut self.entries, timestamp.wrapping_sub(self.previous));
        wire::put(&mut self.entries, value.len() as u64);
        self.values.extend_from_slice(value);
        self.previous = timestamp;
        (self.oldest, self.newest) = match self.count {
            0 => (timestamp, timestamp),
            _ => (self.oldest.min(timestamp), self.newest.max(timestamp)),
        };
        self.count += 1;
    }

    /// Writes the body into `body` (cleared before) and returns the header for it; the builder is empty again.
    pub(crate) fn finish(&mut self, epoch: u64, first: u64, body: &mut Vec<u8>) -> Header {
        body.clear();
        body.reserve(self.size() + 16 * self.keys.len() + 16);
        wire::put(body, self.keys.len() as u64);
        for (key, first, count) in self.keys.drain(..) {
            wire::put_bytes(body, key.as_bytes());
            wire::put(body, first);
            wire::put(body, count);
        }
        body.append(&mut self.entries);
        body.append(&mut self.values);
        let header = Header {
            kind: Kind::Entries,
            codec: Codec::Plain,
            count: self.count,
            epoch,
            segment: 0,
            offset: 0,
            synced: 0,
            first,
            last: first + u64::from(self.count) - 1,
            oldest: self.oldest,
            newest: self.newest,
            plain: 0,
            stored: 0,
            body_crc: 0,
        };
        (self.count, self.previous, self.keys_len) = (0, 0, 0);
        header
    }
}

/// Reads the keys of a body; `None` if it does not hold together. Leaves `input` at the entries.
fn keys<'a>(input: &mut Input<'a>, count: u32) -> Option<Vec<KeyPart<'a>>> {
    let n = input.count()?;
    let mut keys = Vec::with_capacity(n.min(count as usize));
    let mut total = 0_u64;
    for _ in 0..n {
        let part = KeyPart { key: input.text()?, first: input.number()?, count: input.number()? };
        total = total.checked_add(part.count)?;
        let sensible = part.first > 0 && part.count > 0 && part.first.checked_add(part.count).is_some_and(|end| end < 1 << 62);
        if !sensible || total > u64::from(count) {
            return None;
        }
        keys.push(part);
    }
    (total == u64::from(count)).then_some(keys)
}

/// The keys that a body speaks of.
pub(crate) fn key_parts(body: &[u8], count: u32) -> Option<Vec<KeyPart<'_>>> {
    keys(&mut Input::new(body), count)
}

/// An entry's place in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Index of its key.
    pub(crate) key: usize,
    /// The key's own number.
    pub(crate) key_sequence: u64,
    pub(crate) timestamp: i64,
    /// Where its value begins and ends in the body.
    pub(crate) value: (usize, usize),
}

/// Reads a whole body: keys, and the entries' places in `slots` (cleared before). `None` if it does not hold together.
pub(crate) fn decode<'a>(body: &'a [u8], count: u32, slots: &mut Vec<Slot>) -> Option<Vec<KeyPart<'a>>> {
    slots.clear();
    let mut input = Input::new(body);
    let keys = keys(&mut input, count)?;
    let mut next: Vec<u64> = keys.iter().map(|part| part.first).collect();
    let mut at = 0_usize;
    let mut timestamp = 0_i64;
    for _ in 0..count {
        let key = usize::try_from(input.number()?).ok()?;
        timestamp = timestamp.wrapping_add(input.signed()?);
        let end = at.checked_add(usize::try_from(input.number()?).ok()?)?;
        let number = next.get_mut(key)?;
        slots.push(Slot { key, key_sequence: *number, timestamp, value: (at, end) });
        *number += 1;
        at = end;
    }
    let begin = body.len().checked_sub(at).filter(|_| input.left() == at)?;
    for slot in slots.iter_mut() {
        slot.value = (begin + slot.value.0, begin + slot.value.1);
    }
    keys.iter().zip(&next).all(|(part, &next)| part.first + part.count == next).then_some(keys)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Builder, decode};

    proptest! {
        #[test]
        fn entries_come_back(entries in prop::collection::vec((0_usize..5, any::<i64>(), prop::collection::vec(any::<u8>(), 0..40)), 1..60)) {
            let mut builder = Builder::default();
            let mut known: Vec<Option<u32>> = vec![None; 5];
            for (key, timestamp, value) in &entries {
                let index = *known[*key].get_or_insert_with(|| builder.add_key(Arc::from(format!("key-{key}")), 100 * (*key as u64 + 1)));
                builder.add(index, *timestamp, value);
            }
            let mut body = Vec::new();
            let header = builder.finish(1, 10, &mut body);
            let mut slots = Vec::new();
            let keys = decode(&body, header.count, &mut slots).expect("as written");
            let mut seen = [0; 5];
            for (slot, (key, timestamp, value)) in slots.iter().zip(&entries) {
                prop_assert_eq!(keys[slot.key].key, format!("key-{key}"));
                prop_assert_eq!(slot.key_sequence, 100 * (*key as u64 + 1) + seen[*key]);
                seen[*key] += 1;
                prop_assert_eq!(slot.timestamp, *timestamp);
                prop_assert_eq!(&body[slot.value.0..slot.value.1], &value[..]);
            }
            prop_assert_eq!(slots.len(), entries.len());
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), count in 0_u32..50) {
            let mut slots = Vec::new();
            if decode(&body, count, &mut slots).is_some() {
                prop_assert!(slots.iter().all(|slot| slot.value.0 <= slot.value.1 && slot.value.1 <= body.len()));
            }
        }
    }
}
