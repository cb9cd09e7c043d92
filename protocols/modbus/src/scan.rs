//! What lies behind a socket or a line, for a person who has no manual: which units answer, at which addresses, how much at once.
//!
//! Only reads; but a device's manual may know registers that do something when they are read.

mod search;

use std::ops::{ControlFlow, RangeInclusive};

use crate::bus::{Lease, Member};
use crate::config::{Endpoint, Timing};
use crate::connect::Payload;
use crate::error::{Error, Remedy};
use crate::guess::{Guess, guess};
use crate::types::{Span, Table};
use search::Search;

/// A device that says it is busy is asked again so many times, a quarter of the timeout apart.
const BUSY: u32 = 10;
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapped {
    /// Addresses that answer, by table and address.
    pub ranges: Vec<Span>,
    /// The most registers that it gives at once, as far as its ranges tell.
    pub most_registers: Option<Most>,
    /// The most bits.
    pub most_bits: Option<Most>,
    /// In which order it sends the words of its numbers, if they look like numbers.
    pub word_order: Option<Guess>,
    /// What the ranges hold, each with its first address, in the same order.
    pub contents: Vec<(Table, u16, Payload)>,
    /// Tables that were not looked at to their end.
    pub left: Vec<Left>,
}

/// A table that was not looked at to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The table.
    pub table: Table,
    /// The address from which on nothing is known.
    pub since: u16,
    /// Why.
    pub why: Why,
}

/// Why a table was not looked at to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing answered any more.
    Silent,
    /// The device said that it is busy, again and again.
    Busy,
    /// The listener to the progress wanted no more.
    Stopped,
}

/// How far a look has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The table.
    pub table: Table,
    /// The address that is asked for.
    pub at: u16,
    /// How the last question went.
    pub pace: Pace,
}

/// How a question went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// There was an answer, be it a refusal.
    Answers,
    /// The device said that it is busy, as often as it was asked.
    Busy,
    /// There was no answer in time.
    Silent,
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
    Busy,
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

    /// Looks at every address of the range in these tables; leaves a table in which the device falls silent or is busy for good. `progress`
    /// hears how far it is, and ends it by [`ControlFlow::Break`]: what was found until then is kept.
    ///
    /// # Errors
    /// The endpoint cannot be opened.
    pub async fn map(
        &self,
        unit: u8,
        tables: &[Table],
        addresses: &RangeInclusive<u16>,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Mapped, Error> {
        let mut mapped = Mapped::default();
        for table in tables {
            if mapped.left.iter().any(|left| left.why == Why::Stopped) {
                mapped.left.push(Left { table: *table, since: *addresses.start(), why: Why::Stopped });
                continue;
            }
            let found = Search::new(self, unit, *table).run(addresses, &mut progress).await?;
            let place = if table.holds_bits() { &mut mapped.most_bits } else { &mut mapped.most_registers };
            *place = [*place, found.most].into_iter().flatten().max_by_key(|most| most.count());
            mapped.ranges.extend(found.ranges);
            mapped.contents.extend(found.contents.into_iter().map(|(start, held)| (*table, start, held)));
            mapped.left.extend(found.left);
        }
        let (mut runs, mut looked_at) = (Vec::new(), 0);
        for (_, _, held) in &mapped.contents {
            match held {
                Payload::Registers(registers) if looked_at < LOOKED_AT => {
                    looked_at += registers.len();
                    runs.push(registers.as_slice());
                }
                _ => {}
            }
        }
        mapped.word_order = guess(&runs);
        Ok(mapped)
    }

    async fn ask(&self, unit: u8, span: Span) -> Result<Reply, Error> {
        let mut tries = 0;
        loop {
            match self.member.ask(unit, span, &self.timing).await {
                Ok(answer) => return Ok(Reply::Given(answer.payload)),
                Err(Error::Refused { exception, .. }) if exception.remedy() == Remedy::Wait => {
                    tries += 1;
                    if tries == BUSY {
                        return Ok(Reply::Busy);
                    }
                    tokio::time::sleep(self.timing.timeout / 4).await;
                }
                Err(Error::Refused { exception, .. }) => return Ok(Reply::Refused(exception.0)),
                Err(Error::Timeout { .. } | Error::Disconnected { .. } | Error::Garbled { .. }) => return Ok(Reply::Silent),
                Err(error) => return Err(error),
            }
        }
    }
}
