//! The search through one table of one unit.

use std::ops::{ControlFlow, RangeInclusive};

use super::{Left, Most, Pace, Progress, Reply, Scanner, Why};
use crate::connect::Payload;
use crate::error::Error;
use crate::plan::Limits;
use crate::types::{Span, Table};

/// A device that was silent, or busy, to so many questions in a row will not answer the next either.
const PATIENCE: u32 = 5;

pub(super) struct Search<'s> {
    scanner: &'s Scanner,
    unit: u8,
    table: Table,
    /// The most that is asked for at once; lowered as the device refuses.
    most: u16,
    /// It was lowered.
    refused: bool,
    /// The most that was given.
    largest: u16,
    /// Questions in a row that got no answer, and the address of the first of them.
    unanswered: u32,
    since: u16,
    pace: Pace,
    /// Somebody does not want to wait any longer.
    stopped: Option<u16>,
}

/// What a table has.
pub(super) struct Found {
    pub(super) ranges: Vec<Span>,
    /// What the ranges hold, with the first address of each.
    pub(super) contents: Vec<(u16, Payload)>,
    pub(super) most: Option<Most>,
    pub(super) left: Option<Left>,
}

impl<'s> Search<'s> {
    pub(super) fn new(scanner: &'s Scanner, unit: u8, table: Table) -> Self {
        let most = if table.holds_bits() { Limits::BITS } else { Limits::REGISTERS };
        Self { scanner, unit, table, most, refused: false, largest: 0, unanswered: 0, since: 0, pace: Pace::Answers, stopped: None }
    }

    /// Address by address where nothing is, and in as large steps as the device takes where something is.
    pub(super) async fn run(
        mut self,
        addresses: &RangeInclusive<u16>,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Found, Error> {
        let (mut ranges, mut contents) = (Vec::new(), Vec::new());
        let end = u32::from(*addresses.end()) + 1;
        let mut at = u32::from(*addresses.start());
        while at < end && self.goes_on(at, &mut progress) {
            let first = match self.ask(at, 1).await? {
                Reply::Given(payload) => payload,
                // The function itself is unknown: no address of the table answers.
                Reply::Refused(0x01) if ranges.is_empty() => break,
                Reply::Refused(_) | Reply::Silent | Reply::Busy => {
                    at += 1;
                    continue;
                }
            };
            let start = at;
            let mut held = first;
            at += 1;
            while at < end && self.goes_on(at, &mut progress) {
                let wanted = self.most.min(u16::try_from(end - at).unwrap_or(u16::MAX));
                let (given, payload) = self.longest(at, wanted).await?;
                if given == 0 {
                    break;
                }
                payload.into_iter().for_each(|payload| extend(&mut held, payload));
                at += u32::from(given);
                if given < wanted && matches!(self.ask(at, 1).await?, Reply::Given(_)) {
                    // The next address is there: it was the length that the device refused.
                    (self.most, self.refused) = (given, true);
                }
            }
            at = self.end_alone(start, at).await?;
            truncate(&mut held, (at - start) as usize);
            // The first address was asked for alone; all of them at once says more about how much it gives.
            let whole = u16::try_from(at - start).unwrap_or(u16::MAX).min(self.most);
            if whole > self.largest && self.why().is_none() {
                self.ask(start, whole).await?;
            }
            ranges.extend(Span::new(self.table, start as u16, u16::try_from(at - start).unwrap_or(u16::MAX)));
            contents.push((start as u16, held));
        }
        let most = match (self.refused, self.largest) {
            (_, 0) => None,
            (true, _) => Some(Most::Exactly(self.most)),
            (false, largest) => Some(Most::AtLeast(largest)),
        };
        let since = self.stopped.unwrap_or(self.since);
        Ok(Found { ranges, contents, most, left: self.why().map(|why| Left { table: self.table, since, why }) })
    }

    /// Where what is given ends when each address is asked for alone: some devices fill up long answers with what they do not have.
    async fn end_alone(&mut self, start: u32, end: u32) -> Result<u32, Error> {
        let is_given = |reply| matches!(reply, Reply::Given(_));
        if end - start == 1 || self.why().is_some() || is_given(self.ask(end - 1, 1).await?) {
            return Ok(end);
        }
        // The first one is given, the last one is not.
        let (mut low, mut high) = (start + 1, end - 1);
        while low < high {
            let middle = low.midpoint(high);
            if is_given(self.ask(middle, 1).await?) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// How many addresses from `at` on are given at once, up to `wanted`, and what they hold.
    async fn longest(&mut self, at: u32, wanted: u16) -> Result<(u16, Option<Payload>), Error> {
        let (mut given, mut best) = (0, None);
        // All of it first; then halves, as in a search in a sorted list: what is given of length n is given of any shorter length.
        let (mut low, mut high, mut try_next) = (0, wanted, wanted);
        while low < high && self.why().is_none() {
            match self.ask(at, try_next).await? {
                Reply::Given(payload) => (low, given, best) = (try_next, try_next, Some(payload)),
                Reply::Refused(_) | Reply::Silent | Reply::Busy => high = try_next - 1,
            }
            try_next = low + (high - low).div_ceil(2);
        }
        Ok((given, best))
    }

    async fn ask(&mut self, at: u32, count: u16) -> Result<Reply, Error> {
        let Some(span) = u16::try_from(at).ok().and_then(|at| Span::new(self.table, at, count)) else { return Ok(Reply::Refused(0x02)) };
        let reply = self.scanner.ask(self.unit, span).await?;
        self.pace = match reply {
            Reply::Silent => Pace::Silent,
            Reply::Busy => Pace::Busy,
            Reply::Given(_) | Reply::Refused(_) => Pace::Answers,
        };
        match reply {
            // Some devices are silent to what is too long for them.
            Reply::Silent if count > 1 => {}
            Reply::Silent | Reply::Busy => {
                if self.unanswered == 0 {
                    self.since = span.start();
                }
                self.unanswered += 1;
            }
            Reply::Given(_) => (self.unanswered, self.largest) = (0, self.largest.max(count)),
            Reply::Refused(_) => self.unanswered = 0,
        }
        Ok(reply)
    }

    fn goes_on(&mut self, at: u32, progress: &mut impl FnMut(Progress) -> ControlFlow<()>) -> bool {
        let at = u16::try_from(at).unwrap_or(u16::MAX);
        if self.why().is_none() && progress(Progress { table: self.table, at, pace: self.pace }).is_break() {
            self.stopped = Some(at);
        }
        self.why().is_none()
    }

    /// Why the table is left.
    fn why(&self) -> Option<Why> {
        match self.pace {
            _ if self.stopped.is_some() => Some(Why::Stopped),
            _ if self.unanswered < PATIENCE => None,
            Pace::Busy => Some(Why::Busy),
            Pace::Answers | Pace::Silent => Some(Why::Silent),
        }
    }
}

fn truncate(held: &mut Payload, count: usize) {
    match held {
        Payload::Registers(held) => held.truncate(count),
        Payload::Bits(held) => held.truncate(count),
    }
}

fn extend(held: &mut Payload, by: Payload) {
    match (held, by) {
        (Payload::Registers(held), Payload::Registers(by)) => held.extend(by),
        (Payload::Bits(held), Payload::Bits(by)) => held.extend(by),
        // One table holds one of both.
        _ => {}
    }
}
