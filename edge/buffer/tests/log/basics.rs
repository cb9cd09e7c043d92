//! The log as its users see it, on a real disk.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use edge_buffer::{Appended, Config, Cursor, Entry, Error, Log, Read, Stored, open};

fn config(dir: &tempfile::TempDir) -> Config {
    Config {
        dir: dir.path().join("log"),
        segment_bytes: 64 << 10,
        max_bytes: 1 << 20,
        block_bytes: 8 << 10,
        min_free: 0,
        ..Config::default()
    }
}

fn entries(keys: usize, from: usize, count: usize) -> Vec<Entry> {
    let entry = |i: usize| Entry {
        key: Arc::from(format!("ASSET-{:03}", i % keys)),
        timestamp: 1_700_000_000_000 + i as i64,
        value: format!("{{\"ID\":\"temp\",\"VALUE\":{i},\"TAG\":\"Temperature\"}}").into_bytes(),
    };
    (from..from + count).map(entry).collect()
}

fn read_all(log: &Log, after: u64) -> Vec<Read> {
    let mut reader = log.reader(after);
    let mut all = Vec::new();
    loop {
        let block = reader.next_block(100).expect("a readable log");
        if block.is_empty() {
            return all;
        }
        all.extend(block);
    }
}

fn stored(read: Vec<Read>) -> Vec<Stored> {
    let entry = |read| match read {
        Read::Entry(stored) => stored,
        Read::Lost { first, last } => panic!("{first}..={last} is lost"),
    };
    read.into_iter().map(entry).collect()
}

#[test]
fn what_was_appended_is_read_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(&dir)).expect("a new log").log;
    let epoch = log.epoch();
    let mut expected = Vec::new();
    for batch in 0..20 {
        let batch = entries(7, batch * 100, 100);
        let outcome = log.append_durable(batch.clone()).expect("an open log");
        let first = expected.len() as u64 + 1;
        expected.extend(batch);
        assert_eq!(outcome, Appended::Durable { first, last: expected.len() as u64 });
    }
    log.keep_cursor("mirror", Cursor { sequence: 1500, note: b"offsets".to_vec() }).expect("a durable cursor");
    log.close().expect("closed in order");

    let opened = open(config(&dir)).expect("the same log");
    assert!(opened.recovery.was_closed && opened.recovery.losses.is_empty() && !opened.recovery.is_new_epoch, "{:?}", opened.recovery);
    let log = opened.log;
    assert_eq!((log.epoch(), log.durable()), (epoch, 2000));
    assert_eq!(log.cursor("mirror"), Some(Cursor { sequence: 1500, note: b"offsets".to_vec() }));
    let first = log.stats().first;
    let read = stored(read_all(&log, first - 1));
    assert_eq!(read.len() as u64, 2000 - first + 1);
    for entry in &read {
        let wanted = &expected[entry.sequence as usize - 1];
        assert_eq!((&entry.key, entry.timestamp, &entry.value[..]), (&wanted.key, wanted.timestamp, &wanted.value[..]));
        assert_eq!(entry.key_sequence, (entry.sequence - 1) / 7 + 1);
    }
    let outcome = log.append_durable(entries(7, 2000, 1)).expect("an open log");
    assert_eq!(outcome, Appended::Durable { first: 2001, last: 2001 });
}

#[test]
fn many_callers_get_their_own_numbers_and_a_waiting_reader_sees_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(&dir)).expect("a new log").log;
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let (log, tell) = (log.clone(), tell.clone());
            scope.spawn(move || {
                for batch in 0..50 {
                    let tell = tell.clone();
                    log.append(entries(3, caller * 1000 + batch, 5), move |outcome| drop(tell.send(outcome))).expect("an open log");
                }
            });
        }
    });
    drop(tell);
    let mut ranges: Vec<(u64, u64)> = told
        .iter()
        .map(|outcome| match outcome {
            Appended::Durable { first, last } => (first, last),
            Appended::Refused { reason, .. } => panic!("refused: {reason}"),
        })
        .collect();
    assert!(ranges.is_sorted(), "batches are told in the order of their numbers");
    ranges.sort_unstable();
    let gapless = ranges.iter().zip((0..).map(|i| (i * 5 + 1, i * 5 + 5)));
    assert!(gapless.clone().all(|(seen, expected)| *seen == expected), "{ranges:?}");
    assert_eq!(log.wait_durable(999, Duration::from_secs(10)), 1000);
    assert_eq!(stored(read_all(&log, 990)).len(), 10);
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(&dir)).expect("a new log").log;
    match open(config(&dir)) {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("expected a locked directory, seen {other:?}"),
    }
    drop(log);
    open(config(&dir)).expect("free again");
}

#[test]
fn what_breaks_a_limit_is_told_and_nothing_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(&dir)).expect("a new log").log;
    let large = Entry { key: "k".into(), timestamp: 0, value: vec![0; 20 << 10] };
    assert!(
        matches!(log.append_durable(vec![large]), Err(Error::EntryTooLarge { limit: 16_384, .. })),
        "larger than a quarter of a segment"
    );
    assert!(matches!(log.keep_cursor("mirror", Cursor { sequence: 1, note: vec![] }), Err(Error::CursorAhead { durable: 0, .. })));
    assert!(matches!(log.keep_cursor("", Cursor::default()), Err(Error::CursorInvalid { .. })));
    assert_eq!(log.append_durable(Vec::new()).expect("an open log"), Appended::Durable { first: 1, last: 0 });
    assert_eq!(log.durable(), 0);
    let other = log.clone();
    log.close().expect("closed in order");
    assert!(matches!(other.append(entries(1, 0, 1), |_| {}), Err(Error::Closed)));
    let bad = Config { max_bytes: 1, ..config(&dir) };
    assert!(matches!(open(bad), Err(Error::Config { key: "max_bytes", .. })));
}

#[test]
fn a_callback_that_panics_harms_itself_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(&dir)).expect("a new log").log;
    log.append(entries(1, 0, 1), |_| panic!("on purpose")).expect("an open log");
    assert_eq!(log.append_durable(entries(1, 1, 1)).expect("an open log"), Appended::Durable { first: 2, last: 2 });
}

#[test]
fn a_callback_may_hold_the_last_handle() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(&dir)).expect("a new log").log;
    let (tell, told) = mpsc::channel();
    let held = log.clone();
    log.append(entries(1, 0, 1), move |outcome| {
        drop(held);
        drop(tell.send(outcome));
    })
    .expect("an open log");
    drop(log);
    assert_eq!(told.recv().expect("told before the log ended"), Appended::Durable { first: 1, last: 1 });
}
