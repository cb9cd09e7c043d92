//! How fast entries become durable, beside what the disk gives for the same bytes.
//!
//! `./dev bench append`, or `cargo bench --workspace --bench append -- [--json] [--rounds N] [--entries N] [--dir DIR]`
//!
//! One caller hands over batches of 500 entries (JSON of about 200 bytes, 1,000 keys) and the clock runs from the first call until the last
//! entry is durable. The baseline then takes the very blocks that stand in the segments, made beforehand, and writes them to a reserved
//! file: one write and one fdatasync a block. A second baseline writes them in the groups in which the log itself synced them. Rounds
//! alternate; the medians count.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use edge_buffer::{Appended, Config, Entry, open};

const BATCH: usize = 500;
const KEYS: usize = 1000;

struct Options {
    json: bool,
    rounds: usize,
    entries: usize,
    dir: PathBuf,
}

fn options() -> Options {
    let mut options = Options { json: false, rounds: 7, entries: 500_000, dir: std::env::temp_dir() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number");
        match arg.as_str() {
            "--json" => options.json = true,
            "--rounds" => options.rounds = number(),
            "--entries" => options.entries = number(),
            "--dir" => options.dir = args.next().expect("a directory").into(),
            // Cargo's own.
            _ => {}
        }
    }
    options
}

/// What a gateway observes: values that move a little, times that move on.
fn batches(entries: usize) -> Vec<Vec<Entry>> {
    let keys: Vec<Arc<str>> = (0..KEYS).map(|i| Arc::from(format!("OPCUA-SENSOR-{i:04}"))).collect();
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut entry = |i: usize| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        let at = 1_769_528_223_871 + i as i64 / 100;
        let (seconds, millis) = (at / 1000 % 60, at % 1000);
        let value = format!(
            r#"{{"ID":"temperature_{:02}","VALUE":{}.{:012},"TAG":"Temperature","TYPE":"Samples","attributes":{{"timestamp":"2026-01-27T15:37:{seconds:02}.{millis:03}Z","ingestion_timestamp":"2026-01-27T15:37:{seconds:02}.{:03}Z"}}}}"#,
            noise / 11 % 40,
            20 + noise % 60,
            noise / 7 % 1_000_000_000_000,
            (millis + 11) % 1000,
        );
        Entry { key: keys[(noise / 3) as usize % KEYS].clone(), timestamp: at, value: value.into_bytes() }
    };
    let all: Vec<Entry> = (0..entries).map(&mut entry).collect();
    all.chunks(BATCH).map(<[Entry]>::to_vec).collect()
}

fn append(dir: &Path, batches: Vec<Vec<Entry>>) -> (Duration, edge_buffer::Stats) {
    let config = Config { dir: dir.to_owned(), min_free: 0, retain_age: None, ..Config::default() };
    let log = open(config).expect("a log").log;
    let (tell, told) = channel();
    let count = batches.len();
    let started = Instant::now();
    for batch in batches {
        let tell = tell.clone();
        log.append(batch, move |outcome| drop(tell.send(outcome))).expect("an open log");
    }
    for _ in 0..count {
        let outcome = told.recv().expect("an outcome");
        assert!(matches!(outcome, Appended::Durable { .. }), "{outcome:?}");
    }
    let took = started.elapsed();
    let stats = log.stats();
    log.close().expect("closed");
    (took, stats)
}

/// How long a start takes with all of that, and how fast one reader reads it.
fn read(dir: &Path, entries: usize) -> (Duration, f64) {
    let config = Config { dir: dir.to_owned(), min_free: 0, retain_age: None, ..Config::default() };
    let started = Instant::now();
    let log = open(config).expect("the log").log;
    let opened = started.elapsed();
    let mut reader = log.reader(0);
    let started = Instant::now();
    let mut read = 0;
    while read < entries {
        read += reader.next_block(usize::MAX).expect("readable").len();
    }
    (opened, entries as f64 / started.elapsed().as_secs_f64())
}

/// The blocks in the segments of a log, and where the log synced.
fn blocks(dir: &Path) -> Vec<(Vec<u8>, u64)> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).expect("the log").map(|entry| entry.expect("a file").path()).collect();
    names.retain(|path| path.extension().is_some_and(|ext| ext == "seg"));
    names.sort();
    let mut found = Vec::new();
    for (segment, name) in (1..).zip(names) {
        let bytes = fs::read(name).expect("a segment");
        let number = |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let mut at = 0;
        while bytes.len() >= at + 96 && bytes[at] == 0x8f {
            let end = at + (96 + number(at + 84, 4) as usize + 4).next_multiple_of(16);
            if bytes[at + 8] == 1 {
                found.push((bytes[at..end].to_vec(), segment << 40 | number(at + 40, 8)));
            }
            at = end;
        }
    }
    found
}

fn raw(dir: &Path, writes: &[Vec<u8>]) -> Duration {
    let path = dir.join("raw");
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path).expect("a file");
    let total: usize = writes.iter().map(Vec::len).sum();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, total as u64).expect("space");
    file.sync_all().expect("a sync");
    let started = Instant::now();
    let mut at = 0;
    for bytes in writes {
        file.write_all_at(bytes, at).expect("a write");
        rustix::fs::fdatasync(&file).expect("a sync");
        at += bytes.len() as u64;
    }
    let took = started.elapsed();
    fs::remove_file(path).expect("removed");
    took
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let options = options();
    let template = batches(options.entries);
    let size: usize = template.iter().flatten().map(|entry| entry.value.len()).sum();
    let (mut ours, mut by_block, mut by_group) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ratios, mut group_ratios) = (Vec::new(), Vec::new());
    let mut facts = None;
    let (mut reads, mut opens) = (Vec::new(), Vec::new());
    for round in 0..=options.rounds {
        let dir = options.dir.join(format!("edge-buffer-bench-{}-{round}", std::process::id()));
        let (took, stats) = append(&dir, template.clone());
        let blocks = blocks(&dir);
        let (opened, reading) = read(&dir, options.entries);
        reads.push(reading);
        opens.push(opened.as_secs_f64() * 1e3);
        let mut groups: Vec<(u64, Vec<u8>)> = Vec::new();
        for (bytes, synced) in &blocks {
            match groups.last_mut() {
                Some((of, group)) if of == synced => group.extend_from_slice(bytes),
                _ => groups.push((*synced, bytes.clone())),
            }
        }
        let singles: Vec<Vec<u8>> = blocks.into_iter().map(|(bytes, _)| bytes).collect();
        let groups: Vec<Vec<u8>> = groups.into_iter().map(|(_, bytes)| bytes).collect();
        let single = raw(&dir, &singles);
        let group = raw(&dir, &groups);
        fs::remove_dir_all(&dir).expect("removed");
        // The first round warms up.
        if round > 0 {
            let rate = |took: Duration| options.entries as f64 / took.as_secs_f64();
            ours.push(rate(took));
            by_block.push(rate(single));
            by_group.push(rate(group));
            ratios.push(rate(took) / rate(single));
            group_ratios.push(rate(took) / rate(group));
        }
        facts = Some((singles.len(), groups.len(), singles.iter().map(Vec::len).sum::<usize>(), stats));
    }
    let (blocks, groups, stored, stats) = facts.expect("at least one round");
    let spread = |values: &[f64]| (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max));
    let ((low, high), (base_low, base_high)) = (spread(&ours), spread(&by_block));
    let (ours, base, grouped) = (median(&mut ours), median(&mut by_block), median(&mut by_group));
    let (ratio, group_ratio) = (median(&mut ratios), median(&mut group_ratios));
    let (reading, opened) = (median(&mut reads), median(&mut opens));
    let value = size / options.entries;
    let bytes = stored as f64 / options.entries as f64;
    let sync = stats.sync_total.as_secs_f64() * 1e3 / stats.syncs.max(1) as f64;
    if options.json {
        println!(
            r#"{{"name":"accepted -> durable","unit":"events/s","events":{},"rounds":{},"baseline":{{"median":{base:.0},"low":{base_low:.0},"high":{base_high:.0}}},"measured":{{"median":{ours:.0},"low":{low:.0},"high":{high:.0}}},"ratio":{ratio:.3},"reach":0.8,"baseline_same_groups":{grouped:.0},"ratio_same_groups":{group_ratio:.3},"event_bytes":{value},"stored_bytes_per_event":{bytes:.1},"blocks":{blocks},"syncs":{groups},"sync_ms":{sync:.3},"read":{reading:.0},"open_ms":{opened:.1}}}"#,
            options.entries, options.rounds
        );
    } else {
        println!(
            "accepted -> durable: {ours:.0} events/s ({low:.0} to {high:.0}); the same blocks raw, one fdatasync each: {base:.0} ({base_low:.0} to {base_high:.0}); ratio {ratio:.2} (reach 0.80)"
        );
        println!(
            "in the same {groups} groups: {grouped:.0} events/s, ratio {group_ratio:.2}; {blocks} blocks, {value} bytes an event, {bytes:.1} stored, {sync:.2} ms a commit; read back at {reading:.0} events/s; opened in {opened:.0} ms"
        );
    }
}
