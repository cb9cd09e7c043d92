//! What the ledger proves.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::gap::Told;
use crate::ledger::{Count, Edge, Ledger, Line, Log};
use crate::numbers::{Range, count, within, without};

/// What was read, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The topic.
    pub topic: String,
    /// Whether nothing is missing, repeated without a mark, reordered or altered; losses that gap events tell are complete.
    pub complete: bool,
    /// Records that were read.
    pub records: u64,
    /// Records that no edge wrote.
    pub foreign: u64,
    /// What is wrong, in all.
    #[serde(flatten)]
    pub harm: Harm,
    /// Events that gap events tell as lost.
    pub lost: Told,
    /// The logs of edges: numbers of `of-seq`.
    pub logs: Vec<Row>,
    /// The events of assets: numbers of `of-asset-seq`.
    pub assets: Vec<Row>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Harm {
    /// Numbers that are not there and that no gap event tells.
    pub missing: u64,
    /// Events that stand again, without a mark.
    pub repeated: u64,
    /// Events behind a later one of their asset, without a mark.
    pub reordered: u64,
    /// Events that stand again with another content, or under another number.
    pub altered: u64,
}

/// A gapless count of numbers: a log, or an asset in it, in one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The edge.
    pub edge: String,
    /// The asset; `None` for the log as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    /// Of the log.
    pub epoch: u64,
    /// The first number that is judged, where older ones are not in the topic or not asked for.
    pub from: Option<u64>,
    /// What is there.
    pub present: Vec<Range>,
    /// What is not there and not told.
    pub absent: Vec<Range>,
    /// What is wrong.
    #[serde(flatten)]
    pub harm: Harm,
    /// What gap events tell as lost, by reason.
    pub told: BTreeMap<String, Told>,
    /// Repeats with a mark, which readers drop.
    pub marked: u64,
    /// Repeats that were not compared: there are too many.
    pub uncompared: u64,
}

impl Harm {
    /// Whether nothing is wrong.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: &Self) {
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.altered += other.altered;
    }
}

impl Row {
    fn new(edge: &str, epoch: u64, numbers: &Count) -> Self {
        let first = numbers.floor.max(1);
        let absent = numbers.numbers.absent(first, numbers.end);
        let named = numbers.gaps.ranges();
        let judged = numbers.gaps.judge(&within(&absent, &named));
        let untold = without(&absent, &named);
        Self {
            edge: edge.to_owned(),
            epoch,
            from: (numbers.floor > 1).then_some(numbers.floor),
            present: within(&numbers.numbers.ranges(), &[(0, numbers.end)]),
            harm: Harm { missing: count(&untold) + judged.beyond, ..Harm::default() },
            // Which of the numbers that gaps name are those that they do not count, nobody can say.
            absent: if judged.beyond > 0 { absent } else { untold },
            told: judged.told.into_iter().map(|(reason, count)| (reason, Told { count, uncounted: 0 })).collect(),
            ..Self::default()
        }
    }

    fn of_asset(edge: &str, asset: &str, epoch: u64, line: &Line) -> Self {
        let mut row = Self::new(edge, epoch, &line.count);
        row.asset = Some(asset.to_owned());
        row.harm = Harm { repeated: line.repeated, reordered: line.reordered, altered: line.altered, ..row.harm };
        (row.marked, row.uncompared) = (line.marked, line.uncompared);
        row
    }

    fn tell(&mut self, reason: &str, told: Told) {
        self.told.entry(reason.to_owned()).or_default().add(told);
    }
}

/// Makes the report of everything that the ledger holds.
pub(crate) fn report(ledger: &Ledger) -> Report {
    let (mut report, nothing) = (Report::default(), Log::default());
    for (name, edge) in &ledger.edges {
        let mut assets = asset_rows(name, edge);
        let is_whole = ledger.scope.asset.is_none();
        let epochs: BTreeSet<u64> = edge.logs.keys().copied().chain(assets.iter().map(|row| row.epoch)).collect();
        for epoch in epochs {
            let log = edge.logs.get(&epoch).unwrap_or(&nothing);
            let untold = settle(epoch, log, &mut assets);
            let row = Row::new(name, epoch, &log.count);
            // Two counts of the same events.
            report.harm.missing += if is_whole { row.harm.missing.max(untold) } else { untold };
            report.logs.extend(Some(row).filter(|_| is_whole && log.count.end > 0));
        }
        assets.iter().for_each(|row| report.harm.add(&Harm { missing: 0, ..row.harm }));
        if is_whole {
            edge.assets.values().flat_map(|asset| asset.unnumbered.told.values()).for_each(|told| report.lost.add(*told));
        } else {
            assets.iter().flat_map(|row| row.told.values()).for_each(|told| report.lost.add(*told));
        }
        report.assets.extend(assets);
    }
    report.logs.iter().flat_map(|row| row.told.values()).for_each(|told| report.lost.add(*told));
    let is_anything = report.assets.iter().any(|row| !row.present.is_empty());
    report.complete = report.harm.is_none() && is_anything;
    report
}

fn asset_rows(name: &str, edge: &Edge) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut assets: Vec<_> = edge.assets.iter().collect();
    assets.sort_unstable_by_key(|(asset, _)| *asset);
    for (asset, of_asset) in assets {
        let first = rows.len();
        rows.extend(of_asset.epochs.iter().map(|(epoch, line)| Row::of_asset(name, asset, *epoch, line)));
        if of_asset.unnumbered.told.is_empty() {
            continue;
        }
        if rows.len() == first {
            rows.push(Row { edge: name.to_owned(), asset: Some(asset.clone()), ..Row::default() });
        }
        // Of which epoch they were, nobody asks: the losses stand beside the newest.
        if let Some(row) = rows.last_mut() {
            of_asset.unnumbered.told.iter().for_each(|(reason, told)| row.tell(reason, *told));
        }
    }
    rows
}

/// Of the numbers that assets miss in an epoch, as many are told as gap events count that cannot say whose they were; how many are not.
fn settle(epoch: u64, log: &Log, assets: &mut [Row]) -> u64 {
    let count = &log.count;
    let judged = log.anonymous.judge(&within(&count.numbers.absent(count.floor.max(1), count.end), &log.anonymous.ranges()));
    let told: u64 = judged.told.values().sum();
    let missing: u64 = assets.iter().filter(|row| row.epoch == epoch).map(|row| row.harm.missing).sum();
    if let Some(reason) = judged.told.keys().next()
        && told >= missing
    {
        for row in assets.iter_mut().filter(|row| row.epoch == epoch && row.harm.missing > 0) {
            let count = std::mem::take(&mut row.harm.missing);
            row.absent.clear();
            row.tell(reason, Told { count, uncounted: 0 });
        }
    }
    missing.saturating_sub(told)
}
