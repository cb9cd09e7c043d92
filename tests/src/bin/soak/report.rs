//! What happened, for people.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use asset_stream::Timestamp;
use system_tests::judge::Verdict;
use system_tests::wait;

use crate::fault::{Fault, Site};

/// One round of faults, and what was seen after it.
pub(crate) struct Round {
    began: i64,
    faults: Vec<Fault>,
    lasts: Duration,
    /// Bytes of memory of the edge.
    memory: u64,
    backlog: u64,
}

impl Round {
    pub(crate) fn look(began: i64, faults: Vec<Fault>, lasts: Duration, site: &mut Site) -> anyhow::Result<Self> {
        let status = site.plant.edge.status()?;
        let memory = site.plant.edge.process()?.memory()?;
        let backlog = status["mirror"]["backlog"].as_u64().unwrap_or_default();
        Ok(Self { began, faults, lasts, memory, backlog })
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        let (seconds, mebibytes) = (self.lasts.as_secs_f64(), self.memory >> 20);
        write!(
            f,
            "{} {} for {seconds:.1} s; then backlog {}, edge {mebibytes} MiB",
            Timestamp::from_millis(self.began),
            faults.join(" + "),
            self.backlog
        )
    }
}

/// All rounds.
pub(crate) struct Report {
    seed: u64,
    began: i64,
    rounds: Vec<Round>,
}

impl Report {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, began: wait::now(), rounds: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// Markdown. `kills`: times that the edge was killed at a random moment.
    pub(crate) fn finish(&self, verdict: &Verdict, kills: usize) -> String {
        let minutes = (wait::now() - self.began) / 60_000;
        let memory = self.rounds.iter().map(|round| round.memory).max().unwrap_or_default() >> 20;
        let mut counts = BTreeMap::new();
        for fault in self.rounds.iter().flat_map(|round| &round.faults) {
            *counts.entry(*fault).or_insert(0) += 1;
        }
        let mut text = format!(
            "Began {}, took {minutes} minutes, seed {}, {} rounds of faults.\n\n```text\n{verdict}\n```\n\nThe edge was killed (SIGKILL) {kills} times at a random moment. \
             Its memory was at most {memory} MiB.\n\n\
             | fault | times |\n| --- | --- |\n",
            Timestamp::from_millis(self.began),
            self.seed,
            self.rounds.len()
        );
        for (fault, count) in counts {
            // Writing into a text cannot fail.
            writeln!(text, "| {fault} | {count} |").unwrap_or_default();
        }
        for harm in &verdict.harms {
            writeln!(text, "\n- {harm}").unwrap_or_default();
        }
        text
    }
}
