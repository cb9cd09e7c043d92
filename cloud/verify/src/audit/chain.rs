//! The chains by which edges bind what they tell about commands.

use std::collections::BTreeMap;

use asset_stream::command::status::{Link, Status};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Record;

/// What an edge told about commands in one epoch of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// The edge.
    pub edge: String,
    /// Of its log; 0 where the records do not tell it.
    pub epoch: u64,
    /// The first number that is there.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Numbers that are not there.
    pub missing: Vec<u64>,
    /// Numbers behind which the next one does not fit: this one, or that one, was altered.
    pub altered: Vec<u64>,
    /// Statuses that are not chained: they prove nothing.
    pub unchained: u64,
}

impl Chain {
    /// Whether it is whole.
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty() && self.altered.is_empty()
    }
}

/// So many missing numbers are named, at most.
const NAMED: usize = 1000;

struct Told {
    hash: String,
    previous: String,
}

#[derive(Default)]
struct Numbers {
    told: BTreeMap<u64, Told>,
    /// Numbers that stand there again with another content.
    twice: Vec<u64>,
    unchained: u64,
}

/// The chains of all edges.
#[derive(Default)]
pub(super) struct Chains(BTreeMap<(String, u64), Numbers>);

impl Chains {
    pub(super) fn take(&mut self, record: &Record) {
        let Some(edge) = &record.edge else { return };
        let Some((_, status)) = Status::from_event(&record.event) else { return };
        let numbers = self.0.entry((edge.clone(), record.position.map_or(0, |position| position.epoch))).or_default();
        let (Ok(Status { chain: Some(Link { n, previous }), .. }), Some(text)) = (status, record.event.value.as_str()) else {
            numbers.unchained += 1;
            return;
        };
        let told = Told { hash: format!("{:x}", Sha256::digest(text.as_bytes())), previous };
        // A record that was sent again is the same.
        if numbers.told.get(&n).is_some_and(|before| before.hash != told.hash) {
            numbers.twice.push(n);
        }
        numbers.told.entry(n).or_insert(told);
    }

    pub(super) fn has_holes(&self) -> bool {
        self.0.values().any(|numbers| {
            let (first, last) = (numbers.told.keys().next(), numbers.told.keys().next_back());
            matches!((first, last), (Some(first), Some(last)) if last - first + 1 > numbers.told.len() as u64)
        })
    }

    /// `begins_at_first`: the topic was read from its beginning, and that is still there.
    pub(super) fn rows(&self, begins_at_first: bool) -> Vec<Chain> {
        self.0.iter().map(|((edge, epoch), numbers)| numbers.row(edge, *epoch, begins_at_first)).collect()
    }
}

impl Numbers {
    fn row(&self, edge: &str, epoch: u64, begins_at_first: bool) -> Chain {
        let (first, last) = (self.told.keys().next().copied(), self.told.keys().next_back().copied());
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        let (mut missing, mut altered) = (Vec::new(), self.twice.clone());
        let mut expected = if begins_at_first && last > 0 { 1 } else { first };
        let mut before: Option<(u64, &Told)> = None;
        for (n, told) in &self.told {
            missing.extend((expected..*n).take(NAMED.saturating_sub(missing.len())));
            expected = n + 1;
            let fits = match before {
                Some((number, before)) if number + 1 == *n => before.hash == told.previous,
                _ => *n != 1 || told.previous.is_empty(),
            };
            if !fits {
                altered.push(n.saturating_sub(1).max(1));
            }
            before = Some((*n, told));
        }
        altered.sort_unstable();
        altered.dedup();
        Chain { edge: edge.to_owned(), epoch, first, last, missing, altered, unchained: self.unchained }
    }
}

#[cfg(test)]
mod tests {
    use super::{Chains, Record};
    use asset_stream::command::status::{Link, State, Status};
    use asset_stream::{Event, Timestamp};
    use sha2::{Digest as _, Sha256};

    fn statuses(count: u64) -> Vec<Status> {
        let mut previous = String::new();
        let chained = |n| {
            let id = format!("c-{n}");
            let status = Status {
                chain: Some(Link { n, previous: previous.clone() }),
                ..Status::new("HMI-1", id, State::Accepted, Timestamp::now())
            };
            previous = format!("{:x}", Sha256::digest(status.encode()));
            status
        };
        (1..=count).map(chained).collect()
    }

    fn chains(statuses: &[Status]) -> Chains {
        let mut chains = Chains::default();
        for status in statuses {
            let mut value = Vec::new();
            status.to_sample("PRESS-1", "Move").encode(&mut value);
            let event = Event::decode(&value).expect("an event");
            let position = Some(asset_stream::Position { epoch: 7, n: 1 });
            chains.take(&Record { asset: "PRESS-1".into(), partition: 0, event, time: 0, edge: Some("E-1".into()), position });
        }
        chains
    }

    #[test]
    fn a_whole_chain_is_sound_in_whatever_order_and_however_often_it_is_read() {
        let mut all = statuses(5);
        all.swap(0, 3);
        all.push(all[2].clone());
        let rows = chains(&all).rows(true);
        assert!(rows.len() == 1 && rows[0].is_sound() && (rows[0].first, rows[0].last, rows[0].epoch) == (1, 5, 7), "{rows:?}");
    }

    #[test]
    fn what_is_missing_or_altered_shows() {
        let all = statuses(5);
        let without =
            |gone: usize| all.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, status)| status.clone()).collect::<Vec<_>>();
        assert_eq!(chains(&without(2)).rows(true)[0].missing, [3]);
        assert!(chains(&without(2)).has_holes() && !chains(&all).has_holes());
        assert_eq!(chains(&without(0)).rows(true)[0].missing, [1]);
        assert!(chains(&without(0)).rows(false)[0].is_sound(), "what stood before is not known");
        let mut altered = all.clone();
        altered[2].state = State::Rejected;
        assert_eq!(chains(&altered).rows(true)[0].altered, [3]);
        let both = [all, altered].concat();
        assert_eq!(chains(&both).rows(true)[0].altered, [3]);
    }
}
