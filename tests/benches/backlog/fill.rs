//! A log as an edge leaves it after 72 hours without Kafka.

use std::path::Path;

use asset_stream::Timestamp;
use edge_buffer::{Config, Entry, Log};

const ASSETS: u64 = 200;
const ITEMS: u64 = 20;
const OUTAGE_MILLIS: u64 = 72 * 3600 * 1000;
/// Events handed to the log at a time.
const STRIDE: u64 = 5000;

/// Fills the log in `dir`; returns its size in bytes.
pub(crate) fn fill(dir: &Path, events: u64) -> anyhow::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let log: Log = edge_buffer::open(Config { dir: dir.to_owned(), min_free: 0, ..Config::default() })?.log;
    let began = Timestamp::now().millis() - OUTAGE_MILLIS as i64;
    for start in (0..events).step_by(STRIDE as usize) {
        let entries = (start..events.min(start + STRIDE))
            .map(|n| entry(n, began + (n as u128 * u128::from(OUTAGE_MILLIS) / u128::from(events)) as i64));
        log.append_durable(entries.collect())?;
    }
    let bytes = log.stats().bytes;
    log.close()?;
    Ok(bytes)
}

/// What a machine tells: all its items change, none in step with another.
fn entry(n: u64, millis: i64) -> Entry {
    let (asset, item) = (n % ASSETS, n / ASSETS % ITEMS);
    let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    let (observed, taken) = (Timestamp::from_millis(millis), Timestamp::from_millis(millis + 3 + (noise & 7) as i64));
    let value = format!(
        r#"{{"ID":"axis_{item}_load","VALUE":{}.{noise},"TAG":"Load","TYPE":"Samples","attributes":{{"timestamp":"{observed}","ingestion_timestamp":"{taken}","quality":"Good"}}}}"#,
        40 + item
    );
    Entry { key: format!("CNC-{asset:04}").into(), timestamp: millis, value: value.into_bytes() }
}
