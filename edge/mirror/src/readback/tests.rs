//! A small world (a log, partitions, a producer that dies anywhere) against which the decisions are checked.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{Standing, Verdict};

/// An event: sequence, key, sequence within its key.
type Event = (u64, u8, u64);

#[derive(Debug)]
struct World {
    log: Vec<Event>,
    partitions: Vec<Vec<(Event, bool)>>,
    cursor: u64,
    handed_over: u64,
    /// Per partition: nothing beyond the cursor stands before this offset.
    kept: Vec<usize>,
    /// As in the note.
    unsure_through: u64,
}

fn log(keys: &[u8]) -> Vec<Event> {
    let mut counts = HashMap::new();
    let number = |(index, key): (usize, &u8)| {
        let n = counts.entry(*key).and_modify(|n| *n += 1).or_insert(1_u64);
        (index as u64 + 1, *key, *n)
    };
    keys.iter().enumerate().map(number).collect()
}

impl World {
    /// A producer handed over the first events, and died: of each partition's share a prefix stands; the cursor lies at any point of what all of those prefixes cover.
    fn after_a_death(keys: &[u8], partitions: usize, handed_over: usize, standing: &[usize], cursor: usize) -> Self {
        let log = log(keys);
        let handed_over = handed_over.min(log.len());
        let mut shares = vec![Vec::new(); partitions];
        for event in &log[..handed_over] {
            shares[event.1 as usize % partitions].push((*event, false));
        }
        for (share, standing) in shares.iter_mut().zip(standing) {
            share.truncate(*standing);
        }
        let stands = |event: &&Event| shares[event.1 as usize % partitions].iter().any(|(other, _)| other == *event);
        let covered = log[..handed_over].iter().take_while(stands).count();
        let cursor = cursor.min(covered) as u64;
        let kept = shares.iter().map(|share| share.iter().filter(|(event, _)| event.0 <= cursor).count()).collect();
        Self { log, partitions: shares, cursor, handed_over: handed_over as u64, kept, unsure_through: 0 }
    }

    /// Reads back at most `limit` records, then sends what the verdicts say.
    fn settle(&mut self, limit: usize) -> Standing {
        let mut standing = Standing::doubt(self.cursor, self.handed_over);
        standing.unsure_through(self.unsure_through);
        let mut left = limit;
        for (partition, kept) in self.partitions.iter().zip(&self.kept) {
            for ((sequence, key, n), _) in &partition[*kept..] {
                if left == 0 {
                    standing.give_up();
                    break;
                }
                left -= 1;
                standing.found(*sequence, &key.to_string(), *n);
            }
        }
        for event in &self.log[self.cursor as usize..] {
            let partition = event.1 as usize % self.partitions.len();
            match standing.verdict(event.0, &event.1.to_string(), event.2) {
                Verdict::Stands => {}
                Verdict::Send => self.partitions[partition].push((*event, false)),
                Verdict::SendMarked => {
                    self.unsure_through = standing.through();
                    self.partitions[partition].push((*event, true));
                }
            }
        }
        standing
    }

    /// How often each event stands.
    fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.log.len()];
        for ((sequence, ..), _) in self.partitions.iter().flatten() {
            counts[*sequence as usize - 1] += 1;
        }
        counts
    }
}

fn world() -> impl Strategy<Value = World> {
    (proptest::collection::vec(0_u8..7, 1..120), 1_usize..5).prop_flat_map(|(keys, partitions)| {
        let len = keys.len();
        (0..=len, proptest::collection::vec(0..=len, partitions), 0..=len)
            .prop_map(move |(handed_over, standing, cursor)| World::after_a_death(&keys, partitions, handed_over, &standing, cursor))
    })
}

proptest! {
    #[test]
    fn after_any_death_each_event_stands_once_and_each_asset_in_order(mut world in world()) {
        let standing = world.settle(usize::MAX);
        prop_assert_eq!(world.counts(), vec![1; world.log.len()]);
        for partition in &world.partitions {
            let mut last = HashMap::new();
            for ((_, key, n), marked) in partition {
                prop_assert!(!marked, "nothing needs a mark");
                let before = last.insert(*key, *n).unwrap_or(0);
                prop_assert_eq!(*n, before + 1, "asset {}", key);
            }
        }
        prop_assert_eq!((standing.holes(), standing.repeats(), standing.strangers()), (0, 0, 0));
    }

    #[test]
    fn a_second_death_while_sending_the_missing_ones_changes_nothing(mut world in world(), cut in 0_usize..120) {
        // The first attempt to fill up dies after some events: what it sent is again a prefix of each partition's missing ones.
        let mut first = World { log: world.log.clone(), partitions: world.partitions.clone(), kept: world.kept.clone(), ..world };
        let before: Vec<usize> = first.partitions.iter().map(Vec::len).collect();
        first.settle(usize::MAX);
        for (partition, before) in first.partitions.iter_mut().zip(before) {
            partition.truncate(before + cut % (partition.len() - before + 1));
        }
        world.partitions = first.partitions;
        world.handed_over = world.log.len() as u64;
        world.settle(usize::MAX);
        prop_assert_eq!(world.counts(), vec![1; world.log.len()]);
    }

    #[test]
    fn beyond_the_limit_nothing_is_lost_and_every_repeat_is_marked(mut world in world(), limit in 0_usize..40) {
        world.settle(limit);
        let mut seen = HashMap::new();
        for ((sequence, ..), marked) in world.partitions.iter().flatten() {
            let n = seen.entry(*sequence).and_modify(|n| *n += 1).or_insert(1);
            prop_assert!(*n == 1 || *marked, "{} stands {} times, the last one unmarked", sequence, n);
        }
        prop_assert_eq!(seen.len(), world.log.len(), "every event stands");
    }

    #[test]
    fn a_death_while_events_are_sent_again_leaves_every_repeat_marked(mut world in world(), limit in 0_usize..40, cut in 0_usize..120) {
        let before: Vec<usize> = world.partitions.iter().map(Vec::len).collect();
        let mut standing = world.settle(limit);
        for (partition, before) in world.partitions.iter_mut().zip(&before) {
            partition.truncate(before + cut % (partition.len() - before + 1));
        }
        // The cursor, and each partition's place, have moved on with what was acknowledged.
        for (sequence, key, n) in &world.log[world.cursor as usize..] {
            let partition = *key as usize % world.partitions.len();
            if standing.verdict(*sequence, &key.to_string(), *n) != Verdict::Stands {
                let sent = world.partitions[partition].iter().skip(before[partition]).position(|(event, _)| event.0 == *sequence);
                let Some(at) = sent else { break };
                world.kept[partition] = before[partition] + at + 1;
            }
            world.cursor = *sequence;
        }
        world.handed_over = world.log.len() as u64;
        world.settle(usize::MAX);
        let mut seen = HashMap::new();
        for ((sequence, ..), marked) in world.partitions.iter().flatten() {
            let n = seen.entry(*sequence).and_modify(|n| *n += 1).or_insert(1);
            prop_assert!(*n == 1 || *marked, "{} stands {} times, the last one unmarked", sequence, n);
        }
        prop_assert_eq!(seen.len(), world.log.len(), "every event stands");
    }

    #[test]
    fn holes_are_filled_marked_and_counted(mut world in world(), hole in 0_usize..120) {
        // Something removed one event from the middle of what stood beyond the cursor.
        let mut removed = None;
        for (partition, kept) in world.partitions.iter_mut().zip(&world.kept) {
            if removed.is_none() && partition.len() > kept + 1 {
                removed = Some(partition.remove(kept + hole % (partition.len() - kept)).0);
            }
        }
        let overtaken = removed.is_some_and(|gone| {
            world.partitions.iter().flatten().any(|((_, key, n), _)| *key == gone.1 && *n > gone.2)
        });
        let standing = world.settle(usize::MAX);
        prop_assert_eq!(world.counts(), vec![1; world.log.len()]);
        prop_assert_eq!(standing.holes(), u64::from(overtaken));
        let marked = world.partitions.iter().flatten().filter(|(_, marked)| *marked).count() as u64;
        prop_assert_eq!(marked, standing.holes());
    }
}

#[test]
fn what_others_write_under_our_name_is_noticed() {
    let mut standing = Standing::doubt(10, 20);
    standing.found(9, "a", 1);
    standing.found(15, "a", 2);
    standing.found(15, "a", 2);
    standing.found(21, "a", 3);
    assert_eq!((standing.count(), standing.repeats(), standing.strangers()), (1, 1, 1));
    assert!(!standing.is_settled());
    for sequence in 11..=20 {
        standing.found(sequence, "b", sequence);
    }
    assert!(standing.is_settled());
}

#[test]
fn without_doubt_everything_beyond_the_cursor_is_sent() {
    let mut standing = Standing::clear(5);
    assert!(standing.is_settled());
    assert_eq!(standing.verdict(5, "a", 1), Verdict::Stands);
    assert_eq!(standing.verdict(6, "a", 2), Verdict::Send);
}
