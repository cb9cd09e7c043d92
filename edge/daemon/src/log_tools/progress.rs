//! How far a look through the log has come.

use edge_buffer::{Block, Inspection};
use service::units::printed;

use crate::progress::Line;

/// By the bytes of its segments.
pub(crate) struct Progress {
    what: &'static str,
    /// First sequence of each segment, and the bytes before it.
    before: Vec<(u64, u64)>,
    total: u64,
    line: Line,
}

impl Progress {
    /// `what` is done to all of the log.
    pub(crate) fn new(what: &'static str, log: &Inspection) -> Self {
        let mut total = 0;
        let mut before = Vec::new();
        for segment in &log.segments {
            before.push((segment.first, total));
            total += segment.used;
        }
        Self { what, before, total, line: Line::new() }
    }

    /// Came to a block.
    pub(crate) fn at(&mut self, block: &Block) {
        let Self { what, before, total, line } = self;
        line.show(|| {
            let place = before.partition_point(|(first, _)| *first <= block.segment);
            let before = place.checked_sub(1).map_or(0, |place| before[place].1);
            format!("{what} {} of {}", printed(before + block.end), printed(*total))
        });
    }
}
