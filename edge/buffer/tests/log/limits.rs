//! What the log does at its limits: retention, a full log, a full disk, a disk that fails.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sim::Sim;
use edge_buffer::{Appended, Arrivals, Config, Cursor, Entry, Error, Health, Log, LossReason, Read, Refusal, WhenFull, open_on};

const SEGMENT: u64 = 8 << 10;
/// What the two small files take.
const SMALL: u64 = 256 << 10;

fn config() -> Config {
    Config {
        dir: PathBuf::from("/log"),
        segment_bytes: SEGMENT,
        max_bytes: SMALL + 6 * SEGMENT,
        retain_age: None,
        retain_bytes: 2 * SEGMENT,
        when_full: WhenFull::DropOldest,
        min_free: 0,
        block_events: 20,
        block_bytes: 2 << 10,
        linger: Duration::ZERO,
        queue_bytes: 1 << 20,
    }
}

fn entries(from: usize, count: usize) -> Vec<Entry> {
    let mut random = crate::sim::Random::new(from as u64);
    let mut entry = |i: usize| {
        let value = (0..80).map(|_| random.next() as u8).collect();
        Entry { key: Arc::from(format!("asset-{}", i % 7)), timestamp: 1_000_000 + i as i64, value }
    };
    (from..from + count).map(&mut entry).collect()
}

/// Appends batches of 20 until so many entries are durable.
fn fill(log: &Log, to: u64) {
    while log.durable() < to {
        let from = log.durable() as usize;
        let outcome = log.append_durable(entries(from, 20)).expect("an open log");
        assert!(matches!(outcome, Appended::Durable { .. }), "{outcome:?}");
    }
}

fn acknowledge(log: &Log, sequence: u64) {
    log.keep_cursor(Cursor::MIRROR, Cursor { sequence, note: vec![] }).expect("kept");
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn acknowledged_segments_go_when_there_are_more_than_are_to_be_kept() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    for n in 1..40 {
        fill(&log, n * 40);
        acknowledge(&log, n * 40);
        let stats = log.stats();
        assert!(stats.bytes <= config().max_bytes, "{} bytes of {}", stats.bytes, config().max_bytes);
    }
    let stats = log.stats();
    assert!(stats.segments <= 4, "{} segments, two are to be kept beside the newest", stats.segments);
    assert_eq!((stats.dropped, log.losses()), (0, vec![]));
    let read = log.reader(0).next_block(1).expect("readable");
    assert_eq!(read, [Read::Lost { first: 1, last: stats.first - 1 }], "what was removed on purpose is told, and no loss");
    assert_eq!(log.losses(), []);
}

#[test]
fn acknowledged_segments_go_when_they_are_old() {
    let sim = Sim::new(1);
    let log = open_on(Config { retain_age: Some(Duration::ZERO), retain_bytes: u64::MAX, ..config() }, sim.storage()).expect("a log").log;
    fill(&log, 300);
    assert!(log.stats().segments > 2);
    acknowledge(&log, 300);
    wait_until("old segments to go", || {
        fill(&log, log.durable() + 20);
        log.stats().first > 200
    });
    assert_eq!(log.losses(), []);
}

#[test]
fn a_full_log_drops_its_oldest_and_says_exactly_what() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 1000);
    let stats = log.stats();
    assert!(stats.bytes <= config().max_bytes, "{} bytes of {}", stats.bytes, config().max_bytes);
    let losses = log.losses();
    let (mut next, mut numbers) = (1, HashMap::new());
    for loss in &losses {
        assert_eq!((loss.reason, loss.first), (LossReason::DroppedOldest, next));
        assert_eq!((loss.from, loss.to), (1_000_000 + next as i64 - 1, 1_000_000 + loss.last as i64 - 1), "times");
        for key in &loss.keys {
            let name = key.key.clone().expect("a known key");
            let before = numbers.insert(name, key.last).unwrap_or(0);
            assert_eq!((key.first, key.count), (before + 1, Some(key.last - before)), "{key:?}");
        }
        assert_eq!(loss.count, Some(loss.last - loss.first + 1));
        assert_eq!(loss.keys.iter().filter_map(|key| key.count).sum::<u64>(), loss.last - loss.first + 1);
        next = loss.last + 1;
    }
    assert_eq!((stats.first, stats.dropped), (next, next - 1));
    assert_eq!(losses.len(), 1, "drops that follow each other are one loss");
}

#[test]
fn a_loss_that_grew_while_it_was_told_is_told_as_a_whole() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 1500);
    let told = log.losses().pop().expect("a loss");
    fill(&log, 2000);
    log.told(&told, 1500).expect("noted");
    let [grown] = &log.losses()[..] else { panic!("expected one loss, seen {:?}", log.losses()) };
    assert!((grown.id, grown.first) == (told.id, 1) && grown.last > told.last, "{told:?} {grown:?}");
    log.told(grown, 2000).expect("noted");
    assert_eq!(log.losses(), []);
}

#[test]
fn a_loss_is_listed_again_when_what_told_it_is_dropped_too() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 1000);
    let loss = log.losses().pop().expect("a loss");
    acknowledge(&log, loss.last);
    fill(&log, 1020);
    log.told(&loss, 1020).expect("noted");
    assert_eq!(log.losses(), []);
    wait_until("a drop of the entries that told it", || {
        fill(&log, log.durable() + 20);
        log.stats().first > 1020
    });
    let losses = log.losses();
    assert_eq!((losses.len(), &losses[0]), (2, &loss), "{losses:?}");
    assert!(losses[1].first == loss.last + 1 && losses[1].last >= 1020, "{losses:?}");
    // Also after a crash.
    let after = sim.power_cut();
    drop(log);
    let log = open_on(config(), after.storage()).expect("the log").log;
    assert_eq!(log.losses(), losses);
    let last = log.durable();
    for loss in &losses {
        log.told(loss, last).expect("noted");
    }
    // Once the entry that tells is acknowledged, it may go.
    acknowledge(&log, last);
    fill(&log, 4000);
    assert!(log.losses().iter().all(|loss| loss.first > last), "{:?}", log.losses());
}

#[test]
fn what_was_on_its_way_when_it_was_dropped_is_not_lost_if_it_arrives() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 200);
    let mut reader = log.reader(0);
    let mut on_the_way = Vec::new();
    while on_the_way.len() < 30 {
        for read in reader.next_block(10).expect("readable") {
            let Read::Entry(stored) = read else { panic!("lost: {read:?}") };
            on_the_way.push(stored);
        }
    }
    assert_eq!(log.acknowledge(10), 0, "nothing is dropped yet");
    fill(&log, 1000);
    let dropped = log.acknowledge(30);
    assert_eq!(dropped, log.stats().first - 1);
    let before = log.losses();
    assert_eq!((before[0].first, before[0].count), (11, Some(dropped - 10)), "what had arrived before it was dropped does not count");
    let mut arrivals = Arrivals::default();
    on_the_way[10..].iter().for_each(|stored| arrivals.note(&stored.key, stored.key_sequence));
    // Twice: a crash may have come between this and the cursor.
    for _ in 0..2 {
        log.arrived(&arrivals).expect("noted");
        let losses = log.losses();
        assert_eq!((losses.len(), losses[0].count), (1, Some(dropped - 30)), "{losses:?}");
        assert_eq!(losses[0].keys.iter().filter_map(|key| key.count).sum::<u64>(), dropped - 30);
        let key = losses[0].keys.iter().find(|key| key.key.as_deref() == Some("asset-5")).expect("asset-5");
        assert_eq!(key.first, 5, "its entries are 6, 13, 20, 27, 34: four have arrived");
    }
}

#[test]
fn a_key_of_which_some_in_the_middle_arrived_is_lost_on_both_sides_of_them() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 1000);
    let mut arrivals = Arrivals::default();
    (5..=9).for_each(|n| arrivals.note("asset-5", n));
    log.arrived(&arrivals).expect("noted");
    let loss = &log.losses()[0];
    let parts: Vec<_> = loss.keys.iter().filter(|key| key.key.as_deref() == Some("asset-5")).collect();
    let [before, behind] = parts[..] else { panic!("expected two parts, seen {parts:?}") };
    assert_eq!((before.first, before.last, before.count), (1, 4, Some(4)));
    assert_eq!((behind.first, behind.count), (10, Some(behind.last - 9)));
    assert_eq!(loss.count, Some(loss.last - 5));
}

#[test]
fn what_was_refused_is_noted_on_a_full_disk_and_told_once() {
    let sim = Sim::new(1);
    let config = Config { when_full: WhenFull::RefuseNew, ..config() };
    let log = open_on(config.clone(), sim.storage()).expect("a log").log;
    let outcome = loop {
        let outcome = log.append_durable(entries(0, 20)).expect("an open log");
        if outcome != (Appended::Durable { first: log.durable() - 19, last: log.durable() }) {
            break outcome;
        }
    };
    assert!(matches!(outcome, Appended::Refused { reason: Refusal::Full(_), durable: 0 }), "{outcome:?}");
    sim.set_capacity(sim.used());
    let refused = |a: u64, b: u64| [("asset-1", a), ("asset-2", b)].map(|(key, n)| (Arc::from(key), n)).to_vec();
    let count = |loss: &edge_buffer::Loss, name: &str| {
        loss.keys.iter().find(|key| key.key.as_deref() == Some(name)).map(|key| (key.first, key.last, key.count))
    };
    log.note_refused(refused(5, 15), 100, 200, "full".into()).expect("noted");
    let first = log.losses().pop().expect("a loss");
    log.note_refused(refused(1, 0), 200, 300, "full".into()).expect("noted");
    // Also after a crash.
    let after = sim.power_cut();
    drop(log);
    let log = open_on(config, after.storage()).expect("the log").log;
    let [grown] = &log.losses()[..] else { panic!("expected one loss, seen {:?}", log.losses()) };
    assert_eq!((grown.reason, grown.count, grown.from, grown.to), (LossReason::Refused, Some(21), 100, 300));
    assert_eq!(count(grown, "asset-1"), Some((0, 0, Some(6))));
    // What was told before it grew is not told again.
    log.told(&first, log.durable()).expect("noted");
    let [rest] = &log.losses()[..] else { panic!("expected one loss, seen {:?}", log.losses()) };
    assert_eq!((rest.count, rest.from, rest.to), (Some(1), 100, 300), "which of the times were told nobody knows");
    assert_eq!((count(rest, "asset-1"), count(rest, "asset-2")), (Some((0, 0, Some(1))), None));
    log.told(rest, log.durable()).expect("noted");
    assert_eq!(log.losses(), []);
}

#[test]
fn what_was_refused_keeps_its_names_when_the_disk_fails_while_it_is_noted() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    let refused: Vec<(Arc<str>, u64)> = vec![("asset-1".into(), 5), ("asset-2".into(), 15)];
    // In place, and in a new file; the next write would succeed.
    sim.fail_writes(2);
    log.note_refused(refused.clone(), 100, 200, "failed".into()).expect_err("the disk fails");
    assert_eq!(log.losses(), [], "what was not noted is not listed");
    log.note_refused(refused, 100, 200, "failed".into()).expect("noted");
    let [loss] = &log.losses()[..] else { panic!("expected one loss, seen {:?}", log.losses()) };
    let named: Vec<_> = loss.keys.iter().map(|key| (key.key.as_deref(), key.count)).collect();
    assert_eq!(named, [(Some("asset-1"), Some(5)), (Some("asset-2"), Some(15))]);
}

#[test]
fn of_a_segment_that_was_acknowledged_in_part_only_the_rest_is_lost() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 100);
    acknowledge(&log, 33);
    wait_until("a drop", || {
        fill(&log, log.durable() + 20);
        !log.losses().is_empty()
    });
    let loss = &log.losses()[0];
    assert_eq!(loss.first, 34);
    assert_eq!(loss.keys.iter().filter_map(|key| key.count).sum::<u64>(), loss.last - 33);
    let key = loss.keys.iter().find(|key| key.key.as_deref() == Some("asset-5")).expect("asset-5");
    assert_eq!(key.first, 5, "its first entries are 6, 13, 20 and 27, and these were acknowledged");
}

#[test]
fn a_log_that_may_not_drop_refuses_and_takes_again_what_was_acknowledged_makes_room_for() {
    let sim = Sim::new(1);
    let log = open_on(Config { when_full: WhenFull::RefuseNew, ..config() }, sim.storage()).expect("a log").log;
    let refused = loop {
        let from = log.durable() as usize;
        match log.append_durable(entries(from, 20)).expect("an open log") {
            Appended::Durable { .. } => {}
            Appended::Refused { reason, durable } => break (reason, durable),
        }
    };
    let (Refusal::Full(why), 0) = refused else { panic!("expected a full log, seen {refused:?}") };
    assert!(why.contains("max_bytes"), "{why}");
    let stats = log.stats();
    assert!(matches!(stats.health, Health::Full(_)) && stats.refused == 20 && stats.dropped == 0, "{stats:?}");
    let durable = log.durable();
    acknowledge(&log, durable);
    assert_eq!(log.append_durable(entries(0, 20)).expect("open"), Appended::Durable { first: durable + 1, last: durable + 20 });
    assert_eq!(log.stats().health, Health::Writable);
}

#[test]
fn what_must_stay_free_for_others_stays_free() {
    let sim = Sim::new(1);
    let limit = SMALL + 5 * SEGMENT;
    sim.set_capacity(limit + 100_000);
    let log = open_on(Config { min_free: 100_000, max_bytes: 1 << 30, ..config() }, sim.storage()).expect("a log").log;
    fill(&log, 1500);
    assert!(sim.used() <= limit, "{} of {limit} bytes are used", sim.used());
    assert!(log.stats().dropped > 0);
}

#[test]
fn a_new_log_on_a_full_disk_says_how_much_it_needs() {
    for capacity in [0, 1000, SEGMENT + 1000] {
        let sim = Sim::new(1);
        sim.set_capacity(capacity);
        match open_on(config(), sim.storage()) {
            Err(Error::NoRoom { needed, .. }) => assert!(needed >= SEGMENT),
            other => panic!("expected no room, seen {other:?}"),
        }
    }
}

#[test]
fn a_log_on_a_disk_that_became_full_opens_and_can_be_read_and_acknowledged() {
    let config = Config { when_full: WhenFull::RefuseNew, max_bytes: 1 << 30, ..config() };
    let sim = Sim::new(1);
    let log = open_on(config.clone(), sim.storage()).expect("a log").log;
    fill(&log, 500);
    let sim_after = sim.power_cut();
    drop(log);
    sim_after.set_capacity(0);
    let log = open_on(config, sim_after.storage()).expect("the log, to be read").log;
    assert_eq!(log.durable(), 500);
    acknowledge(&log, 500);
    let mut reader = log.reader(490);
    assert_eq!(reader.next_block(100).expect("readable").len(), 10);
}

#[test]
fn a_reader_whose_segment_is_dropped_is_told() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 100);
    let mut reader = log.reader(0);
    assert_eq!(reader.next_block(5).expect("readable").len(), 5);
    fill(&log, 1000);
    let first = log.stats().first;
    // The block in its memory is still good.
    let rest = reader.next_block(100).expect("readable");
    assert_eq!(rest.len(), 15);
    assert_eq!(reader.next_block(100).expect("readable"), [Read::Lost { first: 21, last: first - 1 }]);
    assert!(matches!(&reader.next_block(1).expect("readable")[..], [Read::Entry(stored)] if stored.sequence == first));
}

#[test]
fn after_a_failed_sync_the_same_entries_become_durable_in_a_new_segment() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 40);
    sim.fail_syncs(1);
    assert_eq!(log.append_durable(entries(40, 20)).expect("open"), Appended::Durable { first: 41, last: 60 });
    let stats = log.stats();
    assert_eq!((stats.sync_failures, stats.segments, stats.health), (1, 2, Health::Writable));
    // The page cache may lie; a power cut does not.
    let after = sim.power_cut();
    drop(log);
    let opened = open_on(config(), after.storage()).expect("the log");
    assert_eq!((opened.log.durable(), opened.recovery.losses.len()), (60, 0));
    let mut reader = opened.log.reader(0);
    let mut read = Vec::new();
    while let Some(block) = reader.next_block(100).ok().filter(|block| !block.is_empty()) {
        read.extend(block);
    }
    let expected: Vec<_> = entries(0, 20).into_iter().chain(entries(20, 20)).chain(entries(40, 20)).map(|entry| entry.value).collect();
    let seen: Vec<_> = read.iter().map(|read| if let Read::Entry(stored) = read { stored.value.to_vec() } else { Vec::new() }).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_disk_that_fails_twice_makes_the_log_refuse_and_go_on_when_it_can() {
    let sim = Sim::new(1);
    let log = open_on(config(), sim.storage()).expect("a log").log;
    fill(&log, 40);
    sim.fail_syncs(2);
    let outcome = log.append_durable(entries(40, 20)).expect("open");
    assert!(matches!(outcome, Appended::Refused { reason: Refusal::Disk(_), durable: 0 }), "{outcome:?}");
    assert!(matches!(log.stats().health, Health::Failing(_)));
    assert_eq!(log.durable(), 40, "nothing is durable that was not synced");
    assert_eq!(log.reader(40).next_block(100).expect("readable"), [], "nor shown to a reader");
    assert_eq!(log.append_durable(entries(40, 20)).expect("open"), Appended::Durable { first: 41, last: 60 });
    assert_eq!(log.stats().health, Health::Writable);
}

#[test]
fn opening_reads_no_more_however_long_the_log_is() {
    let config = Config { max_bytes: 1 << 30, ..config() };
    let read_by_opening = |entries| {
        let sim = Sim::new(1);
        let log = open_on(config.clone(), sim.storage()).expect("a log").log;
        fill(&log, entries);
        log.close().expect("closed");
        let after = sim.kill();
        let before = after.read_so_far();
        open_on(config.clone(), after.storage()).expect("the log");
        after.read_so_far() - before
    };
    let (short, long) = (read_by_opening(400), read_by_opening(8000));
    assert!(long < short + 2 * SEGMENT, "{short} bytes are read to open a short log, {long} to open a long one");
}

#[test]
fn status_tells_how_old_the_oldest_unacknowledged_entry_is() {
    let sim = Sim::new(1);
    let log = open_on(Config { max_bytes: 1 << 30, ..config() }, sim.storage()).expect("a log").log;
    assert_eq!(log.stats().oldest_unacknowledged, None);
    fill(&log, 400);
    for sequence in [0, 1, 19, 20, 200, 399] {
        acknowledge(&log, sequence);
        let block = sequence / 20 * 20;
        assert_eq!(log.stats().oldest_unacknowledged, Some(1_000_000 + block as i64), "after {sequence}");
    }
    acknowledge(&log, 400);
    assert_eq!(log.stats().oldest_unacknowledged, None);
}

#[test]
fn nothing_is_dropped_where_dropping_everything_would_not_be_enough() {
    let sim = Sim::new(1);
    sim.set_capacity(SMALL + 12 * SEGMENT);
    let log = open_on(Config { min_free: 2 * SEGMENT, max_bytes: 1 << 30, ..config() }, sim.storage()).expect("a log").log;
    fill(&log, 300);
    // Somebody else fills the disk.
    sim.set_capacity(sim.used().saturating_sub(log.stats().segments as u64 * SEGMENT));
    let refused = loop {
        match log.append_durable(entries(0, 20)).expect("an open log") {
            Appended::Durable { .. } => {}
            Appended::Refused { reason, .. } => break reason,
        }
    };
    assert!(refused.to_string().contains("something else fills the disk"), "{refused}");
    assert_eq!((log.stats().first, log.stats().dropped), (1, 0), "what was durable stays");
}

#[test]
fn a_log_whose_file_was_taken_away_goes_on_in_a_new_one_and_says_what_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { dir: dir.path().join("log"), min_free: 0, max_bytes: 64 << 20, ..Config::default() };
    let config = Config { segment_bytes: 1 << 20, ..config };
    let log = edge_buffer::open(config.clone()).expect("a log").log;
    fill(&log, 100);
    std::fs::remove_dir_all(&config.dir).expect("removed");
    wait_until("the log to notice", || {
        fill(&log, log.durable() + 20);
        std::fs::read_dir(&config.dir)
            .is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().ends_with(".seg"))))
    });
    let mut reader = log.reader(0);
    let Ok(read) = reader.next_block(1) else { panic!("the log cannot be read") };
    assert!(matches!(read[..], [Read::Lost { first: 1, .. }]), "{read:?}");
    assert_eq!(log.losses().iter().map(|loss| (loss.reason, loss.first)).collect::<Vec<_>>(), [(LossReason::Damaged, 1)]);
}
