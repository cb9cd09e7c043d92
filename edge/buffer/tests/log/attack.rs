//! An attack on a log's files, as bytes say: used by the property test and by the fuzz target.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use edge_buffer::{Appended, Config, Cursor, Damage, Entry, Error, Read, Seen, inspect_on, open_on, repair_on};

use crate::sim::Sim;

fn config() -> Config {
    Config {
        dir: PathBuf::from("/log"),
        segment_bytes: 8 << 10,
        max_bytes: 1 << 20,
        min_free: 0,
        block_events: 8,
        block_bytes: 1 << 10,
        linger: Duration::ZERO,
        ..Config::default()
    }
}

fn entries(n: usize) -> Vec<Entry> {
    (0..n).map(|i| Entry { key: Arc::from(format!("asset-{}", i % 3)), timestamp: i as i64, value: vec![i as u8; i % 90] }).collect()
}

/// The files of a good log.
fn files() -> &'static Vec<(PathBuf, Vec<u8>)> {
    static FILES: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let sim = Sim::new(1);
        let log = open_on(config(), sim.storage()).expect("a new log").log;
        for _ in 0..20 {
            log.append_durable(entries(40)).expect("an open log");
        }
        log.keep_cursor("mirror", Cursor { sequence: 100, note: b"note".to_vec() }).expect("kept");
        drop(log);
        let after = sim.kill();
        after.files().into_iter().map(|(path, _)| (path.clone(), after.bytes(&path))).collect()
    })
}

/// Harms the files as `data` says, opens the log, reads it, appends to it, opens it again.
pub(crate) fn attack(data: &[u8]) {
    let mut files = files().clone();
    let mut data = data.iter().copied();
    let mut next = || data.next();
    while let (Some(file), Some(what)) = (next(), next()) {
        let (a, b, c) = (next().unwrap_or(0), next().unwrap_or(0), next().unwrap_or(1));
        let index = usize::from(file) % files.len();
        let bytes = &mut files[index].1;
        let at = usize::from(u16::from_le_bytes([a, b])) % bytes.len().max(1);
        match what % 8 {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= c.max(1),
            2 => bytes.truncate(at),
            3 => bytes.iter_mut().skip(at).take(usize::from(c) * 8).for_each(|byte| *byte = 0),
            4 => bytes.extend(std::iter::repeat_n(c, usize::from(a) * 8)),
            // A forger who can calculate.
            5 if !bytes.is_empty() => {
                bytes[at] ^= c.max(1);
                mend(bytes, at);
            }
            6 => {
                let name = format!("/log/{:020}.seg", u16::from_le_bytes([a, b]));
                files[index].0 = PathBuf::from(name);
            }
            7 if files.len() > 1 => drop(files.remove(index)),
            _ => {}
        }
    }
    let disk = || {
        let sim = Sim::new(5);
        files.iter().for_each(|(path, bytes)| sim.put(path, bytes.clone()));
        sim
    };
    repaired(&disk());
    let sim = disk();
    let log = match open_on(config(), sim.storage()) {
        Ok(opened) => opened.log,
        Err(Error::NewerVersion { .. }) => return,
        Err(error) => panic!("the log does not open: {error:?}"),
    };
    let before = log.durable();
    read(&log);
    let outcome = log.append_durable(entries(30)).expect("an open log");
    assert_eq!(outcome, Appended::Durable { first: before + 1, last: before + 30 });
    read(&log);
    for loss in log.losses() {
        log.told(&loss, before + 30).expect("noted");
    }
    drop(log.stats());
    log.close().expect("closed");
    let again = open_on(config(), sim.kill().storage()).expect("what was opened opens again");
    assert_eq!(again.log.durable(), before + 30);
}

/// Looks at the files without opening the log, which changes no byte, and repairs it: then each loss is known.
fn repaired(sim: &Sim) {
    let bytes = || sim.files().into_iter().map(|(path, _)| (path.clone(), sim.bytes(&path))).collect::<Vec<_>>();
    let before = bytes();
    lost(sim);
    assert!(before == bytes(), "looking changed a file");
    match repair_on(config(), sim.storage()) {
        Ok(recovery) => assert_eq!(lost(sim), [], "not known after the repair: {recovery:#?}"),
        Err(Error::NewerVersion { .. } | Error::NoLog { .. }) => assert!(before == bytes(), "what was refused was changed"),
        Err(error) => panic!("the log cannot be repaired: {error:?}"),
    }
}

/// Losses that the log does not know.
fn lost(sim: &Sim) -> Vec<Damage> {
    let mut lost = Vec::new();
    if let Ok(log) = inspect_on(Path::new("/log"), sim.storage()) {
        let see = |seen| {
            lost.extend(unknown(seen));
            Ok::<(), Error>(())
        };
        log.read(see).expect("a readable disk");
    }
    lost
}

fn unknown(seen: Seen) -> Option<Damage> {
    match seen {
        Seen::Damage(damage) => Some(damage).filter(|damage| damage.first > 0 && !damage.is_known),
        Seen::Block(block) => {
            assert!(block.entries().count() > 0, "an empty block");
            None
        }
    }
}

fn read(log: &edge_buffer::Log) {
    let mut reader = log.reader(0);
    let mut expected = 1;
    loop {
        let block = reader.next_block(50).expect("a readable disk");
        if block.is_empty() {
            break;
        }
        for read in block {
            let (first, last) = match read {
                Read::Entry(stored) => (stored.sequence, stored.sequence),
                Read::Lost { first, last } => (first, last),
            };
            assert_eq!(first, expected);
            expected = last + 1;
        }
    }
    assert_eq!(expected, log.durable() + 1);
}

/// Makes the header's CRC right again in the frame (or slot) that holds this byte.
fn mend(bytes: &mut [u8], at: usize) {
    let is_slot = bytes.starts_with(b"OFS");
    if is_slot {
        let len = bytes.get(24..28).map_or(0, |len| u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize);
        if let Some(body) = bytes.get(32..32 + len) {
            let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), body);
            bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        }
        return;
    }
    let Some(start) = (0..=at / 16).rev().map(|n| n * 16).find(|start| bytes[*start..].starts_with(&[0x8f, b'O', b'F', b'L'])) else {
        return;
    };
    let Some(header) = bytes.get(start..start + 96) else { return };
    let stored = u32::from_le_bytes([header[84], header[85], header[86], header[87]]) as usize;
    if let Some(body) = bytes.get(start + 96..start + 96 + stored) {
        let crc = crc32c::crc32c(body);
        bytes[start + 88..start + 92].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[start..start + 92]);
    bytes[start + 92..start + 96].copy_from_slice(&crc.to_le_bytes());
}
