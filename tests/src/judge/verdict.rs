//! What the judge says.

use std::fmt;

use serde::Serialize;

/// So many harms are described; all are counted.
const DESCRIBED: usize = 30;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Not there, and nobody told.
    Missing,
    /// There twice.
    Duplicated,
    /// There after a later one.
    Reordered,
    /// There with other contents.
    Altered,
    /// A gap event counts what is not absent.
    WrongGap,
}

/// Where it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The asset stream.
    Kafka,
    /// The JetStream stream, read from its beginning.
    JetStream,
    /// A plain subscriber.
    Plain,
}

/// Counts, and the first harms in words. Its Display is the line that tests and the demo end with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Values that devices said while somebody could listen.
    pub observed: u64,
    /// Events that the edges call durable.
    pub durable: u64,
    /// Records in the asset stream. Like `durable` and the messages, they include the facts that an edge adds about its devices.
    pub kafka: u64,
    /// Messages of the JetStream stream.
    pub jetstream: u64,
    /// Messages of the plain subscriber.
    pub plain: u64,
    /// Values that were said and do not stand in Kafka.
    pub missing_values: u64,
    /// Numbers that do not stand in Kafka.
    pub missing_numbers: u64,
    /// Records of Kafka that NATS does not serve.
    pub missing_messages: u64,
    /// See [`Harm::Duplicated`]; on all sides together.
    pub duplicated: u64,
    /// Those of them that stand in Kafka.
    pub duplicated_records: u64,
    /// See [`Harm::Reordered`].
    pub reordered: u64,
    /// See [`Harm::Altered`].
    pub altered: u64,
    /// See [`Harm::WrongGap`].
    pub wrong_gaps: u64,
    /// Numbers whose loss a gap event tells.
    pub told: u64,
    /// Values whose loss a gap event tells.
    pub told_values: u64,
    /// Values that were said while nobody could listen, as the test states.
    pub unheard: u64,
    /// Messages that were served while the plain subscriber had no connection, and that it did not get.
    pub away: u64,
    /// Last values that a device stated again after it was connected again.
    pub restated: u64,
    /// Repeats that carry `of-resent` or `of-replay`: readers drop them.
    pub resent: u64,
    /// Events that stand behind later ones of their asset, and say by `of-replay` or `of-resent` that they were missing.
    pub late: u64,
    /// The first harms, in words.
    pub harms: Vec<String>,
}

impl Verdict {
    /// An event that is lost between log and Kafka is missing both as a value and as a number: it counts once here.
    pub fn missing(&self) -> u64 {
        self.missing_values.max(self.missing_numbers) + self.missing_messages
    }

    /// What NATS served: to the plain subscriber where one listened, and would have served it while it was away.
    pub fn nats(&self) -> u64 {
        if self.plain > 0 { self.plain + self.away } else { self.jetstream }
    }

    /// Whether nothing is wrong; counts of zero are wrong too, as they prove nothing. NATS counts where it was judged.
    pub fn is_clean(&self) -> bool {
        let harms = [self.missing(), self.duplicated, self.reordered, self.altered, self.wrong_gaps];
        let counts = [self.observed, self.durable, self.kafka];
        harms.iter().all(|harm| *harm == 0) && counts.iter().all(|count| *count > 0)
    }

    /// An error that holds everything unless the verdict is clean.
    pub fn expect_clean(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.is_clean(), "{self}\n{}", self.harms.join("\n"));
        Ok(())
    }

    pub(super) fn harm(&mut self, harm: Harm, side: Side, describe: impl FnOnce() -> String) {
        match harm {
            Harm::Missing => self.missing_messages += 1,
            Harm::Duplicated => {
                self.duplicated += 1;
                self.duplicated_records += u64::from(side == Side::Kafka);
            }
            Harm::Reordered => self.reordered += 1,
            Harm::Altered => self.altered += 1,
            Harm::WrongGap => self.wrong_gaps += 1,
        }
        self.describe(side, || format!("{harm:?}: {}", describe()));
    }

    pub(super) fn describe(&mut self, side: Side, describe: impl FnOnce() -> String) {
        if self.harms.len() < DESCRIBED {
            self.harms.push(format!("{side:?}: {}", describe()));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { observed, durable, kafka, duplicated, reordered, altered, wrong_gaps, .. } = self;
        write!(f, "observed={observed} durable={durable} kafka={kafka} nats={} missing={}", self.nats(), self.missing())?;
        write!(f, " duplicated={duplicated} reordered={reordered}")?;
        for (name, count) in [
            ("altered", *altered),
            ("wrong_gaps", *wrong_gaps),
            ("told", self.told.max(self.told_values)),
            ("unheard", self.unheard),
            ("away", self.away),
            ("restated", self.restated),
            ("resent", self.resent),
            ("late", self.late),
        ] {
            if count > 0 {
                write!(f, " {name}={count}")?;
            }
        }
        Ok(())
    }
}
