//! What devices said.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use asset_stream::{Event, UNAVAILABLE};
use serde_json::Value as Json;

use super::verdict::{Harm, Side, Verdict};

/// A value that was said: simulators count, so a value stands once in a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The counter.
    pub value: u64,
    /// Unix ms: the source timestamp; negative where the protocol carries none: the time at which it was said.
    pub at: i64,
}

#[derive(Debug)]
enum Said {
    /// Every one, in order.
    Each(Vec<Value>),
    /// Runs without holes, from the first to the last value of each.
    Runs(Vec<(Value, Value)>),
}

/// The journals of all devices of a test.
#[derive(Debug, Default)]
pub struct Journal {
    tags: HashMap<String, HashMap<String, Said>>,
}

impl Journal {
    /// Reads journals: lines of `asset item value at`, or `asset item first last first_at last_at` for a run; tabs between.
    pub fn read(files: &[impl AsRef<Path>]) -> anyhow::Result<Self> {
        let mut journal = Self::default();
        for file in files {
            let file = file.as_ref();
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the journal {}", file.display()))?;
            for (number, line) in text.lines().enumerate() {
                journal.line(line).with_context(|| format!("{}:{}: {line:?}", file.display(), number + 1))?;
            }
        }
        Ok(journal)
    }

    /// Notes one value.
    pub fn say(&mut self, asset: &str, item: &str, value: Value) -> anyhow::Result<()> {
        let said = self.items(asset).entry(item.to_owned()).or_insert_with(|| Said::Each(Vec::new()));
        let Said::Each(values) = said else { bail!("both single values and a run") };
        ensure!(values.last().is_none_or(|last| last.value < value.value), "values of a tag must go up");
        values.push(value);
        Ok(())
    }

    /// How many values were said.
    pub fn said(&self) -> u64 {
        self.tags.values().flat_map(HashMap::values).map(Said::count).sum()
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            [asset, item, value, at] => self.say(asset, item, Value { value: value.parse()?, at: at.parse()? }),
            [asset, item, first, last, first_at, last_at] => {
                let first = Value { value: first.parse()?, at: first_at.parse()? };
                let last = Value { value: last.parse()?, at: last_at.parse()? };
                ensure!(first.value <= last.value, "the run ends before it begins");
                let said = self.items(asset).entry(item.to_owned()).or_insert_with(|| Said::Runs(Vec::new()));
                let Said::Runs(runs) = said else { bail!("both single values and a run") };
                ensure!(runs.last().is_none_or(|(_, last)| last.value < first.value), "values of a tag must go up");
                runs.push((first, last));
                Ok(())
            }
            _ => bail!("expected 4 or 6 fields"),
        }
    }

    fn items(&mut self, asset: &str) -> &mut HashMap<String, Said> {
        self.tags.entry(asset.to_owned()).or_default()
    }

    pub(super) fn into_states(self) -> HashMap<String, HashMap<String, TagState>> {
        let state = |said: Said| TagState { heard: vec![0; (said.count() as usize).div_ceil(64)], said, last: None };
        self.tags.into_iter().map(|(asset, items)| (asset, items.into_iter().map(|(item, said)| (item, state(said))).collect())).collect()
    }
}

impl Said {
    fn count(&self) -> u64 {
        match self {
            Self::Each(values) => values.len() as u64,
            Self::Runs(runs) => runs.iter().map(|(first, last)| last.value - first.value + 1).sum(),
        }
    }

    fn index_of(&self, value: u64) -> Option<u64> {
        match self {
            Self::Each(values) => values.binary_search_by_key(&value, |said| said.value).ok().map(|index| index as u64),
            Self::Runs(runs) => {
                let mut before = 0;
                for (first, last) in runs {
                    if (first.value..=last.value).contains(&value) {
                        return Some(before + value - first.value);
                    }
                    before += last.value - first.value + 1;
                }
                None
            }
        }
    }

    /// The value at a place; in a run, with a time between the first and the last.
    fn at(&self, index: u64) -> Value {
        match self {
            Self::Each(values) => values[index as usize],
            Self::Runs(runs) => {
                let mut index = index;
                for (first, last) in runs {
                    let steps = last.value - first.value;
                    if index <= steps {
                        let share = index as f64 / steps.max(1) as f64;
                        return Value { value: first.value + index, at: first.at + (share * (last.at - first.at) as f64) as i64 };
                    }
                    index -= steps + 1;
                }
                unreachable!("places are below the count")
            }
        }
    }

    /// How far the time of a value may be from the truth, in milliseconds: in a run it is computed, as if the values had come evenly.
    fn slack(&self) -> i64 {
        match self {
            Self::Each(_) => 0,
            Self::Runs(_) => 2000,
        }
    }

    /// The source timestamp, where the journal has it for each value.
    fn timestamp(&self, index: u64) -> Option<i64> {
        match self {
            Self::Each(values) => Some(values[index as usize].at).filter(|at| *at >= 0),
            Self::Runs(_) => None,
        }
    }
}

/// Whether a value has its place in the order of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It has; so often its asset had been connected before.
    Due(u64),
    /// It was missing and comes late, as its record says: its numbers tell whether it came before.
    Late,
}

/// One tag: what was said, and what of it has come.
#[derive(Debug)]
pub(super) struct TagState {
    said: Said,
    /// A bit for each value.
    heard: Vec<u64>,
    /// Place of the last value that came, and how often the asset had been connected then.
    last: Option<(u64, u64)>,
}

impl TagState {
    /// Takes a record of this tag.
    pub(super) fn heard(&mut self, event: &Event, order: Order, place: &str, verdict: &mut Verdict) -> anyhow::Result<()> {
        let counter = match &event.value {
            Json::String(text) if text == UNAVAILABLE => return Ok(()),
            Json::String(text) => text.strip_prefix('n').and_then(|digits| digits.parse().ok()),
            number => number.as_u64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64)),
        };
        let Some(index) = counter.and_then(|counter| self.said.index_of(counter)) else {
            verdict.harm(Harm::Altered, Side::Kafka, || format!("{place}: {} = {} was never said", event.id, event.value));
            return Ok(());
        };
        let stamp = event.timestamp().context("no attributes.timestamp")?.millis();
        if let Some(said_at) = self.said.timestamp(index).filter(|said_at| *said_at != stamp) {
            verdict.harm(Harm::Altered, Side::Kafka, || {
                format!("{place}: {} = {} was said at {said_at}, the record has {stamp}", event.id, event.value)
            });
        }
        let again = self.is_heard(index);
        let Order::Due(connections) = order else {
            verdict.restated += u64::from(again);
            self.hear(index);
            return Ok(());
        };
        match self.last {
            Some((last, before)) if index == last => {
                if before == connections {
                    verdict.harm(Harm::Duplicated, Side::Kafka, || format!("{place}: {} = {} stands twice", event.id, event.value));
                } else {
                    verdict.restated += 1;
                }
            }
            Some((last, _)) if index < last => {
                let harm = if again { Harm::Duplicated } else { Harm::Reordered };
                let after = self.said.at(last).value;
                verdict.harm(harm, Side::Kafka, || format!("{place}: {} = {} after {after}", event.id, event.value));
                self.hear(index);
                return Ok(());
            }
            _ => {}
        }
        self.hear(index);
        self.last = Some((index, connections));
        Ok(())
    }

    pub(super) fn said(&self) -> u64 {
        self.said.count()
    }

    /// See [`Said::slack`].
    pub(super) fn slack(&self) -> i64 {
        self.said.slack()
    }

    /// Whether its last value has come.
    pub(super) fn ended(&self) -> bool {
        self.said.count().checked_sub(1).is_none_or(|last| self.is_heard(last))
    }

    /// Values that have not come, and when they were said (Unix ms).
    pub(super) fn missing(&self) -> impl Iterator<Item = (u64, i64)> {
        (0..self.said.count()).filter(|index| !self.is_heard(*index)).map(|index| {
            let Value { value, at } = self.said.at(index);
            (value, at.abs())
        })
    }

    fn is_heard(&self, index: u64) -> bool {
        self.heard[(index / 64) as usize] >> (index % 64) & 1 == 1
    }

    fn hear(&mut self, index: u64) {
        self.heard[(index / 64) as usize] |= 1 << (index % 64);
    }
}
