//! Which numbers of which gapless count have come.

use std::collections::{BTreeMap, HashMap, HashSet};

use asset_stream::Position;

/// How a number came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// After all that came before.
    InOrder,
    /// After this later one.
    Late {
        /// The latest before.
        after: Position,
    },
    /// It was there already.
    Again,
}

/// Digests by number, from 1; `None`: has not come.
type Numbers = Vec<Option<u64>>;

/// Several counts by name, each with its epochs.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    counts: HashMap<String, BTreeMap<u64, Numbers>>,
    latest: HashMap<String, Position>,
    names: HashSet<String>,
}

impl Arrivals {
    pub(super) fn take(&mut self, count: &str, at: Position, digest: u64) -> Arrival {
        if self.is_there(count, at) {
            return Arrival::Again;
        }
        let place = self.extend(count, at);
        *place = Some(digest);
        let latest = self.latest.entry(count.to_owned()).or_insert(at);
        if at < *latest {
            return Arrival::Late { after: *latest };
        }
        *latest = at;
        Arrival::InOrder
    }

    /// For records without a number.
    pub(super) fn take_named(&mut self, name: &str) -> Arrival {
        if self.names.insert(name.to_owned()) { Arrival::InOrder } else { Arrival::Again }
    }

    /// Numbers up to this one belong to the count, whether they came or not.
    pub(super) fn extend(&mut self, count: &str, at: Position) -> &mut Option<u64> {
        // Numbers begin at 1; 0 is kept where it can do no harm.
        let index = usize::try_from(at.n.saturating_sub(1)).unwrap_or(usize::MAX >> 8);
        if !self.counts.contains_key(count) {
            self.counts.insert(count.to_owned(), BTreeMap::new());
        }
        let numbers = self.counts.entry(count.to_owned()).or_default().entry(at.epoch).or_default();
        if numbers.len() <= index {
            numbers.resize(index + 1, None);
        }
        &mut numbers[index]
    }

    pub(super) fn is_there(&self, count: &str, at: Position) -> bool {
        self.digest(count, at).is_some()
    }

    pub(super) fn digest(&self, count: &str, at: Position) -> Option<u64> {
        let index = usize::try_from(at.n.checked_sub(1)?).ok()?;
        *self.counts.get(count)?.get(&at.epoch)?.get(index)?
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Everything that came.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Position)> {
        self.numbers().filter(|(_, _, digest)| digest.is_some()).map(|(count, at, _)| (count, at))
    }

    /// Everything that belongs to a count and did not come.
    pub(super) fn absent(&self) -> Vec<(String, Position)> {
        self.numbers().filter(|(_, _, digest)| digest.is_none()).map(|(count, at, _)| (count.to_owned(), at)).collect()
    }

    /// How many came.
    pub(super) fn count(&self) -> usize {
        self.all().count()
    }

    /// How many came, of counts that are an edge's log and not one asset's, and of records without a number.
    pub(super) fn count_of_logs(&self) -> usize {
        self.all().filter(|(count, _)| !count.contains('/')).count() + self.names.len()
    }

    /// The highest numbers of all epochs, added up.
    pub(super) fn highest(&self) -> u64 {
        self.counts.values().flat_map(BTreeMap::values).map(|numbers| numbers.len() as u64).sum()
    }

    fn numbers(&self) -> impl Iterator<Item = (&str, Position, Option<u64>)> {
        self.counts.iter().flat_map(|(count, epochs)| {
            epochs.iter().flat_map(move |(epoch, numbers)| {
                (1..).zip(numbers).map(move |(n, digest)| (count.as_str(), Position { epoch: *epoch, n }, *digest))
            })
        })
    }
}
