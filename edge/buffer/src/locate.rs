//! Where the oldest entry stands that is not acknowledged: for the status page, asked often, so it remembers its place.

use crate::format::{Header, Kind};
use crate::scan::{Identity, Window};
use crate::shared::Shared;

/// The block found last.
#[derive(Debug, Default)]
pub(crate) struct Locator {
    found: Option<(u64, Header)>,
}

impl Locator {
    /// The header of the block that holds the entry after `sequence`, or of the one behind it if that is lost.
    pub(crate) fn block_after(&mut self, shared: &Shared, sequence: u64) -> Option<Header> {
        let durable = shared.durable();
        let (expected, segment, next) = {
            let segments = shared.segments.lock();
            let expected = (sequence + 1).max(segments.first()?);
            let (segment, next) = segments.find(expected)?;
            (expected, segment, next)
        };
        if expected > durable {
            return None;
        }
        let mut from = 0;
        if let Some((_, header)) = self.found.as_ref().filter(|(id, header)| *id == segment.id && header.first <= expected) {
            if expected <= header.last {
                return Some(*header);
            }
            from = header.offset;
        }
        let file = shared.storage.open(&shared.path(segment.first)).ok()?;
        let mut window = Window::small(file.as_ref()).ok()?;
        let identity = Identity { epoch: shared.epoch, first: segment.first };
        let end = next.unwrap_or(durable + 1);
        loop {
            let header = window.header(from, identity)?;
            if header.first >= end {
                return None;
            }
            if header.kind == Kind::Entries && header.last >= expected {
                self.found = Some((segment.id, header));
                return Some(header);
            }
            from = header.end();
        }
    }
}
