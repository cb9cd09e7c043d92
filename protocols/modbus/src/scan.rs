//! What lies behind a socket or a line, for a person who has no manual: which units answer, at which addresses, how much at once.
//!
//! Only reads; but a device's manual may know registers that do something when they are read.

use std::ops::RangeInclusive;

use crate::bus::{Lease, Member};
use crate::config::{Endpoint, Timing};
use crate::connect::Payload;
use crate::error::{Error, Remedy};
use crate::guess::{Guess, guess};
use crate::plan::Limits;
use crate::types::{Span, Table};

/// A device that was silent to so many questions in a row is gone.
const SILENCE: u32 = 5;
/// Values that are looked at for the word order.
const LOOKED_AT: usize = 1_000;

/// What a unit says to a first question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It answers, if only to refuse.
    Answers,
    /// Something comes that is no answer: wrong line settings, or two devices of one unit id.
    Garbled(String),
    /// Nothing.
    Silent,
}

/// What a unit has.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    /// Addresses that answer, by table and address.
    pub ranges: Vec<Span>,
    /// The most registers that it gives at once, as far as its ranges tell.
    pub most_registers: Option<Most>,
    /// The most bits.
    pub most_bits: Option<Most>,
    /// In which order it sends the words of its numbers, if they look like numbers.
    pub word_order: Option<Guess>,
    /// Tables that were not looked at to their end, as nothing answered any more, each with the address that the silence began with.
    pub silent: Vec<(Table, u16)>,
}

/// How much a device gives at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// So much was given, and no more was there to ask for, or is allowed.
    AtLeast(u16),
    /// One more was refused.
    Exactly(u16),
}

impl Most {
    fn count(self) -> u16 {
        match self {
            Self::AtLeast(count) | Self::Exactly(count) => count,
        }
    }
}

/// A connection for looking around.
pub struct Scanner {
    member: Member,
    timing: Timing,
}

enum Reply {
    Given(Payload),
    Refused(u8),
    Silent,
}

impl Scanner {
    /// Nothing is opened yet. Needs a tokio runtime.
    pub fn new(endpoint: &Endpoint, timing: Timing) -> Self {
        Self { member: Lease::alone(endpoint).join(), timing }
    }

    /// Whether a unit answers.
    ///
    /// # Errors
    /// The endpoint cannot be opened.
    pub async fn presence(&self, unit: u8) -> Result<Presence, Error> {
        let Some(question) = Span::new(Table::HoldingRegisters, 0, 1) else { return Ok(Presence::Silent) };
        match self.member.ask(unit, question, &self.timing).await {
            Ok(_) => Ok(Presence::Answers),
            Err(Error::Refused { exception, .. }) if exception.remedy() == Remedy::Reconnect => Ok(Presence::Silent),
            Err(Error::Refused { .. }) => Ok(Presence::Answers),
            Err(Error::Garbled { detail, .. }) => Ok(Presence::Garbled(detail.to_string())),
            // Some gateways hang up on units that they do not know.
            Err(Error::Timeout { .. } | Error::Disconnected { .. }) => Ok(Presence::Silent),
            Err(error) => Err(error),
        }
    }

    /// Looks at every address of the range in these tables; leaves a table in which the device falls silent. `progress` hears the address
    /// that is asked for.
    ///
    /// # Errors
    /// The endpoint cannot be opened.
    pub async fn map(
        &self,
        unit: u8,
        tables: &[Table],
        addresses: &RangeInclusive<u16>,
        mut progress: impl FnMut(Table, u16),
    ) -> Result<Mapped, Error> {
        let mut mapped = Mapped { ranges: Vec::new(), most_registers: None, most_bits: None, word_order: None, silent: Vec::new() };
        let mut registers = Vec::new();
        for table in tables {
            let mut search = Search {
                scanner: self,
                unit,
                table: *table,
                most: most(*table),
                refused: false,
                largest: 0,
                silent: 0,
                silent_since: None,
            };
            let (ranges, contents) = search.run(addresses, |at| progress(*table, at)).await?;
            let known = match (search.refused, search.largest) {
                (_, 0) => None,
                (true, _) => Some(Most::Exactly(search.most)),
                (false, largest) => Some(Most::AtLeast(largest)),
            };
            let place = if table.holds_bits() { &mut mapped.most_bits } else { &mut mapped.most_registers };
            *place = [*place, known].into_iter().flatten().max_by_key(|most| most.count());
            mapped.ranges.extend(ranges);
            mapped.silent.extend(search.silent_since.filter(|_| search.is_gone()).map(|at| (*table, at)));
            registers.extend(contents);
        }
        mapped.word_order = guess(&registers);
        Ok(mapped)
    }

    async fn ask(&self, unit: u8, span: Span) -> Result<Reply, Error> {
        let mut tries = 0;
        loop {
            match self.member.ask(unit, span, &self.timing).await {
                Ok(answer) => return Ok(Reply::Given(answer.payload)),
                Err(Error::Refused { exception, .. }) if exception.remedy() == Remedy::Wait && tries < 10 => {
                    tries += 1;
                    tokio::time::sleep(self.timing.timeout / 4).await;
                }
                Err(Error::Refused { exception, .. }) => return Ok(Reply::Refused(exception.0)),
                Err(Error::Timeout { .. } | Error::Disconnected { .. } | Error::Garbled { .. }) => return Ok(Reply::Silent),
                Err(error) => return Err(error),
            }
        }
    }
}

fn most(table: Table) -> u16 {
    if table.holds_bits() { Limits::BITS } else { Limits::REGISTERS }
}

/// The search through one table.
struct Search<'s> {
    scanner: &'s Scanner,
    unit: u8,
    table: Table,
    /// The most that is asked for at once; lowered as the device refuses.
    most: u16,
    /// It was lowered.
    refused: bool,
    /// The most that was given.
    largest: u16,
    /// Questions for one address, in a row, that got no answer, and the address of the first of them.
    silent: u32,
    silent_since: Option<u16>,
}

type Contents = Vec<Vec<u16>>;

impl Search<'_> {
    /// Address by address where nothing is, and in as large steps as the device takes where something is.
    async fn run(&mut self, addresses: &RangeInclusive<u16>, mut progress: impl FnMut(u16)) -> Result<(Vec<Span>, Contents), Error> {
        let (mut ranges, mut contents, mut looked_at) = (Vec::new(), Vec::new(), 0);
        let end = u32::from(*addresses.end()) + 1;
        let mut at = u32::from(*addresses.start());
        while at < end && !self.is_gone() {
            progress(at as u16);
            let first = match self.ask(at, 1).await? {
                Reply::Given(payload) => payload,
                // The function itself is unknown: no address of the table answers.
                Reply::Refused(0x01) if ranges.is_empty() => break,
                Reply::Refused(_) | Reply::Silent => {
                    at += 1;
                    continue;
                }
            };
            let start = at;
            let mut registers = words(first);
            at += 1;
            while at < end && !self.is_gone() {
                progress(at as u16);
                let wanted = self.most.min(u16::try_from(end - at).unwrap_or(u16::MAX));
                let (given, payload) = self.longest(at, wanted).await?;
                if given == 0 {
                    break;
                }
                registers.extend(payload.map(words).unwrap_or_default());
                at += u32::from(given);
                if given < wanted && matches!(self.ask(at, 1).await?, Reply::Given(_)) {
                    // The next address is there: it was the length that the device refused.
                    (self.most, self.refused) = (given, true);
                }
            }
            // The first address was asked for alone; all of them at once says more about how much it gives.
            let whole = u16::try_from(at - start).unwrap_or(u16::MAX).min(self.most);
            if whole > self.largest && !self.is_gone() {
                self.ask(start, whole).await?;
            }
            ranges.extend(Span::new(self.table, start as u16, u16::try_from(at - start).unwrap_or(u16::MAX)));
            if looked_at < LOOKED_AT && !registers.is_empty() {
                looked_at += registers.len();
                contents.push(registers);
            }
        }
        Ok((ranges, contents))
    }

    /// How many addresses from `at` on are given at once, up to `wanted`, and what they hold.
    async fn longest(&mut self, at: u32, wanted: u16) -> Result<(u16, Option<Payload>), Error> {
        let (mut given, mut best) = (0, None);
        // All of it first; then halves, as in a search in a sorted list: what is given of length n is given of any shorter length.
        let (mut low, mut high, mut try_next) = (0, wanted, wanted);
        while low < high && !self.is_gone() {
            match self.ask(at, try_next).await? {
                Reply::Given(payload) => (low, given, best) = (try_next, try_next, Some(payload)),
                Reply::Refused(_) | Reply::Silent => high = try_next - 1,
            }
            try_next = low + (high - low).div_ceil(2);
        }
        Ok((given, best))
    }

    async fn ask(&mut self, at: u32, count: u16) -> Result<Reply, Error> {
        let Some(span) = u16::try_from(at).ok().and_then(|at| Span::new(self.table, at, count)) else { return Ok(Reply::Refused(0x02)) };
        let reply = self.scanner.ask(self.unit, span).await?;
        match reply {
            // Some devices are silent to what is too long for them.
            Reply::Silent if count > 1 => {}
            Reply::Silent => {
                if self.silent == 0 {
                    self.silent_since = Some(span.start());
                }
                self.silent += 1;
            }
            Reply::Given(_) => (self.silent, self.largest) = (0, self.largest.max(count)),
            Reply::Refused(_) => self.silent = 0,
        }
        Ok(reply)
    }

    fn is_gone(&self) -> bool {
        self.silent >= SILENCE
    }
}

fn words(payload: Payload) -> Vec<u16> {
    match payload {
        Payload::Registers(registers) => registers,
        Payload::Bits(_) => Vec::new(),
    }
}
