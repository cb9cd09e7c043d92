//! A group's requests as its device takes them: split where it refuses, put together again now and then. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Block;

/// The longest wait before what was refused is asked for again.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// A group's requests as this device takes them, and how far the running cycle is.
pub(crate) struct Cycle {
    pieces: Vec<Piece>,
    position: usize,
    /// Whether a request of the running cycle went wrong.
    troubled: bool,
    late: u32,
    /// When everything is asked for again as if nothing had been refused.
    relearn_at: Option<Instant>,
    relearn_after: Duration,
}

struct Piece {
    block: Arc<Block>,
    answered: bool,
    suspended: bool,
}

impl Piece {
    fn new(block: Arc<Block>) -> Self {
        Self { block, answered: false, suspended: false }
    }
}

impl Cycle {
    /// Everything is asked for; nothing was refused yet. What will be is asked for again after that time.
    pub(crate) fn new(plan: &[Arc<Block>], relearn_after: Duration) -> Self {
        Self {
            pieces: plan.iter().cloned().map(Piece::new).collect(),
            position: 0,
            troubled: false,
            late: 0,
            relearn_at: None,
            relearn_after,
        }
    }

    /// At the beginning of a cycle, when it is time: forgets what was refused. Each time is twice as far away as the one before.
    pub(crate) fn relearn(&mut self, plan: &[Arc<Block>], now: Instant) {
        if self.position == 0 && self.relearn_at.is_some_and(|at| at <= now) {
            *self = Self::new(plan, (self.relearn_after * 2).min(LONGEST_RETRY));
        }
    }

    /// The running cycle has ended; so many after it are skipped.
    pub(crate) fn end(&mut self, skipped: u32) {
        self.late = if skipped > 0 && !self.troubled { self.late.saturating_add(1) } else { 0 };
        (self.position, self.troubled) = (0, false);
    }

    /// The next request of this cycle.
    pub(crate) fn current(&mut self) -> Option<Arc<Block>> {
        while self.pieces.get(self.position)?.suspended {
            self.position += 1;
        }
        self.pieces.get(self.position).map(|piece| piece.block.clone())
    }

    /// Something in the running cycle went wrong.
    pub(crate) fn trouble(&mut self) {
        self.troubled = true;
    }

    /// How many cycles in a row took longer than their interval although nothing went wrong.
    pub(crate) fn late(&self) -> u32 {
        self.late
    }

    /// When what was refused is asked for again.
    pub(crate) fn relearn_at(&self) -> Option<Instant> {
        self.relearn_at
    }

    /// Goes on to the next request; the current one is sent again in the next cycle.
    pub(crate) fn skip(&mut self) {
        self.position += 1;
    }

    /// The current request was answered.
    pub(crate) fn answered(&mut self) {
        self.pieces[self.position].answered = true;
        self.skip();
    }

    /// Leaves a request that was answered before for the next cycle; `false`: it never was.
    pub(crate) fn forget_answer(&mut self) -> bool {
        let answered = std::mem::take(&mut self.pieces[self.position].answered);
        if answered {
            self.skip();
        }
        answered
    }

    /// What the device refused of these variables is asked for again, in this cycle or the next. `false`: none of them is of this group.
    pub(crate) fn ask_again(&mut self, variables: &[usize]) -> bool {
        let mut found = false;
        for piece in &mut self.pieces {
            if piece.block.variables.iter().any(|(number, _)| variables.contains(number)) {
                (piece.suspended, found) = (false, true);
            }
        }
        found
    }

    /// Whether a part of the running cycle is done.
    pub(crate) fn is_under_way(&self) -> bool {
        self.position > 0
    }

    /// Whether everything was refused.
    pub(crate) fn is_suspended(&self) -> bool {
        self.pieces.iter().all(|piece| piece.suspended)
    }

    /// Two requests instead of the current one; `false`: it holds a single variable.
    pub(crate) fn split(&mut self) -> bool {
        let Some((left, right)) = self.pieces[self.position].block.split() else { return false };
        let halves = [left, right].map(|half| Piece::new(Arc::new(half)));
        self.pieces.splice(self.position..=self.position, halves);
        self.learned();
        true
    }

    /// Leaves the current request out until everything is asked for again.
    pub(crate) fn suspend(&mut self) {
        self.pieces[self.position].suspended = true;
        self.skip();
        self.learned();
    }

    fn learned(&mut self) {
        self.relearn_at.get_or_insert_with(|| Instant::now() + self.relearn_after);
    }
}

#[cfg(test)]
mod tests {
    use super::Cycle;
    use crate::plan::{Limits, plan};
    use crate::types::{Span, Table};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn what_is_refused_is_found_left_out_and_asked_for_again_later_and_later() {
        let spans = (0..64).filter_map(|i| Some((i, Span::new(Table::HoldingRegisters, i as u16, 1)?)));
        let plan: Vec<_> = plan(spans, &Limits::default()).into_iter().map(Arc::new).collect();
        let minute = Duration::from_secs(60);
        let mut cycle = Cycle::new(&plan, minute);
        let round = |cycle: &mut Cycle| {
            let (mut questions, mut refused) = (0, 0);
            while let Some(block) = cycle.current() {
                questions += 1;
                if block.variables.iter().all(|(number, _)| *number != 20) {
                    cycle.answered();
                } else if !cycle.split() {
                    cycle.suspend();
                    refused += 1;
                }
            }
            cycle.end(0);
            (questions, refused)
        };
        assert_eq!(round(&mut cycle), (13, 1), "64 variables are halved six times: 7 refusals, 6 answers");
        assert_eq!(round(&mut cycle), (6, 0), "then the six parts around it are read");
        let again = cycle.relearn_at().expect("something was refused");
        cycle.relearn(&plan, Instant::now());
        assert_eq!(round(&mut cycle), (6, 0), "it is too early");
        cycle.relearn(&plan, again);
        assert_eq!(round(&mut cycle), (13, 1));
        let next = cycle.relearn_at().expect("still refused");
        assert!(next > Instant::now() + minute, "the second wait is longer than the first");
    }
}
