//! Logs that earlier versions wrote stay readable, byte for byte.
//!
//! `tests/golden/v1` was written once, by [`write_golden`], and is never written again. A new format version gets a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edge_buffer::{Appended, Config, Cursor, Entry, LossReason, Read, open};

const EPOCH_FILE: &str = "epoch.txt";

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

fn config(dir: PathBuf) -> Config {
    Config {
        dir,
        segment_bytes: 8 << 10,
        max_bytes: (256 << 10) + (4 << 13),
        min_free: 0,
        block_events: 25,
        block_bytes: 2 << 10,
        linger: Duration::ZERO,
        ..Config::default()
    }
}

/// The entry with this sequence. Never change it: the golden files hold these.
fn entry(sequence: u64) -> Entry {
    let mut noise = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = match sequence % 4 {
        0 => Vec::new(),
        // Bytes that zstd cannot make shorter.
        1 => (0..70)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 56) as u8
            })
            .collect(),
        _ => format!(r#"{{"ID":"temp","VALUE":{sequence},"TAG":"Temperatur in \u00b0C","TYPE":"Samples"}}"#).into_bytes(),
    };
    let key: Arc<str> = match sequence % 5 {
        0 => "ÖFEN/2".into(),
        n => format!("OPCUA-SENSOR-{n:03}").into(),
    };
    Entry { key, timestamp: 1_769_528_223_871 - (sequence as i64 % 9) * 1000, value }
}

#[test]
fn a_log_of_version_1_is_read_as_it_was_written() {
    let golden = golden("v1");
    let dir = tempfile::tempdir().expect("a directory");
    for file in fs::read_dir(&golden).expect("the golden files") {
        let file = file.expect("a golden file");
        fs::copy(file.path(), dir.path().join(file.file_name())).expect("a copy");
    }
    let epoch: u64 = fs::read_to_string(golden.join(EPOCH_FILE)).expect("the epoch").trim().parse().expect("a number");
    let opened = open(config(dir.path().to_owned())).expect("a readable log");
    assert!(
        opened.recovery.was_closed && opened.recovery.losses.is_empty() && opened.recovery.quarantined.is_empty(),
        "{:?}",
        opened.recovery
    );
    let log = opened.log;
    assert_eq!((log.epoch(), log.durable()), (epoch, 1100));
    assert_eq!(log.cursor("mirror"), Some(Cursor { sequence: 40, note: b"offsets \x00\xff".to_vec() }));
    let losses = log.losses();
    assert_eq!(losses.len(), 1, "{losses:?}");
    let dropped = &losses[0];
    assert_eq!((dropped.reason, dropped.first, dropped.count), (LossReason::DroppedOldest, 41, Some(dropped.last - 40)));
    let mut reader = log.reader(0);
    assert_eq!(reader.next_block(1).expect("readable"), [Read::Lost { first: 1, last: dropped.last }]);
    let mut next = dropped.last + 1;
    loop {
        let block = reader.next_block(1000).expect("readable");
        if block.is_empty() {
            break;
        }
        for read in block {
            let Read::Entry(stored) = read else { panic!("lost: {read:?}") };
            let expected = entry(next);
            assert_eq!((stored.sequence, stored.key_sequence), (next, (next - 1) / 5 + 1));
            assert_eq!((stored.key, stored.timestamp, stored.value.to_vec()), (expected.key, expected.timestamp, expected.value));
            next += 1;
        }
    }
    assert_eq!(next, 1101);
}

#[test]
#[ignore = "writes the golden files of the present format version; run once for each version"]
fn write_golden() {
    let golden = golden("v1");
    fs::create_dir_all(&golden).expect("a directory");
    assert_eq!(fs::read_dir(&golden).expect("the directory").count(), 0, "golden files are never written again");
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(config(dir.path().to_owned())).expect("a log").log;
    let mut sequence = 0;
    while sequence < 1100 {
        let batch: Vec<Entry> = (0..25).map(|i| entry(sequence + 1 + i)).collect();
        let outcome = log.append_durable(batch).expect("open");
        sequence += 25;
        assert_eq!(outcome, Appended::Durable { first: sequence - 24, last: sequence });
        if sequence == 50 {
            log.keep_cursor("mirror", Cursor { sequence: 40, note: b"offsets \x00\xff".to_vec() }).expect("kept");
        }
    }
    fs::write(golden.join(EPOCH_FILE), format!("{}\n", log.epoch())).expect("written");
    log.close().expect("closed");
    for file in fs::read_dir(dir.path()).expect("the log") {
        let file = file.expect("a file");
        let mut bytes = fs::read(file.path()).expect("bytes");
        // What is reserved and not written need not be kept in the repository.
        bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1).next_multiple_of(16).min(bytes.len()));
        if file.file_name() != "lock" {
            fs::write(golden.join(file.file_name()), bytes).expect("written");
        }
    }
}
