//! What stands in the topic, by edge, asset and epoch. It grows with holes, assets and repeats, not with events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use asset_stream::Position;

use crate::gap::{Gap, Gaps, Unnumbered};
use crate::numbers::Numbers;

/// Repeats whose contents are compared; beyond it they are only counted.
const COMPARED: u64 = 1_000_000;

/// Which events are judged.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Of this edge alone.
    pub edge: Option<String>,
    /// Of this asset alone.
    pub asset: Option<String>,
}

impl Scope {
    fn has_edge(&self, event: &Event<'_>) -> bool {
        self.edge.as_deref().is_none_or(|edge| edge == event.edge)
    }

    fn has_asset(&self, event: &Event<'_>) -> bool {
        self.asset.as_deref().is_none_or(|asset| asset == event.asset)
    }
}

/// Where the reading begins behind the topic's first record: what stood before is nobody's loss.
#[derive(Clone, Debug, Default)]
pub(crate) struct Horizon {
    /// Partitions whose earlier records are not read.
    pub(crate) cut: BTreeSet<i32>,
    /// Records up to this time (Unix ms) may stand before, in any of them.
    pub(crate) time: Option<i64>,
}

/// A record as an edge of ours writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'r> {
    pub(crate) partition: i32,
    pub(crate) edge: &'r str,
    pub(crate) asset: &'r str,
    pub(crate) sequence: Position,
    pub(crate) asset_sequence: Position,
    /// Written late, as its header says: it may stand twice, or behind later ones.
    pub(crate) is_late: bool,
    /// Unix ms, where the topic has it.
    pub(crate) time: Option<i64>,
    pub(crate) value: &'r [u8],
}

impl Event<'_> {
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.sequence, self.value).hash(&mut hasher);
        hasher.finish()
    }
}

/// A gapless count of numbers.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) numbers: Numbers,
    pub(crate) gaps: Gaps,
    /// The first that is judged; 0: from the very first.
    pub(crate) floor: u64,
    /// The last that is judged.
    pub(crate) end: u64,
    /// Cut partitions in which it stands, by whether an event that keeps the order was met there.
    begun: BTreeMap<i32, bool>,
}

impl Count {
    fn take(&mut self, number: u64, event: &Event<'_>, horizon: &Horizon) -> bool {
        self.end = self.end.max(number);
        if horizon.cut.contains(&event.partition) {
            let has_begun = self.begun.entry(event.partition).or_default();
            if !*has_begun && !event.is_late {
                *has_begun = true;
                self.floor = self.floor.max(number);
            }
        }
        self.numbers.insert(number)
    }

    /// Fills a hole with what was read after the end.
    fn fill(&mut self, number: u64) {
        if number <= self.end {
            self.numbers.insert(number);
        }
    }

    fn seal(&mut self) {
        // Where only late ones are left, nothing is known about the numbers before.
        if self.begun.values().any(|has_begun| !has_begun) {
            self.floor = self.end;
        }
    }
}

/// An edge's log in one epoch.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) count: Count,
    /// Losses of which nobody knows whose events they were.
    pub(crate) anonymous: Gaps,
}

/// An asset's events in one epoch.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) count: Count,
    /// Repeats that carry a mark: readers drop them.
    pub(crate) marked: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    pub(crate) altered: u64,
    pub(crate) uncompared: u64,
    /// Digests of what stands twice, by number.
    twice: BTreeMap<u64, u64>,
}

/// An asset as one edge numbers it.
#[derive(Debug, Default)]
pub(crate) struct Asset {
    pub(crate) epochs: BTreeMap<u64, Line>,
    pub(crate) unnumbered: Unnumbered,
    highest: Option<Position>,
}

/// What one edge wrote.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    pub(crate) logs: BTreeMap<u64, Log>,
    pub(crate) assets: HashMap<String, Asset>,
}

/// Takes events in, in each partition's order.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) scope: Scope,
    horizon: Horizon,
    pub(crate) edges: BTreeMap<String, Edge>,
    twice: u64,
}

impl Ledger {
    pub(crate) fn new(scope: Scope, horizon: Horizon) -> Self {
        Self { scope, horizon, edges: BTreeMap::new(), twice: 0 }
    }

    /// Takes the next event of its partition.
    pub(crate) fn take(&mut self, event: &Event<'_>) {
        if !self.scope.has_edge(event) {
            return;
        }
        self.note_gap(event, |count, last| count.end = count.end.max(last));
        let edge = self.edges.entry(event.edge.to_owned()).or_default();
        let log = &mut edge.logs.entry(event.sequence.epoch).or_default().count;
        if event.time.is_some_and(|time| Some(time) <= self.horizon.time) {
            log.floor = log.floor.max(event.sequence.n);
        }
        let is_new_in_log = log.take(event.sequence.n, event, &self.horizon);
        if !self.scope.has_asset(event) {
            return;
        }
        let asset = edge.assets.entry(event.asset.to_owned()).or_default();
        let line = asset.epochs.entry(event.asset_sequence.epoch).or_default();
        let is_new = line.count.take(event.asset_sequence.n, event, &self.horizon);
        match (is_new, is_new_in_log) {
            (true, true) if !event.is_late && asset.highest > Some(event.asset_sequence) => line.reordered += 1,
            (true, true) => {}
            (false, false) => {
                if event.is_late {
                    line.marked += 1
                } else {
                    line.repeated += 1
                }
                if self.twice < COMPARED {
                    self.twice += 1;
                    line.twice.entry(event.asset_sequence.n).or_insert_with(|| event.digest());
                } else {
                    line.uncompared += 1;
                }
            }
            // One number of the two stood before, with another one beside it.
            _ => line.altered += 1,
        }
        asset.highest = asset.highest.max(Some(event.asset_sequence));
    }

    /// All was read that is judged.
    pub(crate) fn seal(&mut self) {
        for edge in self.edges.values_mut() {
            edge.logs.values_mut().for_each(|log| log.count.seal());
            edge.assets.values_mut().flat_map(|asset| asset.epochs.values_mut()).for_each(|line| line.count.seal());
        }
    }

    /// Takes an event that stands behind the end: it may fill a hole, or tell of one.
    pub(crate) fn take_later(&mut self, event: &Event<'_>) {
        if !self.scope.has_edge(event) {
            return;
        }
        self.note_gap(event, |_, _| {});
        let Some(edge) = self.edges.get_mut(event.edge) else { return };
        if let Some(log) = edge.logs.get_mut(&event.sequence.epoch) {
            log.count.fill(event.sequence.n);
        }
        if let Some(line) = edge.assets.get_mut(event.asset).and_then(|asset| asset.epochs.get_mut(&event.asset_sequence.epoch)) {
            line.count.fill(event.asset_sequence.n);
        }
    }

    /// Whether anything stands twice, so that reading again can tell whether it is the same.
    pub(crate) fn has_repeats(&self) -> bool {
        self.twice > 0
    }

    /// Takes an event in again, and compares it with its repeat.
    pub(crate) fn compare(&mut self, event: &Event<'_>) {
        let asset = self.edges.get_mut(event.edge).and_then(|edge| edge.assets.get_mut(event.asset));
        if let Some(line) = asset.and_then(|asset| asset.epochs.get_mut(&event.asset_sequence.epoch))
            && line.twice.get(&event.asset_sequence.n).is_some_and(|digest| *digest != event.digest())
        {
            line.altered += 1;
        }
    }

    /// Notes what a gap event tells; `reach` is told the last number it names.
    fn note_gap(&mut self, event: &Event<'_>, reach: impl Fn(&mut Count, u64)) {
        let Some(gap) = Gap::read(event.value) else { return };
        let epoch = gap.epoch.unwrap_or(event.sequence.epoch);
        let edge = self.edges.entry(event.edge.to_owned()).or_default();
        if let Some(range) = gap.sequences {
            let log = edge.logs.entry(epoch).or_default();
            reach(&mut log.count, range.1);
            log.count.gaps.note(range, event.asset, &gap);
            if gap.asset_sequences.is_none() {
                log.anonymous.note(range, event.asset, &gap);
            }
        }
        if !self.scope.has_asset(event) {
            return;
        }
        let asset = edge.assets.entry(event.asset.to_owned()).or_default();
        match gap.asset_sequences {
            Some(range) => {
                let line = asset.epochs.entry(epoch).or_default();
                reach(&mut line.count, range.1);
                line.count.gaps.note(range, event.asset, &gap);
            }
            None if gap.sequences.is_none() => asset.unnumbered.note(&gap),
            None => {}
        }
    }
}
