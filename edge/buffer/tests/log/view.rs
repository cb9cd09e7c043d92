//! The log's files, read beside the process that has it open.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use edge_buffer::{Config, Cursor, Entry, Error, Log, Read, View, open};

const ALL: Range<i64> = i64::MIN..i64::MAX;

fn config(dir: &Path) -> Config {
    Config { dir: dir.join("log"), segment_bytes: 64 << 10, max_bytes: 64 << 20, block_bytes: 4 << 10, min_free: 0, ..Config::default() }
}

/// The time of an entry is its sequence, the value too.
fn append(log: &Log, count: u64) {
    let at = log.durable();
    let entry =
        |n: u64| Entry { key: format!("ASSET-{}", n % 7).into(), timestamp: n as i64, value: n.to_string().repeat(20).into_bytes() };
    log.append_durable((at + 1..=at + count).map(entry).collect()).expect("an open log");
}

fn keep(log: &Log, sequence: u64) {
    log.keep_cursor(Cursor::MIRROR, Cursor { sequence, note: b"note".to_vec() }).expect("kept");
}

fn read(view: &View, after: u64, through: u64, times: Range<i64>) -> Vec<Read> {
    let mut reader = view.read(after, through, times);
    let mut all = Vec::new();
    loop {
        let block = reader.next_block().expect("readable");
        if block.is_empty() {
            return all;
        }
        all.extend(block);
    }
}

fn sequences(reads: &[Read]) -> Vec<u64> {
    let sequence = |read: &Read| match read {
        Read::Entry(stored) => stored.sequence,
        Read::Lost { first, last } => panic!("{first}..={last} is lost"),
    };
    reads.iter().map(sequence).collect()
}

fn bytes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir).expect("a directory").map(|file| file.expect("a file").path());
    files.filter(|path| path.is_file()).map(|path| (path.display().to_string(), std::fs::read(&path).expect("readable"))).collect()
}

#[test]
fn a_log_that_is_open_can_be_looked_at_and_nothing_is_changed() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(dir.path())).expect("a new log").log;
    append(&log, 5_000);
    keep(&log, 4_000);
    let before = bytes(&dir.path().join("log"));
    let view = View::open(dir.path().join("log")).expect("a log");
    assert_eq!((view.epoch(), view.durable(), view.first().expect("listed")), (log.epoch(), 5_000, 1));
    assert_eq!(view.cursor(Cursor::MIRROR), Some(&Cursor { sequence: 4_000, note: b"note".to_vec() }));
    let seen = read(&view, 10, 4_321, ALL);
    let mut reader = log.reader(10);
    let mut expected = Vec::new();
    while expected.len() < 4_311 {
        expected.extend(reader.next_block(4_311 - expected.len()).expect("readable"));
    }
    assert_eq!(seen, expected, "as the log's own reader reads it");
    assert_eq!(sequences(&read(&view, 4_990, u64::MAX, ALL)), (4_991..=5_000).collect::<Vec<_>>());
    assert!(bytes(&dir.path().join("log")) == before, "a file was changed");
}

#[test]
fn blocks_of_other_times_are_passed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(dir.path())).expect("a new log").log;
    append(&log, 5_000);
    keep(&log, 5_000);
    let view = View::open(dir.path().join("log")).expect("a log");
    let seen = sequences(&read(&view, 0, 5_000, 2_000..2_010));
    assert!((2_000..2_010).all(|n| seen.contains(&n)) && seen.len() < 500, "{} entries, from {:?}", seen.len(), seen.first());
}

#[test]
fn what_is_removed_or_harmed_is_told_as_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(dir.path())).expect("a new log").log;
    append(&log, 100_000);
    keep(&log, 100_000);
    let view = View::open(dir.path().join("log")).expect("a log");
    let mut segments: Vec<_> = bytes(&dir.path().join("log")).into_keys().filter(|name| name.ends_with(".seg")).collect();
    segments.sort();
    let first = |at: usize| Path::new(&segments[at]).file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok()).expect("a number");
    std::fs::remove_file(&segments[0]).expect("removed");
    std::fs::remove_file(&segments[3]).expect("removed");
    let mut harmed = std::fs::read(&segments[1]).expect("readable");
    let middle = harmed.len() / 2;
    harmed[middle..middle + 100].fill(0x55);
    std::fs::write(&segments[1], harmed).expect("written");
    let (mut next, mut lost) = (1, Vec::new());
    for read in read(&view, 0, 100_000, ALL) {
        let (from, to) = match read {
            Read::Entry(stored) => (stored.sequence, stored.sequence),
            Read::Lost { first, last } => {
                lost.push((first, last));
                (first, last)
            }
        };
        assert_eq!(from, next, "nothing is left out");
        next = to + 1;
    }
    assert_eq!(next, 100_001);
    assert!(lost.contains(&(1, first(1) - 1)) && lost.contains(&(first(3), first(4) - 1)), "{lost:?}");
    let harmed: Vec<_> = lost.iter().filter(|(from, to)| *from >= first(1) && *to < first(2)).collect();
    assert!(!harmed.is_empty() && harmed.iter().all(|(from, to)| to - from < 500), "blocks of the harmed segment: {harmed:?}");
}

#[test]
fn a_log_that_is_written_and_removed_meanwhile_gives_each_sequence_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { retain_bytes: 512 << 10, ..config(dir.path()) };
    let log = open(config).expect("a new log").log;
    append(&log, 1_000);
    keep(&log, 1_000);
    let writer = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            append(&log, 1_000);
            keep(&log, log.durable());
        }
    });
    let mut looks = 0;
    while !writer.is_finished() {
        let view = View::open(dir.path().join("log")).expect("a log");
        let through = view.cursor(Cursor::MIRROR).expect("kept").sequence;
        let mut next = view.first().expect("listed");
        for read in read(&view, next - 1, through, ALL) {
            match read {
                Read::Entry(stored) => {
                    assert_eq!((stored.sequence, stored.timestamp), (next, next as i64));
                    next += 1;
                }
                Read::Lost { first, last } => {
                    assert_eq!(first, next);
                    assert!(last < view_first(dir.path()), "{first}..={last} is lost and was not removed");
                    next = last + 1;
                }
            }
        }
        assert_eq!(next, through + 1);
        looks += 1;
    }
    writer.join().expect("it wrote");
    assert!(looks > 1);
}

fn view_first(dir: &Path) -> u64 {
    View::open(dir.join("log")).expect("a log").first().expect("listed")
}

#[test]
fn a_directory_without_a_log_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(View::open(dir.path()), Err(Error::NoLog { .. })));
}
