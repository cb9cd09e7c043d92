//! Events whose content follows from their number: what was written need not be remembered to be checked.

use edge_buffer::{Entry, Log, Read};

/// Assets that the events are spread over.
const ASSETS: u64 = 20;

/// The event with this number: about 200 bytes that compress as events do.
pub(super) fn event(number: u64) -> Entry {
    let noise = scramble(number);
    let value = format!(
        r#"{{"ID":"t{}","TYPE":"Events","TAG":"Temperature","VALUE":"{}","ASSET_UUID":"SELFTEST-{}","attributes":{{"timestamp":"2026-01-01T{:02}:{:02}:{:02}.{:03}Z","quality":"GOOD","n":"{number}"}}}}"#,
        noise % 50,
        noise >> 40,
        number % ASSETS,
        number / 3_600_000 % 24,
        number / 60_000 % 60,
        number / 1000 % 60,
        number % 1000,
    );
    Entry { key: format!("SELFTEST-{}", number % ASSETS).into(), timestamp: number as i64, value: value.into_bytes() }
}

/// Numbers that look random.
pub(super) fn scramble(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Reads all events that a log holds and compares them with what was written; how many there are, or what is wrong.
pub(super) fn verify(log: &Log) -> anyhow::Result<Result<u64, String>> {
    let first = log.stats().first.max(1);
    let mut reader = log.reader(first - 1);
    while reader.position() < log.durable() {
        for read in reader.next_block(1000)? {
            match read {
                Read::Entry(stored) => {
                    let written = event(stored.sequence);
                    if (&written.key, written.timestamp, &written.value[..]) != (&stored.key, stored.timestamp, &stored.value[..]) {
                        return Ok(Err(format!("event {} is not what was written", stored.sequence)));
                    }
                }
                Read::Lost { first, last } => return Ok(Err(format!("events {first} to {last} cannot be read any more"))),
            }
        }
    }
    Ok(Ok(log.durable() + 1 - first))
}
