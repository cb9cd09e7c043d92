//! Looking at a log that nobody opened, or that somebody is writing.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::sim::Sim;
use edge_buffer::{Appended, Config, Cursor, Damage, Entry, Error, Inspection, Seen, Totals, inspect, inspect_on, open, repair};

/// All damage that there is in the log.
pub(crate) fn damage(log: &Inspection) -> (Vec<Damage>, Totals) {
    let mut found = Vec::new();
    let totals = log.read(|seen| {
        match seen {
            Seen::Damage(damage) => found.push(damage),
            Seen::Block(block) => assert!(block.entries().count() > 0, "an empty block at {}", block.end),
        }
        Ok::<(), Error>(())
    });
    (found, totals.expect("a readable disk"))
}

/// What of it the log does not know; not a byte is touched while it is looked for. `None` if there is nothing that can be looked at.
#[track_caller]
pub(crate) fn unknown_damage(sim: &Sim) -> Option<Vec<Damage>> {
    let files = || sim.files().into_iter().map(|(path, _)| (path.clone(), sim.bytes(&path))).collect::<Vec<_>>();
    let before = files();
    let found = match inspect_on(Path::new("/log"), sim.storage()) {
        Ok(log) => Some(damage(&log).0.into_iter().filter(|damage| !damage.is_known).collect()),
        Err(Error::NoLog { .. } | Error::NewerVersion { .. }) => None,
        Err(error) => panic!("the log cannot be looked at: {error:?}"),
    };
    assert!(before == files(), "looking changed a file");
    found
}

fn config(dir: &Path) -> Config {
    Config {
        dir: dir.to_owned(),
        segment_bytes: 64 << 10,
        max_bytes: 512 << 10,
        min_free: 0,
        retain_bytes: 0,
        block_bytes: 4 << 10,
        linger: Duration::ZERO,
        ..Config::default()
    }
}

fn entries(from: u64) -> Vec<Entry> {
    let entry = |n: u64| Entry { key: format!("asset-{}", n % 7).into(), timestamp: n as i64, value: n.to_string().repeat(8).into_bytes() };
    (from..from + 20).map(entry).collect()
}

#[test]
fn a_log_that_is_being_written_and_dropped_from_shows_no_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(dir.path())).expect("a new log").log;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (log, stop) = (log.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut next = 1;
            while !stop.load(Ordering::Relaxed) {
                let outcome = log.append_durable(entries(next)).expect("an open log");
                assert_eq!(outcome, Appended::Durable { first: next, last: next + 19 });
                next += 20;
                if next % 500 < 20 {
                    log.keep_cursor(Cursor::MIRROR, Cursor { sequence: next - 20, note: vec![0; 300] }).expect("kept");
                }
            }
            next - 1
        })
    };
    let mut removed = 0;
    let mut looks = 0;
    // Until segments have come and gone under our eyes.
    while removed < 40_000 || looks < 30 {
        let log = inspect(dir.path()).expect("a log that is being written");
        let (found, totals) = damage(&log);
        assert_eq!(found, [], "in {log:?}");
        assert!(totals.entries > 0 || removed == 0, "nothing was read of {log:?}");
        (removed, looks) = (log.removed, looks + 1);
    }
    stop.store(true, Ordering::Relaxed);
    let last = writer.join().expect("the writer");
    let seen = inspect(dir.path()).expect("a log");
    assert_eq!(seen.last, last, "the last sequence");
    assert_eq!(seen.segments.iter().map(|segment| segment.entries).sum::<u64>(), last - seen.segments[0].first + 1);
    log.close().expect("closed");
    assert!(damage(&inspect(dir.path()).expect("a log")).1.was_closed, "it was closed in order");
}

#[test]
fn what_is_told_of_a_log_is_what_stands_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(dir.path())).expect("a new log").log;
    let epoch = log.epoch();
    for n in 0..50 {
        log.append_durable(entries(1 + 20 * n)).expect("an open log");
    }
    log.keep_cursor("mirror", Cursor { sequence: 970, note: Vec::new() }).expect("kept");
    log.note_refused(vec![("asset-1".into(), 4)], 5, 6, "full".into()).expect("noted");
    let seen = inspect(dir.path()).expect("a log");
    assert_eq!((seen.epoch, seen.version, seen.last, seen.removed), (epoch, 1, 1000, 0));
    assert_eq!(seen.cursors["mirror"].sequence, 970);
    assert_eq!(seen.losses.iter().map(|loss| loss.count).collect::<Vec<_>>(), [Some(4)]);
    let [segment] = &seen.segments[..] else { panic!("expected one segment, found {:?}", seen.segments) };
    assert_eq!((segment.first, segment.last, segment.entries, segment.bytes), (1, 1000, 1000, 64 << 10));
    assert_eq!((segment.times, segment.blocks, segment.harmed_at), (Some((1, 1000)), 50, None));
}

#[test]
fn a_folder_without_a_log_is_told_and_nothing_is_made_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    for folder in [dir.path().to_owned(), dir.path().join("absent")] {
        let error = inspect(&folder).expect_err("there is no log");
        let begin = format!("there is no log in {}: name the directory that holds *.seg files", folder.display());
        assert!(error.to_string().starts_with(&begin), "{error}");
        assert!(matches!(repair(config(&folder)), Err(Error::NoLog { .. })), "there is nothing to repair");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 0);
}

#[test]
fn a_log_on_a_disk_that_nobody_may_write_to_can_be_looked_at() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(dir.path())).expect("a new log").log;
    log.append_durable(entries(1)).expect("an open log");
    log.close().expect("closed");
    let files = || std::fs::read_dir(dir.path()).expect("the folder").map(|entry| entry.expect("a file").path());
    let mode = |mode: &str, path: &Path| {
        assert!(Command::new("chmod").arg(mode).arg(path).status().expect("chmod").success(), "chmod {mode} {}", path.display());
    };
    files().for_each(|path| mode("a-w", &path));
    mode("a-w", dir.path());
    let (found, totals) = damage(&inspect(dir.path()).expect("a log"));
    mode("u+w", dir.path());
    assert_eq!((found, totals.entries), (Vec::new(), 20));
}

#[test]
fn a_repaired_log_goes_on_as_it_ended() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let log = open(config(dir.path())).expect("a new log").log;
        for n in 0..300 {
            log.append_durable(entries(1 + 20 * n)).expect("an open log");
        }
        let middle = inspect(dir.path()).expect("a log").segments[1].clone();
        if is_closed {
            log.close().expect("closed");
        } else {
            // As after a kill: what stands on the disk is another process's now.
            let copy = tempfile::tempdir().expect("a directory");
            let copied = Command::new("cp").arg("-r").arg(dir.path().join(".")).arg(copy.path()).status().expect("cp");
            assert!(copied.success(), "cp failed");
            log.close().expect("closed");
            std::fs::remove_dir_all(dir.path()).expect("removed");
            std::fs::rename(copy.keep(), dir.path()).expect("renamed");
        }
        let path = dir.path().join(format!("{:020}.seg", middle.first));
        let mut bytes = std::fs::read(&path).expect("a segment");
        bytes[middle.used as usize / 2] ^= 4;
        std::fs::write(&path, bytes).expect("written");

        let (found, _) = damage(&inspect(dir.path()).expect("a log"));
        let [harm] = &found[..] else { panic!("expected one damage, found {found:?}") };
        assert!(!harm.is_known && harm.first > 0, "{harm:?}");
        let limits = config(dir.path());
        let recovery = repair(Config { max_bytes: 1 << 20, ..limits.clone() }).expect("repaired");
        assert_eq!(recovery.was_closed, is_closed);
        let after = inspect(dir.path()).expect("a log");
        let (known, totals) = damage(&after);
        assert_eq!(known, [Damage { is_known: true, ..harm.clone() }], "the loss stands in the ledger");
        assert_eq!(totals.was_closed, is_closed, "what a crash left is still to be told");
        assert_eq!(after.quarantine, [(format!("{:020}-{}.bin", middle.first, harm.offset), harm.bytes)]);
        let opened = open(Config { max_bytes: 4 << 20, ..limits }).expect("opened");
        assert_eq!(opened.recovery.was_closed, is_closed);
        let losses = opened.log.losses();
        assert_eq!(losses.iter().map(|loss| (loss.first, Some(loss.last))).collect::<Vec<_>>(), [(harm.first, harm.last)]);
        assert!(losses[0].keys.iter().all(|key| key.key.is_some()), "each key's share is known: {losses:?}");
    }
}

#[test]
fn a_log_that_is_open_is_not_repaired() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(dir.path())).expect("a new log").log;
    log.append_durable(entries(1)).expect("an open log");
    assert!(matches!(repair(config(dir.path())), Err(Error::Locked { .. })), "somebody writes to it");
}
