//! Gap events: loss as data.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use asset_stream::{Event, Kind};
use serde::{Deserialize, Serialize};

use crate::numbers::{Range, count, joined, within};

/// A gap event's `VALUE`, as docs/operations.md explains it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Gap {
    pub(crate) reason: String,
    pub(crate) count: Option<u64>,
    /// Of the edge's log.
    pub(crate) sequences: Option<Range>,
    /// Of the asset.
    pub(crate) asset_sequences: Option<Range>,
    /// Of the numbers, where it is not the event's own.
    pub(crate) epoch: Option<u64>,
    #[serde(skip)]
    digest: u64,
}

impl Gap {
    /// Reads a record's value; `None` if it is no gap event.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        // Nearly all records are none, and need not be read.
        if !value.windows(5).any(|word| word == b"\"gap\"") {
            return None;
        }
        let event = Event::decode(value).ok()?;
        if event.id != "gap" || event.kind != Kind::OpenFactory {
            return None;
        }
        let mut gap: Self = serde_json::from_str(event.value.as_str()?).ok()?;
        let is_range = |range: Option<Range>| range.filter(|(first, last)| first <= last);
        (gap.sequences, gap.asset_sequences) = (is_range(gap.sequences), is_range(gap.asset_sequences));
        let mut hasher = DefaultHasher::new();
        event.value.hash(&mut hasher);
        gap.digest = hasher.finish();
        Some(gap)
    }
}

/// What is told as lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Events.
    pub count: u64,
    /// Losses of which nobody can know how many events they were.
    pub uncounted: u64,
}

/// What the gap events tell of one count of numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    /// By what they name: after a crash a gap is told twice. A loss of the log is told for each asset that it concerns.
    named: BTreeMap<(Range, String, String), Option<u64>>,
}

/// The numbers that are absent, judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judged {
    /// Told as lost, by reason.
    pub(crate) told: BTreeMap<String, u64>,
    /// Absent within what gap events name, but more than they count: of these numbers this many.
    pub(crate) beyond: u64,
}

impl Told {
    pub(crate) fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.uncounted += other.uncounted;
    }
}

impl Gaps {
    pub(crate) fn note(&mut self, range: Range, asset: &str, gap: &Gap) {
        self.named.insert((range, gap.reason.clone(), asset.to_owned()), gap.count);
    }

    /// All numbers that are named.
    pub(crate) fn ranges(&self) -> Vec<Range> {
        joined(self.named.keys().map(|(range, _, _)| *range).collect())
    }

    /// Judges absent numbers. Gaps may overlap, so together they tell no more than all of them count.
    pub(crate) fn judge(&self, absent: &[Range]) -> Judged {
        let (mut judged, mut gaps) = (Judged::default(), self.named.iter().peekable());
        for (first, last) in self.ranges() {
            let mut open = count(&within(&[(first, last)], absent));
            while let Some(((range, reason, _), counted)) = gaps.next_if(|((range, _, _), _)| range.0 <= last) {
                let told = count(&within(&[*range], absent)).min(counted.unwrap_or(u64::MAX)).min(open);
                open -= told;
                if told > 0 {
                    *judged.told.entry(reason.clone()).or_default() += told;
                }
            }
            judged.beyond += open;
        }
        judged
    }
}

/// Losses before the log: their events never had a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unnumbered {
    seen: HashSet<u64>,
    pub(crate) told: BTreeMap<String, Told>,
}

impl Unnumbered {
    pub(crate) fn note(&mut self, gap: &Gap) {
        if self.seen.insert(gap.digest) {
            let told = gap.count.map_or(Told { count: 0, uncounted: 1 }, |count| Told { count, uncounted: 0 });
            self.told.entry(gap.reason.clone()).or_default().add(told);
        }
    }
}
