//! The list of segments, and their files' names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::MAX_SAID;

/// The name a new segment has until it is whole. Never the same twice in a process: if names reach the disk in another order than they
/// were changed in, an earlier attempt's file must not come to stand for a later one's.
pub(crate) fn temporary(attempt: u64) -> String {
    format!("next.{attempt}.tmp")
}

/// A segment's file name: its first sequence, so that names sort as numbers do.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The first sequence that a file name speaks of.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|&first| first > 0 && first < MAX_SAID)
}

/// A segment that readers may read.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Unique in this process: a segment written anew in place of another has the same first sequence.
    pub(crate) id: u64,
    pub(crate) first: u64,
    /// Bytes on disk, as reserved.
    pub(crate) bytes: u64,
}

/// All segments, oldest first. Never empty once the log is open.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    list: Vec<Arc<Segment>>,
    next_id: u64,
}

impl Segments {
    /// Adds the newest segment; one with the same first sequence is replaced.
    pub(crate) fn push(&mut self, first: u64, bytes: u64) {
        self.list.retain(|segment| segment.first < first);
        self.next_id += 1;
        self.list.push(Arc::new(Segment { id: self.next_id, first, bytes }));
    }

    /// A segment takes another amount of space than was known.
    pub(crate) fn resized(&mut self, first: u64, bytes: u64) {
        for segment in &mut self.list {
            if segment.first == first {
                *segment = Arc::new(Segment { id: segment.id, first, bytes });
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.bytes).sum()
    }

    /// Bytes from a place in a segment to the end of the log. `written`: so many bytes of the newest are.
    pub(crate) fn bytes_behind(&self, first: u64, offset: u64, written: u64) -> u64 {
        let newest = self.list.last().map(|segment| segment.id);
        let behind = self.list.iter().filter(|segment| segment.first >= first);
        let bytes: u64 = behind.map(|segment| if Some(segment.id) == newest { written } else { segment.bytes }).sum();
        bytes.saturating_sub(offset)
    }

    /// Bytes of all but the newest, which is never dropped.
    pub(crate) fn droppable_bytes(&self) -> u64 {
        self.bytes() - self.list.last().map_or(0, |segment| segment.bytes)
    }

    /// The oldest segment, and the first sequence of the one behind it; `None` if it is the only one.
    pub(crate) fn oldest(&self) -> Option<(Arc<Segment>, u64)> {
        match &self.list[..] {
            [oldest, next, ..] => Some((oldest.clone(), next.first)),
            _ => None,
        }
    }

    /// The first sequence that any segment may hold.
    pub(crate) fn first(&self) -> Option<u64> {
        self.list.first().map(|segment| segment.first)
    }

    /// Takes a segment from the list, unless it is the newest.
    pub(crate) fn remove(&mut self, first: u64) {
        let newest = self.list.last().map(|segment| segment.first);
        self.list.retain(|segment| segment.first != first || Some(first) == newest);
    }

    /// The segment that holds `sequence`, and the first sequence of the next one.
    pub(crate) fn find(&self, sequence: u64) -> Option<(Arc<Segment>, Option<u64>)> {
        let after = self.list.partition_point(|segment| segment.first <= sequence);
        let segment = self.list.get(after.checked_sub(1)?)?;
        Some((segment.clone(), self.list.get(after).map(|next| next.first)))
    }

    /// All segments, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.list.iter()
    }
}

/// A segment's file.
pub(crate) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(file_name(first))
}

#[cfg(test)]
mod tests {
    use super::{file_name, first_of};

    #[test]
    fn names_lead_back_to_numbers() {
        assert_eq!(first_of(&file_name(1)), Some(1));
        assert_eq!(first_of(&file_name(987_654_321_012)), Some(987_654_321_012));
        for bad in ["1.seg", "00000000000000000000.seg", "0000000000000000001x.seg", "99999999999999999999.seg", "cursors.0", ".seg"] {
            assert_eq!(first_of(bad), None, "{bad}");
        }
    }
}
