//! Streams are made as edges write them, harm is done to them, and the report must name that harm and no other.

use std::collections::{BTreeMap, BTreeSet};

use asset_stream::{Gap, GapReason, Position, Timestamp};
use proptest::prelude::*;

use crate::gap::Told;
use crate::ledger::{Event, Horizon, Ledger, Scope};
use crate::report::{Harm, Report, report};

const EPOCH: u64 = 1_769_528_223_000;
const PARTITIONS: i32 = 3;

#[derive(Clone, Debug, PartialEq)]
struct Record {
    partition: i32,
    asset: String,
    n: u64,
    of_asset: u64,
    is_late: bool,
    value: Vec<u8>,
}

impl Record {
    fn event(&self) -> Event<'_> {
        let at = |n| Position { epoch: EPOCH, n };
        let (sequence, asset_sequence) = (at(self.n), at(self.of_asset));
        Event {
            partition: self.partition,
            edge: "edge-1",
            asset: &self.asset,
            sequence,
            asset_sequence,
            is_late: self.is_late,
            time: Some(1_000 + self.n as i64),
            value: &self.value,
        }
    }
}

/// An edge that numbers its events.
#[derive(Default)]
struct Edge {
    next: u64,
    assets: BTreeMap<String, u64>,
}

impl Edge {
    fn write(&mut self, asset: u8, value: Option<Vec<u8>>) -> Record {
        let (name, n) = (format!("ASSET-{asset}"), self.next + 1);
        self.next = n;
        let of_asset = self.assets.entry(name.clone()).or_default();
        *of_asset += 1;
        let value = value.unwrap_or_else(|| format!(r#"{{"ID":"temp","VALUE":{n},"TYPE":"Samples"}}"#).into_bytes());
        Record { partition: i32::from(asset) % PARTITIONS, asset: name, n, of_asset: *of_asset, is_late: false, value }
    }

    fn events(&mut self, assets: &[u8]) -> Vec<Record> {
        assets.iter().map(|asset| self.write(*asset, None)).collect()
    }
}

/// The gap event's value that tells of these events of one asset.
fn told(asset: &str, lost: &[&Record], is_anonymous: bool) -> Vec<u8> {
    let ends = |of: fn(&Record) -> u64| Some((of(lost.first()?), of(lost.last()?)));
    let gap = Gap {
        asset: asset.into(),
        item: None,
        reason: GapReason::DroppedOldest,
        count: Some(lost.len() as u64),
        sequences: ends(|record| record.n),
        asset_sequences: ends(|record| record.of_asset).filter(|_| !is_anonymous),
        epoch: None,
        from: Timestamp::from_millis(0),
        to: Timestamp::from_millis(0),
        detail: String::new(),
    };
    let mut value = Vec::new();
    gap.to_sample(Timestamp::from_millis(0)).encode(&mut value);
    value
}

fn judge_in(records: &[Record], later: &[Record], scope: Scope, horizon: Horizon) -> Report {
    let mut ledger = Ledger::new(scope, horizon);
    // Partitions are read ahead of each other: here as far as can be.
    let by_partition = (0..PARTITIONS).flat_map(|partition| records.iter().filter(move |record| record.partition == partition));
    let all: Vec<&Record> = by_partition.collect();
    all.iter().for_each(|record| ledger.take(&record.event()));
    ledger.seal();
    later.iter().for_each(|record| ledger.take_later(&record.event()));
    if ledger.has_repeats() {
        all.iter().for_each(|record| ledger.compare(&record.event()));
    }
    report(&ledger)
}

fn judge(records: &[Record]) -> Report {
    judge_in(records, &[], Scope::default(), Horizon::default())
}

fn harm(records: &[Record]) -> Harm {
    judge(records).harm
}

#[test]
fn a_stream_without_harm_is_complete() {
    let report = judge(&Edge::default().events(&[1, 2, 1, 3, 2, 1]));
    assert!(report.complete, "{report}");
    let ranges: Vec<_> = report.assets.iter().map(|row| (row.asset.as_deref().unwrap_or_default(), &*row.present)).collect();
    assert_eq!(ranges, [("ASSET-1", &[(1, 3)][..]), ("ASSET-2", &[(1, 2)]), ("ASSET-3", &[(1, 1)])]);
}

#[test]
fn a_topic_without_such_events_proves_nothing() {
    assert!(!judge(&[]).complete);
    let scope = Scope { edge: Some("edge-2".into()), asset: None };
    let report = judge_in(&Edge::default().events(&[1]), &[], scope, Horizon::default());
    assert!(!report.complete && report.sentence().contains("nothing is proven"), "{report}");
}

#[test]
fn an_asset_of_which_nothing_arrived_is_a_hole_in_the_log() {
    let mut records = Edge::default().events(&[1, 2, 2, 1]);
    records.retain(|record| record.asset != "ASSET-2");
    let report = judge(&records);
    assert_eq!((report.harm, &*report.logs[0].absent), (Harm { missing: 2, ..Harm::default() }, &[(2, 3)][..]));
}

#[test]
fn what_retention_deleted_is_not_missing_and_what_came_after_is() {
    let mut edge = Edge::default();
    let all = edge.events(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
    // Partition 0 begins with number 7, partition 1 with 5, and 2 has all.
    let left: Vec<Record> =
        all.iter().filter(|record| record.n >= [7, 5, 1][usize::try_from(record.partition).expect("few")]).cloned().collect();
    let horizon = Horizon { cut: BTreeSet::from([0, 1]), time: None };
    let report = judge_in(&left, &[], Scope::default(), horizon.clone());
    assert!(report.complete, "{report}");
    assert_eq!((report.logs[0].from, report.assets[0].from, report.assets[2].from), (Some(7), Some(3), None));
    let holed: Vec<Record> = left.iter().filter(|record| record.n != 10).cloned().collect();
    assert_eq!(judge_in(&holed, &[], Scope::default(), horizon).harm.missing, 1);
    assert!(judge(&left).harm.missing > 0, "a topic that begins with offset 0 never had them");
}

#[test]
fn an_asset_whose_records_are_all_deleted_is_not_missing() {
    let all = Edge::default().events(&[0, 1, 1, 0, 1, 0, 0]);
    let left: Vec<Record> = all.into_iter().filter(|record| record.asset != "ASSET-1").collect();
    // The first record that is left in its partition, of another edge, has the time of number 6.
    let horizon = Horizon { cut: BTreeSet::from([1]), time: Some(1_006) };
    assert!(judge_in(&left, &[], Scope::default(), horizon).complete);
}

#[test]
fn what_was_under_way_at_the_end_fills_its_hole() {
    let all = Edge::default().events(&[0, 1, 2, 0, 1, 2]);
    let (later, read): (Vec<Record>, Vec<Record>) = all.into_iter().partition(|record| record.partition == 1);
    assert_eq!(harm(&read).missing, 2);
    assert!(judge_in(&read, &later, Scope::default(), Horizon::default()).complete);
}

#[test]
fn of_one_asset_alone_only_its_own_numbers_count() {
    let mut records = Edge::default().events(&[1, 2, 1, 2, 1, 2]);
    records.remove(3);
    let of = |asset: &str| judge_in(&records, &[], Scope { edge: None, asset: Some(asset.into()) }, Horizon::default());
    assert!(of("ASSET-1").complete);
    assert_eq!((of("ASSET-2").harm.missing, of("ASSET-2").assets.len()), (1, 1));
}

#[test]
fn a_loss_that_a_gap_event_tells_is_told_and_not_missing() {
    for is_anonymous in [false, true] {
        let mut edge = Edge::default();
        let mut records = edge.events(&[1, 1, 1, 1, 1]);
        let lost: Vec<Record> = records.drain(1..4).collect();
        let value = told("ASSET-1", &lost.iter().collect::<Vec<_>>(), is_anonymous);
        records.push(edge.write(1, Some(value.clone())));
        // Told twice, after a crash.
        records.push(edge.write(1, Some(value)));
        let report = judge(&records);
        assert!(report.complete, "{report}");
        assert_eq!(report.lost, Told { count: 3, uncounted: 0 });
        // Of a fourth one nobody told.
        let report = judge(&records[1..]);
        assert_eq!(report.harm.missing, 1, "{report}");
    }
}

#[test]
fn a_gap_event_that_counts_less_than_is_absent_does_not_hide_the_rest() {
    let mut edge = Edge::default();
    let mut records = edge.events(&[1; 9]);
    let lost: Vec<Record> = records.drain(2..7).collect();
    records.push(edge.write(1, Some(told("ASSET-1", &[&lost[0], &lost[4]], false))));
    let report = judge(&records);
    assert_eq!((report.harm.missing, report.lost.count), (3, 2), "{report}");
}

#[test]
fn a_loss_without_numbers_is_told() {
    let mut edge = Edge::default();
    let mut records = edge.events(&[1, 1]);
    let value = String::from_utf8(told("ASSET-1", &[], false)).expect("JSON").replace(r#"\"count\":0"#, r#"\"count\":null"#);
    records.push(edge.write(1, Some(value.into_bytes())));
    let report = judge(&records);
    assert!(report.complete, "{report}");
    assert_eq!(report.lost, Told { count: 0, uncounted: 1 });
}

#[test]
fn two_counts_that_contradict_each_other_are_told() {
    let mut records = Edge::default().events(&[1, 1, 1]);
    let twice = Record { n: 4, ..records[2].clone() };
    records.push(twice);
    assert_eq!(harm(&records).altered, 1);
}

/// What can be done to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Leave,
    Lose,
    LoseAndTell,
    Repeat,
    RepeatMarked,
    RepeatAltered,
    Postpone,
    PostponeMarked,
}

fn deed() -> impl Strategy<Value = Deed> {
    use Deed::*;
    prop_oneof![
        30 => Just(Leave),
        1 => Just(Lose),
        1 => Just(LoseAndTell),
        1 => Just(Repeat),
        1 => Just(RepeatMarked),
        1 => Just(RepeatAltered),
        1 => Just(Postpone),
        1 => Just(PostponeMarked),
    ]
}

proptest! {
    #[test]
    fn each_harm_is_found_and_none_is_invented(events in proptest::collection::vec((0_u8..6, deed()), 1..400)) {
        let mut edge = Edge::default();
        let mut written = Vec::new();
        let mut done: BTreeMap<Deed, u64> = BTreeMap::new();
        let mut lost: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        let mut behind = Vec::new();
        for (asset, deed) in events {
            *done.entry(deed).or_default() += 1;
            let record = edge.write(asset, None);
            match deed {
                Deed::Leave => written.push(record),
                Deed::Lose => {}
                Deed::LoseAndTell => lost.entry(record.asset.clone()).or_default().push(record),
                Deed::Repeat => written.extend([record.clone(), record]),
                Deed::RepeatMarked => written.extend([record.clone(), Record { is_late: true, ..record }]),
                Deed::RepeatAltered => written.extend([record.clone(), Record { is_late: true, value: b"{}".to_vec(), ..record }]),
                Deed::Postpone => behind.push(record),
                Deed::PostponeMarked => behind.push(Record { is_late: true, ..record }),
            }
        }
        // Each loss is told for itself; and a last event of each asset makes the end known.
        for (asset, records) in &lost {
            let number = asset.trim_start_matches("ASSET-").parse().expect("a number");
            for record in records {
                let value = told(asset, &[record], false);
                written.push(edge.write(number, Some(value)));
            }
        }
        (0..6).for_each(|asset| written.push(edge.write(asset, None)));
        written.extend(behind);
        let report = judge(&written);
        let of = |deed| done.get(&deed).copied().unwrap_or(0);
        prop_assert_eq!(report.harm, Harm {
            missing: of(Deed::Lose),
            repeated: of(Deed::Repeat),
            reordered: of(Deed::Postpone),
            altered: of(Deed::RepeatAltered),
        }, "{}", report);
        prop_assert_eq!(report.lost, Told { count: of(Deed::LoseAndTell), uncounted: 0 });
        let marked: u64 = report.assets.iter().map(|row| row.marked).sum();
        prop_assert_eq!(marked, of(Deed::RepeatMarked) + of(Deed::RepeatAltered));
        let harmless = report.harm == Harm::default();
        prop_assert_eq!(report.complete, harmless);
    }
}
