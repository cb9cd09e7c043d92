//! Comparing what stands in Kafka with the log. Pure; no I/O.
//!
//! Two bits a sequence, whatever was sent how often: one says that it stands, and 64 of them share a checksum of their contents. 100 million
//! retained events take 25 MB. The price: of altered contents only the group of 64 is known.

use std::hash::{DefaultHasher, Hasher};

use edge_buffer::Stored;

use super::{Comparison, Stretch};

/// Stretches in a report.
const STRETCHES: u64 = 20;
/// Altered groups that are named.
const NAMED: usize = 20;
/// Sequences in a group.
const GROUP: u64 = 64;

/// What is known of a group of sequences.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    stands: u64,
    /// Of the first record of each that stands.
    checksum: u64,
}

/// Which copy of an event a record is, as its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    /// `of-resent` or `of-replay`: readers drop it if they have the event.
    Again,
}

/// What is to become of an event of the selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stands,
    Missing,
    Expired,
    Refused,
}

#[derive(Debug)]
pub(super) struct Compare {
    first: u64,
    groups: Vec<Group>,
    step: u64,
    stretches: Vec<Stretch>,
    /// The group that the walk over the log is in: its place, how many of it stand, their checksum.
    open: (usize, u32, u64),
    altered: Vec<(u64, u64)>,
}

impl Compare {
    /// Of the sequences from `first` to `through`.
    pub(super) fn new(first: u64, through: u64) -> Self {
        let count = (through + 1).saturating_sub(first).max(1);
        let step = count.div_ceil(STRETCHES).next_multiple_of(GROUP);
        let stretch = |n: u64| Stretch { first: first + n * step, last: (first + (n + 1) * step - 1).min(through), ..Stretch::default() };
        Self {
            first,
            groups: vec![Group::default(); count.div_ceil(GROUP) as usize],
            step,
            stretches: (0..count.div_ceil(step)).map(stretch).collect(),
            open: (0, 0, 0),
            altered: Vec::new(),
        }
    }

    /// Takes a record of Kafka; others than the compared sequences are left alone.
    pub(super) fn found(&mut self, sequence: u64, checksum: u64, mark: Mark) {
        let Some((place, bit)) = self.place(sequence) else { return };
        let Some(group) = self.groups.get_mut(place) else { return };
        if group.stands & bit == 0 {
            group.stands |= bit;
            group.checksum ^= checksum;
            return;
        }
        if let Some(stretch) = self.stretch(sequence) {
            match mark {
                Mark::None => stretch.repeated += 1,
                Mark::Again => stretch.marked += 1,
            }
        }
    }

    /// Whether an event stands in Kafka.
    pub(super) fn stands(&self, sequence: u64) -> bool {
        self.place(sequence).is_some_and(|(place, bit)| self.groups.get(place).is_some_and(|group| group.stands & bit != 0))
    }

    /// Compares the contents of an event of the log, in the log's order, whether it is selected or not.
    pub(super) fn contents(&mut self, event: &Stored) {
        if !self.stands(event.sequence) {
            return;
        }
        let checksum = checksum(event.sequence, event.key_sequence, event.key.as_bytes(), &event.value);
        let Some((place, _)) = self.place(event.sequence) else { return };
        if place != self.open.0 {
            self.close();
            self.open = (place, 0, 0);
        }
        self.open.1 += 1;
        self.open.2 ^= checksum;
    }

    /// Counts an event of the selection.
    pub(super) fn count(&mut self, event: &Stored, fate: Fate) {
        let Some(stretch) = self.stretch(event.sequence) else { return };
        let (from, to) = stretch.times.unwrap_or((event.timestamp, event.timestamp));
        stretch.times = Some((from.min(event.timestamp), to.max(event.timestamp)));
        match fate {
            Fate::Stands => stretch.present += 1,
            Fate::Missing => stretch.missing += 1,
            Fate::Expired => stretch.expired += 1,
            Fate::Refused => stretch.refused += 1,
        }
    }

    /// These sequences cannot be read from the log.
    pub(super) fn unreadable(&mut self, first: u64, last: u64) {
        let last = last.min(self.stretches.last().map_or(0, |stretch| stretch.last));
        for sequence in first.max(self.first)..=last {
            if !self.stands(sequence)
                && let Some(stretch) = self.stretch(sequence)
            {
                stretch.unreadable += 1;
            }
        }
    }

    /// The report. What it was asked for stays.
    pub(super) fn report(&mut self, records: u64, retention: Option<i64>) -> Comparison {
        self.close();
        let mut stretches: Vec<Stretch> = Vec::new();
        for stretch in self.stretches.iter().filter(|stretch| stretch.times.is_some() || stretch.unreadable > 0) {
            match stretches.last_mut().filter(|before| before.is_whole() && stretch.is_whole()) {
                Some(before) => *before = before.joined(*stretch),
                None => stretches.push(*stretch),
            }
        }
        Comparison { records, retention, stretches, altered: self.altered.clone() }
    }

    /// Ends the group that the walk was in. Where not all of it was walked over, there is nothing to compare.
    fn close(&mut self) {
        let (place, count, checksum) = self.open;
        let Some(group) = self.groups.get(place) else { return };
        if count != group.stands.count_ones() || checksum == group.checksum {
            return;
        }
        let first = self.first + place as u64 * GROUP;
        if let Some(stretch) = self.stretch(first) {
            stretch.altered += 1;
        }
        if self.altered.len() < NAMED {
            self.altered.push((first, first + GROUP - 1));
        }
    }

    fn place(&self, sequence: u64) -> Option<(usize, u64)> {
        let index = sequence.checked_sub(self.first)?;
        Some(((index / GROUP) as usize, 1 << (index % GROUP)))
    }

    fn stretch(&mut self, sequence: u64) -> Option<&mut Stretch> {
        let index = sequence.checked_sub(self.first)? / self.step;
        self.stretches.get_mut(index as usize)
    }
}

/// Of what must be the same in Kafka and in the log.
pub(super) fn checksum(sequence: u64, key_sequence: u64, key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(sequence);
    hasher.write_u64(key_sequence);
    hasher.write_usize(key.len());
    hasher.write(key);
    hasher.write(value);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use edge_buffer::Stored;

    use super::{Compare, Fate, Mark, checksum};

    fn event(sequence: u64) -> Stored {
        Stored {
            sequence,
            key_sequence: sequence,
            key: "PRESS-1".into(),
            timestamp: sequence as i64,
            value: sequence.to_string().into_bytes().into(),
        }
    }

    fn of(event: &Stored) -> u64 {
        checksum(event.sequence, event.key_sequence, event.key.as_bytes(), &event.value)
    }

    fn compare(in_kafka: impl Iterator<Item = u64>, change: impl Fn(&mut Stored)) -> Compare {
        let mut compare = Compare::new(11, 1_000);
        for sequence in in_kafka {
            let mut event = event(sequence);
            change(&mut event);
            compare.found(sequence, of(&event), Mark::None);
        }
        for sequence in 11..=1_000 {
            let event = event(sequence);
            compare.contents(&event);
            let fate = if compare.stands(sequence) { Fate::Stands } else { Fate::Missing };
            compare.count(&event, fate);
        }
        compare
    }

    #[test]
    fn what_stands_everywhere_is_one_stretch() {
        let comparison = compare((1..=2_000).rev(), |_| ()).report(2_000, None);
        assert_eq!(comparison.stretches.len(), 1);
        let total = comparison.total();
        assert_eq!((total.first, total.last, total.present, total.times), (11, 1_000, 990, Some((11, 1_000))));
        assert!(total.is_whole(), "{total:?}");
    }

    #[test]
    fn missing_events_are_told_where_they_are_missing() {
        let comparison = compare((11..=1_000).filter(|n| !(300..310).contains(n)), |_| ()).report(980, None);
        let [before, there, behind] = &comparison.stretches[..] else { panic!("three stretches: {comparison:?}") };
        assert_eq!((before.missing, there.missing, behind.missing), (0, 10, 0));
        assert!(there.first <= 300 && there.last >= 309 && before.last + 1 == there.first && there.last + 1 == behind.first);
    }

    #[test]
    fn repeats_are_told_by_their_mark() {
        let mut compare = compare(11..=1_000, |_| ());
        compare.found(500, 0, Mark::None);
        compare.found(501, 0, Mark::Again);
        compare.found(501, 0, Mark::Again);
        let total = compare.report(993, None).total();
        assert_eq!((total.present, total.repeated, total.marked, total.altered), (990, 1, 2, 0));
    }

    #[test]
    fn a_value_key_or_number_that_differs_is_told_by_its_group() {
        let value = |event: &mut Stored| event.value = b"other".to_vec().into();
        let key = |event: &mut Stored| event.key = "PRESS-2".into();
        let number = |event: &mut Stored| event.key_sequence += 1;
        for change in [&value as &dyn Fn(&mut Stored), &key, &number] {
            let altered = |event: &mut Stored| {
                if event.sequence == 500 {
                    change(event);
                }
            };
            let comparison = compare((11..=1_000).filter(|n| n % 7 > 0 || *n == 500), altered).report(0, None);
            let [(first, last)] = comparison.altered[..] else { panic!("one group: {comparison:?}") };
            assert!((first..=last).contains(&500) && last - first == 63);
            assert_eq!(comparison.total().altered, 1);
        }
    }

    #[test]
    fn a_group_of_which_not_all_was_walked_over_is_not_judged() {
        let mut compare = Compare::new(1, 64);
        (1..=64).for_each(|n| compare.found(n, of(&event(n)), Mark::None));
        (1..=32).for_each(|n| compare.contents(&event(n)));
        assert_eq!(compare.report(64, None).altered, []);
    }

    #[test]
    fn sequences_that_the_log_lost_count_unless_kafka_has_them() {
        let mut compare = Compare::new(1, 100);
        (1..=10).for_each(|n| compare.found(n, 0, Mark::None));
        compare.unreadable(1, 1_000);
        assert_eq!(compare.report(10, None).total().unreadable, 90);
    }
}
